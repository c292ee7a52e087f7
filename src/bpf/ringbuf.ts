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
/** The processor loads in the order of the program, as V8 does: what was loaded after a header is no older than it is. */
const LOADS_IN_ORDER = process.arch === 'x64'

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

/** Where records are that wait in a ring: see `RingBuffer.take`. */
export class RecordBatch {
  /** What the offsets count in, and the same in words. */
  bytes: Uint8Array = new Uint8Array(0)
  words: Uint32Array = new Uint32Array(0)
  /** Where each record begins: a multiple of 8. */
  readonly offsets: Uint32Array
  count = 0

  /** `capacity`: records that it has room for. */
  constructor(capacity: number) {
    this.offsets = new Uint32Array(capacity)
  }
}

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
  readonly #data: Uint8Array
  readonly #words: Uint32Array
  /** Where the one record is put together that the end of the ring splits. */
  #split = new Uint8Array(0)
  #splitWords = new Uint32Array(0)
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
      // The kernel would map the ring twice in a row, so that none is split; but then it counts twice as memory.
      const length = PAGE_SIZE + this.size
      this.#producer = MappedRegion.map({ fd: map.fd, offset: PAGE_SIZE, length, writable: false, context })
    } catch (error) {
      this.#consumer.close()
      throw error
    }
    this.#consumerPosition = new BigUint64Array(this.#consumer.buffer, 0, 1)
    this.#producerPosition = new Uint32Array(this.#producer.buffer, 0, 1)
    this.#words = new Uint32Array(this.#producer.buffer, PAGE_SIZE)
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
   * Notes where the next records are, in order, as many as `into` has room for, and no more once they have `mostBytes` of the
   * ring; how many. They are as the program wrote them until `release`. Stops at a record that is not committed yet. Not
   * within a handler of `consume`.
   */
  take(into: RecordBatch, mostBytes = Infinity): number {
    this.#assertOpen()
    into.bytes = this.#data
    into.words = this.#words
    into.count = 0
    const { offsets } = into
    const words = this.#words
    const mask = this.size - 1
    const start = Number(this.#position & 0xffffffffn)
    const available = (Atomics.load(this.#producerPosition, 0) - start) >>> 0
    let passed = this.#passed
    const end = Math.min(available, passed + mostBytes)
    let count = 0
    while (passed < end && count < offsets.length) {
      const at = (start + passed) & mask
      // Atomics.load is a call, which costs as much as all else here.
      const header = LOADS_IN_ORDER ? words[at >>> 2] : Atomics.load(words, at >>> 2)
      if (header & BPF_RINGBUF_BUSY_BIT) break
      const length = header & LENGTH_MASK
      const room = (length + BPF_RINGBUF_HDR_SZ + 7) & ~7
      if (header & BPF_RINGBUF_DISCARD_BIT) {
        this.counters.discarded++
      } else if (at + room <= this.size) {
        offsets[count++] = at + BPF_RINGBUF_HDR_SZ
      } else {
        // Elsewhere than the others, so it comes by itself.
        if (count > 0) break
        into.bytes = this.#unsplit(at + BPF_RINGBUF_HDR_SZ, length)
        into.words = this.#splitWords
        offsets[count++] = 0
        passed += room
        break
      }
      passed += room
    }
    this.#passed = passed
    this.counters.received += count
    return (into.count = count)
  }

  /** Gives the kernel the room of the records that were taken. Harmless once the ring is closed. */
  release(): void {
    if (this.#isOpen) this.#publish()
  }

  /** Calls `onReady` on the event loop of this thread when records wait, until `unwatch` or `close`. */
  watchReady(onReady: () => void): void {
    this.#assertOpen()
    if (this.#watcher) throw new StateError(`The ring buffer "${this.#name}" is watched already`)
    this.#watcher = watchDescriptor(this.#fd, onReady)
    this.#watcher.start(READABLE)
  }

  /**
   * Consumes on the event loop of this thread, at most `budget` records at a time, until `unwatch` or `close`. What the
   * handler throws becomes an uncaught exception.
   */
  watch(handler: RecordHandler, options: { budget?: number } = {}): void {
    const budget = options.budget ?? 1024
    this.watchReady(() => this.consume(handler, budget))
  }

  /** Stops `watch` and `watchReady`. Harmless when nothing is watched. */
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
        const header = Atomics.load(this.#words, at >>> 2)
        if (header & BPF_RINGBUF_BUSY_BIT) break
        const length = header & LENGTH_MASK
        // Behind this record, whatever the handler does.
        this.#passed += (length + BPF_RINGBUF_HDR_SZ + 7) & ~7
        taken++
        if (header & BPF_RINGBUF_DISCARD_BIT) {
          this.counters.discarded++
        } else {
          this.counters.received++
          const data = at + BPF_RINGBUF_HDR_SZ
          if (data + length <= this.size) handler(this.#data, data, length)
          else handler(this.#unsplit(data, length), 0, length)
        }
      }
    } finally {
      this.#publish()
    }
    return taken
  }

  /** The record of `length` bytes at `data`, whose end is at the beginning of the ring, in one piece. */
  #unsplit(data: number, length: number): Uint8Array {
    if (this.#split.length < length) {
      this.#split = new Uint8Array((length + 7) & ~7)
      this.#splitWords = new Uint32Array(this.#split.buffer)
    }
    const before = Math.max(0, this.size - data)
    this.#split.set(this.#data.subarray(data, data + before))
    this.#split.set(this.#data.subarray(data - this.size + before, data - this.size + length), before)
    return this.#split
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
