// Packets of every kind that is printed, to be compared with tcpdump.
import fc from 'fast-check'
import { buildPacket, type PacketDescription } from '../../src/packet/index.js'
import { description } from '../packet/generate.js'

const ipv4 = { src: '192.0.2.1', dst: '198.51.100.2' }
const ipv6 = { src: '2001:db8::1', dst: '2001:db8::2' }
const link = { src: 'fe80::1', dst: 'fe80::2', hopLimit: 255 }
const text = (value: string) => new TextEncoder().encode(value)
const bytes = (...parts: (number[] | Uint8Array | string)[]) =>
  Uint8Array.from(parts.flatMap((part) => [...(typeof part === 'string' ? text(part) : part)]))

/** A DNS name. */
const name = (value: string) => bytes(...value.split('.').map((label) => bytes([label.length], label)), [0])
const u16 = (...values: number[]) => values.flatMap((value) => [value >>> 8, value & 0xff])
const answer = (kind: number, data: Uint8Array | number[], owner: Uint8Array | number[] = [0xc0, 12]) =>
  bytes(owner, u16(kind, 1, 0, 3700, data.length), data)

const question = bytes(name('www.example.com'), u16(1, 1))
export const dnsMessages: Uint8Array[] = [
  bytes(u16(4660, 0x0100, 1, 0, 0, 0), question),
  bytes(u16(4660, 0x0120, 1, 0, 0, 1), name('example.org'), u16(28, 1), [0], u16(41, 1232, 0, 0, 0)),
  bytes(
    u16(4660, 0x8180, 1, 2, 0, 0),
    question,
    answer(5, name('web.example.com')),
    answer(1, [192, 0, 2, 80]),
  ),
  bytes(
    u16(4660, 0x8583, 1, 0, 1, 0),
    question,
    answer(6, bytes(name('a.b'), name('c.d'), u16(0, 1, 0, 2, 0, 3, 0, 4, 0, 5))),
  ),
  bytes(
    u16(1, 0x8180, 1, 1, 0, 0),
    name('x.y'),
    u16(28, 1),
    answer(28, [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
  ),
  bytes(
    u16(1, 0x8000, 1, 3, 0, 0),
    name('x.y'),
    u16(15, 1),
    answer(15, bytes(u16(10), [0xc0, 12])),
    answer(16, bytes([5], 'hello')),
    answer(33, bytes(u16(1, 2, 443), name('srv.y'))),
  ),
  bytes(u16(1, 0x8182, 1, 0, 0, 0), name('x.y'), u16(65, 1)),
]

const clientHello = (() => {
  const host = text('www.example.org')
  const sni = bytes(u16(0, host.length + 5, host.length + 3), [0], u16(host.length), host)
  const body = bytes(u16(0x0303), new Uint8Array(32), [0], u16(2, 0x1301), [1, 0], u16(sni.length), sni)
  const handshake = bytes([1, 0], u16(body.length), body)
  return bytes([22, 3, 1], u16(handshake.length), handshake)
})()
export const tlsPackets: PacketDescription[] = [
  { ipv4, tcp: { srcPort: 40000, dstPort: 443, flags: 0x18 }, payload: clientHello },
  {
    ipv6,
    tcp: { srcPort: 443, dstPort: 40000, flags: 0x18 },
    payload: bytes([23, 3, 3], u16(20), new Uint8Array(20)),
  },
]

const quoted = buildPacket({
  ipv4: { src: '198.51.100.2', dst: '203.0.113.9' },
  udp: { srcPort: 5, dstPort: 53 },
  payload: 'abcd',
}).subarray(14)
const quoted6 = buildPacket({
  ipv6: { src: '2001:db8::2', dst: '2001:db8::9' },
  udp: { srcPort: 5, dstPort: 33434 },
  payload: 'abcd',
}).subarray(14)
const icmp = (type: number, code: number, sequence = 0): PacketDescription => ({
  ipv4,
  icmp: { type, code, sequence },
  payload: quoted,
})
const icmp6 = (type: number, code: number, sequence = 0): PacketDescription => ({
  ipv6,
  icmp6: { type, code, sequence },
  payload: quoted6,
})
const neighbour = { kind: 'neighbour-solicitation' as const, target: 'fe80::2' }
const tcp = { srcPort: 40001, dstPort: 5001 }

export const described: PacketDescription[] = [
  // A connection: relative numbers, options, selective acknowledgment, end.
  {
    ipv4,
    tcp: {
      ...tcp,
      flags: 2,
      sequence: 1000,
      window: 64240,
      options: { mss: 1460, sackPermitted: true, timestamps: { value: 7, echo: 0 }, windowScale: 7 },
    },
  },
  {
    ipv4: { src: ipv4.dst, dst: ipv4.src },
    tcp: { srcPort: 5001, dstPort: 40001, flags: 0x12, sequence: 5000, acknowledgment: 1001, window: 65160 },
  },
  { ipv4, tcp: { ...tcp, flags: 0x10, sequence: 1001, acknowledgment: 5001, window: 502 } },
  { ipv4, tcp: { ...tcp, flags: 0x18, sequence: 1001, acknowledgment: 5001, window: 502 }, payload: 'hello' },
  {
    ipv4: { src: ipv4.dst, dst: ipv4.src },
    tcp: {
      srcPort: 5001,
      dstPort: 40001,
      flags: 0x10,
      sequence: 5001,
      acknowledgment: 1001,
      window: 502,
      options: { sack: [[1006, 1010]] },
    },
  },
  {
    ipv4: { src: ipv4.dst, dst: ipv4.src },
    tcp: { srcPort: 5001, dstPort: 40001, flags: 0x11, sequence: 5001, acknowledgment: 1006, window: 502 },
  },
  { ipv4, tcp: { ...tcp, flags: 0x04, sequence: 1006, window: 0 } },
  { ipv4, tcp: { ...tcp, flags: 0x14, sequence: 1006, acknowledgment: 9, window: 0 }, payload: 'go away\n' },
  {
    ipv4,
    tcp: { ...tcp, flags: 0x38, sequence: 1006, acknowledgment: 9, urgentPointer: 3 },
    payload: 'urgent',
  },
  { ipv4, tcp: { ...tcp, flags: 0, sequence: 1 } },
  { ipv4, tcp: { ...tcp, flags: 2, checksum: 1 } },
  { ipv6, tcp: { ...tcp, flags: 0xc2, sequence: 9, window: 1 } },
  { ipv6, tcp: { ...tcp, flags: 0x10, acknowledgment: 3, checksum: 2 }, payload: 'x' },
  { ipv4, udp: { srcPort: 7, dstPort: 9999 }, payload: 'datagram' },
  { ipv4, udp: { srcPort: 7, dstPort: 9999, checksum: 0 }, payload: 'datagram' },
  { ipv4, udp: { srcPort: 7, dstPort: 9999, checksum: 5 }, payload: 'datagram' },
  { ipv4, udp: { srcPort: 7, dstPort: 9999, length: 100 }, payload: 'datagram' },
  { ipv4, udp: { srcPort: 7, dstPort: 9999, length: 3 }, payload: 'datagram' },
  { ipv4: { ...ipv4, totalLength: 400 }, udp: { srcPort: 7, dstPort: 9999 }, payload: 'datagram' },
  {
    ipv4: { ...ipv4, checksum: 9, dscp: 46, ecn: 1, ttl: 1, identification: 7, dontFragment: true },
    udp: { srcPort: 7, dstPort: 9999 },
  },
  {
    ipv4: { ...ipv4, moreFragments: true, identification: 77 },
    udp: { srcPort: 7, dstPort: 9999, length: 3000 },
    payload: 'first',
  },
  { ipv4: { ...ipv4, fragmentOffset: 1480, protocol: 17 }, payload: 'later' },
  { ipv4: { ...ipv4, protocol: 47 + 100 }, payload: 'unknown' },
  {
    ipv4: { ...ipv4, options: [{ type: 7, data: Uint8Array.of(8, 10, 0, 0, 1, 0, 0, 0, 0) }] },
    icmp: { type: 8, identifier: 1, sequence: 2 },
  },
  { ipv6, udp: { srcPort: 7, dstPort: 9999 }, payload: 'datagram' },
  {
    ipv6: { ...ipv6, trafficClass: 0xb8, flowLabel: 0x12345 },
    udp: { srcPort: 7, dstPort: 9999 },
    payload: 'd',
  },
  { ipv6: { ...ipv6, protocol: 59 } },
  {
    ipv6: {
      ...ipv6,
      extensions: [{ header: 44, fragmentOffset: 0, moreFragments: true, identification: 0xabcd }],
    },
    udp: { srcPort: 7, dstPort: 9999, length: 3000 },
    payload: 'first',
  },
  {
    ipv6: {
      ...ipv6,
      extensions: [{ header: 44, fragmentOffset: 1448, moreFragments: false, identification: 0xabcd }],
      protocol: 17,
    },
    payload: 'later',
  },
  {
    ipv6: { ...ipv6, extensions: [{ header: 0, body: Uint8Array.of(5, 2, 0, 0, 1, 0) }] },
    icmp6: { type: 143, sequence: 1 },
    payload: bytes([4, 0, 0, 0], [0xff, 2], new Uint8Array(13), [0x16]),
  },
  {
    arp: {
      operation: 1,
      senderMac: '02:00:00:00:00:02',
      senderIp: '10.0.0.1',
      targetMac: '00:00:00:00:00:00',
      targetIp: '10.0.0.2',
    },
    padTo: 60,
  },
  {
    arp: {
      operation: 1,
      senderMac: '02:00:00:00:00:02',
      senderIp: '10.0.0.1',
      targetMac: '02:00:00:00:00:09',
      targetIp: '10.0.0.2',
    },
  },
  {
    arp: {
      operation: 2,
      senderMac: '02:00:00:00:00:02',
      senderIp: '10.0.0.1',
      targetMac: '02:00:00:00:00:03',
      targetIp: '10.0.0.2',
    },
  },
  { vlans: [{ id: 5, priority: 3 }], ipv4, icmp: { type: 8, identifier: 9, sequence: 1 }, payload: 'ping' },
  {
    vlans: [{ id: 100 }, { id: 200, dropEligible: true }],
    ipv6,
    udp: { srcPort: 1000, dstPort: 2000 },
    payload: 'tagged',
  },
  ...[0, 1, 2, 3, 4, 5, 9, 10, 13, 15].map((code) => icmp(3, code, code === 4 ? 1400 : 0)),
  ...[0, 1, 2, 3].map((code) => icmp(5, code, 257)),
  icmp(11, 0),
  icmp(11, 1),
  icmp(12, 0),
  icmp(4, 0),
  { ipv4, icmp: { type: 0, identifier: 65535, sequence: 65535 }, payload: 'pong' },
  { ipv4, icmp: { type: 8, checksum: 7 } },
  { ipv4, icmp: { type: 200 } },
  ...[0, 1, 2, 3, 4].map((code) => icmp6(1, code)),
  icmp6(2, 0, 1280),
  icmp6(3, 0),
  icmp6(3, 1),
  icmp6(4, 0, 6),
  { ipv6, icmp6: { type: 128, identifier: 1, sequence: 2 }, payload: 'ping' },
  { ipv6, icmp6: { type: 129, identifier: 1, sequence: 2, checksum: 1 }, payload: 'ping' },
  { ipv6: link, icmp6: { type: 133 } },
  {
    ipv6: link,
    icmp6: { type: 134, identifier: 0x40c0, sequence: 1800 },
    payload: bytes(
      u16(0, 30000, 0, 1000),
      [1, 1, 2, 0, 0, 0, 0, 1],
      [5, 1, 0, 0, 0, 0, 5, 0xdc],
      [3, 4, 64, 0xc0],
      u16(0, 3600, 0, 1800, 0, 0),
      [0x20, 1, 0xd, 0xb8],
      new Uint8Array(12),
    ),
  },
  { ipv6: link, neighbour },
  { ipv6: link, neighbour: { ...neighbour, sourceLinkLayer: '02:00:00:00:00:05' } },
  {
    ipv6: link,
    neighbour: {
      kind: 'neighbour-advertisement',
      target: 'fe80::7',
      router: true,
      solicited: true,
      override: true,
      targetLinkLayer: '02:00:00:00:00:07',
    },
  },
  { ipv6: link, neighbour: { kind: 'neighbour-advertisement', target: 'fe80::7' } },
  ...dnsMessages.map((payload) => ({ ipv4, udp: { srcPort: 40000, dstPort: 53 }, payload })),
  ...dnsMessages.map((payload) => ({ ipv6, udp: { srcPort: 53, dstPort: 40000 }, payload })),
  {
    ipv4,
    tcp: { srcPort: 40000, dstPort: 53, flags: 0x18 },
    payload: bytes(u16(dnsMessages[0].length), dnsMessages[0]),
  },
  {
    ipv4,
    tcp: { srcPort: 40000, dstPort: 80, flags: 0x18 },
    payload: 'GET /index.html HTTP/1.1\r\nHost: example.org\r\n\r\n',
  },
  {
    ipv4,
    tcp: { srcPort: 80, dstPort: 40000, flags: 0x18 },
    payload: 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n',
  },
  { ipv4, tcp: { srcPort: 80, dstPort: 40000, flags: 0x18 }, payload: Uint8Array.of(1, 2, 3, 4) },
  {
    ipv4,
    udp: { srcPort: 5060, dstPort: 5060 },
    payload: 'INVITE sip:bob@example.org SIP/2.0\r\nVia: SIP/2.0/UDP host\r\n\r\n',
  },
  { ipv4, udp: { srcPort: 5060, dstPort: 5060 }, payload: 'SIP/2.0 180 Ringing\r\n\r\n' },
  { ethernet: { etherType: 0x88b5 }, payload: 'experiment' },
  { ethernet: { etherType: 0x1234 }, payload: 'unknown' },
  // IGMP, with right checksums and wrong ones.
  ...[
    '16000000e0000001',
    '1600098cf6fffffb',
    '1164000000000000',
    '1100000000000000',
    '11050000e0010101',
    '17000000e0010101',
    '12000000e0010101',
    '12000000e001010101020304',
    '2200000000000001' + '04000000e0010101',
    '2200000000000002' + '03000001e00101010a000009' + '01000000e0010102',
    '2200000000000009' + '04000000e0010101',
    '2200000000000001' + '09000002e0010101',
    '22000000',
    '116400000000000002' + '7d0000',
    '11ff0000e0010101027d00010a000009',
    '11640000e0010101027d00050a000009',
    '99000000',
  ].map((hex) => ({
    ipv4: { src: '192.0.2.1', dst: '224.0.0.1', ttl: 1, protocol: 2 },
    payload: Buffer.from(hex, 'hex'),
  })),
  // Multicast DNS: who asks alone, and what is to be forgotten.
  ...[
    '000000000002000000000000' +
      '055f68747470045f746370056c6f63616c00000c0001' +
      '03666f6f056c6f63616c0000ff8001',
    '000084000000000200000000' +
      '03666f6f056c6f63616c000001800100000078000401020304' +
      '03666f6f056c6f63616c0000100001000000780002' +
      '0141',
  ].map((hex) => ({
    ipv4: { src: '192.0.2.1', dst: '224.0.0.251' },
    udp: { srcPort: 5353, dstPort: 5353 },
    payload: Buffer.from(hex, 'hex'),
  })),
  // Options of TCP that few use, and wrong ones.
  ...[
    '22020101',
    '220a61626364656667680101',
    '2205616263010101',
    '1c04012c',
    '1c048005',
    '1c03010101010101',
    '1312000102030405060708090a0b0c0d0e0f0101',
    '13046162',
    '1d100102000102030405060708090a0b',
    '1d030101',
    '02030501',
    '04036101',
    'fe0cf9896162636465666768',
    'fe06f98961620101',
    'fe03f901',
    'fe041234',
    'fe06123461620101',
    '14046162',
  ].map((hex) => ({
    ipv4: { ...ipv4, protocol: 6 },
    payload: bytes(
      u16(1, 2, 0, 1, 0, 0),
      [(5 + hex.length / 8) << 4, 2],
      u16(100, 0, 0),
      Buffer.from(hex, 'hex'),
    ),
  })),
  // Destinations that are unreachable for no known reason, and one more parameter.
  ...['0104', '0105', '0106', '0108', '0403'].map((hex) => ({
    ipv6: { ...ipv6, protocol: 58 },
    payload: bytes(
      Buffer.from(`${hex}000000000006`, 'hex'),
      buildPacket({ ipv6, udp: { srcPort: 7, dstPort: 9 }, payload: 'quoted' }).subarray(14),
    ),
  })),
  // UDP without a checksum, where there has to be one and where not; and less than a header of it.
  { ipv6: { ...ipv6, protocol: 17 }, payload: bytes(u16(7, 9, 12, 0), 'none') },
  { ipv4: { ...ipv4, protocol: 17 }, payload: bytes(u16(7, 9, 12, 0), 'none') },
  ...[4, 7].map((length) => ({
    ipv6: { ...ipv6, protocol: 17 },
    payload: bytes(u16(7, 9, 8, 0)).subarray(0, length),
  })),
  // What is not of the version or operation that was announced.
  { ethernet: { etherType: 0x86dd }, payload: bytes([0x40], new Uint8Array(50)) },
  {
    ethernet: { etherType: 0x0806 },
    payload: bytes(
      u16(1, 0x800),
      [6, 4],
      u16(77),
      Uint8Array.from({ length: 20 }, (_, i) => i),
    ),
  },
  // Nobody knows what is behind the tags.
  { vlans: [{ id: 5 }], ethernet: { etherType: 0x1234 }, payload: 'unknown' },
  { vlans: [{ id: 5 }, { id: 6 }], ethernet: { etherType: 0x1234 }, payload: 'unknown' },
]

/** Packets that end within a header: what tcpdump dumps of them begins elsewhere, but what it says is compared. */
export const short: PacketDescription[] = [
  {
    ipv4: { ...ipv4, protocol: 6 },
    payload: bytes(u16(1, 2, 0, 1, 0, 0), [6 << 4, 2], u16(100, 0, 0), [3, 4, 7, 8]),
  },
  { ipv6: { ...ipv6, protocol: 17 } },
  { ipv4: { ...ipv4, protocol: 17 }, payload: Uint8Array.of(0, 7, 0) },
  { ethernet: { etherType: 0x86dd }, payload: bytes([0x60], new Uint8Array(20)) },
  { ethernet: { etherType: 0x0806 }, payload: bytes(u16(1, 0x800), [6, 4]) },
]

/** Ports that tcpdump has a printer for and we have none; packets from and to them are left out of what is compared. */
const someonesPort = (port: number) =>
  port < 7000 || [8080, 8765, 9875, 10000, 11111, 12222, 17754].includes(port)

/** Random packets that tcpdump prints by their headers alone. */
export const random: PacketDescription[] = fc
  .sample(description, { numRuns: 1500, seed: 77 })
  .filter(({ udp, tcp: segment }) => {
    const ports = [udp?.srcPort, udp?.dstPort, segment?.srcPort, segment?.dstPort]
    return !ports.some((port) => port !== undefined && someonesPort(port))
  })
