// The compiler's low form: instructions of the machine over registers that are not yet numbered 0 to 10.
import type { AtomicOperation, MapTarget, StoreSize } from '../asm.js'
import type { HelperName } from '../helpers.js'
import type { SourceLocation } from '../source.js'
import type { AluKind, Bits, Comparison } from './ir.js'

/** 0 to 10 are the machine's registers; above are those to be allocated. */
export type Register = number
export const R0 = 0
export const R10 = 10
export const FIRST_VIRTUAL = 11
/** Registers that can be allocated: r10 is the frame pointer. */
export const COLOURS = 10

export type MachineInst = { at: SourceLocation | undefined } & (
  | { op: 'move'; dst: Register; src: Register }
  /** dst = the lower half of dst */
  | { op: 'cut'; dst: Register }
  | { op: 'constant'; dst: Register; value: bigint }
  | { op: 'alu'; kind: AluKind; bits: Bits; dst: Register; src: Register | bigint }
  | { op: 'negate'; bits: Bits; dst: Register }
  | { op: 'swap'; bits: 16 | 32 | 64; dst: Register }
  | { op: 'load'; size: StoreSize; dst: Register; base: Register; offset: number }
  | { op: 'store'; size: StoreSize; base: Register; offset: number; src: Register | bigint }
  | {
      op: 'atomic'
      kind: AtomicOperation
      size: 'u32' | 'u64'
      base: Register
      offset: number
      src: Register
    }
  | { op: 'map'; dst: Register; map: MapTarget }
  | { op: 'call'; target: { helper: HelperName } | { callee: string }; args: number }
  | { op: 'branch'; comparison: Comparison; bits: Bits; a: Register; b: Register | bigint; to: MachineBlock }
  | { op: 'exit' }
)

export interface MachineBlock {
  readonly id: number
  insts: MachineInst[]
  /** Where it goes on when no branch is taken; undefined behind an exit. */
  next: MachineBlock | undefined
  /** How often it runs, roughly: 10 to the power of its loops. */
  weight: number
}

export interface MachineFn {
  readonly name: string
  blocks: MachineBlock[]
  /** One more than the highest register. */
  registers: number
  /** Bytes of stack in use so far. */
  stackBytes: number
}

/** Calls destroy r0 to r5. */
const CLOBBERED = [0, 1, 2, 3, 4, 5]

/** The registers an instruction reads. */
export function readsOf(inst: MachineInst): Register[] {
  switch (inst.op) {
    case 'move':
      return [inst.src]
    case 'cut':
    case 'negate':
    case 'swap':
      return [inst.dst]
    case 'constant':
    case 'map':
      return []
    case 'alu':
      return typeof inst.src === 'bigint' ? [inst.dst] : [inst.dst, inst.src]
    case 'load':
      return [inst.base]
    case 'store':
      return typeof inst.src === 'bigint' ? [inst.base] : [inst.base, inst.src]
    case 'atomic':
      return [inst.base, inst.src]
    case 'call':
      return CLOBBERED.slice(1, inst.args + 1)
    case 'branch':
      return typeof inst.b === 'bigint' ? [inst.a] : [inst.a, inst.b]
    case 'exit':
      return [R0]
  }
}

/** The registers an instruction writes or destroys. */
export function writesOf(inst: MachineInst): Register[] {
  switch (inst.op) {
    case 'move':
    case 'cut':
    case 'constant':
    case 'map':
    case 'alu':
    case 'negate':
    case 'swap':
    case 'load':
      return [inst.dst]
    case 'atomic':
      return inst.kind.startsWith('fetch') || inst.kind === 'xchg' ? [inst.src] : []
    case 'call':
      return CLOBBERED
    case 'store':
    case 'branch':
    case 'exit':
      return []
  }
}

/** Replaces every register an instruction names. */
export function mapRegisters(inst: MachineInst, map: (register: Register) => Register): MachineInst {
  const operand = (value: Register | bigint): Register | bigint =>
    typeof value === 'bigint' ? value : map(value)
  switch (inst.op) {
    case 'move':
      return { ...inst, dst: map(inst.dst), src: map(inst.src) }
    case 'cut':
    case 'constant':
    case 'map':
    case 'negate':
    case 'swap':
      return { ...inst, dst: map(inst.dst) }
    case 'alu':
      return { ...inst, dst: map(inst.dst), src: operand(inst.src) }
    case 'load':
      return { ...inst, dst: map(inst.dst), base: map(inst.base) }
    case 'store':
      return { ...inst, base: map(inst.base), src: operand(inst.src) }
    case 'atomic':
      return { ...inst, base: map(inst.base), src: map(inst.src) }
    case 'branch':
      return { ...inst, a: map(inst.a), b: operand(inst.b) }
    case 'call':
    case 'exit':
      return inst
  }
}

/** Where control may go after a block. */
export function successorsOf(block: MachineBlock): MachineBlock[] {
  const targets = block.insts.flatMap((inst) => (inst.op === 'branch' ? [inst.to] : []))
  return block.next ? [...targets, block.next] : targets
}
