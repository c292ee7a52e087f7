// What a filter comes to before it is a graph: tests of one value each, joined by and, or and not.
import { type Tested, jumpConstant } from '../classic.js'
import type { Statement } from '../graph.js'

/** A statement that may jump within its list. Lists that have jumps are not optimized. */
export interface JumpingStatement extends Statement {
  yes?: JumpingStatement
  no?: JumpingStatement
}

/** Statements that run in any case, then one question about A. */
export interface Leaf {
  readonly op: 'leaf'
  readonly statements: readonly JumpingStatement[]
  readonly code: number
  readonly k: number
}

export type Test =
  | Leaf
  | { readonly op: 'and' | 'or'; readonly tests: readonly Test[] }
  | { readonly op: 'not'; readonly test: Test }

export const statement = (code: number, k = 0): JumpingStatement => ({ code, k: k >>> 0 })

export const leaf = (statements: readonly JumpingStatement[], code: number, k = 0): Leaf => ({
  op: 'leaf',
  statements,
  code,
  k: k >>> 0,
})

/** Whether what the statements leave in A compares so with a number. */
export const ask = (statements: readonly JumpingStatement[], test: Tested, k: number): Leaf =>
  leaf(statements, jumpConstant(test), k)

export const not = (test: Test): Test => ({ op: 'not', test })
export const and = (first: Test, ...rest: (Test | undefined)[]): Test => join('and', first, rest)
export const or = (first: Test, ...rest: (Test | undefined)[]): Test => join('or', first, rest)

function join(op: 'and' | 'or', first: Test, rest: readonly (Test | undefined)[]): Test {
  const tests = [first, ...rest].filter((test) => test !== undefined)
  return tests.length === 1 ? first : { op, tests }
}
