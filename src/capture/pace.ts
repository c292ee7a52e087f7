// How often a ring is looked at: at once when packets begin to come, then as seldom as its room allows.

/** How long a packet may wait in the ring while many come, unless somebody says: milliseconds. */
export const LATENCY_MS = 20
/** Packets that are worth a look at the ring: to be woken up for fewer costs less. */
export const MANY = 8

/** What is looked at. */
export interface PacedRing {
  /** Hands on what is there. How much of the ring that was: 0 for no packets, 1 for a full ring, more if more came meanwhile. */
  take(): number
  /** Calls `Pace.begin` from the event loop when packets are there, until `ignore`. */
  watch(): void
  ignore(): void
  /** What `take` threw. Nothing is looked at from then on. */
  failed(error: Error): void
}

/** A ring that is fuller is looked at twice as often, one that is emptier half as often. */
const FULLER = 1 / 2
const EMPTIER = 1 / 8
/** Milliseconds between the first looks. */
const FIRST = 1
/** What may begin to come at any moment, in bytes a millisecond: 1.6 Gbit/s. */
const BURST = 200_000

/** `latency`, or less: milliseconds that a ring with room for `bytes` may go without a look. */
export function boundedWait(latency: number, bytes: number): number {
  return Math.min(latency, Math.ceil(bytes / BURST))
}

/** Looks in vain before the ring is watched again, which costs more than some looks. */
const PATIENCE = 8

/**
 * Waking up for packets costs far more than a packet. While packets flow, a timer says when to look next; nobody waits
 * for the ring meanwhile, so that the kernel wakes nobody. When looks find nothing, the ring is watched again.
 */
export class Pace {
  readonly #ring: PacedRing
  readonly #longest: number
  readonly #hasBell: boolean
  #wait = FIRST
  #inVain = 0
  #timer: NodeJS.Timeout | undefined
  #immediate: NodeJS.Immediate | undefined
  #wasLooking = false
  #state: 'stopped' | 'watching' | 'looking' = 'stopped'

  /**
   * `longest`: milliseconds that a packet may wait; 0 to be woken up for each one. `hasBell`: somebody calls `hurry` before the ring
   * is full, so that the timer may be as slow as that.
   */
  constructor(ring: PacedRing, longest: number, hasBell = false) {
    this.#ring = ring
    this.#longest = longest
    this.#hasBell = hasBell
  }

  /** Looks go on where they were stopped: a consumer that is slower than the packets pauses many times a second. */
  start(): void {
    if (this.#state !== 'stopped') return
    if (this.#wasLooking) {
      this.#state = 'looking'
      this.#inVain = 0
      this.#immediate = setImmediate(this.#look)
      return
    }
    this.#state = 'watching'
    this.#ring.watch()
  }

  stop(): void {
    if (this.#state === 'stopped') return
    this.#wasLooking = this.#state === 'looking'
    if (this.#state === 'watching') this.#ring.ignore()
    this.#state = 'stopped'
    clearTimeout(this.#timer)
    clearImmediate(this.#immediate)
  }

  /** Packets came: they are the first of many, perhaps. */
  begin(): void {
    if (this.#state !== 'watching' || this.#longest === 0) return
    this.#ring.ignore()
    this.#state = 'looking'
    this.#wait = Math.min(FIRST, this.#longest)
    this.#inVain = 0
    this.#sleep()
  }

  /** Something says that the ring fills: it is looked at now, if it would have been later. */
  hurry(): void {
    if (this.#state !== 'looking') return
    clearTimeout(this.#timer)
    clearImmediate(this.#immediate)
    this.#look()
  }

  #sleep(): void {
    if (this.#wait >= FIRST) this.#timer = setTimeout(this.#look, this.#wait)
    else this.#immediate = setImmediate(this.#look)
  }

  readonly #look = (): void => {
    let level: number
    try {
      level = this.#ring.take()
    } catch (error) {
      this.stop()
      this.#ring.failed(error as Error)
      return
    }
    // A consumer may have paused or closed it.
    if (this.#state !== 'looking') return
    this.#inVain = level === 0 ? this.#inVain + 1 : 0
    if (this.#inVain > PATIENCE) {
      this.#state = 'watching'
      this.#ring.watch()
      return
    }
    if (level > FULLER && !this.#hasBell) this.#wait >>= 1
    else if (level < EMPTIER || this.#hasBell)
      this.#wait = Math.min(Math.max(this.#wait * 2, FIRST), this.#longest)
    this.#sleep()
  }
}
