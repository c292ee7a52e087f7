// The writing end of a ring: reserve slots, fill them, commit or cancel.
import { load, store } from './ring-index.js'
import type { RingMemory } from './ring-memory.js'
import { XDP_RING_NEED_WAKEUP } from './uapi.js'

/**
 * What the fill and the TX ring share. One thread per ring.
 *
 * `reserve(n)` answers how many slots there are, 0 to n; slot k of the reservation is written with the
 * subclass's `set(k, …)`; `commit(m)` hands the first m to the kernel and gives the others back. A second
 * `reserve` before `commit` starts over, so cancelling is `commit(0)`, spelt `cancel()`.
 */
export abstract class ProducerRing {
  /** Slots of the ring. */
  readonly size: number
  /** The entries as words, for a loop that keeps it, `mask` and `next` in local variables: slot k begins at `(next + k) & mask`, in entries. */
  readonly entries: Uint32Array
  readonly mask: number
  /** Index of the first reserved slot, modulo 2^32. */
  next: number
  readonly #producer: Uint32Array
  readonly #consumer: Uint32Array
  readonly #flags: Uint32Array
  // The consumer's index when last looked at: most reservations need no look at the shared cache line.
  #seen: number
  #reserved = 0

  constructor(memory: RingMemory) {
    this.size = memory.size
    this.mask = memory.size - 1
    this.entries = memory.entries
    this.#producer = memory.producer
    this.#consumer = memory.consumer
    this.#flags = memory.flags
    this.next = load(memory.producer)
    this.#seen = load(memory.consumer)
  }

  /** Reserves up to `count` slots and answers how many. */
  reserve(count: number): number {
    let free = this.size - ((this.next - this.#seen) >>> 0)
    if (free < count) {
      this.#seen = load(this.#consumer)
      free = this.size - ((this.next - this.#seen) >>> 0)
    }
    return (this.#reserved = free < count ? free : count)
  }

  /** Publishes the first `count` slots of the reservation; the rest is given back. */
  commit(count: number = this.#reserved): void {
    if (count > this.#reserved) throw new RangeError(`commit of ${count} slots, ${this.#reserved} reserved`)
    this.#reserved = 0
    if (count === 0) return
    this.next = (this.next + count) >>> 0
    store(this.#producer, this.next)
  }

  /** Gives the whole reservation back. */
  cancel(): void {
    this.#reserved = 0
  }

  /** Entries the kernel has not taken yet. */
  get level(): number {
    return (this.next - load(this.#consumer)) >>> 0
  }

  /** Entries committed so far, modulo 2^32. */
  get producerIndex(): number {
    return this.next
  }

  /** The kernel waits for a system call before it looks at this ring again. */
  get needsWakeup(): boolean {
    return (load(this.#flags) & XDP_RING_NEED_WAKEUP) !== 0
  }
}
