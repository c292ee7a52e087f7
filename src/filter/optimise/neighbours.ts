// Statements beside each other, and the test behind them: what two do, one may do as well.
import {
  BPF_ADD,
  BPF_ALU,
  BPF_AND,
  BPF_B,
  BPF_IMM,
  BPF_IND,
  BPF_JEQ,
  BPF_JGE,
  BPF_JGT,
  BPF_JMP,
  BPF_JSET,
  BPF_K,
  BPF_LD,
  BPF_LDX,
  BPF_MEM,
  BPF_MISC,
  BPF_MSH,
  BPF_ST,
  BPF_SUB,
  BPF_TAX,
  BPF_TXA,
  BPF_X,
  type Statement,
  classOf,
  modeOf,
  operationOf,
  sourceOf,
} from '../graph.js'
import { GONE, A, X, type Node, isIn } from './flow.js'
import { type Progress, noteRewrite } from './progress.js'
import type { Values } from './values.js'

/** Rewrites the statements of a block two by two, and its test with what stands before it. */
export function rewriteNeighbours(node: Node, values: Values, progress: Progress): void {
  const { statements, last: test } = node
  if (statements.length === 0) return
  let last = statements[0]
  for (let at = presentFrom(statements, 0); ;) {
    const next = presentFrom(statements, at + 1)
    if (next >= statements.length) break
    last = statements[next]
    rewritePair(node, at, next, progress)
    at = presentFrom(statements, next)
  }
  if (test.code === (BPF_JMP | BPF_JEQ | BPF_K) && !isIn(node.usedAfter, A))
    rewriteTest(node, last, values, progress)
  if (test.code === (BPF_JMP | BPF_JSET | BPF_K)) {
    if (test.k === 0) node.yes.to = node.no.to
    if (test.k === 0xffffffff) node.no.to = node.yes.to
  }
  const x = values.asConstant(node.values[X])
  if (x !== undefined && sourceOf(test.code) === BPF_X) {
    test.code &= ~BPF_X
    test.k = x
  }
  const a = values.asConstant(node.values[A])
  if (a !== undefined && sourceOf(test.code) === BPF_K) {
    if (node.no.to !== node.yes.to) noteRewrite(progress)
    if (holds(operationOf(test.code), a, test.k)) node.no.to = node.yes.to
    else node.yes.to = node.no.to
  }
}

function rewritePair(node: Node, at: number, after: number, progress: Progress): void {
  const { statements } = node
  const s = statements[at]
  const next = statements[after]
  if (s.code === BPF_ST && next.code === (BPF_LDX | BPF_MEM) && s.k === next.k) {
    next.code = BPF_MISC | BPF_TAX
    noteRewrite(progress)
  }
  if (s.code === (BPF_LD | BPF_IMM) && next.code === (BPF_MISC | BPF_TAX)) {
    s.code = BPF_LDX | BPF_IMM
    next.code = BPF_MISC | BPF_TXA
    noteRewrite(progress)
  }
  if (s.code !== (BPF_LD | BPF_IMM) || isIn(node.usedAfter, X)) return
  // `ld #2; ldx 4*([14]&0xf); add x; tax; ldb [x + 0]` is `ldx 4*([14]&0xf); ldb [x + 2]`.
  const isHeaderLength = next.code === (BPF_LDX | BPF_MSH | BPF_B)
  const addAt = isHeaderLength ? presentFrom(statements, after + 1) : after
  const taxAt = presentFrom(statements, addAt + 1)
  const loadAt = presentFrom(statements, taxAt + 1)
  if (loadAt >= statements.length) return
  const [add, tax, load] = [statements[addAt], statements[taxAt], statements[loadAt]]
  if (add.code !== (BPF_ALU | BPF_ADD | BPF_X) || tax.code !== (BPF_MISC | BPF_TAX)) return
  if (classOf(load.code) !== BPF_LD || modeOf(load.code) !== BPF_IND) return
  load.k = (load.k + s.k) >>> 0
  s.code = GONE
  add.code = GONE
  tax.code = GONE
  noteRewrite(progress)
}

/** The last computation before `jeq` may become part of it. */
function rewriteTest(node: Node, last: Statement, values: Values, progress: Progress): void {
  const test = node.last
  if (last.code === (BPF_ALU | BPF_SUB | BPF_X)) {
    const x = values.asConstant(node.values[X])
    if (x !== undefined) test.k = (test.k + x) >>> 0
    else if (test.k === 0) test.code = BPF_JMP | BPF_JEQ | BPF_X
    else return
  } else if (last.code === (BPF_ALU | BPF_SUB | BPF_K)) {
    test.k = (test.k + last.k) >>> 0
  } else if (last.code === (BPF_ALU | BPF_AND | BPF_K) && test.k === 0) {
    test.k = last.k
    test.code = BPF_JMP | BPF_JSET | BPF_K
    const { to } = node.yes
    node.yes.to = node.no.to
    node.no.to = to
  } else return
  last.code = GONE
  noteRewrite(progress)
}

/** Where the next statement is that has not been taken out. */
function presentFrom(statements: readonly Statement[], at: number): number {
  while (at < statements.length && statements[at].code === GONE) at++
  return at
}

function holds(operation: number, a: number, k: number): boolean {
  if (operation === BPF_JEQ) return a === k
  if (operation === BPF_JGT) return a > k
  return operation === BPF_JGE ? a >= k : (a & k) !== 0
}
