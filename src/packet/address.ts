// Addresses as text and as bytes: MAC, IPv4, IPv6 (RFC 4291 in, RFC 5952 out), CIDR.
// Every parser is strict and returns undefined for text that is not exactly one address.

/** An address with its prefix length, host bits kept: `10.0.0.1/24`. */
export interface Cidr {
  readonly version: 4 | 6
  /** 4 or 16 bytes. */
  readonly address: Uint8Array
  readonly prefixLength: number
}

const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'))

/** Six bytes from `02:00:00:00:00:01` or `02-00-00-00-00-01`. */
export function parseMac(text: string): Uint8Array | undefined {
  if (!/^[0-9a-f]{2}([:-])(?:[0-9a-f]{2}\1){4}[0-9a-f]{2}$/i.test(text)) return undefined
  return Uint8Array.from(text.split(/[:-]/), (part) => parseInt(part, 16))
}

/** Six bytes at `offset` as `02:00:00:00:00:01`. */
export function formatMac(bytes: Uint8Array, offset = 0): string {
  let text = HEX[bytes[offset]]
  for (let i = 1; i < 6; i++) text += ':' + HEX[bytes[offset + i]]
  return text
}

/** Four bytes from dotted decimal: four numbers, no leading zeros (they mean octal to some readers). */
export function parseIpv4(text: string): Uint8Array | undefined {
  const parts = text.split('.')
  const valid = (part: string) => /^(?:0|[1-9]\d{0,2})$/.test(part) && Number(part) <= 255
  return parts.length === 4 && parts.every(valid) ? Uint8Array.from(parts, Number) : undefined
}

/** Four bytes at `offset` in dotted decimal. */
export function formatIpv4(bytes: Uint8Array, offset = 0): string {
  return `${bytes[offset]}.${bytes[offset + 1]}.${bytes[offset + 2]}.${bytes[offset + 3]}`
}

/** Sixteen bytes from any form of RFC 4291 section 2.2, dotted tail included. A zone (`%eth0`) is refused. */
export function parseIpv6(text: string): Uint8Array | undefined {
  const halves = text.split('::')
  if (halves.length > 2) return undefined
  const head = parseGroups(halves[0], halves.length === 1)
  const tail = halves.length === 2 ? parseGroups(halves[1], true) : []
  if (!head || !tail) return undefined
  const missing = 16 - head.length - tail.length
  // `::` stands for at least one group; without it nothing may be missing.
  if (halves.length === 2 ? missing < 2 : missing !== 0) return undefined
  const bytes = new Uint8Array(16)
  bytes.set(head)
  bytes.set(tail, 16 - tail.length)
  return bytes
}

/** The bytes of `a:b:c`, whose last group may be dotted decimal when it ends the address. */
function parseGroups(text: string, endsAddress: boolean): number[] | undefined {
  const bytes: number[] = []
  if (text === '') return bytes
  const groups = text.split(':')
  for (const [i, group] of groups.entries()) {
    if (/^[0-9a-f]{1,4}$/i.test(group)) {
      const value = parseInt(group, 16)
      bytes.push(value >>> 8, value & 0xff)
      continue
    }
    const dotted = endsAddress && i === groups.length - 1 ? parseIpv4(group) : undefined
    if (!dotted) return undefined
    bytes.push(...dotted)
  }
  return bytes
}

/**
 * Sixteen bytes at `offset` as RFC 5952 writes them: lower case, no leading zeros, the longest run of two or
 * more zero groups (the first of equals) as `::`, IPv4-mapped addresses with a dotted tail.
 */
export function formatIpv6(bytes: Uint8Array, offset = 0): string {
  const groups = Array.from({ length: 8 }, (_, i) => (bytes[offset + 2 * i] << 8) | bytes[offset + 2 * i + 1])
  if (groups[5] === 0xffff && groups.slice(0, 5).every((group) => group === 0)) {
    return `::ffff:${formatIpv4(bytes, offset + 12)}`
  }
  let runStart = 0
  let runLength = 0
  for (let i = 0; i < 8; i++) {
    let length = 0
    while (i + length < 8 && groups[i + length] === 0) length++
    if (length > runLength) [runStart, runLength] = [i, length]
    i += length
  }
  const text = groups.map((group) => group.toString(16))
  if (runLength < 2) return text.join(':')
  return `${text.slice(0, runStart).join(':')}::${text.slice(runStart + runLength).join(':')}`
}

/** Four or sixteen bytes, by what the text is. */
export function parseIp(text: string): Uint8Array | undefined {
  return parseIpv4(text) ?? parseIpv6(text)
}

/** The text of a whole address of 4 or 16 bytes. */
export function formatIp(address: Uint8Array): string {
  return address.length === 4 ? formatIpv4(address) : formatIpv6(address)
}

/** `10.0.0.1/24` or `2001:db8::/32`. The prefix length is required: a bare address is not a network. */
export function parseCidr(text: string): Cidr | undefined {
  const match = /^([^/]+)\/(0|[1-9]\d{0,2})$/.exec(text)
  const address = match ? parseIp(match[1]) : undefined
  if (!match || !address) return undefined
  const prefixLength = Number(match[2])
  if (prefixLength > address.length * 8) return undefined
  return { version: address.length === 4 ? 4 : 6, address, prefixLength }
}

export function formatCidr(cidr: Cidr): string {
  return `${formatIp(cidr.address)}/${cidr.prefixLength}`
}
