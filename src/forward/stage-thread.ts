// The thread of one stage, seen from the thread that forwards: started, counted, replaced when it ends by itself.
import { setTimeout as delay } from 'node:timers/promises'
import type { TransferListItem } from 'node:worker_threads'
import { XdpError } from '../kernel/index.js'
import type { RestartPolicy, Umem } from '../xsk/index.js'
import { ControlledThread, asError } from '../xsk/controlled-thread.js'
import { Crashes } from '../xsk/restart.js'
import type { DescriptorRing } from './descriptor-ring.js'
import { DROPPED, STAGE_COUNTER, type StageSetup } from './stage-setup.js'

/** `restarting`: packets wait for a new thread. `failed`: it has crashed too often, and the run has ended. */
export type StageState = 'stopped' | 'starting' | 'running' | 'restarting' | 'failed'

/** What a stage with a thread counts besides its packets. */
export interface StageThreadStatistics {
  state: StageState
  /** Packets that a thread had in hand when it ended by itself. They count as dropped on their way. */
  lost: number
  /** Times that packets were handed on: `packets / batches` is the mean batch. */
  batches: number
  /** Times that it had nothing to do and slept. */
  sleeps: number
  /** Packets before it, that wait. */
  waiting: number
  /** Times that a new thread has taken the place of one that had ended by itself. */
  restarts: number
  /** Milliseconds that its thread has stood still for, once they are `stallMs` or more: it loops, say. Otherwise 0. */
  stalledMs: number
}

/** What a stage's thread needs to know of its forwarder. */
export interface StagePlan {
  setup: Pick<StageSetup, 'module' | 'stage' | 'stages' | 'workerData' | 'ways' | 'jobs' | 'cpu' | 'counters'>
  umem: Umem
  input: DescriptorRing
  output: DescriptorRing
  restart: RestartPolicy | false
  stallMs: number
  startTimeoutMs: number
  events: StageEvents
}

/** What it tells. */
export interface StageEvents {
  onMessage: (thread: StageThread, message: unknown) => void
  onCrash: (thread: StageThread, error: Error, restartInMs: number) => void
  onRestart: (thread: StageThread) => void
  onFailed: (thread: StageThread, error: Error) => void
  onStall: (thread: StageThread) => void
}

/** A stage with a thread of its own, while the forwarder runs. */
export class StageThread {
  /** Its number among the stages that have a thread. */
  readonly index: number
  /** Address of its module. */
  readonly module: string
  /** The processor it is bound to; undefined when it is the scheduler's choice. */
  readonly cpu: number | undefined
  readonly #plan: StagePlan
  readonly #crashes: Crashes
  #state: StageState = 'stopped'
  #restarts = 0
  readonly #thread: ControlledThread
  #replacing: Promise<void> = Promise.resolve()
  #pause = new AbortController()

  constructor(plan: StagePlan) {
    this.index = plan.setup.stage
    this.module = plan.setup.module
    this.cpu = plan.setup.cpu
    this.#plan = plan
    this.#crashes = new Crashes(plan.restart)
    this.#thread = new ControlledThread({
      script: new URL('./stage-main.js', import.meta.url),
      name: `xdp stage ${this.index}`,
      subject: `The thread of stage ${this.index}`,
      module: this.module,
      startTimeoutMs: plan.startTimeoutMs,
      stallMs: plan.stallMs,
      progress: () => plan.output.written,
      onMessage: (message) => plan.events.onMessage(this, message),
      onCrash: (error, ranForMs) => this.#onCrash(error, ranForMs),
      onStall: () => plan.events.onStall(this),
    })
  }

  get state(): StageState {
    return this.#state
  }

  /** Node's number of the thread; undefined while there is none. */
  get threadId(): number | undefined {
    return this.#thread.threadId
  }

  /** Sends a message to the stage's `port`. False when it has no thread now: nothing is kept for the next one. */
  post(message: unknown, transfer?: readonly TransferListItem[]): boolean {
    if (this.#state !== 'running') return false
    this.#thread.post(message, transfer)
    return true
  }

  /** Ends the thread at once, as a crash would: another one takes its place. */
  async terminate(): Promise<void> {
    await this.#thread.terminate()
  }

  /** Packets that it was given, and how many of them it has dropped. */
  get counts(): { packets: number; dropped: number } {
    const { counters } = this.#plan.setup
    return { packets: counters[STAGE_COUNTER.packets], dropped: counters[STAGE_COUNTER.dropped] }
  }

  /** The other counts, since the forwarder was opened. From shared memory, at any time. */
  statistics(): StageThreadStatistics {
    const { counters } = this.#plan.setup
    return {
      state: this.#state,
      lost: counters[STAGE_COUNTER.lost],
      batches: counters[STAGE_COUNTER.batches],
      sleeps: counters[STAGE_COUNTER.sleeps],
      waiting: this.#plan.input.level,
      restarts: this.#restarts,
      stalledMs: this.#thread.stalledMs,
    }
  }

  /** @internal Starts it; resolves when it is ready, rejects with what the module throws, or when it is stopped before. */
  async start(): Promise<void> {
    this.#pause = new AbortController()
    this.#crashes.clear()
    this.#state = 'starting'
    try {
      await this.#launch()
    } catch (error) {
      this.#state = 'stopped'
      throw startError(this.module, asError(error))
    }
    this.#state = 'running'
  }

  /** @internal Ends it: it is asked to, and made to when that takes longer than `patienceMs`. */
  async stop(patienceMs: number): Promise<void> {
    this.#pause.abort()
    const ended = this.#thread.end(patienceMs)
    // From its sleep, in which it does not hear.
    this.#plan.input.wake()
    await ended
    await this.#replacing
    if (this.#state !== 'failed') this.#state = 'stopped'
  }

  async #launch(): Promise<void> {
    const { setup, umem, input, output } = this.#plan
    const data: Omit<StageSetup, 'control'> = {
      ...setup,
      umem: umem.describe(),
      ...{ input: input.memory, output: output.memory },
    }
    await this.#thread.start(data)
  }

  #onCrash(error: Error, ranForMs: number): void {
    this.#recover()
    this.#replacing = this.#replace(error, ranForMs)
  }

  // What the thread had done goes on, and what it had in hand is given up: it may be what has ended it.
  #recover(): void {
    const { setup, input, output } = this.#plan
    const { handled, lost } = output.recover(input, DROPPED)
    setup.counters[STAGE_COUNTER.packets] += handled + lost
    setup.counters[STAGE_COUNTER.lost] += lost
  }

  // Puts a new thread in its place, as often as the policy says. Packets wait meanwhile.
  async #replace(error: Error, ranForMs: number): Promise<void> {
    const { signal } = this.#pause
    const { events } = this.#plan
    while (!signal.aborted) {
      const wait = this.#crashes.add(ranForMs)
      ranForMs = 0
      if (wait === undefined) {
        this.#state = 'failed'
        events.onFailed(this, error)
        return
      }
      this.#state = 'restarting'
      events.onCrash(this, error, wait)
      await delay(wait, undefined, { signal }).catch(() => undefined)
      if (signal.aborted) return
      try {
        await this.#launch()
      } catch (again) {
        error = asError(again)
        continue
      }
      this.#state = 'running'
      this.#restarts++
      events.onRestart(this)
      return
    }
  }
}

// Names the module: what it threw has lost its class, and often says nothing of where it is from.
function startError(module: string, error: Error): XdpError {
  const { name, message } = error
  const what = message.includes(module) ? message : `The stage ${module} did not start: ${name}: ${message}`
  const hint = 'hint' in error && typeof error.hint === 'string' ? error.hint : undefined
  return new XdpError('XDP_STAGE', what, hint, { cause: error })
}
