// TCP segments: flags, sequence numbers relative to the connection's first, options, and what they carry.
import { checkL4Checksum, pseudoHeaderSum } from '../../packet/l4.js'
import { checksum } from '../../packet/checksum.js'
import { printApplication } from './application.js'
import { shouldBe, type IpContext } from './context.js'
import { printable, type Line } from './line.js'
import { KEY_FIRST, KEY_PORTS, KEY_SECOND, KEY_VERSION } from './sequences.js'

const FLAGS = ['F', 'S', 'R', 'P', '.', 'U', 'E', 'W']
const FIN_SYN_RST = 0x07
const SYN = 0x02
const RST = 0x04
const ACK = 0x10
const URG = 0x20

/** The segment at `at`, of which `length` bytes were on the wire. */
export function printTcp(line: Line, at: number, length: number, ip: IpContext): void {
  if (!line.has(at, 4)) return noHeader(line, ip)
  const srcPort = line.u16(at)
  const dstPort = line.u16(at + 2)
  line.endpoints(ip, srcPort, dstPort, 'tcp')
  if (!line.has(at, 20)) return line.add(' [|tcp]')
  const headerLength = (line.u8(at + 12) >>> 4) * 4
  const payload = length - headerLength
  if (headerLength < 20) {
    return line.add(` tcp ${payload} [bad hdr length ${headerLength} - too short, < 20]`)
  }
  if (line.quiet) {
    line.add(`tcp ${payload >>> 0}`)
    if (payload < 0) line.add(` [bad hdr length ${headerLength} - too long, > ${length}]`)
    return
  }
  const flags = line.u8(at + 13)
  line.add('Flags [')
  if (flags === 0) line.add('none')
  for (let bit = 0; bit < 8; bit++) if (flags & (1 << bit)) line.add(FLAGS[bit])
  line.add(']')
  const base = relativeTo(line, at, srcPort, dstPort, flags, ip)
  if (payload < 0) return line.add(` [bad hdr length ${headerLength} - too long, > ${length}]`)
  if (line.verbosity > 0 && !ip.isFragment && line.has(at, length)) printChecksum(line, at, length, ip)
  const sequence = (line.u32(at + 4) - base.sequence) >>> 0
  if (line.verbosity > 1 || payload > 0 || flags & FIN_SYN_RST) {
    line.add(', seq ')
    line.number(sequence)
    if (payload > 0) {
      line.add(':')
      line.number((sequence + payload) >>> 0)
    }
  }
  if (flags & ACK) {
    line.add(', ack ')
    line.number((line.u32(at + 8) - base.acknowledgment) >>> 0)
  }
  line.add(', win ')
  line.number(line.u16(at + 14))
  if (flags & URG) line.add(`, urg ${line.u16(at + 18)}`)
  if (headerLength > 20) {
    line.add(', options [')
    if (!printOptions(line, at + 20, at + headerLength, base.selective)) return
    line.add(']')
  }
  line.add(', length ')
  line.number(payload)
  if (payload === 0) return
  if (flags & RST) {
    if (line.verbosity > 0) printReset(line, at + headerLength, payload)
    return
  }
  printApplication(line, at + headerLength, payload, srcPort, dstPort, 'tcp')
}

function noHeader(line: Line, ip: IpContext): void {
  line.addresses(ip)
  line.add('[|tcp]')
}

interface Base {
  sequence: number
  acknowledgment: number
  /** What selective acknowledgments are relative to. */
  selective: number
}

/** Used again by each segment. */
const base: Base = { sequence: 0, acknowledgment: 0, selective: 0 }

/** What to subtract from the numbers of this segment: nothing for the first one of a connection. Valid until the next call. */
function relativeTo(
  line: Line,
  at: number,
  srcPort: number,
  dstPort: number,
  flags: number,
  ip: IpContext,
): Base {
  base.sequence = base.acknowledgment = base.selective = 0
  if (line.absoluteSequence || !(flags & ACK)) return base
  const { sequences: table } = line
  // One entry for both directions; which of them is the first of the pair does not matter.
  const isReverse = srcPort > dstPort || (srcPort === dstPort && isGreater(line, ip))
  fillKey(table.key, line, ip, isReverse, srcPort, dstPort)
  const { sequences, acknowledgments } = table
  let entry = table.find()
  if (entry < 0 || (flags & SYN) !== 0) {
    if (entry < 0) entry = table.add()
    const sequence = line.u32(at + 4)
    const acknowledgment = line.u32(at + 8)
    sequences[entry] = isReverse ? acknowledgment - 1 : sequence
    acknowledgments[entry] = isReverse ? sequence : acknowledgment - 1
  } else {
    base.sequence = isReverse ? acknowledgments[entry] : sequences[entry]
    base.acknowledgment = isReverse ? sequences[entry] : acknowledgments[entry]
  }
  base.selective = isReverse ? sequences[entry] : acknowledgments[entry]
  return base
}

/** The connection, with the same end first whichever way the segment goes. */
function fillKey(
  key: Uint32Array,
  line: Line,
  { version, at }: IpContext,
  isReverse: boolean,
  srcPort: number,
  dstPort: number,
): void {
  const size = version === 4 ? 4 : 16
  const source = version === 4 ? at + 12 : at + 8
  const first = isReverse ? source + size : source
  const second = isReverse ? source : source + size
  key.fill(0)
  key[KEY_VERSION] = version
  key[KEY_PORTS] = isReverse ? dstPort * 65536 + srcPort : srcPort * 65536 + dstPort
  for (let i = 0; i < size; i += 4) {
    key[KEY_FIRST + (i >>> 2)] = line.u32(first + i)
    key[KEY_SECOND + (i >>> 2)] = line.u32(second + i)
  }
}

function isGreater(line: Line, { version, at }: IpContext): boolean {
  const size = version === 4 ? 4 : 16
  const source = version === 4 ? at + 12 : at + 8
  for (let i = source; i < source + size; i++) {
    if (line.u8(i) !== line.u8(i + size)) return line.u8(i) > line.u8(i + size)
  }
  return false
}

function printChecksum(line: Line, at: number, length: number, ip: IpContext): void {
  const sum = line.u16(at + 16)
  line.add(', cksum ')
  line.hex16(sum)
  if (checkL4Checksum(line.bytes, 6, ip.at, at, at + length) === 'valid') return line.add(' (correct)')
  const wrong = checksum(line.bytes, at, length, pseudoHeaderSum(line.bytes, ip.at, 6, length))
  line.add(' (incorrect -> ')
  line.hex16(shouldBe(sum, wrong))
  line.add(')')
}

const optionNames: Readonly<Record<number, string>> = {
  0: 'eol',
  1: 'nop',
  2: 'mss',
  3: 'wscale',
  4: 'sackOK',
  5: 'sack',
  6: 'echo',
  7: 'echoreply',
  8: 'TS',
  11: 'cc',
  12: 'ccnew',
  13: 'ccecho',
  19: 'md5',
  20: 'scps',
  28: 'uto',
  29: 'tcp-ao',
  30: 'mptcp',
  34: 'tfo',
  254: 'exp',
}
/** What the experiment 254 is here: RFC 7413's first number for Fast Open. */
const EXPERIMENT_TFO = 0xf989

/** The options between the brackets; false when they were not sound, and the text ends with what was wrong. */
function printOptions(line: Line, from: number, end: number, base: number): boolean {
  for (let at = from; at < end;) {
    const bad = at > from ? '[bad opt]]' : '[bad opt]'
    if (at > from) line.add(',')
    if (!line.has(at, 1)) return wrong(line, ' [|tcp]')
    const kind = line.u8(at)
    const head = kind < 2 ? 1 : 2
    if (!line.has(at, head)) return wrong(line, ' [|tcp]')
    const length = kind < 2 ? 1 : line.u8(at + 1)
    if (length < head || at + length > end) return wrong(line, bad)
    line.add(optionNames[kind] ?? `unknown-${kind}`)
    const size = valueSize(kind, length - head)
    // As tcpdump does, which reads on behind an option that is too short for its kind.
    if (at + head + size > end || (kind === 254 && size < 2)) return wrong(line, bad)
    if (!line.has(at + head, size)) return wrong(line, ' [|tcp]')
    printValue(line, kind, at + 2, size, base)
    if (head + size !== length) line.add(`[len ${length}]`)
    if (kind === 0) break
    at += head + size
  }
  return true
}

function wrong(line: Line, text: string): false {
  line.add(text)
  return false
}

/** Bytes that an option's value takes, where `size` follow its head. */
function valueSize(kind: number, size: number): number {
  switch (kind) {
    case 0:
    case 1:
    case 4:
      return 0
    case 2:
    case 20:
    case 28:
      return 2
    case 3:
      return 1
    case 19:
      return 16
    case 6:
    case 7:
    case 11:
    case 12:
    case 13:
      return 4
    case 8:
      return 8
    default:
      return size
  }
}

/** The value with what is before it. */
function printValue(line: Line, kind: number, at: number, size: number, base: number): void {
  switch (kind) {
    case 0:
    case 1:
    case 4:
      return
    case 2:
      return numberAfter(line, ' ', line.u16(at))
    case 3:
      return numberAfter(line, ' ', line.u8(at))
    case 5:
      return size % 8 === 0 ? printBlocks(line, at, size, base) : line.add(' invalid sack')
    case 6:
    case 7:
    case 11:
    case 12:
    case 13:
      return numberAfter(line, ' ', line.u32(at))
    case 8:
      numberAfter(line, ' val ', line.u32(at))
      return numberAfter(line, ' ecr ', line.u32(at + 4))
    case 19:
      line.add(" shared secret not supplied with -M, can't check - ")
      return digits(line, at, size)
    case 20:
      return line.add(` cap ${line.u8(at).toString(16).padStart(2, '0')} id ${line.u8(at + 1)}`)
    case 28:
      return printTimeout(line, line.u16(at))
    case 29:
      return printAuthentication(line, at, size)
    case 34:
      line.add(' ')
      return printFastOpen(line, at, size)
    case 254:
      if (line.u16(at) !== EXPERIMENT_TFO) return line.add(`-${line.u16(at).toString(16).padStart(4, '0')}`)
      line.add('-tfo')
      return printFastOpen(line, at + 2, size - 2)
    default:
      if (size > 0) line.add(' 0x')
      digits(line, at, size)
  }
}

function digits(line: Line, at: number, size: number): void {
  for (let i = 0; i < size; i++) line.out.hex(line.u8(at + i), 2)
}

/** RFC 5482: minutes where the lowest bit is set, in tcpdump's reading, else seconds. */
function printTimeout(line: Line, value: number): void {
  line.add(` 0x${value.toString(16)} `)
  line.number(value & 1 ? (value >>> 1) * 60 : value >>> 1)
}

/** RFC 5925. */
function printAuthentication(line: Line, at: number, size: number): void {
  if (size < 2) return line.add(' (invalid)')
  line.add(` keyid ${line.u8(at)} rnextkeyid ${line.u8(at + 1)}`)
  if (size > 2) line.add(' mac 0x')
  digits(line, at + 2, size - 2)
}

/** RFC 7413: asks for a cookie, or brings one. */
function printFastOpen(line: Line, at: number, size: number): void {
  if (size === 0) return line.add(' cookiereq')
  if (size % 2 !== 0 || size < 4 || size > 16) return line.add(' (invalid)')
  line.add(' cookie ')
  digits(line, at, size)
}

function numberAfter(line: Line, text: string, value: number): void {
  line.add(text)
  line.number(value)
}

function printBlocks(line: Line, at: number, size: number, base: number): void {
  numberAfter(line, ' ', size / 8)
  line.add(' ')
  for (let i = 0; i < size; i += 8) {
    numberAfter(line, '{', (line.u32(at + i) - base) >>> 0)
    numberAfter(line, ':', (line.u32(at + i + 4) - base) >>> 0)
    line.add('}')
  }
}

/** RFC 1122 4.2.2.12: a reset may say why, in words. */
function printReset(line: Line, at: number, length: number): void {
  const isWhole = line.has(at, length)
  const shown = Math.min(length, 30)
  const text = printable(line.bytes, at, Math.min(at + shown, line.end))
  line.add(` [${isWhole ? '' : '!'}RST${length > shown ? '+' : ''} ${text}]`)
}
