// The layers of a packet as JSON has them: objects made of what the packet floor decodes, from the outside in.
import {
  decodeArp,
  decodeEthernet,
  decodeIcmp,
  decodeIpv4,
  decodeIpv6,
  decodeNeighbour,
  decodeTcp,
  decodeUdp,
  decodeVlan,
  isVlanType,
  Headers,
  parseHeaders,
  parseIpHeaders,
} from '../../packet/index.js'
import { LINKTYPE_ETHERNET, LINKTYPE_RAW, type PacketRecord } from '../../packet/pcap-record.js'
import { applicationOf, dnsPrefix, firstLine, isMulticastDns } from './application.js'
import { printDns } from './dns.js'
import { Line } from './line.js'
import { SequenceTable } from './sequences.js'
import { TextBuffer } from './text.js'
import { serverName, tlsRecord } from './tls.js'

/** A layer: its `layer` names it, the other fields are those of the packet floor's decoder. */
export interface JsonLayer {
  layer: string
  [field: string]: unknown
}

/** Bytes of a DNS message's fixed part (RFC 1035 section 4.1.1). */
const DNS_HEADER = 12

/** For what nearly all packets are, so that it costs nothing. */
const NONE: readonly JsonLayer[] = []

const applicationLine = new Line({ verbosity: 1 }, new SequenceTable(1))
const text = new TextBuffer(4096)

/** A decoded header without what only says where things are; nothing when it is malformed. */
export function layerOf(layer: string, decoded: object): JsonLayer[] {
  if ('problem' in decoded && decoded.problem !== undefined) return []
  const fields: Record<string, unknown> = {}
  for (const [name, value] of Object.entries(decoded)) {
    if (['payloadOffset', 'payloadEnd', 'truncated', 'problem'].includes(name)) continue
    if (Array.isArray(value) && value.length === 0) continue
    fields[name] = plain(value)
  }
  return [{ layer, ...fields }]
}

/** Bytes as hexadecimal, everything else as it is. */
function plain(value: unknown): unknown {
  if (value instanceof Uint8Array) return Buffer.from(value).toString('hex')
  if (Array.isArray(value)) return value.map(plain)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([name, field]) => [name, plain(field)]))
}

export interface DecodedLayers {
  layers: JsonLayer[]
  problem?: string
}

export function decodeLayers(packet: PacketRecord): DecodedLayers {
  const { bytes, offset, length, linkType } = packet
  if (linkType === LINKTYPE_ETHERNET) return decodeFrame(packet)
  if (linkType !== LINKTYPE_RAW) return { layers: [] }
  const h = parseIpHeaders(bytes, offset, length, new Headers())
  const layers = networkLayers(bytes, h, h.etherType)
  return h.problem === 'none' ? { layers } : { layers, problem: h.problem }
}

function decodeFrame({ bytes, offset, length }: PacketRecord): DecodedLayers {
  const h = parseHeaders(bytes, offset, length, new Headers())
  const ethernet = decodeEthernet(bytes, offset, h.end)
  const layers = layerOf('ethernet', ethernet)
  if (ethernet.problem) return { layers, problem: ethernet.problem }
  let etherType = ethernet.etherType
  for (let at = ethernet.payloadOffset; isVlanType(etherType);) {
    const vlan = decodeVlan(bytes, at, h.end)
    if (vlan.problem) break
    layers.push(...layerOf('vlan', vlan))
    etherType = vlan.etherType
    at = vlan.payloadOffset
  }
  layers.push(...networkLayers(bytes, h, etherType))
  return h.problem === 'none' ? { layers } : { layers, problem: h.problem }
}

function networkLayers(bytes: Uint8Array, h: Headers, etherType: number): JsonLayer[] {
  if (h.l3Offset < 0) return []
  if (etherType === 0x0806) return layerOf('arp', decodeArp(bytes, h.l3Offset, h.end))
  if (h.ipVersion === 0) return []
  const ip =
    h.ipVersion === 4
      ? layerOf('ipv4', decodeIpv4(bytes, h.l3Offset, h.end))
      : layerOf('ipv6', decodeIpv6(bytes, h.l3Offset, h.end))
  return h.l4Offset < 0 ? ip : [...ip, ...transportLayers(bytes, h)]
}

function transportLayers(bytes: Uint8Array, h: Headers): JsonLayer[] {
  const { l4Offset: at, payloadEnd: end } = h
  switch (h.protocol) {
    case 1:
      return h.ipVersion === 4 ? layerOf('icmp', decodeIcmp(bytes, at, end)) : []
    case 58: {
      if (h.ipVersion !== 6) return []
      const neighbour = decodeNeighbour(bytes, at, end)
      return [...layerOf('icmpv6', decodeIcmp(bytes, at, end)), ...layerOf('neighbour-discovery', neighbour)]
    }
    case 17: {
      const udp = layerOf('udp', decodeUdp(bytes, at, end))
      return udp.length === 0 || h.payloadOffset < 0 ? udp : [...udp, ...applicationLayers(bytes, h)]
    }
    case 6: {
      const tcp = layerOf('tcp', decodeTcp(bytes, at, end))
      if (tcp.length === 0 || h.payloadOffset < 0) return tcp
      tcp[0]['payloadLength'] = end - h.payloadOffset
      return [...tcp, ...applicationLayers(bytes, h)]
    }
    default:
      return []
  }
}

export function applicationLayers(bytes: Uint8Array, h: Headers): readonly JsonLayer[] {
  const { payloadOffset: at, payloadEnd: end } = h
  const length = end - at
  if (length <= 0) return NONE
  const transport = h.protocol === 6 ? 'tcp' : 'udp'
  const line = applicationLine
  text.clear()
  line.begin(bytes, end, text)
  const layer = applicationOf(h.srcPort, h.dstPort, transport)
  if (layer === 'dns') {
    const prefix = dnsPrefix(transport)
    if (length < prefix + DNS_HEADER) return []
    printDns(line, at + prefix, length - prefix, isMulticastDns(h.srcPort, h.dstPort, transport))
    return [{ layer, text: text.toString() }]
  }
  if (layer !== undefined) {
    const first = firstLine(line, at, length)
    return first === '' ? [] : [{ layer, text: first }]
  }
  const record = transport === 'tcp' ? tlsRecord(line, at, length) : undefined
  if (record === undefined) return NONE
  const name = record === 'Client Hello' ? serverName(line, at) : undefined
  return [{ layer: 'tls', record, ...(name !== undefined && { serverName: name }) }]
}
