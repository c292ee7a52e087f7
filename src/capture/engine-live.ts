// What the two ways through XDP have in common: a packet to fill in, counts, ends of batches, the interface's fate.
import {
  StateError,
  UnsupportedError,
  getInterface,
  type Interface,
  type Namespace,
} from '../kernel/index.js'
import { LINKTYPE_ETHERNET, PacketRecord } from '../packet/pcap-record.js'
import { WallClock } from './engine-clock.js'
import { LinkWatch } from './engine-link.js'
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

/** The half of a source that does not depend on where packets come from. */
export class LiveSource {
  readonly packet = new PacketRecord()
  /** Called behind each batch. */
  afterBatch: () => void = () => undefined
  readonly clock = new WallClock()
  readonly stats: SourceStatistics = {
    packets: 0,
    bytes: 0,
    batches: 0,
    dropped: { interface: 0, kernel: 0, ring: 0 },
  }
  readonly #device: Interface
  readonly #namespace: Namespace | undefined
  readonly #snapLength: number
  #link: LinkWatch | undefined
  #sink: PacketSink | undefined
  #timer: NodeJS.Timeout | undefined
  #hasBatch = false
  #hasEnded = false

  constructor(device: Interface, namespace: Namespace | undefined, snapLength: number) {
    this.#device = device
    this.#namespace = namespace
    this.#snapLength = snapLength
    this.packet.linkType = LINKTYPE_ETHERNET
    this.packet.direction = 'inbound'
  }

  /** Whether packets were handed on whose batch has not ended yet. */
  get isInBatch(): boolean {
    return this.#hasBatch
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

  /** Hands on `packet`, whose bytes, offset, lengths, queue and time are set. */
  handOn(wireLength: number): void {
    const { packet, stats } = this
    packet.wireLength = wireLength
    if (packet.length > this.#snapLength) packet.length = this.#snapLength
    stats.packets++
    stats.bytes += wireLength
    this.#sink?.packet(packet)
    if (this.#hasBatch) return
    // Runs as soon as whoever called us is through with what is there.
    this.#hasBatch = true
    process.nextTick(this.#endBatch)
  }

  readonly #endBatch = (): void => {
    this.#hasBatch = false
    this.stats.batches++
    try {
      this.#sink?.batchEnd?.()
      this.afterBatch()
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
    this.#link?.close()
    clearInterval(this.#timer)
  }
}
