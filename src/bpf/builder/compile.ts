// The compiler: traced functions in, assembler code out. Each pass is a file of its own; here is their order.
import type { Code } from '../asm.js'
import { allocate } from './allocate.js'
import { checkUses } from './check.js'
import { Flow, flowOf } from './dominators.js'
import { emit } from './emit.js'
import type { Fn } from './ir.js'
import { lower } from './lower.js'
import { mergeBounds, removeDead, shareReturns, sink, straighten } from './shape.js'
import { shareBlocks } from './share.js'
import { Simplifier } from './simplify.js'

/** For tests. */
export interface CompileOptions {
  /** Leave the code as it was traced. */
  optimize?: boolean
  /** Registers that may be used, 10 at most; fewer force spilling. */
  colours?: number
}

/** Compiles functions; the first is the program's entry. The same functions always give the same code. */
export function compile(functions: readonly Fn[], options: CompileOptions = {}): Code {
  const [entry] = functions
  const code: Code[] = []
  // Only what is still called when the callers are simplified: the verifier refuses code that nothing reaches.
  const wanted = new Set([entry.name])
  for (const name of wanted) {
    const fn = functions.find((one) => one.name === name)!
    const flow = flowOf(fn)
    checkUses(fn, flow)
    removeDead(fn)
    if (options.optimize !== false) optimize(fn, flow)
    for (const { insts } of fn.blocks) {
      for (const inst of insts) if (inst.op === 'invoke') wanted.add(inst.callee)
    }
    const machine = lower(fn)
    allocate(machine, options.colours)
    if (options.optimize !== false) shareBlocks(machine)
    code.push(emit(machine))
  }
  return code
}

/** Simplifies until nothing changes. */
export function optimize(fn: Fn, known?: Flow): void {
  let flow = known
  let straighter = true
  for (let round = 0; round < 20; round++) {
    // What straightens leaves the blocks in order.
    flow ??= round === 0 ? flowOf(fn) : new Flow(fn.blocks)
    const simplifier = new Simplifier(fn, flow)
    const simpler = simplifier.run()
    if (simplifier.reshaped) flow = undefined
    // Where nothing changed there is nothing new to be found either.
    const looked: boolean = simpler || straighter
    const fewer: boolean = looked && removeDead(fn)
    straighter = (simpler || fewer || flow === undefined || round === 0) && straighten(fn, looked)
    if (straighter) flow = undefined
    const joined = mergeBounds(fn)
    if (!simpler && !straighter && !joined) break
  }
  sink(fn, flow)
  shareReturns(fn)
}
