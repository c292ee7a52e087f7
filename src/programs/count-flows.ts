// Counts packets and bytes by flow, and passes them all, or drops those that it is told to.
import { type BpfMap, type BpfProgram, type Decoded, counter, struct } from '../bpf/index.js'
import {
  type Condition,
  type LoadedXdp,
  type Xdp,
  type XdpDefinition,
  defineMap,
  defineXdp,
} from '../bpf/builder/index.js'
import { takesFrags } from '../bpf/features.js'
import { OptionError } from '../kernel/index.js'
import { type Count, countValue, sumCounts } from './count.js'
import { type FlowKey, flowKey, writeFlow } from './flow-key.js'
import { type ShippedProgram, oneNumber } from './shipped.js'

/** How many flows a table holds unless it is told otherwise: about 10 MiB. */
export const DEFAULT_FLOWS = 65_536
/** The most it can be told to hold. */
export const MAX_FLOWS = 1 << 24

const flowValue = struct({
  packets: counter,
  bytes: counter,
  dropped: counter,
  /** Nanoseconds since the machine started. */
  firstSeen: counter,
  lastSeen: counter,
})

const flowMap = (maxFlows: number) =>
  defineMap({ type: 'hash', name: 'flows', key: flowKey, value: flowValue, maxEntries: maxFlows })

/** What belongs to no flow of the table. */
const REST = { overflow: 0, notIp: 1, malformed: 2 } as const
const restMap = defineMap({ type: 'percpu_array', name: 'no_flow', value: countValue, maxEntries: 3 })

/** How flows are counted. */
export interface CountFlowsOptions {
  /** The most flows at a time: 1 to 2^24, default 65536, about 150 bytes each. Packets of more count as overflow. */
  maxFlows?: number
  /** Which packets to drop; they count as packets of their flow, and as dropped. Default none. */
  drop?: (x: Xdp) => Condition
  /** Take packets in several buffers (jumbo frames) too, for which it needs kernel 5.18. Default false; `FlowCounter.load` takes them where the kernel can. */
  frags?: boolean
}

/**
 * ```
 * packet, up to two VLAN tags ─┬─ IPv4 or IPv6 ─┬─ of a flow in the table ──────────── added to it ──┐
 *                              │                ├─ of a new flow, the table has room ─ entered ──────┤
 *                              │                └─ of a new flow, the table is full ── as overflow ──┼─→ pass, or drop
 *                              ├─ another type ─────────────────────────────────────── as notIp ─────┤   when told to
 *                              └─ too short or malformed ───────────────────────────── as malformed ─┘
 * ```
 *
 * Every packet is counted once, whatever happens on other CPUs meanwhile: counts are added atomically, and of two CPUs that
 * enter a flow at once the second adds to what the first entered. Fragments are a flow of their own between their addresses,
 * with ports 0, since only the first says which ports. Kernel 5.3, for the loop over IPv6 extension headers.
 */
export function defineCountFlows(options: CountFlowsOptions = {}): XdpDefinition {
  const { maxFlows = DEFAULT_FLOWS, drop, frags = false } = options
  if (!(Number.isInteger(maxFlows) && maxFlows >= 1 && maxFlows <= MAX_FLOWS)) {
    throw new OptionError(
      'maxFlows',
      `A table cannot hold ${maxFlows} flows`,
      `It can hold 1 to ${MAX_FLOWS}.`,
    )
  }
  const flows = flowMap(maxFlows)
  return defineXdp('xdp_flows', { frags }, (x) => {
    const length = (frags ? x.packet.fullLength : x.packet.length).u64()
    const dropped = x.let(x.u64(0))
    if (drop) x.attempt(() => void x.if(drop(x), () => dropped.set(1)))
    const verdict = (): void => {
      if (drop) x.require(dropped.value.eq(0), 'drop')
    }
    const rest = x.let(x.u32(REST.malformed))
    x.attempt(() => {
      const key = x.uninitialized(flowKey)
      writeFlow(x, x.packet.ethernet({ vlans: 2 }), key, () => {
        rest.set(REST.notIp)
        x.fail()
      })
      const now = x.time()
      const addToFlow = (): void =>
        void x.ifPresent(x.lookup(flows, key), (flow) => {
          flow.packets.atomicAdd(1)
          flow.bytes.atomicAdd(length)
          if (drop) flow.dropped.atomicAdd(dropped.value)
          flow.lastSeen.set(now)
          verdict()
          return 'pass'
        })
      addToFlow()
      const entered = { packets: 1, bytes: length, dropped: dropped.value, firstSeen: now, lastSeen: now }
      x.if(x.update(flows, key, entered, 'create').eq(0), () => {
        verdict()
        return 'pass'
      })
      // Another CPU was quicker, or the table is full.
      addToFlow()
      rest.set(REST.overflow)
    })
    const count = x.lookup(restMap, rest.value).orReturn()
    count.packets.increment()
    count.bytes.increment(length)
    verdict()
  })
}

/** A flow as it was counted. */
export interface Flow extends Count {
  /** 4 or 6. */
  readonly version: number
  readonly protocol: number
  /** 4 or 16 bytes. */
  readonly src: Uint8Array
  readonly dst: Uint8Array
  /** Both 0 for what is neither TCP nor UDP, and for fragments. */
  readonly srcPort: number
  readonly dstPort: number
  /** The outer VLAN's id; 0 without a tag. */
  readonly vlan: number
  /** How many of the packets were dropped. */
  readonly dropped: number
  /** Nanoseconds since the machine started (CLOCK_MONOTONIC): when its first packet came, and about when its last. */
  readonly firstSeen: number
  readonly lastSeen: number
}

/** What belongs to no flow of the table. */
export interface FlowRest {
  /** Of flows for which the table had no room. */
  readonly overflow: Count
  /** Neither IPv4 nor IPv6. */
  readonly notIp: Count
  /** Too short, or not what its headers say. */
  readonly malformed: Count
}

/** Counting by flow, loaded. */
export class FlowCounter {
  readonly program: BpfProgram
  /** How many flows the table holds. */
  readonly maxFlows: number
  readonly #flows: BpfMap<FlowKey, Decoded<typeof flowValue>>
  readonly #rest: BpfMap<number, Count[]>
  readonly #loaded: LoadedXdp

  private constructor(loaded: LoadedXdp, maxFlows: number) {
    this.#loaded = loaded
    this.program = loaded.program
    this.maxFlows = maxFlows
    this.#flows = loaded.map(flowMap(maxFlows))
    this.#rest = loaded.map(restMap)
  }

  /** Loads the program. Throws `OptionError` for a number of flows that cannot be. */
  static load(options: CountFlowsOptions = {}): FlowCounter {
    return new FlowCounter(
      defineCountFlows({ frags: takesFrags(), ...options }).load(),
      options.maxFlows ?? DEFAULT_FLOWS,
    )
  }

  /**
   * The flows in the table, in no order, read many at a time (kernel 5.6; before that one by one). Each count is exact when it
   * is read. A flow that is entered or removed meanwhile may or may not be seen.
   */
  *flows(): Generator<Flow, void> {
    for (const [key, value] of this.#flows.entries()) yield flowOf(key, value)
  }

  /** What has been counted outside of the table so far. */
  get rest(): FlowRest {
    const read = (slot: number): Count => sumCounts(this.#rest.lookup(slot) ?? [])
    return { overflow: read(REST.overflow), notIp: read(REST.notIp), malformed: read(REST.malformed) }
  }

  /**
   * Takes out the flows of which no packet came since `time` (nanoseconds since the machine started), to make room for others,
   * and gives them as they were at the end (kernel 5.14). A packet that arrives at the very moment its flow is taken out can
   * go uncounted: choose a time some seconds ago.
   */
  removeIdle(time: number): Flow[] {
    const removed: Flow[] = []
    for (const [key, { lastSeen }] of [...this.#flows.entries()]) {
      if (lastSeen >= time) continue
      const value = this.#flows.take(key)
      if (value) removed.push(flowOf(key, value))
    }
    return removed
  }

  /** Lets go of the program and its maps: they live on while attached. */
  close(): void {
    this.#loaded.close()
  }
}

function flowOf(key: FlowKey, value: Decoded<typeof flowValue>): Flow {
  const from = key.version === 4 ? 12 : 0
  return { ...key, src: key.src.subarray(from), dst: key.dst.subarray(from), ...value }
}

/** `count-flows` by name. */
export const shippedCountFlows: ShippedProgram = {
  summary: 'counts packets and bytes by flow, and passes them all',
  settings: {
    flows: { summary: `the most flows at a time (default: ${DEFAULT_FLOWS})`, example: '1000000' },
  },
  define: (given) => ({
    definition: defineCountFlows({
      frags: takesFrags(),
      maxFlows: oneNumber(given, 'flows', { min: 1, max: MAX_FLOWS }) ?? DEFAULT_FLOWS,
    }),
  }),
}
