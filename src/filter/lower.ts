// From tests to the graph: short-circuit evaluation, as libpcap chains its blocks.
import { BPF_K, BPF_RET, type Block } from './graph.js'
import type { Test } from './generate/tests.js'

const verdict = (k: number): Block => ({
  statements: [],
  code: BPF_RET | BPF_K,
  k,
  ifTrue: undefined,
  ifFalse: undefined,
})

/** The graph of a test, or (without one) of a filter that takes everything. Gives its first block. `snapLength` is what a match returns. */
export function lower(test: Test | undefined, snapLength: number): Block {
  const matched = verdict(snapLength)
  return test ? enter(test, matched, verdict(0)) : matched
}

/** The first block of a test that goes on at `yes` or `no`. */
function enter(test: Test, yes: Block, no: Block): Block {
  switch (test.op) {
    case 'leaf':
      return { statements: [...test.statements], code: test.code, k: test.k, ifTrue: yes, ifFalse: no }
    case 'not':
      return enter(test.test, no, yes)
    case 'and':
      return test.tests.reduceRight((next, one) => enter(one, next, no), yes)
    case 'or':
      return test.tests.reduceRight((next, one) => enter(one, yes, next), no)
  }
}
