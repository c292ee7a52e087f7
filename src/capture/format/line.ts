// What every printer gets: the bytes of one packet, how to print, and where the text goes.
import type { IpContext } from './context.js'
import type { SequenceTable } from './sequences.js'
import { TextBuffer } from './text.js'

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

const NOTHING: Uint8Array = new Uint8Array(0)
const NO_TEXT = new TextBuffer(0)

/**
 * A packet being printed, one after the other. Printers append to `out`, without strings what nearly all packets have; they
 * read `bytes` below `end` only.
 */
export class Line {
  /** The text so far, which may begin with that of other packets. */
  out = NO_TEXT
  bytes = NOTHING
  /** Where the captured bytes end. */
  end = 0
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
  readonly #contexts: IpContext[] = []

  constructor(options: FormatOptions, sequences: SequenceTable) {
    this.verbosity = options.verbosity ?? 0
    this.quiet = options.quiet ?? false
    this.linkHeader = options.linkHeader ?? false
    this.absoluteSequence = options.absoluteSequence ?? false
    this.service = options.service
    this.sequences = sequences
  }

  /** The next packet, which ends before `end`, and where its text goes. */
  begin(bytes: Uint8Array, end: number, out: TextBuffer): void {
    this.bytes = bytes
    this.end = Math.min(end, bytes.length)
    this.out = out
    this.isUnknown = false
    this.depth = 0
  }

  /** That of an IP packet which begins at `at`; used again for the next one that is as deep. */
  context(version: 4 | 6, at: number): IpContext {
    const context = (this.#contexts[this.depth] ??= { version, at, isFragment: false, isDirect: true })
    context.version = version
    context.at = at
    context.isFragment = false
    context.isDirect = true
    return context
  }

  add(text: string): void {
    this.out.add(text)
  }

  number(value: number): void {
    this.out.number(value)
  }

  /** Four digits of it, with `0x`. */
  hex16(value: number): void {
    this.out.add('0x')
    this.out.hex(value, 4)
  }

  /** `192.0.2.1` */
  ipv4(at: number): void {
    const { bytes, out } = this
    for (let i = 0; i < 4; i++) {
      if (i > 0) out.add('.')
      out.number(bytes[at + i])
    }
  }

  /** As `formatIpv6`. */
  ipv6(at: number): void {
    const { out } = this
    let runStart = 0
    let runLength = 0
    for (let i = 0; i < 8; i++) {
      let length = 0
      while (i + length < 8 && this.u16(at + 2 * (i + length)) === 0) length++
      if (length > runLength) {
        runStart = i
        runLength = length
      }
      i += length
    }
    if (runStart === 0 && runLength === 5 && this.u16(at + 10) === 0xffff) {
      out.add('::ffff:')
      return this.ipv4(at + 12)
    }
    for (let i = 0; i < 8; i++) {
      if (runLength > 1 && i === runStart) {
        out.add('::')
        i += runLength - 1
        continue
      }
      if (i > 0 && !(runLength > 1 && i === runStart + runLength)) out.add(':')
      const group = this.u16(at + 2 * i)
      out.hex(group, group < 0x10 ? 1 : group < 0x100 ? 2 : group < 0x1000 ? 3 : 4)
    }
  }

  /** `02:00:00:00:00:01` */
  mac(at: number): void {
    const { bytes, out } = this
    for (let i = 0; i < 6; i++) {
      if (i > 0) out.add(':')
      out.hex(bytes[at + i], 2)
    }
  }

  source({ version, at }: IpContext): void {
    if (version === 4) this.ipv4(at + 12)
    else this.ipv6(at + 8)
  }

  destination({ version, at }: IpContext): void {
    if (version === 4) this.ipv4(at + 16)
    else this.ipv6(at + 24)
  }

  /** `192.0.2.1 > 192.0.2.2: ` */
  addresses(ip: IpContext): void {
    this.source(ip)
    this.add(' > ')
    this.destination(ip)
    this.add(': ')
  }

  /** The same with ports, of a transport that follows the addresses directly; else the ports only. */
  endpoints(ip: IpContext, srcPort: number, dstPort: number, protocol: 'tcp' | 'udp'): void {
    if (ip.isDirect) {
      this.source(ip)
      this.add('.')
    }
    this.#port(srcPort, protocol)
    this.add(' > ')
    if (ip.isDirect) {
      this.destination(ip)
      this.add('.')
    }
    this.#port(dstPort, protocol)
    this.add(': ')
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

  #port(port: number, protocol: 'tcp' | 'udp'): void {
    const name = this.service?.(port, protocol)
    if (name === undefined) this.number(port)
    else this.add(name)
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
