// Ctrl-C, SIGTERM and the end of the terminal as an abort signal, from before anything is opened until everything is closed again.

const STOPS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

/** So long after the first a signal is the same request: `timeout` and many supervisors signal a process and its group at once. */
export const SAME_MS = 1000

/**
 * Runs `work`, whose first signal aborts at the first SIGINT, SIGTERM or SIGHUP. One that comes a second later ends the process where
 * it is, when those who listen to the second signal have had their last words.
 */
export async function untilInterrupted<T>(
  work: (signal: AbortSignal, lastWords: AbortSignal) => Promise<T>,
): Promise<T> {
  const control = new AbortController()
  const last = new AbortController()
  let first: number | undefined
  const leave = () => {
    for (const signal of STOPS) process.off(signal, stop)
  }
  const stop = (signal: NodeJS.Signals) => {
    first ??= performance.now()
    if (performance.now() - first > SAME_MS) {
      leave()
      last.abort()
      process.kill(process.pid, signal)
    }
    control.abort()
  }
  for (const signal of STOPS) process.on(signal, stop)
  try {
    return await work(control.signal, last.signal)
  } finally {
    // The second of two may come while the process ends.
    if (!control.signal.aborted) leave()
  }
}
