// A group driven by threads: one worker a queue, each with the user's module, nothing shared on the way of the packets.
import { EventEmitter } from 'node:events'
import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { TransferListItem } from 'node:worker_threads'
import { OptionError, StateError } from '../kernel/index.js'
import type { XdpAttachment } from '../bpf/index.js'
import { STALL_MS, START_TIMEOUT_MS, checkStallMs, checkStartTimeout } from './controlled-thread.js'
import type { RunOptions } from './loop.js'
import { presetValues } from './presets.js'
import { type RestartPolicy, checkNotNegative } from './restart.js'
import { GroupParts, addUp, type GroupWarning, type Seat, type XdpGroupOptions } from './shared-group.js'
import type { SocketStatistics } from './statistics.js'
import { Umem } from './umem.js'
import { planCpus, type WorkerCpus } from './worker-cpus.js'
import { WorkerTeam } from './worker-team.js'
import { COUNTER_STRIDE, GroupWorker, type WorkerPlan } from './worker-thread.js'

export interface XdpWorkerGroupOptions extends XdpGroupOptions {
  /** The module that each thread runs: its default export is a `WorkerModule`. A path is taken from the working directory. */
  worker: URL | string
  /** Given to each worker, as a copy (structured clone). */
  workerData?: unknown
  /** Which processor each worker runs on. Default: what the preset says. */
  cpus?: WorkerCpus
  /**
   * Workers of each queue, for devices with fewer queues than processors: their sockets share the queue, and the default
   * program spreads flows over them. Default 1.
   */
  workersPerQueue?: number
  /** How a worker that ends by itself is replaced; false: not at all. */
  restart?: RestartPolicy | false
  /** How the workers take and wait for packets: see `XdpSocket.run`. */
  run?: Pick<RunOptions, 'budget' | 'wait'>
  /** How long a thread may take to be ready: to load the module, and until its function has answered. Default 30000. */
  startTimeoutMs?: number
  /** How long `stop` waits for a thread before it ends it. Default 2000. */
  stopTimeoutMs?: number
  /**
   * How long a worker's thread may make no progress, neither with packets nor on its event loop, before it counts as
   * stalled: event `stall`. Infinity: nobody looks. Default 2000.
   */
  stallMs?: number
}

/** What a group of workers tells. */
export interface WorkerGroupEvents {
  /** A worker has posted a message on its `port`. */
  message: [message: unknown, worker: GroupWorker]
  /** A worker has ended by itself; the next attempt comes in so many milliseconds. */
  crash: [error: Error, worker: GroupWorker, restartInMs: number]
  /** A new thread has taken its place. */
  restart: [worker: GroupWorker]
  /** It has crashed too often: its queue's packets go to the kernel now. */
  failed: [error: Error, worker: GroupWorker]
  /**
   * A worker's thread has stood still for `stallMs`; once, until it moves again. Packets wait in its ring, and are dropped
   * when that is full. `worker.terminate()` has it replaced.
   */
  stall: [warning: GroupWarning, worker: GroupWorker]
  /** A worker has failed (`queue`), or stalls (`stalled`). */
  warning: [warning: GroupWarning]
}

/**
 * The sockets of an interface's queues, each driven by a thread of its own. The threads map the memory by descriptor and
 * share nothing while packets flow; their counters lie in shared memory. The sockets are opened, and closed, by the
 * thread that opens the group, so that a thread may end in any way: its queue's packets then go to the kernel until
 * another one takes its place, and the other queues notice nothing.
 */
export class XdpWorkerGroup extends EventEmitter<WorkerGroupEvents> implements AsyncDisposable {
  /** The first interface. */
  readonly interface: string
  /** A worker a queue. One whose socket could not be opened is `stopped`: see `warnings`. */
  readonly workers: readonly GroupWorker[]
  /** The memory of all sockets. */
  readonly umem: Umem
  /** What is less than was asked for. */
  readonly warnings: readonly GroupWarning[]
  readonly #parts: GroupParts
  // The workers of each queue, by its first seat.
  readonly #teams: ReadonlyMap<Seat, WorkerTeam>
  readonly #strict: boolean
  // What there is to tell before `open` has answered: nobody can listen yet.
  #untold: (() => void)[] | undefined = []
  #failure: Error | undefined
  // Set once `stop` was called, until the next `start`.
  #stopping: Promise<void> | undefined
  #closing: Promise<void> | undefined
  // Those who wait in `run`.
  #waiting: { resolve: () => void; reject: (error: Error) => void }[] = []

  private constructor(parts: GroupParts, options: XdpWorkerGroupOptions) {
    super()
    const { seats } = parts
    const { restart = {}, stopTimeoutMs = 2000, run = {}, workerData, strict = false } = options
    checkNotNegative('stopTimeoutMs', stopTimeoutMs)
    const stallMs = checkStallMs(options.stallMs ?? STALL_MS)
    const startTimeoutMs = checkStartTimeout(options.startTimeoutMs ?? START_TIMEOUT_MS)
    const cpus = planCpus(
      options.cpus ?? presetValues(options.preset).cpus,
      seats.length,
      options.namespace ? undefined : options.interface,
    )
    const module = moduleAddress(options.worker)
    const stride = COUNTER_STRIDE * Float64Array.BYTES_PER_ELEMENT
    const counters = new SharedArrayBuffer(seats.length * stride)
    const workers = seats.map((seat, index) => {
      const plan: WorkerPlan = {
        seat,
        index,
        cpu: cpus[index],
        setup: { module, run: { ...run }, workers: seats.length, workerData },
        stopTimeoutMs,
        stallMs,
        startTimeoutMs,
        onMessage: (worker, message) => this.#tell(() => this.emit('message', message, worker)),
        onStall: (worker) => this.#onStall(worker, stallMs),
      }
      return new GroupWorker(plan, new Float64Array(counters, index * stride, COUNTER_STRIDE))
    })
    this.interface = parts.devices[0].interface
    this.workers = workers
    this.umem = parts.umem
    this.warnings = parts.warnings
    this.#parts = parts
    this.#strict = strict
    const perQueue = options.workersPerQueue ?? 1
    const teams = new Map<Seat, WorkerTeam>()
    for (let i = 0; i < seats.length; i += perQueue) {
      const team = new WorkerTeam(workers.slice(i, i + perQueue), perQueue * parts.sliceFrames, restart, {
        onCrash: (worker, error, ms) => this.#tell(() => this.emit('crash', error, worker, ms)),
        onRestart: (worker) => this.#tell(() => this.emit('restart', worker)),
        onFailed: (worker, error) => this.#onFailed(seats[i], worker, error),
      })
      teams.set(seats[i], team)
    }
    this.#teams = teams
  }

  /**
   * Opens a socket and starts a thread for each queue; resolves when all are ready. A queue whose socket cannot be
   * opened is left to the kernel, with a warning. Throws when none can, or when one cannot and `strict` is set, and
   * when the module cannot be loaded, throws, or is not ready within `startTimeoutMs`: nothing is left behind then. What workers have posted until then comes in the
   * next turn of the event loop, so that whoever listens at once hears it.
   */
  static async open(options: XdpWorkerGroupOptions): Promise<XdpWorkerGroup> {
    const { umem } = options
    const shared = umem instanceof Umem ? umem : { ...umem, shared: true }
    const parts = new GroupParts({ ...options, umem: shared }, options.workersPerQueue)
    let group: XdpWorkerGroup | undefined
    try {
      group = new XdpWorkerGroup(parts, options)
      await group.start()
      const { workers } = group
      parts.attach((device) =>
        parts.seats.some((seat, i) => seat.device === device && workers[i].copy === 'zero-copy'),
      )
      const opened = group
      setImmediate(() => opened.#tellAll())
      return opened
    } catch (error) {
      await group?.stop()
      parts.closeRest()
      throw error
    }
  }

  /** How the first device's program is attached; undefined with `attach: 'none'`. */
  get attachment(): XdpAttachment | undefined {
    return this.#parts.devices[0].attachment
  }

  /** How the programs are attached, one a device; empty with `attach: 'none'`. */
  get attachments(): readonly XdpAttachment[] {
    return this.#parts.devices.flatMap(({ attachment }) => attachment ?? [])
  }

  /** Starts the workers that are stopped or have failed, with new sockets. Throws as `open` does. */
  async start(): Promise<void> {
    if (this.#closing) throw new StateError('The group is closed')
    this.#failure = undefined
    this.#stopping = undefined
    await this.#parts.openAll(
      [...this.#teams.keys()],
      async (seat) => {
        const team = this.#teams.get(seat) as WorkerTeam
        await team.start()
        return team
      },
      (team) => team.stop(),
    )
  }

  /**
   * Ends the workers: each handles the packets it has, and sends what it has to. Their sockets are closed, and packets go to
   * the kernel until `start`.
   */
  async stop(): Promise<void> {
    this.#stopping = this.#stop()
    await this.#stopping
  }

  async #stop(): Promise<void> {
    await Promise.all([...this.#teams.values()].map((team) => team.stop()))
    this.#settle()
  }

  /**
   * Waits until the group is stopped or closed; `signal` stops it. Resolves at once when it is stopped already. Rejects once there
   * is no worker left that works, or with `strict` when one has failed; throws `StateError` when the group is closed.
   */
  async run({ signal }: Pick<RunOptions, 'signal'> = {}): Promise<void> {
    if (this.#closing) throw new StateError('The group is closed')
    if (this.#failure) throw this.#failure
    if (this.#stopping) return this.#stopping
    const stop = () => void this.stop()
    const ended = new Promise<void>((resolve, reject) => this.#waiting.push({ resolve, reject }))
    signal?.addEventListener('abort', stop, { once: true })
    if (signal?.aborted) stop()
    try {
      await ended
    } finally {
      signal?.removeEventListener('abort', stop)
    }
  }

  /** Sends a message to the workers of a queue, on every device of the group. False when none has heard it. */
  post(queue: number, message: unknown, transfer?: readonly TransferListItem[]): boolean {
    const heard = this.workers.map((worker) => worker.queue === queue && worker.post(message, transfer))
    return heard.includes(true)
  }

  /** Sends a message to every worker. */
  broadcast(message: unknown): void {
    for (const worker of this.workers) worker.post(message)
  }

  /** The statistics of all workers since the group was opened, added up: from shared memory, at any time. */
  statistics(): SocketStatistics {
    return this.workers.map((worker) => worker.statistics()).reduce(addUp)
  }

  /** Ends the workers, detaches the programs, closes the sockets and their memory. Closing twice is harmless. */
  async close(): Promise<void> {
    this.#closing ??= this.#close()
    await this.#closing
  }

  async #close(): Promise<void> {
    try {
      await this.stop()
    } finally {
      this.#parts.closeRest()
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  #tell(event: () => void): void {
    if (this.#untold) this.#untold.push(event)
    else event()
  }

  #tellAll(): void {
    const untold = this.#untold ?? []
    this.#untold = undefined
    for (const event of untold) event()
  }

  #onFailed(seat: Seat, worker: GroupWorker, error: Error): void {
    const warning = this.#parts.warnQueue(seat, error)
    this.emit('failed', error, worker)
    this.emit('warning', warning)
    const works = ({ state }: GroupWorker) => state !== 'failed' && state !== 'stopped'
    if (this.#strict || !this.workers.some(works)) this.#settle(error)
  }

  #onStall(worker: GroupWorker, stallMs: number): void {
    const { interface: name, queue } = worker
    const message = `The worker of queue ${queue} of ${name} has made no progress for ${stallMs} ms`
    const warning: GroupWarning = { code: 'stalled', message, interface: name, queue }
    this.emit('stall', warning, worker)
    this.emit('warning', warning)
  }

  #settle(failure?: Error): void {
    this.#failure = failure
    for (const { resolve, reject } of this.#waiting.splice(0)) {
      if (failure) reject(failure)
      else resolve()
    }
  }
}

/** The address of a module that a thread is to run. Throws `OptionError` for what is none. */
export function moduleAddress(worker: URL | string): string {
  if (worker instanceof URL) return worker.href
  if (typeof worker !== 'string' || worker === '') {
    throw new OptionError('worker', `"${String(worker)}" is no module for workers`)
  }
  return worker.startsWith('file:') ? worker : pathToFileURL(resolve(worker)).href
}
