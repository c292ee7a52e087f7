// The programs in twins/*.c, written with the builder.
import { type XdpDefinition, defineMap, defineXdp } from '../../../src/bpf/builder/index.js'
import { counter, struct } from '../../../src/bpf/codec.js'
import { ETH_P_IP, ETH_P_IPV6 } from '../../../src/packet/ethernet.js'
import { IPPROTO_UDP } from '../../../src/packet/ipproto.js'
import { defineEveryOther } from '../../../src/programs/every-other.js'
import { defineResponder } from '../../../src/programs/responder.js'

const devices = defineMap({ type: 'devmap', name: 'xsks_map', maxEntries: 1 })
const counters = defineMap({
  type: 'percpu_array',
  name: 'counters',
  value: struct({ packets: counter, bytes: counter }),
  maxEntries: 256,
})

/** By the name of the C file. */
export const twins: Readonly<Record<string, () => XdpDefinition>> = {
  redirect: () => defineXdp('redirect', (x) => x.redirectTo(devices, x.queue)),
  'every-other': () => defineEveryOther(1),
  responder: () => defineResponder(1),

  'udp-port': () =>
    defineXdp('udp_port', (x) => {
      const eth = x.packet.ethernet({ vlans: 2 })
      x.if(eth.type.eq(ETH_P_IP), () => {
        const ip = eth.ipv4()
        x.require(ip.protocol.eq(IPPROTO_UDP))
        x.if(ip.transport().udp().dstPort.eq(53), () => 'drop')
      }).elseIf(eth.type.eq(ETH_P_IPV6), () => {
        const ip = eth.ipv6()
        x.require(ip.nextHeader.eq(IPPROTO_UDP))
        x.if(ip.transport({ extensions: 0 }).udp().dstPort.eq(53), () => 'drop')
      })
    }),

  count: () =>
    defineXdp('count', (x) => {
      const eth = x.packet.ethernet()
      const protocol = x.let(x.u32(0))
      x.if(eth.type.eq(ETH_P_IP), () => protocol.set(eth.ipv4().protocol.u32()))
        .elseIf(eth.type.eq(ETH_P_IPV6), () => protocol.set(eth.ipv6().nextHeader.u32()))
        .else(() => 'pass')
      const slot = x.lookup(counters, protocol.value).orReturn()
      slot.packets.increment()
      slot.bytes.increment(x.packet.length.u64())
    }),

  reflect: () =>
    defineXdp('reflect', (x) => {
      const eth = x.packet.ethernet()
      x.require(eth.type.eq(ETH_P_IP))
      const ip = eth.ipv4({ options: false })
      eth.dst.swap(eth.src)
      const [src, dst] = [ip.src, ip.dst]
      src.set(dst)
      dst.set(src)
      x.require(ip.ttl.gt(1), 'drop')
      ip.decrementTtl()
      return 'tx'
    }),
}
