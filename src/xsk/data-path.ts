// The way of the packets through the four rings: both halves of it, and the frames that callers hold. It knows the kernel
// only as two system calls, so that tests and benchmarks can play the kernel.
import { OptionError, StateError, type KernelError } from '../kernel/index.js'
import type { CompletionRing } from './completion-ring.js'
import type { DataPathParts } from './data-path-parts.js'
import { callFailure, checkDoorbell } from './doorbell.js'
import { FragmentList, type Fragments } from './fragments.js'
import type { FramePool } from './frame-pool.js'
import { Lending } from './lending.js'
import type { PacketHandler } from './packet.js'
import type { PacketRows, RowsHandler } from './packet-rows.js'
import { Receiving } from './receiving.js'
import { Sending } from './sending.js'
import type { FrameLink } from './shared-frames.js'
import { COUNTER, COUNTERS, GAUGE, type FrameCensus, type RingLevels } from './statistics.js'
import { TxBatch } from './tx-batch.js'

// What an skb can be made of: its head and MAX_SKB_FRAGS, which is at least 17 (net/xdp/xsk.c: xsk_build_skb).
const MAX_TX_FRAGMENTS = 18

/**
 * Receives and sends over the rings, and accounts for every frame. One thread. Nothing in `receive`, `transmit`
 * and `flush` allocates per packet; the system calls are at most one or two a batch.
 */
export class DataPath {
  readonly counters: Float64Array
  /** Called after a flush that left frames with the kernel: whoever drives this has to look after them. */
  onOutstanding: (() => void) | undefined
  readonly pool: FramePool
  /** Frames that the caller has. */
  held = 0
  readonly #parts: DataPathParts
  readonly #lending: Lending
  readonly #sending: Sending
  readonly #receiving: Receiving
  readonly #multiBuffer: boolean
  readonly #txBatch: TxBatch
  readonly #link: FrameLink | undefined

  constructor(parts: DataPathParts) {
    const { rings, pool, frameSize } = parts
    this.#parts = parts
    this.pool = pool
    this.counters = parts.counters ?? new Float64Array(COUNTERS)
    this.#lending = new Lending(rings.fill, pool, frameSize, rings.tx.size)
    this.#sending = new Sending(parts, this, this.#lending)
    this.#receiving = new Receiving(parts, this, this.#lending, this.#sending)
    this.#multiBuffer = parts.multiBuffer === true
    this.#txBatch = new TxBatch(this)
    this.#link = parts.link
  }

  get closed(): boolean {
    return this.#receiving.isClosed
  }

  /** Ends the use of the rings; their memory may go afterwards. */
  close(): void {
    this.#receiving.isClosed = true
  }

  // ---------------------------------------------------------------- receiving

  /** See `XdpSocket.receive`. */
  receive(handler: PacketHandler, budget: number = this.#parts.batch): number {
    this.#assertOpen()
    return this.#receiving.receive(handler, budget)
  }

  /** See `XdpSocket.receiveBatch`. */
  receiveBatch(into: PacketRows, handler: RowsHandler): number {
    this.#assertOpen()
    return this.#receiving.receiveBatch(into, handler)
  }

  /** After a batch: what is to be sent goes to the kernel, and free frames too. */
  handOver(): void {
    const sending = this.#sending
    if (sending.pending > 0 || sending.lent > 0) this.flush()
    if (this.#link !== undefined && this.#link.out > 0) this.#link.flush(this)
    this.refill()
  }

  /** Lends the kernel frames to receive into, as many as it should have, and wakes it up if it waits for them. */
  refill(): void {
    this.#lending.refill()
    this.#parts.shared?.move()
    if (this.#lending.ring.needsWakeup) this.wake()
    if (this.#parts.counters !== undefined) this.publish()
  }

  /** Writes down, for other threads, where the frames are. */
  publish(): void {
    const counters = this.counters
    counters[GAUGE.free] = this.pool.available
    counters[GAUGE.held] = this.held + this.#receiving.inHand
    counters[GAUGE.lentRx] = this.#lending.lent
    const { lent, pending, foreign } = this.#sending
    counters[GAUGE.lentTx] = lent + pending - foreign
  }

  /** Lets the kernel receive. */
  wake(): void {
    this.#assertOpen()
    this.counters[COUNTER.rxWakeups]++
    checkDoorbell('recvfrom', this.#parts.doorbell.receive(), this.#parts)
  }

  // ---------------------------------------------------------------- sending

  /** See `XdpSocket.send`. */
  send(packet: Uint8Array): boolean {
    // Before a frame is taken, which nobody would give back.
    if (packet.length === 0 || packet.length > this.#parts.frameSize) return this.#sendLong(packet)
    const frame = this.allocate()
    if (frame < 0) return false
    this.#parts.bytes.set(packet, frame)
    return this.transmit(frame, packet.length)
  }

  // Sends a packet that is longer than a frame.
  #sendLong(packet: Uint8Array): boolean {
    const { frameSize, bytes } = this.#parts
    const most = this.#multiBuffer ? Math.min(MAX_TX_FRAGMENTS, this.#sending.tx.size) : 1
    if (packet.length === 0 || packet.length > most * frameSize) {
      throw new OptionError(
        'packet',
        `A packet of ${packet.length} bytes does not fit ${most === 1 ? 'a frame' : `${most} frames`} of ${frameSize}`,
        most === 1 && packet.length > 0 ? 'Open the socket with `multiBuffer`.' : undefined,
      )
    }
    const list = new FragmentList()
    for (let at = 0; at < packet.length; at += frameSize) {
      const frame = this.allocate()
      if (frame < 0) {
        this.releaseFragments(list)
        return false
      }
      const part = packet.subarray(at, at + frameSize)
      bytes.set(part, frame)
      list.push(frame, part.length)
    }
    return this.transmitFragments(list)
  }

  /** See `XdpSocket.reserve`. */
  reserve(count: number): TxBatch {
    this.#assertOpen()
    return this.#txBatch.take(count)
  }

  /** Takes a free frame to hold: its address, or -1 when there is none. */
  allocate(): number {
    this.#assertOpen()
    if (this.pool.available === 0) this.#sending.reap()
    const frame = this.pool.take()
    if (frame >= 0) this.held++
    return frame
  }

  /** Frees a held frame. */
  release(address: number): void {
    this.#assertOpen()
    if (!this.owns(address)) {
      this.#sending.requireLink(address).home(address)
      return
    }
    this.takeBack(address)
    if (!this.receiving) this.refill()
  }

  /** Frees a held frame, without lending it to the kernel at once. */
  takeBack(address: number): void {
    this.pool.put(address)
    this.held--
    this.giveAway(address)
  }

  /** Takes back own frames that another data path has sent: entries `from` to `to - 1` of its completion ring. */
  takeBackSent(sent: CompletionRing, from: number, to: number): void {
    this.held -= to - from
    // Straight into the fill ring where that can be: by way of the pool they would cost twice as much.
    const isDirect = from === 0 && !this.receiving && !this.pool.tracked
    const lent = isDirect ? this.#lending.lendSent(sent, to) : 0
    if (from + lent < to) this.pool.putAll(sent, from + lent, to)
  }

  /** Whether `address` is in a frame of this data path's pool. */
  owns(address: number): boolean {
    return this.#sending.owns(address)
  }

  /** See `XdpSocket.transmit`. */
  transmit(address: number, length: number): boolean {
    this.#assertOpen()
    const taken = this.#sending.put(address, length)
    // A frame of another data path stays held there until it comes back.
    if (this.owns(address)) {
      this.held--
      this.giveAway(address)
    }
    return taken
  }

  /** See `XdpSocket.transmitFragments`. */
  transmitFragments(packet: Fragments): boolean {
    this.#assertOpen()
    if (packet.fragments > 1) this.#requireMultiBuffer()
    const taken = this.#sending.putFragments(packet)
    for (let i = 0; i < packet.fragments; i++) {
      const address = packet.fragmentOffset(i)
      if (!this.owns(address)) continue
      this.held--
      this.giveAway(address)
    }
    return taken
  }

  /** See `XdpSocket.releaseFragments`. */
  releaseFragments(packet: Fragments): void {
    for (let i = 0; i < packet.fragments; i++) this.release(packet.fragmentOffset(i))
  }

  #requireMultiBuffer(): void {
    if (this.#multiBuffer) return
    throw new OptionError(
      'packet',
      'A packet in several frames cannot be sent by this socket',
      'Open the socket with `multiBuffer`.',
    )
  }

  /** Notes that, if the packet in hand is in this frame, the frame is not its handler's any more. */
  giveAway(address: number): void {
    this.#receiving.giveAway(address)
  }

  /** See `XdpSocket.flush`. */
  flush(): void {
    this.#assertOpen()
    this.#sending.flush()
    if (this.#sending.lent > 0) this.onOutstanding?.()
    if (this.#parts.counters !== undefined) this.publish()
  }

  /** Packets put in the TX ring that the kernel has not taken yet. */
  get txWaiting(): number {
    this.#assertOpen()
    return this.#sending.waiting
  }

  /** As `txWaiting`, with those of the data paths that frames were given to: what this thread has to see to. */
  get txPending(): number {
    const link = this.#link
    return this.txWaiting + (link !== undefined && link.out > 0 ? link.txWaiting(this) : 0)
  }

  get receiving(): boolean {
    return this.#receiving.isReceiving
  }

  /** Frames that the kernel has not given back from sending. */
  get txOutstanding(): number {
    return this.#sending.lent
  }

  /** Nothing can be received until frames come back from sending. */
  get starved(): boolean {
    return this.#lending.lent === 0 && (this.#sending.lent > 0 || (this.#link?.out ?? 0) > 0)
  }

  // ---------------------------------------------------------------- accounting

  /** Where the frames are now. */
  frames(): FrameCensus {
    this.#assertOpen()
    // Those of the batch at hand are still in the ring, but with their handlers already.
    const { rx, taken, recycled, inHand } = this.#receiving
    const level = rx.level
    const sending = this.#sending
    const completion = sending.ownCompleted
    return {
      total: this.pool.total,
      free: this.pool.available,
      fill: this.#lending.lent - level + recycled,
      rx: level - taken,
      held: this.held + inHand,
      tx: sending.lent + sending.pending - sending.foreign - completion,
      completion,
    }
  }

  /** Entries in each ring now. */
  levels(): RingLevels {
    return {
      fill: this.#lending.ring.level,
      rx: this.#receiving.rx.level,
      tx: this.#sending.tx.level,
      completion: this.#sending.completion.level,
    }
  }

  /** What the error of a call on this socket means. */
  failure(syscall: string, errno: number): KernelError {
    return callFailure(syscall, errno, this.#parts)
  }

  #assertOpen(): void {
    if (this.#receiving.isClosed) throw new StateError('The socket is closed')
  }
}
