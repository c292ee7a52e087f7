// When a thread that has ended by itself is replaced: of a group's workers, and of whoever else runs modules in threads.
import { OptionError } from '../kernel/index.js'

/**
 * How a worker that ends by itself is replaced. Its socket is closed, which takes its queue's packets to the kernel and
 * its frames back; after `delayMs`, doubled with each crash in a row up to `maxDelayMs`, a new socket and a new thread
 * take its place. After `limit` crashes in a row it is given up. A worker that has run for `healthyMs` has a clean slate.
 */
export interface RestartPolicy {
  /** Default 5. */
  limit?: number
  /** Default 100. */
  delayMs?: number
  /** Default 5000. */
  maxDelayMs?: number
  /** Default 10000. */
  healthyMs?: number
}

const DEFAULTS: Required<RestartPolicy> = { limit: 5, delayMs: 100, maxDelayMs: 5000, healthyMs: 10_000 }

/** Counts the crashes of one thread, and says what each is followed by. */
export class Crashes {
  readonly #policy: Required<RestartPolicy> | undefined
  #inARow = 0

  /** `false`: the first is the last. Throws `OptionError`. */
  constructor(policy: RestartPolicy | false) {
    if (policy === false) return
    this.#policy = { ...DEFAULTS, ...policy }
    for (const [name, value] of Object.entries(this.#policy)) checkNotNegative(`restart.${name}`, value)
  }

  /** Forgets them. */
  clear(): void {
    this.#inARow = 0
  }

  /**
   * Counts one, of a thread that had run for `ranForMs` (0: it did not even start). Answers how many milliseconds to wait
   * before the next one takes its place; undefined when there is to be none.
   */
  add(ranForMs = 0): number | undefined {
    const policy = this.#policy
    if (policy === undefined) return undefined
    if (ranForMs >= policy.healthyMs) this.#inARow = 0
    if (++this.#inARow > policy.limit) return undefined
    return Math.min(policy.maxDelayMs, policy.delayMs * 2 ** (this.#inARow - 1))
  }
}

/** Throws `OptionError` for what is below 0, or no number. */
export function checkNotNegative(option: string, value: number): void {
  if (value >= 0) return
  throw new OptionError(option, `${option} cannot be ${value}`, 'Use 0 or more.')
}
