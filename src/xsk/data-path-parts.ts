// What a data path is made of: memory, rings, and the kernel as two system calls.
import type { Doorbell } from './doorbell.js'
import type { FramePool } from './frame-pool.js'
import type { RingMemory } from './ring-memory.js'
import type { FrameLink } from './shared-frames.js'

/** What a data path is made of. */
export interface DataPathParts {
  /** The memory the packets are in, and a view of the same. */
  bytes: Uint8Array
  view: DataView
  frameSize: number
  pool: FramePool
  rings: { fill: RingMemory; completion: RingMemory; rx: RingMemory; tx: RingMemory }
  doorbell: Doorbell
  /** Packets taken at a time when no budget is given. */
  batch: number
  needWakeup: boolean
  /** Packets may be in several frames. Default false. */
  multiBuffer?: boolean | undefined
  /** For messages: `veth0`. */
  interface: string
  queue: number
  /** Where to count, when another thread is to read it: `SHARED_COUNTERS` slots. Default: an array of its own. */
  counters?: Float64Array | undefined
  /** The data paths that this one exchanges frames with. */
  link?: FrameLink | undefined
  /** What is between these fill and completion rings and the kernel's, when the queue is shared with other threads. */
  shared?: { move(): void } | undefined
}
