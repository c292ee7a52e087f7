// One pass over a function, dominators first: folds constants, computes nothing twice, decides tests that an earlier test decided.
import { type Flow, flowOf } from './dominators.js'
import { ALL, type Known, fold, foldTest, possibleBits, splitAddress } from './fold.js'
import type { Block, Comparison, Edge, Fn, Inst, Operand, Terminator } from './ir.js'
import {
  eachOperand,
  eachTerminal,
  mapOperands,
  mapTerminator,
  mirror,
  noOf,
  opposite,
  resultOf,
  yesOf,
} from './ir.js'

/** Simplifies in place; true when anything changed. */
export function simplify(fn: Fn): boolean {
  return new Simplifier(fn, flowOf(fn)).run()
}

/** A test, and its outcome in the block that it leads to. */
interface Fact {
  readonly block: Block
  readonly test: Terminator & { op: 'branch' }
  readonly holds: boolean
}

/** So many bytes from an address lie before an end, in a block and all that it dominates. */
interface Bound {
  readonly block: Block
  readonly end: number
  readonly size: number
}

/** A value that was computed in a block. */
interface Made {
  readonly block: Block
  readonly inst: Computed
}

/** Instructions that give the same for the same operands. */
type Computed = Inst & { op: 'alu' | 'swap' | 'load' }

/** Simplifies a function once. Everything that it knows of values lies by their numbers. */
export class Simplifier implements Known {
  readonly #flow: Flow
  readonly #definitions: (Inst | undefined)[] = []
  readonly #replacements: (Operand | undefined)[] = []
  readonly #bits: (bigint | undefined)[] = []
  /** What has been computed where, by its first operand, and loads by how far they are from it: see `#place`. */
  readonly #computed: (Made[] | undefined)[] = []
  /** Tests, by what they test and with what. */
  readonly #facts: (Fact[] | undefined)[] = []
  /** How much is known to be in the packet, by the address that it is from. */
  readonly #bounds: (Bound[] | undefined)[] = []
  readonly #uses: readonly number[]
  readonly #done: boolean[] = []
  #isReplacing = false
  #changed = false
  /** Whether edges go elsewhere than before, or in another order: what was known of the control flow is not true any more. */
  reshaped = false

  constructor(fn: Fn, flow: Flow) {
    this.#flow = flow
    this.#uses = countUses(flow.order, fn.nextValue)
    for (let value = 0; value < fn.nextValue; value++) {
      this.#definitions.push(undefined)
      this.#replacements.push(undefined)
      this.#bits.push(undefined)
      this.#computed.push(undefined)
      this.#facts.push(undefined)
      this.#bounds.push(undefined)
    }
    for (let at = 0; at < flow.order.length; at++) this.#done.push(false)
  }

  /** True when anything changed. */
  run(): boolean {
    const { order } = this.#flow
    let hasLoops = false
    for (let at = 0; at < order.length; at++) {
      const block = order[at]
      if (block.params.length > 0) this.#enter(block)
      block.insts = this.#simplifiedAll(block)
      const end = block.end!
      block.end = this.#terminator(end, block)
      this.#done[at] = true
      hasLoops ||= (yesOf(end)?.to.index ?? order.length) <= at || (noOf(end)?.to.index ?? order.length) <= at
    }
    if (this.#isReplacing && hasLoops) {
      // Arguments of back edges were read before what they name was replaced.
      for (const block of order) {
        block.insts = block.insts.map((inst) => mapOperands(inst, this.#now))
        block.end = mapTerminator(block.end!, this.#now)
      }
    }
    return this.#changed
  }

  definition(value: number): Inst | undefined {
    return this.#definitions[value]
  }

  bits(operand: Operand): bigint {
    return typeof operand === 'bigint' ? operand : (this.#bits[operand] ?? ALL)
  }

  readonly #now = (operand: Operand): Operand => {
    if (!this.#isReplacing) return operand
    let current = operand
    for (;;) {
      if (typeof current === 'bigint') return current
      const next = this.#replacements[current]
      if (next === undefined) return current
      current = next
    }
  }

  #replace(value: number, by: Operand): void {
    this.#replacements[value] = by
    this.#isReplacing = true
    this.#changed = true
  }

  /** What is the same however the block is entered is no parameter. */
  #enter(block: Block): void {
    const from = this.#flow.predecessors(block)
    const isKnown = from.every((one) => this.#done[one.index])
    for (let index = 0; index < block.params.length; index++) {
      const param = block.params[index]
      let bits = 0n
      let only: Operand | undefined
      let several = false
      const arrives = (edge: Edge | undefined): void => {
        if (edge?.to !== block) return
        const arg = this.#now(edge.args[index])
        bits |= this.bits(arg)
        if (arg === param || arg === only) return
        several ||= only !== undefined
        only = arg
      }
      for (const one of from) {
        arrives(yesOf(one.end!))
        arrives(noOf(one.end!))
      }
      if (isKnown) this.#bits[param] = bits
      if (only !== undefined && !several) this.#replace(param, only)
    }
  }

  /** The instructions that are left; the list itself where none changed. */
  #simplifiedAll(block: Block): Inst[] {
    const { insts } = block
    let made: Inst[] | undefined
    for (let at = 0; at < insts.length; at++) {
      const inst = this.#simplified(insts[at], block)
      if (inst !== insts[at]) made ??= insts.slice(0, at)
      if (inst) made?.push(inst)
    }
    return made ?? insts
  }

  /** What an instruction comes to; undefined: to nothing new. */
  #simplified(original: Inst, block: Block): Inst | undefined {
    let inst = this.#isReplacing ? mapOperands(original, this.#now) : original
    for (;;) {
      const folded = fold(inst, this)
      if (folded === undefined) break
      this.#changed = true
      if (typeof folded !== 'object') {
        this.#replace(resultOf(inst)!, folded)
        return undefined
      }
      inst = folded
    }
    const { op } = inst
    if (op === 'alu' || op === 'swap' || op === 'load') {
      const earlier = this.#earlier(inst, block)
      if (earlier !== undefined) {
        this.#replace(inst.dst, earlier)
        return undefined
      }
      if (op !== 'swap') this.#bits[inst.dst] = possibleBits(inst, this)
    }
    const result = resultOf(inst)
    if (result !== undefined) this.#definitions[result] = inst
    return inst
  }

  /** The value that is the same and was computed on every way here; where there is none, this one is there from now on. */
  #earlier(inst: Computed, block: Block): number | undefined {
    const key = inst.op === 'load' ? this.#place(inst.base, inst.offset) : firstOperand(inst)
    const list = this.#computed[key]
    if (!list) {
      this.#computed[key] = [{ block, inst }]
      return undefined
    }
    for (let at = 0; at < list.length; at++) {
      const one = list[at]
      if (isSame(one.inst, inst) && this.#flow.dominates(one.block, block)) return one.inst.dst
    }
    list.push({ block, inst })
    return undefined
  }

  /** A place in a list for a value and a number: filters of thousands of tests look at the same few values. */
  #place(value: number, other: number): number {
    return (value + (other & 0xffff) * 31) % this.#definitions.length
  }

  #placeOfTest(a: number, b: Operand): number {
    return this.#place(a, typeof b === 'number' ? b : Number(BigInt.asUintN(16, b)))
  }

  #terminator(original: Terminator, block: Block): Terminator {
    const end = this.#isReplacing ? mapTerminator(original, this.#now) : original
    if (end.op === 'bounds') return this.#boundsCheck(end, block)
    if (end.op !== 'branch') return end
    const test = this.#test(end)
    const holds = foldTest(test.comparison, test.bits, test.a, test.b, this) ?? this.#fact(test, block)
    if (holds !== undefined) {
      this.#changed = true
      this.reshaped = true
      return { op: 'jump', at: end.at, yes: holds ? test.yes : test.no }
    }
    this.#learn(test, test.yes.to, true)
    this.#learn(test, test.no.to, false)
    return test
  }

  /** A test in the form that instructions have: the constant on the right, bits tested without an `and`. */
  #test(end: Terminator & { op: 'branch' }): Terminator & { op: 'branch' } {
    let test = end
    if (typeof test.a === 'bigint')
      test = { ...test, a: test.b, b: test.a, comparison: mirror(test.comparison) }
    const made = typeof test.a === 'number' ? this.#definitions[test.a] : undefined
    const againstZero = test.b === 0n && (test.comparison === '==' || test.comparison === '!=')
    if (againstZero && made?.op === 'alu' && made.kind === 'and' && this.#uses[made.dst] === 1) {
      const comparison = test.comparison === '!=' ? '&' : '!&'
      // The lower half of a 64-bit `and` is what a 32-bit test of it looks at.
      test = { ...test, comparison, a: made.a, b: made.b, bits: made.bits === 32 ? 32 : test.bits }
      this.#changed = true
    }
    if (test.comparison === '&') {
      // There is no jump for "none of these bits": let the other way be the one that falls through.
      test = { ...test, comparison: '!&', yes: test.no, no: test.yes }
      this.reshaped = true
    }
    return test
  }

  #boundsCheck(end: Terminator & { op: 'bounds' }, block: Block): Terminator {
    const { base, offset } = splitAddress(end.base, this)
    const check = offset > 0 ? { ...end, base, size: end.size + offset } : end
    const list = (this.#bounds[check.base] ??= [])
    for (let at = 0; at < list.length; at++) {
      const one = list[at]
      if (one.end !== check.end || one.size < check.size || !this.#flow.dominates(one.block, block)) continue
      this.#changed = true
      this.reshaped = true
      return { op: 'jump', at: end.at, yes: end.yes }
    }
    const inside = check.yes.to
    if (this.#flow.predecessors(inside).length === 1)
      list.push({ block: inside, end: check.end, size: check.size })
    return check
  }

  #learn(test: Fact['test'], block: Block, holds: boolean): void {
    if (typeof test.a !== 'number' || this.#flow.predecessors(block).length !== 1) return
    ;(this.#facts[this.#placeOfTest(test.a, test.b)] ??= []).push({ block, test, holds })
  }

  #fact({ a, b, bits, comparison }: Fact['test'], block: Block): boolean | undefined {
    const list = typeof a === 'number' ? this.#facts[this.#placeOfTest(a, b)] : undefined
    if (!list) return undefined
    const contrary: Comparison = opposite(comparison)
    for (let at = 0; at < list.length; at++) {
      const { test, holds, block: where } = list[at]
      if (test.a !== a || test.b !== b || test.bits !== bits) continue
      if (test.comparison !== comparison && test.comparison !== contrary) continue
      if (this.#flow.dominates(where, block)) return test.comparison === comparison ? holds : !holds
    }
    return undefined
  }
}

/** A value that it reads; what reads none is folded. */
function firstOperand(inst: Computed & { op: 'alu' | 'swap' }): number {
  if (typeof inst.a === 'number') return inst.a
  return inst.op === 'alu' ? (inst.b as number) : 0
}

function isSame(one: Computed, other: Computed): boolean {
  if (one.op === 'alu') {
    return (
      other.op === 'alu' &&
      one.kind === other.kind &&
      one.bits === other.bits &&
      one.a === other.a &&
      one.b === other.b
    )
  }
  if (one.op === 'swap') return other.op === 'swap' && one.bits === other.bits && one.a === other.a
  return (
    other.op === 'load' &&
    one.base === other.base &&
    one.offset === other.offset &&
    one.size === other.size &&
    one.space === other.space &&
    one.version === other.version
  )
}

/** How often each value is read, by its number. */
export function countUses(blocks: readonly Block[], values: number): number[] {
  const uses: number[] = []
  for (let value = 0; value < values; value++) uses.push(0)
  const use = (operand: Operand): void => {
    if (typeof operand === 'number') uses[operand]++
  }
  for (let at = 0; at < blocks.length; at++) {
    const { insts, end } = blocks[at]
    for (let index = 0; index < insts.length; index++) eachOperand(insts[index], use)
    eachTerminal(end!, use)
  }
  return uses
}
