// Tests of network and transport headers: addresses, protocols, ports.
import type { Checked } from '../checked.js'
import type { Frame, From } from './frame.js'
import { eitherWay, equals, linkType } from './link.js'
import {
  ETHER_TYPES,
  IPPROTO_IGMP,
  IPPROTO_IGRP,
  IPPROTO_PIM,
  IPPROTO_SCTP,
  IPPROTO_VRRP,
  ISIS_TYPES,
  ISO_PROTOCOLS,
  LLC_SAPS,
} from '../numbers.js'
import {
  IPPROTO_AH,
  IPPROTO_ESP,
  IPPROTO_FRAGMENT,
  IPPROTO_ICMP,
  IPPROTO_ICMPV6,
  IPPROTO_TCP,
  IPPROTO_UDP,
} from '../../packet/ipproto.js'
import { type Test, and, ask, not, or } from './tests.js'
import type { Protocol } from '../words.js'

const { ip: ETH_P_IP, ip6: ETH_P_IPV6 } = ETHER_TYPES
/** Where addresses are in each header. */
const ADDRESSES_AT = {
  ip: { type: ETH_P_IP, src: 12, dst: 16 },
  arp: { type: ETHER_TYPES.arp, src: 14, dst: 24 },
  rarp: { type: ETHER_TYPES.rarp, src: 14, dst: 24 },
}
const IP_PROTOCOL_AT = 9
const IPV6_NEXT_AT = 6
const IPV6_AT = { src: 8, dst: 24 }
/** From the IPv6 header to the first byte of what follows it: of a fragment header, the next header. */
const IPV6_FRAGMENT_NEXT_AT = 40
const PORT_AT = { src: 0, dst: 2 }

export function ipv4(frame: Frame, { address, mask, within, direction }: Checked & { kind: 'ipv4' }): Test {
  const one = (header: keyof typeof ADDRESSES_AT): Test =>
    eitherWay(direction, (side) => {
      const at = ADDRESSES_AT[header]
      return and(linkType(frame, at.type), equals(frame, 'network', at[side], 4, address, mask))
    })
  if (within !== 'any') return one(within)
  // Behind MPLS there is only IP.
  return frame.labels > 0 ? one('ip') : or(one('ip'), one('arp'), one('rarp'))
}

export function ipv6(frame: Frame, { address, mask, direction }: Checked & { kind: 'ipv6' }): Test {
  return eitherWay(direction, (side) =>
    and(
      linkType(frame, ETH_P_IPV6),
      ...address.map((word, index) =>
        equals(frame, 'network', IPV6_AT[side] + 4 * index, 4, word, mask[index]),
      ),
    ),
  )
}

/** DECnet data packets, with a long or short header, and with or without a byte of padding. */
export function decnet(frame: Frame, { address, direction }: Checked & { kind: 'decnet' }): Test {
  const swapped = ((address & 0xff) << 8) | (address >> 8)
  return eitherWay(direction, (side) => {
    const [short, long] = side === 'dst' ? [1, 7] : [3, 15]
    const padded = (flags: number, at: number): Test =>
      and(
        equals(frame, 'network', 2, 2, 0x8100 | flags, 0xff07),
        equals(frame, 'network', 3 + at, 2, swapped),
      )
    const plain = (flags: number, at: number): Test =>
      and(equals(frame, 'network', 2, 1, flags, 0x7), equals(frame, 'network', 2 + at, 2, swapped))
    const any = or(plain(0x02, short), padded(0x02, short), plain(0x06, long), padded(0x06, long))
    return and(linkType(frame, ETHER_TYPES.decnet), any)
  })
}

/** What a header says it carries. */
export function proto(
  frame: Frame,
  within: Extract<Checked, { kind: 'proto' }>['within'],
  number: number,
): Test {
  switch (within) {
    case 'any':
      return or(proto(frame, 'ip', number), proto(frame, 'ip6', number))
    case 'ether':
      return linkType(frame, number)
    case 'ip':
      return and(linkType(frame, ETH_P_IP), equals(frame, 'network', IP_PROTOCOL_AT, 1, number))
    case 'ip6': {
      // Directly, or behind a fragment header.
      const fragment = equals(frame, 'network', IPV6_NEXT_AT, 1, IPPROTO_FRAGMENT)
      const behind = and(fragment, equals(frame, 'network', IPV6_FRAGMENT_NEXT_AT, 1, number))
      const direct = equals(frame, 'network', IPV6_NEXT_AT, 1, number)
      return and(linkType(frame, ETH_P_IPV6), or(direct, behind))
    }
    case 'iso':
      return and(linkType(frame, LLC_SAPS.iso), equals(frame, 'network without SNAP', 0, 1, number))
    case 'isis':
      return and(proto(frame, 'iso', ISO_PROTOCOLS.isis), equals(frame, 'network without SNAP', 4, 1, number))
  }
}

/** Over which versions of IP a protocol is looked for. */
const OVER_IP: Partial<Record<Protocol, { number: number; within: 'ip' | 'ip6' | 'any' }>> = {
  tcp: { number: IPPROTO_TCP, within: 'any' },
  udp: { number: IPPROTO_UDP, within: 'any' },
  sctp: { number: IPPROTO_SCTP, within: 'any' },
  icmp: { number: IPPROTO_ICMP, within: 'ip' },
  icmp6: { number: IPPROTO_ICMPV6, within: 'ip6' },
  igmp: { number: IPPROTO_IGMP, within: 'ip' },
  igrp: { number: IPPROTO_IGRP, within: 'ip' },
  pim: { number: IPPROTO_PIM, within: 'any' },
  vrrp: { number: IPPROTO_VRRP, within: 'ip' },
  carp: { number: IPPROTO_VRRP, within: 'ip' },
  ah: { number: IPPROTO_AH, within: 'any' },
  esp: { number: IPPROTO_ESP, within: 'any' },
}

/** A protocol's own word. */
export function protocol(frame: Frame, word: Protocol): Test {
  const overIp = OVER_IP[word]
  if (overIp) {
    return proto(frame, overIp.within, overIp.number)
  }
  if (word in ETHER_TYPES) return linkType(frame, ETHER_TYPES[word as keyof typeof ETHER_TYPES])
  if (word in LLC_SAPS) return linkType(frame, LLC_SAPS[word as keyof typeof LLC_SAPS])
  if (word in ISO_PROTOCOLS) return proto(frame, 'iso', ISO_PROTOCOLS[word as keyof typeof ISO_PROTOCOLS])
  const [first, ...rest] = ISIS_TYPES[word as keyof typeof ISIS_TYPES].map((type) =>
    proto(frame, 'isis', type),
  )
  return or(first, ...rest)
}

/** Not a fragment behind the first, which has no transport header. */
export const firstFragment = (frame: Frame): Test => not(ask(frame.load('network', 6, 2), '&', 0x1fff))

const TRANSPORTS = { tcp: IPPROTO_TCP, udp: IPPROTO_UDP, sctp: IPPROTO_SCTP }

export function port(frame: Frame, test: Checked & { kind: 'port' | 'portrange' }): Test {
  return or(portOver(frame, 'ip6', test), portOver(frame, 'ip', test))
}

/** A port over one version of IP. Extension headers of IPv6 are not stepped over. */
export function portOver(
  frame: Frame,
  version: 'ip' | 'ip6',
  { kind, low, high, transport, direction }: Omit<Checked & { kind: 'port' | 'portrange' }, 'at'>,
): Test {
  const from: From = version === 'ip' ? 'ipv4 payload' : 'ipv6 payload'
  const numbered = (side: 'src' | 'dst'): Test => {
    const at = PORT_AT[side]
    if (kind === 'port') return equals(frame, from, at, 2, low)
    return and(ask(frame.load(from, at, 2), '>=', low), not(ask(frame.load(from, at, 2), '>', high)))
  }
  const over = (one: keyof typeof TRANSPORTS): Test => {
    const carried =
      version === 'ip'
        ? and(equals(frame, 'network', IP_PROTOCOL_AT, 1, TRANSPORTS[one]), firstFragment(frame))
        : equals(frame, 'network', IPV6_NEXT_AT, 1, TRANSPORTS[one])
    return and(carried, eitherWay(direction, numbered))
  }
  const carrying = transport ? over(transport) : or(over('sctp'), over('tcp'), over('udp'))
  return and(linkType(frame, version === 'ip' ? ETH_P_IP : ETH_P_IPV6), carrying)
}

/** Broadcasts to all of 0.0.0.0/0: the network's own are not known here, as they are not when tcpdump reads a file. */
export const ipBroadcast = (frame: Frame): Test =>
  and(
    linkType(frame, ETH_P_IP),
    or(equals(frame, 'network', 16, 4, 0), equals(frame, 'network', 16, 4, 0xffff_ffff)),
  )

export function multicast(frame: Frame, version: 'ip' | 'ip6'): Test {
  if (version === 'ip') return and(linkType(frame, ETH_P_IP), ask(frame.load('network', 16, 1), '>=', 224))
  return and(linkType(frame, ETH_P_IPV6), equals(frame, 'network', 24, 1, 255))
}
