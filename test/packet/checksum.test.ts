// The Internet checksum: known values, and incremental update against computing it anew.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  buildPacket,
  checkL4Checksum,
  checksum,
  getU16,
  getU32,
  fold,
  Headers,
  ipv4ChecksumValid,
  onesSum,
  parseHeaders,
  setL4Checksum,
  setU16,
  setU32,
  udpWireChecksum,
  updateChecksum16,
  updateChecksum32,
  wordSum,
  wordsOf,
} from '../../src/packet/index.js'
import { frame, u16, u32 } from './generate.js'

/** RFC 1071 section 4.1, word by word in a plain way. */
function reference(bytes: Uint8Array): number {
  let sum = 0
  for (let i = 0; i < bytes.length; i += 2) {
    sum += bytes[i] * 256 + (i + 1 < bytes.length ? bytes[i + 1] : 0)
    while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 65536)
  }
  return sum
}

test('the example of RFC 1071 section 3', () => {
  const bytes = Uint8Array.of(0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7)
  assert.equal(onesSum(bytes, 0, 8), 0xddf2)
  assert.equal(checksum(bytes, 0, 8), 0x220d)
})

test('any bytes at any offset and length sum as the plain loop does, in one part or two', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat(7), fc.nat(300), (bytes, start, split) => {
      const part = bytes.subarray(start)
      assert.equal(onesSum(bytes, start, part.length), reference(part))
      const even = Math.min(split, part.length) & ~1
      assert.equal(
        onesSum(bytes, start + even, part.length - even, onesSum(bytes, start, even)),
        reference(part),
      )
    }),
    { numRuns: 500, seed: 1 },
  )
})

test('the words of memory sum as the plain loop does, from and to any byte', () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 400, maxLength: 400 }),
      fc.nat(200),
      fc.nat(200),
      fc.boolean(),
      (bytes, from, length, isFull) => {
        // All ones: every sum of words has a carry.
        if (isFull) bytes.fill(0xff)
        const sum = wordSum(wordsOf(bytes), bytes.byteOffset + from, bytes.byteOffset + from + length)
        const folded = fold(sum)
        assert.equal(((folded & 0xff) << 8) | (folded >>> 8), reference(bytes.subarray(from, from + length)))
      },
    ),
    { numRuns: 1000, seed: 4 },
  )
})

test('64 KiB of ones do not overflow, whatever byte they begin at', () => {
  const bytes = new Uint8Array(65_536 + 8).fill(0xff)
  for (let from = 0; from < 5; from++) {
    const sum = wordSum(wordsOf(bytes), from, from + 65_536)
    assert.ok(sum > 0 && sum < 2 ** 31)
    assert.equal(fold(sum), 0xffff)
  }
})

test('an array in the middle of its memory, and one whose memory ends with no whole word, sum as their bytes do', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 9, maxLength: 80 }), fc.nat(8), (memory, skip) => {
      const own = memory.slice()
      const part = new Uint8Array(own.buffer, skip)
      assert.equal(onesSum(part, 0, part.length), reference(part))
      // The last bytes alone, behind every whole word.
      assert.equal(onesSum(part, part.length - 1, 1), part[part.length - 1] << 8)
      assert.equal(onesSum(part, 0, 0), 0)
    }),
    { numRuns: 500, seed: 5 },
  )
})

test('lengths beyond any packet do not overflow', () => {
  const bytes = new Uint8Array(300_001).fill(0xff)
  assert.equal(onesSum(bytes, 0, bytes.length), reference(bytes))
  assert.equal(onesSum(bytes, 1, bytes.length - 1, 0xffffffff), 0xffff)
})

test('an incremental update equals computing anew', () => {
  const data = fc.uint8Array({ minLength: 8, maxLength: 64 }).filter((bytes) => bytes.length % 4 === 0)
  fc.assert(
    fc.property(data, fc.nat(), u16, u32, (bytes, where, word, long) => {
      // Of all-zero data 0xffff and 0x0000 are both a checksum (RFC 1624 section 3); no packet is all zero.
      bytes[0] |= 0x40
      const before = checksum(bytes, 0, bytes.length)
      const at = 2 + 2 * (where % (bytes.length / 2 - 3))
      const short = bytes.slice()
      setU16(short, at, word)
      assert.equal(updateChecksum16(before, getU16(bytes, at), word), checksum(short, 0, short.length))
      setU32(short, at, long)
      assert.equal(updateChecksum32(before, getU32(bytes, at), long), checksum(short, 0, short.length))
    }),
    { numRuns: 2000, seed: 2 },
  )
})

test("RFC 1624's own example does not yield 0xffff for 0x0000", () => {
  assert.equal(updateChecksum16(0xdd2f, 0x5555, 0x3285), 0x0000)
})

test('the sum over a correct header or message is zero, over a damaged one it is not', () => {
  const h = new Headers()
  fc.assert(
    fc.property(frame, fc.nat(), fc.integer({ min: 1, max: 255 }), ({ bytes }, where, flip) => {
      parseHeaders(bytes, 0, bytes.length, h)
      assert.equal(h.problem, 'none')
      if (h.l4Offset < 0) return
      if (h.ipVersion === 4) assert.ok(ipv4ChecksumValid(bytes, h.l3Offset))
      const check = () => checkL4Checksum(bytes, h.protocol, h.l3Offset, h.l4Offset, h.payloadEnd)
      assert.equal(check(), 'valid')
      bytes[h.l4Offset + (where % (h.payloadEnd - h.l4Offset))] ^= flip
      // One changed byte never cancels out; a UDP checksum that became 0 says that there is none.
      assert.notEqual(check(), 'valid')
    }),
    { numRuns: 500, seed: 3 },
  )
})

test('a UDP checksum that computes to zero goes out as 0xffff, and is right', () => {
  assert.equal(udpWireChecksum(0), 0xffff)
  assert.equal(udpWireChecksum(0xffff), 0xffff)
  assert.equal(udpWireChecksum(1), 1)
  for (const ip of [
    { ipv4: { src: '10.0.0.1', dst: '10.0.0.2' } },
    { ipv6: { src: 'fd00::1', dst: 'fd00::2' } },
  ]) {
    const udp = { srcPort: 1, dstPort: 2 }
    const probe = buildPacket({ ...ip, udp, payload: Uint8Array.of(0, 0) })
    const h = parseHeaders(probe, 0, probe.length, new Headers())
    // Adding the checksum itself to the data makes the new sum 0xffff, its complement 0.
    const payload = probe.slice(h.l4Offset + 6, h.l4Offset + 8)
    const bytes = buildPacket({ ...ip, udp, payload })
    assert.equal(getU16(bytes, h.l4Offset + 6), 0xffff)
    assert.equal(checkL4Checksum(bytes, 17, h.l3Offset, h.l4Offset, h.payloadEnd), 'valid')
  }
})

test('no UDP checksum is allowed over IPv4 and not over IPv6', () => {
  const udp = { srcPort: 1, dstPort: 2, checksum: 0 }
  for (const [packet, expected] of [
    [{ ipv4: { src: '10.0.0.1', dst: '10.0.0.2' }, udp }, 'absent'],
    [{ ipv6: { src: 'fd00::1', dst: 'fd00::2' }, udp }, 'invalid'],
  ] as const) {
    const bytes = buildPacket(packet)
    const h = parseHeaders(bytes, 0, bytes.length, new Headers())
    assert.equal(checkL4Checksum(bytes, h.protocol, h.l3Offset, h.l4Offset, h.payloadEnd), expected)
  }
})

test('protocols without a known checksum are left alone', () => {
  const bytes = buildPacket({ ipv4: { src: '10.0.0.1', dst: '10.0.0.2', protocol: 47 }, payload: 'gre' })
  const before = bytes.slice()
  assert.equal(setL4Checksum(bytes, 47, 14, 34, bytes.length), false)
  assert.equal(setL4Checksum(bytes, 6, 14, 34, bytes.length), false)
  assert.equal(checkL4Checksum(bytes, 47, 14, 34, bytes.length), 'unknown')
  assert.deepEqual(bytes, before)
})
