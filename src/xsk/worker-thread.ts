// One worker of a group: its socket, its thread, and its counters in shared memory.
import type { TransferListItem } from 'node:worker_threads'
import { mapRings, type MappedRings } from './binding.js'
import { ControlledThread } from './controlled-thread.js'
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
import type { WorkerSetup } from './worker-contract.js'

/** `starting` and `running` have a socket and a thread; `restarting` waits for its next attempt; `failed` has given up. */
export type WorkerState = 'starting' | 'running' | 'restarting' | 'stopped' | 'failed'

/** What a worker needs to know of its group. */
export interface WorkerPlan {
  seat: Seat
  index: number
  cpu: number | undefined
  setup: Pick<WorkerSetup, 'module' | 'run' | 'workers' | 'workerData'>
  stopTimeoutMs: number
  stallMs: number
  startTimeoutMs: number
  onMessage: (worker: GroupWorker, message: unknown) => void
  onStall: (worker: GroupWorker) => void
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
  /** Set by its team, as the next two. */
  state: WorkerState = 'stopped'
  /** Times that a new thread has taken the place of one that had ended by itself. */
  restarts = 0
  /** Called when a thread that was ready has ended without having been told to. */
  onCrash: (error: Error, ranForMs: number) => void = () => undefined
  readonly #thread: ControlledThread
  #bound: BoundSocket | undefined
  #rings: MappedRings | undefined
  #members: MemberRings | undefined
  // What the kernel counted for the sockets before this one.
  #past: KernelStatistics | undefined

  constructor(plan: WorkerPlan, counters: Float64Array) {
    this.index = plan.index
    this.interface = plan.seat.options.interface
    this.queue = plan.seat.queue
    this.cpu = plan.cpu
    this.#plan = plan
    this.#counters = counters
    this.#thread = new ControlledThread({
      script: new URL('./worker-main.js', import.meta.url),
      name: `xdp ${this.interface} ${this.queue}`,
      subject: `The worker of queue ${this.queue} of ${this.interface}`,
      module: plan.setup.module,
      startTimeoutMs: plan.startTimeoutMs,
      stallMs: plan.stallMs,
      progress: () => counters[COUNTER.batches],
      onMessage: (message) => plan.onMessage(this, message),
      onCrash: (error, ranForMs) => this.onCrash(error, ranForMs),
      onStall: () => plan.onStall(this),
    })
  }

  /** Node's number of the thread; undefined while there is none. */
  get threadId(): number | undefined {
    return this.#thread.threadId
  }

  /**
   * Milliseconds that its thread has stood still for, once they are `stallMs` or more: it loops, or waits for something
   * without its event loop. Otherwise 0. `terminate` ends such a thread.
   */
  get stalledMs(): number {
    return this.#thread.stalledMs
  }

  /** Whether the socket's packets are copied or arrive by DMA; undefined while there is no socket. */
  get copy(): 'copy' | 'zero-copy' | undefined {
    return this.#bound && (this.#bound.zeroCopy ? 'zero-copy' : 'copy')
  }

  /** Sends a message to the worker's `port`. False when it has no thread now: nothing is kept for the next one. */
  post(message: unknown, transfer?: readonly TransferListItem[]): boolean {
    if (this.state !== 'running') return false
    this.#thread.post(message, transfer)
    return true
  }

  /** Ends the thread at once, as a crash would; the group starts another one. */
  async terminate(): Promise<void> {
    await this.#thread.terminate()
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
    const data: Omit<WorkerSetup, 'control'> = {
      ...setup,
      cpu,
      worker: index,
      socket: describeBoundSocket(this.#bound as BoundSocket),
      beside,
      counters: this.#counters,
    }
    this.#members = beside && memberRings(beside.queue, beside.index)
    await this.#thread.start(data)
  }

  /** @internal Lets the packets of its queue come to the socket: in the program's map, at the place of the seat. */
  steer(): void {
    const { device, mapIndex } = this.#plan.seat
    device.attachAnew()
    device.program.sockets.update(mapIndex, (this.#bound as BoundSocket).fd)
  }

  /** @internal Takes the queue's packets away from the thread, lets it handle those it has and send what it has to; ends it when it does not in time. */
  async endThread(): Promise<void> {
    if (this.threadId === undefined) return
    // From here on packets go to the kernel; the thread takes those that wait in its ring.
    const { device, mapIndex } = this.#plan.seat
    device.program.sockets.delete(mapIndex)
    await this.#thread.end(this.#plan.stopTimeoutMs)
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
