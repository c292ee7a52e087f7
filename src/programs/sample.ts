// Sampling: one packet of so many goes to the queue's socket, the rest passes to the kernel.
import { type BpfMap, type BpfProgram, u32 } from '../bpf/index.js'
import { type LoadedXdp, type XdpDefinition, defineMap, defineXdp } from '../bpf/builder/index.js'
import { OptionError } from '../kernel/index.js'
import { passDiscovery } from './discovery.js'
import { type ShippedProgram, oneNumber, oneWord } from './shipped.js'
import { socketMap } from './sockets.js'

/** How many packets since the last sample, on each processor. */
const sinceMap = defineMap({ type: 'percpu_array', name: 'since_sample', value: u32, maxEntries: 1 })

const MAX_EVERY = 0xffff_ffff

/** How to sample. */
export interface SampleOptions {
  /** One packet of this many: 1 to 4294967295. */
  every: number
  /**
   * `counted` (the default) takes exactly the last of every so many packets that a processor sees. `random` decides anew for each
   * packet, which no regularity of the traffic can mislead; the share is right on average.
   */
  choice?: 'counted' | 'random'
}

/**
 * ```
 * packet ─┬─ ARP, neighbour discovery, IPv6 that is cut short ─────────────→ pass, uncounted: else nobody finds us
 *         └─ anything else ─┬─ it is the N-th on this processor since ─────→ the queue's socket, or pass without one
 *                           │  the last sample (or chance picks it, 1/N)
 *                           └─ any other ──────────────────────────────────→ pass
 * ```
 *
 * Each processor counts for itself, so that processors never wait for each other; a queue's packets come to one processor. A
 * sample is taken from the kernel, not copied. `queues` is the most queues the device can ever have. Takes packets in several
 * buffers too, as `defineRedirect`. Kernel 5.3. Throws `OptionError`.
 */
export function defineSample(queues: number, { every, choice = 'counted' }: SampleOptions): XdpDefinition {
  if (!Number.isInteger(every) || every < 1 || every > MAX_EVERY) {
    throw new OptionError('every', `One packet of ${every} cannot be taken`, 'Use 1 to 4294967295.')
  }
  const sockets = socketMap(queues)
  return defineXdp('xdp_sample', { frags: true }, (x) => {
    passDiscovery(x, x.packet.ethernet())
    if (choice === 'random') {
      // Of 2^32 numbers, as many as come nearest to one in `every`.
      if (every > 1) x.require(x.random().lt(Math.round(2 ** 32 / every)))
    } else {
      const since = x.lookup(sinceMap, 0).orReturn('pass')
      const count = since.add(1)
      x.if(count.lt(every), () => {
        since.set(count)
        return 'pass'
      })
      since.set(0)
    }
    return x.redirectTo(sockets, x.queue)
  })
}

/** Sampling, loaded. */
export class SampleProgram {
  readonly program: BpfProgram
  /** Sockets by queue. */
  readonly sockets: BpfMap<number, number>
  readonly #loaded: LoadedXdp

  private constructor(loaded: LoadedXdp) {
    this.#loaded = loaded
    this.program = loaded.program
    this.sockets = loaded.map(socketMap(0))
  }

  /** Loads the program. `queues` is the most queues the device can ever have. Throws `OptionError`. */
  static load({ queues, ...options }: SampleOptions & { queues: number }): SampleProgram {
    return new SampleProgram(defineSample(queues, options).load())
  }

  /** Lets go of the program and its maps: they live on while attached. */
  close(): void {
    this.#loaded.close()
  }
}

/** Sampling by name. */
export const shippedSample: ShippedProgram = {
  summary: 'gives one packet of so many to its AF_XDP socket, and the rest and all discovery to the kernel',
  settings: {
    every: { summary: 'one packet of how many (default: 100)', example: '1000' },
    choice: {
      summary: 'counted exactly on each processor, or random (default: counted)',
      example: 'random',
    },
  },
  define: (given, { queues }) => {
    const every = oneNumber(given, 'every', { min: 1, max: MAX_EVERY }) ?? 100
    const choice = oneWord(given, 'choice', ['counted', 'random']) ?? 'counted'
    return { definition: defineSample(queues, { every, choice }) }
  },
}
