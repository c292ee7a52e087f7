// The frames that nobody uses at the moment, as a stack: the frame last returned is warm in the cache and goes first.
import { OptionError } from '../kernel/index.js'
import type { CompletionRing } from './completion-ring.js'
import type { FillRing } from './fill-ring.js'
import type { FrameSlice, Umem } from './umem.js'

/**
 * The free frames of a UMEM, or of a slice of it. A frame is named by its address: the offset of its first
 * byte. One thread per pool.
 */
export class FramePool {
  /** Frames this pool was made with. */
  readonly total: number
  /** Where the frames are that may be put into it, by address and number: its own, or those of several pools. */
  readonly start: number
  readonly range: number
  readonly #stack: Uint32Array
  readonly #mask: number
  // One byte a frame when ownership is tracked: 1 while the frame is in the pool.
  readonly #free: Uint8Array | undefined
  readonly #first: number
  readonly #shift: number
  #depth: number

  /**
   * Takes `count` frames of `umem` from frame number `first` on. With `track`, every return is checked: a frame
   * returned twice, or one that is not this pool's, throws instead of corrupting memory later (about 1 ns a frame).
   * With a `range`, its frames may change places with those of other pools.
   */
  constructor(
    umem: Umem,
    options: { first?: number; count?: number; track?: boolean; range?: FrameSlice | undefined } = {},
  ) {
    const { first = 0, count = umem.frames - first } = options
    const range = options.range ?? { first, count }
    if (!(first >= 0 && count >= 0 && first + count <= umem.frames)) {
      throw new OptionError(
        'frames',
        `Frames ${first} to ${first + count - 1} are not all in a UMEM of ${umem.frames}`,
      )
    }
    this.total = count
    this.start = range.first * umem.frameSize
    this.range = range.count
    this.#stack = new Uint32Array(range.count)
    this.#mask = ~(umem.frameSize - 1)
    this.#first = range.first
    this.#shift = 31 - Math.clz32(umem.frameSize)
    // The lowest address on top, so that a fresh pool hands them out in order.
    for (let i = 0; i < count; i++) this.#stack[i] = (first + count - 1 - i) * umem.frameSize
    this.#depth = count
    if (options.track) {
      this.#free = new Uint8Array(range.count).fill(1, first - range.first, first - range.first + count)
    }
  }

  /** Frames in the pool now. */
  get available(): number {
    return this.#depth
  }

  /** Every return is checked. */
  get tracked(): boolean {
    return this.#free !== undefined
  }

  /** Takes a frame: its address, or -1 when there is none. */
  take(): number {
    if (this.#depth === 0) return -1
    const address = this.#stack[--this.#depth]
    if (this.#free !== undefined) this.#free[(address >>> this.#shift) - this.#first] = 0
    return address
  }

  /** Returns the frame that `address` is in: any address inside it will do. */
  put(address: number): void {
    const frame = (address & this.#mask) >>> 0
    if (this.#free !== undefined) this.#account(frame)
    this.#stack[this.#depth++] = frame
  }

  /** Puts `count` free frames, no more than there are, into a reservation of the fill ring. */
  takeAll(ring: FillRing, count: number): void {
    if (this.#free !== undefined) {
      for (let i = 0; i < count; i++) ring.set(i, this.take())
      return
    }
    const stack = this.#stack
    const { entries, mask } = ring
    const first = ring.next | 0
    // In a local variable: as a field every frame would wait for the one before to reach memory.
    let depth = this.#depth
    for (let i = 0; i < count; i++) entries[((first + i) & mask) << 1] = stack[--depth]
    this.#depth = depth
  }

  /** Returns the frames of the entries `from` to `to - 1` of the completion ring. */
  putAll(ring: CompletionRing, from: number, to: number): void {
    if (this.#free !== undefined) {
      for (let i = from; i < to; i++) this.put(ring.address(i))
      return
    }
    const stack = this.#stack
    const mask = this.#mask
    let depth = this.#depth
    for (let i = from; i < to; i++) stack[depth++] = ring.address(i) & mask
    this.#depth = depth
  }

  #account(frame: number): void {
    const free = this.#free as Uint8Array
    const index = (frame >>> this.#shift) - this.#first
    if (index < 0 || index >= this.range) throw new RangeError(`frame at ${frame} is not of this pool`)
    if (free[index] === 1) throw new RangeError(`frame at ${frame} was returned twice`)
    free[index] = 1
  }
}
