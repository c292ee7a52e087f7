// The way of packets out: into the TX ring, to the kernel, and their frames back from the completion ring.
import { OptionError } from '../kernel/index.js'
import { CompletionRing } from './completion-ring.js'
import type { DataPath } from './data-path.js'
import type { DataPathParts } from './data-path-parts.js'
import { checkDoorbell } from './doorbell.js'
import type { FramePool } from './frame-pool.js'
import type { Fragments } from './fragments.js'
import type { Lending } from './lending.js'
import type { FrameLink } from './shared-frames.js'
import { COUNTER } from './statistics.js'
import { FragmentTxRing, TxRing } from './tx-ring.js'

/** The sending half of a data path. Nothing in it allocates per packet; the system calls are one or two a batch. */
export class Sending {
  /** Frames in the TX ring, with the kernel, or in the completion ring. */
  lent = 0
  /** TX slots written but not committed yet. */
  pending = 0
  /** Of the slots written or lent, those with frames of other data paths. */
  foreign = 0
  readonly completion: CompletionRing
  readonly tx: TxRing
  readonly #fragmentTx: FragmentTxRing | undefined
  readonly #parts: DataPathParts
  readonly #path: DataPath
  readonly #pool: FramePool
  readonly #lending: Lending
  readonly #counters: Float64Array
  readonly #link: FrameLink | undefined
  readonly #frameSize: number
  readonly #frameMask: number
  // The frames of the pool: where they start and how many bytes they are.
  readonly #start: number
  readonly #span: number
  // TX slots reserved.
  #reserved = 0
  #pendingBytes = 0
  // Of the slots written, those that are no packet's first.
  #pendingFurther = 0

  constructor(parts: DataPathParts, path: DataPath, lending: Lending) {
    const { rings, pool, frameSize } = parts
    this.#parts = parts
    this.#path = path
    this.#pool = pool
    this.#lending = lending
    this.#counters = path.counters
    this.#link = parts.link
    this.#frameSize = frameSize
    this.#frameMask = ~(frameSize - 1)
    this.#start = pool.start
    this.#span = pool.range * frameSize
    this.completion = new CompletionRing(rings.completion)
    this.#fragmentTx = parts.multiBuffer ? new FragmentTxRing(rings.tx) : undefined
    this.tx = this.#fragmentTx ?? new TxRing(rings.tx)
  }

  /** Whether `address` is in a frame of this data path's pool. */
  owns(address: number): boolean {
    return (address - this.#start) >>> 0 < this.#span
  }

  /** The way home for a frame that is not of this pool. */
  requireLink(address: number): FrameLink {
    if (this.#link?.has(address)) return this.#link
    throw new OptionError('address', `The frame at ${address} is not of this socket, nor of one of its group`)
  }

  /** Puts a packet in the TX ring, in a frame that does not count as held. False, with the frame freed, when it is full. */
  put(address: number, length: number): boolean {
    const frame = this.#check(address, length)
    const isOwn = (frame - this.#start) >>> 0 < this.#span
    if (!isOwn && this.#link?.lend(frame, this.#path) !== true) this.requireLink(address)
    if (this.pending === this.#reserved && !this.#reserve(1)) {
      this.#counters[COUNTER.txDropped]++
      if (isOwn) this.#pool.put(frame)
      else this.#link?.home(frame)
      return false
    }
    if (!isOwn) this.foreign++
    this.tx.set(this.pending++, address, length)
    this.#pendingBytes += length
    return true
  }

  /**
   * Puts a packet of several frames, none of which count as held, in the ring: all of them, or none. False, with the frames
   * freed, when there is no room, or the packet has more frames than the ring entries.
   */
  putFragments(packet: Fragments): boolean {
    const { fragments } = packet
    // All of them are looked at before any has gone.
    for (let i = 0; i < fragments; i++) {
      const frame = this.#check(packet.fragmentOffset(i), packet.fragmentLength(i))
      if (!this.owns(frame)) this.requireLink(frame)
    }
    for (let i = 0; i < fragments; i++) {
      const address = packet.fragmentOffset(i)
      if (!this.owns(address)) this.requireLink(address).lend((address & this.#frameMask) >>> 0, this.#path)
    }
    if (this.#reserved - this.pending < fragments && !this.#reserve(fragments)) {
      this.#counters[COUNTER.txDropped]++
      for (let i = 0; i < fragments; i++) {
        const address = packet.fragmentOffset(i)
        if (this.owns(address)) this.#pool.put(address)
        else this.#link?.home(address)
      }
      return false
    }
    for (let i = 0; i < fragments; i++) {
      const address = packet.fragmentOffset(i)
      const length = packet.fragmentLength(i)
      if (!this.owns(address)) this.foreign++
      this.tx.set(this.pending, address, length)
      if (i < fragments - 1) this.#fragmentTx?.setContinued(this.pending)
      this.pending++
      this.#pendingBytes += length
    }
    this.#pendingFurther += fragments - 1
    return true
  }

  // The frame that a packet is in. Throws for one that is not within one frame.
  #check(address: number, length: number): number {
    const frame = (address & this.#frameMask) >>> 0
    // The kernel would refuse the descriptor, count it as invalid and never give the frame back.
    if (!(length > 0) || address + length > frame + this.#frameSize) {
      throw new OptionError('length', `${length} bytes from ${address} are not a packet within one frame`)
    }
    return frame
  }

  #reserve(count: number): boolean {
    this.#commit()
    const wanted = Math.max(this.#parts.batch, count)
    this.#reserved = this.tx.reserve(wanted)
    if (this.#reserved >= count) return true
    this.flush()
    this.#reserved = this.tx.reserve(wanted)
    return this.#reserved >= count
  }

  #commit(): void {
    const pending = this.pending
    if (pending > 0) {
      this.tx.commit(pending)
      this.lent += pending
      this.#counters[COUNTER.txPackets] += pending - this.#pendingFurther
      this.#counters[COUNTER.txBytes] += this.#pendingBytes
      this.pending = 0
      this.#pendingBytes = 0
      this.#pendingFurther = 0
    }
    this.#reserved = 0
  }

  /** Hands over what was put in the ring, wakes the kernel as long as it takes packets, and takes sent frames back. */
  flush(): void {
    this.#commit()
    if (this.lent === 0) return
    const tx = this.tx
    const { needWakeup, doorbell } = this.#parts
    let before = tx.level
    this.reap()
    while (before > 0 && (!needWakeup || tx.needsWakeup)) {
      this.#counters[COUNTER.txWakeups]++
      checkDoorbell('sendto', doorbell.send(), this.#parts)
      this.reap()
      // A result says nothing about how much was sent; the ring does. No progress means: later.
      const after = tx.level
      if (after >= before) break
      before = after
    }
  }

  /** Takes sent frames back. */
  reap(): void {
    const completion = this.completion
    this.#parts.shared?.move()
    const count = completion.peek(completion.size)
    if (count === 0) return
    if (this.foreign > 0) {
      this.#reapMixed(count)
      return
    }
    // Not straight to the kernel under a handler, when `receive` has slots of the fill ring.
    const isDirect = !this.#path.receiving && !this.#pool.tracked
    const lent = isDirect ? this.#lending.lendSent(completion, count) : 0
    if (lent < count) this.#pool.putAll(completion, lent, count)
    completion.release(count)
    this.lent -= count
  }

  // As `reap`, when some of the frames are those of other data paths.
  #reapMixed(count: number): void {
    const completion = this.completion
    const link = this.#link as FrameLink
    for (let i = 0; i < count;) {
      const address = completion.address(i)
      if (this.owns(address)) {
        this.#pool.put(address)
        i++
      } else {
        const end = link.homeSent(completion, i, count)
        this.foreign -= end - i
        i = end
      }
    }
    completion.release(count)
    this.lent -= count
    link.refill(this.#path)
  }

  /** Packets put in the TX ring that the kernel has not taken yet. */
  get waiting(): number {
    return this.pending + this.tx.level
  }

  /** Own frames in the completion ring. */
  get ownCompleted(): number {
    const completion = this.completion
    if (this.foreign === 0) return completion.level
    let own = 0
    for (let i = completion.peek(completion.size) - 1; i >= 0; i--)
      if (this.owns(completion.address(i))) own++
    return own
  }
}
