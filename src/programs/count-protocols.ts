// Counts packets and bytes by protocol, and passes them all.
import { type BpfMap, type BpfProgram } from '../bpf/index.js'
import { type LoadedXdp, type XdpDefinition, defineMap, defineXdp } from '../bpf/builder/index.js'
import { takesFrags } from '../bpf/features.js'
import { ETH_P_ARP, ETH_P_IP, ETH_P_IPV6 } from '../packet/ethernet.js'
import { type Count, countValue, sumCounts } from './count.js'
import type { ShippedProgram } from './shipped.js'

/** Where what is counted stands: IPv4 by protocol from 0 on, IPv6 from here on, then these. */
const SLOTS = { ipv6: 256, arp: 512, other: 513, malformed: 514 } as const

const countMap = defineMap({
  type: 'percpu_array',
  name: 'protocols',
  value: countValue,
  maxEntries: 515,
})

/** How protocols are counted. */
export interface CountProtocolsOptions {
  /** Take packets in several buffers (jumbo frames) too, for which it needs kernel 5.18. Default false. */
  frags?: boolean
}

/**
 * ```
 * packet, up to two VLAN tags ─┬─ IPv4, with or without options ── by protocol ──────────────┐
 *                              ├─ IPv6 ── by protocol, behind up to 8 extension headers ─────┤
 *                              ├─ ARP ───────────────────────────────────────────────────────┼─→ counted, pass
 *                              ├─ another type (a third tag too) ── as `other` ──────────────┤
 *                              └─ too short or malformed for that ── as `malformed` ─────────┘
 * ```
 *
 * Each CPU counts for itself, so no count is lost. Fragments count under the protocol that they are part of. Bytes are those of
 * the frame as it arrives, without its checksum. Kernel 5.3, for the loop over extension headers.
 */
export function defineCountProtocols({ frags = false }: CountProtocolsOptions = {}): XdpDefinition {
  return defineXdp('xdp_protocols', { frags }, (x) => {
    const slot = x.let(x.u32(SLOTS.malformed))
    x.attempt(() => {
      const eth = x.packet.ethernet({ vlans: 2 })
      x.if(eth.type.eq(ETH_P_IP), () => slot.set(eth.ipv4().protocol.u32()))
        .elseIf(eth.type.eq(ETH_P_IPV6), () => {
          const { protocol } = eth.ipv6().transport({ fragments: 'any' })
          slot.set(protocol.u32().or(SLOTS.ipv6))
        })
        .elseIf(eth.type.eq(ETH_P_ARP), () => slot.set(SLOTS.arp))
        .else(() => slot.set(SLOTS.other))
    })
    const count = x.lookup(countMap, slot.value).orReturn()
    count.packets.increment()
    count.bytes.increment((frags ? x.packet.fullLength : x.packet.length).u64())
  })
}

/** What was counted of one protocol. */
export interface ProtocolCount extends Count {
  readonly kind: 'ipv4' | 'ipv6' | 'arp' | 'other' | 'malformed'
  /** The IP protocol (6 is TCP, 17 UDP); undefined for what is not IP. */
  readonly protocol: number | undefined
}

/** Counting by protocol, loaded. */
export class ProtocolCounter {
  readonly program: BpfProgram
  readonly #counts: BpfMap<number, Count[]>
  readonly #loaded: LoadedXdp

  private constructor(loaded: LoadedXdp) {
    this.#loaded = loaded
    this.program = loaded.program
    this.#counts = loaded.map(countMap)
  }

  /** Loads the program. It takes jumbo frames where the kernel can, unless told. */
  static load({ frags = takesFrags() }: CountProtocolsOptions = {}): ProtocolCounter {
    return new ProtocolCounter(defineCountProtocols({ frags }).load())
  }

  /** What has been seen so far, all CPUs together; protocols that never came are left out. */
  *counts(): Generator<ProtocolCount, void> {
    for (const [slot, values] of this.#counts.entries()) {
      const count = sumCounts(values)
      if (count.packets > 0) yield { ...nameOf(slot), ...count }
    }
  }

  /** Lets go of the program and its map: they live on while attached. */
  close(): void {
    this.#loaded.close()
  }
}

function nameOf(slot: number): Pick<ProtocolCount, 'kind' | 'protocol'> {
  if (slot < SLOTS.ipv6) return { kind: 'ipv4', protocol: slot }
  if (slot < SLOTS.arp) return { kind: 'ipv6', protocol: slot - SLOTS.ipv6 }
  const kind = slot === SLOTS.arp ? 'arp' : slot === SLOTS.other ? 'other' : 'malformed'
  return { kind, protocol: undefined }
}

/** `count-protocols` by name. */
export const shippedCountProtocols: ShippedProgram = {
  summary: 'counts packets and bytes by protocol, and passes them all',
  define: () => ({ definition: defineCountProtocols({ frags: takesFrags() }) }),
}
