// The one rule that TypeScript's types cannot hold: a value is used only where it has been computed.
import type { Flow } from './dominators.js'
import { type Block, type Fn, type Operand, eachOperand, eachTerminal, resultOf } from './ir.js'
import { programError } from './location.js'
import type { SourceLocation } from '../source.js'

/** Throws `OptionError`, with the line of the use, for a value that a path to its use does not compute. */
export function checkUses(fn: Fn, flow: Flow): void {
  const { order } = flow
  const home: (Block | undefined)[] = []
  for (let value = 0; value < fn.nextValue; value++) home.push(undefined)
  for (const block of order) {
    for (const param of block.params) home[param] = block
    for (const inst of block.insts) {
      const result = resultOf(inst)
      if (result !== undefined) home[result] = block
    }
  }
  for (const param of fn.params) home[param] = order[0]
  // What is computed before where we are, in this block or in one that every path here passes.
  const computed = new Uint8Array(fn.nextValue)
  for (const param of fn.params) computed[param] = 1
  let block = order[0]
  let at: SourceLocation | undefined
  const use = (operand: Operand): void => {
    if (typeof operand === 'bigint') return
    const made = home[operand]
    if (made === block ? computed[operand] === 1 : made && flow.dominates(made, block)) return
    throw refused(made === undefined, at)
  }
  for (block of order) {
    for (const param of block.params) computed[param] = 1
    for (const inst of block.insts) {
      at = inst.at
      eachOperand(inst, use)
      const result = resultOf(inst)
      if (result !== undefined) computed[result] = 1
    }
    at = block.end!.at
    eachTerminal(block.end!, use)
  }
}

function refused(isStrange: boolean, at: SourceLocation | undefined): Error {
  return isStrange
    ? programError(
        'value',
        'This is of another program or function',
        'Compute it here; a function gets values as arguments (x.call), another program by a map.',
        at,
      )
    : programError(
        'value',
        'This value is not known here: it was computed in a branch that not every path takes',
        'Compute it before the branch, or hand it on in a variable (x.let).',
        at,
      )
}
