// Protocols by name, and which of them have ports.
import { type CheckContext, refuse } from './check-context.js'
import type { Checked, Transport } from './checked.js'
import type { Span } from './error.js'
import { ETHER_TYPES, ISO_PROTOCOLS, LLC_SAPS } from './numbers.js'
import { type Protocol, suggest } from './words.js'

export type ProtoWithin = Extract<Checked, { kind: 'proto' }>['within']

/** The number of a named protocol, as the header before it has it. */
export function protoNumber(
  text: string,
  at: Span,
  within: Protocol | undefined,
  context: CheckContext,
): number {
  const unknown = (names: readonly string[], hint?: string): never =>
    refuse(context, at, 'XDP_FILTER_UNKNOWN_NAME', `No protocol over ${within ?? 'ip'} is called "${text}"`, {
      suggestion: suggest(text, names),
      ...(hint !== undefined && { hint }),
    })
  switch (within) {
    case undefined:
    case 'ip':
    case 'ip6':
      return context.resolver.protocol(text) ?? unknown([], 'Protocols are looked up in /etc/protocols.')
    case 'ether': {
      const known = new Map<string, number>([...Object.entries(ETHER_TYPES), ...Object.entries(LLC_SAPS)])
      return known.get(text) ?? unknown([...known.keys()])
    }
    case 'iso': {
      const known = new Map<string, number>(Object.entries(ISO_PROTOCOLS))
      return known.get(text) ?? unknown([...known.keys()])
    }
    default:
      return unknown([])
  }
}

/** The transport protocol before `port`. */
export function transportOf(
  type: 'port' | 'portrange',
  at: Span,
  protocol: Protocol | undefined,
  context: CheckContext,
): Transport | undefined {
  if (protocol === undefined || protocol === 'tcp' || protocol === 'udp' || protocol === 'sctp')
    return protocol
  return refuse(context, at, 'XDP_FILTER_MEANING', `${protocol} has no ports`, {
    expected: `tcp, udp, sctp or nothing before ${type}`,
  })
}
