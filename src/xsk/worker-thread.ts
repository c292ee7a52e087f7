// One worker of a group: its socket, its thread, and its counters in shared memory.
import { MessageChannel, Worker, type TransferListItem } from 'node:worker_threads'
import { XdpError } from '../kernel/index.js'
import { mapRings, type MappedRings } from './binding.js'
import type { RingMemory } from './ring-memory.js'
import { addUp, type Seat } from './shared-group.js'
import { memberRings, type MemberRings, type SharedQueueSeat } from './shared-queue.js'
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

/** `starting` and `running` have a socket and a thread; `restarting` waits for its next attempt; `failed` has given up. */
export type WorkerState = 'starting' | 'running' | 'restarting' | 'stopped' | 'failed'

/** What a worker needs to know of its group. */
export interface WorkerPlan {
  seat: Seat
  index: number
  cpu: number | undefined
  setup: Pick<WorkerSetup, 'module' | 'run' | 'workers' | 'workerData'>
  stopTimeoutMs: number
  onMessage: (worker: GroupWorker, message: unknown) => void
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
  /** Set by its team, as the next three. */
  state: WorkerState = 'stopped'
  /** Times that a new thread has taken the place of one that had ended by itself. */
  restarts = 0
  /** Crashes in a row. */
  crashes = 0
  /** Called when a thread that was ready has ended without having been told to. */
  onCrash: (error: Error, ranForMs: number) => void = () => undefined
  #thread: Worker | undefined
  #bound: BoundSocket | undefined
  #rings: MappedRings | undefined
  #members: MemberRings | undefined
  // What the kernel counted for the sockets before this one.
  #past: KernelStatistics | undefined
  #tellStop: (() => void) | undefined
  #ended: Promise<void> = Promise.resolve()
  #isToEnd = false

  constructor(plan: WorkerPlan, counters: Float64Array) {
    this.index = plan.index
    this.interface = plan.seat.options.interface
    this.queue = plan.seat.queue
    this.cpu = plan.cpu
    this.#plan = plan
    this.#counters = counters
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
    if (this.state !== 'running') return false
    this.#thread?.postMessage(message, transfer)
    return true
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
    // On a shared queue the kernel's two rings are nobody's own.
    const own = this.#members ?? rings
    const level = (ring: RingMemory | undefined) =>
      ring ? (Atomics.load(ring.producer, 0) - Atomics.load(ring.consumer, 0)) >>> 0 : 0
    const levels = {
      fill: level(own?.fill),
      rx: level(rings?.rx),
      tx: level(rings?.tx),
      completion: level(own?.completion),
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

  /** @internal The socket that is open for it. */
  get bound(): BoundSocket | undefined {
    return this.#bound
  }

  /** @internal Opens the socket, beside `partner` when given. Throws what stands in the way; nothing is left then. */
  async openSocket(partner: BoundSocket | undefined): Promise<void> {
    const { seat } = this.#plan
    this.#resetGauges()
    this.#bound = await openBoundSocket(seat.options, { ...seat.share, partner })
    this.#rings = mapRings(this.#bound.fd, this.#bound.options.rings)
  }

  /** @internal Starts the thread on the open socket; resolves when it is ready for packets, rejects when it ends before. */
  async startThread(beside: SharedQueueSeat | undefined): Promise<void> {
    const { index, cpu, setup } = this.#plan
    const { port1: control, port2 } = new MessageChannel()
    const data: WorkerSetup = {
      ...setup,
      cpu,
      worker: index,
      socket: describeBoundSocket(this.#bound as BoundSocket),
      beside,
      counters: this.#counters,
      control: port2,
    }
    this.#members = beside && memberRings(beside.queue, beside.index)
    const thread = new Worker(new URL('./worker-main.js', import.meta.url), {
      workerData: data,
      transferList: [port2],
      name: `xdp ${this.interface} ${this.queue}`,
    })
    this.#thread = thread
    this.#isToEnd = false
    this.#tellStop = () => control.postMessage('stop')
    let readyAt: number | undefined
    let failure: Error | undefined
    thread.on('error', (error) => (failure = asError(error)))
    thread.on('message', (message) => this.#plan.onMessage(this, message))
    const ready = new Promise<void>((resolve, reject) => {
      control.on('message', (report: WorkerReport) => {
        if (report !== 'ready') return
        readyAt = performance.now()
        resolve()
      })
      this.#ended = new Promise((end) => {
        thread.once('exit', (code) => {
          control.close()
          this.#thread = undefined
          this.#tellStop = undefined
          const error =
            failure ??
            new XdpError(
              'XDP_WORKER',
              `The worker of queue ${this.queue} of ${this.interface} ended with status ${code}`,
            )
          end()
          reject(error)
          if (readyAt !== undefined && !this.#isToEnd) this.onCrash(error, performance.now() - readyAt)
        })
      })
    })
    await ready
  }

  /** @internal Lets the packets of its queue come to the socket: in the program's map, at the place of the seat. */
  steer(): void {
    const { device, mapIndex } = this.#plan.seat
    device.program.sockets.update(mapIndex, (this.#bound as BoundSocket).fd)
  }

  /** @internal Takes the queue's packets away from the thread, lets it handle those it has and send what it has to; ends it when it does not in time. */
  async endThread(): Promise<void> {
    const thread = this.#thread
    if (thread === undefined) return
    this.#isToEnd = true
    // From here on packets go to the kernel; the thread takes those that wait in its ring.
    const { device, mapIndex } = this.#plan.seat
    device.program.sockets.delete(mapIndex)
    this.#tellStop?.()
    const timer = setTimeout(() => void thread.terminate(), this.#plan.stopTimeoutMs)
    await this.#ended
    clearTimeout(timer)
  }

  /** @internal Closes the socket, which also takes it out of its map: its frames are free again. The thread has ended. */
  closeSocket(): void {
    if (this.#bound) this.#past = this.#kernelStatistics()
    this.#rings?.close()
    this.#rings = undefined
    this.#members = undefined
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

/** What was thrown, as an error. */
export function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new XdpError('XDP_WORKER', `A worker threw ${String(thrown)}`)
}
