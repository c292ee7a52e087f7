// The words of settings: hardware addresses, networks, ports and protocols as text.
import { OptionError } from '../kernel/index.js'
import { type Cidr, formatCidr, formatIp, parseCidr, parseIp, parseIpv4 } from '../packet/address.js'
import {
  IPPROTO_AH,
  IPPROTO_ESP,
  IPPROTO_ICMP,
  IPPROTO_ICMPV6,
  IPPROTO_TCP,
  IPPROTO_UDP,
} from '../packet/ipproto.js'

/** What carries ports. */
export type PortProtocol = 'udp' | 'tcp'

/** Ports from one to another, both included. */
export interface PortRange {
  readonly from: number
  readonly to: number
  /** Whose ports: one of them, or both. */
  readonly protocols: readonly PortProtocol[]
}

/** A port of one protocol, at one address or at any. */
export interface Endpoint {
  readonly port: number
  readonly protocol: PortProtocol
  /** 4 or 16 bytes; left out: any address. */
  readonly address?: Uint8Array
}

/** The protocols that have a name here; others go by number. */
export const PROTOCOL_NAMES: ReadonlyMap<string, number> = new Map([
  ['icmp', IPPROTO_ICMP],
  ['icmpv6', IPPROTO_ICMPV6],
  ['tcp', IPPROTO_TCP],
  ['udp', IPPROTO_UDP],
  ['gre', 47],
  ['esp', IPPROTO_ESP],
  ['ah', IPPROTO_AH],
  ['sctp', 132],
])

/** The numbers of the protocols with ports (uapi/linux/in.h). */
export const PORT_PROTOCOLS: Readonly<Record<PortProtocol, number>> = { udp: IPPROTO_UDP, tcp: IPPROTO_TCP }

/** What a parser made of a setting's text. Throws `OptionError`, named for the setting, when it made nothing. */
export function understood<T>(name: string, text: string, value: T | undefined, hint: string): T {
  if (value !== undefined) return value
  throw new OptionError(name, `"${text}" is no value for ${name}`, hint)
}

/** `10.0.0.0/8`, or one address alone. Bits behind the prefix are cleared. */
export function parseNetwork(text: string): Cidr | undefined {
  const address = parseIp(text)
  if (!address) {
    const cidr = parseCidr(text)
    return cidr && network(cidr)
  }
  return { version: address.length === 4 ? 4 : 6, address, prefixLength: address.length * 8 }
}

/** The network that an address with its prefix length is in. */
export function network({ version, address, prefixLength }: Cidr): Cidr {
  const masked = address.map(
    (byte, index) => byte & ~(0xff >> Math.min(8, Math.max(0, prefixLength - index * 8))),
  )
  return { version, address: masked, prefixLength }
}

/** A network; one address alone where it is one. */
export function formatNetwork(cidr: Cidr): string {
  return cidr.prefixLength === cidr.address.length * 8 ? formatIp(cidr.address) : formatCidr(cidr)
}

/** A port number, 0 to 65535. */
export function parsePort(text: string): number | undefined {
  return /^(?:0|[1-9]\d{0,4})$/.test(text) && Number(text) <= 0xffff ? Number(text) : undefined
}

/** `53/udp`, `8000-8100/tcp`; `53` alone is of both protocols. */
export function parsePorts(text: string): PortRange | undefined {
  const match = /^(\d+)(?:-(\d+))?(?:\/(udp|tcp))?$/.exec(text)
  if (!match) return undefined
  const from = parsePort(match[1])
  const to = parsePort(match[2] ?? match[1])
  if (from === undefined || to === undefined || from > to) return undefined
  return { from, to, protocols: match[3] === undefined ? ['udp', 'tcp'] : [match[3] as PortProtocol] }
}

/** As `parsePorts` reads it. */
export function formatPorts({ from, to, protocols }: PortRange): string {
  return `${from === to ? from : `${from}-${to}`}${protocols.length === 1 ? `/${protocols[0]}` : ''}`
}

/** `53/udp`, `10.0.0.1:53/udp`, `[2001:db8::1]:53/udp`; without `/udp` or `/tcp` one endpoint for each, and one for each port of a range. */
export function parseEndpoints(text: string): Endpoint[] | undefined {
  const match = /^(?:(?:\[([^\]]+)\]|([\d.]+)):)?([^:[\]]+)$/.exec(text)
  const ports = match ? parsePorts(match[3]) : undefined
  if (!match || !ports) return undefined
  const written = match[1] ?? match[2]
  const address = match[2] === undefined ? parseIp(match[1] ?? '') : parseIpv4(match[2])
  if (written !== undefined && !address) return undefined
  const endpoints: Endpoint[] = []
  for (let port = ports.from; port <= ports.to; port++) {
    for (const protocol of ports.protocols) endpoints.push({ port, protocol, ...(address && { address }) })
  }
  return endpoints
}

/** A protocol by name (`icmp`) or as `protocol:47`. */
export function parseProtocol(text: string): number | undefined {
  const match = /^protocol:(0|[1-9]\d{0,2})$/.exec(text)
  if (!match) return PROTOCOL_NAMES.get(text)
  return Number(match[1]) <= 0xff ? Number(match[1]) : undefined
}

/** As `parseProtocol` reads it. */
export function formatProtocol(protocol: number): string {
  const named = [...PROTOCOL_NAMES].find(([, number]) => number === protocol)
  return named ? named[0] : `protocol:${protocol}`
}
