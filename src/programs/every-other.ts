// The tutorial's second assignment: every other packet goes to the queue's socket, the rest passes to the kernel.
import { type BpfMap, type BpfProgram, u32 } from '../bpf/index.js'
import { type LoadedXdp, type XdpDefinition, defineMap, defineXdp } from '../bpf/builder/index.js'
import { ETH_P_ARP } from '../packet/ethernet.js'
import { socketMap } from './sockets.js'

/** How many packets were counted: one number for all queues and CPUs. */
const counterMap = defineMap({ type: 'array', name: 'xdp_stats_map', value: u32, maxEntries: 1 })

/**
 * ```
 * packet ─┬─ ARP ──────────────────────────────────────────────────→ pass, uncounted: else nobody finds us
 *         └─ anything else: the counter was ─┬─ even (0, 2, 4, …) ─→ the queue's socket, or pass without one
 *                                            └─ odd (1, 3, 5, …) ──→ pass
 * ```
 *
 * With a socket that only receives, `ping` hears of icmp_seq 2, 4, 6, 8 and so on. The counter is one for all CPUs, read and
 * raised in one step, so that two packets at once never get the same number. `queues` is the most queues the device can ever
 * have. Takes packets in several buffers too, as `defineRedirect`. Kernel 5.12, for the atomic fetch.
 */
export function defineEveryOther(queues: number): XdpDefinition {
  const sockets = socketMap(queues)
  return defineXdp('xdp_every_other', { frags: true }, (x) => {
    x.require(x.packet.ethernet().type.ne(ETH_P_ARP))
    const before = x.lookup(counterMap, 0).orReturn('pass').fetchAdd(1)
    x.require(before.hasNone(1))
    return x.redirectTo(sockets, x.queue)
  })
}

/** Every other packet, loaded. */
export class EveryOtherProgram {
  readonly program: BpfProgram
  /** Sockets by queue. */
  readonly sockets: BpfMap<number, number>
  readonly #counter: BpfMap<number, number>
  readonly #loaded: LoadedXdp

  private constructor(loaded: LoadedXdp) {
    this.#loaded = loaded
    this.program = loaded.program
    this.sockets = loaded.map(socketMap(0))
    this.#counter = loaded.map(counterMap)
  }

  /** Loads the program. `queues` is the most queues the device can ever have. */
  static load({ queues }: { queues: number }): EveryOtherProgram {
    return new EveryOtherProgram(defineEveryOther(queues).load())
  }

  /** How many packets have been counted, modulo 2^32. */
  get count(): number {
    return this.#counter.lookup(0) ?? 0
  }

  /** Lets go of the program and its maps: they live on while attached. */
  close(): void {
    this.#loaded.close()
  }
}
