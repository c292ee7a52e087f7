// What the two ways through XDP have in common: a batch to fill, counts, ends of batches, the interface's fate.
import {
  StateError,
  UnsupportedError,
  getInterface,
  makePromiscuous,
  type Interface,
  type Namespace,
} from '../kernel/index.js'
import { PacketBatch } from '../packet/pcap-batch.js'
import { LINKTYPE_ETHERNET } from '../packet/pcap-record.js'
import { WallClock } from './wall-clock.js'
import { LinkWatch } from './link-watch.js'
import { Handover } from './handover.js'
import type { PacketSink, SourceStatistics } from './source.js'

const CLOCK_MS = 1000

/** The interface that XDP is to run on. Throws `NotFoundError`, and `UnsupportedError` for links without Ethernet headers. */
export function xdpInterface(name: string, namespace: Namespace | undefined): Interface {
  const device = getInterface(name, { namespace })
  if (device.mac !== undefined || device.loopback) return device
  throw new UnsupportedError(
    `Packets of ${name} have no Ethernet header`,
    'Capture them with the mode "packet".',
  )
}

/** Packets handed on at a time, and bytes of them before which there are more: an output has room for so many. */
export const BATCH = 1024
export const BATCH_BYTES = 262_144

/** The half of a source that does not depend on where packets come from. */
export class LiveSource {
  /** To be filled and handed on. */
  readonly batch = new PacketBatch(BATCH)
  readonly clock = new WallClock()
  readonly stats: SourceStatistics = {
    packets: 0,
    bytes: 0,
    batches: 0,
    dropped: { interface: 0, kernel: 0, ring: 0 },
  }
  /** The most bytes of a packet that are handed on. */
  readonly snapLength: number
  readonly #device: Interface
  readonly #namespace: Namespace | undefined
  readonly #handover = new Handover()
  #link: LinkWatch | undefined
  #letGo: (() => void) | undefined
  #sink: PacketSink | undefined
  #timer: NodeJS.Timeout | undefined
  #hasEnded = false

  constructor(device: Interface, namespace: Namespace | undefined, snapLength: number, verdict: number) {
    this.#device = device
    this.#namespace = namespace
    this.snapLength = snapLength
    this.batch.linkType = LINKTYPE_ETHERNET
    this.batch.verdict = verdict
  }

  /** Has the interface take what is not addressed to it, until `close`. Throws `KernelError` (EPERM without CAP_NET_RAW). */
  makePromiscuous(): void {
    if (!this.#hasEnded) this.#letGo ??= makePromiscuous(this.#device.name, this.#namespace)
  }

  get isStarted(): boolean {
    return this.#sink !== undefined
  }

  start(sink: PacketSink): void {
    if (this.#sink || this.#hasEnded)
      throw new StateError(`The capture of ${this.#device.name} was started already`)
    this.#link = new LinkWatch(this.#device, this.#namespace, {
      changed: (isUp) => sink.linkChanged?.(isUp),
      gone: (error) => this.end(error),
    })
    this.#sink = sink
    this.#timer = setInterval(() => this.clock.check(), CLOCK_MS).unref()
  }

  /** Whether the batch is to be handed on before there are more packets in it. */
  get isFull(): boolean {
    return this.batch.count === BATCH || this.batch.captured >= BATCH_BYTES
  }

  /** Nothing is handed on until `resume`: what would be is kept. */
  pause(): void {
    this.#handover.gate.shut()
  }

  resume(): void {
    this.#handover.gate.open()
    if (this.#handover.isKeeping) setImmediate(() => this.goOn())
  }

  get isPaused(): boolean {
    return this.#handover.gate.isShut
  }

  /** Whether packets are kept that the sink had no room for. */
  get isKeeping(): boolean {
    return this.#handover.isKeeping
  }

  /** Resolves when it is not paused. */
  opened(): Promise<void> {
    return this.#handover.gate.opened()
  }

  /** Hands on what is in the batch. What the sink throws ends the source. */
  handOn(): void {
    const { batch, stats } = this
    const sink = this.#sink
    if (batch.count === 0 || !sink || this.#hasEnded) return
    stats.packets += batch.count
    stats.bytes += batch.wire
    stats.batches++
    this.#guarded(() => this.#handover.give(batch, sink))
  }

  /** Hands on what was kept. */
  goOn(): void {
    const sink = this.#sink
    if (sink && !this.#hasEnded) this.#guarded(() => this.#handover.goOn(sink))
  }

  #guarded(give: () => void): void {
    try {
      give()
    } catch (error) {
      this.end(error as Error)
    }
  }

  /** The source ends by itself: says so once. */
  end(error: Error): void {
    if (this.#hasEnded) return
    const sink = this.#sink
    this.close()
    sink?.ended?.(error)
  }

  /** Counts of the interface itself, or the last ones when it is gone. */
  countInterface(): void {
    try {
      const { rxMissed } = getInterface(this.#device.index, { namespace: this.#namespace }).stats
      this.stats.dropped.interface = Math.max(0, rxMissed - this.#device.stats.rxMissed)
    } catch {
      // Gone: the last count stands.
    }
  }

  get hasEnded(): boolean {
    return this.#hasEnded
  }

  close(): void {
    this.#hasEnded = true
    this.batch.clear()
    this.#handover.close()
    this.#letGo?.()
    this.#letGo = undefined
    this.#link?.close()
    clearInterval(this.#timer)
  }
}
