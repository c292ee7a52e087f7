// The one rule that TypeScript's types cannot hold: a value is used only where it has been computed.
import { flowOf } from './dominators.js'
import { type Block, type Fn, type Operand, edgesOf, operandsOf, testedOf } from './ir.js'
import { programError } from './location.js'
import type { SourceLocation } from '../source.js'

/** Throws `OptionError`, with the line of the use, for a value that a path to its use does not compute. */
export function checkUses(fn: Fn): void {
  const flow = flowOf(fn)
  const home = new Map<number, Block>()
  for (const param of fn.params) home.set(param, fn.blocks[0])
  for (const block of flow.order) {
    for (const param of block.params) home.set(param, block)
    for (const inst of block.insts) if ('dst' in inst && inst.dst !== undefined) home.set(inst.dst, block)
  }
  for (const block of flow.order) {
    const here = new Set(block.params)
    const use = (operand: Operand, at: SourceLocation | undefined): void => {
      if (typeof operand === 'bigint' || here.has(operand)) return
      const made = home.get(operand)
      if (made && made !== block && flow.dominates(made, block)) return
      if (made === fn.blocks[0] && fn.params.includes(operand)) return
      if (!made) {
        throw programError(
          'value',
          'This is of another program or function',
          'Compute it here; a function gets values as arguments (x.call), another program by a map.',
          at,
        )
      }
      throw programError(
        'value',
        'This value is not known here: it was computed in a branch that not every path takes',
        'Compute it before the branch, or hand it on in a variable (x.let).',
        at,
      )
    }
    for (const inst of block.insts) {
      for (const operand of operandsOf(inst)) use(operand, inst.at)
      if ('dst' in inst && inst.dst !== undefined) here.add(inst.dst)
    }
    const end = block.end!
    for (const operand of testedOf(end)) use(operand, end.at)
    for (const { args } of edgesOf(end)) for (const operand of args) use(operand, end.at)
  }
}
