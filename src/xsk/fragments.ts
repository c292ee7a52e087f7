// Packets in several frames: what they look like, and the frames of a received one behind the first.
import type { RxRing } from './rx-ring.js'

/** A packet in one or several frames of the UMEM. A received one is such (`XdpPacket`), and what `keep` answers. */
export interface Fragments {
  /** Frames that the packet is in. */
  readonly fragments: number
  /** Where its bytes in frame `index` start in the UMEM. */
  fragmentOffset(index: number): number
  /** How many bytes of it are in frame `index`. */
  fragmentLength(index: number): number
}

/** A list of fragments of its own, which outlives the packet it was made of. */
export class FragmentList implements Fragments {
  readonly #offsets: number[] = []
  readonly #lengths: number[] = []

  /** Adds `length` bytes from `offset`. */
  push(offset: number, length: number): void {
    this.#offsets.push(offset)
    this.#lengths.push(length)
  }

  get fragments(): number {
    return this.#offsets.length
  }

  fragmentOffset(index: number): number {
    return this.#offsets[index]
  }

  fragmentLength(index: number): number {
    return this.#lengths[index]
  }
}

/** The frames of the packet in hand behind the first, reused for each packet. Most packets have none. */
export class PacketTail {
  count = 0
  /** Bytes in them. */
  bytes = 0
  /** Whether the handler has released or transmitted any of them by itself. */
  isGiven = false
  #offsets = new Uint32Array(0)
  #lengths = new Uint32Array(0)
  #given = new Uint8Array(0)

  offset(index: number): number {
    return this.#offsets[index]
  }

  length(index: number): number {
    return this.#lengths[index]
  }

  /** Reads what follows descriptor `index` of the packet that begins there. False when not all of it is among the first `ready`. */
  read(rx: RxRing, index: number, ready: number): boolean {
    let count = 0
    let bytes = 0
    for (let at = index; rx.isContinued(at); count++) {
      if (++at >= ready) return false
      if (count === this.#offsets.length) this.#grow()
      this.#offsets[count] = rx.address(at)
      bytes += this.#lengths[count] = rx.length(at)
    }
    this.count = count
    this.bytes = bytes
    if (this.isGiven) this.#given.fill(0)
    this.isGiven = false
    return true
  }

  /** Notes that, if it has a frame at `frame`, that is not the handler's any more. `frameMask` makes addresses those of frames. */
  giveAway(frame: number, frameMask: number): void {
    for (let i = 0; i < this.count; i++) {
      if ((this.#offsets[i] & frameMask) >>> 0 !== frame) continue
      this.#given[i] = 1
      this.isGiven = true
    }
  }

  /** Whether the handler has released or transmitted fragment `index` by itself. */
  wasGiven(index: number): boolean {
    return this.#given[index] === 1
  }

  #grow(): void {
    const size = Math.max(32, 2 * this.#offsets.length)
    const [offsets, lengths] = [this.#offsets, this.#lengths]
    this.#offsets = new Uint32Array(size)
    this.#lengths = new Uint32Array(size)
    this.#given = new Uint8Array(size)
    this.#offsets.set(offsets)
    this.#lengths.set(lengths)
  }
}
