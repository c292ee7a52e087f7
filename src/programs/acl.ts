// The access list: packets are allowed or denied by hardware address, network, protocol and port.
import type { BpfProgram } from '../bpf/index.js'
import {
  type LoadedXdp,
  type Transport,
  type Value,
  type XdpDefinition,
  defineXdp,
} from '../bpf/builder/index.js'
import { ETH_P_IP, ETH_P_IPV6 } from '../packet/ethernet.js'
import { IPPROTO_TCP, IPPROTO_UDP } from '../packet/ipproto.js'
import {
  ALLOW,
  type AclEntry,
  type AclRule,
  type AclTables,
  type AclVerdict,
  DENY,
  SIDES,
  SIDE_SHIFT,
  TABLE_BITS,
  TCP_SHIFT,
  formatAclRule,
  macMap,
  networkKey,
  networkMap,
  networkTable,
  parseAclRule,
  portMap,
  protocolMap,
  writePorts,
  writeRule,
} from './acl-rules.js'
import { passDiscovery } from './discovery.js'
import { type ShippedProgram, oneWord } from './shipped.js'

/** How an access list is built. */
export interface AclOptions {
  /** What becomes of packets that no rule is about. Default `pass`. */
  otherwise?: 'pass' | 'drop'
  /** ARP and neighbour discovery: `pass` always (the default), or `judge` them by the rules as any packet. */
  discovery?: 'pass' | 'judge'
}

/**
 * ```
 * packet ─┬─ ARP, neighbour and router discovery ─────────────────────→ pass, unless `discovery` is `judge`
 *         ├─ says it is IP, but is cut short, malformed, or has more
 *         │  than 8 extension headers: nothing slips past unread ─────→ drop
 *         └─ the rules are asked about ─┬─ some rule denies it ───────→ drop
 *            · both hardware addresses  ├─ else some rule allows it ──→ pass
 *            · of IP both addresses,    └─ no rule is about it ───────→ `otherwise`: pass or drop
 *              the longest prefix of each side, and the protocol
 *            · of UDP and TCP both ports
 * ```
 *
 * One denial beats any number of allowances: their order does not matter. Only among networks for the same side does the longest
 * prefix alone count, so that a part of a denied network can be allowed. Up to two VLAN tags are stepped over; IPv4 options and
 * IPv6 extension headers are too. First fragments are judged as whole packets, later ones have no ports to be judged by. What is
 * not IP is judged by its hardware addresses. Takes packets in several buffers (jumbo frames) too where the kernel has them (5.18).
 * Kernel 5.3, for the loop over extension headers.
 */
export function defineAcl({ otherwise = 'pass', discovery = 'pass' }: AclOptions = {}): XdpDefinition {
  return defineXdp('xdp_acl', { otherwise: 'drop', frags: true }, (x) => {
    const allowed = x.let(x.u32(0))
    const judge = (rule: Value<'u32'>): void => {
      x.require(rule.hasNone(DENY))
      allowed.set(allowed.value.or(rule))
    }
    const conclude = () => {
      x.if(allowed.value.hasAny(ALLOW), () => 'pass')
      return otherwise
    }
    const eth = x.packet.ethernet({ vlans: 2 })
    if (discovery === 'pass') passDiscovery(x, eth)

    x.ifPresent(x.lookup(macMap, { mac: eth.src, side: SIDES.source }), (rule) => judge(rule.u32()))
    x.ifPresent(x.lookup(macMap, { mac: eth.dst, side: SIDES.destination }), (rule) => judge(rule.u32()))

    const src = x.struct(networkKey)
    const dst = x.struct(networkKey)
    const inTablesOf = (version: 4 | 6): void => {
      for (const [key, side] of [[src, 'source'] as const, [dst, 'destination'] as const]) {
        key.fields.prefixLength.set(TABLE_BITS + (version === 4 ? 32 : 128))
        key.fields.table.set(networkTable(version, side))
      }
    }
    const protocol = x.let(x.u32(0))
    // Where the protocol's header is, counted from the start of the packet; 0: nowhere.
    const at = x.let(x.u32(0))
    const carries = (transport: Transport): void => {
      protocol.set(transport.protocol.u32())
      x.if(transport.isLater.not(), () => at.set(transport.offset))
    }
    x.if(eth.type.eq(ETH_P_IP), () => {
      const ip = eth.ipv4()
      inTablesOf(4)
      src.fields.address.field(0, 'be32').set(ip.src)
      dst.fields.address.field(0, 'be32').set(ip.dst)
      carries(ip.transport({ fragments: 'later' }))
    })
      .elseIf(eth.type.eq(ETH_P_IPV6), () => {
        const ip = eth.ipv6()
        inTablesOf(6)
        src.fields.address.set(ip.src)
        dst.fields.address.set(ip.dst)
        carries(ip.transport({ fragments: 'later' }))
      })
      .else(conclude)

    x.ifPresent(x.lookup(networkMap, src), (rule) => judge(rule.u32()))
    x.ifPresent(x.lookup(networkMap, dst), (rule) => judge(rule.u32()))
    x.ifPresent(x.lookup(protocolMap, protocol.value), (rule) => judge(rule.u32()))
    x.if(at.value.ne(0).and(protocol.value.in([IPPROTO_UDP, IPPROTO_TCP])), () => {
      const shift = x.select(protocol.value.eq(IPPROTO_TCP), x.u32(TCP_SHIFT), 0)
      const ports = x.packet.bytesAt(at.value, 4)
      const [srcPort, dstPort] = [ports.field(0, 'be16').u32(), ports.field(2, 'be16').u32()]
      x.ifPresent(x.lookup(portMap, srcPort), (rules) => judge(rules.u32().shr(shift)))
      x.ifPresent(x.lookup(portMap, dstPort), (rules) => judge(rules.u32().shr(shift).shr(SIDE_SHIFT)))
    })
    return conclude()
  })
}

/** A rule as text (see `parseAclRule`) or taken apart. */
export type AclRuleInput = string | AclRule

/**
 * The access list, loaded. Rules change while it runs, each at once as a whole; a range of ports changes port by port. The most
 * rules for hardware addresses and for networks are `MAX_MACS` and `MAX_NETWORKS`: beyond, what adds one throws `KernelError`.
 */
export class AclProgram {
  readonly program: BpfProgram
  readonly #tables: AclTables
  readonly #rules = new Map<string, AclEntry>()
  readonly #loaded: LoadedXdp

  /** Takes over what `defineAcl` made, loaded and without rules; close one of the two. */
  constructor(loaded: LoadedXdp) {
    this.#loaded = loaded
    this.program = loaded.program
    this.#tables = {
      macs: loaded.map(macMap),
      networks: loaded.map(networkMap),
      protocols: loaded.map(protocolMap),
      ports: loaded.map(portMap),
    }
  }

  /** Loads the program, without rules. */
  static load(options: AclOptions = {}): AclProgram {
    return new AclProgram(defineAcl(options).load())
  }

  /** Allows what a rule names. A denial of the same goes; one of anything else that a packet matches still wins. */
  allow(rule: AclRuleInput): void {
    this.#set(rule, 'allow')
  }

  /** Denies what a rule names. An allowance of the same goes. */
  deny(rule: AclRuleInput): void {
    this.#set(rule, 'deny')
  }

  /** Takes a rule back; false when there is none for exactly this. */
  remove(input: AclRuleInput): boolean {
    const rule = ruleOf(input)
    if (!this.#rules.delete(formatAclRule(rule))) return false
    this.#write(rule, undefined)
    return true
  }

  /** Takes back every rule. */
  clear(): void {
    for (const { rule } of [...this.#rules.values()]) this.remove(rule)
  }

  /** The rules as text, in the order they were set. Where ranges of ports overlap, the later one counts. */
  rules(): { rule: string; verdict: AclVerdict }[] {
    return [...this.#rules].map(([rule, { verdict }]) => ({ rule, verdict }))
  }

  /** Lets go of the program and its maps: they live on while attached. */
  close(): void {
    this.#loaded.close()
  }

  #set(input: AclRuleInput, verdict: AclVerdict): void {
    const rule = ruleOf(input)
    const text = formatAclRule(rule)
    const before = this.#rules.get(text)
    this.#rules.delete(text)
    this.#rules.set(text, { rule, verdict })
    try {
      this.#write(rule, verdict)
    } catch (error) {
      if (before) this.#rules.set(text, before)
      else this.#rules.delete(text)
      throw error
    }
  }

  #write(rule: AclRule, verdict: AclVerdict | undefined): void {
    if (rule.kind === 'ports') writePorts(this.#tables, rule.ports, this.#rules.values())
    else writeRule(this.#tables, rule, verdict)
  }
}

const ruleOf = (rule: AclRuleInput): AclRule => (typeof rule === 'string' ? parseAclRule(rule) : rule)

/** The access list by name: its rules as settings. */
export const shippedAcl: ShippedProgram = {
  summary: 'allows and denies packets by hardware address, network, port and protocol',
  settings: {
    allow: {
      summary: 'packets to allow: from:/to: hardware address or network, port, protocol (may be given again)',
      example: '10.1.0.0/16',
    },
    deny: { summary: 'packets to deny, as for allow; a denial beats any allowance', example: '53/udp' },
    default: { summary: 'what becomes of the others, pass or drop (default: pass)', example: 'drop' },
    discovery: {
      summary: 'ARP and neighbour discovery: pass, or judge them by the rules too (default: pass)',
      example: 'judge',
    },
  },
  define: (given) => {
    const otherwise = oneWord(given, 'default', ['pass', 'drop']) ?? 'pass'
    const discovery = oneWord(given, 'discovery', ['pass', 'judge']) ?? 'pass'
    const [allow, deny] = (['allow', 'deny'] as const).map((name) =>
      (given[name] ?? []).map((text) => parseAclRule(text, name)),
    )
    return {
      definition: defineAcl({ otherwise, discovery }),
      fill: (loaded) => {
        const acl = new AclProgram(loaded)
        for (const rule of allow) acl.allow(rule)
        for (const rule of deny) acl.deny(rule)
      },
    }
  },
}
