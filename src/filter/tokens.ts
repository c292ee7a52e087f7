// From characters to tokens: always the longest that matches, as the language's own scanner does it.
import { parseIpv6 } from '../packet/address.js'
import { FilterError, type Span } from './error.js'
import { CONSTANTS, keyword } from './words.js'

export type TokenKind =
  | 'keyword'
  /** A name, or what follows a backslash. */
  | 'name'
  | 'number'
  /** Two to four numbers with dots between. */
  | 'ipv4'
  | 'ipv6'
  | 'mac'
  /** `$` and a byte: an ARCnet address. */
  | 'arcnet'
  | 'operator'
  | 'end'

export interface Token extends Span {
  readonly kind: TokenKind
  /** As it is meant: for keywords and operators the one spelling of several, for names without the backslash. */
  readonly text: string
  /** Of numbers. */
  readonly value?: number
}

/** More than anyone writes; what the kernel takes is less. */
const MAX_LENGTH = 1 << 20

const NUMBER = '(?:0[xX][0-9A-Fa-f]+|[0-9]+)'
const BYTE = '[0-9A-Fa-f]{1,2}'
const four = '[0-9A-Fa-f]{4}'
const sticky = (...sources: string[]): RegExp[] => sources.map((source) => new RegExp(source, 'y'))

/** What a token may look like, by falling rank: of two matches of one length the first counts. */
const RULES: readonly { readonly kind: TokenKind | 'broken mac'; readonly forms: readonly RegExp[] }[] = [
  { kind: 'operator', forms: sticky('<=|>=|!=|==|<<|>>|&&|\\|\\||[-+*/%:\\[\\]!<>()&|^=]') },
  { kind: 'arcnet', forms: sticky(`\\$${BYTE}`) },
  {
    kind: 'mac',
    forms: sticky(
      ...[':', '-', '\\.'].map((mark) => `${BYTE}(?:${mark}${BYTE}){5}`),
      `${four}\\.${four}\\.${four}`,
      `${four}${four}${four}`,
    ),
  },
  { kind: 'number', forms: sticky(NUMBER) },
  { kind: 'ipv4', forms: sticky(`${NUMBER}(?:\\.${NUMBER}){1,3}`) },
  { kind: 'broken mac', forms: sticky(`${BYTE}:+(?:${BYTE}:+)+`) },
  { kind: 'name', forms: sticky('[A-Za-z0-9](?:[-_.A-Za-z0-9]*[.A-Za-z0-9])?', '\\\\[^ !()\\n\\t]+') },
]

const SPELLINGS: ReadonlyMap<string, string> = new Map([
  ['&&', 'and'],
  ['||', 'or'],
  ['==', '='],
])

/** Cuts an expression into tokens; the last is `end`. Throws `FilterError`. */
export function tokenize(expression: string): Token[] {
  if (expression.length > MAX_LENGTH) {
    throw new FilterError(expression, {
      code: 'XDP_FILTER_TOO_LARGE',
      sentence: `The expression is ${expression.length} characters long; at most ${MAX_LENGTH} are read`,
      at: { position: MAX_LENGTH, length: 1 },
    })
  }
  const tokens: Token[] = []
  let position = 0
  for (;;) {
    while (' \r\n\t'.includes(expression[position] ?? 'x')) position++
    if (position === expression.length) break
    const token = next(expression, position)
    tokens.push(token)
    position += token.length
  }
  tokens.push({ kind: 'end', text: '', position, length: 0 })
  return tokens
}

function next(expression: string, position: number): Token {
  let kind: TokenKind | 'broken mac' | undefined
  let length = 0
  for (const rule of RULES) {
    const matched = Math.max(...rule.forms.map((form) => matchLength(form, expression, position)))
    // An IPv6 address ranks before a MAC address that was broken off.
    const sixth = rule.kind === 'broken mac' ? ipv6Length(expression, position) : 0
    if (sixth > length) [kind, length] = ['ipv6', sixth]
    if (matched > length) [kind, length] = [rule.kind, matched]
  }
  const text = expression.slice(position, position + length)
  const at = { position, length }
  switch (kind) {
    case undefined:
      throw new FilterError(expression, {
        code: 'XDP_FILTER_SYNTAX',
        sentence: `The character "${String.fromCodePoint(expression.codePointAt(position)!)}" means nothing here`,
        at: { position, length: 1 },
      })
    case 'broken mac':
      throw new FilterError(expression, {
        code: 'XDP_FILTER_SYNTAX',
        sentence: `"${text}" is no whole MAC address`,
        at,
        expected: 'six bytes, as in 02:00:00:00:00:01',
      })
    case 'number':
      return { kind, text, value: numberOf(expression, text, at), ...at }
    case 'ipv6':
      if (!parseIpv6(text)) {
        throw new FilterError(expression, {
          code: 'XDP_FILTER_SYNTAX',
          sentence: `"${text}" is no IPv6 address`,
          at,
        })
      }
      return { kind, text, ...at }
    case 'operator':
      return operator(text, at)
    case 'name':
      return word(text, at)
    default:
      return { kind, text, ...at }
  }
}

function matchLength(form: RegExp, expression: string, position: number): number {
  form.lastIndex = position
  return form.test(expression) ? form.lastIndex - position : 0
}

function operator(text: string, at: Span): Token {
  const meant = SPELLINGS.get(text) ?? text
  return { kind: meant === 'and' || meant === 'or' ? 'keyword' : 'operator', text: meant, ...at }
}

function word(text: string, at: Span): Token {
  if (text.startsWith('\\')) return { kind: 'name', text: text.slice(1), ...at }
  if (text === 'not') return { kind: 'operator', text: '!', ...at }
  const meant = keyword(text)
  if (meant !== undefined) return { kind: 'keyword', text: meant, ...at }
  const value = CONSTANTS.get(text)
  return value === undefined ? { kind: 'name', text, ...at } : { kind: 'number', text, value, ...at }
}

/** Decimal, octal (with a 0 in front) or hexadecimal. */
function numberOf(expression: string, text: string, at: Span): number {
  const octal = /^0[0-9]/.test(text)
  const refuse = (sentence: string): never => {
    throw new FilterError(expression, { code: 'XDP_FILTER_SYNTAX', sentence, at })
  }
  if (octal && /[89]/.test(text)) {
    refuse(`"${text}" begins with 0, so it is octal, but has a digit above 7`)
  }
  const value = octal ? parseInt(text, 8) : Number(text)
  return value > 0xffff_ffff ? refuse(`The number "${text}" does not fit in 32 bits`) : value
}

/** The longest beginning that looks like an IPv6 address, colons counted and the rest left to the address parser. */
function ipv6Length(expression: string, position: number): number {
  // Longer is none, unless its dotted tail were written with zeros in front.
  const run = /^[0-9A-Fa-f:.xX]*/.exec(expression.slice(position, position + 80))![0]
  if (!run.includes(':')) return 0
  for (let length = run.length; length >= 2; length--) {
    if (looksLikeIpv6(run.slice(0, length))) return length
  }
  return 0
}

const DOTTED_TAIL = new RegExp(`:${NUMBER}(?:\\.${NUMBER}){3}$`)

function looksLikeIpv6(text: string): boolean {
  const halves = text.replace(DOTTED_TAIL, ':0:0').split('::')
  const groups = halves.flatMap((half) => (half === '' ? [] : half.split(':')))
  if (!groups.every((group) => /^[0-9A-Fa-f]{1,4}$/.test(group))) return false
  return halves.length === 1 ? groups.length === 8 : halves.length === 2 && groups.length <= 7
}
