// Pieces of the grammar that need nothing of the rest: directions, values, and tests with a word of their own.
import { spanning } from './error.js'
import type { TokenReader } from './reader.js'
import type { Direction, Encapsulation, Tree } from './tree.js'

/** `src`, `dst`, or both joined by `or` or `and`. */
export function parseDirection(reader: TokenReader): Direction | undefined {
  const first = reader.peek.text
  if (reader.peek.kind !== 'keyword' || (first !== 'src' && first !== 'dst')) return undefined
  reader.next()
  if (!reader.joins) return first
  const join = reader.next().text
  const other = first === 'src' ? 'dst' : 'src'
  if (!reader.peekOf('keyword', other)) reader.unexpected(`"${other}"`)
  reader.next()
  return join === 'or' ? 'src or dst' : 'src and dst'
}

/** A name or address, with its mask. */
export function parseValue(reader: TokenReader): Tree {
  const token = reader.next()
  const text = token.text
  if (token.kind === 'ipv4' || token.kind === 'ipv6') {
    if (reader.peekIs('/')) {
      reader.next()
      const bits = reader.number('a prefix length')
      const kind = token.kind === 'ipv4' ? 'ipv4 prefix' : 'ipv6 prefix'
      return { kind: 'value', value: { kind, text, bits: bits.value! }, at: spanning(token, bits) }
    }
    if (token.kind === 'ipv4' && reader.peekOf('keyword', 'mask')) {
      reader.next()
      if (!reader.peekOf('ipv4')) reader.unexpected('a mask, such as 255.255.255.0')
      const mask = reader.next()
      return {
        kind: 'value',
        value: { kind: 'ipv4 net', text, mask: mask.text },
        at: spanning(token, mask),
      }
    }
  }
  const kind = token.kind as 'name' | 'ipv4' | 'ipv6' | 'mac' | 'arcnet'
  return { kind: 'value', value: { kind, text }, at: token }
}

/** `byte 12 = 8` */
export function parseByte(reader: TokenReader): Tree {
  const start = reader.next()
  const offset = reader.number('the offset of a byte').value!
  const { peek } = reader
  if (peek.kind !== 'operator' || !['&', '|', '<', '>', '='].includes(peek.text))
    reader.unexpected('one of & | < > =')
  const operator = reader.next().text as '&' | '|' | '<' | '>' | '='
  const value = reader.number('a number')
  return { kind: 'byte', offset, operator, value: value.value!, at: spanning(start, value) }
}

/** `vlan 5` */
export function parseEncapsulation(reader: TokenReader, header: Encapsulation): Tree {
  const start = reader.next()
  const number = reader.parenthesizedNumber()
  return {
    kind: 'encapsulation',
    header,
    number: number?.value,
    at: number ? spanning(start, number.at) : start,
  }
}

/** `llc` with the type of a frame. */
export function parseLlc(reader: TokenReader): Tree {
  const start = reader.next()
  const { peek } = reader
  if (peek.kind !== 'name' && !(peek.kind === 'keyword' && peek.text === 'rnr')) {
    return { kind: 'llc', type: undefined, at: start }
  }
  reader.next()
  return { kind: 'llc', type: peek.text, at: spanning(start, peek) }
}
