// What one instruction or test comes to when some of its operands are known.
import { type Comparison, type Inst, type Operand, compare, evaluate, mirror, swapBytes } from './ir.js'

/** What a value is known to be: what made it, and which of its bits may be set. */
export interface Known {
  definition(value: number): Inst | undefined
  /** A mask of the bits that may be set. */
  bits(operand: Operand): bigint
}

/** Any bit may be set. */
export const ALL = 0xffff_ffff_ffff_ffffn
const LOW = 0xffff_ffffn

/** So many bits, by their number. */
const ONES = Array.from({ length: 65 }, (_, bits) => (1n << BigInt(bits)) - 1n)

/** All bits up to the highest one set, 64 at most. */
function filled(value: bigint): bigint {
  if (value > ALL) return ALL
  const high = Number(value >> 32n)
  return high > 0 ? ONES[64 - Math.clz32(high)] : ONES[32 - Math.clz32(Number(value))]
}

/** What is loaded may have these bits set. */
const LOADED = { u8: ONES[8], u16: ONES[16], u32: ONES[32], u64: ALL } as const

/**
 * The bits that an instruction's result may have set, as far as the verifier sees it too: a check that is left out here because
 * it cannot fail must not be one that the verifier waits for. It knows nothing of swapped bytes, of quotients and remainders,
 * and of shifts by a number that it does not know (kernel/bpf/verifier.c, adjust_scalar_min_max_vals).
 */
export function possibleBits(inst: Inst, known: Known): bigint {
  switch (inst.op) {
    case 'load':
      return LOADED[inst.size]
    case 'alu': {
      const all = inst.bits === 64 ? ALL : LOW
      const before = known.bits(inst.a)
      // Most of what is computed with are addresses.
      if (before === ALL && (inst.kind === 'add' || inst.kind === 'sub')) return all
      const a = before & all
      const b = known.bits(inst.b) & all
      switch (inst.kind) {
        case 'and':
          return a & b
        case 'or':
        case 'xor':
          return a | b
        case 'add':
          return filled(filled(a) + filled(b)) & all
        case 'mul':
          return filled(filled(a) * filled(b)) & all
        case 'lsh':
          return typeof inst.b === 'bigint' ? (a << (inst.b & BigInt(inst.bits - 1))) & all : all
        case 'rsh':
          return typeof inst.b === 'bigint' ? a >> (inst.b & BigInt(inst.bits - 1)) : all
        default:
          return all
      }
    }
    default:
      return ALL
  }
}

const commutative = new Set(['add', 'mul', 'or', 'and', 'xor'])

/** What an instruction can be replaced by: an operand, a simpler instruction, or (undefined) nothing. */
export function fold(inst: Inst, known: Known): Operand | Inst | undefined {
  if (inst.op === 'swap') return foldSwap(inst, known)
  if (inst.op === 'store') return foldStore(inst, known)
  if (inst.op === 'load') {
    const moved = foldAddress(inst, known)
    return moved && { ...inst, ...moved }
  }
  if (inst.op !== 'alu') return undefined
  const { kind, bits, a, b } = inst
  const all = bits === 64 ? ALL : LOW
  if (typeof a === 'bigint' && typeof b === 'bigint') return evaluate(kind, bits, a, b)
  if (typeof a === 'bigint') return commutative.has(kind) ? { ...inst, a: b, b: a } : undefined
  // Whether the value is its own lower half, so that a 32-bit operation may hand it on as it is.
  const narrow = bits === 64 || (known.bits(a) & ~LOW) === 0n
  const cut = (): Operand | Inst => (narrow ? a : { ...inst, bits: 64, kind: 'and', b: LOW })
  if (a === b) {
    if (kind === 'sub' || kind === 'xor') return 0n
    if (kind === 'and' || kind === 'or') return cut()
  }
  const stripped = stripCut(inst, known)
  if (stripped) return stripped
  if (typeof b !== 'bigint') return undefined
  const constant = b & all
  switch (kind) {
    case 'add':
    case 'sub':
    case 'or':
    case 'xor':
    case 'lsh':
    case 'rsh':
    case 'arsh':
      if (constant === 0n) return cut()
      if (kind === 'or' && constant === all) return all
      if (kind === 'rsh' && known.bits(a) >> (constant & BigInt(bits - 1)) === 0n && narrow) return 0n
      if (kind === 'sub') return { ...inst, kind: 'add', b: -constant & all }
      break
    case 'mul':
      if (constant === 0n) return 0n
      if (constant === 1n) return cut()
      if ((constant & (constant - 1n)) === 0n)
        return { ...inst, kind: 'lsh', b: BigInt(constant.toString(2).length - 1) }
      break
    case 'div':
      if (constant === 0n) return 0n
      if (constant === 1n) return cut()
      if ((constant & (constant - 1n)) === 0n)
        return { ...inst, kind: 'rsh', b: BigInt(constant.toString(2).length - 1) }
      break
    case 'mod':
      if (constant === 0n) return cut()
      if ((constant & (constant - 1n)) === 0n) return { ...inst, kind: 'and', b: constant - 1n }
      break
    case 'and':
      if (constant === 0n) return 0n
      if ((known.bits(a) & ~constant) === 0n) return a
      break
  }
  return combine(inst, a, constant, known)
}

/** Two operations with constants that come to one. */
function combine(inst: Inst & { op: 'alu' }, a: number, constant: bigint, known: Known): Inst | undefined {
  const { kind, bits } = inst
  const inner = known.definition(a)
  if (inner?.op !== 'alu' || typeof inner.b !== 'bigint' || typeof inner.a !== 'number') return undefined
  const all = bits === 64 ? ALL : LOW
  if (kind === 'and' && inner.kind === 'and') {
    // A 64-bit mask of a 32-bit result and the other way round: the narrower decides.
    const mask = constant & inner.b & (inner.bits === 32 ? LOW : ALL)
    return { ...inst, bits: mask <= LOW ? 32 : 64, a: inner.a, b: mask }
  }
  if (inner.bits !== bits || inner.kind !== kind) return undefined
  switch (kind) {
    case 'add':
      return { ...inst, a: inner.a, b: (inner.b + constant) & all }
    case 'or':
      return { ...inst, a: inner.a, b: inner.b | constant }
    case 'xor':
      return { ...inst, a: inner.a, b: inner.b ^ constant }
    case 'lsh':
    case 'rsh': {
      const sum = inner.b + constant
      return sum < BigInt(bits) ? { ...inst, a: inner.a, b: sum } : undefined
    }
    default:
      return undefined
  }
}

/** A 32-bit operation does not care whether its operands were cut to 32 bits. */
function stripCut(inst: Inst & { op: 'alu' }, known: Known): Inst | undefined {
  if (inst.bits !== 32) return undefined
  const uncut = (operand: Operand): Operand => {
    if (typeof operand === 'bigint') return operand
    const inner = known.definition(operand)
    const cuts = inner?.op === 'alu' && inner.kind === 'and' && inner.b === LOW
    return cuts ? inner.a : operand
  }
  const [a, b] = [uncut(inst.a), uncut(inst.b)]
  return a === inst.a && b === inst.b ? undefined : { ...inst, a, b }
}

function foldSwap(inst: Inst & { op: 'swap' }, known: Known): Operand | Inst | undefined {
  const { a, bits } = inst
  if (typeof a === 'bigint') return swapBytes(a, bits)
  const inner = known.definition(a)
  const all = ONES[bits]
  if (inner?.op === 'swap' && inner.bits === bits && (known.bits(inner.a) & ~all) === 0n) return inner.a
  // It cuts by itself.
  if (inner?.op === 'alu' && inner.kind === 'and' && typeof inner.b === 'bigint' && (inner.b & all) === all) {
    return { ...inst, a: inner.a }
  }
  return undefined
}

function foldStore(inst: Inst & { op: 'store' }, known: Known): Inst | undefined {
  const moved = foldAddress(inst, known)
  if (moved) return { ...inst, ...moved }
  if (typeof inst.value === 'bigint') return undefined
  const all = LOADED[inst.size]
  const inner = known.definition(inst.value)
  // A store cuts by itself.
  if (inner?.op === 'alu' && inner.kind === 'and' && typeof inner.b === 'bigint' && (inner.b & all) === all) {
    return { ...inst, value: inner.a }
  }
  return undefined
}

/** An address with a constant added to it is the address with a longer offset. */
function foldAddress(
  inst: { base: number; offset: number },
  known: Known,
): { base: number; offset: number } | undefined {
  const inner = known.definition(inst.base)
  if (inner?.op !== 'alu' || inner.kind !== 'add' || inner.bits !== 64) return undefined
  if (typeof inner.b !== 'bigint' || typeof inner.a !== 'number') return undefined
  const offset = inst.offset + Number(BigInt.asIntN(64, inner.b))
  return offset >= -0x8000 && offset <= 0x7fff ? { base: inner.a, offset } : undefined
}

/** A packet pointer with a small constant added, taken apart. */
export function splitAddress(base: number, known: Known): { base: number; offset: number } {
  return foldAddress({ base, offset: 0 }, known) ?? { base, offset: 0 }
}

/** Whether a test has only one outcome. */
export function foldTest(
  comparison: Comparison,
  bits: 32 | 64,
  a: Operand,
  b: Operand,
  known: Known,
): boolean | undefined {
  if (typeof a === 'bigint' && typeof b === 'bigint') return compare(comparison, bits, a, b)
  if (typeof a === 'bigint') return foldTest(mirror(comparison), bits, b, a, known)
  if (a === b) {
    if (comparison === '&' || comparison === '!&') return undefined
    return compare(comparison, bits, 0n, 0n)
  }
  if (typeof b !== 'bigint') return undefined
  const all = bits === 64 ? ALL : LOW
  const possible = known.bits(a) & all
  const most = filled(possible)
  const constant = b & all
  switch (comparison) {
    case '==':
      return (constant & ~possible) !== 0n ? false : undefined
    case '!=':
      return (constant & ~possible) !== 0n ? true : undefined
    case '&':
      return (constant & possible) === 0n ? false : undefined
    case '!&':
      return (constant & possible) === 0n ? true : undefined
    case '>':
      return most <= constant ? false : undefined
    case '<=':
      return most <= constant ? true : undefined
    case '<':
      return constant === 0n ? false : most < constant ? true : undefined
    case '>=':
      return constant === 0n ? true : most < constant ? false : undefined
    default:
      return undefined
  }
}
