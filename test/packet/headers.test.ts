// What the dissector records for each kind of frame, and where it stops when something is wrong.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { buildPacket, Headers, type PacketDescription, parseHeaders } from '../../src/packet/index.js'

const ipv4 = { src: '10.0.0.1', dst: '10.0.0.2' }
const ipv6 = { src: 'fd00::1', dst: 'fd00::2' }
const udp = { srcPort: 1000, dstPort: 53 }
const tcp = { srcPort: 80, dstPort: 40000, flags: 0x10 }
const options = [{ type: 7, data: new Uint8Array(9) }]
const pad = new Uint8Array(6)
const fragment = { header: 44 as const, fragmentOffset: 0, moreFragments: true, identification: 1 }
const raw = (...values: number[]) => Uint8Array.from(values)

/** Starting offset of every packet in the table; the offsets expected are counted from it. */
const AT = 100
type Expected = Partial<Record<keyof Headers, string | number>>

const v4 = { etherType: 0x0800, l3Offset: 14, ipVersion: 4 }
const v6 = { etherType: 0x86dd, l3Offset: 14, ipVersion: 6 }
const udp4 = { ...v4, protocol: 17, l4Offset: 34, srcPort: 1000, dstPort: 53, payloadOffset: 42 }
const udp6 = { ...v6, protocol: 17, l4Offset: 54, srcPort: 1000, dstPort: 53, payloadOffset: 62 }

const rows: [name: string, packet: PacketDescription, expected: Expected][] = [
  ['UDP over IPv4, padded', { ipv4, udp, payload: 'abc', padTo: 60 }, { ...udp4, payloadEnd: 45 }],
  [
    'UDP shorter than the IP payload',
    { ipv4, udp: { ...udp, length: 9 }, payload: 'abc' },
    { ...udp4, payloadEnd: 43 },
  ],
  [
    'TCP over IPv4 with options of both',
    { ipv4: { ...ipv4, options }, tcp: { ...tcp, options: { mss: 1460 } }, payload: 'abc' },
    {
      ...v4,
      protocol: 6,
      l4Offset: 46,
      srcPort: 80,
      dstPort: 40000,
      payloadOffset: 70,
      payloadEnd: 73,
    },
  ],
  [
    'ICMP',
    { ipv4, icmp: { type: 8 }, payload: 'ab' },
    { ...v4, protocol: 1, l4Offset: 34, payloadOffset: 42, payloadEnd: 44 },
  ],
  [
    'ICMPv6',
    { ipv6, icmp6: { type: 128 } },
    { ...v6, protocol: 58, l4Offset: 54, payloadOffset: 62, payloadEnd: 62 },
  ],
  [
    'ICMP under the other IP is an unknown protocol',
    { ipv4: { ...ipv4, protocol: 58 }, payload: 'ab' },
    { ...v4, protocol: 58, l4Offset: 34, payloadOffset: 34, payloadEnd: 36 },
  ],
  [
    'one VLAN tag',
    { vlans: [{ id: 4095, priority: 7, dropEligible: true }], ipv4, udp },
    { ...udp4, vlanCount: 1, outerVlan: 4095, l3Offset: 18, l4Offset: 38, payloadOffset: 46, payloadEnd: 46 },
  ],
  [
    'three VLAN tags: the first and the last are named',
    { vlans: [{ id: 1 }, { id: 2 }, { id: 3 }], ipv6, udp },
    {
      ...udp6,
      vlanCount: 3,
      outerVlan: 1,
      innerVlan: 3,
      l3Offset: 26,
      l4Offset: 66,
      payloadOffset: 74,
      payloadEnd: 74,
    },
  ],
  [
    'ARP',
    {
      arp: {
        operation: 1,
        senderMac: '02:00:00:00:00:01',
        senderIp: '10.0.0.1',
        targetMac: pad,
        targetIp: '10.0.0.2',
      },
    },
    { etherType: 0x0806, l3Offset: 14 },
  ],
  [
    'another EtherType',
    { ethernet: { etherType: 0x88cc }, payload: 'abc' },
    { etherType: 0x88cc, l3Offset: 14, payloadOffset: 14, payloadEnd: 17 },
  ],
  [
    '802.3: the type is a length, and ends the payload',
    { ethernet: { etherType: 2 }, payload: 'abc' },
    { etherType: 2, l3Offset: 14, payloadOffset: 14, payloadEnd: 16 },
  ],
  [
    'GRE: the transport header is found, not read',
    { ipv4: { ...ipv4, protocol: 47 }, payload: 'abc' },
    { ...v4, protocol: 47, l4Offset: 34, payloadOffset: 34, payloadEnd: 37 },
  ],
  [
    'first IPv4 fragment: the UDP length is that of the whole',
    { ipv4: { ...ipv4, moreFragments: true }, udp: { ...udp, length: 3000 }, payload: 'abc' },
    { ...udp4, fragment: 'first', payloadEnd: 45 },
  ],
  [
    'later IPv4 fragment: no transport header',
    { ipv4: { ...ipv4, fragmentOffset: 8, protocol: 17 }, payload: 'abcdefghij' },
    { ...v4, protocol: 17, fragment: 'later', payloadOffset: 34, payloadEnd: 44 },
  ],
  [
    'last possible IPv4 fragment offset',
    { ipv4: { ...ipv4, fragmentOffset: 32768, protocol: 6 } },
    { ...v4, protocol: 6, fragment: 'later', payloadOffset: 34, payloadEnd: 34 },
  ],
  [
    'UDP behind every IPv6 extension header',
    {
      ipv6: {
        ...ipv6,
        extensions: [
          { header: 0, body: pad },
          { header: 43, body: pad },
          { header: 60, body: new Uint8Array(14) },
          { ...fragment, moreFragments: false },
          { header: 51, body: new Uint8Array(10) },
        ],
      },
      udp,
    },
    { ...udp6, l4Offset: 106, payloadOffset: 114, payloadEnd: 114 },
  ],
  [
    'first IPv6 fragment',
    { ipv6: { ...ipv6, extensions: [fragment] }, udp: { ...udp, length: 3000 } },
    { ...udp6, fragment: 'first', l4Offset: 62, payloadOffset: 70, payloadEnd: 70 },
  ],
  [
    'later IPv6 fragment: no transport header, whatever it claims to carry',
    {
      ipv6: { ...ipv6, protocol: 60, extensions: [{ ...fragment, fragmentOffset: 0xfff8 }] },
      payload: 'abc',
    },
    { ...v6, protocol: 60, fragment: 'later', payloadOffset: 62, payloadEnd: 65 },
  ],
  [
    'ESP ends the walk',
    { ipv6: { ...ipv6, protocol: 50 }, payload: 'encrypted' },
    { ...v6, protocol: 50, l4Offset: 54, payloadOffset: 54, payloadEnd: 63 },
  ],
  ['no next header', { ipv6, payload: 'x' }, { ...v6, protocol: 59, payloadOffset: 54, payloadEnd: 55 }],

  // What is wrong, and what holds before it.
  [
    'no IPv4 header',
    { ethernet: { etherType: 0x0800 } },
    { problem: 'short-ipv4', etherType: 0x0800, l3Offset: 14 },
  ],
  [
    'no IPv6 header',
    { ethernet: { etherType: 0x86dd } },
    { problem: 'short-ipv6', etherType: 0x86dd, l3Offset: 14 },
  ],
  ['no ARP', { ethernet: { etherType: 0x0806 } }, { problem: 'short-arp', etherType: 0x0806, l3Offset: 14 }],
  [
    'ARP of another kind',
    { ethernet: { etherType: 0x0806 }, payload: new Uint8Array(28) },
    { problem: 'bad-arp-type', etherType: 0x0806, l3Offset: 14 },
  ],
  [
    'half a tag',
    { ethernet: { etherType: 0x88a8 }, payload: 'ab' },
    { problem: 'short-vlan', etherType: 0x88a8 },
  ],
  [
    'half a second tag',
    { ethernet: { etherType: 0x8100 }, vlans: [{ id: 5 }], payload: 'ab' },
    { problem: 'short-vlan', etherType: 0x8100, vlanCount: 1, outerVlan: 5 },
  ],
  [
    'IPv6 under the EtherType of IPv4',
    { ethernet: { etherType: 0x0800 }, payload: raw(0x65, ...new Uint8Array(19)) },
    { problem: 'bad-ipv4-version', etherType: 0x0800, l3Offset: 14 },
  ],
  [
    'IPv4 under the EtherType of IPv6',
    { ethernet: { etherType: 0x86dd }, payload: raw(0x46, ...new Uint8Array(39)) },
    { problem: 'bad-ipv6-version', etherType: 0x86dd, l3Offset: 14 },
  ],
  [
    'IPv4 header of 16 bytes',
    { ethernet: { etherType: 0x0800 }, payload: raw(0x44, 0, 0, 20, ...new Uint8Array(16)) },
    { problem: 'bad-ipv4-header-length', etherType: 0x0800, l3Offset: 14 },
  ],
  [
    'IPv4 header past the packet',
    { ethernet: { etherType: 0x0800 }, payload: raw(0x46, 0, 0, 24, ...new Uint8Array(16)) },
    { problem: 'bad-ipv4-header-length', etherType: 0x0800, l3Offset: 14 },
  ],
  [
    'IPv4 total length within its header',
    { ipv4: { ...ipv4, totalLength: 19 } },
    { problem: 'bad-ipv4-total-length', etherType: 0x0800, l3Offset: 14 },
  ],
  [
    'IPv4 longer than the frame: classified all the same',
    { ipv4: { ...ipv4, totalLength: 1500 }, udp: { ...udp, length: 1480 }, payload: 'abc' },
    { problem: 'ipv4-truncated', ...udp4, payloadEnd: 45 },
  ],
  [
    'IPv6 longer than the frame',
    { ipv6: { ...ipv6, payloadLength: 1460 }, tcp },
    {
      problem: 'ipv6-truncated',
      ...v6,
      protocol: 6,
      l4Offset: 54,
      srcPort: 80,
      dstPort: 40000,
      payloadOffset: 74,
      payloadEnd: 74,
    },
  ],
  [
    'misplaced hop-by-hop options',
    {
      ipv6: {
        ...ipv6,
        extensions: [
          { header: 60, body: pad },
          { header: 0, body: pad },
        ],
      },
      udp,
    },
    { problem: 'bad-ipv6-extension-order', ...v6, protocol: 0, payloadOffset: 62, payloadEnd: 78 },
  ],
  [
    'an extension header past the packet',
    { ipv6: { ...ipv6, protocol: 60 }, payload: raw(17, 1, 0, 0, 0, 0, 0, 0) },
    { problem: 'short-ipv6-extension', ...v6, protocol: 60, payloadOffset: 54, payloadEnd: 62 },
  ],
  [
    'half an extension header',
    { ipv6: { ...ipv6, protocol: 44 }, payload: 'abc' },
    { problem: 'short-ipv6-extension', ...v6, protocol: 44, payloadOffset: 54, payloadEnd: 57 },
  ],
  [
    'half a UDP header',
    { ipv4: { ...ipv4, protocol: 17 }, payload: 'abcdefg' },
    { problem: 'short-udp', ...v4, protocol: 17, l4Offset: 34, payloadOffset: 34, payloadEnd: 41 },
  ],
  [
    'UDP length of 7',
    { ipv4, udp: { ...udp, length: 7 } },
    { problem: 'bad-udp-length', ...udp4, payloadOffset: 34, payloadEnd: 42 },
  ],
  [
    'UDP longer than the IP payload',
    { ipv6, udp: { ...udp, length: 9 } },
    { problem: 'udp-truncated', ...udp6, payloadEnd: 62 },
  ],
  [
    'half a TCP header',
    { ipv4: { ...ipv4, protocol: 6 }, payload: new Uint8Array(19) },
    { problem: 'short-tcp', ...v4, protocol: 6, l4Offset: 34, payloadOffset: 34, payloadEnd: 53 },
  ],
  ...[0x40, 0x60].map((offset): [string, PacketDescription, Expected] => [
    `TCP data offset byte ${offset.toString(16)}`,
    {
      ipv4: { ...ipv4, protocol: 6 },
      payload: raw(0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, offset, ...new Uint8Array(7)),
    },
    {
      problem: 'bad-tcp-data-offset',
      ...v4,
      protocol: 6,
      l4Offset: 34,
      srcPort: 1,
      dstPort: 2,
      payloadOffset: 34,
      payloadEnd: 54,
    },
  ]),
  [
    'half an ICMP header',
    { ipv4: { ...ipv4, protocol: 1 }, payload: 'abcdefg' },
    { problem: 'short-icmp', ...v4, protocol: 1, l4Offset: 34, payloadOffset: 34, payloadEnd: 41 },
  ],
  [
    'half an ICMPv6 header',
    { ipv6: { ...ipv6, protocol: 58 }, payload: 'abcdefg' },
    { problem: 'short-icmp6', ...v6, protocol: 58, l4Offset: 54, payloadOffset: 54, payloadEnd: 61 },
  ],
]

// One for all rows: nothing of the packet before may be left in it.
const h = new Headers()

for (const [name, packet, expected] of rows) {
  test(name, () => {
    const frame = buildPacket(packet)
    const bytes = new Uint8Array(AT + frame.length + 50).fill(0x11)
    bytes.set(frame, AT)
    const whole: Record<string, string | number> = {
      ...new Headers(),
      offset: 0,
      end: frame.length,
      ...expected,
    }
    for (const field of ['offset', 'end', 'l3Offset', 'l4Offset', 'payloadOffset', 'payloadEnd']) {
      if (whole[field] !== -1) whole[field] = Number(whole[field]) + AT
    }
    assert.equal(parseHeaders(bytes, AT, frame.length, h), h)
    assert.deepEqual({ ...h }, whole)
  })
}

test('13 bytes are no frame', () => {
  const parsed = parseHeaders(new Uint8Array(100), 5, 13, h)
  assert.deepEqual({ ...parsed }, { ...new Headers(), problem: 'short-ethernet', offset: 5, end: 18 })
})

test('arrays may alternate, and may be views into a larger buffer', () => {
  const frames = [buildPacket({ ipv4, udp }), buildPacket({ ipv6, udp: { srcPort: 7, dstPort: 8 } })]
  const shared = new Uint8Array(1000)
  const views = frames.map((frame, i) => {
    const view = shared.subarray(300 * i + 1, 300 * i + 1 + frame.length)
    view.set(frame)
    return view
  })
  for (let round = 0; round < 3; round++) {
    for (const [i, view] of views.entries()) {
      parseHeaders(view, 0, view.length, h)
      assert.deepEqual([h.problem, h.dstPort], ['none', i === 0 ? 53 : 8])
    }
  }
})
