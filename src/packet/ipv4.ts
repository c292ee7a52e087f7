// IPv4 headers with options (RFC 791).
import { formatIpv4 } from './address.js'
import { fits, getU16, setU16 } from './bytes.js'
import { checksum } from './checksum.js'
import { type AddressInput, checked, needRoom, putIpv4 } from './encode.js'
import { type Decoded, type Malformed, malformed, PacketError, type PayloadRange } from './problem.js'

export const IPV4_AT = {
  versionLength: 0,
  tos: 1,
  totalLength: 2,
  identification: 4,
  fragment: 6,
  ttl: 8,
  protocol: 9,
  checksum: 10,
  src: 12,
  dst: 16,
  options: 20,
} as const
/** Without options; with them up to 60 bytes. */
export const IPV4_HLEN = 20
// include/net/ip.h: the parts of the fragment field.
export const IP_DF = 0x4000
export const IP_MF = 0x2000
export const IP_OFFSET = 0x1fff
// uapi/linux/ip.h: option types.
export const IPOPT_END = 0
export const IPOPT_NOOP = 1
export const IPOPT_RR = 7
export const IPOPT_LSRR = 131
export const IPOPT_SSRR = 137
/** uapi/linux/ip.h: the TTL of what a host sends. */
export const IPDEFTTL = 64

export interface Ipv4Option {
  type: number
  /** What follows type and length; empty for `IPOPT_NOOP`. */
  data: Uint8Array
}

export interface Ipv4 {
  dscp: number
  ecn: number
  /** Bytes of header and payload. */
  totalLength: number
  identification: number
  dontFragment: boolean
  moreFragments: boolean
  /** In bytes, a multiple of 8. */
  fragmentOffset: number
  ttl: number
  protocol: number
  checksum: number
  src: string
  dst: string
  /** As they stand, no-operations included; what follows an end of options is padding. */
  options: Ipv4Option[]
}

/** What is left out is zero, false or empty; `ttl` is 64; `checksum` is computed. */
export type Ipv4Input = Partial<Omit<Ipv4, 'src' | 'dst' | 'options'>> & {
  src: AddressInput
  dst: AddressInput
  protocol: number
  totalLength: number
  options?: readonly Ipv4Option[]
}

/**
 * The IPv4 header in `[offset, end)`; its options are copied. The checksum is returned, not judged: see
 * `ipv4ChecksumValid`. Problems: `short-ipv4`, `bad-ipv4-version`, `bad-ipv4-header-length`,
 * `bad-ipv4-total-length`, `bad-ipv4-option`.
 */
export function decodeIpv4(bytes: Uint8Array, offset: number, end: number): Decoded<Ipv4 & PayloadRange> {
  if (!fits(bytes, offset, end, IPV4_HLEN)) return malformed('short-ipv4')
  const versionLength = bytes[offset + IPV4_AT.versionLength]
  if (versionLength >>> 4 !== 4) return malformed('bad-ipv4-version')
  const headerLength = (versionLength & 0x0f) * 4
  if (headerLength < IPV4_HLEN || !fits(bytes, offset, end, headerLength)) {
    return malformed('bad-ipv4-header-length')
  }
  const totalLength = getU16(bytes, offset + IPV4_AT.totalLength)
  if (totalLength < headerLength) return malformed('bad-ipv4-total-length')
  const options = decodeOptions(bytes, offset + IPV4_AT.options, offset + headerLength)
  if ('problem' in options) return options
  const fragment = getU16(bytes, offset + IPV4_AT.fragment)
  const available = Math.min(end, bytes.length)
  return {
    dscp: bytes[offset + IPV4_AT.tos] >>> 2,
    ecn: bytes[offset + IPV4_AT.tos] & 3,
    totalLength,
    identification: getU16(bytes, offset + IPV4_AT.identification),
    dontFragment: (fragment & IP_DF) !== 0,
    moreFragments: (fragment & IP_MF) !== 0,
    fragmentOffset: (fragment & IP_OFFSET) * 8,
    ttl: bytes[offset + IPV4_AT.ttl],
    protocol: bytes[offset + IPV4_AT.protocol],
    checksum: getU16(bytes, offset + IPV4_AT.checksum),
    src: formatIpv4(bytes, offset + IPV4_AT.src),
    dst: formatIpv4(bytes, offset + IPV4_AT.dst),
    options,
    payloadOffset: offset + headerLength,
    payloadEnd: Math.min(offset + totalLength, available),
    truncated: offset + totalLength > available,
  }
}

function decodeOptions(bytes: Uint8Array, offset: number, end: number): Ipv4Option[] | Malformed {
  const options: Ipv4Option[] = []
  for (let at = offset; at < end && bytes[at] !== IPOPT_END;) {
    const type = bytes[at]
    const length = type === IPOPT_NOOP ? 1 : at + 1 < end ? bytes[at + 1] : 0
    if (length < (type === IPOPT_NOOP ? 1 : 2) || at + length > end) return malformed('bad-ipv4-option')
    options.push({ type, data: bytes.slice(at + 2, at + length) })
    at += length
  }
  return options
}

/** Writes the header, its options padded to whole words; returns the offset after it. Throws PacketError. */
export function encodeIpv4(bytes: Uint8Array, offset: number, fields: Ipv4Input): number {
  const headerLength = IPV4_HLEN + optionsLength(fields.options ?? [])
  needRoom(bytes, offset, headerLength, 'an IPv4 header')
  const fragmentOffset = fields.fragmentOffset ?? 0
  const fragment =
    (fields.dontFragment ? IP_DF : 0) |
    (fields.moreFragments ? IP_MF : 0) |
    checked(fragmentOffset / 8, 13, 'fragmentOffset / 8')
  bytes[offset + IPV4_AT.versionLength] = 0x40 | (headerLength / 4)
  bytes[offset + IPV4_AT.tos] =
    (checked(fields.dscp ?? 0, 6, 'dscp') << 2) | checked(fields.ecn ?? 0, 2, 'ecn')
  setU16(bytes, offset + IPV4_AT.totalLength, checked(fields.totalLength, 16, 'totalLength'))
  setU16(bytes, offset + IPV4_AT.identification, checked(fields.identification ?? 0, 16, 'identification'))
  setU16(bytes, offset + IPV4_AT.fragment, fragment)
  bytes[offset + IPV4_AT.ttl] = checked(fields.ttl ?? IPDEFTTL, 8, 'ttl')
  bytes[offset + IPV4_AT.protocol] = checked(fields.protocol, 8, 'protocol')
  setU16(bytes, offset + IPV4_AT.checksum, 0)
  putIpv4(bytes, offset + IPV4_AT.src, fields.src, 'src')
  putIpv4(bytes, offset + IPV4_AT.dst, fields.dst, 'dst')
  encodeOptions(bytes, offset + IPV4_AT.options, offset + headerLength, fields.options ?? [])
  const sum = fields.checksum ?? checksum(bytes, offset, headerLength)
  setU16(bytes, offset + IPV4_AT.checksum, checked(sum, 16, 'checksum'))
  return offset + headerLength
}

function optionsLength(options: readonly Ipv4Option[]): number {
  const length = options.reduce((sum, { type, data }) => sum + (type === IPOPT_NOOP ? 1 : 2 + data.length), 0)
  const padded = (length + 3) & ~3
  if (padded > 40) throw new PacketError('ERR_PACKET_VALUE', `options take ${padded} bytes, 40 is the most`)
  return padded
}

function encodeOptions(bytes: Uint8Array, offset: number, end: number, options: readonly Ipv4Option[]): void {
  bytes.fill(IPOPT_END, offset, end)
  let at = offset
  for (const { type, data } of options) {
    bytes[at++] = checked(type, 8, 'option type')
    if (type === IPOPT_NOOP) continue
    bytes[at++] = data.length + 2
    bytes.set(data, at)
    at += data.length
  }
}

/** Whether the header checksum of the IPv4 header at `offset` is right. Assumes a header that decodes. */
export function ipv4ChecksumValid(bytes: Uint8Array, offset: number): boolean {
  return checksum(bytes, offset, (bytes[offset] & 0x0f) * 4) === 0
}
