// A packet source whose packets, losses and end a test decides.
import type { PacketSink, PacketSource, SourceStatistics } from '../../src/capture/source.js'
import { PacketRecord } from '../../src/packet/pcap-record.js'

/** Gives what `give` is told to, at once; what is given while it is paused is lost like in a full ring. */
export class FakeSource implements PacketSource {
  readonly mode: PacketSource['mode']
  readonly name = 'fake0'
  readonly linkType = 1
  /** The calls made, in order. */
  readonly calls: string[] = []
  readonly #packet = new PacketRecord()
  readonly #stats: SourceStatistics = {
    packets: 0,
    bytes: 0,
    batches: 0,
    dropped: { interface: 0, kernel: 0, ring: 0 },
  }
  #sink: PacketSink | undefined
  #isPaused = false

  constructor(mode: PacketSource['mode'] = 'packet') {
    this.mode = mode
  }

  start(sink: PacketSink): void {
    this.calls.push('start')
    this.#sink = sink
  }
  pause(): void {
    this.calls.push('pause')
    this.#isPaused = true
  }
  resume(): void {
    this.calls.push('resume')
    this.#isPaused = false
  }
  stop(): Promise<void> {
    this.calls.push('stop')
    this.#sink = undefined
    return Promise.resolve()
  }
  stats(): SourceStatistics {
    return { ...this.#stats, dropped: { ...this.#stats.dropped } }
  }
  close(): Promise<void> {
    this.calls.push('close')
    this.#sink = undefined
    return Promise.resolve()
  }

  /** One batch of these frames; the record and its bytes are reused and spoilt afterwards, as they may be. */
  give(...frames: readonly Uint8Array[]): void {
    for (const frame of frames) {
      if (this.#isPaused || !this.#sink) {
        this.#stats.dropped.kernel++
        continue
      }
      const packet = this.#packet
      packet.bytes = frame.slice()
      packet.length = packet.wireLength = frame.length
      packet.seconds++
      this.#stats.packets++
      this.#stats.bytes += frame.length
      this.#sink.packet(packet)
      packet.bytes.fill(0xdd)
    }
    this.#stats.batches++
    this.#sink?.batchEnd?.()
  }

  /** Counts packets as lost, where it is said. */
  lose(where: keyof SourceStatistics['dropped'], count: number): void {
    this.#stats.dropped[where] += count
  }

  end(error?: Error): void {
    this.#sink?.ended?.(error)
  }
  changeLink(isUp: boolean): void {
    this.#sink?.linkChanged?.(isUp)
  }
}
