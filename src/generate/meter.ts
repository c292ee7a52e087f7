// What became of a stream of stamped packets: loss, reordering, duplicates, latency.
import { Histogram } from './histogram.js'
import type { Stamp } from './stamp.js'

// Sequence numbers that are remembered, to tell late packets from duplicates: a power of two.
const WINDOW = 1 << 16
// Latencies outside of this mean two different clocks. Two readings of one clock may be a little off.
const SHORTEST = -1e6
const LONGEST = 3600e9

/** What a meter has found. */
export interface MeterReport {
  /** Which stream: the stamps' number; -1 before any came. */
  stream: number
  /** Packets, each counted once. */
  received: number
  bytes: number
  /** Numbers that did not come between the lowest and the highest that came. What was lost at the very end shows at the sender only. */
  lost: number
  /** Packets that came after one with a higher number (RFC 4737, section 3). */
  reordered: number
  /** Packets that came again. Beyond 65536 numbers behind the highest, a duplicate counts as reordered. */
  duplicates: number
  /** Packets of other streams, which are not counted otherwise. */
  foreign: number
  /** From the sender's stamp to the moment of reading, in nanoseconds; `undefined` where both had different clocks. */
  latency: { min: number; mean: number; max: number; p50: number; p99: number; p999: number } | undefined
}

/** Follows one stream: the first that comes, or the one that is named. Nothing here allocates per packet. */
export class Meter {
  #stream: number
  #received = 0
  #bytes = 0
  #reordered = 0
  #duplicates = 0
  #foreign = 0
  #lowest = 0
  #highest = -1
  #otherClock = false
  readonly #latency = new Histogram()
  readonly #seen = new Uint32Array(WINDOW / 32)

  constructor(stream = -1) {
    this.#stream = stream
  }

  /** Counts a packet of `length` bytes that was there at `now`, in nanoseconds of CLOCK_MONOTONIC. */
  record(stamp: Stamp, length: number, now: number): void {
    if (this.#stream < 0) this.#stream = stamp.stream
    if (stamp.stream !== this.#stream) {
      this.#foreign++
      return
    }
    if (!this.#isNew(this.#unwrap(stamp.sequence))) return
    this.#received++
    this.#bytes += length
    const latency = now - stamp.time
    if (latency > SHORTEST && latency < LONGEST) this.#latency.record(Math.max(0, latency))
    else this.#otherClock = true
  }

  /** What has been found so far. */
  report(): MeterReport {
    const { min, max, mean, count } = this.#latency
    const [p50, p99, p999] = [50, 99, 99.9].map((percent) => this.#latency.percentile(percent))
    return {
      stream: this.#stream,
      received: this.#received,
      bytes: this.#bytes,
      lost: this.#highest < 0 ? 0 : this.#highest - this.#lowest + 1 - this.#received,
      reordered: this.#reordered,
      duplicates: this.#duplicates,
      foreign: this.#foreign,
      latency: count === 0 || this.#otherClock ? undefined : { min, mean, max, p50, p99, p999 },
    }
  }

  // The whole number, from its low 32 bits: the one nearest to the highest so far.
  #unwrap(low: number): number {
    if (this.#highest < 0) return low
    return this.#highest + ((low - this.#highest) | 0)
  }

  #isNew(sequence: number): boolean {
    const highest = this.#highest
    if (highest < 0) {
      this.#lowest = this.#highest = sequence
      this.#mark(sequence)
      return true
    }
    if (sequence > highest) {
      // What lies between has not come yet.
      if (sequence - highest >= WINDOW) this.#seen.fill(0)
      else for (let missing = highest + 1; missing < sequence; missing++) this.#unmark(missing)
      this.#mark(sequence)
      this.#highest = sequence
      return true
    }
    if (highest - sequence < WINDOW) {
      if (this.#isMarked(sequence)) {
        this.#duplicates++
        return false
      }
      this.#mark(sequence)
    }
    if (sequence < this.#lowest) this.#lowest = sequence
    this.#reordered++
    return true
  }

  #mark(sequence: number): void {
    const bit = sequence & (WINDOW - 1)
    this.#seen[bit >> 5] |= 1 << (bit & 31)
  }

  #unmark(sequence: number): void {
    const bit = sequence & (WINDOW - 1)
    this.#seen[bit >> 5] &= ~(1 << (bit & 31))
  }

  #isMarked(sequence: number): boolean {
    const bit = sequence & (WINDOW - 1)
    return (this.#seen[bit >> 5] & (1 << (bit & 31))) !== 0
  }
}
