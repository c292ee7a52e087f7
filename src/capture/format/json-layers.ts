// The layers of a packet as JSON text, without the objects: the same as JSON.stringify makes of `decodeLayers`.
import {
  decodeArp,
  decodeIcmp,
  decodeIpv4,
  decodeIpv6,
  decodeNeighbour,
  decodeTcp,
  Headers,
  isIpv6Extension,
  isVlanType,
  parseHeaders,
  parseIpHeaders,
  type Problem,
} from '../../packet/index.js'
import { LINKTYPE_ETHERNET, LINKTYPE_RAW, type PacketRecord } from '../../packet/pcap-record.js'
import { applicationLayers, layerOf, type JsonLayer } from './layers.js'
import type { Line } from './line.js'
import type { TextBuffer } from './text.js'

const OPEN_BRACKET = 0x5b
/** The options that TCP segments have beside none, nearly always: two no-operations and timestamps. */
const TIMESTAMPS = 0x0101080a

const headers = new Headers()

/** Adds the layers with commas between them; what is wrong with the packet. What is rare is decoded and stringified. */
export function addLayers(packet: PacketRecord, line: Line, text: TextBuffer): Problem | 'none' {
  const { bytes, offset, length, linkType } = packet
  if (linkType === LINKTYPE_ETHERNET) {
    const h = parseHeaders(bytes, offset, length, headers)
    line.begin(bytes, h.end, text)
    return addFrame(line, h, offset)
  }
  if (linkType !== LINKTYPE_RAW) return 'none'
  const h = parseIpHeaders(bytes, offset, length, headers)
  line.begin(bytes, h.end, text)
  addNetwork(line, h, h.etherType)
  return h.problem
}

function addFrame(line: Line, h: Headers, offset: number): Problem | 'none' {
  if (!line.has(offset, 14)) return 'short-ethernet'
  begin(line, 'ethernet')
  line.add(',"dst":"')
  line.mac(offset)
  line.add('","src":"')
  line.mac(offset + 6)
  line.add('"')
  let etherType = line.u16(offset + 12)
  field(line, ',"etherType":', etherType)
  line.add('}')
  for (let at = offset + 14; isVlanType(etherType) && line.has(at, 4); at += 4) {
    const tci = line.u16(at)
    begin(line, 'vlan')
    field(line, ',"priority":', tci >>> 13)
    flag(line, ',"dropEligible":', tci & 0x1000)
    field(line, ',"id":', tci & 0x0fff)
    etherType = line.u16(at + 2)
    field(line, ',"etherType":', etherType)
    line.add('}')
  }
  addNetwork(line, h, etherType)
  return h.problem
}

function addNetwork(line: Line, h: Headers, etherType: number): void {
  const { l3Offset: at, end } = h
  const { bytes } = line
  if (at < 0) return
  if (etherType === 0x0806) return addAll(line, layerOf('arp', decodeArp(bytes, at, end)))
  if (h.ipVersion === 0) return
  if (h.ipVersion === 4) {
    if (line.has(at, 20) && line.u8(at) === 0x45 && line.u16(at + 2) >= 20) addIpv4(line, at)
    else addAll(line, layerOf('ipv4', decodeIpv4(bytes, at, end)))
  } else if (line.has(at, 40) && line.u8(at) >>> 4 === 6 && !isIpv6Extension(line.u8(at + 6))) {
    addIpv6(line, at)
  } else addAll(line, layerOf('ipv6', decodeIpv6(bytes, at, end)))
  if (h.l4Offset >= 0) addTransport(line, h)
}

/** A header without options. */
function addIpv4(line: Line, at: number): void {
  const tos = line.u8(at + 1)
  const fragment = line.u16(at + 6)
  begin(line, 'ipv4')
  field(line, ',"dscp":', tos >>> 2)
  field(line, ',"ecn":', tos & 3)
  field(line, ',"totalLength":', line.u16(at + 2))
  field(line, ',"identification":', line.u16(at + 4))
  flag(line, ',"dontFragment":', fragment & 0x4000)
  flag(line, ',"moreFragments":', fragment & 0x2000)
  field(line, ',"fragmentOffset":', (fragment & 0x1fff) * 8)
  field(line, ',"ttl":', line.u8(at + 8))
  field(line, ',"protocol":', line.u8(at + 9))
  field(line, ',"checksum":', line.u16(at + 10))
  line.add(',"src":"')
  line.ipv4(at + 12)
  line.add('","dst":"')
  line.ipv4(at + 16)
  line.add('"}')
}

/** A header without extension headers. */
function addIpv6(line: Line, at: number): void {
  const word = line.u32(at)
  begin(line, 'ipv6')
  field(line, ',"trafficClass":', (word >>> 20) & 0xff)
  field(line, ',"flowLabel":', word & 0xfffff)
  field(line, ',"payloadLength":', line.u16(at + 4))
  field(line, ',"hopLimit":', line.u8(at + 7))
  line.add(',"src":"')
  line.ipv6(at + 8)
  line.add('","dst":"')
  line.ipv6(at + 24)
  line.add('"')
  field(line, ',"protocol":', line.u8(at + 6))
  line.add('}')
}

function addTransport(line: Line, h: Headers): void {
  const { l4Offset: at, payloadEnd: end } = h
  const { bytes } = line
  switch (h.protocol) {
    case 1:
      if (h.ipVersion === 4) addAll(line, layerOf('icmp', decodeIcmp(bytes, at, end)))
      return
    case 58:
      if (h.ipVersion !== 6) return
      addAll(line, layerOf('icmpv6', decodeIcmp(bytes, at, end)))
      return addAll(line, layerOf('neighbour-discovery', decodeNeighbour(bytes, at, end)))
    case 17:
      if (at + 8 > end || line.u16(at + 4) < 8) return
      addUdp(line, at)
      break
    case 6:
      if (!addTcp(line, at, end, h.payloadOffset)) return
  }
  if (h.payloadOffset >= 0 && (h.protocol === 17 || h.protocol === 6))
    addAll(line, applicationLayers(bytes, h))
}

function addUdp(line: Line, at: number): void {
  begin(line, 'udp')
  field(line, ',"srcPort":', line.u16(at))
  field(line, ',"dstPort":', line.u16(at + 2))
  field(line, ',"length":', line.u16(at + 4))
  field(line, ',"checksum":', line.u16(at + 6))
  line.add('}')
}

/** False for a header that is malformed, of which there is no layer. */
function addTcp(line: Line, at: number, end: number, payload: number): boolean {
  const size = at + 20 <= end ? (line.u8(at + 12) >>> 4) * 4 : 0
  const hasTimestamps = size === 32 && at + 32 <= end && line.u32(at + 20) === TIMESTAMPS
  if (size !== 20 && !hasTimestamps) {
    const tcp = layerOf('tcp', decodeTcp(line.bytes, at, end))
    if (tcp.length === 0) return false
    if (payload >= 0) tcp[0]['payloadLength'] = end - payload
    addAll(line, tcp)
    return true
  }
  begin(line, 'tcp')
  field(line, ',"srcPort":', line.u16(at))
  field(line, ',"dstPort":', line.u16(at + 2))
  field(line, ',"sequence":', line.u32(at + 4))
  field(line, ',"acknowledgment":', line.u32(at + 8))
  field(line, ',"flags":', line.u16(at + 12) & 0x0fff)
  field(line, ',"window":', line.u16(at + 14))
  field(line, ',"checksum":', line.u16(at + 16))
  field(line, ',"urgentPointer":', line.u16(at + 18))
  line.add(',"options":{')
  if (hasTimestamps) {
    field(line, '"timestamps":{"value":', line.u32(at + 24))
    field(line, ',"echo":', line.u32(at + 28))
    line.add('}')
  }
  line.add('}')
  if (payload >= 0) field(line, ',"payloadLength":', end - payload)
  line.add('}')
  return true
}

function begin({ out }: Line, layer: string): void {
  comma(out)
  out.add('{"layer":"')
  out.add(layer)
  out.add('"')
}

function field({ out }: Line, key: string, value: number): void {
  out.add(key)
  out.number(value)
}

function flag({ out }: Line, key: string, value: number): void {
  out.add(key)
  out.add(value === 0 ? 'false' : 'true')
}

function addAll({ out }: Line, layers: readonly JsonLayer[]): void {
  for (const layer of layers) {
    comma(out)
    out.add(JSON.stringify(layer))
  }
}

/** Before each layer but the first. */
function comma(out: TextBuffer): void {
  if (out.bytes[out.length - 1] !== OPEN_BRACKET) out.add(',')
}
