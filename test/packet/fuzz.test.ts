// Hostile input: nothing throws, nothing outside the packet is read or written, and the dissector on the hot
// path agrees with the decoders, header by header.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  decodeArp,
  decodeEthernet,
  decodeIcmp,
  decodeIcmp6,
  decodeIpv4,
  decodeIpv6,
  decodeNeighbour,
  decodeTcp,
  decodeUdp,
  decodeVlan,
  encodeArp,
  encodeEthernet,
  encodeIcmp,
  encodeIpv4,
  encodeIpv6,
  encodeNeighbour,
  encodeTcp,
  encodeUdp,
  encodeVlan,
  Headers,
  isVlanType,
  parseHeaders,
  type Problem,
  replyToArp,
  replyToEcho,
  replyToNeighbourSolicitation,
} from '../../src/packet/index.js'
import { frame, hostileFrame } from './generate.js'

const decoders = [
  decodeEthernet,
  decodeVlan,
  decodeArp,
  decodeIpv4,
  decodeIpv6,
  decodeIcmp,
  decodeIcmp6,
  decodeNeighbour,
  decodeUdp,
  decodeTcp,
]
const LEAD = 37

/** The packet inside a larger array that is full of `canary`. */
function embed(packet: Uint8Array, canary: number): Uint8Array {
  const bytes = new Uint8Array(LEAD + packet.length + 100).fill(canary)
  bytes.set(packet, LEAD)
  return bytes
}

test('what surrounds a packet changes nothing, and an array that ends with it suffices', () => {
  fc.assert(
    fc.property(hostileFrame, fc.nat(60), (packet, start) => {
      const within = Math.min(start, packet.length)
      const end = LEAD + packet.length
      const around = [0x00, 0xff, 0x45].map((canary) => embed(packet, canary))
      around.push(around[0].slice(0, end))
      for (const decode of decoders) {
        const [first, ...others] = around.map((bytes) => decode(bytes, LEAD + within, end))
        for (const other of others) assert.deepEqual(other, first)
      }
      const [first, ...others] = around.map((bytes) =>
        parseHeaders(bytes, LEAD, packet.length, new Headers()),
      )
      for (const other of others) assert.deepEqual(other, first)
    }),
    { numRuns: 3000, seed: 1 },
  )
})

test('every prefix of a good frame is dissected without an exception', () => {
  const h = new Headers()
  fc.assert(
    fc.property(frame, ({ bytes }) => {
      for (let length = 0; length < bytes.length; length++) {
        parseHeaders(bytes.slice(0, length), 0, length, h)
        for (const at of [h.l3Offset, h.l4Offset, h.payloadOffset, h.payloadEnd]) assert.ok(at <= length)
        assert.ok(h.payloadOffset <= h.payloadEnd || h.problem !== 'none')
      }
    }),
    { numRuns: 100, seed: 2 },
  )
})

/** What `parseHeaders` should find, made of the decoders; undefined if only options are bad, which it leaves alone. */
function reference(bytes: Uint8Array, offset: number, length: number): Headers | undefined {
  const h = new Headers()
  h.offset = offset
  h.end = offset + length
  const stop = (problem: Problem) => {
    if (h.problem === 'none') h.problem = problem
    return h
  }
  const ethernet = decodeEthernet(bytes, offset, h.end)
  if (ethernet.problem) return stop(ethernet.problem)
  let at = ethernet.payloadOffset
  h.etherType = ethernet.etherType
  while (isVlanType(h.etherType)) {
    const vlan = decodeVlan(bytes, at, h.end)
    if (vlan.problem) return stop(vlan.problem)
    h.vlanCount++
    if (h.vlanCount === 1) h.outerVlan = vlan.id
    else h.innerVlan = vlan.id
    h.etherType = vlan.etherType
    at = vlan.payloadOffset
  }
  h.l3Offset = at
  if (h.etherType === 0x0806) {
    const arp = decodeArp(bytes, at, h.end)
    return arp.problem ? stop(arp.problem) : h
  }
  if (h.etherType !== 0x0800 && h.etherType !== 0x86dd) {
    h.payloadOffset = at
    h.payloadEnd = h.etherType < 0x0600 ? Math.min(at + h.etherType, h.end) : h.end
    return h
  }
  if (h.etherType === 0x0800) {
    const ip = decodeIpv4(bytes, at, h.end)
    if (ip.problem === 'bad-ipv4-option') return undefined
    if (ip.problem) return stop(ip.problem)
    h.ipVersion = 4
    if (ip.truncated) stop('ipv4-truncated')
    h.fragment = ip.fragmentOffset > 0 ? 'later' : ip.moreFragments ? 'first' : 'none'
    h.protocol = ip.protocol
    h.payloadOffset = ip.payloadOffset
    h.payloadEnd = ip.payloadEnd
  } else {
    const ip = decodeIpv6(bytes, at, h.end)
    // Where in a broken chain the dissector stopped is its own affair.
    if (ip.problem === 'short-ipv6-extension' || ip.problem === 'bad-ipv6-extension-order') return undefined
    if (ip.problem) return stop(ip.problem)
    h.ipVersion = 6
    if (ip.truncated) stop('ipv6-truncated')
    for (const extension of ip.extensions) {
      if (extension.header !== 44) continue
      if (extension.fragmentOffset > 0) h.fragment = 'later'
      else if (extension.moreFragments) h.fragment = 'first'
    }
    h.protocol = ip.protocol
    h.payloadOffset = ip.payloadOffset
    h.payloadEnd = ip.payloadEnd
  }
  if (h.fragment === 'later' || (h.ipVersion === 6 && h.protocol === 59)) return h
  return referenceL4(bytes, h, stop)
}

function referenceL4(
  bytes: Uint8Array,
  h: Headers,
  stop: (problem: Problem) => Headers,
): Headers | undefined {
  const at = h.payloadOffset
  h.l4Offset = at
  if (h.protocol === 17) {
    const udp = decodeUdp(bytes, at, h.payloadEnd)
    if (udp.problem === 'bad-udp-length') {
      h.srcPort = (bytes[at] << 8) | bytes[at + 1]
      h.dstPort = (bytes[at + 2] << 8) | bytes[at + 3]
    }
    if (udp.problem) return stop(udp.problem)
    h.srcPort = udp.srcPort
    h.dstPort = udp.dstPort
    h.payloadOffset = udp.payloadOffset
    h.payloadEnd = udp.payloadEnd
    return udp.truncated && h.fragment === 'none' ? stop('udp-truncated') : h
  }
  if (h.protocol === 6) {
    const tcp = decodeTcp(bytes, at, h.payloadEnd)
    if (tcp.problem === 'bad-tcp-option' || tcp.problem === 'bad-tcp-data-offset') return undefined
    if (tcp.problem) return stop(tcp.problem)
    h.srcPort = tcp.srcPort
    h.dstPort = tcp.dstPort
    h.payloadOffset = tcp.payloadOffset
    return h
  }
  if (h.protocol === (h.ipVersion === 4 ? 1 : 58)) {
    const icmp = (h.ipVersion === 4 ? decodeIcmp : decodeIcmp6)(bytes, at, h.payloadEnd)
    if (icmp.problem) return stop(icmp.problem)
    h.payloadOffset = icmp.payloadOffset
  }
  return h
}

test('the dissector finds what the decoders find', () => {
  let compared = 0
  const check = (packet: Uint8Array) => {
    const bytes = embed(packet, 0xa5)
    const expected = reference(bytes, LEAD, packet.length)
    if (!expected) return
    compared++
    assert.deepEqual(parseHeaders(bytes, LEAD, packet.length, new Headers()), expected)
  }
  fc.assert(fc.property(hostileFrame, check), { numRuns: 5000, seed: 3 })
  fc.assert(
    fc.property(frame, ({ bytes }) => {
      check(bytes)
    }),
    { numRuns: 1000, seed: 4 },
  )
  assert.ok(compared > 4000, `only ${compared} packets were comparable`)
})

test('decoding a frame and encoding what was decoded gives the same frame', () => {
  fc.assert(
    fc.property(frame, ({ bytes }) => {
      const h = parseHeaders(bytes, 0, bytes.length, new Headers())
      const copy = bytes.slice()
      // Every header is overwritten, so that the encoders must restore it.
      copy.fill(0xee, 0, h.payloadOffset < 0 ? h.l3Offset + 28 : h.payloadOffset)
      const ethernet = decodeEthernet(bytes, 0, bytes.length)
      assert.ok(!ethernet.problem)
      let at = encodeEthernet(copy, 0, ethernet)
      for (let i = 0; i < h.vlanCount; i++) {
        const vlan = decodeVlan(bytes, at, bytes.length)
        assert.ok(!vlan.problem)
        at = encodeVlan(copy, at, vlan)
      }
      if (h.ipVersion === 0) {
        const arp = decodeArp(bytes, at, bytes.length)
        assert.ok(!arp.problem)
        encodeArp(copy, at, arp)
      } else {
        const ip = h.ipVersion === 4 ? decodeIpv4(bytes, at, h.end) : decodeIpv6(bytes, at, h.end)
        assert.ok(!ip.problem)
        at = 'ttl' in ip ? encodeIpv4(copy, at, ip) : encodeIpv6(copy, at, ip)
        assert.equal(at, h.l4Offset)
        encodeL4(bytes, copy, h)
      }
      assert.deepEqual(copy, bytes)
    }),
    { numRuns: 1500, seed: 5 },
  )
})

function encodeL4(bytes: Uint8Array, copy: Uint8Array, h: Headers): void {
  const at = h.l4Offset
  if (h.protocol === 17) {
    const udp = decodeUdp(bytes, at, h.payloadEnd)
    assert.ok(!udp.problem)
    encodeUdp(copy, at, udp)
  } else if (h.protocol === 6) {
    const tcp = decodeTcp(bytes, at, h.payloadEnd)
    assert.ok(!tcp.problem)
    encodeTcp(copy, at, tcp)
  } else {
    const message = decodeNeighbour(bytes, at, h.payloadEnd)
    if (message.problem) {
      const icmp = decodeIcmp(bytes, at, h.payloadEnd)
      assert.ok(!icmp.problem)
      encodeIcmp(copy, at, icmp)
    } else if (message.kind === 'neighbour-solicitation' || message.kind === 'neighbour-advertisement') {
      copy.fill(0xee, at, h.payloadEnd)
      encodeNeighbour(copy, at, message)
    }
  }
}

test('replies write inside the packet and its room only, and nothing at all when they refuse', () => {
  const mac = Uint8Array.of(2, 0, 0, 0, 0, 0x77)
  const h = new Headers()
  fc.assert(
    fc.property(hostileFrame, fc.nat(16), (packet, slack) => {
      const room = packet.length + slack
      for (const reply of [
        (bytes: Uint8Array) => replyToEcho(bytes, h),
        (bytes: Uint8Array) => replyToArp(bytes, h, mac),
        (bytes: Uint8Array) => replyToNeighbourSolicitation(bytes, h, mac, room),
      ]) {
        const bytes = embed(packet, 0xc3)
        const before = bytes.slice()
        parseHeaders(bytes, LEAD, packet.length, h)
        const length = reply(bytes)
        if (length < 0) assert.deepEqual(bytes, before)
        assert.ok(length <= room)
        assert.deepEqual(bytes.subarray(0, LEAD), before.subarray(0, LEAD))
        assert.deepEqual(bytes.subarray(LEAD + room), before.subarray(LEAD + room))
      }
    }),
    { numRuns: 3000, seed: 6 },
  )
})
