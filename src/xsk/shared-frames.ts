// How sockets of one thread send each other's frames: a packet received on one leaves by another, without a copy.
import { StateError } from '../kernel/index.js'
import type { CompletionRing } from './completion-ring.js'
import type { DataPath } from './data-path.js'
import type { FrameSlice } from './umem.js'

/**
 * What a data path knows of the others that have their frames in the same UMEM. A frame is always of one of them, its
 * owner; another one may send it, and then gives it back. To its owner it counts as held meanwhile.
 */
export interface FrameLink {
  /** Frames that are with others than their owners. */
  readonly out: number
  /** Whether `address` is in a frame of one of the data paths. */
  has(address: number): boolean
  /**
   * Gives sent frames back to their owner: entries of a completion ring from `from` on, up to `to` or the first frame of
   * another owner, where it answers. The entry at `from` must be of an owner.
   */
  homeSent(sent: CompletionRing, from: number, to: number): number
  /** Notes that `to` sends a frame that is another's. False when it is nobody's. */
  lend(frame: number, to: DataPath): boolean
  /** Gives a lent frame back to its owner. */
  home(address: number): void
  /** Lends the kernel the frames that have come home. */
  refill(except: DataPath): void
  /** Hands over what the others have to send. */
  flush(except: DataPath): void
  /** Packets that the kernel has not taken yet from the others. */
  txWaiting(except: DataPath): number
}

const NOBODY = 0xffff

/** The link between the data paths of one thread, whose slices are of equal size, one behind the other. */
export class LocalLink implements FrameLink {
  out = 0
  readonly #shift: number
  readonly #slice: number
  // For each frame, the slice number of its owner: a division for each packet costs more.
  readonly #of: Uint16Array
  // Data paths by slice; undefined where a socket could not be opened or was closed.
  readonly #paths: (DataPath | undefined)[]
  // For each frame, the slice number of the data path that sends it.
  readonly #at: Uint16Array
  // Data paths whose frames have come home since `refill`.
  readonly #dirty: boolean[]

  /** `slices` slices of `count` frames of `frameSize` bytes each; fewer than 65535. */
  constructor(slices: number, count: number, frameSize: number) {
    this.#shift = 31 - Math.clz32(frameSize)
    this.#slice = count
    this.#paths = Array.from({ length: slices }, () => undefined)
    this.#of = Uint16Array.from({ length: slices * count }, (_, frame) => Math.floor(frame / count))
    this.#at = new Uint16Array(slices * count).fill(NOBODY)
    this.#dirty = Array.from({ length: slices }, () => false)
  }

  /** Adds the data path that owns a slice. */
  join(slice: FrameSlice, path: DataPath): void {
    this.#paths[slice.first / this.#slice] = path
  }

  /** Takes a data path out, once the kernel has closed its socket: what it had of others goes home. */
  leave(path: DataPath): void {
    const index = this.#paths.indexOf(path)
    if (index < 0) return
    this.#at.forEach((at, frame) => {
      if (at === index) this.home(frame << this.#shift)
    })
    this.#paths[index] = undefined
    this.refill(path)
  }

  has(address: number): boolean {
    return this.#owner(address) !== undefined
  }

  lend(frame: number, to: DataPath): boolean {
    const number = frame >>> this.#shift
    const owner = this.#paths[this.#of[number]]
    if (owner === undefined) return false
    if (this.#at[number] !== NOBODY) throw new StateError(`The frame at ${frame} is being sent already`)
    owner.giveAway(frame)
    this.#at[number] = this.#of[to.pool.start >>> this.#shift]
    this.out++
    return true
  }

  home(address: number): void {
    const number = address >>> this.#shift
    const slice = this.#of[number]
    const owner = this.#paths[slice]
    if (this.#at[number] !== NOBODY) this.out--
    this.#at[number] = NOBODY
    if (owner === undefined || owner.closed) return
    owner.takeBack(address)
    this.#dirty[slice] = true
  }

  homeSent(sent: CompletionRing, from: number, to: number): number {
    const of = this.#of
    const at = this.#at
    const shift = this.#shift
    const { entries, mask } = sent
    const first = sent.next | 0
    const slice = of[sent.address(from) >>> shift]
    let end = from
    let out = 0
    for (; end < to; end++) {
      const number = entries[((first + end) & mask) << 1] >>> shift
      if (of[number] !== slice) break
      if (at[number] !== NOBODY) out++
      at[number] = NOBODY
    }
    this.out -= out
    const owner = this.#paths[slice]
    if (owner !== undefined && !owner.closed) {
      owner.takeBackSent(sent, from, end)
      this.#dirty[slice] = true
    }
    return end
  }

  refill(except: DataPath): void {
    for (let i = 0; i < this.#paths.length; i++) {
      if (!this.#dirty[i]) continue
      this.#dirty[i] = false
      const path = this.#paths[i]
      if (path !== undefined && path !== except && !path.closed && !path.receiving) path.refill()
    }
  }

  flush(except: DataPath): void {
    for (const path of this.#paths) {
      if (path === undefined || path === except || path.closed) continue
      if (path.txOutstanding > 0 || path.txWaiting > 0) path.flush()
    }
  }

  txWaiting(except: DataPath): number {
    let pending = 0
    for (const path of this.#paths) {
      if (path !== undefined && path !== except && !path.closed) pending += path.txWaiting
    }
    return pending
  }

  #owner(address: number): DataPath | undefined {
    return this.#paths[this.#of[address >>> this.#shift]]
  }
}
