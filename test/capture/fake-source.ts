// Packet sources that a test drives by hand.
import { PacketBatch } from '../../src/packet/pcap-batch.js'
import { Handover } from '../../src/capture/handover.js'
import { PacketRecord } from '../../src/packet/pcap-record.js'
import type { LiveMode } from '../../src/capture/engine-options.js'
import type { PacketSink, PacketSource, SourceStatistics } from '../../src/capture/source.js'

export class FakeSource implements PacketSource {
  readonly mode: LiveMode
  readonly name = 'fake'
  readonly linkType = 1
  readonly statistics: SourceStatistics = {
    packets: 0,
    bytes: 0,
    batches: 0,
    dropped: { interface: 0, kernel: 0, ring: 0 },
  }
  sink: PacketSink | undefined
  isPaused = false
  isStopped = false
  isClosed = false
  /** Handed on by `stop`, as packets that were caught before. */
  late: Uint8Array[] = []

  constructor(mode: LiveMode = 'packet') {
    this.mode = mode
  }

  start(sink: PacketSink): void {
    this.sink = sink
  }
  pause(): void {
    this.isPaused = true
  }
  resume(): void {
    this.isPaused = false
  }
  stop(): Promise<void> {
    this.isStopped = true
    if (this.late.length > 0) this.give(...this.late.splice(0))
    return Promise.resolve()
  }
  stats(): SourceStatistics {
    return structuredClone(this.statistics)
  }
  close(): Promise<void> {
    this.isClosed = true
    return Promise.resolve()
  }

  /** Hands on a batch, from one reused record as every source does. */
  give(...packets: Uint8Array[]): void {
    const record = new PacketRecord()
    for (const bytes of packets) {
      record.bytes = bytes
      record.length = bytes.length
      record.wireLength = bytes.length
      this.statistics.packets++
      this.statistics.bytes += bytes.length
      this.sink?.packet(record)
    }
    this.statistics.batches++
    this.sink?.batchEnd?.()
  }
}

/** One that hands on as those of interfaces do: pausing it stops it in the middle of a batch. */
export class PausingSource extends FakeSource {
  readonly #handover = new Handover()

  override pause(): void {
    super.pause()
    this.#handover.gate.shut()
  }
  override resume(): void {
    super.resume()
    this.#handover.gate.open()
    setImmediate(() => this.sink && this.#handover.goOn(this.sink))
  }
  override async stop(): Promise<void> {
    this.isStopped = true
    while (this.#handover.isKeeping) {
      await this.#handover.gate.opened()
      if (this.sink) this.#handover.goOn(this.sink)
    }
  }
  override close(): Promise<void> {
    this.#handover.close()
    return super.close()
  }
  override give(...packets: Uint8Array[]): void {
    const batch = batchOf(packets)
    this.statistics.packets += batch.count
    this.statistics.bytes += batch.wire
    this.statistics.batches++
    if (this.sink) this.#handover.give(batch, this.sink)
  }
}

/** A batch with these packets. */
export function batchOf(packets: readonly Uint8Array[]): PacketBatch {
  const batch = new PacketBatch(packets.length)
  batch.begin(Buffer.concat(packets))
  for (const { length } of packets) batch.add(batch.captured, length, length, 0, 0, -1, 1)
  return batch
}

/** A packet that is told from others by its number. */
export function numbered(number: number, length = 60): Uint8Array {
  const bytes = new Uint8Array(length)
  new DataView(bytes.buffer).setUint32(0, number)
  return bytes
}

export const numberOf = ({ bytes, offset }: PacketRecord): number =>
  new DataView(bytes.buffer, bytes.byteOffset + offset).getUint32(0)
