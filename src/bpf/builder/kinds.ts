// The integer types of a program's values: widths, signs, byte orders, and how they lie in a register.
import type { StoreSize } from '../asm.js'
import type { IntegerKind } from '../codec.js'
import { swapBytes, type Operand } from './ir.js'
import { programError } from './location.js'

/** An integer type: `be…` is unsigned in the network's byte order, as it lies in the packet. */
export type Kind = IntegerKind

/** The type a value has once it is in the machine's byte order. */
export type Host<K extends Kind> = K extends 'be16'
  ? 'u16'
  : K extends 'be32'
    ? 'u32'
    : K extends 'be64'
      ? 'u64'
      : K
/** The same width in the network's byte order. */
export type Network<K extends Kind> = K extends 'u16'
  ? 'be16'
  : K extends 'u32'
    ? 'be32'
    : K extends 'u64'
      ? 'be64'
      : never

export interface KindInfo {
  readonly bits: 8 | 16 | 32 | 64
  readonly signed: boolean
  readonly network: boolean
  readonly size: StoreSize
}

const info = (bits: KindInfo['bits'], signed = false, network = false): KindInfo => ({
  bits,
  signed,
  network,
  size: `u${bits}`,
})

/*
 * In a register an unsigned value has zeros above its width; a signed one of up to 32 bits is extended to 32 bits, with zeros
 * above; a network one is what a load of those bytes gives.
 */
export const KINDS: Readonly<Record<Kind, KindInfo>> = {
  u8: info(8),
  u16: info(16),
  u32: info(32),
  u64: info(64),
  s8: info(8, true),
  s16: info(16, true),
  s32: info(32, true),
  s64: info(64, true),
  be16: info(16, false, true),
  be32: info(32, false, true),
  be64: info(64, false, true),
}

export const hostKind = (kind: Kind): Kind => kind.replace('be', 'u') as Kind

/** A kind's properties. Throws `OptionError` for what is no kind, as only JavaScript can write it. */
export function infoOf(kind: Kind): KindInfo {
  if (Object.hasOwn(KINDS, kind)) return KINDS[kind]
  throw programError('kind', `${shown(kind)} is no type of integer`, `Use ${Object.keys(KINDS).join(', ')}.`)
}

/** What was written where something else belongs, for a message. */
export function shown(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value)
  if (typeof value === 'function') return 'A function'
  if (typeof value !== 'object' || value === null) return String(value)
  const name: unknown = value.constructor?.name
  return typeof name === 'string' && name !== 'Object' ? `An object (${name})` : 'An object'
}

/** Throws `OptionError` unless this is a whole number, not below zero: of bytes, or a place among them. */
export function checkCount(option: string, value: number): void {
  if (Number.isSafeInteger(value) && value >= 0) return
  throw programError(option, `${shown(value)} is no ${option}`, 'Use a whole number, known now.')
}

/** The register contents of a constant. Throws `OptionError` when it does not fit its type. */
export function constant(kind: Kind, value: number | bigint): bigint {
  const { bits, signed, network } = infoOf(kind)
  if (typeof value !== 'number' && typeof value !== 'bigint') {
    throw programError('value', `${shown(value)} is no number, nor a value of the program`)
  }
  if (typeof value === 'number' && !Number.isSafeInteger(value)) {
    throw programError('value', `${value} is not a safe integer`, 'Pass a BigInt for what is above 2^53.')
  }
  const wide = BigInt(value)
  const [low, high] = signed ? [-(1n << BigInt(bits - 1)), 1n << BigInt(bits - 1)] : [0n, 1n << BigInt(bits)]
  if (wide < low || wide >= high) {
    throw programError('value', `${value} does not fit in ${kind}, which holds ${low} to ${high - 1n}`)
  }
  if (network) return swapBytes(wide, bits as 16 | 32 | 64)
  return signed ? BigInt.asUintN(bits === 64 ? 64 : 32, wide) : wide
}

/** Whether an operand is a constant. */
export const isConstant = (operand: Operand): operand is bigint => typeof operand === 'bigint'
