// TCP headers with the options in use today (RFC 9293, 7323, 2018).
import { fits, getU16, getU32, setU16, setU32 } from './bytes.js'
import { checked, needRoom } from './encode.js'
import { type Decoded, type Malformed, malformed, PacketError, type PayloadStart } from './problem.js'

export const TCP_AT = {
  srcPort: 0,
  dstPort: 2,
  sequence: 4,
  acknowledgment: 8,
  offsetFlags: 12,
  flags: 13,
  window: 14,
  checksum: 16,
  urgentPointer: 18,
  options: 20,
} as const
/** Without options; with them up to 60 bytes. */
export const TCP_HLEN = 20

// include/net/tcp.h: bits of the flags byte.
export const TCPHDR_FIN = 0x01
export const TCPHDR_SYN = 0x02
export const TCPHDR_RST = 0x04
export const TCPHDR_PSH = 0x08
export const TCPHDR_ACK = 0x10
export const TCPHDR_URG = 0x20
export const TCPHDR_ECE = 0x40
export const TCPHDR_CWR = 0x80

// include/net/tcp.h: option kinds.
export const TCPOPT_EOL = 0
export const TCPOPT_NOP = 1
export const TCPOPT_MSS = 2
export const TCPOPT_WINDOW = 3
export const TCPOPT_SACK_PERM = 4
export const TCPOPT_SACK = 5
export const TCPOPT_TIMESTAMP = 8

export interface TcpOptions {
  mss?: number
  /** The shift count, not the factor. */
  windowScale?: number
  sackPermitted?: true
  timestamps?: { value: number; echo: number }
  /** At most four blocks, at most three beside timestamps: [first sequence number, the one after the last]. */
  sack?: [left: number, right: number][]
}

export interface Tcp {
  srcPort: number
  dstPort: number
  sequence: number
  acknowledgment: number
  /** `TCPHDR_*` bits; above them the four reserved bits of the header. */
  flags: number
  window: number
  checksum: number
  urgentPointer: number
  /** The options known here; others are stepped over. */
  options: TcpOptions
}

/** What is left out is zero or empty; `setL4Checksum` fills the checksum once the payload is there. */
export type TcpInput = Pick<Tcp, 'srcPort' | 'dstPort' | 'flags'> & Partial<Tcp>

/** The TCP header in `[offset, end)`. Problems: `short-tcp`, `bad-tcp-data-offset`, `bad-tcp-option`. */
export function decodeTcp(bytes: Uint8Array, offset: number, end: number): Decoded<Tcp & PayloadStart> {
  if (!fits(bytes, offset, end, TCP_HLEN)) return malformed('short-tcp')
  const offsetFlags = getU16(bytes, offset + TCP_AT.offsetFlags)
  const headerLength = (offsetFlags >>> 12) * 4
  if (headerLength < TCP_HLEN || !fits(bytes, offset, end, headerLength)) {
    return malformed('bad-tcp-data-offset')
  }
  const options = decodeOptions(bytes, offset + TCP_AT.options, offset + headerLength)
  if ('problem' in options) return options
  return {
    srcPort: getU16(bytes, offset + TCP_AT.srcPort),
    dstPort: getU16(bytes, offset + TCP_AT.dstPort),
    sequence: getU32(bytes, offset + TCP_AT.sequence),
    acknowledgment: getU32(bytes, offset + TCP_AT.acknowledgment),
    flags: offsetFlags & 0x0fff,
    window: getU16(bytes, offset + TCP_AT.window),
    checksum: getU16(bytes, offset + TCP_AT.checksum),
    urgentPointer: getU16(bytes, offset + TCP_AT.urgentPointer),
    options,
    payloadOffset: offset + headerLength,
  }
}

/** The options in `[offset, end)`; a known kind with an impossible length is a problem, an unknown kind is not. */
function decodeOptions(bytes: Uint8Array, offset: number, end: number): TcpOptions | Malformed {
  const options: TcpOptions = {}
  for (let at = offset; at < end && bytes[at] !== TCPOPT_EOL;) {
    const kind = bytes[at]
    if (kind === TCPOPT_NOP) {
      at++
      continue
    }
    const length = at + 1 < end ? bytes[at + 1] : 0
    if (at + length > end || !validLength(kind, length)) return malformed('bad-tcp-option')
    addOption(options, bytes, at, kind, length)
    at += length
  }
  return options
}

function validLength(kind: number, length: number): boolean {
  switch (kind) {
    case TCPOPT_MSS:
      return length === 4
    case TCPOPT_WINDOW:
      return length === 3
    case TCPOPT_SACK_PERM:
      return length === 2
    case TCPOPT_TIMESTAMP:
      return length === 10
    case TCPOPT_SACK:
      return length > 2 && length % 8 === 2
    default:
      return length >= 2
  }
}

function addOption(options: TcpOptions, bytes: Uint8Array, at: number, kind: number, length: number): void {
  switch (kind) {
    case TCPOPT_MSS:
      options.mss = getU16(bytes, at + 2)
      break
    case TCPOPT_WINDOW:
      options.windowScale = bytes[at + 2]
      break
    case TCPOPT_SACK_PERM:
      options.sackPermitted = true
      break
    case TCPOPT_TIMESTAMP:
      options.timestamps = { value: getU32(bytes, at + 2), echo: getU32(bytes, at + 6) }
      break
    case TCPOPT_SACK:
      options.sack = []
      for (let block = at + 2; block < at + length; block += 8) {
        options.sack.push([getU32(bytes, block), getU32(bytes, block + 4)])
      }
      break
  }
}

/** Writes the header, options padded with no-operations; returns the offset after it. Throws PacketError. */
export function encodeTcp(bytes: Uint8Array, offset: number, fields: TcpInput): number {
  const options = encodeOptions(fields.options ?? {})
  const headerLength = TCP_HLEN + options.length
  needRoom(bytes, offset, headerLength, 'a TCP header')
  setU16(bytes, offset + TCP_AT.srcPort, checked(fields.srcPort, 16, 'srcPort'))
  setU16(bytes, offset + TCP_AT.dstPort, checked(fields.dstPort, 16, 'dstPort'))
  setU32(bytes, offset + TCP_AT.sequence, checked(fields.sequence ?? 0, 32, 'sequence'))
  setU32(bytes, offset + TCP_AT.acknowledgment, checked(fields.acknowledgment ?? 0, 32, 'acknowledgment'))
  setU16(bytes, offset + TCP_AT.offsetFlags, (headerLength << 10) | checked(fields.flags, 12, 'flags'))
  setU16(bytes, offset + TCP_AT.window, checked(fields.window ?? 0, 16, 'window'))
  setU16(bytes, offset + TCP_AT.checksum, checked(fields.checksum ?? 0, 16, 'checksum'))
  setU16(bytes, offset + TCP_AT.urgentPointer, checked(fields.urgentPointer ?? 0, 16, 'urgentPointer'))
  bytes.set(options, offset + TCP_AT.options)
  return offset + headerLength
}

function encodeOptions(options: TcpOptions): number[] {
  const out: number[] = []
  const u16 = (value: number, field: string) => [checked(value, 16, field) >>> 8, value & 0xff]
  const u32 = (value: number, field: string) => [
    ...u16(Math.floor(checked(value, 32, field) / 65536), field),
    ...u16(value % 65536, field),
  ]
  if (options.mss !== undefined) out.push(TCPOPT_MSS, 4, ...u16(options.mss, 'mss'))
  if (options.windowScale !== undefined) {
    out.push(TCPOPT_WINDOW, 3, checked(options.windowScale, 8, 'windowScale'), TCPOPT_NOP)
  }
  if (options.sackPermitted) out.push(TCPOPT_SACK_PERM, 2)
  if (options.timestamps) {
    const { value, echo } = options.timestamps
    out.push(TCPOPT_TIMESTAMP, 10, ...u32(value, 'timestamp value'), ...u32(echo, 'timestamp echo'))
  }
  if (options.sack?.length) {
    out.push(TCPOPT_SACK, 2 + 8 * options.sack.length)
    for (const [left, right] of options.sack) out.push(...u32(left, 'sack'), ...u32(right, 'sack'))
  }
  while (out.length % 4 !== 0) out.push(TCPOPT_NOP)
  if (out.length > 40) {
    throw new PacketError('ERR_PACKET_VALUE', `options take ${out.length} bytes, 40 is the most`)
  }
  return out
}
