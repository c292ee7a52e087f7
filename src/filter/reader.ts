// The tokens as the parser walks through them, and what it says when one is out of place.
import { FilterError, type Span, spanning } from './error.js'
import type { Token } from './tokens.js'
import { suggest } from './words.js'

/** How deep parentheses, negations and signs may nest. */
const MAX_DEPTH = 500
/** How many operators sums may have in all: each takes several instructions, and the kernel takes 4096. */
const MAX_OPERATIONS = 2000

export class TokenReader {
  readonly expression: string
  readonly #tokens: readonly Token[]
  #at = 0
  #depth = 0
  #operations = 0

  constructor(expression: string, tokens: readonly Token[]) {
    this.expression = expression
    this.#tokens = tokens
  }

  /** The next token, which stays where it is. */
  get peek(): Token {
    return this.#tokens[this.#at]
  }

  /** The one behind the next. */
  get after(): Token {
    return this.#tokens[Math.min(this.#at + 1, this.#tokens.length - 1)]
  }

  /** Whether the next token is this operator. */
  peekIs(operator: string): boolean {
    return this.peek.kind === 'operator' && this.peek.text === operator
  }

  /** Whether the next token is of this kind, and (if asked) this word. */
  peekOf(kind: Token['kind'], text?: string): boolean {
    return this.peek.kind === kind && (text === undefined || this.peek.text === text)
  }

  /** Whether the next token joins two tests. */
  get joins(): boolean {
    return this.peek.kind === 'keyword' && (this.peek.text === 'and' || this.peek.text === 'or')
  }

  /** Takes the next token. */
  next(): Token {
    const token = this.peek
    if (token.kind !== 'end') this.#at++
    return token
  }

  /** Takes a number. */
  number(expected: string): Token {
    return this.peek.kind === 'number' ? this.next() : this.unexpected(expected)
  }

  /** Takes a number in any number of parentheses, if one comes next. */
  parenthesizedNumber(): { value: number; at: Span } | undefined {
    if (this.peek.kind === 'number') {
      const token = this.next()
      return { value: token.value!, at: token }
    }
    if (!this.peekIs('(')) return undefined
    const open = this.next()
    const inner = this.nested(() => this.parenthesizedNumber()) ?? this.unexpected('a number')
    if (!this.peekIs(')')) this.unexpected('")"')
    return { value: inner.value, at: spanning(open, this.next()) }
  }

  /** Runs `parse` one level deeper. */
  nested<T>(parse: () => T): T {
    if (++this.#depth > MAX_DEPTH) this.#tooLarge(`The expression nests more than ${MAX_DEPTH} deep`)
    const result = parse()
    this.#depth--
    return result
  }

  /** Takes an operator of a sum. */
  operation(): Token {
    if (++this.#operations > MAX_OPERATIONS) {
      this.#tooLarge(`The expression computes with more than ${MAX_OPERATIONS} operators`)
    }
    return this.next()
  }

  #tooLarge(sentence: string): never {
    throw new FilterError(this.expression, { code: 'XDP_FILTER_TOO_LARGE', sentence, at: this.peek })
  }

  error(sentence: string, at: Span, expected?: string, suggestion?: string): FilterError {
    return new FilterError(this.expression, { code: 'XDP_FILTER_SYNTAX', sentence, at, expected, suggestion })
  }

  /** Throws at the next token. */
  fail(sentence: string, expected?: string, suggestion?: string): never {
    throw this.error(sentence, this.peek, expected, suggestion)
  }

  /** Throws because the next token is not what can stand here. */
  unexpected(expected: string): never {
    const { kind, text } = this.peek
    if (kind === 'end') return this.fail('The expression ends too early', expected)
    // A word just before that was taken for a name may be a misspelt one of the language.
    const before = this.#tokens[this.#at - 1] as Token | undefined
    const suspect = [this.peek, before].find(
      (token) => token?.kind === 'name' && suggest(token.text) !== undefined,
    )
    if (suspect === before && before) {
      throw this.error(`"${before.text}" is no word of the language`, before, undefined, suggest(before.text))
    }
    return this.fail(`"${text}" cannot stand here`, expected, kind === 'name' ? suggest(text) : undefined)
  }
}
