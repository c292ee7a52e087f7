// The Internet checksum (RFC 1071): sums, folding, incremental update (RFC 1624), the UDP zero rule.

// Bytes of a block whose sum is sure to stay below 2^31.
const BLOCK = 1 << 16

let lastBytes: Uint8Array = new Uint8Array(0)
let lastWords: Int32Array = new Int32Array(0)
const wordsByArray = new WeakMap<Uint8Array, Int32Array>()

/**
 * All whole words of 32 bits in the memory that `bytes` is part of, from the memory's first byte on: an offset in `bytes` is
 * one of `bytes.byteOffset` more in there. Made once for an array, and found by one comparison when the same one is asked for
 * again and again, as a UMEM is.
 */
export function wordsOf(bytes: Uint8Array): Int32Array {
  return bytes === lastBytes ? lastWords : switchWords(bytes)
}

function switchWords(bytes: Uint8Array): Int32Array {
  let words = wordsByArray.get(bytes)
  if (!words) {
    words = new Int32Array(bytes.buffer, 0, bytes.buffer.byteLength >>> 2)
    wordsByArray.set(bytes, words)
  }
  lastBytes = bytes
  lastWords = words
  return words
}

/**
 * The ones' complement sum of the bytes in `[from, to)`, at most 64 KiB, as little-endian 16-bit words (an odd last byte is padded
 * with zero), not folded: below 2^31. `from` and `to` count bytes from the start of `words`, and need no alignment. The
 * order of bytes makes no difference to such a sum but for their order in it (RFC 1071 section 2), and this one no
 * machine that is supported has to turn round: 1400 bytes take a quarter less time than by the best loop over a DataView.
 */
export function wordSum(words: Int32Array, from: number, to: number): number {
  if (to <= from) return 0
  const last = to >>> 2
  let at = from >>> 2
  let word = words[at] & (-1 << ((from & 3) << 3))
  // The sum of all, of which the lower 32 bits are kept, and of the upper halves: what is left for the lower ones is exact.
  let all = 0
  let upper = 0
  if (at < last) {
    all = word
    upper = word >>> 16
    at++
    for (const stop = last - 7; at < stop; at += 8) {
      const a = words[at]
      const b = words[at + 1]
      const c = words[at + 2]
      const d = words[at + 3]
      const e = words[at + 4]
      const f = words[at + 5]
      const g = words[at + 6]
      const h = words[at + 7]
      all = (all + a + b + c + d + e + f + g + h) | 0
      upper =
        (upper +
          (a >>> 16) +
          (b >>> 16) +
          (c >>> 16) +
          (d >>> 16) +
          (e >>> 16) +
          (f >>> 16) +
          (g >>> 16) +
          (h >>> 16)) |
        0
    }
    for (; at < last; at++) {
      word = words[at]
      all = (all + word) | 0
      upper = (upper + (word >>> 16)) | 0
    }
    word = (to & 3) === 0 ? 0 : words[last]
  }
  word &= ~(-1 << ((to & 3) << 3))
  all = (all + word) | 0
  upper = (upper + (word >>> 16)) | 0
  // Each less than 2^30: said to be an integer, or V8 would add floating-point numbers.
  const sum = (upper + ((all - (upper << 16)) | 0)) | 0
  // Words of 16 bits lie across those of the memory: every byte was in the other half.
  return (from & 1) === 0 ? sum : swap16(fold(sum))
}

function swap16(word: number): number {
  return ((word & 0xff) << 8) | (word >>> 8)
}

/**
 * The ones' complement sum of `length` bytes as big-endian words (an odd last byte is padded with zero), added
 * to `initial` and folded to 16 bits. Sums chain through `initial` wherever the parts before have even length.
 */
export function onesSum(bytes: Uint8Array, offset: number, length: number, initial = 0): number {
  const words = wordsOf(bytes)
  const start = bytes.byteOffset + offset
  const end = start + length
  // Behind the last whole word of the memory there may be up to three bytes.
  const covered = words.byteLength < end ? words.byteLength : end
  let sum = 0
  for (let at = start; at < covered; at += BLOCK) {
    sum = fold(sum + fold(wordSum(words, at, covered - at > BLOCK ? at + BLOCK : covered)))
  }
  for (let at = covered < start ? start : covered; at < end; at++) {
    sum += bytes[at - bytes.byteOffset] << (((at - start) & 1) << 3)
  }
  return fold(swap16(fold(sum)) + fold(initial))
}

/** A sum of up to 32 bits folded to 16 with end-around carry. */
export function fold(sum: number): number {
  const once = (sum & 0xffff) + (sum >>> 16)
  return (once & 0xffff) + (once >>> 16)
}

/**
 * The checksum to store over these bytes (its own field holding zero). Over bytes that hold a right
 * checksum already the result is 0.
 */
export function checksum(bytes: Uint8Array, offset: number, length: number, initial = 0): number {
  return ~onesSum(bytes, offset, length, initial) & 0xffff
}

/**
 * The checksum after a 16-bit word changed from `before` to `after` (RFC 1624 equation 3). The word must lie
 * at an even distance from the start of the summed bytes. A wrong checksum stays wrong by as much.
 */
export function updateChecksum16(current: number, before: number, after: number): number {
  return ~fold((~current & 0xffff) + (~before & 0xffff) + after) & 0xffff
}

/** The same for a 32-bit field: an address, a sequence number. */
export function updateChecksum32(current: number, before: number, after: number): number {
  const upper = (~current & 0xffff) + (~(before >>> 16) & 0xffff) + (after >>> 16)
  return ~fold(upper + (~before & 0xffff) + (after & 0xffff)) & 0xffff
}

/**
 * A computed UDP checksum as it goes on the wire: 0 is sent as 0xffff, its equal in ones' complement, because
 * 0 says "no checksum" (RFC 768; forbidden over IPv6, RFC 8200 section 8.1).
 */
export function udpWireChecksum(computed: number): number {
  return computed === 0 ? 0xffff : computed
}
