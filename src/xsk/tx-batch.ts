// Several packets written in place and sent together: reserve, write, commit or cancel.
import type { DataPath } from './data-path.js'

/**
 * Frames reserved to write packets into. Write packet `i` at `offset(i)` of the socket's `bytes`, say how long
 * it is with `setLength`, then `commit`. Made by `XdpSocket.reserve`, reused by the next one.
 */
export class TxBatch {
  /** Frames reserved: fewer than were asked for when no more are free. */
  length = 0
  readonly #path: DataPath
  #frames = new Uint32Array(0)
  #lengths = new Uint32Array(0)

  constructor(path: DataPath) {
    this.#path = path
  }

  /** Takes `count` frames, after giving back those of an unfinished batch. */
  take(count: number): this {
    this.cancel()
    if (this.#frames.length < count) {
      this.#frames = new Uint32Array(count)
      this.#lengths = new Uint32Array(count)
    }
    while (this.length < count) {
      const frame = this.#path.allocate()
      if (frame < 0) break
      this.#lengths[this.length] = 0
      this.#frames[this.length++] = frame
    }
    return this
  }

  /** Where packet `index` starts in the socket's `bytes`. */
  offset(index: number): number {
    return this.#frames[index]
  }

  /** Says that packet `index` is `length` bytes long. */
  setLength(index: number, length: number): void {
    this.#lengths[index] = length
  }

  /** Sends the first `count` packets, gives the other frames back, and answers how many the TX ring took. Throws `OptionError` at a packet without a length. */
  commit(count: number = this.length): number {
    if (count > this.length) throw new RangeError(`commit of ${count} packets, ${this.length} reserved`)
    let next = 0
    let sent = 0
    try {
      for (; next < count; next++) if (this.#path.transmit(this.#frames[next], this.#lengths[next])) sent++
    } finally {
      // A packet that cannot be sent, its length never set, is still ours, and so are those behind it.
      for (; next < this.length; next++) this.#path.release(this.#frames[next])
      this.length = 0
      this.#path.flush()
    }
    return sent
  }

  /** Gives every frame back. */
  cancel(): void {
    for (let i = 0; i < this.length; i++) this.#path.release(this.#frames[i])
    this.length = 0
  }
}
