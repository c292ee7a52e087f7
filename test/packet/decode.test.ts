// Each header from hand-made bytes, and back to the same bytes; each malformation by its name.
import assert from 'node:assert/strict'
import { test } from 'node:test'
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
  buildPacket,
  Headers,
  parseHeaders,
  PacketError,
  type Problem,
  PROBLEMS,
} from '../../src/packet/index.js'

const hex = (text: string) => Uint8Array.from(Buffer.from(text.replaceAll(/\s/g, ''), 'hex'))

type Decode = (bytes: Uint8Array, offset: number, end: number) => object
/** Encodes what the decoder of the row returned, whatever its type. */
type Encode = (bytes: Uint8Array, offset: number, fields: never) => number

const rows: [name: string, bytes: string, decode: Decode, encode: Encode, fields: object][] = [
  [
    'Ethernet',
    '020000000001 020000000002 0800',
    decodeEthernet,
    encodeEthernet,
    { dst: '02:00:00:00:00:01', src: '02:00:00:00:00:02', etherType: 0x0800, payloadOffset: 14 },
  ],
  [
    'VLAN tag',
    'b005 86dd',
    decodeVlan,
    encodeVlan,
    { priority: 5, dropEligible: true, id: 5, etherType: 0x86dd, payloadOffset: 4 },
  ],
  [
    'ARP request',
    '0001 0800 06 04 0001 020000000002 0a000001 000000000000 0a000002',
    decodeArp,
    encodeArp,
    {
      operation: 1,
      senderMac: '02:00:00:00:00:02',
      senderIp: '10.0.0.1',
      targetMac: '00:00:00:00:00:00',
      targetIp: '10.0.0.2',
    },
  ],
  [
    // The header worked through in countless textbooks: checksum 0xb861.
    'IPv4',
    '4500 0073 0000 4000 40 11 b861 c0a80001 c0a800c7' + '00'.repeat(0x73 - 20),
    decodeIpv4,
    encodeIpv4,
    {
      dscp: 0,
      ecn: 0,
      totalLength: 0x73,
      identification: 0,
      dontFragment: true,
      moreFragments: false,
      fragmentOffset: 0,
      ttl: 64,
      protocol: 17,
      checksum: 0xb861,
      src: '192.168.0.1',
      dst: '192.168.0.199',
      options: [],
      payloadOffset: 20,
      payloadEnd: 0x73,
      truncated: false,
    },
  ],
  [
    'IPv4 fragment with options, cut short',
    '47 bb 0100 beef 2003 05 06 1234 01020304 05060708 01 94040000 000000',
    decodeIpv4,
    encodeIpv4,
    {
      dscp: 46,
      ecn: 3,
      totalLength: 256,
      identification: 0xbeef,
      dontFragment: false,
      moreFragments: true,
      fragmentOffset: 24,
      ttl: 5,
      protocol: 6,
      checksum: 0x1234,
      src: '1.2.3.4',
      dst: '5.6.7.8',
      options: [
        { type: 1, data: hex('') },
        { type: 148, data: hex('0000') },
      ],
      payloadOffset: 28,
      payloadEnd: 28,
      truncated: true,
    },
  ],
  [
    'IPv6',
    '6abcdef1 0002 3b ff fe800000000000000000000000000001 ff020000000000000000000000000002 aabb',
    decodeIpv6,
    encodeIpv6,
    {
      trafficClass: 0xab,
      flowLabel: 0xcdef1,
      payloadLength: 2,
      hopLimit: 255,
      src: 'fe80::1',
      dst: 'ff02::2',
      extensions: [],
      protocol: 59,
      payloadOffset: 40,
      payloadEnd: 42,
      truncated: false,
    },
  ],
  [
    'IPv6 with every extension header',
    `60000000 0040 00 40 ${'00'.repeat(15)}01 ${'00'.repeat(15)}02
     2b 00 050200000100  3c 00 000000000000  2c 01 ${'01'.repeat(14)}  33 00 0001 00000007  11 04 ${'02'.repeat(22)}`,
    decodeIpv6,
    encodeIpv6,
    {
      trafficClass: 0,
      flowLabel: 0,
      payloadLength: 64,
      hopLimit: 64,
      src: '::1',
      dst: '::2',
      extensions: [
        { header: 0, body: hex('050200000100') },
        { header: 43, body: hex('000000000000') },
        { header: 60, body: hex('01'.repeat(14)) },
        { header: 44, fragmentOffset: 0, moreFragments: true, identification: 7 },
        { header: 51, body: hex('02'.repeat(22)) },
      ],
      protocol: 17,
      payloadOffset: 104,
      payloadEnd: 104,
      truncated: false,
    },
  ],
  [
    'IPv6 later fragment: what follows is no header',
    `60000000 0010 2c 40 ${'00'.repeat(15)}01 ${'00'.repeat(15)}02  2b 00 0588 deadbeef  ${'ff'.repeat(8)}`,
    decodeIpv6,
    encodeIpv6,
    {
      trafficClass: 0,
      flowLabel: 0,
      payloadLength: 16,
      hopLimit: 64,
      src: '::1',
      dst: '::2',
      extensions: [{ header: 44, fragmentOffset: 0x588, moreFragments: false, identification: 0xdeadbeef }],
      protocol: 43,
      payloadOffset: 48,
      payloadEnd: 56,
      truncated: false,
    },
  ],
  [
    'ICMP echo',
    '08 00 f7fd 0001 0001',
    decodeIcmp,
    encodeIcmp,
    { type: 8, code: 0, checksum: 0xf7fd, identifier: 1, sequence: 1, payloadOffset: 8 },
  ],
  [
    'ICMPv6 packet too big',
    '02 00 1234 0000 0500',
    decodeIcmp6,
    encodeIcmp,
    { type: 2, code: 0, checksum: 0x1234, identifier: 0, sequence: 1280, payloadOffset: 8 },
  ],
  [
    'neighbour solicitation',
    '87 00 1234 00000000 fe800000000000000000000000000001 01 01 020000000002',
    decodeNeighbour,
    encodeNeighbour,
    {
      kind: 'neighbour-solicitation',
      checksum: 0x1234,
      target: 'fe80::1',
      sourceLinkLayer: '02:00:00:00:00:02',
    },
  ],
  [
    'neighbour advertisement',
    '88 00 1234 60000000 fe800000000000000000000000000001 02 01 020000000001',
    decodeNeighbour,
    encodeNeighbour,
    {
      kind: 'neighbour-advertisement',
      checksum: 0x1234,
      target: 'fe80::1',
      router: false,
      solicited: true,
      override: true,
      targetLinkLayer: '02:00:00:00:00:01',
    },
  ],
  [
    'UDP',
    '0035 c001 000a 0000 abcd',
    decodeUdp,
    encodeUdp,
    {
      srcPort: 53,
      dstPort: 49153,
      length: 10,
      checksum: 0,
      payloadOffset: 8,
      payloadEnd: 10,
      truncated: false,
    },
  ],
  [
    'TCP SYN with options',
    `c001 01bb ffffffff 80000000 a0 c2 faf0 abcd 0000
     0204 05b4  0303 07 01  0402  080a 00000001 fffffffe`,
    decodeTcp,
    encodeTcp,
    {
      srcPort: 49153,
      dstPort: 443,
      sequence: 0xffffffff,
      acknowledgment: 0x80000000,
      flags: 0xc2,
      window: 0xfaf0,
      checksum: 0xabcd,
      urgentPointer: 0,
      options: {
        mss: 1460,
        windowScale: 7,
        sackPermitted: true,
        timestamps: { value: 1, echo: 0xfffffffe },
      },
      payloadOffset: 40,
    },
  ],
  [
    'TCP acknowledgment with selective acknowledgments',
    `0001 0002 00000003 00000004 a0 10 0005 0006 0000  0512 00000001 00000002 fffffff0 00000010  0101`,
    decodeTcp,
    encodeTcp,
    {
      srcPort: 1,
      dstPort: 2,
      sequence: 3,
      acknowledgment: 4,
      flags: 0x10,
      window: 5,
      checksum: 6,
      urgentPointer: 0,
      options: {
        sack: [
          [1, 2],
          [0xfffffff0, 0x10],
        ],
      },
      payloadOffset: 40,
    },
  ],
]

for (const [name, text, decode, encode, fields] of rows) {
  test(`${name}: decoded from its bytes, at any offset, and encoded to them again`, () => {
    const bytes = hex(text)
    assert.deepEqual(decode(bytes, 0, bytes.length), fields)

    const shifted = new Uint8Array(bytes.length + 10).fill(0xee)
    shifted.set(bytes, 3)
    const moved = Object.entries(fields).map(([key, value]) => [
      key,
      key === 'payloadOffset' || key === 'payloadEnd' ? Number(value) + 3 : (value as unknown),
    ])
    assert.deepEqual(decode(shifted, 3, 3 + bytes.length), Object.fromEntries(moved))

    const written = new Uint8Array(bytes.length + 10).fill(0xdd)
    const end = encode(written, 5, fields as never)
    assert.deepEqual(written.subarray(5, end), bytes.subarray(0, end - 5))
    assert.ok(written.subarray(0, 5).every((byte) => byte === 0xdd))
    assert.ok(written.subarray(end).every((byte) => byte === 0xdd))
  })
}

test('router messages and redirects are recognised with their link-layer options', () => {
  const source = '01 01 020000000009'
  const target = '02 01 020000000008'
  for (const [text, expected] of [
    [
      `85 00 0000 00000000 ${source}`,
      { kind: 'router-solicitation', checksum: 0, sourceLinkLayer: '02:00:00:00:00:09' },
    ],
    [
      `86 00 0000 40 00 0708 00000000 00000000 ${source} 05 01 0000 000005dc`,
      { kind: 'router-advertisement', checksum: 0, sourceLinkLayer: '02:00:00:00:00:09' },
    ],
    [
      `89 00 0000 00000000 ${'00'.repeat(32)} ${target}`,
      { kind: 'redirect', checksum: 0, targetLinkLayer: '02:00:00:00:00:08' },
    ],
  ] as const) {
    const bytes = hex(text)
    assert.deepEqual(decodeNeighbour(bytes, 0, bytes.length), expected)
  }
})

const ip4 = (rest: string) => `4500 0014 0000 0000 40 11 0000 0a000001 0a000002`.replace(/^.{4}/, rest)
const ip6 = (next: string, rest: string) =>
  `60000000 ${(Buffer.from(rest.replaceAll(/\s/g, ''), 'hex').length + 0x10000).toString(16).slice(1)} ${next} 40 ${'00'.repeat(32)} ${rest}`
const tcp = (offset: string, options: string) =>
  `0001 0002 00000000 00000000 ${offset} 00 0000 0000 0000 ${options}`

const malformed: [Decode, string, Problem][] = [
  [decodeEthernet, '00'.repeat(13), 'short-ethernet'],
  [decodeVlan, '000000', 'short-vlan'],
  [decodeArp, '00'.repeat(27), 'short-arp'],
  [decodeArp, `0006 0800 06 04 ${'00'.repeat(22)}`, 'bad-arp-type'],
  [decodeArp, `0001 0800 08 04 ${'00'.repeat(22)}`, 'bad-arp-type'],
  [decodeIpv4, '45' + '00'.repeat(18), 'short-ipv4'],
  [decodeIpv4, ip4('6500'), 'bad-ipv4-version'],
  [decodeIpv4, ip4('4400'), 'bad-ipv4-header-length'],
  [decodeIpv4, ip4('4600'), 'bad-ipv4-header-length'],
  [decodeIpv4, '4500 0013 0000 0000 40 11 0000 0a000001 0a000002', 'bad-ipv4-total-length'],
  [decodeIpv4, '4600 0018 0000 0000 40 11 0000 0a000001 0a000002 07000000', 'bad-ipv4-option'],
  [decodeIpv4, '4600 0018 0000 0000 40 11 0000 0a000001 0a000002 07050000', 'bad-ipv4-option'],
  [decodeIpv4, '4600 0018 0000 0000 40 11 0000 0a000001 0a000002 01010107', 'bad-ipv4-option'],
  [decodeIpv6, '60' + '00'.repeat(38), 'short-ipv6'],
  [decodeIpv6, '40' + '00'.repeat(39), 'bad-ipv6-version'],
  [decodeIpv6, ip6('00', '11 00 0000 0000 00'), 'short-ipv6-extension'],
  [decodeIpv6, ip6('3c', '11 01 0000 0000 0000'), 'short-ipv6-extension'],
  [decodeIpv6, ip6('33', '11 04 0000 0000 0000'), 'short-ipv6-extension'],
  [decodeIpv6, ip6('2c', '11 00 0000'), 'short-ipv6-extension'],
  [decodeIpv6, ip6('3c', '00 00 0000 0000 0000  11 00 0000 0000 0000'), 'bad-ipv6-extension-order'],
  [decodeIcmp, '08000000000000', 'short-icmp'],
  [decodeIcmp6, '80000000000000', 'short-icmp6'],
  [decodeNeighbour, '87000000000000', 'short-neighbour'],
  [decodeNeighbour, '87' + '00'.repeat(22), 'short-neighbour'],
  [decodeNeighbour, '86' + '00'.repeat(14), 'short-neighbour'],
  [decodeNeighbour, '89' + '00'.repeat(38), 'short-neighbour'],
  [decodeNeighbour, '80' + '00'.repeat(23), 'not-neighbour-discovery'],
  [decodeNeighbour, `87 ${'00'.repeat(23)} 01 00 000000000000`, 'bad-neighbour-option'],
  [decodeNeighbour, `87 ${'00'.repeat(23)} 01 02 000000000000`, 'bad-neighbour-option'],
  [decodeNeighbour, `87 ${'00'.repeat(23)} 01`, 'bad-neighbour-option'],
  [decodeUdp, '00010002000800', 'short-udp'],
  [decodeUdp, '0001000200070000', 'bad-udp-length'],
  [decodeTcp, '00'.repeat(19), 'short-tcp'],
  [decodeTcp, tcp('40', ''), 'bad-tcp-data-offset'],
  [decodeTcp, tcp('60', ''), 'bad-tcp-data-offset'],
  [decodeTcp, tcp('60', '02030000'), 'bad-tcp-option'],
  [decodeTcp, tcp('60', '02050000'), 'bad-tcp-option'],
  [decodeTcp, tcp('60', '01010102'), 'bad-tcp-option'],
  [decodeTcp, tcp('60', '01010802'), 'bad-tcp-option'],
  [decodeTcp, tcp('60', '05020101'), 'bad-tcp-option'],
  [decodeTcp, tcp('80', '050b0000 00000000 00000001'), 'bad-tcp-option'],
  [decodeTcp, tcp('60', 'fe000101'), 'bad-tcp-option'],
]

for (const [decode, text, problem] of malformed) {
  test(`${decode.name} of ${text.slice(0, 24)}… says ${problem}`, () => {
    const bytes = hex(text)
    assert.deepEqual(decode(bytes, 0, bytes.length), { problem })
    // The bytes after the end are there, and must not help.
    const longer = new Uint8Array(bytes.length + 64)
    longer.set(bytes)
    assert.deepEqual(decode(longer, 0, bytes.length), { problem })
  })
}

test('every problem of a decoder is in the table above', () => {
  const seen = new Set(malformed.map(([, , problem]) => problem))
  const parserOnly: Problem[] = ['ipv4-truncated', 'ipv6-truncated', 'udp-truncated']
  assert.deepEqual([...seen, ...parserOnly].sort(), Object.keys(PROBLEMS).sort())
})

test('a range outside the array is short, not an exception', () => {
  const bytes = new Uint8Array(3)
  const ranges = [
    [0, 1000],
    [2, 3],
    [3, 3],
    [50, 100],
    [-1, 100],
    [2, 0],
  ]
  for (const decode of [
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
  ]) {
    for (const [offset, end] of ranges) assert.match(String(decode(bytes, offset, end).problem), /^short-/)
  }
  for (const [offset, end] of ranges) {
    assert.equal(parseHeaders(bytes, offset, end - offset, new Headers()).problem, 'short-ethernet')
  }
  structuredClone(bytes, { transfer: [bytes.buffer] })
  assert.equal(decodeEthernet(bytes, 0, 14).problem, 'short-ethernet')
  assert.equal(parseHeaders(bytes, 0, 60, new Headers()).problem, 'short-ethernet')
})

test('unknown TCP options are stepped over, and what follows the end of options is padding', () => {
  const bytes = hex(tcp('80', 'fe04aabb 02040500 00ffffff'))
  const header = decodeTcp(bytes, 0, bytes.length)
  assert.ok(!header.problem)
  assert.deepEqual(header.options, { mss: 1280 })
})

test('encoders refuse what does not fit, by name', () => {
  const room = new Uint8Array(200)
  const refused = (code: PacketError['code'], text: RegExp, action: () => unknown) => {
    assert.throws(action, (error: unknown) => {
      assert.ok(error instanceof PacketError)
      assert.equal(error.code, code)
      assert.match(error.message, text)
      return true
    })
  }
  const src = '10.0.0.1'
  const dst = '10.0.0.2'
  const base = { src, dst, protocol: 17, totalLength: 20 }
  refused('ERR_PACKET_ADDRESS', /dst is '10.0.0'/, () => encodeIpv4(room, 0, { ...base, dst: '10.0.0' }))
  refused('ERR_PACKET_ADDRESS', /src is 3 bytes/, () =>
    encodeIpv4(room, 0, { ...base, src: new Uint8Array(3) }),
  )
  refused('ERR_PACKET_VALUE', /id is 4096/, () => encodeVlan(room, 0, { id: 4096, etherType: 0 }))
  refused('ERR_PACKET_VALUE', /fragmentOffset/, () => encodeIpv4(room, 0, { ...base, fragmentOffset: 4 }))
  refused('ERR_PACKET_VALUE', /ttl is -1/, () => encodeIpv4(room, 0, { ...base, ttl: -1 }))
  refused('ERR_PACKET_VALUE', /options take 44/, () =>
    encodeIpv4(room, 0, { ...base, options: [{ type: 7, data: new Uint8Array(39) }] }),
  )
  refused('ERR_PACKET_VALUE', /options take/, () =>
    encodeTcp(room, 0, {
      srcPort: 1,
      dstPort: 2,
      flags: 0,
      options: { sack: Array.from({ length: 5 }, () => [1, 2]) },
    }),
  )
  refused('ERR_PACKET_VALUE', /extension header 60 cannot be 7 bytes/, () =>
    encodeIpv6(room, 0, {
      src: '::',
      dst: '::',
      protocol: 17,
      payloadLength: 0,
      extensions: [{ header: 60, body: new Uint8Array(5) }],
    }),
  )
  refused('ERR_PACKET_ROOM', /14 bytes at offset 190/, () =>
    encodeEthernet(room, 190, { src: '02:00:00:00:00:01', dst: '02:00:00:00:00:02', etherType: 0 }),
  )
  refused('ERR_PACKET_VALUE', /one of udp, tcp/, () =>
    buildPacket({
      ipv4: { src, dst },
      udp: { srcPort: 1, dstPort: 2 },
      tcp: { srcPort: 1, dstPort: 2, flags: 0 },
    }),
  )
  refused('ERR_PACKET_VALUE', /udp without ipv4 or ipv6/, () =>
    buildPacket({ udp: { srcPort: 1, dstPort: 2 } }),
  )
})
