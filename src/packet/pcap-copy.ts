// Copying a packet from one array to another, as fast as the language allows.
import { viewOf } from './bytes.js'

/**
 * Up to here a loop wins over `set`, whose fixed cost is a view of the source: measured, the two meet at 128 bytes,
 * and at 1500 `set` is ten times as fast. So a long packet costs one short-lived view, and nothing else.
 */
const LOOP_LIMIT = 128

const same: { from: Uint8Array; view: DataView } = {
  from: new Uint8Array(0),
  view: new DataView(new ArrayBuffer(0)),
}

/** Copies `length` bytes between two different arrays; the caller has checked that both ranges are inside. */
export function copyRange(
  to: Uint8Array,
  toOffset: number,
  from: Uint8Array,
  fromOffset: number,
  length: number,
): void {
  if (length > LOOP_LIMIT) {
    to.set(from.subarray(fromOffset, fromOffset + length), toOffset)
    return
  }
  // The view of the source is kept here and that of the target by `viewOf`, or they would push each other out.
  if (from !== same.from) {
    same.from = from
    same.view = new DataView(from.buffer, from.byteOffset, from.length)
  }
  const source = same.view
  const target = viewOf(to)
  const words = length & ~3
  for (let i = 0; i < words; i += 4)
    target.setInt32(toOffset + i, source.getInt32(fromOffset + i, true), true)
  for (let i = words; i < length; i++) to[toOffset + i] = from[fromOffset + i]
}
