// Packets as the models of programs read them: plain TypeScript over bytes, that shares nothing with the builder.

/** What follows the VLAN tags that were stepped over. */
export interface Payload {
  readonly type: number
  readonly at: number
}

/** What an IP header says. */
export interface PlainIp {
  readonly version: 4 | 6
  readonly src: Uint8Array
  readonly dst: Uint8Array
  /** Behind extension headers; of a later fragment what its fragment header says. */
  readonly protocol: number
  /** Where it begins; undefined in a later fragment. */
  readonly transportAt: number | undefined
  readonly isFragment: boolean
  /** IPv4 options or IPv6 extension headers. */
  readonly hasExtras: boolean
}

const u16 = (bytes: Uint8Array, at: number): number => (bytes[at] << 8) | bytes[at + 1]

/** Steps over at most `most` tags. Undefined for a frame that is cut short in one. */
export function payloadOf(bytes: Uint8Array, most: number): Payload | undefined {
  let at = 14
  for (let tags = 0; tags < most; tags++) {
    const type = u16(bytes, at - 2)
    if (type !== 0x8100 && type !== 0x88a8) break
    at += 4
    if (bytes.length < at) return undefined
  }
  return { type: u16(bytes, at - 2), at }
}

/** An IP header and its extras; undefined when it is no IP or cut short, malformed, or has more extension headers than `most`. */
export function ipOf(bytes: Uint8Array, { type, at }: Payload, most: number): PlainIp | undefined {
  if (type === 0x0800) return ipv4Of(bytes, at)
  return type === 0x86dd ? ipv6Of(bytes, at, most) : undefined
}

function ipv4Of(bytes: Uint8Array, at: number): PlainIp | undefined {
  const words = bytes[at] & 0x0f
  if (bytes.length < at + 20 || bytes[at] >> 4 !== 4 || words < 5) return undefined
  const offset = u16(bytes, at + 6) & 0x1fff
  const hasMore = (bytes[at + 6] & 0x20) !== 0
  return {
    version: 4,
    src: bytes.subarray(at + 12, at + 16),
    dst: bytes.subarray(at + 16, at + 20),
    protocol: bytes[at + 9],
    transportAt: offset > 0 ? undefined : at + words * 4,
    isFragment: offset > 0 || hasMore,
    hasExtras: words > 5,
  }
}

function ipv6Of(bytes: Uint8Array, start: number, most: number): PlainIp | undefined {
  if (bytes.length < start + 40 || bytes[start] >> 4 !== 6) return undefined
  let protocol = bytes[start + 6]
  let at = start + 40
  let isFragment = false
  let isLater = false
  let extensions = 0
  while (!isLater && [0, 43, 44, 51, 60].includes(protocol)) {
    if (++extensions > most || bytes.length < at + 8) return undefined
    const length = protocol === 44 ? 8 : protocol === 51 ? bytes[at + 1] * 4 + 8 : bytes[at + 1] * 8 + 8
    if (protocol === 44) {
      isLater = u16(bytes, at + 2) >> 3 > 0
      isFragment ||= isLater || (bytes[at + 3] & 1) === 1
    }
    protocol = bytes[at]
    at += length
  }
  return {
    version: 6,
    src: bytes.subarray(start + 8, start + 24),
    dst: bytes.subarray(start + 24, start + 40),
    protocol,
    transportAt: isLater ? undefined : at,
    isFragment,
    hasExtras: extensions > 0,
  }
}

/** The ports of UDP or TCP: `none` for other protocols and later fragments, undefined where the packet is too short. */
export function portsOf(
  bytes: Uint8Array,
  { protocol, transportAt }: PlainIp,
): { src: number; dst: number } | 'none' | undefined {
  if (transportAt === undefined || (protocol !== 17 && protocol !== 6)) return 'none'
  if (bytes.length < transportAt + 4) return undefined
  return { src: u16(bytes, transportAt), dst: u16(bytes, transportAt + 2) }
}

/** ARP, or neighbour and router discovery from this link; `short` for IPv6 that is too short to tell. */
export function discoveryOf(bytes: Uint8Array, { type, at }: Payload): boolean | 'short' {
  if (type === 0x0806) return true
  if (type !== 0x86dd) return false
  if (bytes.length < at + 40 || bytes[at] >> 4 !== 6) return 'short'
  if (bytes[at + 6] !== 58 || bytes[at + 7] !== 255) return false
  if (bytes.length < at + 48) return 'short'
  return bytes[at + 40] >= 133 && bytes[at + 40] <= 136
}
