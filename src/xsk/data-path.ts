// The way of the packets through the four rings. It knows the kernel only as two system calls, so that tests and
// benchmarks can play the kernel.
import { EAGAIN, EBUSY, ENETDOWN, ENOBUFS, ENXIO } from '../kernel/errno.js'
import { KernelError, OptionError, StateError } from '../kernel/index.js'
import { CompletionRing } from './completion-ring.js'
import { FillRing } from './fill-ring.js'
import type { FramePool } from './frame-pool.js'
import { XdpPacket, type PacketHandler } from './packet.js'
import type { RingMemory } from './ring-memory.js'
import { RxRing } from './rx-ring.js'
import type { FrameLink } from './shared-frames.js'
import { COUNTER, COUNTERS, GAUGE, type FrameCensus, type RingLevels } from './statistics.js'
import { TxBatch } from './tx-batch.js'
import { TxRing } from './tx-ring.js'

// Errors of a wake-up that mean "later": the kernel's batch budget is used up, the device's queue is full,
// no memory now, the device is down (net/xdp/xsk.c: __xsk_generic_xmit).
const LATER = new Set([EAGAIN, EBUSY, ENETDOWN, ENOBUFS])
// The frame of a packet that its handler has given away.
const GIVEN = -1
const GIVEN_AWAY = "A packet handler returned 'transmit' for a frame that it had given away"
const VERDICTS = "Return nothing, 'transmit' or 'hold', and not a promise."

/** The system calls that wake the kernel up, each answering -errno when it fails. */
export interface Doorbell {
  /** Lets the kernel receive: needed when the fill ring says so, and to busy-poll. */
  receive(): number
  /** Lets the kernel send what is in the TX ring. */
  send(): number
}

/** What a data path is made of. */
export interface DataPathParts {
  /** The memory the packets are in, and a view of the same. */
  bytes: Uint8Array
  view: DataView
  frameSize: number
  pool: FramePool
  rings: { fill: RingMemory; completion: RingMemory; rx: RingMemory; tx: RingMemory }
  doorbell: Doorbell
  /** Packets taken at a time when no budget is given. */
  batch: number
  needWakeup: boolean
  /** For messages: `veth0`. */
  interface: string
  queue: number
  /** Where to count, when another thread is to read it: `SHARED_COUNTERS` slots. Default: an array of its own. */
  counters?: Float64Array | undefined
  /** The data paths that this one exchanges frames with. */
  link?: FrameLink | undefined
  /** What is between these fill and completion rings and the kernel's, when the queue is shared with other threads. */
  shared?: { move(): void } | undefined
}

/**
 * Receives and sends over the rings, and accounts for every frame. One thread. Nothing in `receive`, `transmit`
 * and `flush` allocates per packet; the system calls are at most one or two a batch.
 */
export class DataPath {
  readonly counters: Float64Array
  readonly pool: FramePool
  readonly #parts: DataPathParts
  readonly #fill: FillRing
  readonly #completion: CompletionRing
  readonly #rx: RxRing
  readonly #tx: TxRing
  readonly #packet: XdpPacket
  readonly #txBatch: TxBatch
  readonly #frameMask: number
  // The frames of the pool: where they start and how many bytes they are.
  readonly #start: number
  readonly #span: number
  readonly #link: FrameLink | undefined
  readonly #shared: { move(): void } | undefined
  readonly #frameSize: number
  readonly #fillTarget: number
  // Frames on loan: to the kernel for receiving (or in the RX ring), to the caller, to the kernel for sending.
  #lentRx = 0
  #held = 0
  #lentTx = 0
  // Of the TX slots written or lent, those with frames of other data paths.
  #foreign = 0
  // Packets of the batch at hand that a handler has been given.
  #taken = 0
  // Of those, the frames written back into the fill ring already.
  #recycled = 0
  // TX slots reserved, and of those written but not committed yet.
  #txReserved = 0
  #txPending = 0
  #txPendingBytes = 0
  #receiving = false
  #closed = false

  constructor(parts: DataPathParts) {
    const { rings, pool } = parts
    this.#parts = parts
    this.pool = pool
    this.counters = parts.counters ?? new Float64Array(COUNTERS)
    this.#fill = new FillRing(rings.fill)
    this.#completion = new CompletionRing(rings.completion)
    this.#rx = new RxRing(rings.rx)
    this.#tx = new TxRing(rings.tx)
    this.#packet = new XdpPacket(parts.bytes, parts.view, parts.queue)
    this.#txBatch = new TxBatch(this)
    this.#frameMask = ~(parts.frameSize - 1)
    this.#start = pool.start
    this.#span = pool.range * parts.frameSize
    this.#shared = parts.shared
    this.#link = parts.link
    this.#frameSize = parts.frameSize
    // Up to half of the frames stay out of the fill ring, so that there is always something to send with.
    const spare = Math.min(rings.tx.size, pool.total >> 1)
    this.#fillTarget = Math.min(rings.fill.size, pool.total - spare)
  }

  get closed(): boolean {
    return this.#closed
  }

  /** Ends the use of the rings; their memory may go afterwards. */
  close(): void {
    this.#closed = true
  }

  // ---------------------------------------------------------------- receiving

  /** See `XdpSocket.receive`. */
  receive(handler: PacketHandler, budget: number = this.#parts.batch): number {
    this.#assertOpen()
    if (!(budget >= 1)) throw new OptionError('budget', `A budget of ${budget} packets cannot be`)
    if (this.#receiving) throw new StateError('receive was called from within a packet handler')
    const rx = this.#rx
    const count = rx.peek(budget)
    if (count === 0) {
      if (this.#lentTx > 0) this.flush()
      if (this.#link !== undefined && this.#link.out > 0) this.#link.flush(this)
      this.refill()
      return 0
    }
    const packet = this.#packet
    const pool = this.pool
    const frameMask = this.#frameMask
    // Released frames go straight back into the fill ring: by way of the pool they would cost twice as much.
    const fill = this.#fill
    const slots = pool.tracked ? 0 : fill.reserve(count)
    let recycled = 0
    let taken = 0
    let bytes = 0
    this.#receiving = true
    try {
      // A handler may close the socket: no packet is given to one after that.
      while (taken < count && !this.#closed) {
        const address = rx.address(taken)
        const length = rx.length(taken)
        taken++
        bytes += length
        const frame = (address & frameMask) >>> 0
        packet.offset = address
        packet.length = length
        packet.frame = frame
        this.#taken = taken
        this.#recycled = recycled
        const verdict = handler(packet)
        if (packet.frame !== frame) {
          // The handler has released or transmitted it by itself already.
          if (verdict === 'transmit') throw new OptionError('handler', GIVEN_AWAY, VERDICTS)
          this.#held++
        } else if (verdict === undefined || this.#closed) {
          if (recycled < slots) fill.set(recycled++, frame)
          else pool.put(frame)
        } else if (verdict === 'transmit') {
          this.#enqueue(packet.offset, packet.length)
        } else if (verdict === 'hold') {
          this.#held++
        } else {
          // An async handler's promise, say: its frame would be lost without a word.
          throw new OptionError('handler', `A packet handler returned ${String(verdict)}`, VERDICTS)
        }
      }
    } catch (error) {
      // Whether the handler threw or returned a packet that cannot be sent, its frame is still ours.
      if (packet.frame === GIVEN) this.#held++
      else pool.put(packet.frame)
      throw error
    } finally {
      this.#receiving = false
      rx.release(taken)
      fill.commit(recycled)
      this.#lentRx += recycled - taken
      this.#taken = 0
      this.#recycled = 0
      const counters = this.counters
      counters[COUNTER.rxPackets] += taken
      counters[COUNTER.rxBytes] += bytes
      counters[COUNTER.batches]++
      if (!this.#closed) {
        if (this.#txPending > 0 || this.#lentTx > 0) this.flush()
        if (this.#link !== undefined && this.#link.out > 0) this.#link.flush(this)
        this.refill()
      }
    }
    return taken
  }

  /** Lends the kernel frames to receive into, as many as it should have, and wakes it up if it waits for them. */
  refill(): void {
    const wanted = Math.min(this.#fillTarget - this.#lentRx, this.pool.available)
    if (wanted > 0) {
      const fill = this.#fill
      const count = fill.reserve(wanted)
      this.pool.takeAll(fill, count)
      fill.commit(count)
      this.#lentRx += count
    }
    this.#shared?.move()
    if (this.#fill.needsWakeup) this.wake()
    if (this.#parts.counters !== undefined) this.publish()
  }

  /** Writes down, for other threads, where the frames are. */
  publish(): void {
    const counters = this.counters
    counters[GAUGE.free] = this.pool.available
    counters[GAUGE.held] = this.#held + (this.#receiving ? 1 : 0)
    counters[GAUGE.lentRx] = this.#lentRx
    counters[GAUGE.lentTx] = this.#lentTx + this.#txPending - this.#foreign
  }

  /** Lets the kernel receive. */
  wake(): void {
    this.#assertOpen()
    this.counters[COUNTER.rxWakeups]++
    this.#checkDoorbell('recvfrom', this.#parts.doorbell.receive())
  }

  // ---------------------------------------------------------------- sending

  /** See `XdpSocket.send`. */
  send(packet: Uint8Array): boolean {
    // Before a frame is taken, which nobody would give back.
    if (packet.length === 0 || packet.length > this.#parts.frameSize) {
      throw new OptionError(
        'packet',
        `A packet of ${packet.length} bytes does not fit a frame of ${this.#parts.frameSize}`,
      )
    }
    const frame = this.allocate()
    if (frame < 0) return false
    this.#parts.bytes.set(packet, frame)
    return this.transmit(frame, packet.length)
  }

  /** See `XdpSocket.reserve`. */
  reserve(count: number): TxBatch {
    this.#assertOpen()
    return this.#txBatch.take(count)
  }

  /** Takes a free frame to hold: its address, or -1 when there is none. */
  allocate(): number {
    this.#assertOpen()
    if (this.pool.available === 0) this.#reap()
    const frame = this.pool.take()
    if (frame >= 0) this.#held++
    return frame
  }

  /** Frees a held frame. */
  release(address: number): void {
    this.#assertOpen()
    if (!this.owns(address)) {
      this.#requireLink(address).home(address)
      return
    }
    this.takeBack(address)
    if (!this.#receiving) this.refill()
  }

  /** Frees a held frame, without lending it to the kernel at once. */
  takeBack(address: number): void {
    this.pool.put(address)
    this.#held--
    this.giveAway(address)
  }

  /** Whether `address` is in a frame of this data path's pool. */
  owns(address: number): boolean {
    return (address - this.#start) >>> 0 < this.#span
  }

  /** See `XdpSocket.transmit`. */
  transmit(address: number, length: number): boolean {
    this.#assertOpen()
    const taken = this.#enqueue(address, length)
    // A frame of another data path stays held there until it comes back.
    if (this.owns(address)) {
      this.#held--
      this.giveAway(address)
    }
    return taken
  }

  /** Notes that, if the packet in hand is in this frame, the frame is not its handler's any more. */
  giveAway(address: number): void {
    const packet = this.#packet
    if (this.#receiving && (address & this.#frameMask) >>> 0 === packet.frame) packet.frame = GIVEN
  }

  // As `transmit`, for a frame that does not count as held.
  #enqueue(address: number, length: number): boolean {
    const frame = (address & this.#frameMask) >>> 0
    // The kernel would refuse the descriptor, count it as invalid and never give the frame back.
    if (!(length > 0) || address + length > frame + this.#frameSize) {
      throw new OptionError('length', `${length} bytes from ${address} are not a packet within one frame`)
    }
    const isOwn = (frame - this.#start) >>> 0 < this.#span
    if (!isOwn) this.#requireLink(address).lend(frame, this)
    if (this.#txPending === this.#txReserved && !this.#reserveTx()) {
      this.counters[COUNTER.txDropped]++
      if (isOwn) this.pool.put(frame)
      else this.#link?.home(frame)
      return false
    }
    if (!isOwn) this.#foreign++
    this.#tx.set(this.#txPending++, address, length)
    this.#txPendingBytes += length
    return true
  }

  /** See `XdpSocket.flush`. */
  flush(): void {
    this.#assertOpen()
    this.#commitTx()
    if (this.#lentTx > 0) this.#push()
    if (this.#parts.counters !== undefined) this.publish()
  }

  // Wakes the kernel up as long as it takes packets, and takes back the frames it has sent.
  #push(): void {
    let before = this.#tx.level
    this.#reap()
    while (before > 0 && (!this.#parts.needWakeup || this.#tx.needsWakeup)) {
      this.counters[COUNTER.txWakeups]++
      this.#checkDoorbell('sendto', this.#parts.doorbell.send())
      this.#reap()
      // A result says nothing about how much was sent; the ring does. No progress means: later.
      const after = this.#tx.level
      if (after >= before) break
      before = after
    }
  }

  // The way home for a frame that is not of this pool.
  #requireLink(address: number): FrameLink {
    if (this.#link?.has(address)) return this.#link
    throw new OptionError('address', `The frame at ${address} is not of this socket, nor of one of its group`)
  }

  /** Packets put in the TX ring that the kernel has not taken yet. */
  get txWaiting(): number {
    this.#assertOpen()
    return this.#txPending + this.#tx.level
  }

  /** As `txWaiting`, with those of the data paths that frames were given to: what this thread has to see to. */
  get txPending(): number {
    const link = this.#link
    return this.txWaiting + (link !== undefined && link.out > 0 ? link.txWaiting(this) : 0)
  }

  get receiving(): boolean {
    return this.#receiving
  }

  /** Frames that the kernel has not given back from sending. */
  get txOutstanding(): number {
    return this.#lentTx
  }

  /** Nothing can be received until frames come back from sending. */
  get starved(): boolean {
    return this.#lentRx === 0 && (this.#lentTx > 0 || (this.#link?.out ?? 0) > 0)
  }

  #reserveTx(): boolean {
    this.#commitTx()
    this.#txReserved = this.#tx.reserve(this.#parts.batch)
    if (this.#txReserved > 0) return true
    this.flush()
    this.#txReserved = this.#tx.reserve(this.#parts.batch)
    return this.#txReserved > 0
  }

  #commitTx(): void {
    const pending = this.#txPending
    if (pending > 0) {
      this.#tx.commit(pending)
      this.#lentTx += pending
      this.counters[COUNTER.txPackets] += pending
      this.counters[COUNTER.txBytes] += this.#txPendingBytes
      this.#txPending = 0
      this.#txPendingBytes = 0
    }
    this.#txReserved = 0
  }

  // Takes sent frames back.
  #reap(): void {
    const completion = this.#completion
    this.#shared?.move()
    const count = completion.peek(completion.size)
    if (count === 0) return
    if (this.#foreign > 0) {
      this.#reapMixed(count)
      return
    }
    // Straight back into the fill ring as far as it has room; not under a handler, when `receive` has slots of it.
    const room = this.#receiving || this.pool.tracked ? 0 : Math.min(count, this.#fillTarget - this.#lentRx)
    const slots = room > 0 ? this.#fill.reserve(room) : 0
    if (slots > 0) {
      const fill = this.#fill
      const frameMask = this.#frameMask
      for (let i = 0; i < slots; i++) fill.set(i, completion.address(i) & frameMask)
      fill.commit(slots)
      this.#lentRx += slots
    }
    if (slots < count) this.pool.putAll(completion, slots, count)
    completion.release(count)
    this.#lentTx -= count
  }

  // As `#reap`, when some of the frames are those of other data paths.
  #reapMixed(count: number): void {
    const completion = this.#completion
    const link = this.#link as FrameLink
    for (let i = 0; i < count; i++) {
      const address = completion.address(i)
      if (this.owns(address)) {
        this.pool.put(address)
      } else {
        this.#foreign--
        link.home(address)
      }
    }
    completion.release(count)
    this.#lentTx -= count
    link.refill(this)
  }

  // ---------------------------------------------------------------- accounting

  /** Where the frames are now. */
  frames(): FrameCensus {
    this.#assertOpen()
    // Those of the batch at hand are still in the ring, but with their handlers already.
    const level = this.#rx.level
    const completion = this.#ownCompleted()
    return {
      total: this.pool.total,
      free: this.pool.available,
      fill: this.#lentRx - level + this.#recycled,
      rx: level - this.#taken,
      held: this.#held + (this.#receiving ? 1 : 0),
      tx: this.#lentTx + this.#txPending - this.#foreign - completion,
      completion,
    }
  }

  // Own frames in the completion ring.
  #ownCompleted(): number {
    const completion = this.#completion
    if (this.#foreign === 0) return completion.level
    let own = 0
    for (let i = completion.peek(completion.size) - 1; i >= 0; i--)
      if (this.owns(completion.address(i))) own++
    return own
  }

  /** Entries in each ring now. */
  levels(): RingLevels {
    return {
      fill: this.#fill.level,
      rx: this.#rx.level,
      tx: this.#tx.level,
      completion: this.#completion.level,
    }
  }

  /** What the error of a call on this socket means. */
  failure(syscall: string, errno: number): KernelError {
    const { interface: name, queue } = this.#parts
    return new KernelError(syscall, errno, {
      about: `${name} queue ${queue}`,
      hint:
        errno === ENXIO || errno === ENETDOWN
          ? `The interface ${name} is down or gone; open the socket again when it is back.`
          : undefined,
    })
  }

  #checkDoorbell(syscall: string, result: number): void {
    if (result < 0 && !LATER.has(-result)) throw this.failure(syscall, -result)
  }

  #assertOpen(): void {
    if (this.#closed) throw new StateError('The socket is closed')
  }
}
