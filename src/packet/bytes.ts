// Network-order integers and small copies at an offset: no allocation, no bounds check of their own. Feed a
// hot loop one kind of array only: Buffer and Uint8Array have different hidden classes.

/** Whether `size` bytes at `offset` lie before `end` and inside the array. */
export function fits(bytes: Uint8Array, offset: number, end: number, size: number): boolean {
  return offset >= 0 && offset + size <= end && offset + size <= bytes.length
}

/** The big-endian 16-bit integer at `offset`. */
export function getU16(bytes: Uint8Array, offset: number): number {
  return (bytes[offset] << 8) | bytes[offset + 1]
}

/** Writes the low 16 bits of `value`, big-endian. */
export function setU16(bytes: Uint8Array, offset: number, value: number): void {
  bytes[offset] = value >>> 8
  bytes[offset + 1] = value
}

/** The big-endian 32-bit integer at `offset`, 0 to 2^32 - 1. */
export function getU32(bytes: Uint8Array, offset: number): number {
  return (
    ((bytes[offset] << 24) | (bytes[offset + 1] << 16) | (bytes[offset + 2] << 8) | bytes[offset + 3]) >>> 0
  )
}

/** Writes the low 32 bits of `value`, big-endian. */
export function setU32(bytes: Uint8Array, offset: number, value: number): void {
  bytes[offset] = value >>> 24
  bytes[offset + 1] = value >>> 16
  bytes[offset + 2] = value >>> 8
  bytes[offset + 3] = value
}

/** Whether `length` bytes of `a` at `aOffset` equal those of `b` at `bOffset`. */
export function equalBytes(
  a: Uint8Array,
  aOffset: number,
  b: Uint8Array,
  bOffset: number,
  length: number,
): boolean {
  for (let i = 0; i < length; i++) if (a[aOffset + i] !== b[bOffset + i]) return false
  return true
}

/** Copies a few bytes (an address) without making a view; the ranges must not overlap. */
export function copyBytes(
  to: Uint8Array,
  toOffset: number,
  from: Uint8Array,
  fromOffset: number,
  length: number,
): void {
  for (let i = 0; i < length; i++) to[toOffset + i] = from[fromOffset + i]
}

/** Exchanges `length` bytes at `a` with those at `b`; the ranges must not overlap. */
export function swapBytes(bytes: Uint8Array, a: number, b: number, length: number): void {
  for (let i = 0; i < length; i++) {
    const byte = bytes[a + i]
    bytes[a + i] = bytes[b + i]
    bytes[b + i] = byte
  }
}

let lastBytes: Uint8Array = new Uint8Array(0)
let lastView: DataView = new DataView(lastBytes.buffer)
const views = new WeakMap<Uint8Array, DataView>()

/**
 * The DataView over all of `bytes`: made once for an array, found by one comparison when the same array is asked
 * for again and again, as a UMEM is. A wide access through it costs a third of the byte by byte one.
 * Unlike the array it throws once its buffer is detached: compare with `bytes.length` first.
 */
export function viewOf(bytes: Uint8Array): DataView {
  return bytes === lastBytes ? lastView : switchView(bytes)
}

function switchView(bytes: Uint8Array): DataView {
  let view = views.get(bytes)
  if (!view) {
    view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
    views.set(bytes, view)
  }
  lastBytes = bytes
  lastView = view
  return view
}
