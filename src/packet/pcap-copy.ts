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
  let i = 0
  // By fours, so that the loads do not wait for the stores before them.
  for (; i + 16 <= length; i += 16) {
    const first = source.getInt32(fromOffset + i, true)
    const second = source.getInt32(fromOffset + i + 4, true)
    const third = source.getInt32(fromOffset + i + 8, true)
    const fourth = source.getInt32(fromOffset + i + 12, true)
    target.setInt32(toOffset + i, first, true)
    target.setInt32(toOffset + i + 4, second, true)
    target.setInt32(toOffset + i + 8, third, true)
    target.setInt32(toOffset + i + 12, fourth, true)
  }
  for (; i + 4 <= length; i += 4) target.setInt32(toOffset + i, source.getInt32(fromOffset + i, true), true)
  for (; i < length; i++) to[toOffset + i] = from[fromOffset + i]
}
