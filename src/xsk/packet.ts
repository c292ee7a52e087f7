// The packet a handler sees: one reused cursor into the UMEM, never a copy.

/**
 * What becomes of the frame: nothing said, it is free again; `'transmit'`, it leaves the way it came, from
 * `offset` over `length` bytes as the handler left them; `'hold'`, the caller keeps it and later gives
 * `frame` to `release` or `transmit`.
 */
export type Verdict = 'transmit' | 'hold' | undefined | void

/**
 * A received packet. The object is reused for the next packet, and the bytes belong to the caller only until
 * the handler returns (unless it holds the frame).
 */
export class XdpPacket {
  /** The whole UMEM; the packet is at `offset`. */
  readonly bytes: Uint8Array
  /** The same memory, to read and write numbers. */
  readonly view: DataView
  /** Where the packet's first byte is in `bytes`. A handler may move it within the frame before it transmits. */
  offset = 0
  /** Bytes of the packet. A handler may change it before it transmits. */
  length = 0
  /** Address of the frame that the packet is in; -1 once the handler has released or transmitted it by itself. */
  frame = 0
  /** The queue it came from. */
  readonly queue: number

  constructor(bytes: Uint8Array, view: DataView, queue: number) {
    this.bytes = bytes
    this.view = view
    this.queue = queue
  }

  /** A view of the packet's bytes: allocates, so not for every packet. */
  subarray(): Uint8Array {
    return this.bytes.subarray(this.offset, this.offset + this.length)
  }

  /** A copy of the packet's bytes, which outlives the handler. */
  copy(): Uint8Array {
    return this.bytes.slice(this.offset, this.offset + this.length)
  }
}

/** Called for each packet. What it throws ends the batch: that packet's frame is freed, the rest stay in the ring. */
export type PacketHandler = (packet: XdpPacket) => Verdict
