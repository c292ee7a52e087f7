// What a worker of a group is given, and what its thread is started with.
import type { MessagePort } from 'node:worker_threads'
import type { RunOptions } from './loop.js'
import type { PacketHandler } from './packet.js'
import type { SharedQueueSeat } from './shared-queue.js'
import type { BoundSocketDescription } from './shared-socket.js'
import type { XdpSocket } from './socket.js'
import type { ThreadControl } from './thread-control.js'

/** What the module of a worker is given: its queue's socket, and the ways to talk to whoever opened the group. */
export interface WorkerContext<Data = unknown> {
  /** The socket of the queue. It is this thread's alone. */
  readonly socket: XdpSocket
  readonly interface: string
  readonly queue: number
  /** Number of this worker among `workers`, from 0: its place in `group.workers`. */
  readonly worker: number
  readonly workers: number
  /** The `workerData` that the group was opened with, a copy. */
  readonly workerData: Data
  /** `port.postMessage` raises `message` at the group; `port.on('message')` hears what the group posts. */
  readonly port: MessagePort
  /** Aborts when this worker is to stop. */
  readonly signal: AbortSignal
}

/** What a worker does with packets, when it also has something to do at its end. */
export interface WorkerTask {
  handler: PacketHandler
  /** Called once the last packet was handled, before what is in the TX ring is waited for. */
  stop?(): void | Promise<void>
}

/**
 * The default export of a worker's module. It is called once in each worker's thread, and packets are given to what it
 * returns. What it or the handler throws ends the thread: the group then starts another one.
 */
export type WorkerModule<Data = unknown> = (
  context: WorkerContext<Data>,
) => PacketHandler | WorkerTask | Promise<PacketHandler | WorkerTask>

/** What a thread is started with, as its `workerData`. */
export interface WorkerSetup {
  /** Address of the module. */
  module: string
  socket: BoundSocketDescription
  /** Its place among the threads of the queue, when there are several. */
  beside: SharedQueueSeat | undefined
  /** Over shared memory: `SHARED_COUNTERS` slots. */
  counters: Float64Array
  cpu: number | undefined
  run: Pick<RunOptions, 'budget' | 'wait'>
  worker: number
  workers: number
  workerData: unknown
  control: ThreadControl
}
