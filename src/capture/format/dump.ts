// The bytes of a packet below its line: -x, -X, -A.
import { TextBuffer } from './text.js'

const SPACE = 0x20
const DOT = 0x2e
/** The two hexadecimal digits of each byte, and what stands for it in the text beside them. */
const HIGH = Uint8Array.from({ length: 256 }, (_, byte) => digit(byte >>> 4))
const LOW = Uint8Array.from({ length: 256 }, (_, byte) => digit(byte & 15))
const SHOWN = Uint8Array.from({ length: 256 }, (_, byte) => (byte > SPACE && byte < 0x7f ? byte : DOT))

function digit(value: number): number {
  return value.toString(16).charCodeAt(0)
}

/** What begins a line of a packet's bytes. */
const INDENT = Uint8Array.of(0x0a, 0x09)
/** Bytes in a line, and the columns that they take. */
const ROW = 16
const COLUMNS = 40

/** Adds hexadecimal in lines of 16 bytes, with the text beside it on demand; each line begins with `indent`. */
export function addHex(
  into: TextBuffer,
  bytes: Uint8Array,
  from: number,
  to: number,
  withText: boolean,
  indent: Uint8Array = INDENT,
): void {
  if (to <= from) return
  // `0x`, eight digits at most, `: `, and two spaces before the text.
  const out = into.reserve(Math.ceil((to - from) / ROW) * (indent.length + 12 + COLUMNS + 2 + ROW))
  let end = into.length
  for (let at = from; at < to; at += ROW) {
    for (let i = 0; i < indent.length; i++) out[end++] = indent[i]
    out[end++] = 0x30
    out[end++] = 0x78
    const where = at - from
    // Four digits, or as many as it takes.
    if (where > 0xffff) {
      for (let shift = 28; shift >= 16; shift -= 4)
        if (where >>> shift !== 0) out[end++] = LOW[(where >>> shift) & 15]
    }
    out[end++] = HIGH[(where >>> 8) & 0xff]
    out[end++] = LOW[(where >>> 8) & 0xff]
    out[end++] = HIGH[where & 0xff]
    out[end++] = LOW[where & 0xff]
    out[end++] = 0x3a
    out[end++] = SPACE
    const first = end
    const next = at + ROW < to ? at + ROW : to
    for (let i = at; i < next; i += 2) {
      out[end++] = SPACE
      out[end++] = HIGH[bytes[i]]
      out[end++] = LOW[bytes[i]]
      if (i + 1 === next) break
      out[end++] = HIGH[bytes[i + 1]]
      out[end++] = LOW[bytes[i + 1]]
    }
    if (!withText) continue
    while (end < first + COLUMNS + 2) out[end++] = SPACE
    for (let i = at; i < next; i++) out[end++] = SHOWN[bytes[i]]
  }
  into.length = end
}

const scratch = new TextBuffer(4096)

/** What `addHex` adds. */
export function dumpHex(
  bytes: Uint8Array,
  from: number,
  to: number,
  withText: boolean,
  indent: string,
): string {
  scratch.clear()
  addHex(scratch, bytes, from, to, withText, Buffer.from(indent))
  return scratch.toString()
}

/** Adds bytes as text: what is not printable is a dot, and lines stay lines. */
export function addText(into: TextBuffer, bytes: Uint8Array, from: number, to: number): void {
  const out = into.reserve(1 + Math.max(0, to - from))
  let end = into.length
  out[end++] = 0x0a
  for (let i = from; i < to; i++) {
    const byte = bytes[i]
    if (byte === 0x0d) {
      // None before a line feed, nor for the last byte but one: so does tcpdump.
      if (i + 2 < to && bytes[i + 1] !== 0x0a) out[end++] = DOT
    } else {
      out[end++] = byte === 0x0a || byte === 0x09 || (byte >= SPACE && byte < 0x7f) ? byte : DOT
    }
  }
  into.length = end
}
