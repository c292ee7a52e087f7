// The rules of the access list: what they can name, how they are written, where the program's tables keep them.
import { type BpfMap, bytes, struct, u16, u32, u8 } from '../bpf/index.js'
import { defineMap } from '../bpf/builder/index.js'
import { OptionError } from '../kernel/index.js'
import { type Cidr, formatCidr, formatMac, parseCidr, parseMac } from '../packet/address.js'
import {
  type PortRange,
  formatNetwork,
  formatPorts,
  formatProtocol,
  network,
  parseNetwork,
  parsePorts,
  parseProtocol,
} from './settings.js'

/** What a rule says of the packets it names. */
export type AclVerdict = 'allow' | 'deny'

/** Which of a packet's two addresses or ports a rule is about. */
export type AclSide = 'source' | 'destination'

/** What a rule names. */
export type AclRule =
  | { readonly kind: 'mac'; readonly side: AclSide; readonly mac: Uint8Array }
  | { readonly kind: 'network'; readonly side: AclSide; readonly network: Cidr }
  | { readonly kind: 'ports'; readonly side: AclSide; readonly ports: PortRange }
  /** The protocol that IP carries, behind IPv6 extension headers. */
  | { readonly kind: 'protocol'; readonly protocol: number }

/** A rule and what it says. */
export interface AclEntry {
  readonly rule: AclRule
  readonly verdict: AclVerdict
}

/** The bits of a verdict in the tables. */
export const ALLOW = 1
export const DENY = 2
const BITS: Readonly<Record<AclVerdict, number>> = { allow: ALLOW, deny: DENY }
const BOTH = ALLOW | DENY

/** The numbers of the sides in the tables. */
export const SIDES: Readonly<Record<AclSide, number>> = { source: 0, destination: 1 }

/** The most rules that name hardware addresses, and networks. */
export const MAX_MACS = 16_384
export const MAX_NETWORKS = 1 << 20

/** By address and side, so that one of each can be looked up in one table. */
export const macKey = struct({ mac: bytes(6), side: u16 })
export const macMap = defineMap({
  type: 'hash',
  name: 'acl_macs',
  key: macKey,
  value: u8,
  maxEntries: MAX_MACS,
  preallocate: false,
})

/** A prefix of the table's number and an address: 32 bits and those of the network. */
export const networkKey = struct({ prefixLength: u32, table: u32, address: bytes(16) })
export const TABLE_BITS = 32
export const networkMap = defineMap({
  type: 'lpm_trie',
  name: 'acl_networks',
  key: networkKey,
  value: u8,
  maxEntries: MAX_NETWORKS,
})

/** The number of a family's and side's table within the trie. */
export const networkTable = (version: 4 | 6, side: AclSide): number => (version === 4 ? 0 : 2) + SIDES[side]

/** By protocol number. */
export const protocolMap = defineMap({ type: 'array', name: 'acl_protocols', value: u8, maxEntries: 256 })

/** By port; in each element two bits for UDP source, UDP destination, TCP source, TCP destination, from the lowest. */
export const portMap = defineMap({ type: 'array', name: 'acl_ports', value: u8, maxEntries: 0x1_0000 })
export const TCP_SHIFT = 4
export const SIDE_SHIFT = 2

/** The tables of a loaded program. */
export interface AclTables {
  readonly macs: BpfMap<{ mac: Uint8Array; side: number }, number>
  readonly networks: BpfMap<{ prefixLength: number; table: number; address: Uint8Array }, number>
  readonly protocols: BpfMap<number, number>
  readonly ports: BpfMap<number, number>
}

/**
 * Writes a rule into its table; `undefined` takes it out. Ports are for `writePorts`. Throws `KernelError` (E2BIG, ENOSPC) when
 * there are too many.
 */
export function writeRule(
  tables: AclTables,
  rule: Exclude<AclRule, { kind: 'ports' }>,
  verdict: AclVerdict | undefined,
): void {
  const bits = verdict === undefined ? 0 : BITS[verdict]
  switch (rule.kind) {
    case 'mac': {
      const key = { mac: rule.mac, side: SIDES[rule.side] }
      if (bits === 0) tables.macs.delete(key)
      else tables.macs.update(key, bits)
      return
    }
    case 'network': {
      const { version, address, prefixLength } = network(rule.network)
      const padded = new Uint8Array(16)
      padded.set(address)
      const key = {
        prefixLength: TABLE_BITS + prefixLength,
        table: networkTable(version, rule.side),
        address: padded,
      }
      if (bits === 0) tables.networks.delete(key)
      else tables.networks.update(key, bits)
      return
    }
    case 'protocol':
      tables.protocols.update(rule.protocol, bits)
  }
}

/** Writes what all of `rules` say of these ports, the later over the earlier. */
export function writePorts(tables: AclTables, { from, to }: PortRange, rules: Iterable<AclEntry>): void {
  const elements = new Uint8Array(to - from + 1)
  for (const { rule, verdict } of rules) {
    if (rule.kind !== 'ports') continue
    const { ports, side } = rule
    for (const protocol of ports.protocols) {
      const shift = (protocol === 'tcp' ? TCP_SHIFT : 0) + SIDES[side] * SIDE_SHIFT
      for (let port = Math.max(from, ports.from); port <= Math.min(to, ports.to); port++) {
        elements[port - from] = (elements[port - from] & ~(BOTH << shift)) | (BITS[verdict] << shift)
      }
    }
  }
  tables.ports.updateBatch(Array.from(elements, (element, index) => [from + index, element] as const))
}

/** What a rule may look like as text, for a hint. */
export const ACL_RULE_FORMS =
  'Use a hardware address, an address or network (10.0.0.0/8), ports (53/udp, 8000-8100/tcp, 53), ' +
  'a protocol (icmp, icmpv6, protocol:47); from: or to: in front says which side.'

/**
 * A rule from text: `02:00:00:00:00:01`, `10.0.0.0/8`, `2001:db8::1`, `53/udp`, `8000-8100/tcp`, `53`, `icmp`, `protocol:47`.
 * Addresses are the packet's source and ports its destination, unless `to:` or `from:` stands in front. Throws `OptionError`,
 * also for networks with bits behind their prefix (`10.0.0.1/8`).
 */
export function parseAclRule(text: string, option = 'rule'): AclRule {
  const match = /^(?:(from|to):)?(.*)$/.exec(text)
  const [, prefix, rest = ''] = match ?? []
  const side = (otherwise: AclSide): AclSide =>
    prefix === undefined ? otherwise : prefix === 'from' ? 'source' : 'destination'
  const mac = parseMac(rest)
  if (mac) return { kind: 'mac', side: side('source'), mac }
  const cidr = parseNetwork(rest)
  if (cidr) requireNetwork(rest, cidr, option)
  if (cidr) return { kind: 'network', side: side('source'), network: cidr }
  const ports = parsePorts(rest)
  if (ports) return { kind: 'ports', side: side('destination'), ports }
  const protocol = parseProtocol(rest)
  if (protocol !== undefined && prefix === undefined) return { kind: 'protocol', protocol }
  throw new OptionError(option, `"${text}" is no value for ${option}`, ACL_RULE_FORMS)
}

/** Not masked in silence: who writes `10.0.0.1/8` may mean either, and `ip route` and tcpdump refuse it too. */
function requireNetwork(text: string, cidr: Cidr, option: string): void {
  const written = parseCidr(text)
  if (!written || formatCidr(written) === formatCidr(cidr)) return
  const alone = formatCidr({ ...written, prefixLength: written.address.length * 8 })
  throw new OptionError(
    option,
    `"${text}" is an address and no network: it has bits behind its prefix`,
    `Use ${formatCidr(cidr)} or ${alone}.`,
  )
}

/** The text that `parseAclRule` reads. */
export function formatAclRule(rule: AclRule): string {
  if (rule.kind === 'protocol') return formatProtocol(rule.protocol)
  const prefix = (usual: AclSide): string =>
    rule.side === usual ? '' : rule.side === 'source' ? 'from:' : 'to:'
  if (rule.kind === 'mac') return `${prefix('source')}${formatMac(rule.mac)}`
  if (rule.kind === 'network') return `${prefix('source')}${formatNetwork(network(rule.network))}`
  return `${prefix('destination')}${formatPorts(rule.ports)}`
}
