// Ctrl-C and SIGTERM as an abort signal, from before anything is opened until everything is closed again.

/** Runs `work`, whose signal aborts at the first SIGINT or SIGTERM. A second one ends the process where it is. */
export async function untilInterrupted<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const control = new AbortController()
  const stop = () => control.abort()
  process.once('SIGINT', stop).once('SIGTERM', stop)
  try {
    return await work(control.signal)
  } finally {
    process.off('SIGINT', stop).off('SIGTERM', stop)
  }
}
