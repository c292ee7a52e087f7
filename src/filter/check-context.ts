// What every check has at hand: the expression, what knows names, and how to refuse.
import { FilterError, type FilterErrorCode, type Span } from './error.js'
import type { Resolver } from './resolve.js'

/** What the checks work with. */
export interface CheckContext {
  readonly expression: string
  readonly resolver: Resolver
}

/** Says what is wrong where. */
export function refuse(
  { expression }: CheckContext,
  at: Span,
  code: FilterErrorCode,
  sentence: string,
  more: { expected?: string; suggestion?: string | undefined; hint?: string } = {},
): never {
  throw new FilterError(expression, { code, sentence, at, ...more })
}
