// ICMP messages (RFC 792), with what their errors quote.
import { formatIpv4 } from '../../packet/address.js'
import { checksum } from '../../packet/checksum.js'
import { shouldBe, type IpContext } from './context.js'
import type { Line } from './line.js'

/** Prints the packet at an offset on a line of its own. */
export type Quote = (line: Line, at: number) => void

const unreachable: readonly ((host: string) => string)[] = [
  (host) => `net ${host} unreachable`,
  (host) => `host ${host} unreachable`,
  (host) => host,
  (host) => host,
  (host) => host,
  (host) => `${host} unreachable - source route failed`,
  (host) => `net ${host} unreachable - unknown`,
  (host) => `host ${host} unreachable - unknown`,
  (host) => `${host} unreachable - source host isolated`,
  (host) => `net ${host} unreachable - admin prohibited`,
  (host) => `host ${host} unreachable - admin prohibited`,
  (host) => `net ${host} unreachable - tos prohibited`,
  (host) => `host ${host} unreachable - tos prohibited`,
  (host) => `host ${host} unreachable - admin prohibited filter`,
  (host) => `host ${host} unreachable - host precedence violation`,
  (host) => `host ${host} unreachable - precedence cutoff`,
]

const redirects = ['redirect', 'redirect', 'redirect-tos', 'redirect-tos']

const simple: Readonly<Record<number, string>> = {
  4: 'source quench',
  9: 'router advertisement',
  10: 'router solicitation',
  15: 'information request',
  16: 'information reply',
  17: 'address mask request',
}

/** The message at `at`, of which `length` bytes were on the wire. */
export function printIcmp(line: Line, at: number, length: number, ip: IpContext, quote: Quote): void {
  if (!line.has(at, 8)) return line.add('ICMP [|icmp]')
  const type = line.u8(at)
  if (type === 0 || type === 8) {
    line.add(type === 0 ? 'ICMP echo reply, id ' : 'ICMP echo request, id ')
    line.number(line.u16(at + 4))
    line.add(', seq ')
    line.number(line.u16(at + 6))
    line.add(', length ')
    line.number(length)
    return printChecksum(line, at, length, ip)
  }
  const text = describe(line, at, type, line.u8(at + 1))
  if (text === undefined) return line.add('ICMP [|icmp]')
  line.add(`ICMP ${text}, length ${length}`)
  printChecksum(line, at, length, ip)
  if (line.verbosity > 0 && !ip.isFragment && isError(type)) quote(line, at + 8)
}

/** What is wrong with it, of a message that is here as a whole. */
function printChecksum(line: Line, at: number, length: number, ip: IpContext): void {
  if (line.verbosity === 0 || ip.isFragment || !line.has(at, length)) return
  const wrong = checksum(line.bytes, at, length)
  const sum = line.u16(at + 2)
  if (wrong !== 0)
    line.add(` (wrong icmp cksum ${sum.toString(16)} (->${shouldBe(sum, wrong).toString(16)})!)`)
}

/** Messages about a packet, whose beginning they quote. */
function isError(type: number): boolean {
  return type === 3 || type === 4 || type === 5 || type === 11 || type === 12
}

function describe(line: Line, at: number, type: number, code: number): string | undefined {
  switch (type) {
    case 3:
      return describeUnreachable(line, at, code)
    case 5: {
      if (!line.has(at, 28)) return undefined
      const host = formatIpv4(line.bytes, at + 24)
      const kind = redirects[code] ?? `redirect-#${code}`
      return `${kind} ${host} to ${code & 1 && code < 4 ? 'host' : 'net'} ${formatIpv4(line.bytes, at + 4)}`
    }
    case 11:
      if (code === 0) return 'time exceeded in-transit'
      return code === 1 ? 'ip reassembly time exceeded' : `time exceeded-#${code}`
    case 12:
      return code === 0 ? `parameter problem - octet ${line.u8(at + 4)}` : `parameter problem - code ${code}`
    case 13:
      return `time stamp query id ${line.u16(at + 4)} seq ${line.u16(at + 6)}`
    case 14: {
      if (!line.has(at, 20)) return undefined
      const [origin, received, sent] = [8, 12, 16].map((offset) => clock(line.u32(at + offset)))
      const who = `id ${line.u16(at + 4)} seq ${line.u16(at + 6)}`
      return `time stamp reply ${who}: org ${origin}, recv ${received}, xmit ${sent}`
    }
    case 18:
      return line.has(at, 12) ? `address mask is ${line.hex(line.u32(at + 8), 8)}` : undefined
    default:
      return simple[type] ?? `type-#${type}`
  }
}

/** Milliseconds since midnight. */
function clock(milliseconds: number): string {
  const two = (value: number) => String(Math.floor(value)).padStart(2, '0')
  const seconds = Math.floor(milliseconds / 1000)
  const [hours, minutes] = [two(seconds / 3600), two((seconds % 3600) / 60)]
  return `${hours}:${minutes}:${two(seconds % 60)}.${String(milliseconds % 1000).padStart(3, '0')}`
}

function describeUnreachable(line: Line, at: number, code: number): string | undefined {
  if (!line.has(at, 28)) return undefined
  const quoted = at + 8
  const host = formatIpv4(line.bytes, quoted + 16)
  const protocol = line.u8(quoted + 9)
  if (code === 2) return `${host} protocol ${protocol} unreachable`
  if (code === 4) {
    const mtu = line.u16(at + 6)
    return `${host} unreachable - need to frag${mtu ? ` (mtu ${mtu})` : ''}`
  }
  if (code !== 3) return unreachable[code]?.(host) ?? `#${code} ${host} unreachable`
  const transport = quoted + (line.u8(quoted) & 0x0f) * 4
  if (!line.has(transport, 4)) return undefined
  const port = line.u16(transport + 2)
  if (protocol === 6) return `${host} tcp port ${line.port(port, 'tcp')} unreachable`
  if (protocol === 17) return `${host} udp port ${line.port(port, 'udp')} unreachable`
  return `${host} protocol ${protocol} port ${port} unreachable`
}
