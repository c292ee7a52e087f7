// One worker of a group: its socket, its thread, and what happens when the thread ends by itself.
import { MessageChannel, Worker, type MessagePort, type TransferListItem } from 'node:worker_threads'
import { setTimeout as delay } from 'node:timers/promises'
import { StateError, XdpError } from '../kernel/index.js'
import { mapRings, type MappedRings } from './binding.js'
import type { RingMemory } from './ring-memory.js'
import { addUp, type Seat } from './shared-group.js'
import { describeBoundSocket, openBoundSocket, type BoundSocket } from './shared-socket.js'
import {
  COUNTER,
  GAUGE,
  SHARED_COUNTERS,
  readKernelStatistics,
  type KernelStatistics,
  type SocketStatistics,
} from './statistics.js'
import type { WorkerReport, WorkerSetup } from './worker-contract.js'

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

/** `starting` and `running` have a socket and a thread; `restarting` waits for its next attempt; `failed` has given up. */
export type WorkerState = 'starting' | 'running' | 'restarting' | 'stopped' | 'failed'

/** What a worker needs to know of its group. */
export interface WorkerPlan {
  seat: Seat
  index: number
  cpu: number | undefined
  setup: Pick<WorkerSetup, 'module' | 'run' | 'workers' | 'workerData'>
  restart: Required<RestartPolicy> | undefined
  stopTimeoutMs: number
  onMessage: (worker: GroupWorker, message: unknown) => void
  onCrash: (worker: GroupWorker, error: Error, restartInMs: number) => void
  onRestart: (worker: GroupWorker) => void
  onFailed: (worker: GroupWorker, error: Error) => void
}

// Slots between two workers' counters: whole cache lines, so that they do not slow each other down.
export const COUNTER_STRIDE = Math.ceil(SHARED_COUNTERS / 16) * 16

/** A worker of a group, seen from the thread that opened the group. */
export class GroupWorker {
  /** Its place in `group.workers`. */
  readonly index: number
  readonly interface: string
  readonly queue: number
  /** The processor it is bound to; undefined when it is the scheduler's choice. */
  readonly cpu: number | undefined
  readonly #plan: WorkerPlan
  readonly #counters: Float64Array
  #state: WorkerState = 'stopped'
  #restarts = 0
  #crashes = 0
  #thread: Worker | undefined
  #bound: BoundSocket | undefined
  #rings: MappedRings | undefined
  // What the kernel counted for the sockets before this one.
  #past: KernelStatistics | undefined
  #tellStop: (() => void) | undefined
  #ended: Promise<void> = Promise.resolve()
  #pause = new AbortController()

  constructor(plan: WorkerPlan, counters: Float64Array) {
    this.index = plan.index
    this.interface = plan.seat.options.interface
    this.queue = plan.seat.queue
    this.cpu = plan.cpu
    this.#plan = plan
    this.#counters = counters
  }

  get state(): WorkerState {
    return this.#state
  }

  /** Times that a new thread has taken the place of one that had ended by itself. */
  get restarts(): number {
    return this.#restarts
  }

  /** Node's number of the thread; undefined while there is none. */
  get threadId(): number | undefined {
    return this.#thread?.threadId
  }

  /** Whether the socket's packets are copied or arrive by DMA; undefined while there is no socket. */
  get copy(): 'copy' | 'zero-copy' | undefined {
    return this.#bound && (this.#bound.zeroCopy ? 'zero-copy' : 'copy')
  }

  /** Sends a message to the worker's `port`. False when it has no thread now: nothing is kept for the next one. */
  post(message: unknown, transfer?: readonly TransferListItem[]): boolean {
    if (this.#state !== 'running') return false
    this.#thread?.postMessage(message, transfer)
    return true
  }

  /** Opens the socket and starts the thread; resolves when it is ready for packets. Throws what stands in the way; nothing is left then. */
  async start(): Promise<void> {
    if (this.#state !== 'stopped' && this.#state !== 'failed') {
      throw new StateError(`The worker of queue ${this.queue} of ${this.interface} is ${this.#state} already`)
    }
    this.#pause = new AbortController()
    this.#crashes = 0
    try {
      await this.#launch()
    } catch (error) {
      this.#state = 'stopped'
      throw error
    }
  }

  /** Lets the thread finish its batch and send what it has to, then closes the socket. A thread that does not answer is ended. */
  async stop(): Promise<void> {
    this.#pause.abort()
    const thread = this.#thread
    if (thread !== undefined) {
      this.#tellStop?.()
      const timer = setTimeout(() => void thread.terminate(), this.#plan.stopTimeoutMs)
      await this.#ended
      clearTimeout(timer)
    }
    await this.#ended
    this.#state = 'stopped'
  }

  /** Ends the thread at once, as a crash would; the group starts another one. */
  async terminate(): Promise<void> {
    await this.#thread?.terminate()
  }

  /**
   * As `XdpSocket.statistics`, since the group was opened: restarts do not begin anew. Read from memory that the thread
   * shares, so at any time; between two batches of the thread the frames add up.
   */
  statistics(): SocketStatistics {
    const counters = this.#counters
    const rings = this.#rings
    const level = (ring: RingMemory | undefined) =>
      ring ? (Atomics.load(ring.producer, 0) - Atomics.load(ring.consumer, 0)) >>> 0 : 0
    const levels = {
      fill: level(rings?.fill),
      rx: level(rings?.rx),
      tx: level(rings?.tx),
      completion: level(rings?.completion),
    }
    return {
      rx: { packets: counters[COUNTER.rxPackets], bytes: counters[COUNTER.rxBytes] },
      tx: { packets: counters[COUNTER.txPackets], bytes: counters[COUNTER.txBytes] },
      txDropped: counters[COUNTER.txDropped],
      batches: counters[COUNTER.batches],
      wakeups: { rx: counters[COUNTER.rxWakeups], tx: counters[COUNTER.txWakeups] },
      kernel: this.#kernelStatistics(),
      levels,
      frames: {
        total: this.#plan.seat.share.slice.count,
        free: counters[GAUGE.free],
        fill: counters[GAUGE.lentRx] - levels.rx,
        rx: levels.rx,
        held: counters[GAUGE.held],
        tx: counters[GAUGE.lentTx] - levels.completion,
        completion: levels.completion,
      },
    }
  }

  #kernelStatistics(): KernelStatistics {
    const now = this.#bound ? readKernelStatistics(this.#bound.fd) : NOTHING
    return this.#past ? addUp(this.#past, now) : now
  }

  async #launch(): Promise<void> {
    const { seat, index, cpu, setup } = this.#plan
    this.#state = 'starting'
    this.#resetGauges()
    const bound = await openBoundSocket(seat.options, seat.share)
    this.#bound = bound
    try {
      if (this.#pause.signal.aborted) throw new StateError('The worker was stopped')
      this.#rings = mapRings(bound.fd, bound.options.rings)
      const { port1: control, port2 } = new MessageChannel()
      const data: WorkerSetup = {
        ...setup,
        cpu,
        worker: index,
        socket: describeBoundSocket(bound),
        counters: this.#counters,
        control: port2,
      }
      const thread = new Worker(new URL('./worker-main.js', import.meta.url), {
        workerData: data,
        transferList: [port2],
        name: `xdp ${this.interface} ${this.queue}`,
      })
      this.#thread = thread
      this.#tellStop = () => control.postMessage('stop')
      await this.#ready(thread, control)
      seat.device.program.sockets.update(this.queue, bound.fd)
      this.#state = 'running'
    } catch (error) {
      await this.#thread?.terminate()
      this.#cleanUp()
      throw error
    }
  }

  // Resolves when the thread is ready, rejects when it ends before; sees to its end from then on.
  #ready(thread: Worker, control: MessagePort): Promise<void> {
    const since = performance.now()
    let isStopped = false
    let failure: Error | undefined
    let endStarted: () => void = () => undefined
    this.#ended = new Promise((resolve) => (endStarted = resolve))
    thread.on('error', (error) => (failure = asError(error)))
    thread.on('message', (message) => this.#plan.onMessage(this, message))
    return new Promise((resolve, reject) => {
      control.on('message', (report: WorkerReport) => {
        if (report === 'ready') resolve()
        else isStopped = true
      })
      thread.once('exit', (code) => {
        control.close()
        const wasRunning = this.#state === 'running'
        const error =
          failure ??
          new XdpError(
            'XDP_WORKER',
            `The worker of queue ${this.queue} of ${this.interface} ended with status ${code}`,
          )
        if (wasRunning) this.#cleanUp()
        if (wasRunning && !isStopped && !this.#pause.signal.aborted) {
          if (performance.now() - since >= (this.#plan.restart?.healthyMs ?? 0)) this.#crashes = 0
          void this.#recover(error).then(endStarted)
        } else {
          if (wasRunning) this.#state = 'stopped'
          reject(error)
          endStarted()
        }
      })
    })
  }

  // Puts a new thread in the place of the one that ended, as often as the policy says.
  async #recover(error: Error): Promise<void> {
    const { restart, onCrash, onFailed, onRestart } = this.#plan
    const { signal } = this.#pause
    for (;;) {
      this.#crashes++
      if (restart === undefined || this.#crashes > restart.limit) {
        this.#state = 'failed'
        onFailed(this, error)
        return
      }
      this.#state = 'restarting'
      const wait = Math.min(restart.maxDelayMs, restart.delayMs * 2 ** (this.#crashes - 1))
      onCrash(this, error, wait)
      await delay(wait, undefined, { signal }).catch(() => undefined)
      if (signal.aborted) return
      try {
        await this.#launch()
      } catch (again) {
        if (signal.aborted) return
        error = asError(again)
        continue
      }
      this.#restarts++
      onRestart(this)
      return
    }
  }

  // Closes the socket, which also takes it out of its map, and counts its frames as free again.
  #cleanUp(): void {
    this.#past = this.#kernelStatistics()
    this.#thread = undefined
    this.#tellStop = undefined
    this.#rings?.close()
    this.#rings = undefined
    this.#bound?.close()
    this.#bound = undefined
    this.#resetGauges()
  }

  #resetGauges(): void {
    const counters = this.#counters
    counters[GAUGE.free] = this.#plan.seat.share.slice.count
    counters[GAUGE.held] = 0
    counters[GAUGE.lentRx] = 0
    counters[GAUGE.lentTx] = 0
  }
}

const NOTHING: KernelStatistics = {
  rxDropped: 0,
  rxInvalidDescriptors: 0,
  txInvalidDescriptors: 0,
  rxRingFull: 0,
  fillRingEmpty: 0,
  txRingEmpty: 0,
}

function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new XdpError('XDP_WORKER', `A worker threw ${String(thrown)}`)
}
