// What a stage's thread is started with, and what it and the thread that forwards have in common.
import type { UmemDescription } from '../xsk/index.js'
import type { ThreadControl } from '../xsk/thread-control.js'
import type { ForwardWay } from './stage.js'

// A descriptor's note: the packet's length, whether a stage has dropped it, and where it was received.
export const LENGTH_MASK = 0x1fff
export const DROPPED = 0x2000
export const JOB_SHIFT = 14

/** A socket that packets are received on. */
export interface Job {
  queue: number
  /** Index of the way that they go. */
  way: number
}

/** Slots of a stage's counters, which its thread writes and others read. */
export const STAGE_COUNTER = { packets: 0, dropped: 1, lost: 2, batches: 3, sleeps: 4 } as const
// Whole cache lines for each, so that they do not slow each other down.
export const STAGE_COUNTERS = 16

/** What a thread is started with, as its `workerData`. */
export interface StageSetup {
  module: string
  stage: number
  stages: number
  workerData: unknown
  ways: readonly ForwardWay[]
  jobs: readonly Job[]
  umem: UmemDescription
  cpu: number | undefined
  /** Over shared memory. */
  counters: Float64Array
  input: SharedArrayBuffer
  output: SharedArrayBuffer
  control: ThreadControl
}
