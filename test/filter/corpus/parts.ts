// Headers as bytes, laid down one behind the other. Nothing is checked and checksums stay 0: libpcap looks at neither.
import { ETHERTYPES } from './names.js'

export type Part = Uint8Array | readonly number[]

export const be16 = (value: number): number[] => [(value >>> 8) & 0xff, value & 0xff]
export const be32 = (value: number): number[] => [...be16(value >>> 16), ...be16(value)]
export const zeros = (length: number): Uint8Array => new Uint8Array(length)

export function join(...parts: readonly Part[]): Uint8Array {
  const result = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0))
  let at = 0
  for (const part of parts) {
    result.set(part, at)
    at += part.length
  }
  return result
}

export const mac = (text: string): number[] => text.split(':').map((byte) => parseInt(byte, 16))
export const ip4 = (text: string): number[] => text.split('.').map(Number)

export function ip6(text: string): number[] {
  const [head, tail] = text.split('::')
  const words = (part: string | undefined) => (part ? part.split(':').map((word) => parseInt(word, 16)) : [])
  const front = words(head)
  const back = words(tail)
  return [...front, ...Array<number>(8 - front.length - back.length).fill(0), ...back].flatMap(be16)
}

/** The addresses of a frame; what comes next begins with its type or length. */
export const ethernet = (destination: string, source: string): Part => [...mac(destination), ...mac(source)]

export const vlanTag = (id: number, type: number = ETHERTYPES.vlan, priority = 0): Part => [
  ...be16(type),
  ...be16((priority << 13) | id),
]

/** A label stack, the bottom marked. The type before it is the caller's. */
export const mplsStack = (labels: readonly number[]): Part =>
  labels.flatMap((label, i) => be32(((label << 12) | (i === labels.length - 1 ? 0x100 : 0) | 64) >>> 0))

export const pppoe = (code: number, session: number, protocol: number, payload: Part): Uint8Array =>
  join([0x11, code, ...be16(session), ...be16(payload.length + 2), ...be16(protocol)], payload)

export interface Ipv4Fields {
  source: string
  destination: string
  protocol: number
  options?: Part
  /** In units of 8 bytes. */
  fragment?: number
  more?: boolean
  ttl?: number
  tos?: number
  id?: number
}

export function ipv4(fields: Ipv4Fields, payload: Part): Uint8Array {
  const options = fields.options ?? []
  const words = 5 + options.length / 4
  return join(
    [0x40 | words, fields.tos ?? 0, ...be16(words * 4 + payload.length), ...be16(fields.id ?? 0)],
    be16((fields.more ? 0x2000 : 0) | (fields.fragment ?? 0)),
    [fields.ttl ?? 64, fields.protocol, 0, 0],
    ip4(fields.source),
    ip4(fields.destination),
    options,
    payload,
  )
}

export interface Ipv6Fields {
  source: string
  destination: string
  /** Of what follows the fixed header. */
  next: number
  hops?: number
  trafficClass?: number
  flow?: number
}

export const ipv6 = (fields: Ipv6Fields, payload: Part): Uint8Array =>
  join(
    be32(((6 << 28) | ((fields.trafficClass ?? 0) << 20) | (fields.flow ?? 0)) >>> 0),
    [...be16(payload.length), fields.next, fields.hops ?? 64],
    ip6(fields.source),
    ip6(fields.destination),
    payload,
  )

/** A hop-by-hop, routing or destination header of `8 + 8 * extra` bytes. */
export const extension = (next: number, extra: number, payload: Part): Uint8Array =>
  join([next, extra, 1, 4 + 8 * extra], zeros(4 + 8 * extra), payload)

/** `offset` in units of 8 bytes. */
export const fragmentHeader = (next: number, offset: number, more: boolean, payload: Part): Uint8Array =>
  join([next, 0, ...be16((offset << 3) | (more ? 1 : 0)), 0, 0, 0, 7], payload)

export const authentication = (next: number, payload: Part): Uint8Array =>
  join([next, 4, 0, 0, ...be32(0x100), ...be32(1)], zeros(12), payload)

export interface TcpFields {
  source: number
  destination: number
  flags: number
  options?: Part
  sequence?: number
  window?: number
}

export function tcp(fields: TcpFields, payload: Part): Uint8Array {
  const options = fields.options ?? []
  return join(
    [...be16(fields.source), ...be16(fields.destination), ...be32(fields.sequence ?? 1), ...be32(0)],
    [((5 + options.length / 4) << 4) & 0xff, fields.flags, ...be16(fields.window ?? 1024), 0, 0, 0, 0],
    options,
    payload,
  )
}

export const udp = (source: number, destination: number, payload: Part): Uint8Array =>
  join([...be16(source), ...be16(destination), ...be16(8 + payload.length), 0, 0], payload)

export const sctp = (source: number, destination: number, payload: Part): Uint8Array =>
  join([...be16(source), ...be16(destination), ...be32(0x1234), 0, 0, 0, 0], payload)

export const icmp = (type: number, code: number, payload: Part): Uint8Array =>
  join([type, code, 0, 0, 0, 1, 0, 2], payload)

export function arp(operation: number, sender: [string, string], target: [string, string]): Uint8Array {
  const end = ([hardware, address]: [string, string]) => [...mac(hardware), ...ip4(address)]
  return join([0, 1, 8, 0, 6, 4, ...be16(operation)], end(sender), end(target))
}

/** A frame of IEEE 802.3: a length, then logical link control. */
export const llc = (dsap: number, ssap: number, control: Part, payload: Part): Uint8Array =>
  join(be16(2 + control.length + payload.length), [dsap, ssap], control, payload)

/** LLC with a SNAP header. */
export const snap = (organisation: number, type: number, payload: Part): Uint8Array =>
  llc(0xaa, 0xaa, [3], join(be32(organisation).slice(1), be16(type), payload))
