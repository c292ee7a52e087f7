// Stages with a thread each: frames go from one to the next as descriptors, and come back to be sent.
import { StateError } from '../kernel/index.js'
import type { RestartPolicy, Umem } from '../xsk/index.js'
import { DescriptorRing } from './descriptor-ring.js'
import { DROPPED, JOB_SHIFT, LENGTH_MASK, STAGE_COUNTERS, type StageSetup } from './stage-setup.js'
import { StageThread, type StageEvents } from './stage-thread.js'

// Packets handed to the first stage together, at most: each time may wake its thread.
const BATCH = 32

export interface PipelineOptions extends Pick<StageSetup, 'ways' | 'jobs' | 'workerData'> {
  modules: readonly URL[]
  /** The processor of each. */
  cpus: readonly (number | undefined)[]
  restart: RestartPolicy | false
  stallMs: number
  startTimeoutMs: number
  umem: Umem
  /** What is done with a packet that has been through all stages: sent, or freed. */
  deliver: (job: number, address: number, length: number, isDropped: boolean) => void
  /** Called after some of them. */
  afterBatch: () => void
  /** What the threads tell. One that has failed ends `run` as well. */
  events: StageEvents
}

/** The threads, and the way through them. */
export class Pipeline {
  readonly threads: readonly StageThread[]
  readonly #options: PipelineOptions
  readonly #first: DescriptorRing
  readonly #last: DescriptorRing
  readonly #rings: readonly DescriptorRing[]
  // For each frame: 1 plus the job it was received by, while it is with a stage.
  readonly #away: Uint16Array
  readonly #shift: number
  // Written for the first stage, which has not been told.
  #written = 0
  // Packets that are with stages.
  #count = 0
  #failure: Error | undefined
  #isStarted = false
  // How many runs there were: one that is given up must not go on beside the next.
  #runs = 0

  constructor(options: PipelineOptions) {
    const { modules, umem, ways, jobs, cpus, workerData, restart, stallMs, startTimeoutMs, events } = options
    const rings = Array.from(
      { length: modules.length + 1 },
      () => new DescriptorRing(DescriptorRing.allocate(umem.frames)),
    )
    const stride = STAGE_COUNTERS * Float64Array.BYTES_PER_ELEMENT
    const counters = new SharedArrayBuffer(modules.length * stride)
    this.#options = options
    this.#rings = rings
    this.#first = rings[0]
    this.#last = rings[modules.length]
    this.#away = new Uint16Array(umem.frames)
    this.#shift = 31 - Math.clz32(umem.frameSize)
    this.threads = modules.map((module, stage) => {
      const about = { module: module.href, stage, stages: modules.length, workerData, ways, jobs }
      return new StageThread({
        setup: {
          ...about,
          cpu: cpus[stage],
          counters: new Float64Array(counters, stage * stride, STAGE_COUNTERS),
        },
        ...{ umem, restart, stallMs, startTimeoutMs, input: rings[stage], output: rings[stage + 1] },
        events: {
          ...events,
          onFailed: (thread, error) => {
            this.#failure ??= error
            this.#last.wake()
            events.onFailed(thread, error)
          },
        },
      })
    })
  }

  /**
   * Starts the threads, unless they were since the last `stop`; resolves when all are ready, or `signal` aborts. Rejects with
   * what a module throws.
   */
  async start(signal: AbortSignal): Promise<void> {
    if (this.#isStarted) return
    this.#isStarted = true
    this.#failure = undefined
    const ready = Promise.all(this.threads.map((thread) => thread.start()))
    let onAbort = () => undefined as void
    const aborted = new Promise<void>((resolve) => (onAbort = resolve))
    signal.addEventListener('abort', onAbort, { once: true })
    if (signal.aborted) onAbort()
    try {
      await Promise.race([ready, aborted])
    } finally {
      signal.removeEventListener('abort', onAbort)
      ready.catch(() => undefined) // Those that are not ready when all are stopped.
    }
  }

  /** Hands a packet to the first stage. Its frame must be held. */
  push(address: number, length: number, job: number): void {
    this.#away[address >>> this.#shift] = job + 1
    this.#count++
    // Those of a turn of the event loop go together.
    if (this.#written === 0) queueMicrotask(this.#publish)
    this.#first.set(this.#written++, address, (job << JOB_SHIFT) | length)
    if (this.#written === BATCH) this.#publish()
  }

  readonly #publish = (): void => {
    if (this.#written === 0) return
    this.#first.begin(this.#written)
    this.#written = 0
    this.#first.commit()
  }

  /** Takes packets from the last stage until `isDone` says so, and none is left. Rejects with the error of a stage that has failed. */
  async run(isDone: () => boolean): Promise<void> {
    const last = this.#last
    const run = ++this.#runs
    while (run === this.#runs) {
      const level = last.level
      for (let i = 0; i < level; i++) this.#deliver(last.address(i), last.note(i))
      if (level > 0) {
        last.release(level)
        this.#options.afterBatch()
      }
      if (this.#failure) throw this.#failure
      if (isDone() && this.#count === 0) return
      await last.wait()
    }
  }

  #deliver(address: number, note: number): void {
    const frame = address >>> this.#shift
    const job = this.#away[frame]
    if (job === 0) throw new StateError(`A stage has handed on a frame that it had not: ${address}`)
    this.#options.deliver(job - 1, address, note & LENGTH_MASK, (note & DROPPED) !== 0)
    this.#away[frame] = 0
    this.#count--
  }

  /** Makes `run` ask again whether it is done. */
  wake(): void {
    this.#last.wake()
  }

  /** Ends the threads, each within `patienceMs`, and frees what they had. */
  async stop(patienceMs: number): Promise<void> {
    this.#runs++
    this.#isStarted = false
    this.#last.wake()
    await Promise.all(this.threads.map((thread) => thread.stop(patienceMs)))
    this.#away.forEach((job, frame) => {
      if (job !== 0) this.#deliver(frame << this.#shift, ((job - 1) << JOB_SHIFT) | DROPPED)
    })
    this.#written = 0
    for (const ring of this.#rings) ring.clear()
  }
}
