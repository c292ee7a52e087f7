// UDP headers (RFC 768).
import { fits, getU16, setU16 } from './bytes.js'
import { checked, needRoom } from './encode.js'
import { type Decoded, malformed, type PayloadRange } from './problem.js'

export const UDP_AT = { srcPort: 0, dstPort: 2, length: 4, checksum: 6 } as const
export const UDP_HLEN = 8

export interface Udp {
  srcPort: number
  dstPort: number
  /** Bytes of header and payload. */
  length: number
  /** 0 says that the sender computed none. */
  checksum: number
}

/** `setL4Checksum` fills a checksum left out once the payload is there. */
export type UdpInput = Omit<Udp, 'checksum'> & Partial<Udp>

/** The UDP header in `[offset, end)`. Problems: `short-udp`, `bad-udp-length`. */
export function decodeUdp(bytes: Uint8Array, offset: number, end: number): Decoded<Udp & PayloadRange> {
  if (!fits(bytes, offset, end, UDP_HLEN)) return malformed('short-udp')
  const length = getU16(bytes, offset + UDP_AT.length)
  if (length < UDP_HLEN) return malformed('bad-udp-length')
  const available = Math.min(end, bytes.length)
  return {
    srcPort: getU16(bytes, offset + UDP_AT.srcPort),
    dstPort: getU16(bytes, offset + UDP_AT.dstPort),
    length,
    checksum: getU16(bytes, offset + UDP_AT.checksum),
    payloadOffset: offset + UDP_HLEN,
    payloadEnd: Math.min(offset + length, available),
    truncated: offset + length > available,
  }
}

/** Writes 8 bytes; returns the offset after them. Throws PacketError. */
export function encodeUdp(bytes: Uint8Array, offset: number, fields: UdpInput): number {
  needRoom(bytes, offset, UDP_HLEN, 'a UDP header')
  setU16(bytes, offset + UDP_AT.srcPort, checked(fields.srcPort, 16, 'srcPort'))
  setU16(bytes, offset + UDP_AT.dstPort, checked(fields.dstPort, 16, 'dstPort'))
  setU16(bytes, offset + UDP_AT.length, checked(fields.length, 16, 'length'))
  setU16(bytes, offset + UDP_AT.checksum, checked(fields.checksum ?? 0, 16, 'checksum'))
  return offset + UDP_HLEN
}
