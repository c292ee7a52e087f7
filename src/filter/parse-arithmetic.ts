// Sums over the packet: `tcp[12] & 0xf0 >> 2`.
import { spanning } from './error.js'
import type { TokenReader } from './reader.js'
import type { Arithmetic, ArithmeticOperator } from './tree.js'
import { isProtocol } from './words.js'

/** How tightly operators bind. libpcap's grammar ranks neither `%` nor `^`: around them, what comes later binds tighter. */
const RANKS: ReadonlyMap<string, number | undefined> = new Map([
  ['|', 1],
  ['&', 2],
  ['<<', 3],
  ['>>', 3],
  ['+', 4],
  ['-', 4],
  ['*', 5],
  ['/', 5],
  ['%', undefined],
  ['^', undefined],
])
/** Of the sign in front. */
const SIGN_RANK = 6

/** Parses a sum, whose first operand may have been parsed already. Stops at what is no operator. */
export function parseArithmetic(reader: TokenReader, first?: Arithmetic): Arithmetic {
  return operations(reader, first ?? parsePrimary(reader), undefined)
}

/** Takes operators as long as they bind tighter than `outer`, the one before. */
function operations(
  reader: TokenReader,
  first: Arithmetic,
  outer: { readonly rank: number | undefined } | undefined,
): Arithmetic {
  let left = first
  for (;;) {
    const { kind, text } = reader.peek
    if (kind !== 'operator' || !RANKS.has(text)) return left
    const rank = RANKS.get(text)
    if (outer?.rank !== undefined && rank !== undefined && rank <= outer.rank) return left
    reader.operation()
    const right = reader.nested(() => operations(reader, parsePrimary(reader), { rank }))
    left = {
      kind: 'operation',
      operator: text as ArithmeticOperator,
      left,
      right,
      at: spanning(left.at, right.at),
    }
  }
}

/** One operand: a number, the length, a load, a sign with what it belongs to, or a sum in parentheses. */
export function parsePrimary(reader: TokenReader): Arithmetic {
  const { peek } = reader
  if (peek.kind === 'number') {
    reader.next()
    return { kind: 'number', value: peek.value!, at: peek }
  }
  if (reader.peekIs('-')) {
    reader.next()
    const operand = reader.nested(() => operations(reader, parsePrimary(reader), { rank: SIGN_RANK }))
    return { kind: 'negative', operand, at: spanning(peek, operand.at) }
  }
  if (reader.peekIs('(')) {
    reader.next()
    const inner = reader.nested(() => parseArithmetic(reader))
    if (!reader.peekIs(')')) reader.unexpected('an operator or ")"')
    return { ...inner, at: spanning(peek, reader.next()) }
  }
  if (peek.kind === 'keyword' && peek.text === 'len') {
    reader.next()
    return { kind: 'length', at: peek }
  }
  if (peek.kind === 'keyword' && isProtocol(peek.text)) {
    reader.next()
    if (!reader.peekIs('[')) reader.unexpected(`"[" and an offset into ${peek.text}`)
    reader.next()
    const offset = reader.nested(() => parseArithmetic(reader))
    let size = 1
    if (reader.peekIs(':')) {
      reader.next()
      size = reader.number('1, 2 or 4').value!
    }
    if (!reader.peekIs(']')) reader.unexpected('an operator, ":" or "]"')
    return { kind: 'load', protocol: peek.text, offset, size, at: spanning(peek, reader.next()) }
  }
  return reader.unexpected('a number, len, or bytes such as ip[0]')
}
