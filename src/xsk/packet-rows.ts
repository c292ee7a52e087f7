// A whole batch of received packets as rows of numbers: where each one is, and no call for any of them.
import { OptionError } from '../kernel/index.js'
import type { FillRing } from './fill-ring.js'
import type { FramePool } from './frame-pool.js'
import type { RxRing } from './rx-ring.js'
import { XDP_PKT_CONTD } from './uapi.js'

/** Where `XdpSocket.receiveBatch` writes what it found. The caller's own, to be used again for each batch. */
export interface PacketRows {
  /** A row for each packet of a batch: the offset of its first byte in the UMEM, its length, and words of the caller's own. */
  readonly rows: Uint32Array
  /** Words of a row: at least 2. */
  readonly stride: number
  /** The word of a row that is the length. Default 1; the offset is word 0. */
  readonly lengthAt?: number | undefined
  /** A batch ends before the packet that would make it longer than so many bytes; the first is always taken. Default: no limit. */
  readonly bytes?: number | undefined
}

/** Called once for a batch of `count` packets, which are the first rows. Their bytes are valid during the call only. */
export type RowsHandler = (count: number) => void

/** What `readRows` found. */
export interface RowsRead {
  packets: number
  bytes: number
}

/** Throws `OptionError` for rows that hold no packet. */
export function checkRows({ rows, stride, lengthAt = 1 }: PacketRows): void {
  const isPlace = Number.isInteger(lengthAt) && lengthAt >= 1 && lengthAt < stride
  if (Number.isInteger(stride) && isPlace && rows.length >= stride) return
  throw new OptionError('rows', `Rows of ${stride} words, ${rows.length} in all, hold no packet`)
}

/** Writes down the first packets of the ring that are in one frame each, `ready` at most. */
export function readRows(rx: RxRing, ready: number, into: PacketRows, read: RowsRead): void {
  const { rows, stride, lengthAt = 1, bytes: most = Infinity } = into
  const room = Math.floor(rows.length / stride)
  const count = ready < room ? ready : room
  // The ring's own accessors would look at each of these anew for every packet.
  const { entries, mask } = rx
  const first = rx.next | 0
  let bytes = 0
  let index = 0
  for (let at = 0; index < count; index++, at += stride) {
    const word = ((first + index) & mask) << 2
    const length = entries[word + 2]
    if ((entries[word + 3] & XDP_PKT_CONTD) !== 0 || (bytes + length > most && index > 0)) break
    bytes += length
    rows[at] = entries[word]
    rows[at + lengthAt] = length
  }
  read.packets = index
  read.bytes = bytes
}

/**
 * Gives the frames of the first `count` descriptors back: straight into the fill ring, as far as there is room, for by way of
 * the pool they would cost twice as much. Answers how many went there.
 */
export function returnFrames(
  rx: RxRing,
  count: number,
  fill: FillRing,
  pool: FramePool,
  frameMask: number,
): number {
  const slots = pool.tracked ? 0 : fill.reserve(count)
  const { entries, mask } = rx
  const first = rx.next | 0
  const { entries: fillEntries, mask: fillMask } = fill
  const fillFirst = fill.next | 0
  for (let i = 0; i < slots; i++)
    fillEntries[((fillFirst + i) & fillMask) << 1] = entries[((first + i) & mask) << 2] & frameMask
  for (let i = slots; i < count; i++) pool.put(rx.address(i))
  fill.commit(slots)
  return slots
}
