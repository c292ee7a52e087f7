// The responder's answers, made in place: what a host would send back, and silence to everything it must not answer.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  buildPacket,
  checkL4Checksum,
  decodeArp,
  decodeEthernet,
  decodeIcmp,
  decodeIpv6,
  decodeNeighbour,
  type Decoded,
  Headers,
  ipv4ChecksumValid,
  ipv6MulticastMac,
  NO_REPLY,
  type PacketDescription,
  parseHeaders,
  parseIpv6,
  parseMac,
  replyToArp,
  replyToEcho,
  replyToNeighbourSolicitation,
  setL4Checksum,
  solicitedNodeAddress,
  swapIpv4Addresses,
  swapIpv6Addresses,
  swapMacs,
} from '../../src/packet/index.js'
import { ipv4Address, ipv6Address, mac as anyMac, payload, u16, u8 } from './generate.js'

const MINE = '02:00:00:00:00:77'
const mine = bytesOf(parseMac(MINE))
const PEER = '02:00:00:00:00:02'

function bytesOf(address: Uint8Array | undefined): Uint8Array {
  assert.ok(address)
  return address
}
function sound<T>(header: Decoded<T>): T & { problem?: undefined } {
  if (header.problem) assert.fail(header.problem)
  return header
}

/** The frame in a chunk with room behind it, parsed. */
function arrive(packet: PacketDescription | Uint8Array, offset = 24): { bytes: Uint8Array; h: Headers } {
  const frame = packet instanceof Uint8Array ? packet : buildPacket(packet)
  const bytes = new Uint8Array(offset + frame.length + 64).fill(0xee)
  bytes.set(frame, offset)
  return { bytes, h: parseHeaders(bytes, offset, frame.length, new Headers()) }
}

/** The reply of `length` bytes in the chunk, parsed; well-formed and with right checksums. */
function reply(bytes: Uint8Array, length: number): { frame: Uint8Array; h: Headers } {
  const frame = bytes.slice(24, 24 + length)
  const h = parseHeaders(frame, 0, length, new Headers())
  assert.equal(h.problem, 'none')
  if (h.ipVersion === 4) assert.ok(ipv4ChecksumValid(frame, h.l3Offset))
  if (h.ipVersion !== 0) {
    assert.equal(checkL4Checksum(frame, h.protocol, h.l3Offset, h.l4Offset, h.payloadEnd), 'valid')
  }
  return { frame, h }
}

function refuses(packet: PacketDescription | Uint8Array, answer: (bytes: Uint8Array, h: Headers) => number) {
  const { bytes, h } = arrive(packet)
  const before = bytes.slice()
  assert.equal(answer(bytes, h), NO_REPLY)
  assert.deepEqual(bytes, before)
}

const vlans = fc.constantFrom([], [{ id: 7 }], [{ id: 100, priority: 3 }, { id: 5 }])
const unicastMac = anyMac.map((text) => text.replace(/^../, '02'))
const unicast4 = ipv4Address.map((text) => text.replace(/^\d+/, '10'))
const unicast6 = ipv6Address.map((text) => bytesOf(parseIpv6(text)).with(0, 0x20))

test('addresses are swapped and everything else stays', () => {
  const twelve = Uint8Array.from({ length: 20 }, (_, i) => i)
  swapMacs(twelve, 3)
  assert.deepEqual([...twelve], [0, 1, 2, 9, 10, 11, 12, 13, 14, 3, 4, 5, 6, 7, 8, 15, 16, 17, 18, 19])
  const ip = Uint8Array.from({ length: 48 }, (_, i) => i)
  swapIpv4Addresses(ip, 1)
  assert.deepEqual([...ip.subarray(11, 23)], [11, 12, 17, 18, 19, 20, 13, 14, 15, 16, 21, 22])
  const ip6 = Uint8Array.from({ length: 48 }, (_, i) => i)
  swapIpv6Addresses(ip6, 2)
  const expected = Uint8Array.from({ length: 48 }, (_, i) =>
    i < 10 || i > 41 ? i : i < 26 ? i + 16 : i - 16,
  )
  assert.deepEqual(ip6, expected)
})

test('an IPv4 echo request becomes the reply, tags, options and padding kept', () => {
  const options = fc.constantFrom([], [{ type: 7, data: new Uint8Array(9).fill(4, 0, 1) }])
  fc.assert(
    fc.property(
      fc.record({ src: unicastMac, dst: unicastMac }),
      vlans,
      fc.record({ src: unicast4, dst: unicast4, ttl: u8, identification: u16, options }),
      fc.record({ identifier: u16, sequence: u16 }),
      payload,
      fc.constantFrom(0, 60),
      (ethernet, tags, ipv4, echo, data, padTo) => {
        const request = { ethernet, vlans: tags, ipv4, icmp: { type: 8, ...echo }, payload: data, padTo }
        const { bytes, h } = arrive(request)
        const answer = buildPacket({
          ...request,
          ethernet: { src: ethernet.dst, dst: ethernet.src },
          ipv4: { ...ipv4, src: ipv4.dst, dst: ipv4.src, ttl: 64 },
          icmp: { type: 0, ...echo },
        })
        assert.equal(replyToEcho(bytes, h), answer.length)
        assert.deepEqual(reply(bytes, answer.length).frame, answer)
      },
    ),
    { numRuns: 500, seed: 1 },
  )
})

test('an IPv6 echo request becomes the reply', () => {
  fc.assert(
    fc.property(
      fc.record({ src: unicastMac, dst: unicastMac }),
      vlans,
      fc.record({ src: unicast6, dst: unicast6, hopLimit: u8, flowLabel: u16 }),
      fc.record({ identifier: u16, sequence: u16 }),
      payload,
      (ethernet, tags, ipv6, echo, data) => {
        const request = { ethernet, vlans: tags, ipv6, icmp6: { type: 128, ...echo }, payload: data }
        const { bytes, h } = arrive(request)
        const answer = buildPacket({
          ...request,
          ethernet: { src: ethernet.dst, dst: ethernet.src },
          ipv6: { ...ipv6, src: ipv6.dst, dst: ipv6.src, hopLimit: 64 },
          icmp6: { type: 129, ...echo },
        })
        assert.equal(replyToEcho(bytes, h), answer.length)
        assert.deepEqual(reply(bytes, answer.length).frame, answer)
      },
    ),
    { numRuns: 500, seed: 2 },
  )
})

test('an echo request that goes on in other buffers is answered in all of them', () => {
  const ends = { src: PEER, dst: MINE }
  for (const [request, ipLength] of [
    [{ ipv4: { src: '10.0.0.1', dst: '10.0.0.2' }, icmp: { type: 8 } }, 20],
    [{ ipv6: { src: 'fd00::1', dst: 'fd00::2' }, icmp6: { type: 128 } }, 40],
  ] as const) {
    const frame = buildPacket({ ethernet: ends, ...request, payload: 'p'.repeat(200) })
    const headers = 14 + ipLength + 8
    for (const first of [headers, headers + 1, frame.length - 1, frame.length]) {
      const bytes = frame.slice()
      const h = parseHeaders(bytes, 0, first, new Headers())
      assert.equal(replyToEcho(bytes, h, frame.length), first)
      reply(Uint8Array.of(...new Uint8Array(24), ...bytes), frame.length)
    }
    // Not all of the header in the first buffer; an end that never came.
    for (const [first, total] of [
      [headers - 1, frame.length],
      [headers, frame.length - 1],
      [headers, undefined],
    ] as const) {
      const bytes = frame.slice()
      const h = parseHeaders(bytes, 0, first, new Headers())
      assert.equal(replyToEcho(bytes, h, total), NO_REPLY)
      assert.deepEqual(bytes, frame)
    }
  }
})

test('a damaged echo request makes a reply as damaged, never one that looks right', () => {
  const frame = buildPacket({
    ipv4: { src: '10.0.0.1', dst: '10.0.0.2' },
    icmp: { type: 8, identifier: 1, sequence: 1 },
    payload: 'payload',
  })
  frame[frame.length - 1] ^= 0x40
  const { bytes, h } = arrive(frame)
  const length = replyToEcho(bytes, h)
  assert.equal(length, frame.length)
  assert.equal(checkL4Checksum(bytes, h.protocol, h.l3Offset, h.l4Offset, h.payloadEnd), 'invalid')
})

test('echo requests that are not plainly for one host by one host get no reply', () => {
  const ipv4 = { src: '10.0.0.1', dst: '10.0.0.2' }
  const ipv6 = { src: 'fd00::1', dst: 'fd00::2' }
  const icmp = { type: 8 }
  const icmp6 = { type: 128 }
  const good = buildPacket({ ipv4, icmp, payload: 'x' })
  assert.equal(replyToEcho(...both(good)), good.length)
  for (const [why, packet] of Object.entries<PacketDescription | Uint8Array>({
    'to the broadcast MAC': { ethernet: { dst: 'ff:ff:ff:ff:ff:ff' }, ipv4, icmp },
    'from a multicast MAC': { ethernet: { src: '01:00:5e:00:00:01' }, ipv4, icmp },
    'to multicast': { ipv4: { ...ipv4, dst: '224.0.0.1' }, icmp },
    'to broadcast': { ipv4: { ...ipv4, dst: '255.255.255.255' }, icmp },
    'from broadcast': { ipv4: { ...ipv4, src: '255.255.255.255' }, icmp },
    'from nobody': { ipv4: { ...ipv4, src: '0.0.0.0' }, icmp },
    'from loopback': { ipv4: { ...ipv4, src: '127.0.0.1' }, icmp },
    'a reply': { ipv4, icmp: { type: 0 } },
    'another code': { ipv4, icmp: { type: 8, code: 1 } },
    'a fragment': { ipv4: { ...ipv4, moreFragments: true }, icmp },
    'a later fragment': { ipv4: { ...ipv4, fragmentOffset: 8 }, icmp },
    'a loose source route': { ipv4: { ...ipv4, options: [{ type: 131, data: new Uint8Array(5) }] }, icmp },
    'a strict source route': {
      ipv4: {
        ...ipv4,
        options: [
          { type: 1, data: new Uint8Array(0) },
          { type: 137, data: new Uint8Array(5) },
        ],
      },
      icmp,
    },
    truncated: good.subarray(0, good.length - 1),
    'UDP that looks like it': { ipv4, udp: { srcPort: 0x0800, dstPort: 0 } },
    'ICMPv6 over IPv4': { ipv4: { ...ipv4, protocol: 58 }, icmp6 },
    'to IPv6 multicast': { ipv6: { ...ipv6, dst: 'ff02::1' }, icmp6 },
    'from IPv6 multicast': { ipv6: { ...ipv6, src: 'ff02::1' }, icmp6 },
    'from ::': { ipv6: { ...ipv6, src: '::' }, icmp6 },
    'from ::1': { ipv6: { ...ipv6, src: '::1' }, icmp6 },
    'to a group MAC': { ethernet: { dst: '33:33:00:00:00:01' }, ipv6, icmp6 },
    'an IPv6 extension header': {
      ipv6: { ...ipv6, extensions: [{ header: 60, body: new Uint8Array(6) }] },
      icmp6,
    },
    'ICMP over IPv6': { ipv6: { ...ipv6, protocol: 1 }, icmp },
    ARP: { arp: arpRequest },
  })) {
    const { bytes, h } = arrive(packet)
    const before = bytes.slice()
    assert.equal(replyToEcho(bytes, h), NO_REPLY, why)
    assert.deepEqual(bytes, before, why)
  }
})

function both(packet: PacketDescription | Uint8Array): [Uint8Array, Headers] {
  const { bytes, h } = arrive(packet)
  return [bytes, h]
}

const arpRequest = {
  operation: 1,
  senderMac: PEER,
  senderIp: '10.0.0.1',
  targetMac: '00:00:00:00:00:00',
  targetIp: '10.0.0.2',
}

test('an ARP request becomes the reply; a probe from 0.0.0.0 too', () => {
  for (const senderIp of ['10.0.0.1', '0.0.0.0']) {
    for (const tags of [[], [{ id: 9 }]]) {
      const ethernet = { src: '02:00:00:00:00:55', dst: 'ff:ff:ff:ff:ff:ff' }
      const { bytes, h } = arrive({ ethernet, vlans: tags, arp: { ...arpRequest, senderIp }, padTo: 60 })
      const length = replyToArp(bytes, h, mine)
      assert.equal(length, 60)
      const answer = reply(bytes, length)
      const link = sound(decodeEthernet(answer.frame, 0, length))
      assert.deepEqual([link.dst, link.src], [PEER, MINE])
      assert.equal(answer.h.vlanCount, tags.length)
      assert.deepEqual(decodeArp(answer.frame, answer.h.l3Offset, length), {
        operation: 2,
        senderMac: MINE,
        senderIp: '10.0.0.2',
        targetMac: PEER,
        targetIp: senderIp,
      })
    }
  }
})

test('ARP that asks nothing, or asks for no host, gets no reply', () => {
  const answer = (bytes: Uint8Array, h: Headers) => replyToArp(bytes, h, mine)
  refuses({ arp: { ...arpRequest, operation: 2 } }, answer)
  refuses({ arp: { ...arpRequest, senderIp: '10.0.0.2' } }, answer)
  refuses({ arp: { ...arpRequest, senderMac: 'ff:ff:ff:ff:ff:ff' } }, answer)
  refuses({ arp: { ...arpRequest, targetIp: '224.0.0.1' } }, answer)
  refuses({ arp: { ...arpRequest, targetIp: '255.255.255.255' } }, answer)
  refuses({ arp: { ...arpRequest, senderIp: '255.255.255.255' } }, answer)
  refuses(buildPacket({ arp: arpRequest }).subarray(0, 41), answer)
  refuses({ ipv4: { src: '10.0.0.1', dst: '10.0.0.2' }, icmp: { type: 8 } }, answer)
})

const TARGET = 'fe80::1:2'
const group = solicitedNodeAddress(bytesOf(parseIpv6(TARGET)))
const solicitation = {
  ethernet: { src: '02:00:00:00:00:55', dst: ipv6MulticastMac(group) },
  ipv6: { src: 'fe80::9', dst: group, hopLimit: 255, flowLabel: 7, trafficClass: 3 },
  neighbour: { kind: 'neighbour-solicitation' as const, target: TARGET, sourceLinkLayer: PEER },
} satisfies PacketDescription
const unlinked = { kind: 'neighbour-solicitation' as const, target: TARGET }
const advertise = (bytes: Uint8Array, h: Headers) =>
  replyToNeighbourSolicitation(bytes, h, mine, bytes.length - h.offset)

function advertisement(packet: PacketDescription) {
  const { bytes, h } = arrive(packet)
  const length = advertise(bytes, h)
  const answer = reply(bytes, length)
  assert.equal(length, answer.h.l4Offset + 32)
  assert.equal(answer.h.payloadEnd, length)
  assert.ok(bytes.subarray(24 + Math.max(length, h.end - h.offset)).every((byte) => byte === 0xee))
  return {
    ethernet: sound(decodeEthernet(answer.frame, 0, length)),
    ip: sound(decodeIpv6(answer.frame, answer.h.l3Offset, length)),
    message: sound(decodeNeighbour(answer.frame, answer.h.l4Offset, length)),
    growth: length - (h.end - h.offset),
    checksum: sound(decodeIcmp(answer.frame, answer.h.l4Offset, length)).checksum,
  }
}

test('the solicited-node group and its MAC are those of RFC 4291 and RFC 2464', () => {
  assert.deepEqual(group, parseIpv6('ff02::1:ff01:2'))
  assert.deepEqual(ipv6MulticastMac(group), parseMac('33:33:ff:01:00:02'))
})

test('a neighbour solicitation becomes a solicited, overriding advertisement to whoever asked', () => {
  for (const dst of [group, TARGET]) {
    for (const tags of [[], [{ id: 3 }]]) {
      const answer = advertisement({ ...solicitation, vlans: tags, ipv6: { ...solicitation.ipv6, dst } })
      assert.deepEqual([answer.ethernet.dst, answer.ethernet.src], [PEER, MINE])
      const { src, dst: to, hopLimit, flowLabel, trafficClass } = answer.ip
      assert.deepEqual([src, to, hopLimit, flowLabel, trafficClass], [TARGET, 'fe80::9', 255, 0, 0])
      assert.deepEqual(answer.message, {
        kind: 'neighbour-advertisement',
        checksum: answer.checksum,
        target: TARGET,
        router: false,
        solicited: true,
        override: true,
        targetLinkLayer: MINE,
      })
      assert.equal(answer.growth, 0)
    }
  }
})

test('a solicitation without an option grows by 8 bytes and is answered to where it came from', () => {
  const packet = { ...solicitation, neighbour: unlinked }
  const answer = advertisement(packet)
  assert.equal(answer.growth, 8)
  assert.equal(answer.ethernet.dst, '02:00:00:00:00:55')

  const { bytes, h } = arrive(packet)
  const before = bytes.slice()
  assert.equal(replyToNeighbourSolicitation(bytes, h, mine, h.end - h.offset + 7), NO_REPLY)
  assert.deepEqual(bytes, before)
  assert.equal(replyToNeighbourSolicitation(bytes, h, mine, h.end - h.offset + 8), h.end - h.offset + 8)
})

test('a solicitation with options beyond the link-layer address shrinks', () => {
  const frame = buildPacket({ ...solicitation, payload: Uint8Array.of(14, 1, 1, 2, 3, 4, 5, 6) })
  const { bytes, h } = arrive(frame)
  assert.equal(advertise(bytes, h), frame.length - 8)
  reply(bytes, frame.length - 8)
})

test('a duplicate address detection probe is answered to all nodes, unsolicited', () => {
  const answer = advertisement({
    ...solicitation,
    ipv6: { ...solicitation.ipv6, src: '::' },
    neighbour: unlinked,
  })
  assert.equal(answer.ethernet.dst, '33:33:00:00:00:01')
  assert.equal(answer.ip.dst, 'ff02::1')
  assert.ok(answer.message.kind === 'neighbour-advertisement')
  assert.deepEqual([answer.message.solicited, answer.message.override], [false, true])
})

test('solicitations that RFC 4861 7.1.1 calls invalid get no reply', () => {
  const { ipv6, neighbour } = solicitation
  const option = (bytes: number[]) => ({
    ...solicitation,
    neighbour: unlinked,
    payload: Uint8Array.from(bytes),
  })
  const change = (at: number, value: number) => {
    const frame = buildPacket(solicitation)
    frame[at] = value
    setL4Checksum(frame, 58, 14, 54, frame.length)
    return frame
  }
  const damaged = buildPacket(solicitation)
  damaged[damaged.length - 1] ^= 1
  for (const [why, packet] of Object.entries<PacketDescription | Uint8Array>({
    'forwarded: hop limit 254': { ...solicitation, ipv6: { ...ipv6, hopLimit: 254 } },
    'a wrong checksum': damaged,
    'code 1': change(55, 1),
    'an advertisement': change(54, 136),
    'a multicast target': change(62, 0xff),
    'an option of length 0': option([1, 0, 2, 0, 0, 0, 0, 2]),
    'an option past the end': option([1, 2, 2, 0, 0, 0, 0, 2]),
    'a link-layer option of another size': option([1, 2, 2, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0]),
    'a multicast link-layer address': {
      ...solicitation,
      neighbour: { ...neighbour, sourceLinkLayer: '03:00:00:00:00:01' },
    },
    'a multicast source': { ...solicitation, ipv6: { ...ipv6, src: 'ff02::1' } },
    'a multicast source MAC': {
      ...solicitation,
      ethernet: { ...solicitation.ethernet, src: '03:00:00:00:00:01' },
    },
    'a probe with a link-layer address': { ...solicitation, ipv6: { ...ipv6, src: '::' } },
    'a probe to one host': {
      ...solicitation,
      ipv6: { ...ipv6, src: '::', dst: TARGET },
      neighbour: unlinked,
    },
    'to another group': { ...solicitation, ipv6: { ...ipv6, dst: 'ff02::1:ff01:3' } },
    'to all nodes': { ...solicitation, ipv6: { ...ipv6, dst: 'ff02::1' } },
    'an extension header': {
      ...solicitation,
      ipv6: { ...ipv6, extensions: [{ header: 60, body: new Uint8Array(6) }] },
    },
    'too short': buildPacket({ ipv6: { ...ipv6 }, icmp6: { type: 135 }, payload: new Uint8Array(12) }),
    'cut short': buildPacket(solicitation).subarray(0, -1),
    'an echo request': { ipv6: { ...ipv6, dst: TARGET }, icmp6: { type: 128 }, payload: new Uint8Array(40) },
    IPv4: { ipv4: { src: '10.0.0.1', dst: '10.0.0.2' }, icmp: { type: 135 } },
  })) {
    const { bytes, h } = arrive(packet)
    const before = bytes.slice()
    assert.equal(advertise(bytes, h), NO_REPLY, why)
    assert.deepEqual(bytes, before, why)
  }
})
