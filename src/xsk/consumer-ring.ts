// The reading end of a ring: peek at what is there, read it, release it.
import { load, store } from './ring-index.js'
import type { RingMemory } from './ring-memory.js'

/**
 * What the RX and the completion ring share. One thread per ring.
 *
 * `peek(n)` answers how many entries there are, 0 to n; entry k is read with the subclass's accessors;
 * `release(m)` gives the first m back to the kernel. Entries that were not released are seen again.
 */
export abstract class ConsumerRing {
  /** Slots of the ring. */
  readonly size: number
  /** The entries as words, for a loop that keeps it, `mask` and `next` in local variables: entry k begins at `(next + k) & mask`, in entries. */
  readonly entries: Uint32Array
  readonly mask: number
  /** Index of the first entry not released, modulo 2^32. */
  next: number
  readonly #producer: Uint32Array
  readonly #consumer: Uint32Array
  #seen: number

  constructor(memory: RingMemory) {
    this.size = memory.size
    this.mask = memory.size - 1
    this.entries = memory.entries
    this.#producer = memory.producer
    this.#consumer = memory.consumer
    this.next = load(memory.consumer)
    this.#seen = load(memory.producer)
  }

  /** How many entries can be read now, at most `count`. */
  peek(count: number): number {
    let ready = (this.#seen - this.next) >>> 0
    if (ready < count) {
      this.#seen = load(this.#producer)
      ready = (this.#seen - this.next) >>> 0
    }
    return ready < count ? ready : count
  }

  /** Gives the first `count` entries back. They must have been peeked. */
  release(count: number): void {
    if (count > (this.#seen - this.next) >>> 0)
      throw new RangeError(`release of ${count} entries that were not peeked`)
    if (count === 0) return
    this.next = (this.next + count) >>> 0
    store(this.#consumer, this.next)
  }

  /** Entries waiting to be read. */
  get level(): number {
    return (load(this.#producer) - this.next) >>> 0
  }

  /** Entries the kernel has produced so far, modulo 2^32. */
  get producerIndex(): number {
    return load(this.#producer)
  }
}
