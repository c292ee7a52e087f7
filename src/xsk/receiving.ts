// The way of packets in: from the RX ring to a handler, and their frames to where its verdict says.
import { OptionError, StateError } from '../kernel/index.js'
import type { DataPath } from './data-path.js'
import type { DataPathParts } from './data-path-parts.js'
import { PacketTail } from './fragments.js'
import type { FramePool } from './frame-pool.js'
import type { Lending } from './lending.js'
import { XdpPacket, type PacketHandler, type Verdict } from './packet.js'
import { checkRows, readRows, returnFrames, type PacketRows, type RowsHandler } from './packet-rows.js'
import { RxRing } from './rx-ring.js'
import type { Sending } from './sending.js'
import { COUNTER } from './statistics.js'

// The frame of a packet that its handler has given away.
const GIVEN = -1
const GIVEN_AWAY = "A packet handler returned 'transmit' for a frame that it had given away"
const VERDICTS = "Return nothing, 'transmit' or 'hold', and not a promise."

/** The receiving half of a data path. Nothing in it allocates per packet. */
export class Receiving {
  readonly rx: RxRing
  /** Descriptors of the batch at hand that a handler has been given. */
  taken = 0
  /** Of those, the frames written back into the fill ring already. */
  recycled = 0
  /** A batch is at hand. */
  isReceiving = false
  /** No packet is given to a handler any more. */
  isClosed = false
  readonly #path: DataPath
  readonly #pool: FramePool
  readonly #lending: Lending
  readonly #sending: Sending
  readonly #counters: Float64Array
  readonly #packet: XdpPacket
  // What the packet in hand has behind its first frame.
  readonly #tail = new PacketTail()
  // The last batch of `receiveBatch`, and how many packets of it its handler has in hand.
  readonly #rows = { packets: 0, bytes: 0 }
  #batch = 0
  readonly #multiBuffer: boolean
  readonly #frameMask: number

  constructor(parts: DataPathParts, path: DataPath, lending: Lending, sending: Sending) {
    this.rx = new RxRing(parts.rings.rx)
    this.#path = path
    this.#pool = parts.pool
    this.#lending = lending
    this.#sending = sending
    this.#counters = path.counters
    this.#packet = new XdpPacket(parts.bytes, parts.view, parts.queue, this.#tail)
    this.#multiBuffer = parts.multiBuffer === true
    this.#frameMask = ~(parts.frameSize - 1)
  }

  /** See `XdpSocket.receive`. */
  receive(handler: PacketHandler, budget: number): number {
    if (!(budget >= 1)) throw new OptionError('budget', `A budget of ${budget} packets cannot be`)
    if (this.isReceiving) throw new StateError('receive was called from within a packet handler')
    const rx = this.rx
    if (this.#multiBuffer) return this.#receiveFragments(handler, budget)
    const count = rx.peek(budget)
    if (count === 0) {
      this.#path.handOver()
      return 0
    }
    const packet = this.#packet
    const pool = this.#pool
    const frameMask = this.#frameMask
    // Released frames go straight back into the fill ring: by way of the pool they would cost twice as much.
    const fill = this.#lending.ring
    const sending = this.#sending
    const slots = pool.tracked ? 0 : fill.reserve(count)
    // The rings' own accessors would look at each of these anew for every packet, which takes longer than the packet.
    const { entries, mask } = rx
    const first = rx.next | 0
    const fillEntries = fill.entries
    const fillMask = fill.mask
    const fillFirst = fill.next | 0
    let recycled = 0
    let taken = 0
    let bytes = 0
    this.isReceiving = true
    try {
      // A handler may close the socket: no packet is given to one after that.
      while (taken < count && !this.isClosed) {
        const word = ((first + taken) & mask) << 2
        const address = entries[word]
        const length = entries[word + 2]
        taken++
        bytes += length
        const frame = (address & frameMask) >>> 0
        packet.offset = address
        packet.length = length
        packet.frame = frame
        this.taken = taken
        this.recycled = recycled
        const verdict = handler(packet)
        if (packet.frame !== frame) {
          // The handler has released or transmitted it by itself already.
          if (verdict === 'transmit') throw new OptionError('handler', GIVEN_AWAY, VERDICTS)
          this.#path.held++
        } else if (verdict === undefined || this.isClosed) {
          if (recycled < slots) fillEntries[((fillFirst + recycled++) & fillMask) << 1] = frame
          else pool.put(frame)
        } else if (verdict === 'transmit') {
          sending.put(packet.offset, packet.length)
        } else if (verdict === 'hold') {
          this.#path.held++
        } else {
          throw noVerdict(verdict)
        }
      }
    } catch (error) {
      // Whether the handler threw or returned a packet that cannot be sent, its frame is still ours.
      if (packet.frame === GIVEN) this.#path.held++
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
    const rx = this.rx
    const packet = this.#packet
    const tail = this.#tail
    // How many descriptors a packet takes is not known before.
    const count = rx.peek(rx.size)
    // A packet whose end the kernel has yet to write waits in the ring.
    if (count === 0 || !tail.read(rx, 0, count)) {
      this.#path.handOver()
      return 0
    }
    let taken = 0
    let packets = 0
    let bytes = 0
    this.isReceiving = true
    try {
      while (packets < budget && taken < count && !this.isClosed && tail.read(rx, taken, count)) {
        const address = rx.address(taken)
        const frame = (address & this.#frameMask) >>> 0
        packet.offset = address
        packet.length = rx.length(taken)
        packet.frame = frame
        packets++
        bytes += packet.totalLength
        taken += packet.fragments
        this.taken = taken
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

  /** See `XdpSocket.receiveBatch`. */
  receiveBatch(into: PacketRows, handler: RowsHandler): number {
    checkRows(into)
    if (this.isReceiving) throw new StateError('receive was called from within a packet handler')
    const rx = this.rx
    const read = this.#rows
    readRows(rx, rx.peek(rx.size), into, read)
    const { packets, bytes } = read
    if (packets === 0) {
      this.#path.handOver()
      return 0
    }
    this.isReceiving = true
    this.taken = this.#batch = packets
    try {
      handler(packets)
    } finally {
      this.#batch = 0
      const recycled = returnFrames(rx, packets, this.#lending.ring, this.#pool, this.#frameMask)
      this.#endBatch(packets, packets, bytes, recycled)
    }
    return packets
  }

  // Gives the descriptors of a batch back, counts it, and hands over what came of it.
  #endBatch(taken: number, packets: number, bytes: number, recycled: number): void {
    this.isReceiving = false
    this.rx.release(taken)
    this.#lending.lent += recycled - taken
    this.taken = 0
    this.recycled = 0
    this.#tail.count = 0
    const counters = this.#counters
    counters[COUNTER.rxPackets] += packets
    counters[COUNTER.rxBytes] += bytes
    counters[COUNTER.batches]++
    if (!this.isClosed) this.#path.handOver()
  }

  // Does with a packet that may be in several frames what its handler said.
  #settle(packet: XdpPacket, frame: number, verdict: Verdict): void {
    const tail = this.#tail
    const isGiven = packet.frame !== frame || tail.isGiven
    if (verdict === 'transmit' && !this.isClosed) {
      if (isGiven) throw new OptionError('handler', GIVEN_AWAY, VERDICTS)
      this.#sending.putFragments(packet)
    } else if (verdict === 'hold') {
      this.#path.held += packet.fragments
    } else if (verdict === undefined || this.isClosed) {
      this.#letGoOfAll(packet)
    } else {
      throw noVerdict(verdict)
    }
    tail.count = 0
  }

  // Frees the frames of a packet, but for those that its handler has released or transmitted by itself.
  #letGoOfAll({ frame }: XdpPacket): void {
    const tail = this.#tail
    if (frame === GIVEN) this.#path.held++
    else this.#pool.put(frame)
    for (let i = 0; i < tail.count; i++) {
      if (tail.wasGiven(i)) this.#path.held++
      else this.#pool.put(tail.offset(i))
    }
  }

  /** Frames of the packet in hand, or of the batch. */
  get inHand(): number {
    if (!this.isReceiving) return 0
    return this.#batch > 0 ? this.#batch : 1 + this.#tail.count
  }

  /** Notes that, if the packet in hand is in this frame, the frame is not its handler's any more. */
  giveAway(address: number): void {
    if (!this.isReceiving || this.#batch > 0) return
    const frame = (address & this.#frameMask) >>> 0
    if (frame === this.#packet.frame) this.#packet.frame = GIVEN
    else if (this.#tail.count > 0) this.#tail.giveAway(frame, this.#frameMask)
  }
}

// An async handler's promise, say: its frame would be lost without a word.
function noVerdict(verdict: unknown): OptionError {
  return new OptionError('handler', `A packet handler returned ${String(verdict)}`, VERDICTS)
}
