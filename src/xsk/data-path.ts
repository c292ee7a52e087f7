// The way of the packets through the four rings: receiving, and the frames that callers hold. It knows the kernel only as
// two system calls, so that tests and benchmarks can play the kernel.
import { OptionError, StateError, type KernelError } from '../kernel/index.js'
import type { CompletionRing } from './completion-ring.js'
import { callFailure, checkDoorbell, type Doorbell } from './doorbell.js'
import { FragmentList, PacketTail, type Fragments } from './fragments.js'
import type { FramePool } from './frame-pool.js'
import { Lending } from './lending.js'
import { XdpPacket, type PacketHandler, type Verdict } from './packet.js'
import type { RingMemory } from './ring-memory.js'
import { RxRing } from './rx-ring.js'
import { Sending } from './sending.js'
import type { FrameLink } from './shared-frames.js'
import { COUNTER, COUNTERS, GAUGE, type FrameCensus, type RingLevels } from './statistics.js'
import { TxBatch } from './tx-batch.js'

// The frame of a packet that its handler has given away.
const GIVEN = -1
const GIVEN_AWAY = "A packet handler returned 'transmit' for a frame that it had given away"
const VERDICTS = "Return nothing, 'transmit' or 'hold', and not a promise."

// What an skb can be made of: its head and MAX_SKB_FRAGS, which is at least 17 (net/xdp/xsk.c: xsk_build_skb).
const MAX_TX_FRAGMENTS = 18

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
  /** Packets may be in several frames. Default false. */
  multiBuffer?: boolean | undefined
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
  /** Called after a flush that left frames with the kernel: whoever drives this has to look after them. */
  onOutstanding: (() => void) | undefined
  readonly pool: FramePool
  readonly #parts: DataPathParts
  readonly #rx: RxRing
  readonly #lending: Lending
  readonly #sending: Sending
  readonly #packet: XdpPacket
  // What the packet in hand has behind its first frame.
  readonly #tail = new PacketTail()
  readonly #multiBuffer: boolean
  readonly #txBatch: TxBatch
  readonly #frameMask: number
  readonly #link: FrameLink | undefined
  // Frames that the caller has.
  #held = 0
  // Descriptors of the batch at hand that a handler has been given.
  #taken = 0
  // Of those, the frames written back into the fill ring already.
  #recycled = 0
  #receiving = false
  #closed = false

  constructor(parts: DataPathParts) {
    const { rings, pool, frameSize } = parts
    this.#parts = parts
    this.pool = pool
    this.counters = parts.counters ?? new Float64Array(COUNTERS)
    this.#rx = new RxRing(rings.rx)
    this.#lending = new Lending(rings.fill, pool, frameSize, rings.tx.size)
    this.#sending = new Sending(parts, this, this.#lending)
    this.#packet = new XdpPacket(parts.bytes, parts.view, parts.queue, this.#tail)
    this.#multiBuffer = parts.multiBuffer === true
    this.#txBatch = new TxBatch(this)
    this.#frameMask = ~(frameSize - 1)
    this.#link = parts.link
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
    if (this.#multiBuffer) return this.#receiveFragments(handler, budget)
    const count = rx.peek(budget)
    if (count === 0) {
      this.#handOver()
      return 0
    }
    const packet = this.#packet
    const pool = this.pool
    const frameMask = this.#frameMask
    // Released frames go straight back into the fill ring: by way of the pool they would cost twice as much.
    const fill = this.#lending.ring
    const sending = this.#sending
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
          sending.put(packet.offset, packet.length)
        } else if (verdict === 'hold') {
          this.#held++
        } else {
          throw noVerdict(verdict)
        }
      }
    } catch (error) {
      // Whether the handler threw or returned a packet that cannot be sent, its frame is still ours.
      if (packet.frame === GIVEN) this.#held++
      else pool.put(packet.frame)
      throw error
    } finally {
      fill.commit(recycled)
      this.#endBatch(taken, taken, bytes, recycled)
    }
    return taken
  }

  // As `receive`, for packets that may be in several frames: a loop of its own, so that the other one pays nothing for it.
  #receiveFragments(handler: PacketHandler, budget: number): number {
    const rx = this.#rx
    const packet = this.#packet
    const tail = this.#tail
    // How many descriptors a packet takes is not known before.
    const count = rx.peek(rx.size)
    // A packet whose end the kernel has yet to write waits in the ring.
    if (count === 0 || !tail.read(rx, 0, count)) {
      this.#handOver()
      return 0
    }
    let taken = 0
    let packets = 0
    let bytes = 0
    this.#receiving = true
    try {
      while (packets < budget && taken < count && !this.#closed && tail.read(rx, taken, count)) {
        const address = rx.address(taken)
        const frame = (address & this.#frameMask) >>> 0
        packet.offset = address
        packet.length = rx.length(taken)
        packet.frame = frame
        packets++
        bytes += packet.totalLength
        taken += packet.fragments
        this.#taken = taken
        this.#settle(packet, frame, handler(packet))
      }
    } catch (error) {
      this.#letGoOfAll(packet)
      throw error
    } finally {
      this.#endBatch(taken, packets, bytes, 0)
    }
    return packets
  }

  // Gives the descriptors of a batch back, counts it, and hands over what came of it.
  #endBatch(taken: number, packets: number, bytes: number, recycled: number): void {
    this.#receiving = false
    this.#rx.release(taken)
    this.#lending.lent += recycled - taken
    this.#taken = 0
    this.#recycled = 0
    this.#tail.count = 0
    const counters = this.counters
    counters[COUNTER.rxPackets] += packets
    counters[COUNTER.rxBytes] += bytes
    counters[COUNTER.batches]++
    if (!this.#closed) this.#handOver()
  }

  // What is to be sent goes to the kernel, and free frames too.
  #handOver(): void {
    const sending = this.#sending
    if (sending.pending > 0 || sending.lent > 0) this.flush()
    if (this.#link !== undefined && this.#link.out > 0) this.#link.flush(this)
    this.refill()
  }

  // Does with a packet that may be in several frames what its handler said.
  #settle(packet: XdpPacket, frame: number, verdict: Verdict): void {
    const tail = this.#tail
    const isGiven = packet.frame !== frame || tail.isGiven
    if (verdict === 'transmit' && !this.#closed) {
      if (isGiven) throw new OptionError('handler', GIVEN_AWAY, VERDICTS)
      this.#sending.putFragments(packet)
    } else if (verdict === 'hold') {
      this.#held += packet.fragments
    } else if (verdict === undefined || this.#closed) {
      this.#letGoOfAll(packet)
    } else {
      throw noVerdict(verdict)
    }
    tail.count = 0
  }

  // Frees the frames of a packet, but for those that its handler has released or transmitted by itself.
  #letGoOfAll({ frame }: XdpPacket): void {
    const tail = this.#tail
    if (frame === GIVEN) this.#held++
    else this.pool.put(frame)
    for (let i = 0; i < tail.count; i++) {
      if (tail.wasGiven(i)) this.#held++
      else this.pool.put(tail.offset(i))
    }
  }

  // Frames of the packet in hand.
  get #inHand(): number {
    return this.#receiving ? 1 + this.#tail.count : 0
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
    counters[GAUGE.held] = this.#held + this.#inHand
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
    if (frame >= 0) this.#held++
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
    if (!this.#receiving) this.refill()
  }

  /** Frees a held frame, without lending it to the kernel at once. */
  takeBack(address: number): void {
    this.pool.put(address)
    this.#held--
    this.giveAway(address)
  }

  /** Takes back own frames that another data path has sent: entries `from` to `to - 1` of its completion ring. */
  takeBackSent(sent: CompletionRing, from: number, to: number): void {
    this.#held -= to - from
    // Straight into the fill ring where that can be: by way of the pool they would cost twice as much.
    const isDirect = from === 0 && !this.#receiving && !this.pool.tracked
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
      this.#held--
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
      this.#held--
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
    if (!this.#receiving) return
    const frame = (address & this.#frameMask) >>> 0
    if (frame === this.#packet.frame) this.#packet.frame = GIVEN
    else if (this.#tail.count > 0) this.#tail.giveAway(frame, this.#frameMask)
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
    return this.#receiving
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
    const level = this.#rx.level
    const sending = this.#sending
    const completion = sending.ownCompleted
    return {
      total: this.pool.total,
      free: this.pool.available,
      fill: this.#lending.lent - level + this.#recycled,
      rx: level - this.#taken,
      held: this.#held + this.#inHand,
      tx: sending.lent + sending.pending - sending.foreign - completion,
      completion,
    }
  }

  /** Entries in each ring now. */
  levels(): RingLevels {
    return {
      fill: this.#lending.ring.level,
      rx: this.#rx.level,
      tx: this.#sending.tx.level,
      completion: this.#sending.completion.level,
    }
  }

  /** What the error of a call on this socket means. */
  failure(syscall: string, errno: number): KernelError {
    return callFailure(syscall, errno, this.#parts)
  }

  #assertOpen(): void {
    if (this.#closed) throw new StateError('The socket is closed')
  }
}

// An async handler's promise, say: its frame would be lost without a word.
function noVerdict(verdict: unknown): OptionError {
  return new OptionError('handler', `A packet handler returned ${String(verdict)}`, VERDICTS)
}
