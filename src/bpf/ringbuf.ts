// Consumer of a BPF ring buffer: records that programs wrote, read in place (kernel/bpf/ringbuf.c). Kernel 5.8.
import { watchDescriptor } from '../kernel/descriptor.js'
import { OptionError, StateError } from '../kernel/errors.js'
import { MappedRegion, PAGE_SIZE } from '../kernel/memory.js'
import { type NativeWatcher, READABLE } from '../kernel/native.js'

// include/uapi/linux/bpf.h: the bits of a record's header, and its size
const BPF_RINGBUF_BUSY_BIT = 0x80000000
const BPF_RINGBUF_DISCARD_BIT = 0x40000000
const BPF_RINGBUF_HDR_SZ = 8
const LENGTH_MASK = 0x3fffffff

/** What a ring buffer needs of its map. */
interface RingBufferMap {
  readonly fd: number
  readonly type: string
  readonly name: string
  readonly maxEntries: number
}

/**
 * A record: `length` bytes of `bytes` at `offset`, where the program wrote them. Valid during the call only: copy what is kept.
 */
export type RecordHandler = (bytes: Uint8Array, offset: number, length: number) => void

/** What came through. */
export interface RingBufferCounters {
  /** Records handed on. */
  received: number
  /** Records that the program reserved and gave up. */
  discarded: number
}

/**
 * The consuming side of a map of type `ringbuf`. There is one consumer: a second one, in this process or another, would
 * take its records away. Needs `close()`; the map stays the caller's.
 */
export class RingBuffer {
  readonly counters: RingBufferCounters = { received: 0, discarded: 0 }
  /** Size in bytes. */
  readonly size: number
  readonly #fd: number
  readonly #name: string
  readonly #consumer: MappedRegion
  readonly #producer: MappedRegion
  /** Positions are 64-bit byte counts that only grow; their low halves are enough to read, as a ring has at most 2^31 bytes. */
  readonly #consumerPosition: BigUint64Array
  readonly #producerPosition: Uint32Array
  readonly #headers: Uint32Array
  /** The ring twice in a row, so that no record is ever split. */
  readonly #data: Uint8Array
  /** What was published, and the bytes passed since then. */
  #position: bigint
  #passed = 0
  #isOpen = true
  #isConsuming = false
  #watcher: NativeWatcher | undefined

  /** Throws `OptionError` for a map of another type. Starts where the last consumer stopped. */
  constructor(map: RingBufferMap) {
    if (map.type !== 'ringbuf') {
      throw new OptionError('map', `The map "${map.name}" is of type "${map.type}", not "ringbuf"`)
    }
    this.size = map.maxEntries
    this.#fd = map.fd
    this.#name = map.name
    const context = { about: `ring buffer "${map.name}"` }
    // One page that we write, one that the kernel writes with the ring behind it, which may not be writable.
    this.#consumer = MappedRegion.map({ fd: map.fd, length: PAGE_SIZE, context })
    try {
      const length = PAGE_SIZE + 2 * this.size
      this.#producer = MappedRegion.map({ fd: map.fd, offset: PAGE_SIZE, length, writable: false, context })
    } catch (error) {
      this.#consumer.close()
      throw error
    }
    this.#consumerPosition = new BigUint64Array(this.#consumer.buffer, 0, 1)
    this.#producerPosition = new Uint32Array(this.#producer.buffer, 0, 1)
    this.#headers = new Uint32Array(this.#producer.buffer, PAGE_SIZE)
    this.#data = new Uint8Array(this.#producer.buffer, PAGE_SIZE)
    this.#position = Atomics.load(this.#consumerPosition, 0)
  }

  /** Bytes waiting, headers and records not yet committed included. */
  get pending(): number {
    this.#assertOpen()
    const position = Number(this.#position & 0xffffffffn) + this.#passed
    return (Atomics.load(this.#producerPosition, 0) - position) >>> 0
  }

  /**
   * Hands on what is there, in order, at most `budget` records (discarded ones count). Returns how many records were
   * handed on. Stops at a record that its program has not committed yet. When the handler throws, the record counts
   * as consumed. A handler must not consume itself (`StateError`).
   */
  consume(handler: RecordHandler, budget = Infinity): number {
    this.#assertOpen()
    if (this.#isConsuming) throw new StateError(`The ring buffer "${this.#name}" is being consumed already`)
    this.#isConsuming = true
    try {
      return this.#consumeAll(handler, budget)
    } finally {
      this.#isConsuming = false
    }
  }

  #consumeAll(handler: RecordHandler, budget: number): number {
    const before = this.counters.received
    let left = budget
    // The program wakes us only when the record it commits is where the published position stands. So after
    // publishing, look again: one may have been committed in between.
    for (;;) {
      const taken = this.#consumeOnce(handler, left)
      left -= taken
      if (taken === 0 || left <= 0) break
    }
    return this.counters.received - before
  }

  /**
   * Consumes on the event loop of this thread, at most `budget` records at a time, until `unwatch` or `close`. What the
   * handler throws becomes an uncaught exception.
   */
  watch(handler: RecordHandler, options: { budget?: number } = {}): void {
    this.#assertOpen()
    if (this.#watcher) throw new StateError(`The ring buffer "${this.#name}" is watched already`)
    const budget = options.budget ?? 1024
    this.#watcher = watchDescriptor(this.#fd, () => this.consume(handler, budget))
    this.#watcher.start(READABLE)
  }

  /** Stops `watch`. Harmless when nothing is watched. */
  unwatch(): void {
    this.#watcher?.close()
    this.#watcher = undefined
  }

  /** Unmaps the ring. Records left in it stay for the next consumer. Closing twice is harmless, and a handler may do it. */
  close(): void {
    this.unwatch()
    this.#publish()
    this.#isOpen = false
    this.#consumer.close()
    this.#producer.close()
  }

  [Symbol.dispose](): void {
    this.close()
  }

  /** One pass to the producer's position; the number of records passed. The position is published once, at its end. */
  #consumeOnce(handler: RecordHandler, budget: number): number {
    if (!this.#isOpen) return 0
    const mask = this.size - 1
    const start = Number(this.#position & 0xffffffffn)
    const available = (Atomics.load(this.#producerPosition, 0) - start) >>> 0
    let taken = 0
    try {
      while (this.#isOpen && this.#passed < available && taken < budget) {
        const at = (start + this.#passed) & mask
        const header = Atomics.load(this.#headers, at >>> 2)
        if (header & BPF_RINGBUF_BUSY_BIT) break
        const length = header & LENGTH_MASK
        // Behind this record, whatever the handler does.
        this.#passed += (length + BPF_RINGBUF_HDR_SZ + 7) & ~7
        taken++
        if (header & BPF_RINGBUF_DISCARD_BIT) {
          this.counters.discarded++
        } else {
          this.counters.received++
          handler(this.#data, at + BPF_RINGBUF_HDR_SZ, length)
        }
      }
    } finally {
      this.#publish()
    }
    return taken
  }

  /** Gives the kernel the room of the records that were passed. */
  #publish(): void {
    if (this.#passed === 0) return
    this.#position += BigInt(this.#passed)
    this.#passed = 0
    Atomics.store(this.#consumerPosition, 0, this.#position)
  }

  #assertOpen(): void {
    this.#consumer.assertOpen(`The ring buffer "${this.#name}"`)
  }
}
