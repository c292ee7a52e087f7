// One pass over a function, dominators first: folds constants, computes nothing twice, decides tests that an earlier test decided.
import { type Flow, flowOf } from './dominators.js'
import { type Known, fold, foldTest, possibleBits, splitAddress } from './fold.js'
import type { Block, Edge, Fn, Inst, Operand, Terminator } from './ir.js'
import { edgesOf, mapOperands, mapTerminator, mirror, opposite, operandsOf, testedOf } from './ir.js'

const ALL = 0xffff_ffff_ffff_ffffn

/** Simplifies in place; true when anything changed. */
export function simplify(fn: Fn): boolean {
  return new Simplifier(fn).run()
}

class Simplifier implements Known {
  readonly #flow: Flow
  readonly #replacements = new Map<number, Operand>()
  readonly #definitions = new Map<number, Inst>()
  readonly #bits = new Map<number, bigint>()
  /** What has been computed where, by what it is. */
  readonly #computed = new Map<string, { block: Block; value: number }[]>()
  /** Tests and their outcome in the blocks that a branch leads to. */
  readonly #facts = new Map<string, { block: Block; holds: boolean }[]>()
  /** How many bytes from an address are known to be in the packet. */
  readonly #bounds = new Map<string, { block: Block; size: number }[]>()
  readonly #uses: Map<number, number>
  readonly #done = new Set<Block>()
  #changed = false

  constructor(fn: Fn) {
    this.#flow = flowOf(fn)
    this.#uses = countUses(this.#flow.order)
  }

  run(): boolean {
    for (const block of this.#flow.order) {
      this.#enter(block)
      block.insts = block.insts.flatMap((inst) => this.#simplified(inst, block))
      block.end = this.#terminator(block.end!, block)
      this.#done.add(block)
    }
    if (this.#replacements.size > 0) {
      // Arguments of back edges were read before what they name was replaced.
      for (const block of this.#flow.order) {
        block.insts = block.insts.map((inst) => mapOperands(inst, this.#now))
        block.end = mapTerminator(block.end!, this.#now)
      }
    }
    return this.#changed
  }

  definition(value: number): Inst | undefined {
    return this.#definitions.get(value)
  }

  bits(operand: Operand): bigint {
    return typeof operand === 'bigint' ? operand : (this.#bits.get(operand) ?? ALL)
  }

  readonly #now = (operand: Operand): Operand => {
    let current = operand
    for (;;) {
      if (typeof current === 'bigint') return current
      const next = this.#replacements.get(current)
      if (next === undefined) return current
      current = next
    }
  }

  #enter(block: Block): void {
    const from = this.#flow.predecessors.get(block)!
    block.params.forEach((param, index) => {
      const args = from.flatMap((one) =>
        edgesOf(one.end)
          .filter(({ to }) => to === block)
          .map(({ args }) => this.#now(args[index])),
      )
      const others = new Set(args.filter((arg) => arg !== param))
      if (from.every((one) => this.#done.has(one))) {
        this.#bits.set(
          param,
          args.reduce<bigint>((sum, arg) => sum | this.bits(arg), 0n),
        )
      }
      if (others.size === 1) {
        this.#replacements.set(param, [...others][0])
        this.#changed = true
      }
    })
  }

  #simplified(original: Inst, block: Block): Inst[] {
    let inst = mapOperands(original, this.#now)
    for (;;) {
      const folded = fold(inst, this)
      if (folded === undefined) break
      this.#changed = true
      if (typeof folded !== 'object') {
        this.#replacements.set((inst as { dst: number }).dst, folded)
        return []
      }
      inst = folded
    }
    const key = identity(inst)
    if (key !== undefined) {
      const dst = (inst as { dst: number }).dst
      const earlier = this.#computed.get(key)?.find((one) => this.#flow.dominates(one.block, block))
      if (earlier) {
        this.#replacements.set(dst, earlier.value)
        this.#changed = true
        return []
      }
      append(this.#computed, key, { block, value: dst })
    }
    if ('dst' in inst && inst.dst !== undefined) {
      this.#definitions.set(inst.dst, inst)
      this.#bits.set(inst.dst, possibleBits(inst, this))
    }
    return [inst]
  }

  #terminator(original: Terminator, block: Block): Terminator {
    const end = mapTerminator(original, this.#now)
    if (end.op === 'bounds') return this.#boundsCheck(end, block)
    if (end.op !== 'branch') return end
    const test = this.#test(end)
    const holds = foldTest(test.comparison, test.bits, test.a, test.b, this) ?? this.#fact(test, block)
    if (holds !== undefined) {
      this.#changed = true
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
    const made = typeof test.a === 'number' ? this.#definitions.get(test.a) : undefined
    const againstZero = test.b === 0n && (test.comparison === '==' || test.comparison === '!=')
    if (againstZero && made?.op === 'alu' && made.kind === 'and' && this.#uses.get(made.dst) === 1) {
      const comparison = test.comparison === '!=' ? '&' : '!&'
      // The lower half of a 64-bit `and` is what a 32-bit test of it looks at.
      test = { ...test, comparison, a: made.a, b: made.b, bits: made.bits === 32 ? 32 : test.bits }
      this.#changed = true
    }
    if (test.comparison === '&') {
      // There is no jump for "none of these bits": let the other way be the one that falls through.
      test = { ...test, comparison: '!&', yes: test.no, no: test.yes }
    }
    return test
  }

  #boundsCheck(end: Terminator & { op: 'bounds' }, block: Block): Terminator {
    const { base, offset } = splitAddress(end.base, this)
    const check = offset > 0 ? { ...end, base, size: end.size + offset } : end
    const key = `${check.base} ${check.end}`
    const known = this.#bounds
      .get(key)
      ?.some((one) => one.size >= check.size && this.#flow.dominates(one.block, block))
    if (known) {
      this.#changed = true
      return { op: 'jump', at: end.at, yes: end.yes }
    }
    if (this.#flow.predecessors.get(check.yes.to)!.length === 1) {
      append(this.#bounds, key, { block: check.yes.to, size: check.size })
    }
    return check
  }

  #learn(test: Terminator & { op: 'branch' }, target: Block, holds: boolean): void {
    if (this.#flow.predecessors.get(target)!.length !== 1) return
    append(this.#facts, testKey(test.comparison, test), { block: target, holds })
    append(this.#facts, testKey(opposite(test.comparison), test), { block: target, holds: !holds })
  }

  #fact(test: Terminator & { op: 'branch' }, block: Block): boolean | undefined {
    return this.#facts
      .get(testKey(test.comparison, test))
      ?.find((one) => this.#flow.dominates(one.block, block))?.holds
  }
}

function testKey(comparison: string, { bits, a, b }: { bits: number; a: Operand; b: Operand }): string {
  return `${comparison} ${bits} ${typeof a} ${a} ${typeof b} ${b}`
}

/** What makes two instructions the same value; undefined for those that must all happen. */
function identity(inst: Inst): string | undefined {
  const name = (operand: Operand): string => (typeof operand === 'bigint' ? `#${operand}` : `${operand}`)
  switch (inst.op) {
    case 'alu':
      return `${inst.kind}${inst.bits} ${name(inst.a)} ${name(inst.b)}`
    case 'swap':
      return `swap${inst.bits} ${name(inst.a)}`
    case 'load':
      return `load ${inst.space} ${inst.version} ${inst.size} ${inst.base} ${inst.offset}`
    default:
      return undefined
  }
}

function append<V>(map: Map<string, V[]>, key: string, value: V): void {
  const list = map.get(key)
  if (list) list.push(value)
  else map.set(key, [value])
}

/** How often each value is read. */
export function countUses(blocks: readonly Block[]): Map<number, number> {
  const uses = new Map<number, number>()
  const use = (operand: Operand): void => {
    if (typeof operand === 'number') uses.set(operand, (uses.get(operand) ?? 0) + 1)
  }
  for (const block of blocks) {
    for (const inst of block.insts) operandsOf(inst).forEach(use)
    testedOf(block.end!).forEach(use)
    edgesOf(block.end).forEach((edge: Edge) => edge.args.forEach(use))
  }
  return uses
}
