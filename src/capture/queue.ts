// Packets that wait for a consumer: bounded in number and in bytes, in memory that is taken once.
import { OptionError } from '../kernel/errors.js'
import { MAX_CAPTURED_LENGTH, PacketRecord } from '../packet/pcap-record.js'

/** How much may wait. */
export interface QueueSize {
  /** Packets. Default 10000. */
  packets?: number | undefined
  /** Bytes of packets. Default 2048 for each packet, at least what the longest packet takes four times. */
  bytes?: number | undefined
}

/** First in, first out. What finds no room is refused; whoever pushes counts it. */
export class PacketQueue {
  readonly #slots: (PacketRecord | undefined)[]
  readonly #bytes: Uint8Array
  #first = 0
  #length = 0
  /** Where the bytes of the oldest packet begin, and those of the newest end. */
  #tail = 0
  #head = 0
  #ended = false
  #error: Error | undefined
  #waiting: { count: number; wake: () => void } | undefined

  /** Throws `OptionError`. */
  constructor(size: QueueSize = {}) {
    const { packets = 10_000 } = size
    if (!(Number.isInteger(packets) && packets >= 1 && packets <= 1 << 24))
      throw new OptionError('buffer', `${packets} packets cannot wait`, 'Use 1 to 16777216.')
    const { bytes: room = Math.max(packets * 2048, 4 * MAX_CAPTURED_LENGTH) } = size
    if (!(Number.isInteger(room) && room >= MAX_CAPTURED_LENGTH && room <= 2 ** 32))
      throw new OptionError('bufferBytes', `${room} bytes cannot wait`, `Use ${MAX_CAPTURED_LENGTH} to 2^32.`)
    this.#slots = new Array<PacketRecord | undefined>(packets).fill(undefined)
    // Zeroed pages that the system gives when they are first written to.
    this.#bytes = new Uint8Array(room)
  }

  get length(): number {
    return this.#length
  }

  /** How full it is, by packets or by bytes, whichever is more: 0 to 1. */
  get level(): number {
    return Math.max(this.#length / this.#slots.length, this.#used() / this.#bytes.length)
  }

  /** Copies a packet. False when there is no room for it. */
  push(packet: PacketRecord): boolean {
    if (this.#length === this.#slots.length) return false
    // An empty packet takes a byte too: ends that meet would say that everything is free.
    const room = Math.max(packet.length, 1)
    const at = this.#place(room)
    if (at < 0) return false
    const index = (this.#first + this.#length) % this.#slots.length
    const slot = (this.#slots[index] ??= new PacketRecord())
    const { bytes, offset, length } = packet
    // Short packets are most packets, and a view for each costs more than their bytes.
    if (length <= 96) for (let i = 0; i < length; i++) this.#bytes[at + i] = bytes[offset + i]
    else this.#bytes.set(bytes.subarray(offset, offset + length), at)
    slot.bytes = this.#bytes
    slot.offset = at
    slot.length = length
    slot.wireLength = packet.wireLength
    slot.seconds = packet.seconds
    slot.nanoseconds = packet.nanoseconds
    slot.interfaceId = packet.interfaceId
    slot.linkType = packet.linkType
    slot.direction = packet.direction
    slot.queue = packet.queue
    slot.verdict = packet.verdict
    slot.packetId = packet.packetId
    slot.dropCount = packet.dropCount
    this.#length++
    this.#head = at + room
    return true
  }

  /** The packet number `index` from the oldest on: a view that is valid until it is taken out. */
  peek(index = 0): PacketRecord | undefined {
    return index < this.#length ? this.#slots[(this.#first + index) % this.#slots.length] : undefined
  }

  /** Takes the oldest `count` packets out. */
  drop(count: number): void {
    const taken = Math.min(count, this.#length)
    if (taken === 0) return
    this.#first = (this.#first + taken) % this.#slots.length
    this.#length -= taken
    this.#tail = this.peek()?.offset ?? this.#head
    if (this.#length === 0) this.#tail = this.#head = 0
  }

  /** Wakes whoever waits for as many packets as there are now: once a batch, not once a packet. */
  notify(): void {
    if (this.#waiting && (this.#length >= this.#waiting.count || this.#ended)) this.#wake()
  }

  /** No more packets come. Those that wait may still be taken. */
  end(error?: Error): void {
    if (this.#ended) return
    this.#ended = true
    this.#error = error
    this.#wake()
  }

  get ended(): boolean {
    return this.#ended
  }

  /** What ended it. */
  get error(): Error | undefined {
    return this.#error
  }

  /** Resolves when `count` packets are there, or one is and `timeoutMs` are over, or no more come. One may wait at a time. */
  async wait(count = 1, timeoutMs = 0): Promise<void> {
    if (this.#length === 0 && !this.#ended) await this.#until(1)
    const wanted = Math.min(count, this.#slots.length)
    if (this.#length >= wanted || this.#ended || timeoutMs <= 0) return
    const timer = setTimeout(() => this.#wake(), timeoutMs)
    await this.#until(wanted)
    clearTimeout(timer)
  }

  #until(count: number): Promise<void> {
    return new Promise((wake) => (this.#waiting = { count, wake }))
  }

  #wake(): void {
    const { wake } = this.#waiting ?? {}
    this.#waiting = undefined
    wake?.()
  }

  #used(): number {
    if (this.#length === 0) return 0
    const used = this.#head - this.#tail
    return used > 0 ? used : used + this.#bytes.length
  }

  /** Where `length` bytes in one piece are free; -1 for nowhere. A full ring is never one whose ends meet. */
  #place(length: number): number {
    const [head, tail, size] = [this.#head, this.#tail, this.#bytes.length]
    if (this.#length === 0) return length <= size ? 0 : -1
    if (head > tail) {
      if (head + length <= size) return head
      return length < tail ? 0 : -1
    }
    return head + length < tail ? head : -1
  }
}
