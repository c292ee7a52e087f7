// Neighbour discovery (RFC 4861): solicitations and advertisements with their link-layer options; router
// messages and redirects are recognised, with the options they carry.
import { formatIpv6, formatMac } from './address.js'
import { fits, getU16, setU16, setU32 } from './bytes.js'
import { type AddressInput, checked, needRoom, putIpv6, putMac } from './encode.js'
import { ICMP_AT, ICMP_HLEN } from './icmp.js'
import { type Decoded, type Malformed, malformed } from './problem.js'

// include/net/ndisc.h
export const NDISC_ROUTER_SOLICITATION = 133
export const NDISC_ROUTER_ADVERTISEMENT = 134
export const NDISC_NEIGHBOUR_SOLICITATION = 135
export const NDISC_NEIGHBOUR_ADVERTISEMENT = 136
export const NDISC_REDIRECT = 137
export const ND_OPT_SOURCE_LL_ADDR = 1
export const ND_OPT_TARGET_LL_ADDR = 2

/** Counted from the ICMPv6 header. `options` is where they begin after a target address. */
export const NEIGHBOUR_AT = { flags: 4, target: 8, options: 24 } as const
/** A solicitation or advertisement without options, and one link-layer address option for Ethernet. */
export const NEIGHBOUR_HLEN = 24
export const LINK_LAYER_OPTION_LENGTH = 8
/** RFC 4861 7.1.1: any other hop limit means that a router forwarded it, so it is not from this link. */
export const ND_HOP_LIMIT = 255

// The first byte of the advertisement's flags.
export const ND_NA_ROUTER = 0x80
export const ND_NA_SOLICITED = 0x40
export const ND_NA_OVERRIDE = 0x20

/** The Ethernet addresses that options carried. */
export interface LinkLayerOptions {
  sourceLinkLayer?: string
  targetLinkLayer?: string
}

export type Neighbour = { checksum: number } & LinkLayerOptions &
  (
    | { kind: 'neighbour-solicitation'; target: string }
    | {
        kind: 'neighbour-advertisement'
        target: string
        router: boolean
        solicited: boolean
        override: boolean
      }
    | { kind: 'router-solicitation' | 'router-advertisement' | 'redirect' }
  )

type LinkLayerInput = { sourceLinkLayer?: AddressInput; targetLinkLayer?: AddressInput }

/** A flag left out is false; `setL4Checksum` fills the checksum. */
export type NeighbourInput = { checksum?: number; target: AddressInput } & LinkLayerInput &
  (
    | { kind: 'neighbour-solicitation' }
    | { kind: 'neighbour-advertisement'; router?: boolean; solicited?: boolean; override?: boolean }
  )

/**
 * The neighbour discovery message whose ICMPv6 header is at `offset`. Hop limit, code and checksum are for
 * the caller to judge. Problems: `short-neighbour`, `not-neighbour-discovery`, `bad-neighbour-option`.
 */
export function decodeNeighbour(bytes: Uint8Array, offset: number, end: number): Decoded<Neighbour> {
  if (!fits(bytes, offset, end, ICMP_HLEN)) return malformed('short-neighbour')
  const type = bytes[offset + ICMP_AT.type]
  const size = neighbourLength(type)
  if (size < 0) return malformed('not-neighbour-discovery')
  if (!fits(bytes, offset, end, size)) return malformed('short-neighbour')
  const options = decodeOptions(bytes, offset + size, Math.min(end, bytes.length))
  if ('problem' in options) return options
  const message = { checksum: getU16(bytes, offset + ICMP_AT.checksum), ...options }
  const flags = bytes[offset + NEIGHBOUR_AT.flags]
  switch (type) {
    case NDISC_NEIGHBOUR_SOLICITATION:
      return {
        kind: 'neighbour-solicitation',
        ...message,
        target: formatIpv6(bytes, offset + NEIGHBOUR_AT.target),
      }
    case NDISC_NEIGHBOUR_ADVERTISEMENT:
      return {
        kind: 'neighbour-advertisement',
        ...message,
        target: formatIpv6(bytes, offset + NEIGHBOUR_AT.target),
        router: (flags & ND_NA_ROUTER) !== 0,
        solicited: (flags & ND_NA_SOLICITED) !== 0,
        override: (flags & ND_NA_OVERRIDE) !== 0,
      }
    case NDISC_ROUTER_SOLICITATION:
      return { kind: 'router-solicitation', ...message }
    case NDISC_ROUTER_ADVERTISEMENT:
      return { kind: 'router-advertisement', ...message }
    default:
      return { kind: 'redirect', ...message }
  }
}

/** Bytes before the options of an ICMPv6 message (RFC 4861 section 4), -1 if it is not neighbour discovery. */
function neighbourLength(type: number): number {
  switch (type) {
    case NDISC_ROUTER_SOLICITATION:
      return 8
    case NDISC_ROUTER_ADVERTISEMENT:
      return 16
    case NDISC_NEIGHBOUR_SOLICITATION:
    case NDISC_NEIGHBOUR_ADVERTISEMENT:
      return NEIGHBOUR_HLEN
    case NDISC_REDIRECT:
      return 40
    default:
      return -1
  }
}

function decodeOptions(bytes: Uint8Array, offset: number, end: number): LinkLayerOptions | Malformed {
  const options: LinkLayerOptions = {}
  for (let at = offset; at < end;) {
    const length = neighbourOptionLength(bytes, at, end)
    if (length < 0) return malformed('bad-neighbour-option')
    if (length === LINK_LAYER_OPTION_LENGTH) {
      if (bytes[at] === ND_OPT_SOURCE_LL_ADDR) options.sourceLinkLayer = formatMac(bytes, at + 2)
      if (bytes[at] === ND_OPT_TARGET_LL_ADDR) options.targetLinkLayer = formatMac(bytes, at + 2)
    }
    at += length
  }
  return options
}

/** Bytes of the option at `at`, -1 if its length is 0 (RFC 4861 4.6: discard the message) or does not fit. */
export function neighbourOptionLength(bytes: Uint8Array, at: number, end: number): number {
  if (at + 2 > end) return -1
  const length = bytes[at + 1] * 8
  return length === 0 || at + length > end ? -1 : length
}

/** Writes a solicitation or advertisement; returns the offset after it. Throws PacketError. */
export function encodeNeighbour(bytes: Uint8Array, offset: number, fields: NeighbourInput): number {
  const options = [fields.sourceLinkLayer, fields.targetLinkLayer].filter((option) => option !== undefined)
  const size = NEIGHBOUR_HLEN + options.length * LINK_LAYER_OPTION_LENGTH
  needRoom(bytes, offset, size, 'a neighbour discovery message')
  const solicitation = fields.kind === 'neighbour-solicitation'
  const type = solicitation ? NDISC_NEIGHBOUR_SOLICITATION : NDISC_NEIGHBOUR_ADVERTISEMENT
  bytes[offset + ICMP_AT.type] = type
  bytes[offset + ICMP_AT.code] = 0
  setU16(bytes, offset + ICMP_AT.checksum, checked(fields.checksum ?? 0, 16, 'checksum'))
  setU32(bytes, offset + NEIGHBOUR_AT.flags, 0)
  if (!solicitation) {
    bytes[offset + NEIGHBOUR_AT.flags] =
      (fields.router ? ND_NA_ROUTER : 0) |
      (fields.solicited ? ND_NA_SOLICITED : 0) |
      (fields.override ? ND_NA_OVERRIDE : 0)
  }
  putIpv6(bytes, offset + NEIGHBOUR_AT.target, fields.target, 'target')
  let at = offset + NEIGHBOUR_AT.options
  if (fields.sourceLinkLayer !== undefined) {
    at = encodeOption(bytes, at, ND_OPT_SOURCE_LL_ADDR, fields.sourceLinkLayer, 'sourceLinkLayer')
  }
  if (fields.targetLinkLayer !== undefined) {
    at = encodeOption(bytes, at, ND_OPT_TARGET_LL_ADDR, fields.targetLinkLayer, 'targetLinkLayer')
  }
  return at
}

function encodeOption(
  bytes: Uint8Array,
  at: number,
  type: number,
  address: AddressInput,
  field: string,
): number {
  bytes[at] = type
  bytes[at + 1] = LINK_LAYER_OPTION_LENGTH / 8
  putMac(bytes, at + 2, address, field)
  return at + LINK_LAYER_OPTION_LENGTH
}

/** Whether the 16 bytes at `at` are the solicited-node multicast address (RFC 4291 2.7.1) of those at `target`. */
export function isSolicitedNode(bytes: Uint8Array, at: number, target: number): boolean {
  for (let i = 0; i < 13; i++) if (bytes[at + i] !== SOLICITED_NODE[i]) return false
  for (let i = 13; i < 16; i++) if (bytes[at + i] !== bytes[target + i]) return false
  return true
}

/** ff02::1:ff00:0 completed by the last three bytes of a 16-byte address: where its solicitations go. */
export function solicitedNodeAddress(address: Uint8Array): Uint8Array {
  const group = SOLICITED_NODE.slice()
  group.set(address.subarray(13, 16), 13)
  return group
}

/** The Ethernet address of an IPv6 multicast group (RFC 2464 section 7): 33:33 and its last four bytes. */
export function ipv6MulticastMac(group: Uint8Array): Uint8Array {
  return Uint8Array.of(0x33, 0x33, group[12], group[13], group[14], group[15])
}

const SOLICITED_NODE = Uint8Array.of(0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 0)
