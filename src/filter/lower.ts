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

/**
 * The graph of a test, or (without one) of a filter that takes everything. Gives its first block. `snapLength` is what a match
 * returns.
 */
export function lower(test: Test | undefined, snapLength: number): Block {
  const matched = verdict(snapLength)
  return test ? enter(test, matched, verdict(0)) : matched
}

/** The first block of a test that goes on at `yes` or `no`. */
function enter(test: Test, yes: Block, no: Block): Block {
  let [first, onYes, onNo] = [test, yes, no]
  // Chains nest on their left side, deeper than calls may: that side is a loop.
  for (;;) {
    switch (first.op) {
      case 'leaf':
        return {
          statements: [...first.statements],
          code: first.code,
          k: first.k,
          ifTrue: onYes,
          ifFalse: onNo,
        }
      case 'not':
        ;[first, onYes, onNo] = [first.test, onNo, onYes]
        break
      case 'and':
        for (const one of first.tests.slice(1).reverse()) onYes = enter(one, onYes, onNo)
        first = first.tests[0]
        break
      case 'or':
        for (const one of first.tests.slice(1).reverse()) onNo = enter(one, onYes, onNo)
        first = first.tests[0]
        break
    }
  }
}
