// The time of day in nanoseconds, from the monotonic clock that eBPF programs and this process have in common.
import { performance } from 'node:perf_hooks'

/** A tick of `Date.now()` seen from this near is near enough: nanoseconds. */
const NEAR = 2_000
const ATTEMPTS = 5
/** A step of the system's clock larger than this is followed: milliseconds. */
const STEP = 5

/**
 * Turns CLOCK_MONOTONIC into the time of day. Node tells the time of day in milliseconds only; what is in between comes
 * from looking when a millisecond begins, which takes one to five of them: at `new` and when the clock was set.
 */
export class WallClock {
  /** `performance.now()` is this far behind CLOCK_MONOTONIC: nanoseconds. */
  readonly #origin: number
  /** The time of day when CLOCK_MONOTONIC was 0. */
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
    this.#origin = Number(process.hrtime.bigint()) - performance.now() * 1e6
    this.#synchronise()
  }

  /** Nanoseconds of CLOCK_MONOTONIC now: exact for 104 days, then to two. */
  now(): number {
    return performance.now() * 1e6 + this.#origin
  }

  /** The time of day when CLOCK_MONOTONIC was 0: nanoseconds. */
  get offset(): bigint {
    return BigInt(this.#seconds) * 1_000_000_000n + BigInt(this.#nanoseconds)
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
    const time = this.now() / 1e6
    const wall = time + this.#seconds * 1e3 + this.#nanoseconds / 1e6
    if (Math.abs(Date.now() - wall) <= STEP) return
    this.#synchronise()
    this.onSet()
  }

  #synchronise(): void {
    this.#start = Infinity
    let best = Infinity
    for (let i = 0; i < ATTEMPTS && best > NEAR; i++) {
      const start = Date.now()
      let before = this.now()
      let after = before
      let wall = start
      while (wall === start) {
        before = after
        wall = Date.now()
        after = this.now()
      }
      if (after - before >= best) continue
      best = after - before
      // The millisecond began in between.
      const whole = Math.floor(after / 1e9)
      const total = (wall % 1000) * 1e6 - Math.floor(after - whole * 1e9)
      const borrow = total < 0 ? 1 : 0
      this.#seconds = Math.floor(wall / 1000) - whole - borrow
      this.#nanoseconds = total + borrow * 1e9
    }
  }
}
