// ICMPv6 messages (RFC 4443), neighbour discovery (RFC 4861) and multicast listeners (RFC 2710, 3810).
import { formatIpv6, formatMac } from '../../packet/address.js'
import { checksum } from '../../packet/checksum.js'
import { checkL4Checksum, pseudoHeaderSum } from '../../packet/l4.js'
import { dumpHex } from './dump.js'
import { shouldBe, type IpContext } from './context.js'
import type { Line } from './line.js'

const names: Readonly<Record<number, string>> = {
  1: 'destination unreachable',
  2: 'packet too big',
  3: 'time exceeded in-transit',
  4: 'parameter problem',
  128: 'echo request',
  129: 'echo reply',
  130: 'multicast listener query',
  131: 'multicast listener report',
  132: 'multicast listener done',
  133: 'router solicitation',
  134: 'router advertisement',
  135: 'neighbor solicitation',
  136: 'neighbor advertisement',
  137: 'redirect',
  143: 'multicast listener report v2',
}

/** The last code of an unreachable destination that has words. */
const PORT_UNREACHABLE = 4
const ROUTER_SOLICITATION = 133
const REDIRECT = 137

const recordTypes = ['', 'is_in', 'is_ex', 'to_in', 'to_ex', 'allow', 'block']

/** RFC 3810 section 5.2: the groups that a listener reports, and the sources it wants of them. */
function printGroups(line: Line, at: number, end: number): void {
  let record = at + 8
  for (let i = line.u16(at + 6); i > 0; i--) {
    if (record + 20 > end) return line.add(' [|icmp6]')
    const sources = line.u16(record + 2)
    const kind = recordTypes[line.u8(record)] ?? `unknown-#${line.u8(record)}`
    line.add(` [gaddr ${formatIpv6(line.bytes, record + 4)} ${kind}`)
    const next = record + 20 + 16 * sources
    if (next > end) return line.add(' [|icmp6]')
    if (line.verbosity > 1) {
      const all = Array.from({ length: sources }, (_, n) => formatIpv6(line.bytes, record + 20 + 16 * n))
      line.add(` {${all.map((source) => ` ${source}`).join('')} }]`)
    } else {
      line.add(`, ${sources} source(s)]`)
    }
    record = next + 4 * line.u8(record + 1)
  }
}

/** The message at `at`, of which `length` bytes were on the wire. */
export function printIcmp6(line: Line, at: number, length: number, ip: IpContext): void {
  if (!line.has(at, 8)) return line.add('ICMP6 [|icmp6]')
  if (line.verbosity > 0 && !ip.isFragment && line.has(at, length)) printChecksum(line, at, length, ip)
  const type = line.u8(at)
  line.add(`ICMP6, ${names[type] ?? `unknown icmp6 type (${type})`}`)
  const isNeighbour = type >= ROUTER_SOLICITATION && type <= REDIRECT
  if (line.verbosity > 0 && isNeighbour) line.add(`, length ${length}`)
  const text = describe(line, at, type, line.u8(at + 1))
  if (text === undefined) return line.add(' [|icmp6]')
  line.add(text)
  if (type === 1 && line.u8(at + 1) > PORT_UNREACHABLE && line.verbosity < 2)
    return line.add(dumpHex(line.bytes, at, Math.min(at + length, line.end), false, '\n\t'))
  if (line.verbosity === 0) return line.add(`, length ${length}`)
  const end = Math.min(at + length, line.end)
  if (isNeighbour) printOptions(line, at + optionsAt(type), end)
  else if (type === 143) printGroups(line, at, end)
}

function printChecksum(line: Line, at: number, length: number, ip: IpContext): void {
  if (checkL4Checksum(line.bytes, 58, ip.at, at, at + length) === 'valid') return line.add('[icmp6 sum ok] ')
  const sum = line.u16(at + 2)
  const wrong = checksum(line.bytes, at, length, pseudoHeaderSum(line.bytes, ip.at, 58, length))
  line.add(`[bad icmp6 cksum ${line.hex(sum, 4)} -> ${line.hex(shouldBe(sum, wrong), 4)}!] `)
}

function describe(line: Line, at: number, type: number, code: number): string | undefined {
  switch (type) {
    case 1:
      return describeUnreachable(line, at, code)
    case 2:
      return `, mtu ${line.u32(at + 4)}`
    case 3:
      if (!line.has(at, 48)) return undefined
      if (code === 0) return ` for ${formatIpv6(line.bytes, at + 32)}`
      return code === 1 ? ' (reassembly)' : `, unknown code (${code})`
    case 4:
      if (code === 0) return `, erroneous - octet ${line.u32(at + 4)}`
      if (code === 1) return `, next header - octet ${line.u32(at + 4)}`
      if (code === 2) return `, option - octet ${line.u32(at + 4)}`
      return code === 3 ? `, incomplete header chain - octet ${line.u32(at + 4)}` : `, code-#${code}`
    case 128:
    case 129:
      return `, id ${line.u16(at + 4)}, seq ${line.u16(at + 6)}`
    case 130:
    case 131:
    case 132:
      if (!line.has(at, 24)) return undefined
      return `max resp delay: ${line.u16(at + 4)} addr: ${formatIpv6(line.bytes, at + 8)}`
    case 134:
      return line.verbosity > 0 ? describeRouter(line, at) : ''
    case 135:
      return line.has(at, 24) ? `, who has ${formatIpv6(line.bytes, at + 8)}` : undefined
    case 136:
      return line.has(at, 24)
        ? `, tgt is ${formatIpv6(line.bytes, at + 8)}${line.verbosity > 0 ? advertisementFlags(line.u8(at + 4)) : ''}`
        : undefined
    case 137:
      if (!line.has(at, 40)) return undefined
      return `, ${formatIpv6(line.bytes, at + 24)} to ${formatIpv6(line.bytes, at + 8)}`
    case 143:
      return `, ${line.u16(at + 6)} group record(s)`
    default:
      return ''
  }
}

function describeUnreachable(line: Line, at: number, code: number): string | undefined {
  if (!line.has(at, 48)) return undefined
  const src = formatIpv6(line.bytes, at + 16)
  const dst = formatIpv6(line.bytes, at + 32)
  switch (code) {
    case 0:
      return `, unreachable route ${dst}`
    case 1:
      return `,  unreachable prohibited ${dst}`
    case 2:
      return `, beyond scope ${dst}, source address ${src}`
    case 3:
      return `, unreachable address ${dst}`
    case 4: {
      const protocol = line.u8(at + 14)
      if (!line.has(at + 48, 4)) return undefined
      const port = line.u16(at + 50)
      if (protocol === 6) return `, unreachable port, ${dst} tcp port ${line.port(port, 'tcp')}`
      if (protocol === 17) return `, unreachable port, ${dst} udp port ${line.port(port, 'udp')}`
      return `, unreachable port, ${dst} protocol ${protocol} port ${port}`
    }
    default:
      return `, unknown unreach code (${code})`
  }
}

function advertisementFlags(flags: number): string {
  const set = [flags & 0x80 && 'router', flags & 0x40 && 'solicited', flags & 0x20 && 'override']
  return `, Flags [${set.filter(Boolean).join(', ') || 'none'}]`
}

function describeRouter(line: Line, at: number): string | undefined {
  if (!line.has(at, 16)) return undefined
  const flags = line.u8(at + 5)
  const set = [flags & 0x80 && 'managed', flags & 0x40 && 'other stateful', flags & 0x20 && 'home agent']
  const preference = ['medium', 'high', 'reserved', 'low'][(flags >>> 3) & 3]
  return (
    `\n\thop limit ${line.u8(at + 4)}, Flags [${set.filter(Boolean).join(', ') || 'none'}], pref ${preference}` +
    `, router lifetime ${line.u16(at + 6)}s, reachable time ${line.u32(at + 8)}ms` +
    `, retrans timer ${line.u32(at + 12)}ms`
  )
}

function optionsAt(type: number): number {
  return type === 133 ? 8 : type === 134 ? 16 : type === 137 ? 40 : 24
}

const optionNames: Readonly<Record<number, string>> = {
  1: 'source link-address',
  2: 'destination link-address',
  3: 'prefix info',
  4: 'redirected header',
  5: 'mtu',
  24: 'route info',
  25: 'rdnss',
  31: 'dnssl',
}

function printOptions(line: Line, from: number, end: number): void {
  for (let at = from; at < end;) {
    if (!line.has(at, 2)) return line.add(' [|icmp6]')
    const kind = line.u8(at)
    const length = line.u8(at + 1) * 8
    if (length === 0 || at + length > end) return line.add(' [|icmp6]')
    line.add(`\n\t  ${optionNames[kind] ?? 'unknown'} option (${kind}), length ${length} (${length / 8}): `)
    if (kind === 1 || kind === 2) line.add(linkAddress(line, at, length))
    else if (kind === 3 && length === 32) line.add(prefixText(line, at))
    else if (kind === 5 && length === 8) line.add(` ${line.u32(at + 4)}`)
    if (line.verbosity > 1) line.add(dumpHex(line.bytes, at + 2, at + length, false, '\n\t    '))
    at += length
  }
}

function linkAddress(line: Line, at: number, length: number): string {
  if (length === 8) return formatMac(line.bytes, at + 2)
  return Array.from(line.bytes.subarray(at + 2, at + length), (byte) =>
    byte.toString(16).padStart(2, '0'),
  ).join(':')
}

function prefixText(line: Line, at: number): string {
  const flags = line.u8(at + 3)
  const set = [flags & 0x80 && 'onlink', flags & 0x40 && 'auto', flags & 0x20 && 'router']
  const seconds = (value: number) => (value === 0xffffffff ? 'infinity' : `${value}s`)
  return (
    `${formatIpv6(line.bytes, at + 16)}/${line.u8(at + 2)}, Flags [${set.filter(Boolean).join(', ') || 'none'}]` +
    `, valid time ${seconds(line.u32(at + 4))}, pref. time ${seconds(line.u32(at + 8))}`
  )
}
