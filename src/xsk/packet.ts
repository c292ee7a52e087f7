// The packet a handler sees: one reused cursor into the UMEM, never a copy.
import { FragmentList, PacketTail, type Fragments } from './fragments.js'

/**
 * What becomes of the packet's frames: nothing said, they are free again; `'transmit'`, it leaves the way it came, from
 * `offset` over `length` bytes as the handler left them, with the fragments behind them as they are; `'hold'`, the caller
 * keeps it and later gives `frame` to `release` or `transmit`, or what `keep` answered to `releaseFragments` or `transmitFragments`.
 */
export type Verdict = 'transmit' | 'hold' | undefined | void

/**
 * A received packet. The object is reused for the next packet, and the bytes belong to the caller only until
 * the handler returns (unless it holds the frame).
 *
 * Only a socket that was opened with `multiBuffer` gets packets in several frames: `offset`, `length` and `frame` are then
 * those of the first, which has the headers, and `totalLength`, `copy` and `fragments` tell of all.
 */
export class XdpPacket implements Fragments {
  /** The whole UMEM; the packet is at `offset`. */
  readonly bytes: Uint8Array
  /** The same memory, to read and write numbers. */
  readonly view: DataView
  /** Where the packet's first byte is in `bytes`. A handler may move it within the frame before it transmits. */
  offset = 0
  /** Bytes of the packet, or of the part of it in its first frame. A handler may change it before it transmits. */
  length = 0
  /** Address of the frame that the packet is in; -1 once the handler has released or transmitted it by itself. */
  frame = 0
  /** The queue it came from. */
  readonly queue: number
  readonly #tail: PacketTail

  constructor(bytes: Uint8Array, view: DataView, queue: number, tail = new PacketTail()) {
    this.bytes = bytes
    this.view = view
    this.queue = queue
    this.#tail = tail
  }

  /** Frames that the packet is in: 1, unless it is longer than a frame has room for. */
  get fragments(): number {
    return 1 + this.#tail.count
  }

  /** Bytes of the whole packet. */
  get totalLength(): number {
    return this.length + this.#tail.bytes
  }

  /** Where the packet's bytes in its frame number `index` start in `bytes`: for 0 that is `offset`. */
  fragmentOffset(index: number): number {
    return index === 0 ? this.offset : this.#tail.offset(index - 1)
  }

  /** How many of its bytes are in frame number `index`: for 0 that is `length`. */
  fragmentLength(index: number): number {
    return index === 0 ? this.length : this.#tail.length(index - 1)
  }

  /** A view of the packet's bytes in its first frame: allocates, so not for every packet. */
  subarray(): Uint8Array {
    return this.bytes.subarray(this.offset, this.offset + this.length)
  }

  /** A copy of all of the packet's bytes, which outlives the handler. */
  copy(): Uint8Array {
    if (this.#tail.count === 0) return this.bytes.slice(this.offset, this.offset + this.length)
    const copy = new Uint8Array(this.totalLength)
    this.copyTo(copy)
    return copy
  }

  /** Copies the packet's bytes to `target` from `at` on, as many as there is room for, and answers how many. */
  copyTo(target: Uint8Array, at = 0): number {
    const start = at
    for (let i = 0; i < this.fragments && at < target.length; i++) {
      const offset = this.fragmentOffset(i)
      const length = Math.min(this.fragmentLength(i), target.length - at)
      target.set(this.bytes.subarray(offset, offset + length), at)
      at += length
    }
    return at - start
  }

  /** Where all of the packet is, for a handler that holds it: allocates, so not for every packet. */
  keep(): Fragments {
    const list = new FragmentList()
    for (let i = 0; i < this.fragments; i++) list.push(this.fragmentOffset(i), this.fragmentLength(i))
    return list
  }
}

/** Called for each packet. What it throws ends the batch: that packet's frames are freed, the rest stay in the ring. */
export type PacketHandler = (packet: XdpPacket) => Verdict
