// From tokens to the syntax tree, by recursive descent.
//
// The language is that of libpcap's grammar, whose corners are kept: `and` and `or` bind alike; names and numbers may follow them
// bare, and take the qualifiers of what came before; within parentheses stand either whole tests, or names alone.
import { FilterError, type Span, spanning } from './error.js'
import { parseArithmetic, parsePrimary } from './parse-arithmetic.js'
import { parseByte, parseDirection, parseEncapsulation, parseLlc, parseValue } from './parse-words.js'
import { TokenReader } from './reader.js'
import type { Token } from './tokens.js'
import type { Addressed, Arithmetic, Qualifiers, Relation, Tree } from './tree.js'
import { FOREIGN, type Protocol, isProtocol, suggest } from './words.js'

/** A piece of an expression, before it is known what it is used for. */
type Piece =
  /** A test. */
  | { readonly is: 'test'; readonly tree: Tree }
  /** Names, which need qualifiers. `bare` unless there are parentheses around them. */
  | { readonly is: 'value'; readonly tree: Tree; readonly bare: boolean }
  /** A number: a value, or the beginning of arithmetic. */
  | { readonly is: 'number'; readonly tree: Tree; readonly number: number }
  | { readonly is: 'arithmetic'; readonly arithmetic: Arithmetic }

const RELATIONS: ReadonlySet<string> = new Set(['=', '!=', '<', '<=', '>', '>='])
const ARITHMETIC: ReadonlySet<string> = new Set(['+', '-', '*', '/', '%', '&', '|', '^', '<<', '>>'])
const VALUES: ReadonlySet<string> = new Set(['name', 'ipv4', 'ipv6', 'mac', 'arcnet'])
const TESTS = 'a test, such as host, port, tcp or ip[0]'

/** Parses an expression; undefined when there is nothing but space in it. Throws `FilterError`. */
export function parse(expression: string, tokens: readonly Token[]): Tree | undefined {
  const reader = new TokenReader(expression, tokens)
  if (reader.peekOf('end')) return undefined
  const piece = new Parser(reader).sequence()
  if (piece.is === 'arithmetic') throw needsWord(reader, piece)
  if (!reader.peekOf('end')) {
    if (reader.peekIs(')')) reader.fail('There is no parenthesis for this one to close')
    reader.unexpected('"and", "or" or the end')
  }
  if (piece.is !== 'test') throw needsWord(reader, piece)
  return piece.tree
}

/** What to say of a name, number or sum that stands where a test should. */
function needsWord(reader: TokenReader, piece: Piece): FilterError {
  if (piece.is === 'arithmetic') {
    const { at } = piece.arithmetic
    return reader.error('A number alone is no test', at, 'a comparison, such as = 5')
  }
  const { at } = piece.tree
  const text = reader.expression.slice(at.position, at.position + at.length)
  return reader.error(
    `"${text}" stands without a word that says what it is`,
    at,
    'a word such as host, net, port or proto before it',
    piece.is === 'value' ? suggest(text) : undefined,
  )
}

class Parser {
  readonly #reader: TokenReader

  constructor(reader: TokenReader) {
    this.#reader = reader
  }

  /** Pieces joined by `and` and `or`. */
  sequence(): Piece {
    const reader = this.#reader
    const first = this.#piece()
    if (first.is === 'arithmetic' || !reader.joins) return first
    // What begins with a name consists of names: the words of what came before the parenthesis go for all of them.
    const names = first.is !== 'test'
    if (first.is === 'value' && !first.bare) {
      throw reader.error('These parentheses stand where a name or number should', first.tree.at)
    }
    const rest: { join: 'and' | 'or'; tree: Tree }[] = []
    while (reader.joins) {
      const join = reader.next().text as 'and' | 'or'
      const piece = this.#piece()
      if (piece.is === 'arithmetic') throw needsWord(reader, piece)
      if (names && piece.is === 'test') {
        throw reader.error('A test stands among names', piece.tree.at, 'another name or number')
      }
      rest.push({ join, tree: piece.tree })
    }
    const tree: Tree = {
      kind: 'chain',
      first: first.tree,
      rest,
      at: spanning(first.tree.at, rest.at(-1)!.tree.at),
    }
    return names ? { is: 'value', tree, bare: true } : { is: 'test', tree }
  }

  #piece(): Piece {
    const reader = this.#reader
    const { peek } = reader
    if (reader.peekIs('!')) return this.#not()
    if (reader.peekIs('(')) return this.#continued(this.#parenthesized())
    if (peek.kind === 'number') {
      reader.next()
      const tree: Tree = { kind: 'value', value: { kind: 'number', value: peek.value! }, at: peek }
      return this.#continued({ is: 'number', tree, number: peek.value! })
    }
    if (VALUES.has(peek.kind)) return { is: 'value', tree: parseValue(reader), bare: true }
    if (reader.peekIs('-')) return this.#compared(parseArithmetic(reader))
    if (peek.kind === 'keyword') return this.#keyword(peek)
    return reader.unexpected(TESTS)
  }

  #not(): Piece {
    const reader = this.#reader
    const { position, length } = reader.next()
    const inner = reader.nested(() => this.#piece())
    if (inner.is === 'arithmetic') throw needsWord(reader, inner)
    const tree: Tree = {
      kind: 'not',
      tree: inner.tree,
      at: spanning({ position, length }, inner.tree.at),
    }
    return inner.is === 'test' ? { is: 'test', tree } : { is: 'value', tree, bare: true }
  }

  #parenthesized(): Piece {
    const reader = this.#reader
    const open = reader.next()
    const inner = reader.nested(() => this.sequence())
    if (!reader.peekIs(')')) reader.unexpected('")", "and" or "or"')
    const at = spanning(open, reader.next())
    switch (inner.is) {
      case 'test':
        return { is: 'test', tree: { kind: 'group', tree: inner.tree, at } }
      case 'value':
        if (!inner.bare) throw reader.error('These parentheses stand twice', at, 'one pair around names')
        return { ...inner, tree: { ...inner.tree, at }, bare: false }
      case 'number':
        return { ...inner, tree: { ...inner.tree, at } }
      case 'arithmetic':
        return { is: 'arithmetic', arithmetic: { ...inner.arithmetic, at } }
    }
  }

  /** A number or sum that may be the left side of more. */
  #continued(piece: Piece): Piece {
    const { peek } = this.#reader
    if (piece.is === 'test' || piece.is === 'value') return piece
    if (peek.kind !== 'operator' || (!RELATIONS.has(peek.text) && !ARITHMETIC.has(peek.text))) return piece
    const start: Arithmetic =
      piece.is === 'arithmetic'
        ? piece.arithmetic
        : { kind: 'number', value: piece.number, at: piece.tree.at }
    return this.#compared(parseArithmetic(this.#reader, start))
  }

  /** Arithmetic with its comparison, or (in parentheses) without. */
  #compared(left: Arithmetic): Piece {
    const reader = this.#reader
    const { peek } = reader
    if (peek.kind !== 'operator' || !RELATIONS.has(peek.text)) return { is: 'arithmetic', arithmetic: left }
    const relation = reader.next().text as Relation
    const right = parseArithmetic(reader)
    return { is: 'test', tree: { kind: 'relation', relation, left, right, at: spanning(left.at, right.at) } }
  }

  #keyword(peek: Token): Piece {
    const reader = this.#reader
    const word = peek.text
    const foreign = FOREIGN.get(word)
    if (foreign !== undefined)
      this.#refuse(peek, `"${word}" is about ${foreign}, which an Ethernet frame does not hold`)
    if (isProtocol(word)) {
      const after = reader.after
      if (after.kind === 'operator' && after.text === '[') {
        return this.#compared(parseArithmetic(reader, parsePrimary(reader)))
      }
      reader.next()
      return this.#behindProtocol(word, peek)
    }
    const test = (tree: Tree): Piece => ({ is: 'test', tree })
    switch (word) {
      case 'len':
        return this.#compared(parseArithmetic(reader))
      case 'broadcast':
      case 'multicast':
        reader.next()
        return test({ kind: word, protocol: undefined, at: peek })
      case 'less':
      case 'greater': {
        reader.next()
        const number = reader.number('a length in bytes')
        return test({ kind: word, length: number.value!, at: spanning(peek, number) })
      }
      case 'byte':
        return test(parseByte(reader))
      case 'vlan':
      case 'mpls':
      case 'pppoes':
      case 'geneve':
        return test(parseEncapsulation(reader, word))
      case 'pppoed':
        reader.next()
        return test({ kind: 'pppoed', at: peek })
      case 'llc':
        return test(parseLlc(reader))
      case 'rnr':
        return this.#refuse(peek, `"rnr" is about OpenBSD's packet filter, unless it stands behind llc`)
      case 'and':
      case 'or':
      case 'mask':
        return reader.unexpected(TESTS)
      default:
        return test(this.#qualified(undefined, peek))
    }
  }

  #refuse(at: Span, sentence: string): never {
    throw new FilterError(this.#reader.expression, { code: 'XDP_FILTER_UNSUPPORTED', sentence, at })
  }

  #behindProtocol(protocol: Protocol, start: Token): Piece {
    const reader = this.#reader
    const { peek } = reader
    if (peek.kind === 'keyword') {
      if (peek.text === 'broadcast' || peek.text === 'multicast') {
        reader.next()
        return { is: 'test', tree: { kind: peek.text, protocol, at: spanning(start, peek) } }
      }
      if (
        ['src', 'dst', 'host', 'net', 'port', 'portrange', 'proto', 'protochain', 'gateway'].includes(
          peek.text,
        )
      ) {
        return { is: 'test', tree: this.#qualified(protocol, start) }
      }
      const foreign = FOREIGN.get(peek.text)
      if (foreign !== undefined) {
        this.#refuse(peek, `"${peek.text}" is about ${foreign}, which an Ethernet frame does not hold`)
      }
    }
    return { is: 'test', tree: { kind: 'protocol', protocol, at: start } }
  }

  /** Direction and type, then what they apply to. */
  #qualified(protocol: Protocol | undefined, start: Token): Tree {
    const reader = this.#reader
    const direction = parseDirection(reader)
    const { peek } = reader
    let type: Addressed | undefined
    if (peek.kind === 'keyword') {
      switch (peek.text) {
        case 'gateway':
          this.#refuse(
            peek,
            'gateway would need the MAC address of a host from the network, and no DNS is asked here',
          )
          break
        case 'proto':
        case 'protochain':
          // Neither has a direction: behind one, the word is out of place.
          if (direction !== undefined) reader.unexpected('host, net, port, portrange, or a name or number')
          type = peek.text
          break
        case 'host':
        case 'net':
        case 'port':
        case 'portrange':
          type = peek.text
          break
      }
      if (type !== undefined) reader.next()
    }
    const qualifiers: Qualifiers = { protocol, direction, type }
    const tree = this.#values(
      type === undefined ? 'host, net, port, portrange, or a name or number' : undefined,
    )
    return { kind: 'qualified', qualifiers, tree, at: spanning(start, tree.at) }
  }

  /** What stands behind qualifiers: a name or number, or several in parentheses, any of them negated. */
  #values(expected = 'a name, number or address'): Tree {
    const reader = this.#reader
    if (reader.peekIs('!')) {
      const start = reader.next()
      const tree = reader.nested(() => this.#values())
      return { kind: 'not', tree, at: spanning(start, tree.at) }
    }
    const { peek } = reader
    if (reader.peekIs('(')) {
      const piece = this.#parenthesized()
      if (piece.is === 'value' || piece.is === 'number') return piece.tree
      const at = piece.is === 'test' ? piece.tree.at : piece.arithmetic.at
      throw reader.error('Within these parentheses only names and numbers can stand', at)
    }
    if (peek.kind === 'number') {
      reader.next()
      return { kind: 'value', value: { kind: 'number', value: peek.value! }, at: peek }
    }
    if (VALUES.has(peek.kind)) return parseValue(reader)
    if (peek.kind === 'keyword') {
      throw reader.error(
        `"${peek.text}" is a word of the language`,
        peek,
        `${expected}; for a name that is also a word write \\${peek.text}`,
      )
    }
    return reader.unexpected(expected)
  }
}
