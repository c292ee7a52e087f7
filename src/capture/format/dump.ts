// The bytes of a packet below its line: -x, -X, -A.

const digits = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'))

/** Hexadecimal in lines of 16 bytes, with the text beside it on demand; each line begins with `indent`. */
export function dumpHex(
  bytes: Uint8Array,
  from: number,
  to: number,
  withText: boolean,
  indent = '\n\t',
): string {
  let out = ''
  for (let at = from; at < to; at += 16) {
    const end = Math.min(to, at + 16)
    let hex = ''
    for (let i = at; i < end; i++) hex += ((i - at) & 1 ? '' : ' ') + digits[bytes[i]]
    const where = (at - from).toString(16).padStart(4, '0')
    out += `${indent}0x${where}: ${withText ? `${hex.padEnd(40)}  ${dots(bytes, at, end)}` : hex}`
  }
  return out
}

function dots(bytes: Uint8Array, from: number, to: number): string {
  let text = ''
  for (let i = from; i < to; i++) {
    text += bytes[i] > 0x20 && bytes[i] < 0x7f ? String.fromCharCode(bytes[i]) : '.'
  }
  return text
}

/** As text: what is not printable is a dot, and lines stay lines. */
export function dumpText(bytes: Uint8Array, from: number, to: number): string {
  let text = '\n'
  for (let i = from; i < to; i++) {
    const byte = bytes[i]
    if (byte === 0x0d) {
      // None before a line feed, nor for the last byte but one: so does tcpdump.
      if (i + 2 < to && bytes[i + 1] !== 0x0a) text += '.'
    } else if (byte === 0x0a || byte === 0x09 || (byte >= 0x20 && byte < 0x7f)) {
      text += String.fromCharCode(byte)
    } else {
      text += '.'
    }
  }
  return text
}
