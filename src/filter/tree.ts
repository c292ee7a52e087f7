// The syntax tree: what was written, with the place of each piece; nothing is looked up or inherited yet.
import type { Span } from './error.js'
import type { Protocol } from './words.js'

export type Direction = 'src' | 'dst' | 'src or dst' | 'src and dst'
export type Addressed = 'host' | 'net' | 'port' | 'portrange' | 'proto' | 'protochain'

/** The words before a name or number: `tcp src port`. */
export interface Qualifiers {
  readonly protocol: Protocol | undefined
  readonly direction: Direction | undefined
  readonly type: Addressed | undefined
}

/** What qualifiers apply to. */
export type Value =
  | { readonly kind: 'name'; readonly text: string }
  | { readonly kind: 'number'; readonly value: number }
  | { readonly kind: 'ipv4'; readonly text: string }
  | { readonly kind: 'ipv4 net'; readonly text: string; readonly mask: string }
  | { readonly kind: 'ipv4 prefix'; readonly text: string; readonly bits: number }
  | { readonly kind: 'ipv6 prefix'; readonly text: string; readonly bits: number }
  | { readonly kind: 'ipv6'; readonly text: string }
  | { readonly kind: 'mac' | 'arcnet'; readonly text: string }

export type ArithmeticOperator = '+' | '-' | '*' | '/' | '%' | '&' | '|' | '^' | '<<' | '>>'
export type Relation = '=' | '!=' | '<' | '<=' | '>' | '>='

/** A number that is computed for each packet. */
export type Arithmetic = { readonly at: Span } & (
  | { readonly kind: 'number'; readonly value: number }
  | { readonly kind: 'length' }
  /** `protocol[offset:size]` */
  | {
      readonly kind: 'load'
      readonly protocol: Protocol
      readonly offset: Arithmetic
      readonly size: number
    }
  | { readonly kind: 'negative'; readonly operand: Arithmetic }
  | {
      readonly kind: 'operation'
      readonly operator: ArithmeticOperator
      readonly left: Arithmetic
      readonly right: Arithmetic
    }
)

/** Headers around another packet: what is asked behind one of them is asked of the packet inside. */
export type Encapsulation = 'vlan' | 'mpls' | 'pppoes' | 'geneve'

/** Tests that say all they test: there is nothing in them to look up or inherit. */
export type PlainTest =
  | { readonly kind: 'protocol'; readonly protocol: Protocol }
  | {
      readonly kind: 'relation'
      readonly relation: Relation
      readonly left: Arithmetic
      readonly right: Arithmetic
    }
  | { readonly kind: 'less' | 'greater'; readonly length: number }
  | {
      readonly kind: 'byte'
      readonly offset: number
      readonly operator: '&' | '|' | '<' | '>' | '='
      readonly value: number
    }
  | {
      readonly kind: 'encapsulation'
      readonly header: Encapsulation
      readonly number: number | undefined
    }
  | { readonly kind: 'pppoed' }

export type Tree = { readonly at: Span } & (
  | {
      /** `a and b or c`: both words bind alike, from the left. */
      readonly kind: 'chain'
      readonly first: Tree
      readonly rest: readonly { readonly join: 'and' | 'or'; readonly tree: Tree }[]
    }
  | { readonly kind: 'not'; readonly tree: Tree }
  /** Parentheses around whole tests. */
  | { readonly kind: 'group'; readonly tree: Tree }
  | { readonly kind: 'qualified'; readonly qualifiers: Qualifiers; readonly tree: Tree }
  /** A name or number: its qualifiers stand before it, or before an earlier one. */
  | { readonly kind: 'value'; readonly value: Value }
  | { readonly kind: 'broadcast' | 'multicast'; readonly protocol: Protocol | undefined }
  | PlainTest
  | { readonly kind: 'llc'; readonly type: string | undefined }
)
