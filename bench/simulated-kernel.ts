// The kernel's part of the four rings, played in user space, for benchmarks without a kernel.
import { DataPath } from '../src/xsk/data-path.js'
import { FramePool, type Umem } from '../src/xsk/index.js'
import { ADDRESS_WORDS, DESCRIPTOR_WORDS, simulatedRing, type RingMemory } from '../src/xsk/ring-memory.js'

/**
 * Moves frames as the kernel does: from the fill ring into the RX ring, from the TX ring into the completion
 * ring. The packets are those that lie in the frames already. Allocates nothing.
 */
export class SimulatedKernel {
  readonly rings: { fill: RingMemory; completion: RingMemory; rx: RingMemory; tx: RingMemory }
  readonly #length: number

  /** `size` entries in each ring; every packet is `length` bytes long. */
  constructor(size: number, length: number) {
    this.rings = {
      fill: simulatedRing(size, ADDRESS_WORDS),
      completion: simulatedRing(size, ADDRESS_WORDS),
      rx: simulatedRing(size, DESCRIPTOR_WORDS),
      tx: simulatedRing(size, DESCRIPTOR_WORDS),
    }
    this.#length = length
  }

  /** Receives a packet into every frame of the fill ring, and answers how many. */
  receive(): number {
    const { fill, rx } = this.rings
    const from = fill.consumer[0]
    const to = rx.producer[0]
    const room = rx.size - ((to - rx.consumer[0]) >>> 0)
    const count = Math.min((fill.producer[0] - from) >>> 0, room)
    for (let i = 0; i < count; i++) {
      const word = ((to + i) & (rx.size - 1)) << 2
      rx.entries[word] = fill.entries[((from + i) & (fill.size - 1)) << 1] + 256 // XDP_PACKET_HEADROOM
      rx.entries[word + 2] = this.#length
    }
    Atomics.store(fill.consumer, 0, from + count)
    Atomics.store(rx.producer, 0, to + count)
    return count
  }

  /** Sends everything in the TX ring, and answers how many packets that was. */
  send(): number {
    const { tx, completion } = this.rings
    const from = tx.consumer[0]
    const to = completion.producer[0]
    const count = (tx.producer[0] - from) >>> 0
    for (let i = 0; i < count; i++) {
      completion.entries[((to + i) & (completion.size - 1)) << 1] =
        tx.entries[((from + i) & (tx.size - 1)) << 2]
    }
    Atomics.store(tx.consumer, 0, from + count)
    Atomics.store(completion.producer, 0, to + count)
    return count
  }
}

/** What an `XdpSocket` receives and sends by, over the simulated rings. No ring asks for a wake-up, so no doorbell rings. */
export function simulatedPath({ rings }: SimulatedKernel, umem: Umem, batch: number): DataPath {
  const silent = () => 0
  return new DataPath({
    bytes: umem.bytes,
    view: umem.view,
    frameSize: umem.frameSize,
    pool: new FramePool(umem),
    rings,
    doorbell: { receive: silent, send: silent },
    batch,
    needWakeup: true,
    interface: 'simulated',
    queue: 0,
  })
}
