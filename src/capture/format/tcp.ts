// TCP segments: flags, sequence numbers relative to the connection's first, options, and what they carry.
import { formatIpv4, formatIpv6 } from '../../packet/address.js'
import { checkL4Checksum, pseudoHeaderSum } from '../../packet/l4.js'
import { checksum } from '../../packet/checksum.js'
import { printApplication } from './application.js'
import { shouldBe, type IpContext } from './context.js'
import { printable, type Line } from './line.js'

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
    const [text, isSound] = optionTexts(line, at + 20, at + headerLength, base.selective)
    line.add(`, options [${text}`)
    if (!isSound) return
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

/** What to subtract from the numbers of this segment: nothing for the first one of a connection. */
function relativeTo(
  line: Line,
  at: number,
  srcPort: number,
  dstPort: number,
  flags: number,
  ip: IpContext,
): Base {
  if (line.absoluteSequence || !(flags & ACK)) return { sequence: 0, acknowledgment: 0, selective: 0 }
  const sequence = line.u32(at + 4)
  const acknowledgment = line.u32(at + 8)
  // One entry for both directions; which of them is the first of the pair does not matter.
  const isReverse = srcPort > dstPort || (srcPort === dstPort && isGreater(line, ip))
  const key = isReverse
    ? `${destinationOf(line, ip)} ${dstPort} ${sourceOf(line, ip)} ${srcPort}`
    : `${sourceOf(line, ip)} ${srcPort} ${destinationOf(line, ip)} ${dstPort}`
  const { start, isFirst } = line.sequences.find(key, (flags & SYN) !== 0, () =>
    isReverse
      ? { sequence: acknowledgment - 1, acknowledgment: sequence }
      : { sequence, acknowledgment: acknowledgment - 1 },
  )
  const selective = isReverse ? start.sequence : start.acknowledgment
  if (isFirst) return { sequence: 0, acknowledgment: 0, selective }
  return isReverse
    ? { sequence: start.acknowledgment, acknowledgment: start.sequence, selective }
    : { ...start, selective }
}

const sourceOf = ({ bytes }: Line, { version, at }: IpContext): string =>
  version === 4 ? formatIpv4(bytes, at + 12) : formatIpv6(bytes, at + 8)

const destinationOf = ({ bytes }: Line, { version, at }: IpContext): string =>
  version === 4 ? formatIpv4(bytes, at + 16) : formatIpv6(bytes, at + 24)

function isGreater(line: Line, ip: IpContext): boolean {
  const [src, dst, size] = ip.version === 4 ? [ip.at + 12, ip.at + 16, 4] : [ip.at + 8, ip.at + 24, 16]
  for (let i = 0; i < size; i++) {
    if (line.u8(src + i) !== line.u8(dst + i)) return line.u8(src + i) > line.u8(dst + i)
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
}

/** The options between the brackets, and whether they were sound; if not, the text ends with what was wrong. */
function optionTexts(line: Line, from: number, end: number, base: number): [string, boolean] {
  const found: string[] = []
  for (let at = from; at < end;) {
    if (!line.has(at, 1)) return [`${found.map((text) => `${text},`).join('')} [|tcp]`, false]
    const kind = line.u8(at)
    const isSingle = kind < 2
    const length = isSingle ? 1 : line.has(at + 1, 1) ? line.u8(at + 1) : 0
    if (!isSingle && (length < 2 || at + length > end)) {
      return [`${found.map((text) => `${text},`).join('')}[bad opt]`, false]
    }
    if (!line.has(at, length)) return [`${found.map((text) => `${text},`).join('')} [|tcp]`, false]
    const name = optionNames[kind] ?? `unknown-${kind}`
    const [value, size] = optionValue(line, kind, at + 2, length - 2, base)
    if (size > length - (isSingle ? 1 : 2)) {
      return [`${found.map((text) => `${text},`).join('')}${name}[bad opt]`, false]
    }
    const taken = size + (isSingle ? 1 : 2)
    found.push(`${name}${value}${taken === length ? '' : `[len ${length}]`}`)
    if (kind === 0) break
    at += taken
  }
  return [found.join(','), true]
}

/** The value with what is before it, and how many bytes it takes. */
function optionValue(line: Line, kind: number, at: number, size: number, base: number): [string, number] {
  switch (kind) {
    case 0:
    case 1:
    case 4:
      return ['', 0]
    case 2:
      return size < 2 ? ['', 2] : [` ${line.u16(at)}`, 2]
    case 3:
      return size < 1 ? ['', 1] : [` ${line.u8(at)}`, 1]
    case 5:
      return size % 8 === 0 ? [` ${size / 8} ${blocks(line, at, size, base)}`, size] : [' invalid sack', size]
    case 6:
    case 7:
    case 11:
    case 12:
    case 13:
      return size < 4 ? ['', 4] : [` ${line.u32(at)}`, 4]
    case 8:
      return size < 8 ? ['', 8] : [` val ${line.u32(at)} ecr ${line.u32(at + 4)}`, 8]
    default: {
      let hex = size > 0 ? ' 0x' : ''
      for (let i = 0; i < size; i++)
        hex += line
          .u8(at + i)
          .toString(16)
          .padStart(2, '0')
      return [hex, size]
    }
  }
}

function blocks(line: Line, at: number, size: number, base: number): string {
  let text = ''
  for (let i = 0; i < size; i += 8) {
    text += `{${(line.u32(at + i) - base) >>> 0}:${(line.u32(at + i + 4) - base) >>> 0}}`
  }
  return text
}

/** RFC 1122 4.2.2.12: a reset may say why, in words. */
function printReset(line: Line, at: number, length: number): void {
  const isWhole = line.has(at, length)
  const shown = Math.min(length, 30)
  const text = printable(line.bytes, at, Math.min(at + shown, line.end))
  line.add(` [${isWhole ? '' : '!'}RST${length > shown ? '+' : ''} ${text}]`)
}
