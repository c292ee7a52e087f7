// CaptureEngine: an interface's packets in one of three ways, for one consumer, with everything that was lost counted.
import { EventEmitter } from 'node:events'
import { Readable } from 'node:stream'
import { setImmediate as turn } from 'node:timers/promises'
import { StateError } from '../kernel/errors.js'
import type { PacketRecord } from '../packet/pcap-record.js'
import { openSource, type Fallback, type Report } from './engine-open.js'
import {
  checkCapture,
  modesOf,
  type CaptureOptions,
  type CheckedCapture,
  type LiveMode,
} from './engine-options.js'
import { PacketNumbers, consumerSink, queueSink, type PacketConsumer } from './engine-sink.js'
import { addUp, noStatistics, type CaptureStatistics } from './engine-statistics.js'
import { switchSource, type ModeSwitch } from './engine-switch.js'
import { takeBatches } from './engine-batches.js'
import { PacketQueue } from './queue.js'
import type { PacketSink, PacketSource, SourceMode, SourceStatistics } from './source.js'

export type { PacketConsumer } from './engine-sink.js'
export type { CaptureStatistics } from './engine-statistics.js'
export type { ModeSwitch } from './engine-switch.js'

export interface EngineEvents {
  /** `auto` could not have a mode. Those of `open` are emitted in the next turn of the event loop. */
  fallback: [fallback: Fallback]
  /** The interface went down, or came back. */
  link: [isUp: boolean]
  /** `switchMode` is done. */
  mode: [change: ModeSwitch]
  /** No more packets come: stopped, or (with an error) the interface is gone or the consumer threw. */
  end: [error: Error | undefined]
}

/** `stopping`: no more packets are taken, but not all of those that were are with the consumer or in the queue. */
type State = 'open' | 'running' | 'stopping' | 'ended' | 'closed'

/** The source that was paused for a full queue goes on below this level. */
const SPARE = 0.5

/**
 * Captures packets. `start()` and then take them by `for await`, `forEachBatch` or `readable()`, one of them: packets wait
 * in a queue of bounded size, and in the kernel when that is full. Or `start({ packet })` to be called for each one
 * without a queue. Needs `close()`.
 */
export class CaptureEngine extends EventEmitter<EngineEvents> implements AsyncDisposable {
  /** What `auto` could not have, and why. */
  readonly fallbacks: Fallback[] = []
  /** What is less than was asked for, one sentence each. */
  readonly warnings: string[] = []
  readonly #options: CheckedCapture
  readonly #queue: PacketQueue
  #source: PacketSource
  #state: State = 'open'
  #consumer: PacketConsumer | undefined
  #isTaken = false
  #switching: Promise<ModeSwitch> | undefined
  #pausedBy = new Set<'queue' | 'caller'>()
  /** Why no pause reaches the source: the consumer has gone, or a new mode does not wait for it. */
  #unpaused = new Set<'left' | 'switching'>()
  /** Called when the queue is full. */
  #onFull: (() => void) | undefined
  /** Resolves when all that was caught before `stop` was handed on. */
  #drained: Promise<void> | undefined
  /** A source that ended by itself is closed. */
  #released: Promise<void> | undefined
  readonly #past: SourceStatistics = noStatistics()
  readonly #numbers = new PacketNumbers()
  #errors = 0
  #stopped: Promise<void> | undefined

  private constructor(options: CheckedCapture, source: PacketSource, queue: PacketQueue) {
    super()
    this.#options = options
    this.#source = source
    this.#queue = queue
  }

  /**
   * Opens the source: packets are caught from now on, and wait in the kernel until `start`. Throws `OptionError`,
   * `FilterError`, `NotFoundError`, `XdpError` `XDP_TAKES_TRAFFIC` for a divert that would cut off the host, and what the
   * mode's own source throws.
   */
  static async open(options: CaptureOptions): Promise<CaptureEngine> {
    const checked = checkCapture(options)
    const queue = new PacketQueue({ packets: options.buffer, bytes: options.bufferBytes })
    const fallbacks: Fallback[] = []
    const warnings: string[] = []
    const source = await openSource(checked.modes, checked, {
      fallback: (fallback) => fallbacks.push(fallback),
      warning: (sentence) => warnings.push(sentence),
    })
    const engine = new CaptureEngine(checked, source, queue)
    engine.fallbacks.push(...fallbacks)
    engine.warnings.push(...warnings)
    // For listeners that are set as soon as there is something to set them on.
    if (fallbacks.length > 0) setImmediate(() => fallbacks.forEach((it) => engine.emit('fallback', it)))
    return engine
  }

  /** An engine over a source that is open already: a file read back, say. The source is the engine's from now on. */
  static over(
    source: PacketSource,
    options: Pick<CaptureOptions, 'buffer' | 'bufferBytes' | 'batch' | 'timeout'> = {},
  ): CaptureEngine {
    const queue = new PacketQueue({ packets: options.buffer, bytes: options.bufferBytes })
    return new CaptureEngine(checkCapture({ ...options, interface: source.name }), source, queue)
  }

  /** How packets are had now. */
  get mode(): SourceMode {
    return this.#source.mode
  }

  /** Whether an XDP program is at work: modes divert and mirror. */
  get isUsingXdp(): boolean {
    return this.mode === 'divert' || this.mode === 'mirror'
  }

  /** The source at work; it changes with the mode. Leave its `start`, `stop` and `close` to the engine. */
  get source(): PacketSource {
    return this.#source
  }

  get state(): State {
    return this.#state
  }

  /** Lets packets come. Throws `StateError` unless the engine was just opened. */
  start(consumer?: PacketConsumer): void {
    if (this.#state !== 'open')
      throw new StateError(`The capture of ${this.#source.name} ${this.#was()} already`)
    this.#consumer = consumer
    this.#source.start(this.#sinkOf(this.#source))
    this.#state = 'running'
  }

  /**
   * Takes no more packets; those that were caught before are handed on. Resolves when they are in the queue or with the
   * consumer, or the queue is full: the rest goes there as it is read, until when the engine is `stopping`. While it is
   * paused by `pause`, waits for `resume`. A switch of modes that is under way is waited for. Throws `StateError` unless
   * the engine runs.
   */
  async stop(): Promise<void> {
    if (this.#state !== 'running' && this.#state !== 'stopping')
      throw new StateError(`The capture of ${this.#source.name} ${this.#was()}`)
    this.#stopped ??= this.#stop()
    await this.#stopped
  }

  /** Ends everything at once; what waits is let go. Closing twice is harmless. */
  async close(): Promise<void> {
    if (this.#state === 'closed') return
    const hadEnded = !this.#isActive
    this.#state = 'closed'
    await this.#source.close()
    await this.#released
    this.#queue.drop(this.#queue.length)
    this.#queue.end()
    if (!hadEnded) this.emit('end', undefined)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  stats(): CaptureStatistics {
    const { packets, bytes, batches, dropped } = addUp(this.#past, this.#source.stats())
    return {
      mode: this.mode,
      packets,
      bytes,
      processed: this.#numbers.processed,
      waiting: this.#queue.length,
      dropped: { ...dropped, consumer: this.#numbers.consumerDrops },
      batches,
      errors: this.#errors,
    }
  }

  /** For a consumer without a queue: no packets until `resume`. They wait in the kernel, and are counted when lost there. */
  pause(): void {
    this.#hold('caller', true)
  }

  resume(): void {
    this.#hold('caller', false)
  }

  /**
   * Changes the mode while packets flow. Between `packet` and one of the XDP modes the new source opens before the old one
   * ends, so that packets may come from both; between the XDP modes the old one ends first, and packets may be lost. What
   * the old one caught comes even if the engine is paused, and is lost and counted if the queue has no room for it. When the new mode cannot be had, the engine is back in the old one and the error is thrown; `auto` chooses as `open` does.
   */
  async switchMode(mode: 'auto' | LiveMode): Promise<ModeSwitch> {
    const from = this.mode
    if (this.#state !== 'open' && this.#state !== 'running')
      throw new StateError(`The capture of ${this.#source.name} ${this.#was()}`)
    if (from === 'file') throw new StateError('A file has no other mode')
    if (this.#stopped) throw new StateError(`The capture of ${this.#source.name} is being stopped`)
    if (this.#switching) throw new StateError('The mode is being switched already')
    const modes = modesOf(mode)
    this.#switching = switchSource(this.#forSwitch(), this.#source, from, modes)
    try {
      const change = await this.#switching
      if (change.from !== change.to) this.emit('mode', change)
      return change
    } finally {
      this.#switching = undefined
    }
  }

  /** Each packet with bytes of its own. Leaving the loop stops the capture; throws what ended it. */
  async *[Symbol.asyncIterator](): AsyncGenerator<PacketRecord, void, void> {
    this.#takeQueue()
    const queue = this.#queue
    try {
      for (;;) {
        for (let packet = queue.peek(); packet; packet = queue.peek()) {
          const copy = packet.copy()
          this.#taken(1)
          yield copy
        }
        if (queue.ended) break
        await queue.wait()
      }
      if (queue.error) throw queue.error
    } finally {
      if (this.#isActive) await this.#leave()
    }
  }

  /**
   * Calls `handler` with packets, `batch` at most at a time, in order; with fewer when `timeout` is over. Waits for the
   * promise that it returns: until then the packets, views into the queue, are valid. Resolves when the capture has
   * ended; throws what ended it, or what the handler threw, which stops it.
   */
  async forEachBatch(handler: (packets: readonly PacketRecord[]) => unknown): Promise<void> {
    this.#takeQueue()
    const guarded = async (packets: readonly PacketRecord[]): Promise<void> => {
      try {
        await handler(packets)
      } catch (error) {
        this.#errors++
        if (this.#isActive) await this.#leave()
        throw error
      }
    }
    await takeBatches(this.#queue, this.#options, guarded, this.#taken)
  }

  /** A stream of packets in object mode, each with bytes of its own. Destroying it stops the capture. */
  readable(): Readable {
    return Readable.from(this[Symbol.asyncIterator](), { objectMode: true })
  }

  #was(): string {
    return {
      open: 'was not started',
      running: 'was started',
      stopping: 'is being stopped',
      ended: 'has ended',
      closed: 'is closed',
    }[this.#state]
  }

  /** Whether packets may still come from the source. */
  get #isActive(): boolean {
    return this.#state === 'running' || this.#state === 'stopping'
  }

  #takeQueue(): void {
    if (this.#consumer)
      throw new StateError('Packets go to the consumer that `start` was given, not into the queue')
    if (this.#state === 'open')
      throw new StateError(`The capture of ${this.#source.name} was not started: no packet would ever come`)
    if (this.#isTaken) throw new StateError('Another consumer takes the packets already')
    if (this.#state === 'closed') throw new StateError(`The capture of ${this.#source.name} is closed`)
    this.#isTaken = true
  }

  readonly #taken = (count: number): void => {
    this.#queue.drop(count)
    this.#numbers.processed += count
    if (this.#pausedBy.has('queue') && this.#queue.level <= SPARE) this.#hold('queue', false)
  }

  #hold(by: 'queue' | 'caller', isHeld: boolean): void {
    const was = this.#pausedBy.size > 0
    if (isHeld) this.#pausedBy.add(by)
    else this.#pausedBy.delete(by)
    const is = this.#pausedBy.size > 0
    if (is === was || this.#unpaused.size > 0 || !(this.#state === 'open' || this.#isActive)) return
    if (is) this.#source.pause()
    else this.#source.resume()
  }

  #sinkOf(source: PacketSource): PacketSink {
    const numbers = this.#numbers
    const take = this.#consumer
      ? consumerSink(source, this.#consumer, numbers)
      : queueSink(source, this.#queue, numbers, () => {
          this.#hold('queue', true)
          this.#onFull?.()
        })
    return {
      ...take,
      linkChanged: (isUp) => this.emit('link', isUp),
      ended: (error) => {
        if (source !== this.#source) return
        this.#end(error)
        this.#released = letGo(source)
      },
    }
  }

  async #stop(): Promise<void> {
    // What is to be stopped is the source that there is then.
    if (this.#switching) await this.#switching.catch(() => undefined)
    if (this.#state !== 'running') return
    this.#state = 'stopping'
    this.#drained = this.#stopSource()
    if (this.#unpaused.has('left')) return this.#drained
    // Who is to make room in the queue may be who waits here.
    const full = new Promise<void>((resolve) => (this.#onFull = resolve))
    if (this.#pausedBy.has('queue')) this.#onFull?.()
    await Promise.race([this.#drained, full])
  }

  async #stopSource(): Promise<void> {
    await this.#source.stop()
    this.#end(undefined)
  }

  /** The consumer takes no more: what was caught is not waited for. */
  async #leave(): Promise<void> {
    this.#unpaused.add('left')
    if (this.#pausedBy.size > 0) this.#source.resume()
    await (this.#drained ?? this.stop())
  }

  #end(error: Error | undefined): void {
    if (!this.#isActive) return
    this.#state = 'ended'
    if (error) this.#errors++
    this.#queue.end(error)
    this.emit('end', error)
  }

  #forSwitch() {
    const report: Report = {
      fallback: (fallback) => {
        this.fallbacks.push(fallback)
        this.emit('fallback', fallback)
      },
      warning: (sentence) => this.warnings.push(sentence),
    }
    return {
      options: this.#options,
      report,
      drain: (source: PacketSource) => this.#drain(source),
      replace: (old: PacketSource, next: PacketSource) => this.#replace(old, next),
      end: (error: Error) => this.#end(error),
    }
  }

  /** Everything that a source caught is handed on, and its counts are kept. */
  async #drain(old: PacketSource): Promise<void> {
    if (this.#state !== 'running') return old.close()
    // The new mode does not wait for a slow consumer, which may be who waits for it.
    this.#unpaused.add('switching')
    if (this.#pausedBy.size > 0) old.resume()
    await old.stop().finally(() => this.#unpaused.delete('switching'))
  }

  async #replace(old: PacketSource, next: PacketSource): Promise<void> {
    await this.#drain(old)
    if (this.#state === 'closed' || this.#state === 'ended') {
      await next.close()
      throw new StateError(`The capture of ${next.name} ended while its mode was switched`)
    }
    Object.assign(this.#past, addUp(this.#past, old.stats()))
    this.#numbers.forget()
    this.#source = next
    await old.close()
    if (this.#pausedBy.size > 0 && this.#unpaused.size === 0) next.pause()
    if (this.#state === 'running') next.start(this.#sinkOf(next))
  }
}

/** What a source that ended by itself has attached goes now, not when somebody thinks of `close`: it may be in the middle of a batch. */
async function letGo(source: PacketSource): Promise<void> {
  await turn()
  await source.close().catch(() => undefined)
}
