// When packets arrived, without a look at the clock for each of them.
import { monotonicNow } from './stamp.js'

// Packets that share a reading of the clock: some 50 ns each.
const PACKETS_A_READING = 16

/** Of packets that are handled in one turn of the event loop, every sixteenth looks at the clock. */
export class ArrivalClock {
  readonly #read: () => number
  #now = 0
  #readings = 0

  /** `read` answers nanoseconds of CLOCK_MONOTONIC. */
  constructor(read: () => number = monotonicNow) {
    this.#read = read
  }

  /** Nanoseconds of CLOCK_MONOTONIC for a packet that was sent at `sent`, and so did not arrive before. */
  at(sent: number): number {
    if (this.#readings === 0) queueMicrotask(this.#newTurn)
    // A turn may take several batches: the packets of a later one can be younger than the reading.
    if (this.#readings++ % PACKETS_A_READING === 0 || sent > this.#now) this.#now = this.#read()
    return this.#now
  }

  readonly #newTurn = (): void => {
    this.#readings = 0
  }
}
