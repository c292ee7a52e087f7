// The checked tree: every test says all it tests, with names looked up and qualifiers inherited.
import type { Span } from './error.js'
import type { Direction, PlainTest } from './tree.js'

/** An address of four or sixteen bytes as one or four 32-bit words. */
export type Words = readonly number[]

export type Transport = 'tcp' | 'udp' | 'sctp'

/** The control field of an LLC header, under a mask. */
export interface LlcControl {
  readonly mask: number
  readonly value: number
}

export type Checked = { readonly at: Span } & (
  | {
      readonly kind: 'chain'
      readonly first: Checked
      readonly rest: readonly { readonly join: 'and' | 'or'; readonly tree: Checked }[]
    }
  | { readonly kind: 'not'; readonly tree: Checked }
  /** An IPv4 address: in IPv4 headers, in ARP and RARP packets, or in any of these. */
  | {
      readonly kind: 'ipv4'
      readonly address: number
      readonly mask: number
      readonly within: 'ip' | 'arp' | 'rarp' | 'any'
      readonly direction: Direction
    }
  | {
      readonly kind: 'ipv6'
      readonly address: Words
      readonly mask: Words
      readonly direction: Direction
    }
  | { readonly kind: 'mac'; readonly address: Uint8Array; readonly direction: Direction }
  | { readonly kind: 'decnet'; readonly address: number; readonly direction: Direction }
  /** A port, or all from `low` to `high`. Without a transport protocol: over any of the three. */
  | {
      readonly kind: 'port' | 'portrange'
      readonly low: number
      readonly high: number
      readonly transport: Transport | undefined
      readonly direction: Direction
    }
  /** The number by which a header names what it carries. */
  | {
      readonly kind: 'proto'
      readonly within: 'ether' | 'ip' | 'ip6' | 'iso' | 'isis' | 'any'
      readonly number: number
    }
  | { readonly kind: 'protochain'; readonly within: 'ip' | 'ip6' | 'any'; readonly number: number }
  | { readonly kind: 'broadcast'; readonly within: 'ether' | 'ip' }
  | { readonly kind: 'multicast'; readonly within: 'ether' | 'ip' | 'ip6' }
  | PlainTest
  | { readonly kind: 'llc'; readonly control: LlcControl | undefined }
)
