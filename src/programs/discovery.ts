// What finds the neighbours on a link: programs let it pass, for a host that cannot be found cannot be reached.
import type { Ethernet, Xdp } from '../bpf/builder/index.js'
import { ETH_P_ARP, ETH_P_IPV6 } from '../packet/ethernet.js'
import { IPPROTO_ICMPV6 } from '../packet/ipproto.js'
import {
  ND_HOP_LIMIT,
  NDISC_NEIGHBOUR_ADVERTISEMENT,
  NDISC_ROUTER_SOLICITATION,
} from '../packet/neighbour.js'

/**
 * Ends the program with `pass` for ARP, and for neighbour discovery (RFC 4861): router and neighbour solicitations and
 * advertisements directly behind the IPv6 header, with the hop limit of 255 that says that no router forwarded them. IPv6 that is
 * cut short ends the program with its `otherwise`.
 */
export function passDiscovery(x: Xdp, eth: Ethernet): void {
  x.if(eth.type.eq(ETH_P_ARP), () => 'pass')
  x.if(eth.type.eq(ETH_P_IPV6), () => {
    const ip = eth.ipv6()
    x.if(ip.nextHeader.eq(IPPROTO_ICMPV6).and(ip.hopLimit.eq(ND_HOP_LIMIT)), () => {
      const { type } = ip.transport({ extensions: 0 }).icmp()
      x.if(type.between(NDISC_ROUTER_SOLICITATION, NDISC_NEIGHBOUR_ADVERTISEMENT), () => 'pass')
    })
  })
}
