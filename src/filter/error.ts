// What is wrong with a filter expression, and where in it.
import { XdpError } from '../kernel/errors.js'

/** Where in the expression something stands. */
export interface Span {
  /** 0-based. */
  readonly position: number
  readonly length: number
}

/**
 * Why a filter cannot be:
 * - `XDP_FILTER_SYNTAX`: it is not of the language
 * - `XDP_FILTER_MEANING`: its words stand right, but cannot be meant so: `tcp host`, a port above 65535
 * - `XDP_FILTER_UNKNOWN_NAME`: a host, network, port or protocol that the system's files do not name
 * - `XDP_FILTER_UNSUPPORTED`: it asks for what an Ethernet frame does not hold, or for what is not built
 * - `XDP_FILTER_TOO_LARGE`: there is too much of it, for the compiler or for what is to run it
 * - `XDP_FILTER_NEVER`: no packet can match it
 */
export type FilterErrorCode =
  | 'XDP_FILTER_SYNTAX'
  | 'XDP_FILTER_MEANING'
  | 'XDP_FILTER_UNKNOWN_NAME'
  | 'XDP_FILTER_UNSUPPORTED'
  | 'XDP_FILTER_TOO_LARGE'
  | 'XDP_FILTER_NEVER'

/** What a `FilterError` is made of. */
export interface FilterProblem {
  readonly code: FilterErrorCode
  /** One sentence without a full stop. */
  readonly sentence: string
  readonly at: Span
  /** What could have stood there, in words. */
  readonly expected?: string | undefined
  /** The word that was probably meant. */
  readonly suggestion?: string | undefined
  readonly hint?: string | undefined
}

/** A filter expression that cannot be compiled. The message is a sentence, then the expression with a line that points into it. */
export class FilterError extends XdpError {
  declare readonly code: FilterErrorCode
  readonly expression: string
  /** Where the fault begins: 0-based, the expression's length when something is missing at its end. */
  readonly position: number
  /** How much is at fault, at least 1. */
  readonly length: number
  /** What could have stood there. */
  readonly expected: string | undefined
  /** The word that was probably meant. */
  readonly suggestion: string | undefined

  constructor(expression: string, { code, sentence, at, expected, suggestion, hint }: FilterProblem) {
    // A word that was probably meant says enough.
    const asked = expected === undefined || suggestion !== undefined ? '' : `; expected ${expected}`
    const meant = suggestion === undefined ? '' : `; did you mean "${suggestion}"?`
    super(code, `${brief(sentence)}${asked}${meant}\n${pointInto(expression, at)}`, hint)
    this.expression = expression
    this.position = at.position
    this.length = Math.max(at.length, 1)
    this.expected = expected
    this.suggestion = suggestion
  }
}

/** Cuts what a sentence quotes. */
const brief = (sentence: string): string => sentence.replace(/"([^"]{60})[^"]+"/g, '"$1…"')

/** How much of a long expression is shown on each side of the fault. */
const SHOWN = 48

/** The expression, or the piece of it around the fault, and below it a line of carets. */
function pointInto(expression: string, { position, length }: Span): string {
  const from = Math.max(0, position - SHOWN)
  const to = Math.min(expression.length, position + Math.min(length, SHOWN) + SHOWN)
  const before = from > 0 ? '…' : ''
  const piece = before + expression.slice(from, to).replace(/\s/g, ' ') + (to < expression.length ? '…' : '')
  const column = before.length + position - from
  const carets = Math.max(1, Math.min(length, to - position))
  return `  ${piece}\n  ${' '.repeat(column)}${'^'.repeat(carets)}`
}

/** Says that a filter as a whole is more than something takes. */
export const tooLarge = (expression: string, sentence: string, hint?: string): FilterError =>
  new FilterError(expression, {
    code: 'XDP_FILTER_TOO_LARGE',
    sentence,
    at: { position: 0, length: expression.length },
    hint,
  })

/** The span from the first of two to the end of the second. */
export const spanning = (first: Span, last: Span): Span => ({
  position: first.position,
  length: last.position + last.length - first.position,
})
