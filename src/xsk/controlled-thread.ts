// A thread that runs a module of the user's, seen from the thread that starts it: started, watched, told to stop, ended.
import { MessageChannel, Worker, type TransferListItem } from 'node:worker_threads'
import { OptionError, XdpError } from '../kernel/index.js'
import type { ThreadControl, ThreadOrder, ThreadReport } from './thread-control.js'

/** How long a thread may stand still before it counts as stalled, unless told otherwise. */
export const STALL_MS = 2000

/** How long a thread may take until it is ready, unless told otherwise. */
export const START_TIMEOUT_MS = 30_000

// Looks at a thread in the time after which it counts as stalled.
const LOOKS = 4

export interface ThreadPlan {
  /** What the thread runs: it calls `takeControl`. */
  script: URL
  /** For debuggers. */
  name: string
  /** For messages: `The worker of queue 0 of veth0`. */
  subject: string
  /** The user's module that it is to load. */
  module: string
  /** How long it may take until it is ready; then it is ended, and `start` rejects. */
  startTimeoutMs: number
  /** How long it may make no progress before `onStall`; Infinity: nobody looks. */
  stallMs: number
  /** Something that changes as long as the thread handles packets, though its event loop may not turn. */
  progress: () => number
  /** It has posted a message. */
  onMessage: (message: unknown) => void
  /** It was ready, and has ended without having been told to. */
  onCrash: (error: Error, ranForMs: number) => void
  /** It has stood still for `stallMs`. Once, until it moves again. */
  onStall: () => void
}

/** One thread at a time, and its place while there is none. */
export class ControlledThread {
  readonly #plan: ThreadPlan
  #thread: Worker | undefined
  #tellStop: (() => void) | undefined
  #ended: Promise<void> = Promise.resolve()
  #isToEnd = false
  #watch: NodeJS.Timeout | undefined
  #stalledSince: number | undefined

  constructor(plan: ThreadPlan) {
    this.#plan = plan
  }

  /** Node's number of the thread; undefined while there is none. */
  get threadId(): number | undefined {
    return this.#thread?.threadId
  }

  /** Milliseconds that it has stood still for, once that is too long; otherwise 0. */
  get stalledMs(): number {
    return this.#stalledSince === undefined ? 0 : performance.now() - this.#stalledSince
  }

  post(message: unknown, transfer?: readonly TransferListItem[]): void {
    this.#thread?.postMessage(message, transfer)
  }

  /** Ends the thread at once, whatever it is at, as a crash would. */
  async terminate(): Promise<void> {
    await this.#thread?.terminate()
  }

  /** Starts it with `data` as its `workerData`; resolves when it is ready, rejects with what has ended it before. */
  async start(data: object): Promise<void> {
    const { script, name, subject, module, startTimeoutMs, stallMs, onMessage, onCrash } = this.#plan
    const { port1, port2 } = new MessageChannel()
    const beats = new Int32Array(new SharedArrayBuffer(4))
    const control: ThreadControl = { port: port2, beats, beatMs: stallMs / LOOKS }
    const thread = new Worker(script, { workerData: { ...data, control }, transferList: [port2], name })
    this.#thread = thread
    this.#isToEnd = false
    this.#tellStop = () => port1.postMessage('stop' satisfies ThreadOrder)
    let readyAt: number | undefined
    let failure: Error | undefined
    thread.on('error', (error) => (failure = asError(error)))
    thread.on('message', onMessage)
    const late = () => {
      failure = new XdpError(
        'XDP_WORKER',
        `${subject} was not ready in ${startTimeoutMs} ms: ${module} is still loading, or its function has not answered`,
        'See what it waits for, or give it more time with startTimeoutMs.',
      )
      void thread.terminate()
    }
    const timer = Number.isFinite(startTimeoutMs) ? setTimeout(late, startTimeoutMs) : undefined
    await new Promise<void>((resolve, reject) => {
      port1.on('message', (report: ThreadReport) => {
        if (report !== 'ready') return
        readyAt = performance.now()
        clearTimeout(timer)
        if (!this.#isToEnd) this.#startWatch(beats)
        resolve()
      })
      this.#ended = new Promise((end) => {
        thread.once('exit', (code) => {
          port1.close()
          clearTimeout(timer)
          this.#thread = undefined
          this.#tellStop = undefined
          this.#stopWatch()
          const error = failure ?? new XdpError('XDP_WORKER', `${subject} has ended with status ${code}`)
          end()
          reject(error)
          if (readyAt !== undefined && !this.#isToEnd) onCrash(error, performance.now() - readyAt)
        })
      })
    })
  }

  /** Tells the thread to stop, and ends it when that takes longer than `patienceMs`. Resolves when there is none. */
  async end(patienceMs: number): Promise<void> {
    if (this.#thread === undefined) return
    this.#isToEnd = true
    this.#stopWatch()
    this.#tellStop?.()
    const timer = setTimeout(() => void this.terminate(), patienceMs)
    await this.#ended
    clearTimeout(timer)
  }

  // Looks, in time with this thread's own event loop: when that stands still, nobody else is to blame.
  #startWatch(beats: Int32Array): void {
    const { stallMs, progress, onStall } = this.#plan
    if (!Number.isFinite(stallMs)) return
    const look = () => Atomics.load(beats, 0) + progress()
    let seen = look()
    let still = 0
    let movedAt = performance.now()
    this.#watch = setInterval(() => {
      const now = look()
      if (now !== seen) {
        seen = now
        still = 0
        movedAt = performance.now()
        this.#stalledSince = undefined
      } else if (++still === LOOKS) {
        this.#stalledSince = movedAt
        onStall()
      }
    }, stallMs / LOOKS).unref()
  }

  #stopWatch(): void {
    clearInterval(this.#watch)
    this.#stalledSince = undefined
  }
}

/** Throws `OptionError` for what is no time that a thread may stand still for. */
export function checkStallMs(stallMs: number): number {
  if (stallMs >= LOOKS) return stallMs
  throw new OptionError(
    'stallMs',
    `"${stallMs}" is no time that a thread may stand still for`,
    `Use milliseconds, or Infinity.`,
  )
}

/** Throws `OptionError` for what is no time that a thread may take to be ready. */
export function checkStartTimeout(ms: number): number {
  // Node's timers do not count further than 2^31 milliseconds.
  if (ms > 0 && (ms < 2 ** 31 || ms === Infinity)) return ms
  throw new OptionError('startTimeoutMs', `"${ms}" is no time to wait`, 'Use milliseconds, or Infinity.')
}

/** What was thrown, as an error. */
export function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new XdpError('XDP_WORKER', `A thread threw ${String(thrown)}`)
}
