// Stages with a thread each: frames go from one to the next as descriptors, and come back to be sent.
import { Worker } from 'node:worker_threads'
import { StateError } from '../kernel/index.js'
import type { Umem, UmemDescription } from '../xsk/index.js'
import { DescriptorRing } from './descriptor-ring.js'
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

/** What a stage's thread is started with. */
export interface StageSetup {
  module: string
  stage: number
  stages: number
  workerData: unknown
  ways: readonly ForwardWay[]
  jobs: readonly Job[]
  umem: UmemDescription
  input: SharedArrayBuffer
  output: SharedArrayBuffer
}

export interface PipelineOptions extends Pick<StageSetup, 'ways' | 'jobs' | 'workerData'> {
  modules: readonly URL[]
  umem: Umem
  /** What is done with a packet that has been through all stages: sent, or freed. */
  deliver: (job: number, address: number, length: number, isDropped: boolean) => void
  /** Called after some of them. */
  afterBatch: () => void
}

/** The threads, and the way through them. */
export class Pipeline {
  readonly #options: PipelineOptions
  readonly #first: DescriptorRing
  readonly #last: DescriptorRing
  readonly #rings: readonly DescriptorRing[]
  // For each frame: 1 plus the job it was received by, while it is with a stage.
  readonly #away: Uint16Array
  readonly #shift: number
  readonly #threads: Worker[] = []
  #count = 0
  #ended = false
  #failure: Error | undefined

  constructor(options: PipelineOptions) {
    const { modules, umem } = options
    this.#options = options
    this.#rings = Array.from(
      { length: modules.length + 1 },
      () => new DescriptorRing(DescriptorRing.allocate(umem.frames)),
    )
    this.#first = this.#rings[0]
    this.#last = this.#rings[modules.length]
    this.#away = new Uint16Array(umem.frames)
    this.#shift = 31 - Math.clz32(umem.frameSize)
  }

  /** Packets that are with stages. */
  get count(): number {
    return this.#count
  }

  /** Starts the threads; resolves when all are ready. Rejects with what a module throws. `onFailure` hears what one throws later. */
  async start(onFailure: () => void): Promise<void> {
    const { modules, umem, ways, jobs, workerData } = this.#options
    const described = umem.describe()
    const ready = modules.map(async (module, stage) => {
      const setup: StageSetup = {
        ...{ module: module.href, stage, stages: modules.length, workerData, ways, jobs, umem: described },
        ...{ input: this.#rings[stage].memory, output: this.#rings[stage + 1].memory },
      }
      const thread = new Worker(new URL('./stage-main.js', import.meta.url), { workerData: setup })
      this.#threads.push(thread)
      await new Promise<void>((resolve, reject) => {
        const fail = (error: Error) => {
          this.#failure ??= error
          reject(error)
          this.#last.wake()
          onFailure()
        }
        thread.once('message', () => resolve())
        thread.once('error', fail)
        thread.once('exit', () => {
          if (!this.#ended) fail(new StateError(`The thread of stage ${stage} has ended by itself`))
        })
      })
    })
    for (const result of await Promise.allSettled(ready))
      if (result.status === 'rejected') throw result.reason as Error
  }

  /** Hands a packet to the first stage. Its frame must be held. */
  push(address: number, length: number, job: number): void {
    this.#away[address >>> this.#shift] = job + 1
    this.#count++
    this.#first.push(address, (job << JOB_SHIFT) | length)
  }

  /** Takes packets from the last stage until `isDone` says so, and none is left. Rejects with what a stage throws. */
  async run(isDone: () => boolean): Promise<void> {
    const last = this.#last
    const { deliver, afterBatch } = this.#options
    for (;;) {
      const level = last.level
      for (let i = 0; i < level; i++) {
        const { address, note } = last
        const frame = address >>> this.#shift
        if (this.#away[frame] === 0)
          throw new StateError(`A stage has handed on a frame that it had not: ${address}`)
        deliver(note >>> JOB_SHIFT, address, note & LENGTH_MASK, (note & DROPPED) !== 0)
        this.#away[frame] = 0
        this.#count--
        last.release()
      }
      if (level > 0) afterBatch()
      if (this.#failure) throw this.#failure
      if (isDone() && this.#count === 0) return
      await last.wait()
    }
  }

  /** Makes `run` ask again whether it is done. */
  wake(): void {
    this.#last.wake()
  }

  /** Ends the threads, and frees what they had. */
  async close(): Promise<void> {
    this.#ended = true
    await Promise.all(this.#threads.splice(0).map((thread) => thread.terminate()))
    this.#away.forEach((job, frame) => {
      if (job === 0) return
      this.#away[frame] = 0
      this.#count--
      this.#options.deliver(job - 1, frame << this.#shift, 0, true)
    })
  }
}
