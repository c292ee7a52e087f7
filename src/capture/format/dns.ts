// DNS messages (RFC 1035): the question of a query, the answers of a response.
import { formatIpv4, formatIpv6 } from '../../packet/address.js'
import { printable, type Line } from './line.js'

const types: Readonly<Record<number, string>> = {
  1: 'A',
  2: 'NS',
  5: 'CNAME',
  6: 'SOA',
  12: 'PTR',
  13: 'HINFO',
  15: 'MX',
  16: 'TXT',
  28: 'AAAA',
  29: 'LOC',
  33: 'SRV',
  35: 'NAPTR',
  39: 'DNAME',
  41: 'OPT',
  43: 'DS',
  44: 'SSHFP',
  46: 'RRSIG',
  47: 'NSEC',
  48: 'DNSKEY',
  50: 'NSEC3',
  52: 'TLSA',
  64: 'SVCB',
  65: 'HTTPS',
  251: 'IXFR',
  252: 'AXFR',
  255: 'ANY',
  256: 'URI',
  257: 'CAA',
}
const operations = ['', ' inv_q', ' stat', ' op3', ' notify', ' update']
const responses = [
  '',
  ' FormErr',
  ' ServFail',
  ' NXDomain',
  ' NotImp',
  ' Refused',
  ' YXDomain',
  ' YXRRSet',
  ' NXRRSet',
  ' NotAuth',
  ' NotZone',
]

/** Of a class in multicast DNS: answer me alone, or forget what you knew. */
const TOP = 0x8000

/** Where a message is, and whether it is one of multicast DNS, which uses the top bit of a class (RFC 6762). */
interface Message {
  at: number
  end: number
  isMulticast: boolean
}

/** The message at `at`, of which `length` bytes were on the wire. */
export function printDns(line: Line, at: number, length: number, isMulticast: boolean): void {
  const end = Math.min(at + length, line.end)
  if (length < 12) return line.add(`domain [length ${length} < 12] (invalid)`)
  if (at + 12 > end) return line.add(' [|domain]')
  const flags = line.u16(at + 2)
  const counts = [0, 1, 2, 3].map((i) => line.u16(at + 4 + 2 * i))
  const isResponse = (flags & 0x8000) !== 0
  const operation = operations[(flags >>> 11) & 0x0f] ?? ` op${(flags >>> 11) & 0x0f}`
  line.add(`${line.u16(at)}${operation}`)
  const message = { at, end, isMulticast }
  const isWhole = isResponse
    ? printResponse(line, message, flags, counts)
    : printQuery(line, message, flags, counts)
  line.add(isWhole ? ` (${length})` : ' [|domain]')
}

function printQuery(line: Line, message: Message, flags: number, counts: number[]): boolean {
  const { at, end } = message
  const [questions, answers, authorities, additional] = counts
  if (flags & 0x0100) line.add('+')
  if (flags & 0x0010) line.add('%')
  if (flags & 0x06cf) line.add(` [b2&3=${line.hex(flags)}]`)
  if (answers) line.add(` [${answers}a]`)
  if (questions !== 1) line.add(` [${questions}q]`)
  if (authorities) line.add(` [${authorities}n]`)
  if (additional) line.add(` [${additional}au]`)
  let next = at + 12
  for (let i = 0; i < questions; i++) {
    if (next >= end) return false
    next = printQuestion(line, message, next)
    if (next < 0) return false
  }
  if (line.verbosity < 2) return true
  return printSections(line, message, next, [
    [answers, ''],
    [authorities, ' ns:'],
    [additional, ' ar:'],
  ])
}

function printQuestion(line: Line, { at: start, end, isMulticast }: Message, at: number): number {
  const name = readName(line, start, at, end)
  if (!name || name.next + 4 > end) return -1
  const kind = line.u16(name.next)
  const group = line.u16(name.next + 2)
  const way = isMulticast ? (group & TOP ? ' (QU)' : ' (QM)') : ''
  line.add(` ${types[kind] ?? `Type${kind}`}${way}${className(group & ~TOP)}? ${name.text}`)
  return name.next + 4
}

function className(group: number): string {
  return group === 1 ? '' : group === 3 ? ' CHAOS' : group === 255 ? ' ANY' : ` (Class ${group})`
}

function printResponse(line: Line, message: Message, flags: number, counts: number[]): boolean {
  const { at, end } = message
  const [questions, answers, authorities, additional] = counts
  line.add(responses[flags & 0x0f] ?? ` Resp${flags & 0x0f}`)
  if (flags & 0x0400) line.add('*')
  if (!(flags & 0x0080)) line.add('-')
  if (flags & 0x0200) line.add('|')
  if (flags & 0x0020) line.add('$')
  if (questions !== 1) line.add(` [${questions}q]`)
  let next = at + 12
  for (let i = 0; i < questions; i++) {
    if (line.verbosity > 1) {
      line.add(i === 0 ? ' q:' : ',')
      next = printQuestion(line, message, next)
      if (next < 0) return false
    } else {
      const name = readName(line, at, next, end)
      if (!name || name.next + 4 > end) return false
      next = name.next + 4
    }
  }
  line.add(` ${answers}/${authorities}/${additional}`)
  const sections: Section[] = [[answers, '']]
  if (line.verbosity > 1) sections.push([authorities, ' ns:'], [additional, ' ar:'])
  return printSections(line, message, next, sections)
}

type Section = [count: number, name: string]

/** The records of sections, one after the other. */
function printSections(line: Line, message: Message, first: number, sections: Section[]): boolean {
  let next = first
  for (const [count, name] of sections) {
    if (count > 0) line.add(name)
    for (let i = 0; i < count; i++) {
      if (i > 0) line.add(',')
      next = printRecord(line, message, next)
      if (next < 0) return false
    }
  }
  return true
}

function printRecord(line: Line, { at: start, end, isMulticast }: Message, at: number): number {
  const owner = readName(line, start, at, end)
  if (!owner || owner.next + 10 > end) return -1
  if (line.verbosity > 0) line.add(` ${owner.text}`)
  const kind = line.u16(owner.next)
  const group = line.u16(owner.next + 2)
  const data = owner.next + 10
  const length = line.u16(owner.next + 8)
  const next = data + length
  if (kind !== 41) {
    line.add(className(group & ~TOP))
    if (isMulticast && (group & TOP) !== 0) line.add(' (Cache flush)')
  }
  line.add(` ${types[kind] ?? `Type${kind}`}`)
  if (next > end) return -1
  const text = recordText(line, start, kind, group, data, length)
  if (text === undefined) return -1
  line.add(text)
  return next
}

function recordText(
  line: Line,
  message: number,
  kind: number,
  group: number,
  at: number,
  length: number,
): string | undefined {
  const end = at + length
  const name = (from: number) => readName(line, message, from, end)
  switch (kind) {
    case 1:
      return length === 4 ? ` ${formatIpv4(line.bytes, at)}` : undefined
    case 28:
      return length === 16 ? ` ${formatIpv6(line.bytes, at)}` : undefined
    case 2:
    case 5:
    case 12:
    case 39: {
      const target = name(at)
      return target && ` ${target.text}`
    }
    case 15: {
      const target = length > 2 ? name(at + 2) : undefined
      return target && ` ${target.text} ${line.u16(at)}`
    }
    case 33: {
      const target = length > 6 ? name(at + 6) : undefined
      return target && ` ${target.text}:${line.u16(at + 4)} ${line.u16(at)} ${line.u16(at + 2)}`
    }
    case 16: {
      let text = ''
      for (let i = at; i < end; i += 1 + line.u8(i)) {
        text += ` "${printable(line.bytes, i + 1, Math.min(i + 1 + line.u8(i), end))}"`
      }
      return text
    }
    case 6: {
      if (line.verbosity === 0) return ''
      const primary = name(at)
      const mailbox = primary && name(primary.next)
      if (!mailbox || mailbox.next + 20 > end) return undefined
      const numbers = [0, 4, 8, 12, 16].map((offset) => line.u32(mailbox.next + offset))
      return ` ${primary.text} ${mailbox.text} ${numbers.join(' ')}`
    }
    case 41:
      return ` UDPsize=${group}`
    default:
      return ''
  }
}

/** The name at `at` with its final dot, and where it ends there; undefined when it is cut off or runs in a circle. */
function readName(
  line: Line,
  message: number,
  at: number,
  end: number,
): { text: string; next: number } | undefined {
  let text = ''
  let next = -1
  // A name has at most 127 labels; compression must not make more of them.
  for (let i = at, jumps = 0, labels = 0; labels < 128;) {
    if (i >= line.end) return undefined
    const length = line.u8(i)
    if (length >= 0xc0) {
      if (i + 2 > line.end || ++jumps > 64) return undefined
      if (next < 0) next = i + 2
      i = message + (line.u16(i) & 0x3fff)
      continue
    }
    if (length > 63) return undefined
    if (length === 0) {
      if (next < 0) next = i + 1
      return next <= end ? { text: text === '' ? '.' : text, next } : undefined
    }
    if (i + 1 + length > line.end) return undefined
    text += `${printable(line.bytes, i + 1, i + 1 + length)}.`
    labels++
    i += 1 + length
  }
  return undefined
}
