// ARP (RFC 826).
import { formatIpv4, formatMac } from '../../packet/address.js'
import { dumpHex } from './dump.js'
import type { Line } from './line.js'
import { etherTypes } from './names.js'

const operations: Readonly<Record<number, string>> = {
  1: 'Request',
  2: 'Reply',
  3: 'Reverse Request',
  4: 'Reverse Reply',
  8: 'Inverse Request',
  9: 'Inverse Reply',
}

/** The packet at `at`, of which `length` bytes were on the wire. */
export function printArp(line: Line, at: number, length: number): void {
  if (!line.has(at, 8)) return line.add(' [|arp]')
  const hardwareLength = line.u8(at + 4)
  const protocolLength = line.u8(at + 5)
  const size = 8 + 2 * (hardwareLength + protocolLength)
  if (!line.has(at, size)) return line.add(' [|arp]')
  if (!line.linkHeader) line.add('ARP, ')
  const hardware = line.u16(at)
  const protocol = line.u16(at + 2)
  const isKnown = protocol === 0x0800 && protocolLength === 4 && hardwareLength === 6
  if (!isKnown || line.verbosity > 0) {
    line.add(
      `${hardware === 1 ? 'Ethernet' : `Unknown Hardware (${hardware})`} (len ${hardwareLength}), ` +
        `${etherTypes[protocol] ?? `Unknown Protocol (${line.hex(protocol, 4)})`} (len ${protocolLength})`,
    )
    if (!isKnown) return line.add(`, length ${length}`)
  }
  const operation = line.u16(at + 6)
  line.add(`${line.verbosity > 0 ? ', ' : ''}${operations[operation] ?? `Unknown (${operation})`} `)
  if (operations[operation] === undefined)
    return line.add(dumpHex(line.bytes, at, Math.min(at + length, line.end), true, '\n\t'))
  line.add(describe(line, at, operation))
  line.add(`, length ${length}`)
}

function describe(line: Line, at: number, operation: number): string {
  const { bytes } = line
  const [senderMac, senderIp] = [formatMac(bytes, at + 8), formatIpv4(bytes, at + 14)]
  const [targetMac, targetIp] = [formatMac(bytes, at + 18), formatIpv4(bytes, at + 24)]
  switch (operation) {
    case 1: {
      const known = targetMac === '00:00:00:00:00:00' ? '' : ` (${targetMac})`
      return `who-has ${targetIp}${known} tell ${senderIp}`
    }
    case 2:
      return `${senderIp} is-at ${senderMac}`
    case 3:
    case 8:
      return `who-is ${targetMac} tell ${senderMac}`
    case 4:
      return `${targetMac} at ${targetIp}`
    case 9:
      return `${senderMac} at ${senderIp}`
    default:
      return `${senderIp} (${senderMac}) > ${targetIp} (${targetMac})`
  }
}
