// What a stage is: it looks at packets on their way, changes or drops them.
import type { MessagePort } from 'node:worker_threads'
import type { XdpPacket } from '../xsk/index.js'

/** One of the two ways through a forwarder, or the only one when packets go back where they came from. */
export interface ForwardWay {
  /** 0 for what arrives on `in`, 1 for what arrives on `out`. */
  readonly index: number
  /** The device that the packet came from. */
  readonly from: string
  /** The device that it leaves by. */
  readonly to: string
}

/**
 * Called for each packet, in the order of the stages, before its hardware addresses are rewritten. The packet is a reused
 * cursor into the shared memory: change its bytes in place, move `offset` or change `length` within the frame (256 bytes
 * before a received packet are free). `'drop'` ends its way; anything else, and it goes on.
 */
export type StageHandler = (packet: XdpPacket, way: ForwardWay) => 'drop' | undefined | void

/** What the module of a stage with a thread of its own is given. */
export interface StageContext<Data = unknown> {
  /** Its number among `stages` that have a thread, from 0: its place in `forwarder.threads`. */
  readonly stage: number
  readonly stages: number
  /** The `workerData` that the forwarder was opened with, a copy. */
  readonly workerData: Data
  readonly ways: readonly ForwardWay[]
  /** `port.postMessage` raises `message` at the forwarder; `port.on('message')` hears what is posted to this stage. */
  readonly port: MessagePort
  /** Aborts when the forwarder's run has ended. */
  readonly signal: AbortSignal
}

/** What a stage does with packets, when it also has something to do at its end. */
export interface StageTask {
  handler: StageHandler
  /** Called after the last packet of a run. */
  stop?(): void | Promise<void>
}

/**
 * The default export of such a module. It is called once in the thread, and packets are given to what it returns. What it
 * or the handler throws ends the thread: the forwarder then starts another one.
 */
export type StageModule<Data = unknown> = (
  context: StageContext<Data>,
) => StageHandler | StageTask | Promise<StageHandler | StageTask>
