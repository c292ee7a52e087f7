// What a socket counts itself, and what the kernel counts for it.
import { check, native } from '../kernel/index.js'
import { SOL_XDP, XDP_STATISTICS } from './uapi.js'

/** Packets and bytes of one direction. */
export interface Traffic {
  packets: number
  bytes: number
}

/** The kernel's own counters of a socket (struct xdp_statistics; the last three from kernel 5.9). */
export interface KernelStatistics {
  /** Dropped for another reason than an empty fill or a full RX ring, such as a packet longer than a frame: `multiBuffer` takes those. */
  rxDropped: number
  /** Fill ring entries that were no frame. */
  rxInvalidDescriptors: number
  /** TX ring entries that were no packet. */
  txInvalidDescriptors: number
  /** Dropped because the RX ring was full: the reader is too slow. */
  rxRingFull: number
  /** Dropped because the fill ring was empty: too few frames, or the reader is too slow. */
  fillRingEmpty: number
  /** Times the kernel found nothing to send. */
  txRingEmpty: number
}

/** Where the frames are. The sum of all but `total` is `total`. */
export interface FrameCensus {
  total: number
  /** In the pool. */
  free: number
  /** With the kernel, to receive into. */
  fill: number
  /** Received, waiting in the RX ring. */
  rx: number
  /** Kept by the caller. */
  held: number
  /** With the kernel, to send. */
  tx: number
  /** Sent, waiting in the completion ring. */
  completion: number
}

/** Entries in each ring. */
export interface RingLevels {
  fill: number
  rx: number
  tx: number
  completion: number
}

/** One look at everything a socket counts. Counts are since it was opened. */
export interface SocketStatistics {
  /** Packets that handlers were given. */
  rx: Traffic
  /** Packets put in the TX ring. */
  tx: Traffic
  /** Packets not sent because the TX ring was full. Their frames were freed. */
  txDropped: number
  /** Batches received: `rx.packets / batches` is the mean batch. */
  batches: number
  /** System calls made to wake the kernel up. */
  wakeups: { rx: number; tx: number }
  kernel: KernelStatistics
  /** Entries in each ring now. */
  levels: RingLevels
  frames: FrameCensus
}

/** Slots of a socket's counter array. Plain numbers in a Float64Array: counting allocates nothing and is exact to 2^53. */
export const COUNTER = {
  rxPackets: 0,
  rxBytes: 1,
  txPackets: 2,
  txBytes: 3,
  txDropped: 4,
  batches: 5,
  rxWakeups: 6,
  txWakeups: 7,
} as const

export const COUNTERS = Object.keys(COUNTER).length

/** Further slots of a counter array that another thread reads: what only the driving thread knows about its frames. */
export const GAUGE = {
  /** Frames in the pool. */
  free: COUNTERS,
  held: COUNTERS + 1,
  /** Frames with the kernel for receiving, or in the RX ring. */
  lentRx: COUNTERS + 2,
  /** Own frames in the TX ring, with the kernel, or in the completion ring. */
  lentTx: COUNTERS + 3,
} as const

/** Slots of a counter array with its gauges. */
export const SHARED_COUNTERS = COUNTERS + Object.keys(GAUGE).length

/** Asks the kernel for its counters (XDP_STATISTICS). */
export function readKernelStatistics(fd: number): KernelStatistics {
  const answer = new DataView(new ArrayBuffer(48)) // older kernels fill in the first 24 bytes
  check(native.getsockopt(fd, SOL_XDP, XDP_STATISTICS, answer), 'getsockopt(XDP_STATISTICS)')
  const at = (index: number) => Number(answer.getBigUint64(index * 8, true))
  return {
    rxDropped: at(0),
    rxInvalidDescriptors: at(1),
    txInvalidDescriptors: at(2),
    rxRingFull: at(3),
    fillRingEmpty: at(4),
    txRingEmpty: at(5),
  }
}
