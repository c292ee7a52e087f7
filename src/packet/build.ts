// Whole frames from a description, with the lengths, types and checksums that follow from it: for tools and tests.
import { type ArpInput, ARP_HLEN, encodeArp } from './arp.js'
import { setU16 } from './bytes.js'
import {
  encodeEthernet,
  encodeVlan,
  ETH_P_8021AD,
  ETH_P_8021Q,
  ETH_P_ARP,
  ETH_P_IP,
  ETH_P_IPV6,
  type EthernetInput,
  type VlanInput,
} from './ethernet.js'
import { encodeIcmp, type IcmpInput } from './icmp.js'
import { IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_NONE, IPPROTO_TCP, IPPROTO_UDP } from './ipproto.js'
import { encodeIpv4, IPV4_HLEN, type Ipv4Input } from './ipv4.js'
import { encodeIpv6, IPV6_HLEN, type Ipv6Input } from './ipv6.js'
import { setL4Checksum } from './l4.js'
import { encodeNeighbour, type NeighbourInput } from './neighbour.js'
import { PacketError } from './problem.js'
import { encodeTcp, type TcpInput } from './tcp.js'
import { encodeUdp, UDP_AT, type UdpInput } from './udp.js'

/** A tag; `etherType` is computed, `tpid` (what announces it) is 802.1Q, and 802.1ad for all but the last. */
export type PacketVlan = Omit<VlanInput, 'etherType'> & { tpid?: number }

/**
 * A frame. What is left out of a header is computed (types, protocols, lengths, checksums) or has its
 * default; what is given is written as given, right or wrong. At most one of `arp`, `ipv4`, `ipv6`, and of
 * `icmp`, `icmp6`, `neighbour`, `udp`, `tcp`.
 */
export interface PacketDescription {
  /** From `02:00:00:00:00:02` to `02:00:00:00:00:01` unless given; `etherType` is that of what the tags carry. */
  ethernet?: Partial<EthernetInput>
  /** Outermost first. */
  vlans?: readonly PacketVlan[]
  arp?: ArpInput
  ipv4?: Partial<Ipv4Input> & Pick<Ipv4Input, 'src' | 'dst'>
  ipv6?: Partial<Ipv6Input> & Pick<Ipv6Input, 'src' | 'dst'>
  icmp?: IcmpInput
  icmp6?: IcmpInput
  neighbour?: NeighbourInput
  udp?: Omit<UdpInput, 'length'> & Partial<UdpInput>
  tcp?: TcpInput
  /** Text is UTF-8. */
  payload?: Uint8Array | string
  /** Zero bytes are appended up to this length; `ETH_ZLEN` is what real Ethernet pads to. */
  padTo?: number
}

/** Room for every header at its longest but IPv6 extension headers, which are counted. */
const HEADERS_ROOM = 512

/** The frame's bytes, in an array of their own. Throws PacketError. */
export function buildPacket(packet: PacketDescription): Uint8Array {
  const payload =
    typeof packet.payload === 'string'
      ? new TextEncoder().encode(packet.payload)
      : (packet.payload ?? NOTHING)
  const extensions = packet.ipv6?.extensions ?? []
  const room = extensions.reduce(
    (sum, extension) => sum + ('body' in extension ? 2 + extension.body.length : 8),
    HEADERS_ROOM + 4 * (packet.vlans?.length ?? 0) + payload.length,
  )
  const bytes = new Uint8Array(Math.max(room, packet.padTo ?? 0))
  const l3 = writeLink(bytes, packet)
  const end = writeNetwork(bytes, l3, packet, payload)
  return bytes.slice(0, Math.max(end, packet.padTo ?? 0))
}

function writeLink(bytes: Uint8Array, packet: PacketDescription): number {
  const vlans = packet.vlans ?? []
  const network = one(packet, ['arp', 'ipv4', 'ipv6'])
  // The type of whatever comes next: one for each tag, then that of what the tags carry.
  const types = vlans.map(({ tpid }, i) => tpid ?? (i < vlans.length - 1 ? ETH_P_8021AD : ETH_P_8021Q))
  types.push(packet.ethernet?.etherType ?? (network ? ETHER_TYPES[network] : 0))
  let at = encodeEthernet(bytes, 0, {
    dst: '02:00:00:00:00:01',
    src: '02:00:00:00:00:02',
    ...packet.ethernet,
    etherType: types[0],
  })
  for (const [i, vlan] of vlans.entries()) at = encodeVlan(bytes, at, { ...vlan, etherType: types[i + 1] })
  return at
}

/** Returns the end of the packet. */
function writeNetwork(bytes: Uint8Array, l3: number, packet: PacketDescription, payload: Uint8Array): number {
  const { arp, ipv4, ipv6 } = packet
  if (arp) {
    bytes.set(payload, l3 + ARP_HLEN)
    return encodeArp(bytes, l3, arp) + payload.length
  }
  const transport = one(packet, ['icmp', 'icmp6', 'neighbour', 'udp', 'tcp'])
  const protocol = transport ? PROTOCOLS[transport] : IPPROTO_NONE
  if (ipv4) {
    const l4 = encodeIpv4(bytes, l3, { protocol, totalLength: IPV4_HLEN, ...ipv4 })
    const end = writeTransport(bytes, l3, l4, packet, payload)
    encodeIpv4(bytes, l3, { protocol, totalLength: end - l3, ...ipv4 })
    return end
  }
  if (ipv6) {
    const l4 = encodeIpv6(bytes, l3, { protocol, payloadLength: 0, ...ipv6 })
    const end = writeTransport(bytes, l3, l4, packet, payload)
    encodeIpv6(bytes, l3, { protocol, payloadLength: end - l3 - IPV6_HLEN, ...ipv6 })
    return end
  }
  if (transport) throw new PacketError('ERR_PACKET_VALUE', `${transport} without ipv4 or ipv6 to carry it`)
  bytes.set(payload, l3)
  return l3 + payload.length
}

/** Returns the end of the packet. */
function writeTransport(
  bytes: Uint8Array,
  l3: number,
  l4: number,
  packet: PacketDescription,
  payload: Uint8Array,
): number {
  const transport = one(packet, ['icmp', 'icmp6', 'neighbour', 'udp', 'tcp'])
  const after = writeTransportHeader(bytes, l4, packet)
  const end = after + payload.length
  bytes.set(payload, after)
  if (!transport) return end
  if (packet.udp && packet.udp.length === undefined) setU16(bytes, l4 + UDP_AT.length, end - l4)
  if (packet[transport]?.checksum === undefined) setL4Checksum(bytes, PROTOCOLS[transport], l3, l4, end)
  return end
}

function writeTransportHeader(bytes: Uint8Array, l4: number, packet: PacketDescription): number {
  const { icmp, icmp6, neighbour, udp, tcp } = packet
  if (icmp) return encodeIcmp(bytes, l4, icmp)
  if (icmp6) return encodeIcmp(bytes, l4, icmp6)
  if (neighbour) return encodeNeighbour(bytes, l4, neighbour)
  if (udp) return encodeUdp(bytes, l4, { length: 0, ...udp })
  if (tcp) return encodeTcp(bytes, l4, tcp)
  return l4
}

/** The one of these layers that the description has. */
function one<Layer extends keyof PacketDescription>(
  packet: PacketDescription,
  layers: readonly Layer[],
): Layer | undefined {
  const present = layers.filter((layer) => packet[layer] !== undefined)
  if (present.length > 1) {
    throw new PacketError('ERR_PACKET_VALUE', `a packet has one of ${present.join(', ')}, not all`)
  }
  return present[0]
}

const ETHER_TYPES = { arp: ETH_P_ARP, ipv4: ETH_P_IP, ipv6: ETH_P_IPV6 } as const
const PROTOCOLS = {
  icmp: IPPROTO_ICMP,
  icmp6: IPPROTO_ICMPV6,
  neighbour: IPPROTO_ICMPV6,
  udp: IPPROTO_UDP,
  tcp: IPPROTO_TCP,
} as const
const NOTHING = new Uint8Array(0)
