// What a thread that runs a module of the user's shares with the thread that started it.
import type { MessagePort } from 'node:worker_threads'

/** Given to a thread, in its `workerData`. */
export interface ThreadControl {
  /** Says `ready` there, and hears `stop`. */
  port: MessagePort
  /** One word of shared memory, counted up as long as the thread's event loop turns. */
  beats: Int32Array
  beatMs: number
}

/** Of a thread: it is ready for packets. */
export type ThreadReport = 'ready'

/** To a thread: handle no more packets, and end. */
export type ThreadOrder = 'stop'

/** The thread's end of it. */
export interface ControlledHere {
  /** Aborts when the thread is to stop. */
  readonly signal: AbortSignal
  /** Says that the thread is ready for packets. */
  readonly ready: () => void
}

/** Called once in the thread, before anything of the user's runs in it. */
export function takeControl({ port, beats, beatMs }: ThreadControl): ControlledHere {
  const stop = new AbortController()
  port.once('message', () => stop.abort())
  if (Number.isFinite(beatMs)) setInterval(() => Atomics.add(beats, 0, 1), beatMs).unref()
  return { signal: stop.signal, ready: () => port.postMessage('ready' satisfies ThreadReport) }
}
