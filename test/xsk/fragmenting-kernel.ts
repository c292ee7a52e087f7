// A kernel played in user space that receives and sends packets in several frames, and publishes them bit by bit.
import { ADDRESS_WORDS, DESCRIPTOR_WORDS, simulatedRing, type RingMemory } from '../../src/xsk/ring-memory.js'
import { XDP_PKT_CONTD } from '../../src/xsk/uapi.js'

export class FragmentingKernel {
  readonly rings: { fill: RingMemory; completion: RingMemory; rx: RingMemory; tx: RingMemory }
  /** What it has sent: the bytes of each packet. */
  readonly sent: Uint8Array[] = []
  /** Descriptors it takes from the TX ring at a time: it may stop within a packet, as the real one does. */
  budget = Infinity
  readonly #bytes: Uint8Array
  // Descriptors written to the RX ring and not published yet end here.
  #written: number
  #begun: Uint8Array[] = []

  /** `size` entries in each ring, whose indices begin at `start`. */
  constructor(bytes: Uint8Array, size: number, start = 0) {
    this.rings = {
      fill: simulatedRing(size, ADDRESS_WORDS, start),
      completion: simulatedRing(size, ADDRESS_WORDS, start),
      rx: simulatedRing(size, DESCRIPTOR_WORDS, start),
      tx: simulatedRing(size, DESCRIPTOR_WORDS, start),
    }
    this.#bytes = bytes
    this.#written = start >>> 0
  }

  /** Writes a packet to frames and to the RX ring, without publishing it. False when there is no room for all of it. */
  write(parts: readonly Uint8Array[]): boolean {
    const { fill, rx } = this.rings
    const from = fill.consumer[0]
    if ((fill.producer[0] - from) >>> 0 < parts.length) return false
    if (rx.size - ((this.#written - rx.consumer[0]) >>> 0) < parts.length) return false
    parts.forEach((part, i) => {
      const address = fill.entries[((from + i) & (fill.size - 1)) << 1] + 256
      this.#bytes.set(part, address)
      const word = ((this.#written + i) & (rx.size - 1)) << 2
      rx.entries.set([address, 0, part.length, i < parts.length - 1 ? XDP_PKT_CONTD : 0], word)
    })
    Atomics.store(fill.consumer, 0, from + parts.length)
    this.#written = (this.#written + parts.length) >>> 0
    return true
  }

  /** Publishes all but the last `keep` descriptors written. */
  publish(keep = 0): void {
    const { rx } = this.rings
    const waiting = (this.#written - rx.producer[0]) >>> 0
    Atomics.store(rx.producer, 0, rx.producer[0] + Math.max(0, waiting - keep))
  }

  /** Sends from the TX ring; frames come back at once. */
  send(): number {
    const { tx, completion } = this.rings
    const from = tx.consumer[0]
    const to = completion.producer[0]
    const count = Math.min((tx.producer[0] - from) >>> 0, this.budget)
    for (let i = 0; i < count; i++) {
      const [address, , length, options] = tx.entries.subarray(((from + i) & (tx.size - 1)) << 2)
      completion.entries[((to + i) & (completion.size - 1)) << 1] = address
      this.#begun.push(this.#bytes.slice(address, address + length))
      if ((options & XDP_PKT_CONTD) !== 0) continue
      this.sent.push(join(this.#begun))
      this.#begun = []
    }
    Atomics.store(tx.consumer, 0, from + count)
    Atomics.store(completion.producer, 0, to + count)
    return count
  }
}

/** The parts as one packet. */
export function join(parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts))
}
