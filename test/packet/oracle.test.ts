// Wireshark and tcpdump as judges: what we build is right for them, and they read the fields that we read.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  buildPacket,
  decodeArp,
  decodeEthernet,
  decodeIcmp,
  decodeIpv4,
  decodeIpv6,
  decodeNeighbour,
  decodeTcp,
  decodeUdp,
  decodeVlan,
  type Decoded,
  Headers,
  type PacketDescription,
  parseHeaders,
  parseMac,
  replyToArp,
  replyToEcho,
  replyToNeighbourSolicitation,
} from '../../src/packet/index.js'
import { description } from './generate.js'
import { tcpdump, tshark, withCapture } from './pcap.js'

type Fields = Record<string, string>

function sound<T>(header: Decoded<T>): T {
  if (header.problem) assert.fail(header.problem)
  return header
}
const bit = (value: boolean) => (value ? '1' : '0')
const hex = (value: number, digits: number) => `0x${value.toString(16).padStart(digits, '0')}`

/** What tshark should print for this frame, by our own decoders. Checksum status 1 is "good". */
function expected(bytes: Uint8Array): Fields {
  const h = parseHeaders(bytes, 0, bytes.length, new Headers())
  assert.equal(h.problem, 'none')
  const { src, dst } = sound(decodeEthernet(bytes, 0, h.end))
  const fields: Fields = { 'eth.src': src, 'eth.dst': dst, ...expectedVlans(bytes, h) }
  if (h.ipVersion === 0) return { ...fields, ...expectedArp(bytes, h) }
  return {
    ...fields,
    ...(h.ipVersion === 4 ? expectedIpv4 : expectedIpv6)(bytes, h),
    ...expectedL4(bytes, h),
  }
}

function expectedVlans(bytes: Uint8Array, h: Headers): Fields {
  const tags: { id: number; priority: number }[] = []
  for (let i = 0; i < h.vlanCount; i++) tags.push(sound(decodeVlan(bytes, 14 + 4 * i, h.end)))
  // The last tag is 802.1Q. Two 802.1ad tags before it are one header to tshark, with names of their own.
  const service = tags.slice(0, -1).map(({ id }) => String(id))
  const ids = service.length === 2 ? ['', ...service] : [service[0] ?? '', '', '']
  return {
    'vlan.id': String(tags.at(-1)?.id ?? ''),
    'vlan.priority': String(tags.at(-1)?.priority ?? ''),
    'ieee8021ad.id': ids[0],
    'ieee8021ad.svid': ids[1],
    'ieee8021ad.cvid': ids[2],
  }
}

function expectedArp(bytes: Uint8Array, h: Headers): Fields {
  const arp = sound(decodeArp(bytes, h.l3Offset, h.end))
  return {
    'arp.opcode': String(arp.operation),
    'arp.src.hw_mac': arp.senderMac,
    'arp.src.proto_ipv4': arp.senderIp,
    'arp.dst.hw_mac': arp.targetMac,
    'arp.dst.proto_ipv4': arp.targetIp,
  }
}

function expectedIpv4(bytes: Uint8Array, h: Headers): Fields {
  const ip = sound(decodeIpv4(bytes, h.l3Offset, h.end))
  return {
    'ip.src': ip.src,
    'ip.dst': ip.dst,
    'ip.len': String(ip.totalLength),
    'ip.hdr_len': String(ip.payloadOffset - h.l3Offset),
    'ip.id': hex(ip.identification, 4),
    'ip.ttl': String(ip.ttl),
    'ip.proto': String(ip.protocol),
    'ip.flags.df': bit(ip.dontFragment),
    'ip.dsfield.dscp': String(ip.dscp),
    'ip.dsfield.ecn': String(ip.ecn),
    'ip.checksum': hex(ip.checksum, 4),
    'ip.checksum.status': '1',
  }
}

function expectedIpv6(bytes: Uint8Array, h: Headers): Fields {
  const ip = sound(decodeIpv6(bytes, h.l3Offset, h.end))
  return {
    'ipv6.src': ip.src,
    'ipv6.dst': ip.dst,
    'ipv6.plen': String(ip.payloadLength),
    'ipv6.hlim': String(ip.hopLimit),
    'ipv6.tclass': hex(ip.trafficClass, 8),
    'ipv6.flow': hex(ip.flowLabel, 6),
  }
}

function expectedL4(bytes: Uint8Array, h: Headers): Fields {
  const at = h.l4Offset
  if (h.protocol === 17) {
    const udp = sound(decodeUdp(bytes, at, h.payloadEnd))
    return {
      'udp.srcport': String(udp.srcPort),
      'udp.dstport': String(udp.dstPort),
      'udp.length': String(udp.length),
      'udp.checksum.status': '1',
    }
  }
  if (h.protocol === 6) {
    const { options, ...tcp } = sound(decodeTcp(bytes, at, h.payloadEnd))
    return {
      'tcp.srcport': String(tcp.srcPort),
      'tcp.dstport': String(tcp.dstPort),
      'tcp.seq_raw': String(tcp.sequence),
      'tcp.ack_raw': String(tcp.acknowledgment),
      'tcp.flags': hex(tcp.flags, 4),
      'tcp.window_size_value': String(tcp.window),
      'tcp.len': String(h.payloadEnd - h.payloadOffset),
      'tcp.checksum.status': '1',
      'tcp.options.mss_val': options.mss === undefined ? '' : String(options.mss),
      'tcp.options.wscale.shift': options.windowScale === undefined ? '' : String(options.windowScale),
      'tcp.options.timestamp.tsval': options.timestamps ? String(options.timestamps.value) : '',
      'tcp.options.timestamp.tsecr': options.timestamps ? String(options.timestamps.echo) : '',
      'tcp.options.sack_le': (options.sack ?? []).map(([left]) => left).join(),
      'tcp.options.sack_re': (options.sack ?? []).map(([, right]) => right).join(),
    }
  }
  const name = h.ipVersion === 4 ? 'icmp' : 'icmpv6'
  const icmp = sound(decodeIcmp(bytes, at, h.payloadEnd))
  const fields: Fields = {
    [`${name}.type`]: String(icmp.type),
    [`${name}.code`]: String(icmp.code),
    [`${name}.checksum.status`]: '1',
  }
  return { ...fields, ...(icmp.type >= 133 ? expectedNeighbour(bytes, h) : expectedEcho(name, icmp)) }
}

function expectedEcho(name: string, icmp: { identifier: number; sequence: number }): Fields {
  // tshark shows ICMP's identifier in both byte orders.
  return name === 'icmp'
    ? { 'icmp.seq': String(icmp.sequence) }
    : {
        'icmpv6.echo.identifier': hex(icmp.identifier, 4),
        'icmpv6.echo.sequence_number': String(icmp.sequence),
      }
}

function expectedNeighbour(bytes: Uint8Array, h: Headers): Fields {
  const message = sound(decodeNeighbour(bytes, h.l4Offset, h.payloadEnd))
  const options = { 'icmpv6.opt.linkaddr': message.sourceLinkLayer ?? message.targetLinkLayer ?? '' }
  if (message.kind === 'neighbour-solicitation') {
    return { 'icmpv6.nd.ns.target_address': message.target, ...options }
  }
  assert.ok(message.kind === 'neighbour-advertisement')
  return {
    'icmpv6.nd.na.target_address': message.target,
    'icmpv6.nd.na.flag.r': bit(message.router),
    'icmpv6.nd.na.flag.s': bit(message.solicited),
    'icmpv6.nd.na.flag.o': bit(message.override),
    ...options,
  }
}

/** Answers to requests of every kind, as the responder would send them. */
function replies(): Uint8Array[] {
  const mac = parseMac('02:00:00:00:00:77')
  assert.ok(mac)
  const echo = { identifier: 7, sequence: 0xfffe }
  const ipv4 = { src: '10.0.0.1', dst: '10.0.0.2', ttl: 200 }
  const ipv6 = { src: 'fd00::1', dst: 'fd00::2' }
  const nd = { src: 'fe80::1', dst: 'ff02::1:ff00:2', hopLimit: 255 }
  const neighbour = { kind: 'neighbour-solicitation' as const, target: 'fe80::2' }
  const arp = {
    operation: 1,
    senderMac: '02:00:00:00:00:02',
    senderIp: '10.0.0.1',
    targetMac: new Uint8Array(6),
    targetIp: '10.0.0.2',
  }
  const requests: PacketDescription[] = [
    { ipv4, icmp: { type: 8, ...echo }, payload: 'abcdefg' },
    { vlans: [{ id: 3 }], ipv4: { ...ipv4, ttl: 1 }, icmp: { type: 8, ...echo } },
    { ipv6, icmp6: { type: 128, ...echo }, payload: 'abcdefg' },
    { vlans: [{ id: 3 }, { id: 4 }], ipv6, icmp6: { type: 128, ...echo } },
    { arp, padTo: 60 },
    { ipv6: nd, neighbour },
    { ipv6: nd, neighbour: { ...neighbour, sourceLinkLayer: '02:00:00:00:00:02' } },
    { vlans: [{ id: 9 }], ipv6: { ...nd, src: '::' }, neighbour },
  ]
  const h = new Headers()
  return requests.map((request) => {
    const frame = buildPacket(request)
    const bytes = new Uint8Array(256)
    bytes.set(frame)
    parseHeaders(bytes, 0, frame.length, h)
    const answer = [
      () => replyToEcho(bytes, h),
      () => replyToArp(bytes, h, mac),
      () => replyToNeighbourSolicitation(bytes, h, mac, bytes.length),
    ]
    const length = answer.reduce((found, reply) => (found > 0 ? found : reply()), -1)
    assert.ok(length > 0)
    return bytes.slice(0, length)
  })
}

const frames = [...fc.sample(description, { numRuns: 400, seed: 20 }).map(buildPacket), ...replies()]

test('tshark finds every checksum good and reads the fields that we read', () => {
  const wanted = frames.map(expected)
  const names = [...new Set(wanted.flatMap((fields) => Object.keys(fields)))]
  const found = withCapture(frames, (path) => tshark(path, [...names, '_ws.malformed']))
  assert.equal(found.length, frames.length)
  for (const [i, fields] of wanted.entries()) {
    const read = found[i]
    for (const [name, value] of Object.entries(fields)) {
      assert.equal(read[name], value, `${name} of frame ${i + 1}: ${Buffer.from(frames[i]).toString('hex')}`)
    }
    assert.equal(read['_ws.malformed'], '', `frame ${i + 1}`)
  }
  const kinds = [
    'arp.opcode',
    'icmp.type',
    'icmpv6.type',
    'udp.length',
    'tcp.flags',
    'ieee8021ad.id',
    'ieee8021ad.cvid',
    'tcp.options.sack_le',
  ]
  for (const kind of kinds)
    assert.ok(
      found.some((fields) => fields[kind] !== ''),
      `no frame had ${kind}`,
    )
})

test('tcpdump names no checksum or header of them bad, and does name one that is', () => {
  const complaint = /bad (udp |icmp6? )?cksum|\(incorrect|wrong|truncated-|\[\|/
  const text = withCapture(frames, tcpdump)
  assert.doesNotMatch(text, complaint)
  for (const packet of [
    { ipv4: { src: '10.0.0.1', dst: '10.0.0.2', checksum: 1 }, udp: { srcPort: 1, dstPort: 2 } },
    { ipv4: { src: '10.0.0.1', dst: '10.0.0.2' }, udp: { srcPort: 1, dstPort: 2, checksum: 1 } },
    { ipv6: { src: 'fd00::1', dst: 'fd00::2' }, tcp: { srcPort: 1, dstPort: 2, flags: 2, checksum: 1 } },
    { ipv6: { src: 'fd00::1', dst: 'fd00::2' }, icmp6: { type: 128, checksum: 1 } },
    { ipv4: { src: '10.0.0.1', dst: '10.0.0.2' }, icmp: { type: 8, checksum: 1 } },
  ]) {
    assert.match(withCapture([buildPacket(packet)], tcpdump), complaint)
  }
})
