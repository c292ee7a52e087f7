// UDP datagrams and what they carry.
import { checksum } from '../../packet/checksum.js'
import { checkL4Checksum, pseudoHeaderSum } from '../../packet/l4.js'
import { printApplication } from './application.js'
import { shouldBe, type IpContext } from './context.js'
import type { Line } from './line.js'

/** The datagram at `at`, of which `length` bytes were on the wire. */
export function printUdp(line: Line, at: number, length: number, ip: IpContext): void {
  if (!line.has(at, 4) || length < 4) return noHeader(line, ip)
  const srcPort = line.u16(at)
  const dstPort = line.u16(at + 2)
  line.endpoints(ip, srcPort, dstPort, 'udp')
  if (length < 8) return line.add(`truncated-udp ${length}`)
  if (!line.has(at, 8)) return line.add(' [|udp]')
  const declared = line.u16(at + 4)
  if (declared < 8) return line.add(`truncated-udplength ${declared}`)
  const payload = Math.min(declared, length) - 8
  // tcpdump checks those of IPv4 with -vv only.
  if (line.verbosity > (ip.version === 4 ? 1 : 0) && !ip.isFragment)
    printChecksum(line, at, Math.min(declared, length), ip)
  if (!line.quiet && printApplication(line, at + 8, payload, srcPort, dstPort, 'udp')) return
  const isBad = declared > length && !ip.isFragment
  line.add(isBad ? 'UDP, bad length ' : 'UDP, length ')
  line.number(declared - 8)
  if (isBad) line.add(` > ${payload}`)
}

function noHeader(line: Line, ip: IpContext): void {
  line.addresses(ip)
  line.add(' [|udp]')
}

function printChecksum(line: Line, at: number, length: number, ip: IpContext): void {
  const sum = line.u16(at + 6)
  // IPv6 has to have one (RFC 8200 section 8.1).
  if (sum === 0 && ip.version === 4) return line.add('[no cksum] ')
  if (!line.has(at, length)) return
  if (checkL4Checksum(line.bytes, 17, ip.at, at, at + length) === 'valid') return line.add('[udp sum ok] ')
  const wrong = checksum(line.bytes, at, length, pseudoHeaderSum(line.bytes, ip.at, 17, length))
  line.add('[bad udp cksum ')
  line.hex16(sum)
  line.add(' -> ')
  line.hex16(shouldBe(sum, wrong))
  line.add('!] ')
}
