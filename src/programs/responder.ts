// The ping responder's program: takes what asks for one of our addresses, passes everything else.
import { type BpfMap, type BpfProgram, bytes, u8 } from '../bpf/index.js'
import { type LoadedXdp, type XdpDefinition, defineMap, defineXdp } from '../bpf/builder/index.js'
import { ARPHRD_ETHER, ARPOP_REQUEST } from '../packet/arp.js'
import { ETH_P_ARP, ETH_P_IP, ETH_P_IPV6 } from '../packet/ethernet.js'
import { ICMPV6_ECHO_REQUEST, ICMP_ECHO } from '../packet/icmp.js'
import { NDISC_NEIGHBOUR_SOLICITATION } from '../packet/neighbour.js'
import { IPPROTO_ICMP, IPPROTO_ICMPV6 } from '../packet/ipproto.js'
import { MAPPED_IPV4, mappedAddress } from './mapped-address.js'
import { socketMap } from './sockets.js'

/** The most addresses that can be answered for at a time. */
export const MAX_ADDRESSES = 1024

/** ARP's address lengths for IPv4 over Ethernet: 6 and 4 bytes. */
const ADDRESS_LENGTHS = 0x0604

const addressMap = defineMap({
  type: 'hash',
  name: 'addresses',
  key: bytes(16),
  value: u8,
  maxEntries: MAX_ADDRESSES,
})

/**
 * ```
 * Ethernet, untagged ─┬─ ARP request ─────────────── for an address of ours ─┐
 *                     ├─ IPv4, no options or fragment ─ echo request to one ─┼─→ the queue's socket, if it has one
 *                     ├─ IPv6 ───────────────────────── echo request to one ─┤
 *                     │  └─ neighbour solicitation ──────────────── for one ─┘
 *                     └─ anything else: short, tagged, another type, another address ─→ pass to the kernel
 * ```
 *
 * An ARP request whose sender asks for its own address is an announcement: it passes. `queues` is the most queues the device can
 * ever have. Takes packets in several buffers too, as `defineRedirect`. Kernel 5.3.
 */
export function defineResponder(queues: number): XdpDefinition {
  const sockets = socketMap(queues)
  return defineXdp('xdp_pong', { frags: true }, (x) => {
    const asked = x.uninitialized(bytes(16))
    const eth = x.packet.ethernet()
    x.if(eth.type.eq(ETH_P_ARP), () => {
      const arp = eth.arp()
      x.require(arp.hardwareType.eq(ARPHRD_ETHER))
      x.require(arp.protocolType.eq(ETH_P_IP))
      x.require(arp.lengths.eq(ADDRESS_LENGTHS))
      x.require(arp.operation.eq(ARPOP_REQUEST))
      x.require(arp.senderIp.ne(arp.targetIp))
      asked.fields.slice(0, 12).set(MAPPED_IPV4)
      asked.fields.field(12, 'be32').set(arp.targetIp)
    })
      .elseIf(eth.type.eq(ETH_P_IP), () => {
        const ip = eth.ipv4({ options: false, fragments: false })
        x.require(ip.protocol.eq(IPPROTO_ICMP))
        const icmp = ip.transport().icmp()
        x.require(icmp.type.eq(ICMP_ECHO).and(icmp.code.eq(0)))
        asked.fields.slice(0, 12).set(MAPPED_IPV4)
        asked.fields.field(12, 'be32').set(ip.dst)
      })
      .elseIf(eth.type.eq(ETH_P_IPV6), () => {
        const ip = eth.ipv6()
        x.require(ip.nextHeader.eq(IPPROTO_ICMPV6))
        const icmp = ip.transport({ extensions: 0 }).icmp()
        x.require(icmp.code.eq(0))
        x.if(icmp.type.eq(ICMPV6_ECHO_REQUEST), () => asked.fields.set(ip.dst)).else(() => {
          x.require(icmp.type.eq(NDISC_NEIGHBOUR_SOLICITATION))
          asked.fields.set(icmp.body(8, 16))
        })
      })
      .else(() => 'pass')
    x.lookup(addressMap, asked).orReturn('pass')
    return x.redirectTo(sockets, x.queue)
  })
}

/** The responder, loaded; what it takes and passes stands at its definition above. */
export class ResponderProgram {
  readonly program: BpfProgram
  /** Sockets by queue. */
  readonly sockets: BpfMap<number, number>
  /** The addresses to answer for: 16 bytes each, IPv4 as ::ffff:a.b.c.d. */
  readonly addresses: BpfMap<Uint8Array, number>
  readonly #loaded: LoadedXdp

  private constructor(loaded: LoadedXdp) {
    this.#loaded = loaded
    this.program = loaded.program
    this.sockets = loaded.map(socketMap(0))
    this.addresses = loaded.map(addressMap)
  }

  /** Loads the program. `queues` is the most queues the device can ever have. */
  static load({ queues }: { queues: number }): ResponderProgram {
    return new ResponderProgram(defineResponder(queues).load())
  }

  /** Makes `addresses` (4 or 16 bytes each) the ones answered for. */
  setAddresses(wanted: Iterable<Uint8Array>): void {
    const keys = new Map(
      [...wanted].map((address) => [mappedAddress(address).join(), mappedAddress(address)]),
    )
    for (const key of [...this.addresses.keys()]) if (!keys.delete(key.join())) this.addresses.delete(key)
    for (const key of keys.values()) this.addresses.update(key, 1)
  }

  /** Lets go of the program and its maps: they live on while attached. */
  close(): void {
    this.#loaded.close()
  }
}
