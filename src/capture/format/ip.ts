// IPv4 and IPv6 headers, and what is under them.
import { formatIpv4 } from '../../packet/address.js'
import { checksum } from '../../packet/checksum.js'
import { shouldBe, type IpContext } from './context.js'
import { printIcmp } from './icmp.js'
import { printIgmp } from './igmp.js'
import { printIcmp6 } from './icmp6.js'
import type { Line } from './line.js'
import { ipProtocols } from './names.js'
import { printTcp } from './tcp.js'
import { printUdp } from './udp.js'

/** Quotes in quotes are printed this deep. */
const MAX_DEPTH = 3

/** The IPv4 or IPv6 packet at `at`, of which `length` bytes were on the wire. */
export function printIp(line: Line, at: number, length: number): void {
  if (!line.has(at, 1)) return line.add('IP [|ip]')
  const version = line.u8(at) >>> 4
  if (version === 4) printIpv4(line, at, length)
  else if (version === 6) printIpv6(line, at, length)
  else line.add(`IP${version} (invalid)`)
}

export function printIpv4(line: Line, at: number, length: number): void {
  if (!line.has(at, 1)) return line.add(' [|ip]')
  const version = line.u8(at) >>> 4
  if (version !== 4) {
    return line.add(
      version === 6 ? 'IP6, wrong link-layer encapsulation (invalid)' : `IP${version} (invalid)`,
    )
  }
  if (!line.linkHeader) line.add('IP ')
  if (length < 20) return line.add(`truncated-ip ${length}`)
  if (!line.has(at, 20)) return line.add(' [|ip]')
  const headerLength = (line.u8(at) & 0x0f) * 4
  if (headerLength < 20) return line.add(`bad-hlen ${headerLength}`)
  let total = line.u16(at + 2)
  if (length < total) line.add(`truncated-ip - ${total - length} bytes missing! `)
  // A length of 0 is what the kernel shows of a packet that the device is to cut in pieces.
  if (total === 0) total = length
  if (total < headerLength) return line.add(`bad-len ${total}`)
  const outerEnd = line.end
  line.end = Math.min(line.end, at + total)
  const fragment = line.u16(at + 6)
  if (line.verbosity > 0) printIpv4Fields(line, at, headerLength, fragment)
  const protocol = line.u8(at + 9)
  const context = line.context(4, at)
  context.isFragment = (fragment & 0x3fff) !== 0
  if ((fragment & 0x1fff) === 0) {
    printProtocol(line, protocol, at + headerLength, total - headerLength, context)
  } else {
    line.addresses(context)
    line.add(`ip-proto-${protocol}`)
  }
  line.end = outerEnd
}

const ecn = ['', ',ECT(1)', ',ECT(0)', ',CE']
/** By the upper three bits of the field: those that are set, from MF up. */
const fragmentFlags = ['none', '+', 'DF', '+, DF', 'rsvd', '+, rsvd', 'DF, rsvd', '+, DF, rsvd']

function printIpv4Fields(line: Line, at: number, headerLength: number, fragment: number): void {
  const tos = line.u8(at + 1)
  const ttl = line.u8(at + 8)
  const protocol = line.u8(at + 9)
  line.add('(tos 0x')
  line.out.hex(tos, tos < 0x10 ? 1 : 2)
  line.add(ecn[tos & 3])
  if (ttl > 0) {
    line.add(', ttl ')
    line.number(ttl)
  }
  line.add(', id ')
  line.number(line.u16(at + 4))
  line.add(', offset ')
  line.number((fragment & 0x1fff) * 8)
  line.add(', flags [')
  line.add(fragmentFlags[fragment >>> 13])
  line.add('], proto ')
  line.add(ipProtocols[protocol] ?? 'unknown')
  line.add(' (')
  line.number(protocol)
  line.add('), length ')
  line.number(line.u16(at + 2))
  if (headerLength > 20) line.add(`, options (${ipv4Options(line, at + 20, at + headerLength)})`)
  if (line.has(at, headerLength)) {
    const wrong = checksum(line.bytes, at, headerLength)
    if (wrong !== 0) {
      const sum = line.u16(at + 10)
      line.add(`, bad cksum ${sum.toString(16)} (->${shouldBe(sum, wrong).toString(16)})!`)
    }
  }
  line.add(')\n    ')
}

const optionNames: Readonly<Record<number, string>> = {
  0: 'EOL',
  1: 'NOP',
  7: 'RR',
  68: 'timestamp',
  82: 'traceroute',
  130: 'security',
  131: 'LSRR',
  137: 'SSRR',
  148: 'RA',
}

function ipv4Options(line: Line, from: number, end: number): string {
  const found: string[] = []
  for (let at = from; at < end;) {
    if (!line.has(at, 1)) return `${found.join(',')} [truncated-option]`
    const kind = line.u8(at)
    let text = optionNames[kind] ?? `unknown ${kind}`
    const length = kind < 2 ? 1 : line.has(at + 1, 1) ? line.u8(at + 1) : 0
    const isBad = length < (kind < 2 ? 1 : 2) || at + length > end
    if (isBad) text += ` [bad length ${length}]`
    else if (kind === 7 || kind === 131 || kind === 137) text += route(line, at, length)
    else if (kind === 148 && length >= 4 && line.has(at, 4) && line.u16(at + 2) !== 0) {
      text += ` value ${line.u16(at + 2)}`
    }
    found.push(text)
    if (kind === 0 || isBad) break
    at += length
  }
  return found.join(',')
}

function route(line: Line, at: number, length: number): string {
  if (length < 3) return ` [bad length ${length}]`
  if (!line.has(at, length)) return ' [|ip]'
  let text = (length + 1) & 3 ? ` [bad length ${length}]` : ''
  const pointer = line.u8(at + 2) - 1
  if (pointer < 3 || (pointer + 1) & 3 || pointer > length + 1) text += ` [bad ptr ${line.u8(at + 2)}]`
  for (let i = 3; i < length; i += 4) {
    if (!line.has(at + i, 4)) break
    text += ` ${formatIpv4(line.bytes, at + i)}${pointer > i ? ',' : ''}`
  }
  return text
}

export function printIpv6(line: Line, at: number, length: number): void {
  if (!line.has(at, 40)) return line.add(' [|ip6]')
  const version = line.u8(at) >>> 4
  if (!line.linkHeader) line.add('IP6 ')
  if (version !== 6) return line.add(`version error: ${version} != 6`)
  if (length < 40) return line.add(`truncated-ip6 ${length}`)
  const payload = line.u16(at + 4)
  if (length < payload + 40) line.add(`truncated-ip6 - ${payload + 40 - length} bytes missing!`)
  if (line.verbosity > 0) printIpv6Fields(line, at, payload)
  const outerEnd = line.end
  line.end = Math.min(line.end, at + 40 + payload)
  printIpv6Chain(line, at, payload, line.context(6, at))
  line.end = outerEnd
}

function printIpv6Fields(line: Line, at: number, payload: number): void {
  const word = line.u32(at)
  const trafficClass = (word >>> 20) & 0xff
  const flow = word & 0xfffff
  const next = line.u8(at + 6)
  line.add('(')
  if (trafficClass !== 0) line.add(`class ${line.hex(trafficClass, 2)}, `)
  if (flow !== 0) {
    line.add('flowlabel 0x')
    line.out.hex(flow, 5)
    line.add(', ')
  }
  line.add('hlim ')
  line.number(line.u8(at + 7))
  line.add(', next-header ')
  line.add(ipProtocols[next] ?? 'unknown')
  line.add(' (')
  line.number(next)
  line.add(') payload length: ')
  line.number(payload)
  line.add(') ')
}

function printIpv6Chain(line: Line, start: number, payload: number, context: IpContext): void {
  let protocol = line.u8(start + 6)
  let at = start + 40
  const end = start + 40 + payload
  for (;;) {
    if (!isIpv6Extension(protocol)) {
      printProtocol(line, protocol, at, end - at, context)
      return
    }
    if (context.isDirect) line.addresses(context)
    context.isDirect = false
    if (!line.has(at, 8)) return line.add(`[|${extensionNames[protocol]}]`)
    const isFragment = protocol === 44
    const length = isFragment ? 8 : protocol === 51 ? (line.u8(at + 1) + 2) * 4 : (line.u8(at + 1) + 1) * 8
    if (isFragment) {
      const field = line.u16(at + 2)
      context.isFragment = true
      line.add(fragmentText(line, at, field, end))
      if ((field & 0xfff8) !== 0) return
      line.add(' ')
    } else {
      line.add(extensionText(line, at, length, protocol))
    }
    protocol = line.u8(at)
    at += length
    if (at > line.end) return
  }
}

const extensionNames: Readonly<Record<number, string>> = {
  0: 'hbhopt',
  43: 'rt6',
  44: 'frag6',
  51: 'ah',
  60: 'dstopt',
}

function isIpv6Extension(protocol: number): boolean {
  return extensionNames[protocol] !== undefined
}

function fragmentText(line: Line, at: number, field: number, end: number): string {
  const offset = field & 0xfff8
  const bytes = end - at - 8
  const id = line.verbosity > 0 ? `${line.hex(line.u32(at + 4), 8)}:` : ''
  return `frag (${id}${offset}|${bytes})`
}

function extensionText(line: Line, at: number, length: number, protocol: number): string {
  switch (protocol) {
    case 0:
      return `HBH ${line.verbosity > 0 ? optionText(line, at, length) : ''}`
    case 60:
      return `DSTOPT ${line.verbosity > 0 ? optionText(line, at, length) : ''}`
    case 43: {
      const type = line.u8(at + 2)
      // RFC 5095 has put an end to type 0.
      const kind = type === 0 ? `0 [Deprecated]` : String(type)
      const reserved = line.verbosity > 0 && type === 0 ? `, rsv=${line.hex(line.u32(at + 4))}` : ''
      return `RT6 (len=${line.u8(at + 1)}, type=${kind}, segleft=${line.u8(at + 3)}${reserved}) `
    }
    default: {
      if (!line.has(at, 12)) return '[|ah]'
      const size = line.verbosity > 0 ? `length=${line.u8(at + 1)}(${length}-bytes),` : ''
      const [spi, sequence] = [line.hex(line.u32(at + 4), 8), line.hex(line.u32(at + 8))]
      return `AH(${size}spi=${spi},seq=${sequence},icv=0x${hexOf(line, at + 12, at + length)}): `
    }
  }
}

function hexOf(line: Line, from: number, to: number): string {
  let text = ''
  for (let i = from; i < Math.min(to, line.end); i++) text += line.u8(i).toString(16).padStart(2, '0')
  return text
}

function optionText(line: Line, start: number, length: number): string {
  let text = ''
  const end = Math.min(start + length, line.end)
  for (let at = start + 2; at < end;) {
    const kind = line.u8(at)
    if (kind === 0) {
      text += '(pad1)'
      at++
      continue
    }
    if (at + 1 >= end) break
    const size = line.u8(at + 1)
    if (kind === 1) text += '(padn)'
    else if (kind === 5 && size === 2 && at + 4 <= end) text += `(rtalert: ${line.hex(line.u16(at + 2), 4)}) `
    else text += `(opt_type ${line.hex(kind, 2)}: len=${size})`
    at += 2 + size
  }
  return text.endsWith(' ') ? text : `${text} `
}

/** The transport at `at`, of which `length` bytes were on the wire. */
function printProtocol(line: Line, protocol: number, at: number, length: number, ip: IpContext): void {
  if (protocol === 6) return printTcp(line, at, length, ip)
  if (protocol === 17) return printUdp(line, at, length, ip)
  if (ip.isDirect) line.addresses(ip)
  if (protocol === 1 && ip.version === 4) return printIcmp(line, at, length, ip, quote)
  if (protocol === 2 && ip.version === 4) return printIgmp(line, at, length)
  if (protocol === 58 && ip.version === 6) return printIcmp6(line, at, length, ip)
  if (protocol === 4 || protocol === 41) {
    if (line.depth >= MAX_DEPTH) return line.add('[...]')
    line.depth++
    if (protocol === 4) printIpv4(line, at, length)
    else printIpv6(line, at, length)
    line.depth--
    return
  }
  if (protocol === 59 && ip.version === 6) return line.add('no next header')
  if (protocol === 50 && line.has(at, 8)) {
    const [spi, sequence] = [line.hex(line.u32(at), 8), line.hex(line.u32(at + 4))]
    return line.add(`ESP(spi=${spi},seq=${sequence}), length ${length}`)
  }
  line.add(` ip-proto-${protocol} ${length}`)
}

/** The packet that an error message quotes, on a line of its own. */
function quote(line: Line, at: number): void {
  if (line.depth >= MAX_DEPTH || !line.has(at, 1)) return
  line.depth++
  line.add('\n\t')
  if (line.u8(at) >>> 4 === 4 && line.has(at, 4)) printIpv4(line, at, line.u16(at + 2))
  else if (line.u8(at) >>> 4 === 6 && line.has(at, 6)) printIpv6(line, at, line.u16(at + 4) + 40)
  line.depth--
}
