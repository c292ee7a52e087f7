// The compiler's middle form: functions of basic blocks over values that are assigned once. Blocks have parameters
// instead of phi instructions; a jump hands over their arguments.
import type { AtomicOperation, MapTarget, StoreSize } from '../asm.js'
import type { HelperName } from '../helpers.js'
import type { SourceLocation } from '../source.js'

/** A value: the number of what made it, or (a bigint) a constant, as the 64 bits of the register that would hold it. */
export type Operand = number | bigint

export type AluKind = 'add' | 'sub' | 'mul' | 'div' | 'mod' | 'or' | 'and' | 'xor' | 'lsh' | 'rsh' | 'arsh'
export type Bits = 32 | 64

/** What a memory access may touch. Accesses of different spaces never alias. */
export type Space = 'context' | 'packet' | 'stack' | 'map'

/** How often what is in each space may have changed so far: two loads under the same version read the same. */
export type Versions = Readonly<Record<Space, number>>

/** Comparisons; `&` is "any of these bits", `!&` "none of these bits". */
export type Comparison = '==' | '!=' | '>' | '>=' | '<' | '<=' | 's>' | 's>=' | 's<' | 's<=' | '&' | '!&'

interface Base {
  readonly at: SourceLocation | undefined
}

export type Inst = Base &
  (
    | { op: 'alu'; dst: number; kind: AluKind; bits: Bits; a: Operand; b: Operand }
    /** Swaps the lower `bits` and clears the others: between the network's order and the machine's. */
    | { op: 'swap'; dst: number; bits: 16 | 32 | 64; a: Operand }
    | {
        op: 'load'
        dst: number
        size: StoreSize
        base: number
        offset: number
        space: Space
        version: number
      }
    | { op: 'store'; size: StoreSize; base: number; offset: number; value: Operand; space: Space }
    | {
        op: 'atomic'
        dst: number | undefined
        kind: AtomicOperation
        size: 'u32' | 'u64'
        base: number
        offset: number
        value: Operand
      }
    | { op: 'map'; dst: number; map: MapTarget }
    /** The address of byte `offset` of the function's stack, counted down from its top: negative. */
    | { op: 'stack'; dst: number; offset: number }
    | { op: 'call'; dst: number | undefined; helper: HelperName; args: Operand[] }
    | { op: 'invoke'; dst: number | undefined; callee: string; args: Operand[] }
  )

/** Where control goes, with arguments for the target's parameters. */
export interface Edge {
  to: Block
  args: Operand[]
}

export type Terminator = Base &
  (
    | { op: 'jump'; yes: Edge }
    | { op: 'branch'; comparison: Comparison; bits: Bits; a: Operand; b: Operand; yes: Edge; no: Edge }
    /** `yes` when `size` bytes from `base` lie before `end`: the only thing that makes packet bytes readable. */
    | { op: 'bounds'; base: number; size: number; end: number; yes: Edge; no: Edge }
    | { op: 'return'; value: Operand }
  )

export interface Block {
  readonly id: number
  params: number[]
  insts: Inst[]
  /** Undefined only while the block is being traced. */
  end: Terminator | undefined
  /** What memory looked like when the block was entered. */
  versions: Versions
}

export interface Fn {
  readonly name: string
  /** Values of r1, r2, … on entry. */
  readonly params: number[]
  /** The first is the entry; it has no parameters and nothing jumps to it. */
  blocks: Block[]
  /** One more than the highest value. */
  nextValue: number
  /** Bytes of stack that `stack` instructions refer to: a multiple of 8. */
  stackBytes: number
}

export const block = (id: number, versions: Versions): Block => ({
  id,
  params: [],
  insts: [],
  end: undefined,
  versions,
})

/** The edges that leave a block. */
export function edgesOf(end: Terminator | undefined): Edge[] {
  switch (end?.op) {
    case 'jump':
      return [end.yes]
    case 'branch':
    case 'bounds':
      return [end.yes, end.no]
    default:
      return []
  }
}

/** The operands an instruction reads, constants included. */
export function operandsOf(inst: Inst): Operand[] {
  switch (inst.op) {
    case 'alu':
      return [inst.a, inst.b]
    case 'swap':
      return [inst.a]
    case 'load':
      return [inst.base]
    case 'store':
    case 'atomic':
      return [inst.base, inst.value]
    case 'map':
    case 'stack':
      return []
    case 'call':
    case 'invoke':
      return inst.args
  }
}

/** The operands a terminator reads itself, without the arguments of its edges. */
export function testedOf(end: Terminator): Operand[] {
  switch (end.op) {
    case 'jump':
      return []
    case 'branch':
      return [end.a, end.b]
    case 'bounds':
      return [end.base, end.end]
    case 'return':
      return [end.value]
  }
}

/** Replaces every operand of an instruction; gives the instruction itself where none changes. */
export function mapOperands(inst: Inst, map: (operand: Operand) => Operand): Inst {
  // Addresses are never replaced by constants.
  const address = (value: number): number => map(value) as number
  switch (inst.op) {
    case 'alu': {
      const [a, b] = [map(inst.a), map(inst.b)]
      return a === inst.a && b === inst.b ? inst : { ...inst, a, b }
    }
    case 'swap': {
      const a = map(inst.a)
      return a === inst.a ? inst : { ...inst, a }
    }
    case 'load': {
      const base = address(inst.base)
      return base === inst.base ? inst : { ...inst, base }
    }
    case 'store':
    case 'atomic': {
      const [base, value] = [address(inst.base), map(inst.value)]
      return base === inst.base && value === inst.value ? inst : { ...inst, base, value }
    }
    case 'map':
    case 'stack':
      return inst
    case 'call':
    case 'invoke': {
      const args = mapAll(inst.args, map)
      return args === inst.args ? inst : { ...inst, args }
    }
  }
}

/** Replaces every operand of a terminator, arguments of its edges included; as `mapOperands`. */
export function mapTerminator(end: Terminator, map: (operand: Operand) => Operand): Terminator {
  const edge = (before: Edge): Edge => {
    const args = mapAll(before.args, map)
    return args === before.args ? before : { to: before.to, args }
  }
  switch (end.op) {
    case 'jump': {
      const yes = edge(end.yes)
      return yes === end.yes ? end : { ...end, yes }
    }
    case 'branch': {
      const [a, b, yes, no] = [map(end.a), map(end.b), edge(end.yes), edge(end.no)]
      const isSame = a === end.a && b === end.b && yes === end.yes && no === end.no
      return isSame ? end : { ...end, a, b, yes, no }
    }
    case 'bounds': {
      const [base, limit, yes, no] = [map(end.base), map(end.end), edge(end.yes), edge(end.no)]
      const isSame = base === end.base && limit === end.end && yes === end.yes && no === end.no
      return isSame ? end : { ...end, base: base as number, end: limit as number, yes, no }
    }
    case 'return': {
      const value = map(end.value)
      return value === end.value ? end : { ...end, value }
    }
  }
}

function mapAll(operands: Operand[], map: (operand: Operand) => Operand): Operand[] {
  const mapped = operands.map(map)
  return mapped.every((operand, index) => operand === operands[index]) ? operands : mapped
}

/** Whether nothing is lost when the result is not used. */
export function isPure(inst: Inst): boolean {
  return (
    inst.op === 'alu' ||
    inst.op === 'swap' ||
    inst.op === 'load' ||
    inst.op === 'map' ||
    inst.op === 'stack' ||
    (inst.op === 'call' && pureHelpers.has(inst.helper))
  )
}
const pureHelpers = new Set<HelperName>([
  'ktime_get_ns',
  'get_smp_processor_id',
  'get_prandom_u32',
  'xdp_get_buff_len',
])

const opposites: Record<Comparison, Comparison> = {
  '==': '!=',
  '!=': '==',
  '>': '<=',
  '<=': '>',
  '<': '>=',
  '>=': '<',
  's>': 's<=',
  's<=': 's>',
  's<': 's>=',
  's>=': 's<',
  '&': '!&',
  '!&': '&',
}
export const opposite = (comparison: Comparison): Comparison => opposites[comparison]

const mirrors: Record<Comparison, Comparison> = {
  '==': '==',
  '!=': '!=',
  '>': '<',
  '<': '>',
  '>=': '<=',
  '<=': '>=',
  's>': 's<',
  's<': 's>',
  's>=': 's<=',
  's<=': 's>=',
  '&': '&',
  '!&': '!&',
}
/** The comparison with its operands exchanged. */
export const mirror = (comparison: Comparison): Comparison => mirrors[comparison]

const mask = { 32: 0xffff_ffffn, 64: 0xffff_ffff_ffff_ffffn } as const

/** What the machine makes of two numbers (RFC 9669: dividing by zero gives 0, modulo zero changes nothing). */
export function evaluate(kind: AluKind, bits: Bits, left: bigint, right: bigint): bigint {
  const a = left & mask[bits]
  const b = right & mask[bits]
  const shift = b & BigInt(bits - 1)
  const value = (): bigint => {
    switch (kind) {
      case 'add':
        return a + b
      case 'sub':
        return a - b
      case 'mul':
        return a * b
      case 'div':
        return b === 0n ? 0n : a / b
      case 'mod':
        return b === 0n ? a : a % b
      case 'or':
        return a | b
      case 'and':
        return a & b
      case 'xor':
        return a ^ b
      case 'lsh':
        return a << shift
      case 'rsh':
        return a >> shift
      case 'arsh':
        return BigInt.asIntN(bits, a) >> shift
    }
  }
  return value() & mask[bits]
}

/** Whether a comparison of two numbers holds. */
export function compare(comparison: Comparison, bits: Bits, left: bigint, right: bigint): boolean {
  const a = left & mask[bits]
  const b = right & mask[bits]
  const sa = BigInt.asIntN(bits, a)
  const sb = BigInt.asIntN(bits, b)
  switch (comparison) {
    case '==':
      return a === b
    case '!=':
      return a !== b
    case '>':
      return a > b
    case '>=':
      return a >= b
    case '<':
      return a < b
    case '<=':
      return a <= b
    case 's>':
      return sa > sb
    case 's>=':
      return sa >= sb
    case 's<':
      return sa < sb
    case 's<=':
      return sa <= sb
    case '&':
      return (a & b) !== 0n
    case '!&':
      return (a & b) === 0n
  }
}

/** What swapping the bytes of the lower `bits` gives. */
export function swapBytes(value: bigint, bits: 16 | 32 | 64): bigint {
  let swapped = 0n
  for (let at = 0; at < bits; at += 8) swapped = (swapped << 8n) | ((value >> BigInt(at)) & 0xffn)
  return swapped
}

/** Blocks that can be reached, in reverse postorder: each before what it dominates, `yes` before `no`. */
export function reversePostorder(entry: Block): Block[] {
  const seen = new Set<Block>([entry])
  const order: Block[] = []
  // An own stack: generated programs nest deeper than JavaScript's calls may.
  const stack: { block: Block; edges: Edge[] }[] = [{ block: entry, edges: edgesOf(entry.end) }]
  while (stack.length > 0) {
    const top = stack[stack.length - 1]
    const next = top.edges.pop()
    if (!next) {
      order.push(top.block)
      stack.pop()
    } else if (!seen.has(next.to)) {
      seen.add(next.to)
      stack.push({ block: next.to, edges: edgesOf(next.to.end) })
    }
  }
  return order.reverse()
}
