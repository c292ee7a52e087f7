// What every printer gets: the bytes of one packet, how to print, and where the text goes.
import type { SequenceTable } from './sequences.js'

/** How packets are printed; the letters are tcpdump's. */
export interface FormatOptions {
  /** The time: `clock` 12:34:56.789012 (local), `none` -t, `epoch` -tt, `delta` -ttt, `date` -tttt, `since-first` -ttttt. */
  time?: 'clock' | 'none' | 'epoch' | 'delta' | 'date' | 'since-first' | undefined
  /** Digits of the time. Default `microseconds`. */
  precision?: 'microseconds' | 'nanoseconds' | undefined
  /** -v, -vv: header fields, checksums, options. Default 0. */
  verbosity?: 0 | 1 | 2 | undefined
  /** -q: addresses, transport and length only. */
  quiet?: boolean | undefined
  /** -e: the link layer too. */
  linkHeader?: boolean | undefined
  /** The bytes too: `hex` -x, `hex-link` -xx, `both` -X, `both-link` -XX, `ascii` -A. */
  dump?: 'none' | 'hex' | 'hex-link' | 'both' | 'both-link' | 'ascii' | undefined
  /** -S: sequence numbers as they are, not relative to the first of their connection. */
  absoluteSequence?: boolean | undefined
  /** Names for ports; numbers without. Addresses are always numbers. */
  service?: ((port: number, protocol: 'tcp' | 'udp') => string | undefined) | undefined
}

/** One packet being printed. Printers append to `text`; they read `bytes` below `end` only. */
export class Line {
  text = ''
  readonly bytes: Uint8Array
  /** Where the captured bytes end. */
  end: number
  readonly verbosity: number
  readonly quiet: boolean
  readonly linkHeader: boolean
  readonly absoluteSequence: boolean
  readonly service: FormatOptions['service']
  readonly sequences: SequenceTable
  /** Nothing here knows what the link layer carries: its bytes are all there is to show. */
  isUnknown = false
  /** How deep packets are quoted in packets. */
  depth = 0

  constructor(bytes: Uint8Array, end: number, options: FormatOptions, sequences: SequenceTable) {
    this.bytes = bytes
    this.end = Math.min(end, bytes.length)
    this.verbosity = options.verbosity ?? 0
    this.quiet = options.quiet ?? false
    this.linkHeader = options.linkHeader ?? false
    this.absoluteSequence = options.absoluteSequence ?? false
    this.service = options.service
    this.sequences = sequences
  }

  add(text: string): void {
    this.text += text
  }

  /** Whether `size` bytes at `at` were captured. */
  has(at: number, size: number): boolean {
    return at >= 0 && size >= 0 && at + size <= this.end
  }

  u8(at: number): number {
    return this.bytes[at]
  }

  u16(at: number): number {
    return (this.bytes[at] << 8) | this.bytes[at + 1]
  }

  u32(at: number): number {
    return this.u16(at) * 65536 + this.u16(at + 2)
  }

  /** A number of `digits` hexadecimal digits, with `0x`. */
  hex(value: number, digits = 1): string {
    return `0x${value.toString(16).padStart(digits, '0')}`
  }

  port(port: number, protocol: 'tcp' | 'udp'): string {
    return this.service?.(port, protocol) ?? String(port)
  }
}

/** Text that a packet carried, with nothing in it that a terminal would act upon. */
export function printable(bytes: Uint8Array, from: number, to: number): string {
  let text = ''
  for (let i = from; i < to; i++) {
    const byte = bytes[i]
    if (byte >= 0x20 && byte < 0x7f) text += String.fromCharCode(byte)
    else if (byte >= 0x80) text += `M-${control(byte & 0x7f)}`
    else text += control(byte)
  }
  return text
}

function control(byte: number): string {
  if (byte >= 0x20 && byte < 0x7f) return String.fromCharCode(byte)
  return `^${String.fromCharCode(byte ^ 0x40)}`
}
