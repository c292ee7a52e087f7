// The reflector: packets go back where they came from.
import { type Field, type XdpDefinition, defineXdp } from '../bpf/builder/index.js'
import { ETH_P_IP, ETH_P_IPV6 } from '../packet/ethernet.js'
import { IPPROTO_TCP, IPPROTO_UDP } from '../packet/ipproto.js'
import { passDiscovery } from './discovery.js'
import { type ShippedProgram, oneWord } from './shipped.js'

/** What to exchange: hardware addresses; IP addresses too; ports too. */
export type ReflectSwap = 'macs' | 'addresses' | 'ports'

/**
 * ```
 * packet ─┬─ ARP, neighbour discovery, to a group or to all (multicast, broadcast), cut short ─→ pass
 *         └─ any other: source and destination are exchanged ─→ tx, back out
 *            · `macs`:      of Ethernet; everything is reflected
 *            · `addresses`: of IPv4 and IPv6 too; what is neither passes
 *            · `ports`:     of UDP and TCP too; other protocols, later fragments, more than 8 extension headers pass
 * ```
 *
 * Checksums stay right, because sums do not mind the order. Up to two VLAN tags, IPv4 options and IPv6 extension headers are
 * stepped over. With `ports`, whoever sends UDP to any port here gets it back, as from an echo server. Nothing counts hops: two
 * reflectors that face each other play one packet back and forth for ever. Takes packets in several buffers (jumbo frames) too
 * where the kernel has them (5.18). Kernel 4.8; with `ports` 5.3.
 */
export function defineReflect(swap: ReflectSwap = 'macs'): XdpDefinition {
  return defineXdp('xdp_reflect', { frags: true }, (x) => {
    const eth = x.packet.ethernet({ vlans: 2 })
    // The group bit: the lowest of the first byte.
    x.require(eth.dst.field(0, 'u8').hasNone(1))
    passDiscovery(x, eth)
    if (swap !== 'macs') {
      x.if(eth.type.eq(ETH_P_IP), () => {
        const ip = eth.ipv4()
        if (swap === 'ports') {
          x.require(ip.protocol.in([IPPROTO_UDP, IPPROTO_TCP]))
          const { srcPort, dstPort } = ip.transport().ports()
          exchange(srcPort, dstPort)
        }
        exchange(ip.src, ip.dst)
      })
        .elseIf(eth.type.eq(ETH_P_IPV6), () => {
          const ip = eth.ipv6()
          if (swap === 'ports') {
            const transport = ip.transport()
            x.require(transport.protocol.in([IPPROTO_UDP, IPPROTO_TCP]))
            const { srcPort, dstPort } = transport.ports()
            exchange(srcPort, dstPort)
          }
          ip.src.swap(ip.dst)
        })
        .else(() => 'pass')
    }
    eth.src.swap(eth.dst)
    return 'tx'
  })
}

/** Exchanges two fields. */
function exchange<K extends 'be16' | 'be32'>(a: Field<K>, b: Field<K>): void {
  a.set(b)
  b.set(a)
}

/** The reflector by name. */
export const shippedReflect: ShippedProgram = {
  summary: 'sends packets back where they came from, and all discovery to the kernel',
  settings: {
    swap: {
      summary: 'exchange macs, or IP addresses too, or ports too: macs, addresses, ports (default: macs)',
      example: 'ports',
    },
  },
  define: (given) => ({
    definition: defineReflect(oneWord(given, 'swap', ['macs', 'addresses', 'ports'])),
  }),
}
