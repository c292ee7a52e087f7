// IPv6 headers with their chain of extension headers (RFC 8200, AH: RFC 4302).
import { formatIpv6 } from './address.js'
import { fits, getU16, getU32, setU16, setU32 } from './bytes.js'
import { type AddressInput, checked, needRoom, putIpv6 } from './encode.js'
import { IPPROTO_AH, IPPROTO_DSTOPTS, IPPROTO_FRAGMENT, IPPROTO_HOPOPTS, IPPROTO_ROUTING } from './ipproto.js'
import { type Decoded, type Malformed, malformed, PacketError, type PayloadRange } from './problem.js'

export const IPV6_AT = {
  versionClassFlow: 0,
  payloadLength: 4,
  nextHeader: 6,
  hopLimit: 7,
  src: 8,
  dst: 24,
} as const
export const IPV6_HLEN = 40
/** Every extension header begins with these two; the fragment header's length byte is reserved. */
export const IPV6_EXTENSION_AT = { nextHeader: 0, length: 1 } as const
export const IPV6_FRAGMENT_AT = { offset: 2, identification: 4 } as const
export const IPV6_FRAGMENT_HLEN = 8
// include/net/ipv6.h: the parts of the fragment header's offset field.
export const IP6_MF = 0x0001
export const IP6_OFFSET = 0xfff8

export interface Ipv6FragmentHeader {
  header: typeof IPPROTO_FRAGMENT
  /** In bytes, a multiple of 8. */
  fragmentOffset: number
  moreFragments: boolean
  identification: number
}

export interface Ipv6OpaqueHeader {
  header: typeof IPPROTO_HOPOPTS | typeof IPPROTO_ROUTING | typeof IPPROTO_DSTOPTS | typeof IPPROTO_AH
  /** All that follows the first two bytes (next header and length). */
  body: Uint8Array
}

export type Ipv6Extension = Ipv6FragmentHeader | Ipv6OpaqueHeader

export interface Ipv6 {
  trafficClass: number
  flowLabel: number
  /** Bytes after the fixed header, extension headers included. */
  payloadLength: number
  hopLimit: number
  src: string
  dst: string
  extensions: Ipv6Extension[]
  /** The next header after the last extension header. */
  protocol: number
}

/** What is left out is zero or empty; `hopLimit` is 64. */
export type Ipv6Input = Partial<Omit<Ipv6, 'src' | 'dst' | 'extensions'>> & {
  src: AddressInput
  dst: AddressInput
  protocol: number
  payloadLength: number
  extensions?: readonly Ipv6Extension[]
}

/** Whether `header` is an extension header that can be stepped over. ESP cannot: what follows is encrypted. */
export function isIpv6Extension(header: number): header is Ipv6Extension['header'] {
  return (
    header === IPPROTO_HOPOPTS ||
    header === IPPROTO_ROUTING ||
    header === IPPROTO_FRAGMENT ||
    header === IPPROTO_DSTOPTS ||
    header === IPPROTO_AH
  )
}

/** Bytes of the extension header of kind `header` at `offset`. Assumes that its first 8 bytes are there. */
export function ipv6ExtensionLength(bytes: Uint8Array, offset: number, header: number): number {
  if (header === IPPROTO_FRAGMENT) return IPV6_FRAGMENT_HLEN
  const length = bytes[offset + IPV6_EXTENSION_AT.length]
  return header === IPPROTO_AH ? (length + 2) * 4 : (length + 1) * 8
}

/**
 * The IPv6 header in `[offset, end)` and its extension headers, up to the first that is none or to the
 * fragment header of a later fragment; bodies are copied. Jumbograms are not read: their payload is empty.
 * Problems: `short-ipv6`, `bad-ipv6-version`, `short-ipv6-extension`, `bad-ipv6-extension-order`.
 */
export function decodeIpv6(bytes: Uint8Array, offset: number, end: number): Decoded<Ipv6 & PayloadRange> {
  if (!fits(bytes, offset, end, IPV6_HLEN)) return malformed('short-ipv6')
  const versionClassFlow = getU32(bytes, offset + IPV6_AT.versionClassFlow)
  if (versionClassFlow >>> 28 !== 6) return malformed('bad-ipv6-version')
  const payloadLength = getU16(bytes, offset + IPV6_AT.payloadLength)
  const available = Math.min(end, bytes.length)
  const payloadEnd = Math.min(offset + IPV6_HLEN + payloadLength, available)
  const chain = decodeChain(bytes, offset + IPV6_HLEN, payloadEnd, bytes[offset + IPV6_AT.nextHeader])
  if ('problem' in chain) return chain
  return {
    trafficClass: (versionClassFlow >>> 20) & 0xff,
    flowLabel: versionClassFlow & 0xfffff,
    payloadLength,
    hopLimit: bytes[offset + IPV6_AT.hopLimit],
    src: formatIpv6(bytes, offset + IPV6_AT.src),
    dst: formatIpv6(bytes, offset + IPV6_AT.dst),
    extensions: chain.extensions,
    protocol: chain.protocol,
    payloadOffset: chain.at,
    payloadEnd,
    truncated: offset + IPV6_HLEN + payloadLength > available,
  }
}

function decodeChain(
  bytes: Uint8Array,
  offset: number,
  end: number,
  first: number,
): { extensions: Ipv6Extension[]; protocol: number; at: number } | Malformed {
  const extensions: Ipv6Extension[] = []
  let protocol = first
  let at = offset
  while (isIpv6Extension(protocol)) {
    // RFC 8200 section 4.1: hop-by-hop options stand directly after the IPv6 header or nowhere.
    if (protocol === IPPROTO_HOPOPTS && at !== offset) return malformed('bad-ipv6-extension-order')
    if (!fits(bytes, at, end, 8)) return malformed('short-ipv6-extension')
    const length = ipv6ExtensionLength(bytes, at, protocol)
    if (!fits(bytes, at, end, length)) return malformed('short-ipv6-extension')
    const extension = decodeExtension(bytes, at, length, protocol)
    extensions.push(extension)
    protocol = bytes[at + IPV6_EXTENSION_AT.nextHeader]
    at += length
    if (extension.header === IPPROTO_FRAGMENT && extension.fragmentOffset > 0) break
  }
  return { extensions, protocol, at }
}

function decodeExtension(
  bytes: Uint8Array,
  at: number,
  length: number,
  header: Ipv6Extension['header'],
): Ipv6Extension {
  if (header !== IPPROTO_FRAGMENT) return { header, body: bytes.slice(at + 2, at + length) }
  const field = getU16(bytes, at + IPV6_FRAGMENT_AT.offset)
  return {
    header,
    fragmentOffset: field & IP6_OFFSET,
    moreFragments: (field & IP6_MF) !== 0,
    identification: getU32(bytes, at + IPV6_FRAGMENT_AT.identification),
  }
}

/** Writes the header and its extension headers; returns the offset after them. Throws PacketError. */
export function encodeIpv6(bytes: Uint8Array, offset: number, fields: Ipv6Input): number {
  const extensions = fields.extensions ?? []
  const size = IPV6_HLEN + extensions.reduce((sum, extension) => sum + extensionSize(extension), 0)
  needRoom(bytes, offset, size, 'an IPv6 header')
  const trafficClass = checked(fields.trafficClass ?? 0, 8, 'trafficClass')
  const flowLabel = checked(fields.flowLabel ?? 0, 20, 'flowLabel')
  setU32(bytes, offset + IPV6_AT.versionClassFlow, (6 << 28) | (trafficClass << 20) | flowLabel)
  setU16(bytes, offset + IPV6_AT.payloadLength, checked(fields.payloadLength, 16, 'payloadLength'))
  bytes[offset + IPV6_AT.hopLimit] = checked(fields.hopLimit ?? 64, 8, 'hopLimit')
  putIpv6(bytes, offset + IPV6_AT.src, fields.src, 'src')
  putIpv6(bytes, offset + IPV6_AT.dst, fields.dst, 'dst')
  let nextHeaderAt = offset + IPV6_AT.nextHeader
  let at = offset + IPV6_HLEN
  for (const extension of extensions) {
    bytes[nextHeaderAt] = extension.header
    nextHeaderAt = at + IPV6_EXTENSION_AT.nextHeader
    encodeExtension(bytes, at, extension)
    at += extensionSize(extension)
  }
  bytes[nextHeaderAt] = checked(fields.protocol, 8, 'protocol')
  return at
}

function extensionSize(extension: Ipv6Extension): number {
  if (extension.header === IPPROTO_FRAGMENT) return IPV6_FRAGMENT_HLEN
  const size = 2 + extension.body.length
  // AH counts words of 4 bytes less two, the others units of 8 less one; both in one byte.
  const [unit, most] = extension.header === IPPROTO_AH ? [4, 1028] : [8, 2048]
  if (size < 8 || size > most || size % unit !== 0) {
    const message = `extension header ${extension.header} cannot be ${size} bytes long`
    throw new PacketError('ERR_PACKET_VALUE', message)
  }
  return size
}

function encodeExtension(bytes: Uint8Array, at: number, extension: Ipv6Extension): void {
  if (extension.header === IPPROTO_FRAGMENT) {
    bytes[at + IPV6_EXTENSION_AT.length] = 0
    const units = checked(extension.fragmentOffset / 8, 13, 'fragmentOffset / 8')
    setU16(bytes, at + IPV6_FRAGMENT_AT.offset, (units << 3) | (extension.moreFragments ? IP6_MF : 0))
    const identification = checked(extension.identification, 32, 'identification')
    setU32(bytes, at + IPV6_FRAGMENT_AT.identification, identification)
    return
  }
  const size = 2 + extension.body.length
  bytes[at + IPV6_EXTENSION_AT.length] = extension.header === IPPROTO_AH ? size / 4 - 2 : size / 8 - 1
  bytes.set(extension.body, at + 2)
}
