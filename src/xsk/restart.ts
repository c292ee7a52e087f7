// When a thread that has ended by itself is replaced: of a group's workers, and of whoever else runs modules in threads.

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

/** The policy with every default filled in; undefined for a thread that is not replaced. */
export function restartPolicy(given: RestartPolicy | false): Required<RestartPolicy> | undefined {
  return given === false ? undefined : { ...DEFAULTS, ...given }
}

/** Milliseconds to wait before a thread is replaced that has crashed `crashes` times in a row, 1 or more. */
export function restartDelay({ delayMs, maxDelayMs }: Required<RestartPolicy>, crashes: number): number {
  return Math.min(maxDelayMs, delayMs * 2 ** (crashes - 1))
}
