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
  /** Its place in the order of blocks that was made last: see `reversePostorder`. */
  index: number
  /** The walk that saw it last. */
  walk: number
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
  index: -1,
  walk: 0,
})

/** The edge that is taken where no test fails; undefined behind a return. */
export const yesOf = (end: Terminator): Edge | undefined => (end.op === 'return' ? undefined : end.yes)

/** The edge that is taken where a test fails; undefined where nothing is tested. */
export const noOf = (end: Terminator): Edge | undefined =>
  end.op === 'branch' || end.op === 'bounds' ? end.no : undefined

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

/** What an instruction computes; undefined for one that computes nothing. */
export const resultOf = (inst: Inst): number | undefined => (inst.op === 'store' ? undefined : inst.dst)

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

/** Calls `visit` for every operand of an instruction, constants included. */
export function eachOperand(inst: Inst, visit: (operand: Operand) => void): void {
  switch (inst.op) {
    case 'alu':
      visit(inst.a)
      visit(inst.b)
      return
    case 'swap':
      visit(inst.a)
      return
    case 'load':
      visit(inst.base)
      return
    case 'store':
    case 'atomic':
      visit(inst.base)
      visit(inst.value)
      return
    case 'map':
    case 'stack':
      return
    case 'call':
    case 'invoke':
      for (let at = 0; at < inst.args.length; at++) visit(inst.args[at])
  }
}

/** Calls `visit` for every operand of a terminator, arguments of its edges included. */
export function eachTerminal(end: Terminator, visit: (operand: Operand) => void): void {
  eachTested(end, visit)
  const yes = yesOf(end)
  if (yes) for (let at = 0; at < yes.args.length; at++) visit(yes.args[at])
  const no = noOf(end)
  if (no) for (let at = 0; at < no.args.length; at++) visit(no.args[at])
}

/** Calls `visit` for the operands that a terminator reads itself. */
export function eachTested(end: Terminator, visit: (operand: Operand) => void): void {
  switch (end.op) {
    case 'jump':
      return
    case 'branch':
      visit(end.a)
      visit(end.b)
      return
    case 'bounds':
      visit(end.base)
      visit(end.end)
      return
    case 'return':
      visit(end.value)
  }
}

/** Replaces every operand of an instruction; gives the instruction itself where none changes. */
export function mapOperands(inst: Inst, map: (operand: Operand) => Operand): Inst {
  // Addresses are never replaced by constants.
  switch (inst.op) {
    case 'alu': {
      const a = map(inst.a)
      const b = map(inst.b)
      return a === inst.a && b === inst.b ? inst : { ...inst, a, b }
    }
    case 'swap': {
      const a = map(inst.a)
      return a === inst.a ? inst : { ...inst, a }
    }
    case 'load': {
      const base = map(inst.base) as number
      return base === inst.base ? inst : { ...inst, base }
    }
    case 'store':
    case 'atomic': {
      const base = map(inst.base) as number
      const value = map(inst.value)
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
  switch (end.op) {
    case 'jump': {
      const yes = mapEdge(end.yes, map)
      return yes === end.yes ? end : { ...end, yes }
    }
    case 'branch': {
      const a = map(end.a)
      const b = map(end.b)
      const yes = mapEdge(end.yes, map)
      const no = mapEdge(end.no, map)
      const isSame = a === end.a && b === end.b && yes === end.yes && no === end.no
      return isSame ? end : { ...end, a, b, yes, no }
    }
    case 'bounds': {
      const base = map(end.base) as number
      const limit = map(end.end) as number
      const yes = mapEdge(end.yes, map)
      const no = mapEdge(end.no, map)
      const isSame = base === end.base && limit === end.end && yes === end.yes && no === end.no
      return isSame ? end : { ...end, base, end: limit, yes, no }
    }
    case 'return': {
      const value = map(end.value)
      return value === end.value ? end : { ...end, value }
    }
  }
}

function mapEdge(edge: Edge, map: (operand: Operand) => Operand): Edge {
  const args = mapAll(edge.args, map)
  return args === edge.args ? edge : { to: edge.to, args }
}

function mapAll(operands: Operand[], map: (operand: Operand) => Operand): Operand[] {
  for (let at = 0; at < operands.length; at++) {
    if (map(operands[at]) !== operands[at]) return operands.map(map)
  }
  return operands
}

/** Whether nothing is lost when the result is not used. */
export function isPure(inst: Inst): boolean {
  switch (inst.op) {
    case 'store':
    case 'atomic':
    case 'invoke':
      return false
    case 'call':
      return pureHelpers.has(inst.helper)
    default:
      return true
  }
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

/** How many walks there were. */
let walks = 0

/** Blocks that can be reached, in reverse postorder: each before what it dominates, `yes` before `no`. Numbers them. */
export function reversePostorder(entry: Block): Block[] {
  const order: Block[] = []
  const walk = ++walks
  // An own stack: generated programs nest deeper than JavaScript's calls may. Beside each block, how many of its edges are left.
  const path: Block[] = [entry]
  const left: number[] = [2]
  entry.walk = walk
  for (let top = 0; top >= 0;) {
    const end = path[top].end
    const edge = --left[top]
    if (edge < 0 || !end) {
      order.push(path[top])
      path.pop()
      left.pop()
      top--
      continue
    }
    // Asked more often than anything else here.
    const next =
      edge === 0 ? yesOf(end)?.to : end.op === 'branch' || end.op === 'bounds' ? end.no.to : undefined
    if (!next || next.walk === walk) continue
    next.walk = walk
    path.push(next)
    left.push(2)
    top++
  }
  order.reverse()
  number(order)
  return order
}

/** Numbers blocks by their places. */
export function number(order: readonly Block[]): void {
  for (let at = 0; at < order.length; at++) order[at].index = at
}
