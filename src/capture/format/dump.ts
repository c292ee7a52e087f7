// The bytes of a packet below its line: -x, -X, -A.
import { TextBuffer } from './text.js'

const SPACE = 0x20
const DOT = 0x2e
/** The two hexadecimal digits of each byte, the first one in the lower half, and what stands for it in the text beside them. */
const HEX = Uint16Array.from({ length: 256 }, (_, byte) => digit(byte >>> 4) | (digit(byte & 15) << 8))
const SHOWN = Uint8Array.from({ length: 256 }, (_, byte) => (byte > SPACE && byte < 0x7f ? byte : DOT))

function digit(value: number): number {
  return value.toString(16).charCodeAt(0)
}

/** What begins a line of a packet's bytes, and the same with `0x` behind it as a number; then `: `, and two spaces. */
const INDENT = Uint8Array.of(0x0a, 0x09)
const LINE_BEGIN = 0x7830090a
const COLON = 0x203a
const SPACES = 0x2020
/** Bytes in a line, and the columns that they take. */
const ROW = 16
const COLUMNS = 40
/** The offsets that are written with four digits. */
const FOUR_DIGITS = 0xffff

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
  into.reserve(Math.ceil((to - from) / ROW) * (indent.length + 12 + COLUMNS + 2 + ROW))
  for (let at = from; at < to; at += ROW) {
    if (to - at >= ROW && at - from <= FOUR_DIGITS && indent === INDENT)
      addRow(into, bytes, at, at - from, withText)
    else addPart(into, bytes, at, Math.min(to, at + ROW), at - from, withText, indent)
  }
}

/** A whole line, several bytes at a time. */
function addRow(into: TextBuffer, bytes: Uint8Array, from: number, where: number, withText: boolean): void {
  const { view, length } = into
  view.setUint32(length, LINE_BEGIN, true)
  view.setUint32(length + 4, HEX[where >>> 8] | (HEX[where & 0xff] << 16), true)
  view.setUint16(length + 8, COLON, true)
  let end = length + 10
  for (let at = from; at < from + ROW; at += 2) {
    view.setUint8(end, SPACE)
    view.setUint32(end + 1, HEX[bytes[at]] | (HEX[bytes[at + 1]] << 16), true)
    end += 5
  }
  if (withText) {
    view.setUint16(end, SPACES, true)
    end += 2
    for (let at = from; at < from + ROW; at += 4) {
      const low = SHOWN[bytes[at]] | (SHOWN[bytes[at + 1]] << 8)
      view.setUint32(end, low | (SHOWN[bytes[at + 2]] << 16) | (SHOWN[bytes[at + 3]] << 24), true)
      end += 4
    }
  }
  into.length = end
}

/** A line of any bytes. */
function addPart(
  into: TextBuffer,
  bytes: Uint8Array,
  from: number,
  to: number,
  where: number,
  withText: boolean,
  indent: Uint8Array,
): void {
  const out = into.bytes
  out.set(indent, into.length)
  into.length += indent.length
  into.add('0x')
  into.hex(where, where > FOUR_DIGITS ? Math.ceil((32 - Math.clz32(where)) / 4) : 4)
  into.add(': ')
  const first = into.length
  for (let at = from; at < to; at++) {
    if (((at - from) & 1) === 0) out[into.length++] = SPACE
    into.hex(bytes[at], 2)
  }
  if (!withText) return
  while (into.length < first + COLUMNS + 2) out[into.length++] = SPACE
  for (let at = from; at < to; at++) out[into.length++] = SHOWN[bytes[at]]
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
