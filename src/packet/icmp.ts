// ICMP and ICMPv6 headers: the same eight bytes (RFC 792, RFC 4443). Neighbour discovery: see neighbour.ts.
import { fits, getU16, setU16 } from './bytes.js'
import { checked, needRoom } from './encode.js'
import { type Decoded, malformed, type PayloadStart, type Problem } from './problem.js'

// uapi/linux/icmp.h
export const ICMP_ECHOREPLY = 0
export const ICMP_DEST_UNREACH = 3
export const ICMP_ECHO = 8
export const ICMP_TIME_EXCEEDED = 11
// uapi/linux/icmpv6.h
export const ICMPV6_DEST_UNREACH = 1
export const ICMPV6_PKT_TOOBIG = 2
export const ICMPV6_TIME_EXCEED = 3
export const ICMPV6_ECHO_REQUEST = 128
export const ICMPV6_ECHO_REPLY = 129

export const ICMP_AT = { type: 0, code: 1, checksum: 2, identifier: 4, sequence: 6 } as const
export const ICMP_HLEN = 8

export interface Icmp {
  type: number
  code: number
  checksum: number
  /** The two halves of the rest of the header, called what they are in an echo. */
  identifier: number
  sequence: number
}

/** What is left out is zero; `setL4Checksum` fills the checksum once the payload is there. */
export type IcmpInput = Pick<Icmp, 'type'> & Partial<Icmp>

/** The ICMP header in `[offset, end)`. Problem: `short-icmp`. */
export function decodeIcmp(bytes: Uint8Array, offset: number, end: number): Decoded<Icmp & PayloadStart> {
  return decode(bytes, offset, end, 'short-icmp')
}

/** The ICMPv6 header in `[offset, end)`. Problem: `short-icmp6`. */
export function decodeIcmp6(bytes: Uint8Array, offset: number, end: number): Decoded<Icmp & PayloadStart> {
  return decode(bytes, offset, end, 'short-icmp6')
}

function decode(
  bytes: Uint8Array,
  offset: number,
  end: number,
  short: Problem,
): Decoded<Icmp & PayloadStart> {
  if (!fits(bytes, offset, end, ICMP_HLEN)) return malformed(short)
  return {
    type: bytes[offset + ICMP_AT.type],
    code: bytes[offset + ICMP_AT.code],
    checksum: getU16(bytes, offset + ICMP_AT.checksum),
    identifier: getU16(bytes, offset + ICMP_AT.identifier),
    sequence: getU16(bytes, offset + ICMP_AT.sequence),
    payloadOffset: offset + ICMP_HLEN,
  }
}

/** Writes 8 bytes of ICMP or ICMPv6 header; returns the offset after them. Throws PacketError. */
export function encodeIcmp(bytes: Uint8Array, offset: number, fields: IcmpInput): number {
  needRoom(bytes, offset, ICMP_HLEN, 'an ICMP header')
  bytes[offset + ICMP_AT.type] = checked(fields.type, 8, 'type')
  bytes[offset + ICMP_AT.code] = checked(fields.code ?? 0, 8, 'code')
  setU16(bytes, offset + ICMP_AT.checksum, checked(fields.checksum ?? 0, 16, 'checksum'))
  setU16(bytes, offset + ICMP_AT.identifier, checked(fields.identifier ?? 0, 16, 'identifier'))
  setU16(bytes, offset + ICMP_AT.sequence, checked(fields.sequence ?? 0, 16, 'sequence'))
  return offset + ICMP_HLEN
}
