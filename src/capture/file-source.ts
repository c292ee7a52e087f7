// A capture file as a packet source: read back through the same filter and printers as live packets.
import { StateError } from '../kernel/errors.js'
import { LINKTYPE_ETHERNET, MAX_CAPTURED_LENGTH, type PacketRecord } from '../packet/pcap-record.js'
import { Gate } from './gate.js'
import { requireEthernet } from './link-type.js'
import { CaptureReader } from './reader.js'
import type { PacketFilter, PacketSink, PacketSource, SourceStatistics } from './source.js'

export interface FileSourceOptions {
  filter?: PacketFilter | undefined
  snapLength?: number | undefined
}

// Packets in one turn of the event loop.
const BATCH = 1024

/** The packets of a file, as fast as they are taken; `pause` stops the reading, and nothing is ever dropped. */
export class FileSource implements PacketSource {
  readonly mode = 'file'
  readonly name: string
  readonly linkType: number
  readonly reader: CaptureReader
  readonly #options: FileSourceOptions
  readonly #stats: SourceStatistics = {
    packets: 0,
    bytes: 0,
    batches: 0,
    dropped: { interface: 0, kernel: 0, ring: 0 },
  }
  #isStarted = false
  #isStopped = false
  readonly #gate = new Gate()
  #run: Promise<void> | undefined

  private constructor(reader: CaptureReader, options: FileSourceOptions) {
    this.reader = reader
    this.name = reader.name
    this.linkType = reader.interfaces[0]?.linkType ?? LINKTYPE_ETHERNET
    this.#options = options
  }

  /** Opens a file, or `-`. Throws as `CaptureReader.open` does. */
  static async open(path: string, options: FileSourceOptions = {}): Promise<FileSource> {
    return new FileSource(await CaptureReader.open(path), options)
  }

  start(sink: PacketSink): void {
    if (this.#isStarted || this.#isStopped) throw new StateError(`${this.name} was started or closed already`)
    this.#isStarted = true
    this.#run = this.#read(sink)
  }

  pause(): void {
    this.#gate.shut()
  }

  resume(): void {
    this.#gate.open()
  }

  async stop(): Promise<void> {
    this.#isStopped = true
    this.resume()
    // A pipe may have nothing more to say.
    await this.reader.close()
    await this.#run
  }

  stats(): SourceStatistics {
    return { ...this.#stats, dropped: { ...this.#stats.dropped } }
  }

  async close(): Promise<void> {
    await this.stop()
  }

  async #read(sink: PacketSink): Promise<void> {
    // Never inside `start`.
    await new Promise((resolve) => setImmediate(resolve))
    let left = BATCH
    try {
      await this.reader.read((packet) => {
        if (this.#isStopped) return false
        if (this.#isWanted(packet)) this.#handOn(packet, sink)
        if (--left > 0 && !this.#gate.isShut) return true
        left = BATCH
        return this.#turn(sink)
      })
      if (left < BATCH) this.#endBatch(sink)
    } catch (error) {
      sink.ended?.(error as Error)
      return
    }
    if (!this.#isStopped) sink.ended?.()
  }

  /** Between two batches: other work, and whatever time `pause` takes. */
  async #turn(sink: PacketSink): Promise<boolean> {
    this.#endBatch(sink)
    await new Promise((resolve) => setImmediate(resolve))
    await this.#gate.opened()
    return !this.#isStopped
  }

  #endBatch(sink: PacketSink): void {
    this.#stats.batches++
    sink.batchEnd?.()
  }

  #isWanted({ bytes, offset, length, wireLength, linkType }: PacketRecord): boolean {
    const { filter } = this.#options
    if (filter === undefined) return true
    requireEthernet(linkType, this.name)
    return filter.matches(bytes, offset, length, wireLength)
  }

  #handOn(packet: PacketRecord, sink: PacketSink): void {
    packet.length = Math.min(packet.length, this.#options.snapLength ?? MAX_CAPTURED_LENGTH)
    this.#stats.packets++
    this.#stats.bytes += packet.wireLength
    sink.packet(packet)
  }
}
