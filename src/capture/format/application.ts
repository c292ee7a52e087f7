// What transports carry, by port and by first bytes: DNS, HTTP, SIP and TLS in their first line.
import { printDns } from './dns.js'
import { printable, type Line } from './line.js'
import { serverName, tlsRecord } from './tls.js'

const MDNS_PORT = 5353
const DNS_PORTS = [53, MDNS_PORT]
const HTTP_PORTS = [80, 8080, 3128]
const SIP_PORTS = [5060, 5061]

/** The longest first line that is shown. */
const MAX_LINE = 512
/** And of a head. */
const MAX_HEAD = 8192

/** What a payload is taken for by its ports; TCP's others may be TLS, by their bytes. */
export function applicationOf(
  srcPort: number,
  dstPort: number,
  transport: 'tcp' | 'udp',
): 'dns' | 'http' | 'sip' | undefined {
  if (hasOneOf(DNS_PORTS, srcPort, dstPort)) return 'dns'
  if (transport === 'tcp' && hasOneOf(HTTP_PORTS, srcPort, dstPort)) return 'http'
  return hasOneOf(SIP_PORTS, srcPort, dstPort) ? 'sip' : undefined
}

const hasOneOf = (ports: readonly number[], srcPort: number, dstPort: number): boolean =>
  ports.includes(srcPort) || ports.includes(dstPort)

/** Whether a DNS message is one of multicast DNS. */
export function isMulticastDns(srcPort: number, dstPort: number, transport: 'tcp' | 'udp'): boolean {
  return transport === 'udp' && (srcPort === MDNS_PORT || dstPort === MDNS_PORT)
}

/** Bytes before a DNS message: over TCP, its length. */
export const dnsPrefix = (transport: 'tcp' | 'udp'): number => (transport === 'tcp' ? 2 : 0)

/** Prints what is known about a payload of `length` bytes on the wire; false when nothing is. */
export function printApplication(
  line: Line,
  at: number,
  length: number,
  srcPort: number,
  dstPort: number,
  transport: 'tcp' | 'udp',
): boolean {
  switch (applicationOf(srcPort, dstPort, transport)) {
    case 'dns': {
      const prefix = dnsPrefix(transport)
      if (prefix > 0 && length > prefix) line.add(' ')
      if (prefix === 0 || length > prefix) {
        printDns(line, at + prefix, length - prefix, isMulticastDns(srcPort, dstPort, transport))
      }
      return true
    }
    case 'http':
      return printText(line, 'HTTP', at, length)
    case 'sip':
      if (transport === 'tcp') return printText(line, 'SIP', at, length)
      line.add(messageText(line, 'SIP', at, length))
      return true
    default:
      return transport === 'tcp' && printTls(line, at, length)
  }
}

function printText(line: Line, name: string, at: number, length: number): boolean {
  line.add(`: ${messageText(line, name, at, length)}`)
  return true
}

function messageText(line: Line, name: string, at: number, length: number): string {
  const first = firstLine(line, at, length)
  if (first === '') return name
  if (line.verbosity === 0) return `${name}: ${first}`
  let text = `${name}, length: ${length}`
  // All of the head: a line each, up to the empty one.
  const end = Math.min(at + Math.min(length, MAX_HEAD), line.end)
  for (let from = at; from < end;) {
    let to = from
    while (to < end && line.u8(to) !== 0x0a && line.u8(to) !== 0x0d) to++
    text += `\n\t${printable(line.bytes, from, to)}`
    if (to === from) break
    from = to + (line.u8(to) === 0x0d && to + 1 < end && line.u8(to + 1) === 0x0a ? 2 : 1)
  }
  return text
}

/** Text up to the end of the line, of a message that begins here; empty for what is none, such as a part of a body. */
export function firstLine(line: Line, at: number, length: number): string {
  const end = Math.min(at + Math.min(length, MAX_LINE), line.end)
  for (let i = at; i < end; i++) {
    const byte = line.u8(i)
    if (byte === 0x0a || byte === 0x0d) return isStart(line, at, i) ? printable(line.bytes, at, i) : ''
    if (byte < 0x20 && byte !== 0x09) return ''
  }
  return isStart(line, at, end) ? printable(line.bytes, at, end) : ''
}

/** Whether the line begins a message: `METHOD target VERSION` or `VERSION status …`. */
function isStart(line: Line, from: number, to: number): boolean {
  const text = printable(line.bytes, from, to)
  return /^(?:HTTP|SIP|RTSP)\/\d|^[A-Z-]{3,20} \S/.test(text)
}

function printTls(line: Line, at: number, length: number): boolean {
  const record = tlsRecord(line, at, length)
  if (record === undefined) return false
  line.add(`: TLS: ${record}`)
  const name = record === 'Client Hello' ? serverName(line, at) : undefined
  if (name !== undefined) line.add(`, SNI ${name}`)
  return true
}
