// TLS records (RFC 8446): what a segment begins with, and the server that a client asks for.
import { printable, type Line } from './line.js'

const handshakes: Readonly<Record<number, string>> = {
  1: 'Client Hello',
  2: 'Server Hello',
  4: 'New Session Ticket',
  11: 'Certificate',
  12: 'Server Key Exchange',
  14: 'Server Hello Done',
  16: 'Client Key Exchange',
  20: 'Finished',
}

/** The kind of the record at `at`, by its header; undefined when these are not the first bytes of one. */
export function tlsRecord(line: Line, at: number, length: number): string | undefined {
  if (length < 6 || !line.has(at, 6)) return undefined
  const version = line.u16(at + 1)
  const size = line.u16(at + 3)
  if (version < 0x0300 || version > 0x0304 || size === 0 || size > 16640) return undefined
  switch (line.u8(at)) {
    case 20:
      return size === 1 ? 'Change Cipher Spec' : undefined
    case 21:
      return 'Alert'
    case 22:
      return handshakes[line.u8(at + 5)] ?? 'Handshake'
    case 23:
      return 'Application Data'
    default:
      return undefined
  }
}

/** The host name of a Client Hello (RFC 6066 section 3), when its extension was captured. */
export function serverName(line: Line, record: number): string | undefined {
  const end = Math.min(record + 5 + line.u16(record + 3), line.end)
  const fits = (at: number, size: number) => at + size <= end
  // Record header 5, handshake header 4, version 2, random 32.
  let at = record + 43
  if (!fits(at, 1)) return undefined
  at += 1 + line.u8(at)
  if (!fits(at, 2)) return undefined
  at += 2 + line.u16(at)
  if (!fits(at, 1)) return undefined
  at += 1 + line.u8(at)
  if (!fits(at, 2)) return undefined
  for (at += 2; fits(at, 4);) {
    const kind = line.u16(at)
    const size = line.u16(at + 2)
    // One entry: list length 2, kind of name 1 (0: host), length 2.
    if (kind === 0 && fits(at + 4, 5) && line.u8(at + 6) === 0) {
      const length = line.u16(at + 7)
      return fits(at + 9, length) ? printable(line.bytes, at + 9, at + 9 + Math.min(length, 255)) : undefined
    }
    at += 4 + size
  }
  return undefined
}
