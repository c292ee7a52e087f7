// Checksums and replies of UDP frames, held to the packet floor's byte by byte ones.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import {
  Headers,
  buildPacket,
  checkL4Checksum,
  formatIp,
  ipv4ChecksumValid,
  parseHeaders,
} from '../../src/packet/index.js'
import { checksumsValid, turnAround } from '../../src/serve/udp-frame.js'

const SEED = 20

const memory = (bytes: Uint8Array) => ({
  bytes,
  view: new DataView(bytes.buffer),
  words: new Int32Array(bytes.buffer),
})

/** A frame somewhere in a larger memory, as in a UMEM. */
const frames = fc
  .record({
    is4: fc.boolean(),
    vlan: fc.option(fc.integer({ min: 1, max: 4094 }), { nil: undefined }),
    srcPort: fc.integer({ min: 1, max: 65_535 }),
    dstPort: fc.integer({ min: 1, max: 65_535 }),
    hosts: fc.tuple(fc.integer({ min: 1, max: 254 }), fc.integer({ min: 1, max: 254 })),
    payload: fc.uint8Array({ maxLength: 200 }),
    padTo: fc.constantFrom(0, 60),
    offset: fc.integer({ min: 0, max: 300 }),
  })
  .map(({ is4, vlan, srcPort, dstPort, hosts, payload, padTo, offset }) => {
    const [src, dst] = hosts.map((host) => (is4 ? `198.51.100.${host}` : `2001:db8::${host}:1`))
    const frame = buildPacket({
      ethernet: { src: '02:00:00:00:00:02', dst: '02:00:00:00:00:01' },
      ...(vlan === undefined ? {} : { vlans: [{ id: vlan, priority: 5 }] }),
      ...(is4 ? { ipv4: { src, dst } } : { ipv6: { src, dst } }),
      udp: { srcPort, dstPort },
      payload,
      ...(padTo > 0 && { padTo }),
    })
    // Room for a longer answer, and rubbish all around.
    const bytes = new Uint8Array((offset + frame.length + 300) & ~3).fill(0xa5)
    bytes.set(frame, offset)
    return { ...memory(bytes), offset, length: frame.length, payload, src, dst, vlan }
  })

const isRight = (bytes: Uint8Array, h: Headers): boolean =>
  (h.ipVersion === 6 || ipv4ChecksumValid(bytes, h.l3Offset)) &&
  ['valid', 'absent'].includes(checkL4Checksum(bytes, 17, h.l3Offset, h.l4Offset, h.payloadEnd))

/** What can be read in a frame. */
function read(bytes: Uint8Array, h: Headers) {
  const [at, size] = h.ipVersion === 4 ? [h.l3Offset + 12, 4] : [h.l3Offset + 8, 16]
  const mac = (from: number) =>
    Buffer.from(bytes.subarray(h.offset + from, h.offset + from + 6)).toString('hex')
  return {
    macs: [mac(0), mac(6)],
    src: formatIp(bytes.subarray(at, at + size)),
    dst: formatIp(bytes.subarray(at + size, at + 2 * size)),
    ports: [h.srcPort, h.dstPort],
    vlan: h.outerVlan,
    payload: Buffer.from(bytes.subarray(h.payloadOffset, h.payloadEnd)).toString('hex'),
  }
}

describe('a UDP frame', () => {
  it('is found right when it is, and damaged when any byte or two of it are', () => {
    fc.assert(
      fc.property(
        frames,
        fc.nat(),
        fc.integer({ min: 1, max: 255 }),
        fc.nat(),
        (frame, where, change, other) => {
          const { bytes, view, words, offset, length } = frame
          const h = parseHeaders(bytes, offset, length, new Headers())
          assert.ok(checksumsValid(view, words, h))
          // Behind what the headers are found by: addresses, checksums, payload.
          const from = h.ipVersion === 4 ? h.l3Offset + 10 : h.l3Offset + 8
          const [first, second] = [where, other].map((n) => from + (n % (h.payloadEnd - from)))
          for (const at of [first, second]) {
            if (at >= h.l4Offset + 4 && at < h.l4Offset + 6) continue // the length
            bytes[at] ^= change
            assert.equal(checksumsValid(view, words, h), isRight(bytes, h))
          }
        },
      ),
      { seed: SEED, numRuns: 500 },
    )
  })

  it('is right without a checksum over IPv4, and with the sum of the pseudo-header alone, but not without one over IPv6', () => {
    fc.assert(
      fc.property(frames, ({ bytes, view, words, offset, length }) => {
        const h = parseHeaders(bytes, offset, length, new Headers())
        view.setUint16(h.l4Offset + 6, 0)
        assert.equal(checksumsValid(view, words, h), h.ipVersion === 4)
        // RFC 768, RFC 8200 section 8.1: the addresses, the protocol, the length.
        let sum = 17 + h.payloadEnd - h.l4Offset
        const from = h.l3Offset + (h.ipVersion === 4 ? 12 : 8)
        for (let at = from; at < h.l4Offset; at += 2) sum += view.getUint16(at)
        while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
        view.setUint16(h.l4Offset + 6, sum)
        assert.ok(checksumsValid(view, words, h))
      }),
      { seed: SEED, numRuns: 200 },
    )
  })

  it('turns into an answer of any length to its sender, with right checksums', () => {
    fc.assert(
      fc.property(frames, fc.uint8Array({ maxLength: 250 }), fc.boolean(), (frame, other, isSame) => {
        const { bytes, view, words, offset, length, payload, src, dst, vlan } = frame
        const h = parseHeaders(bytes, offset, length, new Headers())
        const asked = read(bytes, h)
        const answer = isSame ? payload : other
        bytes.set(answer, h.payloadOffset)
        const before = bytes.slice(0, offset)
        const behind = bytes.slice(h.payloadOffset + answer.length)
        const size = turnAround(view, words, h, answer.length)
        const turned = parseHeaders(bytes, offset, size, new Headers())
        assert.equal(turned.problem, 'none')
        assert.equal(turned.payloadEnd, offset + size)
        assert.ok(isRight(bytes, turned))
        assert.notEqual(view.getUint16(turned.l4Offset + 6), 0)
        assert.deepEqual(read(bytes, turned), {
          macs: asked.macs.toReversed(),
          src: asked.dst,
          dst: asked.src,
          ports: asked.ports.toReversed(),
          vlan: vlan ?? -1,
          payload: Buffer.from(answer).toString('hex'),
        })
        assert.deepEqual([asked.src, asked.dst], [src, dst])
        assert.deepEqual(bytes.slice(0, offset), before)
        assert.deepEqual(bytes.slice(offset + size), behind)
      }),
      { seed: SEED, numRuns: 500 },
    )
  })

  it('sends a sum that comes to 0 as 0xffff', () => {
    const bytes = Uint8Array.from(
      buildPacket({
        ethernet: { src: '02:00:00:00:00:02', dst: '02:00:00:00:00:01' },
        ipv4: { src: '198.51.100.2', dst: '198.51.100.1' },
        udp: { srcPort: 9, dstPort: 9 },
        payload: Uint8Array.of(0, 0),
      }),
    )
    const { view, words } = memory(bytes)
    const h = parseHeaders(bytes, 0, bytes.length, new Headers())
    // With the checksum as the payload the rest sums to what a checksum of 0 stands for.
    view.setUint16(h.payloadOffset, view.getUint16(h.l4Offset + 6))
    turnAround(view, words, h, 2)
    assert.equal(view.getUint16(h.l4Offset + 6), 0xffff)
    assert.ok(isRight(bytes, h))
  })
})
