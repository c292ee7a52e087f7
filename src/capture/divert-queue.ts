// The packets of one queue of a diverting capture: from the socket's ring into a batch, their frames kept until it was seen.
import { INBOUND } from '../packet/pcap-batch.js'
import type { RunOptions, XdpPacket, XdpSocket } from '../xsk/index.js'
import { STAMP_BYTES } from './divert-program.js'
import type { LiveSource } from './engine-live.js'

/** Room for what veth and GRO make of TCP; grows for longer ones. */
const GATHER_BYTES = 65_536 + 256

/** So much may a packet have come before the one in front of it: nanoseconds. What is older is no time that was written for it. */
const DISORDER = 1e6

/** Fills the batch of a source from one socket, and hands it on. */
export class DivertQueue {
  readonly #socket: XdpSocket
  readonly #live: LiveSource
  /** Frames of the packets that were handed on last: free again when the next ones come. */
  readonly #held: Uint32Array
  #holds = 0
  /** CLOCK_MONOTONIC when packets were last looked for, and when the last one came. */
  #now = 0
  #last = 0
  // Where packets of several frames are put together.
  #gathered = new Uint8Array(0)
  /** Called behind what `run` handed on. */
  #handedOn = (): void => undefined

  constructor(socket: XdpSocket, live: LiveSource) {
    this.#socket = socket
    this.#live = live
    this.#held = new Uint32Array(live.batch.capacity)
    this.#last = live.clock.now()
  }

  /** Hands on what is there, a batch of the socket at most; how many packets that was. */
  receive(): number {
    if (this.#socket.closed) return 0
    const count = this.#socket.receive(this.#onPacket)
    this.#handOn()
    return count
  }

  /** Hands on packets as they come, and calls `handedOn` each time. See `XdpSocket.run`. */
  async run(handedOn: () => void, options: RunOptions): Promise<void> {
    if (this.#socket.closed) return
    this.#handedOn = handedOn
    await this.#socket.run(this.#onReady, options)
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
    this.#handedOn()
  }

  readonly #onPacket = (received: XdpPacket): 'hold' | undefined => {
    const live = this.#live
    if (live.hasEnded) return undefined
    const { batch, clock } = live
    if (batch.count === 0) this.#begin()
    clock.read(this.#arrivalOf(received))
    const wireLength = received.totalLength
    if (received.length < wireLength) {
      this.#takeLong(received, wireLength)
      return undefined
    }
    const captured = wireLength < live.snapLength ? wireLength : live.snapLength
    const { seconds, nanoseconds } = clock
    batch.add(received.offset, captured, wireLength, seconds, nanoseconds, received.queue, INBOUND)
    this.#held[this.#holds++] = received.frame
    if (live.isFull) this.#handOn()
    return 'hold'
  }

  /** The first packet of a batch. */
  #begin(): void {
    const { batch, clock } = this.#live
    batch.begin(this.#socket.bytes)
    this.#now = clock.now()
    for (let i = 0; i < this.#holds; i++) this.#socket.release(this.#held[i])
    this.#holds = 0
  }

  /** What the program wrote in front of the packet, if that can be: before now, and not far before the last packet. */
  #arrivalOf({ view, offset }: XdpPacket): number {
    const at = offset - STAMP_BYTES
    const time = view.getUint32(at + 4, true) * 0x1_0000_0000 + view.getUint32(at, true)
    const last = this.#last
    if (time > this.#now) this.#now = this.#live.clock.now()
    if (time > this.#now || time < last - DISORDER) return (this.#last = this.#now)
    // Processors that share a queue may be out of order: times only grow.
    return time > last ? (this.#last = time) : last
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
    const { seconds, nanoseconds } = live.clock
    live.batch.begin(this.#gathered)
    live.batch.add(
      0,
      Math.min(length, live.snapLength),
      length,
      seconds,
      nanoseconds,
      received.queue,
      INBOUND,
    )
    this.#handOn()
  }
}
