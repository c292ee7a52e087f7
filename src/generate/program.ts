// The program that makes every frame of a live-frame run another packet, and paces them.
import { struct, u64 } from '../bpf/index.js'
import { type XdpDefinition, defineMap, defineXdp } from '../bpf/builder/index.js'
import { STAMP, STAMP_BYTES, STAMP_MAGIC } from './stamp.js'

/** Where a template's variable parts are, in bytes from its start. */
export interface TemplateLayout {
  /** Of the stamp: an even number of bytes behind the UDP header. */
  readonly stamp: number
  /** Of the UDP source port. */
  readonly port: number
}

/** What the packets of a run have in common. */
export interface GeneratorShape {
  /** Where the stamp goes; without one the frames leave as they are. */
  readonly layout?: TemplateLayout | undefined
  /** The device they go out of. */
  readonly ifindex: number
  /** 0 to 65535: the stamps' stream. */
  readonly stream: number
  /** Source ports from this one on, one a flow, by turns. */
  readonly firstPort: number
  readonly flows: number
  /** Nanoseconds between two packets; 0 for as fast as it goes. */
  readonly interval: number
  /** Look at the state's `end`. A run cannot be stopped: what is left of it then is dropped, which costs next to nothing. */
  readonly isTimed?: boolean
}

/**
 * The number of the next packet, when it is due, and from when on nothing is sent any more: in nanoseconds of
 * CLOCK_MONOTONIC.
 */
export const stateMap = defineMap({
  type: 'array',
  name: 'generator',
  value: struct({ sequence: u64, due: u64, end: u64 }),
  maxEntries: 1,
})

// Looks at the clock while a packet waits for its time: at least 150 µs.
const MOST_LOOKS = 8000
// A schedule that is further behind, in nanoseconds, begins anew: after a pause nothing is made up for.
const PATIENCE = 1_000_000

/**
 * ```
 * frame ──→ wait until it is due ──→ next number, time, source port ──→ out of the device
 * ```
 *
 * For live-frame runs by one thread at a time: the number is not counted atomically. The stamp's balance keeps the UDP checksum
 * right. Kernel 5.18, for live frames.
 */
export function defineGenerator({
  ifindex,
  stream,
  flows,
  firstPort,
  interval,
  isTimed = false,
  layout,
}: GeneratorShape): XdpDefinition {
  return defineXdp('xdp_generate', { otherwise: 'aborted' }, (x) => {
    const state = x.lookup(stateMap, 0).orReturn()
    const now = x.let(x.time())
    if (isTimed) x.if(now.value.ge(state.end), () => 'drop')
    if (interval > 0) {
      const { due } = state
      x.loop(MOST_LOOKS, (_, loop) => {
        x.if(now.value.ge(due), () => loop.break())
        now.set(x.time())
      })
      const isLate = now.value.gt(due.add(PATIENCE))
      x.if(isLate, () => due.set(now.value.add(interval))).else(() => due.set(due.add(interval)))
    }
    const sequence = x.let(state.sequence.u32()).value
    state.sequence.increment()
    if (layout !== undefined) {
      const flow = flows > 1 ? sequence.mod(flows) : x.u32(0)
      if (flows > 1) x.packet.field(layout.port, 'be16').set(flow.add(firstPort).u16().network())
      const high = now.value.shr(32).u32()
      const low = now.value.u32()
      const stamp = x.packet.bytes(layout.stamp, STAMP_BYTES)
      stamp.field(STAMP.sequence, 'be32').set(sequence.network())
      stamp.field(STAMP.time, 'be32').set(high.network())
      stamp.field(STAMP.time + 4, 'be32').set(low.network())
      // Nine words of 16 bits at most: two folds make one of them.
      const sum = [sequence, high, low].reduce(
        (total, word) => total.add(word.shr(16)).add(word.and(0xffff)),
        flow.add(STAMP_MAGIC + stream),
      )
      const folded = [0, 1].reduce((value) => value.shr(16).add(value.and(0xffff)), sum)
      stamp.field(STAMP.balance, 'be16').set(folded.xor(0xffff).u16().network())
    }
    return x.redirectToInterface(ifindex)
  })
}
