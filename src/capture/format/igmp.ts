// IGMP messages: who asks for multicast groups, and who has them (RFC 1112, 2236, 3376).
import { formatIpv4 } from '../../packet/address.js'
import { checksum } from '../../packet/checksum.js'
import type { Line } from './line.js'

const QUERY = 0x11
/** Membership reports and leaving, by the type. */
const GROUP_MESSAGES: Readonly<Record<number, string>> = {
  0x12: 'v1 report',
  0x16: 'v2 report',
  0x17: 'leave',
}
const V3_REPORT = 0x22
/** RFC 3376 section 4.2.12. */
const RECORDS = ['', 'is_in', 'is_ex', 'to_in', 'to_ex', 'allow', 'block']
/** A response time of ten seconds, in tenths: the usual one, and not shown. */
const USUAL_TIME = 100

/** The message at `at`, of which `length` bytes were on the wire. */
export function printIgmp(line: Line, at: number, length: number): void {
  if (line.quiet) return line.add('igmp')
  if (length < 4 || !line.has(at, 4)) return line.add(' [|igmp]')
  const type = line.u8(at)
  const isShort = !line.has(at, Math.min(length, type === QUERY && length >= 12 ? 12 : 8))
  if (isShort || ((type === QUERY || GROUP_MESSAGES[type] !== undefined) && length < 8)) {
    return line.add(' [|igmp]')
  }
  if (type === QUERY) printQuery(line, at, length)
  else if (type === V3_REPORT) printReport(line, at, length)
  else if (GROUP_MESSAGES[type] !== undefined) {
    line.add(`igmp ${GROUP_MESSAGES[type]} ${formatIpv4(line.bytes, at + 4)}`)
    if (type !== 0x17 && length !== 8) line.add(` [len ${length}]`)
  } else line.add(`igmp-${type}`)
  if (line.verbosity > 0 && line.has(at, length) && checksum(line.bytes, at, length) !== 0) {
    line.add(` bad igmp cksum ${line.u16(at + 2).toString(16)}!`)
  }
}

function printQuery(line: Line, at: number, length: number): void {
  const code = line.u8(at + 1)
  const group = formatIpv4(line.bytes, at + 4)
  if (length < 12) {
    line.add(`igmp query ${code === 0 ? 'v1' : 'v2'}`)
    if (code !== 0 && code !== USUAL_TIME) line.add(` [max resp time ${code}]`)
    if (group !== '0.0.0.0') line.add(` [gaddr ${group}]`)
    return
  }
  line.add('igmp query v3')
  if (code !== USUAL_TIME) line.add(` [max resp time ${timeText(code)}]`)
  if (group === '0.0.0.0') return
  line.add(` [gaddr ${group}`)
  const sources = line.u16(at + 10)
  if (length < 12 + 4 * sources) line.add(' [invalid number of sources]')
  else if (sources > 0) {
    line.add(line.verbosity > 1 ? sourcesText(line, at + 12, sources) : `, ${sources} source(s)`)
  }
  line.add(']')
}

// RFC 3376 section 4.1.1: above 127 a number with an exponent.
function timeText(code: number): string {
  const tenths = code < 128 ? code : ((code & 0x0f) | 0x10) << (((code & 0x70) >> 4) + 3)
  if (tenths < 600) return `${(tenths / 10).toFixed(1)}s`
  const rest = tenths % 600
  return `${Math.floor(tenths / 600)}m${rest === 0 ? '' : `${Math.floor(rest / 10)}s`}`
}

function printReport(line: Line, at: number, length: number): void {
  line.add('igmp v3 report')
  if (length < 16) return line.add(` [invalid len ${length}]`)
  const groups = line.u16(at + 6)
  line.add(`, ${groups} group record(s)`)
  if (line.verbosity === 0) return
  let record = 8
  for (let i = 0; i < groups; i++) {
    if (length < record + 8) return line.add(' [invalid number of groups]')
    if (!line.has(at + record, 8)) return line.add(' [|igmp]')
    const type = line.u8(at + record)
    const sources = line.u16(at + record + 2)
    line.add(` [gaddr ${formatIpv4(line.bytes, at + record + 4)}`)
    line.add(` ${type > 0 && type < RECORDS.length ? RECORDS[type] : ` [v3-report-#${type}]`}`)
    if (length < record + 8 + 4 * sources) return line.add(` [invalid number of sources ${sources}]`)
    line.add(line.verbosity > 1 ? sourcesText(line, at + record + 8, sources) : `, ${sources} source(s)`)
    line.add(']')
    record += 8 + 4 * sources
  }
}

function sourcesText(line: Line, at: number, count: number): string {
  let text = ' {'
  for (let i = 0; i < count && line.has(at + 4 * i, 4); i++) text += ` ${formatIpv4(line.bytes, at + 4 * i)}`
  return `${text} }`
}
