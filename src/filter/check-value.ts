// Names, numbers and addresses behind their qualifiers.
import { parseIpv6 } from '../packet/address.js'
import { ALL_ONES, decnetNumber, dotted, macBytes, prefixMask, wordsOf } from './check-address.js'
import { type CheckContext, refuse } from './check-context.js'
import type { Checked, Transport, Words } from './checked.js'
import type { Span } from './error.js'
import { type ProtoWithin, protoNumber, transportOf } from './check-protocol.js'
import type { Qualifiers, Value } from './tree.js'
import { suggest } from './words.js'

/** Checks one name or number. Throws `FilterError`. */
export function checkValue(value: Value, at: Span, qualifiers: Qualifiers, context: CheckContext): Checked {
  const type = qualifiers.type ?? 'host'
  switch (value.kind) {
    case 'name':
      return name(value.text, at, qualifiers, context)
    case 'number':
      return number(value.value, at, qualifiers, context)
    case 'ipv4': {
      if (type !== 'host' && type !== 'net') {
        refuse(context, at, 'XDP_FILTER_MEANING', `${type} cannot be an IPv4 address`, {
          expected: 'a name or number',
        })
      }
      if (qualifiers.protocol === 'decnet')
        return decnet(decnetNumber(value.text, at, context), at, qualifiers)
      if (qualifiers.protocol === 'ether') {
        refuse(context, at, 'XDP_FILTER_MEANING', 'ether takes MAC addresses, not IPv4 addresses')
      }
      const { address, bits } = dotted(value.text, at, context)
      return ipv4(address, prefixMask(bits), at, qualifiers, context)
    }
    case 'ipv4 net':
    case 'ipv4 prefix': {
      if (qualifiers.type !== 'net')
        refuse(context, at, 'XDP_FILTER_MEANING', 'A mask is for networks: write net')
      const { address } = dotted(value.text, at, context)
      const mask =
        value.kind === 'ipv4 net' ? dotted(value.mask, at, context).address : prefixMask(value.bits)
      if (value.kind === 'ipv4 prefix' && value.bits > 32) {
        refuse(context, at, 'XDP_FILTER_MEANING', `A prefix of ${value.bits} bits is longer than 32`)
      }
      if ((address & ~mask) !== 0) {
        refuse(context, at, 'XDP_FILTER_MEANING', 'The address has bits outside its mask')
      }
      return ipv4(address, mask, at, qualifiers, context)
    }
    case 'ipv6':
      return ipv6(value.text, 128, at, qualifiers, context)
    case 'ipv6 prefix':
      return ipv6(value.text, value.bits, at, qualifiers, context)
    case 'mac':
      if (type !== 'host' || qualifiers.protocol !== 'ether') {
        refuse(context, at, 'XDP_FILTER_MEANING', 'A MAC address stands behind other words than ether', {
          expected: 'ether host, ether src or ether dst before it',
        })
      }
      return { kind: 'mac', address: macBytes(value.text), direction: directionOf(qualifiers), at }
    case 'arcnet':
      return refuse(context, at, 'XDP_FILTER_UNSUPPORTED', 'ARCnet addresses are not in Ethernet frames')
  }
}

const directionOf = (qualifiers: Qualifiers) => qualifiers.direction ?? 'src or dst'

function name(text: string, at: Span, qualifiers: Qualifiers, context: CheckContext): Checked {
  const { resolver } = context
  const type = qualifiers.type ?? 'host'
  const unknown = (what: string, hint: string): never =>
    refuse(context, at, 'XDP_FILTER_UNKNOWN_NAME', `No ${what} is called "${text}"`, { hint })
  switch (type) {
    case 'net': {
      let address = resolver.network(text)
      if (!address) return unknown('network', 'Networks are looked up in /etc/networks.')
      let mask = ALL_ONES
      while ((address & 0xff00_0000) === 0) {
        address = (address << 8) >>> 0
        mask = (mask << 8) >>> 0
      }
      return ipv4(address, mask, at, qualifiers, context)
    }
    case 'host': {
      if (qualifiers.protocol === 'ether') {
        const address = resolver.ether(text)
        if (!address) return unknown('host with a MAC address', 'MAC addresses are looked up in /etc/ethers.')
        return { kind: 'mac', address, direction: directionOf(qualifiers), at }
      }
      if (qualifiers.protocol === 'decnet') {
        refuse(context, at, 'XDP_FILTER_UNSUPPORTED', 'DECnet hosts have no names here', {
          expected: 'area.node',
        })
      }
      return host(text, at, qualifiers, context)
    }
    case 'port':
    case 'portrange':
      return namedPorts(text, at, type, qualifiers, context)
    case 'proto':
    case 'protochain':
      return numbered(type, protoNumber(text, at, qualifiers.protocol, context), at, qualifiers, context)
  }
}

/** Every address of a host that is of the family asked for. */
function host(text: string, at: Span, qualifiers: Qualifiers, context: CheckContext): Checked {
  const known = context.resolver.host(text)
  const unwanted = qualifiers.protocol === 'ip6' ? 4 : qualifiers.protocol === 'ip' ? 16 : 0
  const [first, ...rest] = known
    .filter((address) => address.length !== unwanted)
    .map((address) =>
      address.length === 4
        ? ipv4(wordsOf(address)[0], ALL_ONES, at, qualifiers, context)
        : ipv6Words(wordsOf(address), [ALL_ONES, ALL_ONES, ALL_ONES, ALL_ONES], at, qualifiers, context),
    )
  if (first === undefined) {
    const family = known.length > 0 ? ` with an ${qualifiers.protocol} address` : ''
    refuse(context, at, 'XDP_FILTER_UNKNOWN_NAME', `No host is called "${text}"${family}`, {
      hint: 'Hosts are looked up in /etc/hosts; no DNS is asked.',
      suggestion: known.length > 0 ? undefined : suggest(text, context.resolver.names?.('host') ?? []),
    })
  }
  if (rest.length === 0) return first
  return { kind: 'chain', first, rest: rest.map((tree) => ({ join: 'or', tree })), at }
}

function number(value: number, at: Span, qualifiers: Qualifiers, context: CheckContext): Checked {
  const type = qualifiers.type ?? 'host'
  switch (type) {
    case 'host':
    case 'net': {
      if (qualifiers.protocol === 'decnet') return decnet(value, at, qualifiers)
      if (qualifiers.protocol === 'ether') {
        refuse(context, at, 'XDP_FILTER_MEANING', 'ether takes MAC addresses, not numbers')
      }
      let address = value
      let mask = ALL_ONES
      // `net 10` is 10.0.0.0/8; `host 10` is 0.0.0.10.
      while (type === 'net' && address !== 0 && (address & 0xff00_0000) === 0) {
        address = (address << 8) >>> 0
        mask = (mask << 8) >>> 0
      }
      return ipv4(address, mask, at, qualifiers, context)
    }
    case 'port':
    case 'portrange':
      return ports(
        type,
        value,
        value,
        transportOf(type, at, qualifiers.protocol, context),
        at,
        qualifiers,
        context,
      )
    case 'proto':
    case 'protochain':
      return numbered(type, value, at, qualifiers, context)
  }
}

function numbered(
  kind: 'proto' | 'protochain',
  value: number,
  at: Span,
  { protocol }: Qualifiers,
  context: CheckContext,
): Checked {
  if (kind === 'protochain') {
    if (protocol === undefined || protocol === 'ip' || protocol === 'ip6') {
      return { kind, within: protocol ?? 'any', number: value, at }
    }
    return refuse(context, at, 'XDP_FILTER_MEANING', `${protocol} has no chain of headers`, {
      expected: 'ip or ip6',
    })
  }
  const within: readonly ProtoWithin[] = ['ether', 'ip', 'ip6', 'iso', 'isis']
  const found = protocol === undefined ? 'any' : within.find((one) => one === protocol)
  if (found) return { kind, within: found, number: value, at }
  return refuse(context, at, 'XDP_FILTER_MEANING', `${protocol} does not say what it carries`, {
    expected: 'ether, ip, ip6, iso or isis before proto',
  })
}

function namedPorts(
  text: string,
  at: Span,
  type: 'port' | 'portrange',
  qualifiers: Qualifiers,
  context: CheckContext,
): Checked {
  const asked = transportOf(type, at, qualifiers.protocol, context)
  const range = /^(\d+)-([-+]?\d+)/.exec(text)
  if (type === 'portrange' && range) {
    return ports(type, Number(range[1]), Number(range[2]), asked, at, qualifiers, context)
  }
  const dash = text.indexOf('-')
  const names = type === 'port' ? [text] : dash < 0 ? [] : [text.slice(0, dash), text.slice(dash + 1)]
  if (names.length === 0) {
    refuse(context, at, 'XDP_FILTER_MEANING', `"${text}" is no range of ports`, {
      expected: 'two with a dash, as 80-90',
    })
  }
  const found = names.map((one) => service(one, at, context))
  const over = found.every(({ transport }) => transport === found[0].transport)
    ? found[0].transport
    : undefined
  if (asked !== undefined && over !== undefined && over !== asked) {
    refuse(context, at, 'XDP_FILTER_MEANING', `"${text}" is a ${over} port`)
  }
  return ports(type, found[0].port, found.at(-1)!.port, asked ?? over, at, qualifiers, context)
}

/** A service's port, and its transport protocol when it is only known over one, or has different ports. */
function service(
  text: string,
  at: Span,
  { resolver, ...context }: CheckContext,
): { port: number; transport: Transport | undefined } {
  if (/^\d+$/.test(text) && Number(text) <= 0xffff) return { port: Number(text), transport: undefined }
  const tcp = resolver.service(text, 'tcp')
  const udp = resolver.service(text, 'udp')
  if (tcp !== undefined) return { port: tcp, transport: tcp === udp ? undefined : 'tcp' }
  if (udp !== undefined) return { port: udp, transport: 'udp' }
  return refuse({ resolver, ...context }, at, 'XDP_FILTER_UNKNOWN_NAME', `No port is called "${text}"`, {
    hint: 'Ports are looked up in /etc/services.',
    suggestion: suggest(text, resolver.names?.('service') ?? []),
  })
}

function ports(
  kind: 'port' | 'portrange',
  first: number,
  last: number,
  transport: Transport | undefined,
  at: Span,
  qualifiers: Qualifiers,
  context: CheckContext,
): Checked {
  for (const port of [first, last]) {
    if (port < 0 || port > 0xffff)
      refuse(context, at, 'XDP_FILTER_MEANING', `The port ${port} is not from 0 to 65535`)
  }
  const [low, high] = [Math.min(first, last), Math.max(first, last)]
  return { kind, low, high, transport, direction: directionOf(qualifiers), at }
}

function ipv4(
  address: number,
  mask: number,
  at: Span,
  qualifiers: Qualifiers,
  context: CheckContext,
): Checked {
  const { protocol } = qualifiers
  if (protocol === 'decnet') return decnet(address, at, qualifiers)
  if (protocol === undefined || protocol === 'ip' || protocol === 'arp' || protocol === 'rarp') {
    return { kind: 'ipv4', address, mask, within: protocol ?? 'any', direction: directionOf(qualifiers), at }
  }
  return refuse(context, at, 'XDP_FILTER_MEANING', `${protocol} has no IPv4 addresses`, {
    expected: 'ip, arp, rarp or nothing before it',
  })
}

function ipv6(text: string, bits: number, at: Span, qualifiers: Qualifiers, context: CheckContext): Checked {
  const type = qualifiers.type ?? 'host'
  if (bits > 128) refuse(context, at, 'XDP_FILTER_MEANING', `A prefix of ${bits} bits is longer than 128`)
  const address = wordsOf(parseIpv6(text)!)
  const mask = [0, 32, 64, 96].map((from) => prefixMask(Math.min(32, Math.max(0, bits - from))))
  if (address.some((word, index) => (word & ~mask[index]) !== 0)) {
    refuse(context, at, 'XDP_FILTER_MEANING', 'The address has bits outside its prefix')
  }
  if (type === 'host' && bits !== 128)
    refuse(context, at, 'XDP_FILTER_MEANING', 'A prefix is for networks: write net')
  if (type !== 'host' && type !== 'net') {
    refuse(context, at, 'XDP_FILTER_MEANING', `${type} cannot be an IPv6 address`)
  }
  return ipv6Words(address, mask, at, qualifiers, context)
}

function ipv6Words(
  address: Words,
  mask: Words,
  at: Span,
  qualifiers: Qualifiers,
  context: CheckContext,
): Checked {
  const { protocol } = qualifiers
  if (protocol !== undefined && protocol !== 'ip6') {
    refuse(context, at, 'XDP_FILTER_MEANING', `${protocol} has no IPv6 addresses`, {
      expected: 'ip6 or nothing before it',
    })
  }
  return { kind: 'ipv6', address, mask, direction: directionOf(qualifiers), at }
}

const decnet = (address: number, at: Span, qualifiers: Qualifiers): Checked => ({
  kind: 'decnet',
  address: address & 0xffff,
  direction: directionOf(qualifiers),
  at,
})
