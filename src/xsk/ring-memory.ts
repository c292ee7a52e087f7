// Where a ring's parts are: views over the memory the kernel mapped, or over plain memory for a simulated ring.

/** The views of one ring. All of them die when the mapping they are over is closed. */
export interface RingMemory {
  /** Index of the next entry the producer will write: free-running, 32 bits. */
  producer: Uint32Array
  /** Index of the next entry the consumer will read: free-running, 32 bits. */
  consumer: Uint32Array
  /** Bit 0: XDP_RING_NEED_WAKEUP. */
  flags: Uint32Array
  /** The entries as 32-bit words: 2 words an address (fill, completion), 4 a descriptor (RX, TX). */
  entries: Uint32Array
  /** Entries of the ring: a power of two. */
  size: number
}

/** Byte offsets of a ring's parts in its mapping (struct xdp_ring_offset). */
export interface RingOffsets {
  producer: number
  consumer: number
  /** Absent in kernels before 5.4, which have no need_wakeup. */
  flags: number | undefined
  desc: number
}

/** 32-bit words of one entry. */
export const ADDRESS_WORDS = 2
export const DESCRIPTOR_WORDS = 4

/** Bytes to map for a ring. */
export function ringBytes(offsets: RingOffsets, size: number, words: number): number {
  return offsets.desc + size * words * 4
}

/** Lays the views of a ring over `buffer`. */
export function ringOver(
  buffer: ArrayBufferLike,
  offsets: RingOffsets,
  size: number,
  words: number,
): RingMemory {
  return {
    producer: new Uint32Array(buffer, offsets.producer, 1),
    consumer: new Uint32Array(buffer, offsets.consumer, 1),
    flags: offsets.flags === undefined ? new Uint32Array(1) : new Uint32Array(buffer, offsets.flags, 1),
    entries: new Uint32Array(buffer, offsets.desc, size * words),
    size,
  }
}

/** A ring in plain memory, both of whose ends are played in user space: for tests and benchmarks. `start` is the first index. */
export function simulatedRing(size: number, words: number, start = 0): RingMemory {
  const offsets = { producer: 0, consumer: 64, flags: 128, desc: 192 }
  const ring = ringOver(new ArrayBuffer(ringBytes(offsets, size, words)), offsets, size, words)
  ring.producer[0] = start
  ring.consumer[0] = start
  return ring
}
