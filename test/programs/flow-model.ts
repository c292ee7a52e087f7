// What flow a packet belongs to, in plain TypeScript: the specification that the counting and balancing programs are held to.

/** A packet's place: an Ethernet type that is not IP, an IP packet as far as its protocol, or nothing that makes sense. */
export type Walk =
  | { kind: 'malformed' }
  | { kind: 'other'; type: number; vlan: number }
  | {
      kind: 'ip'
      version: 4 | 6
      vlan: number
      protocol: number
      isFragment: boolean
      /** As hexadecimal digits. */
      src: string
      dst: string
      /** Where the IP header begins, and where the transport header. */
      start: number
      at: number
    }

const MOST_EXTENSIONS = 8
const malformed: Walk = { kind: 'malformed' }

/** Walks a packet as far as its IP protocol. */
export function walk(packet: Uint8Array): Walk {
  const u16 = (at: number): number => (packet[at] << 8) | packet[at + 1]
  const hex = (at: number, length: number): string =>
    Buffer.from(packet.subarray(at, at + length)).toString('hex')
  const has = (at: number, length: number): boolean => at + length <= packet.length
  if (!has(0, 14)) return malformed
  let type = u16(12)
  let at = 14
  let vlan = 0
  for (let tag = 0; tag < 2 && (type === 0x8100 || type === 0x88a8); tag++) {
    if (!has(at, 4)) return malformed
    if (tag === 0) vlan = u16(at) & 0xfff
    type = u16(at + 2)
    at += 4
  }
  if (type === 0x0800) {
    const words = packet[at] & 15
    if (!has(at, 20) || packet[at] >> 4 !== 4 || words < 5) return malformed
    return {
      kind: 'ip',
      version: 4,
      vlan,
      protocol: packet[at + 9],
      // MF, or an offset.
      isFragment: (u16(at + 6) & 0x3fff) !== 0,
      src: hex(at + 12, 4),
      dst: hex(at + 16, 4),
      start: at,
      at: at + words * 4,
    }
  }
  if (type !== 0x86dd) return { kind: 'other', type, vlan }
  if (!has(at, 40) || packet[at] >> 4 !== 6) return malformed
  const addresses = { src: hex(at + 8, 16), dst: hex(at + 24, 16) }
  const start = at
  let protocol = packet[at + 6]
  let isFragment = false
  at += 40
  for (let stepped = 0; [0, 43, 44, 51, 60].includes(protocol) && !isFragment; stepped++) {
    if (!has(at, 8) || stepped === MOST_EXTENSIONS) return malformed
    if (protocol === 44) isFragment = (u16(at + 2) & 0xfff9) !== 0
    const length = protocol === 44 ? 8 : protocol === 51 ? (packet[at + 1] + 2) * 4 : (packet[at + 1] + 1) * 8
    protocol = packet[at]
    at += length
  }
  return { kind: 'ip', version: 6, vlan, protocol, isFragment, ...addresses, start, at }
}

/** A flow, as far as the programs tell flows apart. */
export interface ModelFlow {
  version: 4 | 6
  vlan: number
  protocol: number
  src: string
  dst: string
  srcPort: number
  dstPort: number
}

/** The flow of a packet; `notIp` or `malformed` for those of none. */
export function flowOfPacket(packet: Uint8Array): ModelFlow | 'notIp' | 'malformed' {
  const walked = walk(packet)
  if (walked.kind === 'malformed') return 'malformed'
  if (walked.kind === 'other') return 'notIp'
  const { version, vlan, protocol, src, dst, at } = walked
  const hasPorts = (protocol === 6 || protocol === 17) && !walked.isFragment
  if (hasPorts && at + 4 > packet.length) return 'malformed'
  const port = (from: number): number => (hasPorts ? (packet[from] << 8) | packet[from + 1] : 0)
  return { version, vlan, protocol, src, dst, srcPort: port(at), dstPort: port(at + 2) }
}
