// Packets on their way from a source to its sink, which may pause the source in the middle of a batch.
import { PacketBatch, ROW, ROW_LENGTH, ROW_OFFSET } from '../packet/pcap-batch.js'
import { PacketRecord } from '../packet/pcap-record.js'
import { Gate } from './gate.js'
import type { PacketSink } from './source.js'

type Taker = Pick<PacketSink, 'packet' | 'batchEnd' | 'batch'>

/**
 * Gives the batches of one source to its sink. What a sink that pauses in the middle of a batch has not taken is copied, and
 * comes before all else when it goes on: the kernel gets its memory back as ever, and nothing is lost for want of room.
 */
export class Handover {
  /** Shut while the source is paused. */
  readonly gate = new Gate()
  readonly #record = new PacketRecord()
  #kept: PacketBatch[] = []
  /** The next packet of the first of them. */
  #next = 0

  /** Whether there are packets that the sink has not taken yet. */
  get isKeeping(): boolean {
    return this.#kept.length > 0
  }

  /** Gives a batch to the sink, behind what was kept; what it does not take is kept. What the sink throws comes out. */
  give(batch: PacketBatch, sink: Taker): void {
    this.goOn(sink)
    const taken = this.gate.isShut ? 0 : this.#give(batch, 0, sink)
    if (taken < batch.count) this.#kept.push(copyOf(batch, taken))
  }

  /** Gives the sink what was kept, as far as it takes it. */
  goOn(sink: Taker): void {
    while (this.#kept.length > 0 && !this.gate.isShut) {
      const [batch] = this.#kept
      this.#next = this.#give(batch, this.#next, sink)
      if (this.#next < batch.count) return
      this.#next = 0
      this.#kept.shift()
    }
  }

  /** Lets go of everything: nothing more is given to anyone. */
  close(): void {
    for (const batch of this.#kept) batch.clear()
    this.#kept = []
    this.gate.open()
  }

  /**
   * Gives packets from number `first` on, if not 0 of a batch that is ours, to a sink: all at once if it takes them so, else one
   * after the other; the next one's number. It counts in what is then left of the batch.
   */
  #give(batch: PacketBatch, first: number, sink: Taker): number {
    let next = first
    if (sink.batch) {
      if (first > 0) batch.skip(first)
      next = sink.batch(batch) ?? batch.count
      if (next >= batch.count || this.gate.isShut) return next
    }
    // Looked at anew each time: a sink may close the source, which ends the batch.
    while (next < batch.count && !this.gate.isShut) {
      batch.read(next++, this.#record)
      sink.packet(this.#record)
    }
    sink.batchEnd?.()
    return next
  }
}

/** The packets from number `first` on, with memory of their own. */
function copyOf(batch: PacketBatch, first: number): PacketBatch {
  const count = batch.count - first
  const copy = new PacketBatch(count)
  copy.rows.set(batch.rows.subarray(first * ROW, batch.count * ROW))
  const { rows } = copy
  let length = 0
  for (let at = 0; at < rows.length; at += ROW) length += rows[at + ROW_LENGTH]
  const bytes = new Uint8Array(length)
  copy.begin(bytes)
  let end = 0
  for (let at = 0; at < rows.length; at += ROW) {
    const from = rows[at + ROW_OFFSET]
    bytes.set(batch.bytes.subarray(from, from + rows[at + ROW_LENGTH]), end)
    rows[at + ROW_OFFSET] = end
    end += rows[at + ROW_LENGTH]
  }
  copy.count = count
  copy.firstId = batch.firstId < 0 ? -1 : batch.firstId + first
  copy.captured = length
  copy.interfaceId = batch.interfaceId
  copy.linkType = batch.linkType
  copy.verdict = batch.verdict
  return copy
}
