// The packets of one queue of a diverting capture: from the socket's ring into a batch, their frames kept until it was seen.
import { check, native } from '../kernel/index.js'
import {
  INBOUND,
  ROW,
  ROW_DIRECTION,
  ROW_LENGTH,
  ROW_NANOSECONDS,
  ROW_QUEUE,
  ROW_SECONDS,
  ROW_WIRE_LENGTH,
} from '../packet/pcap-batch.js'
import type { PacketRows, RunOptions, XdpPacket, XdpSocket } from '../xsk/index.js'
import { STAMP_BYTES } from './divert-program.js'
import { BATCH, BATCH_BYTES, type LiveSource } from './live-source.js'

/** Room for what veth and GRO make of TCP; grows for longer ones. */
const GATHER_BYTES = 65_536 + 256

/** So much may a packet have come before the one in front of it: nanoseconds. What is older is no time that was written for it. */
const DISORDER = 1e6

/** Fills the batch of a source from one socket, and hands it on. */
export class DivertQueue {
  readonly queue: number
  /** Packets that the kernel has frames for. */
  readonly room: number
  readonly #socket: XdpSocket
  readonly #live: LiveSource
  /** Where the batch has its packets, and their times of arrival. */
  readonly #rows: PacketRows
  /** Frames of packets that are not handed on yet. */
  readonly #held: Uint32Array
  #holds = 0
  /** When packets were last looked for: the time of day. */
  #nowSeconds = 0
  #nowNanoseconds = 0
  /** When the last one came. */
  #seconds = 0
  #nanoseconds = 0
  // Where packets of several frames are put together.
  #gathered = new Uint8Array(0)
  /** Called behind what `run` handed on. */
  #handedOn = (): void => undefined

  /** `batch`: packets handed on at a time, at most. */
  constructor(socket: XdpSocket, live: LiveSource, batch: number = BATCH) {
    this.#socket = socket
    this.queue = socket.queue
    this.room = socket.frames().fill
    this.#live = live
    this.#held = new Uint32Array(live.batch.capacity)
    this.#lookAtClock()
    this.#seconds = this.#nowSeconds
    this.#nanoseconds = this.#nowNanoseconds
    const rows = live.batch.rows.subarray(0, batch * ROW)
    this.#rows = { rows, stride: ROW, lengthAt: ROW_LENGTH, bytes: BATCH_BYTES }
  }

  /** Hands on a batch of what is there; how many packets that was. */
  receive(): number {
    const socket = this.#socket
    if (socket.closed) return 0
    const count = socket.receiveBatch(this.#rows, this.#onBatch)
    if (count > 0) return count
    // There is nothing, or it is in several frames.
    const long = socket.receive(this.#onPacket, 1)
    if (long > 0) this.#handOn()
    this.#release()
    return long
  }

  /** Hands on packets as they come, and calls `handedOn` each time. See `XdpSocket.run`. */
  async run(handedOn: () => void, options: RunOptions): Promise<void> {
    if (this.#socket.closed) return
    this.#handedOn = handedOn
    await this.#socket.run(this.#onReady, options)
  }

  /** Completes the rows of a batch, all of whose packets came before now: three loops over numbers, and no call for a packet. */
  readonly #onBatch = (count: number): void => {
    const live = this.#live
    if (live.hasEnded) return
    this.#begin()
    const { batch, snapLength } = live
    const { rows } = batch
    const { queue, bytes } = this.#socket
    // What the program wrote in front of packets: each is far from the next, and cold.
    check(native.gatherBefore(rows, ROW, count, bytes, STAMP_BYTES / 4, ROW_SECONDS), 'gather')
    // All that the loop needs is in local variables.
    let seconds = this.#seconds
    let nanoseconds = this.#nanoseconds
    let captured = 0
    let wire = 0
    for (let i = 0, row = 0; i < count; i++, row += ROW) {
      const fraction = rows[row + ROW_NANOSECONDS]
      if (rows[row + ROW_SECONDS] === seconds && fraction >= nanoseconds) {
        nanoseconds = fraction
      } else {
        this.#nanoseconds = nanoseconds
        this.#arrive(rows[row + ROW_SECONDS], fraction)
        rows[row + ROW_SECONDS] = seconds = this.#seconds
        rows[row + ROW_NANOSECONDS] = nanoseconds = this.#nanoseconds
      }
      const length = rows[row + ROW_LENGTH]
      const kept = length < snapLength ? length : snapLength
      rows[row + ROW_LENGTH] = kept
      rows[row + ROW_WIRE_LENGTH] = length
      rows[row + ROW_QUEUE] = queue
      rows[row + ROW_DIRECTION] = INBOUND
      captured += kept
      wire += length
    }
    this.#nanoseconds = nanoseconds
    batch.count = count
    batch.captured = captured
    batch.wire = wire
    this.#handOn()
  }

  /** As `#onPacket`; the batch ends when the socket's turn does. */
  readonly #onReady = (received: XdpPacket): 'hold' | undefined => {
    const wasEmpty = this.#live.batch.count === 0
    const verdict = this.#onPacket(received)
    if (wasEmpty) process.nextTick(this.#endTurn)
    return verdict
  }

  readonly #endTurn = (): void => {
    this.#handOn()
    // Now, for the next packet may need one of them to come at all.
    this.#release()
    this.#handedOn()
  }

  readonly #onPacket = (received: XdpPacket): 'hold' | undefined => {
    const live = this.#live
    if (live.hasEnded) return undefined
    const { batch } = live
    if (batch.count === 0) this.#begin()
    this.#arriveWith(received)
    const wireLength = received.totalLength
    if (received.length < wireLength) {
      this.#takeLong(received, wireLength)
      return undefined
    }
    const captured = wireLength < live.snapLength ? wireLength : live.snapLength
    batch.add(
      received.offset,
      captured,
      wireLength,
      this.#seconds,
      this.#nanoseconds,
      received.queue,
      INBOUND,
    )
    this.#held[this.#holds++] = received.frame
    if (live.isFull) this.#handOn()
    return 'hold'
  }

  /** The first packet of a batch. */
  #begin(): void {
    this.#live.batch.begin(this.#socket.bytes)
    this.#lookAtClock()
    this.#release()
  }

  /** Frees the frames of what was handed on. */
  #release(): void {
    const holds = this.#socket.closed ? 0 : this.#holds
    for (let i = 0; i < holds; i++) this.#socket.release(this.#held[i])
    this.#holds = 0
  }

  #lookAtClock(): void {
    const { clock } = this.#live
    clock.read(clock.now())
    this.#nowSeconds = clock.seconds
    this.#nowNanoseconds = clock.nanoseconds
  }

  /** The next packet came when the program wrote in front of it. */
  #arriveWith({ view, offset }: XdpPacket): void {
    const at = offset - STAMP_BYTES
    const [seconds, nanoseconds] = [view.getUint32(at, true), view.getUint32(at + 4, true)]
    // It may have come since.
    if (sinceThen(seconds, nanoseconds, this.#nowSeconds, this.#nowNanoseconds) > 0) this.#lookAtClock()
    this.#arrive(seconds, nanoseconds)
  }

  /**
   * The next packet came then, if that can be: before now, and not far before the last packet. Processors that share a queue may be
   * out of order: times only grow.
   */
  #arrive(seconds: number, nanoseconds: number): void {
    const since = sinceThen(seconds, nanoseconds, this.#seconds, this.#nanoseconds)
    const isLater = sinceThen(seconds, nanoseconds, this.#nowSeconds, this.#nowNanoseconds) > 0
    if (isLater || since < -DISORDER) {
      this.#seconds = this.#nowSeconds
      this.#nanoseconds = this.#nowNanoseconds
    } else if (since > 0) {
      this.#seconds = seconds
      this.#nanoseconds = nanoseconds
    }
  }

  #handOn(): void {
    this.#live.handOn()
    this.#live.batch.count = 0
  }

  /** A packet in several frames, whose bytes are elsewhere: a batch by itself. */
  #takeLong(received: XdpPacket, length: number): void {
    const live = this.#live
    this.#handOn()
    if (this.#gathered.length < length) this.#gathered = new Uint8Array(Math.max(length, GATHER_BYTES))
    received.copyTo(this.#gathered)
    live.batch.begin(this.#gathered)
    live.batch.add(
      0,
      Math.min(length, live.snapLength),
      length,
      this.#seconds,
      this.#nanoseconds,
      received.queue,
      INBOUND,
    )
    this.#handOn()
  }
}

/** Nanoseconds from one time to the other, each in seconds and nanoseconds. */
function sinceThen(
  seconds: number,
  nanoseconds: number,
  thanSeconds: number,
  thanNanoseconds: number,
): number {
  return (seconds - thanSeconds) * 1e9 + (nanoseconds - thanNanoseconds)
}
