// The time of day in nanoseconds, from the monotonic clock that eBPF programs and this process have in common.
import { performance } from 'node:perf_hooks'
import { native } from '../kernel/native.js'

/** Clocks that were read within so many nanoseconds were read at once. */
const NEAR = 1_000n
const ATTEMPTS = 50
/** Nanoseconds by which the time of day was set, and not read inexactly. */
const STEP = 5_000n

/** Turns CLOCK_MONOTONIC into the time of day, and follows when that is set. */
export class WallClock {
  /** `performance.now()` is this far behind CLOCK_MONOTONIC: nanoseconds. */
  readonly #origin: number
  /** The time of day when CLOCK_MONOTONIC was 0: nanoseconds. */
  #offset: bigint
  /** The same, seconds and the rest. */
  #seconds = 0
  #nanoseconds = 0
  /** What `read` found. */
  seconds = 0
  nanoseconds = 0
  /** When the second of that began. */
  #start = Infinity

  /** Called when the system's clock was found set. */
  onSet: () => void = () => undefined

  constructor() {
    const { monotonic, own, offset } = readAtOnce()
    this.#origin = monotonic - own
    this.#offset = offset
    this.#split()
  }

  /** Nanoseconds of CLOCK_MONOTONIC now: exact for 104 days, then to two. */
  now(): number {
    return performance.now() * 1e6 + this.#origin
  }

  /** The time of day when CLOCK_MONOTONIC was 0: nanoseconds. */
  get offset(): bigint {
    return this.#offset
  }

  /** Puts the time of day at `time` of CLOCK_MONOTONIC into `seconds` and `nanoseconds`. */
  read(time: number): void {
    let since = time - this.#start
    // Packets come many in a second.
    if (!(since >= 0 && since < 1e9)) {
      const whole = Math.floor((time + this.#nanoseconds) / 1e9)
      this.seconds = whole + this.#seconds
      this.#start = whole * 1e9 - this.#nanoseconds
      since = time - this.#start
    }
    this.nanoseconds = Math.floor(since)
  }

  /** Looks whether the system's clock was set meanwhile. Cheap: for every second. */
  check(): void {
    const { offset, isExact } = readAtOnce()
    const step = offset - this.#offset
    if (!isExact || (step < STEP && step > -STEP)) return
    this.#offset = offset
    this.#split()
    this.onSet()
  }

  #split(): void {
    this.#start = Infinity
    this.#seconds = Number(this.#offset / 1_000_000_000n)
    this.#nanoseconds = Number(this.#offset % 1_000_000_000n)
  }
}

/** The clocks, read as near to each other as can be: whatever interrupts a reading makes it take longer. */
function readAtOnce() {
  const clocks = new BigInt64Array(3)
  let best = { monotonic: 0, own: 0, offset: 0n, isExact: false }
  let least = Infinity
  for (let i = 0; i < ATTEMPTS && least > Number(NEAR); i++) {
    const before = performance.now() * 1e6
    native.readClocks(clocks)
    const after = performance.now() * 1e6
    const [start, wall, end] = clocks
    const width = Math.max(after - before, Number(end - start))
    if (width >= least) continue
    least = width
    const monotonic = (start + end) / 2n
    best = {
      monotonic: Number(monotonic),
      own: (before + after) / 2,
      offset: wall - monotonic,
      isExact: width <= Number(NEAR),
    }
  }
  return best
}
