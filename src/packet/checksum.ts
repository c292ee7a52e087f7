// The Internet checksum (RFC 1071): sums, folding, incremental update (RFC 1624), the UDP zero rule.

// Pairs of bytes per round: 2^15 words of at most 2^16 keep the running sum below 2^31.
const BLOCK = 1 << 16

/**
 * The ones' complement sum of `length` bytes as big-endian words (an odd last byte is padded with zero), added
 * to `initial` and folded to 16 bits. Sums chain through `initial` wherever the parts before have even length.
 */
export function onesSum(bytes: Uint8Array, offset: number, length: number, initial = 0): number {
  let sum = fold(initial)
  const end = offset + length
  const even = end - (length & 1)
  let i = offset
  while (i < even) {
    const stop = even - i > BLOCK ? i + BLOCK : even
    let high = 0
    let low = 0
    for (; i + 7 < stop; i += 8) {
      high += bytes[i] + bytes[i + 2] + bytes[i + 4] + bytes[i + 6]
      low += bytes[i + 1] + bytes[i + 3] + bytes[i + 5] + bytes[i + 7]
    }
    for (; i < stop; i += 2) {
      high += bytes[i]
      low += bytes[i + 1]
    }
    // high < 2^23, so its shift stays below 2^31; each part is folded before the next is added.
    sum = fold(fold(high << 8) + low + sum)
  }
  return length & 1 ? fold(sum + (bytes[even] << 8)) : sum
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
