// Ctrl-C, SIGTERM and the end of the terminal as an abort signal, from before anything is opened until everything is closed again.

const STOPS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

/** Runs `work`, whose signal aborts at the first SIGINT, SIGTERM or SIGHUP. A second of the kind ends the process where it is. */
export async function untilInterrupted<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const control = new AbortController()
  const stop = () => control.abort()
  for (const signal of STOPS) process.once(signal, stop)
  try {
    return await work(control.signal)
  } finally {
    for (const signal of STOPS) process.off(signal, stop)
  }
}
