// The frames lent to the kernel to receive into: in the fill ring, with the kernel, or received and in the RX ring.
import type { CompletionRing } from './completion-ring.js'
import { FillRing } from './fill-ring.js'
import type { FramePool } from './frame-pool.js'
import type { RingMemory } from './ring-memory.js'

/** Lends frames and counts them. One thread. */
export class Lending {
  readonly ring: FillRing
  /** Frames on loan. */
  lent = 0
  readonly #pool: FramePool
  readonly #target: number
  readonly #frameMask: number

  /** `spare`: how many frames are wanted to send with; half of the pool's at most stay out of the ring for it. */
  constructor(ring: RingMemory, pool: FramePool, frameSize: number, spare: number) {
    this.ring = new FillRing(ring)
    this.#pool = pool
    this.#frameMask = ~(frameSize - 1)
    this.#target = Math.min(ring.size, pool.total - Math.min(spare, pool.total >> 1))
  }

  /** Lends as many free frames as the kernel should have more of. */
  refill(): void {
    const pool = this.#pool
    const wanted = Math.min(this.#target - this.lent, pool.available)
    if (wanted <= 0) return
    const ring = this.ring
    const count = ring.reserve(wanted)
    pool.takeAll(ring, count)
    ring.commit(count)
    this.lent += count
  }

  /**
   * Lends the frames of the first of `count` entries of the completion ring, as far as the kernel should have more and
   * there is room, and answers how many: by way of the pool they would cost twice as much.
   */
  lendSent(completion: CompletionRing, count: number): number {
    const room = Math.min(count, this.#target - this.lent)
    const ring = this.ring
    const slots = room > 0 ? ring.reserve(room) : 0
    if (slots === 0) return 0
    const frameMask = this.#frameMask
    // As in `Receiving.receive`: what the rings' accessors look at for every entry, once.
    const { entries, mask } = ring
    const first = ring.next | 0
    const sent = completion.entries
    const sentMask = completion.mask
    const sentFirst = completion.next | 0
    for (let i = 0; i < slots; i++) {
      entries[((first + i) & mask) << 1] = sent[((sentFirst + i) & sentMask) << 1] & frameMask
    }
    ring.commit(slots)
    this.lent += slots
    return slots
  }
}
