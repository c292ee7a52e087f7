// The vocabulary for writing eBPF by hand: each function makes one instruction (or label) of a program.
//
//   const code = [
//     load('u32', r2, r1, 16),            // r2 = ctx->rx_queue_index
//     loadMap(r1, 'xsks'),
//     mov(r3, 2),                         // what happens when the queue has no socket: XDP_PASS
//     call('redirect_map'),
//     exit(),
//   ]
import { OptionError } from '../kernel/errors.js'
import { BPF_FUNC, type HelperName } from './helpers.js'
import * as op from './instruction.js'
import type { Instruction } from './instruction.js'
import { type SourceLocation, callSite } from './source.js'

/** One of r0 to r10. As an operand it is told from a number by being an object. */
export interface Register {
  readonly register: number
}

const register = (number: number): Register => Object.freeze({ register: number })

/** Return value of calls and of the program. */
export const r0 = register(0)
/** First argument; on entry the context. Calls destroy r1 to r5. */
export const r1 = register(1)
export const r2 = register(2)
export const r3 = register(3)
export const r4 = register(4)
export const r5 = register(5)
/** r6 to r9 survive calls. */
export const r6 = register(6)
export const r7 = register(7)
export const r8 = register(8)
export const r9 = register(9)
/** The frame pointer: the stack is the 512 bytes below it. Read only. */
export const r10 = register(10)

/** What a map reference needs of a map; `BpfMap` is one. */
export interface MapHandle {
  readonly fd: number
  readonly name: string
}

/** A map the program uses: the map itself, or a name to be resolved when the program is loaded. */
export type MapTarget = MapHandle | string

/** One instruction of a program being written, with what the assembler still has to fill in. */
export interface Operation extends Instruction {
  /** The label that a jump, a call or a function address goes to. */
  readonly to?: { readonly label: string; readonly kind: 'jump' | 'long jump' | 'call' | 'function' }
  readonly map?: MapTarget
  readonly source?: SourceLocation
}

/** A place that jumps and calls go to by name. */
export interface Label {
  readonly label: string
  readonly source?: SourceLocation
}

/** A program: instructions and labels, in lists nested as you like. */
export type Code = readonly (Operation | Label | Code)[]

/** Operand sizes of loads: unsigned, and (kernel 6.6) sign-extending. */
export type LoadSize = StoreSize | 's8' | 's16' | 's32'
export type StoreSize = 'u8' | 'u16' | 'u32' | 'u64'

/** Conditions, in the kernel's notation; `&` is "any of these bits set", `s` compares signed. */
export type Condition = '==' | '!=' | '>' | '>=' | '<' | '<=' | 's>' | 's>=' | 's<' | 's<=' | '&'

const storeSizes: Record<StoreSize, number> = { u8: op.BPF_B, u16: op.BPF_H, u32: op.BPF_W, u64: op.BPF_DW }
const loadModes: Record<LoadSize, number> = {
  u8: op.BPF_MEM | op.BPF_B,
  u16: op.BPF_MEM | op.BPF_H,
  u32: op.BPF_MEM | op.BPF_W,
  u64: op.BPF_MEM | op.BPF_DW,
  s8: op.BPF_MEMSX | op.BPF_B,
  s16: op.BPF_MEMSX | op.BPF_H,
  s32: op.BPF_MEMSX | op.BPF_W,
}
const conditions: Record<Condition, number> = {
  '==': op.BPF_JEQ,
  '!=': op.BPF_JNE,
  '>': op.BPF_JGT,
  '>=': op.BPF_JGE,
  '<': op.BPF_JLT,
  '<=': op.BPF_JLE,
  's>': op.BPF_JSGT,
  's>=': op.BPF_JSGE,
  's<': op.BPF_JSLT,
  's<=': op.BPF_JSLE,
  '&': op.BPF_JSET,
}

type Extra = Pick<Operation, 'to' | 'map'> & { high?: number }

function make(
  opcode: number,
  dst: number,
  src: number,
  offset: number,
  imm: number,
  extra?: Extra,
): Operation {
  if (offset < -0x8000 || offset > 0x7fff || !Number.isInteger(offset)) {
    throw new OptionError('offset', `The offset ${offset} is not a signed 16-bit number`)
  }
  const source = callSite()
  return { opcode, dst, src, offset, imm, ...extra, ...(source && { source }) }
}

// A 64-bit operation sign-extends its immediate, so 0xffffffff would silently become -1 there; in a 32-bit
// one both spellings are the same bits.
function immediate(value: number, bits: 32 | 64): number {
  const highest = bits === 64 ? 0x7fffffff : 0xffffffff
  if (!Number.isInteger(value) || value < -0x80000000 || value > highest) {
    throw new OptionError(
      'immediate',
      `The immediate ${value} does not fit in ${bits === 64 ? 'signed 32 bits, which a 64-bit operation extends' : '32 bits'}`,
      'Load it into a register with `load64` first.',
    )
  }
  return value | 0
}

type Binary = (dst: Register, operand: Register | number) => Operation

function binary(operation: number, bits: 32 | 64, offset = 0): Binary {
  const opcode = operation | (bits === 64 ? op.BPF_ALU64 : op.BPF_ALU)
  return (dst, operand) =>
    typeof operand === 'number'
      ? make(opcode | op.BPF_K, dst.register, 0, offset, immediate(operand, bits))
      : make(opcode | op.BPF_X, dst.register, operand.register, offset, 0)
}

// 64-bit arithmetic: dst = dst op operand. Immediates are sign-extended. Division by zero gives 0, modulo by
// zero leaves dst as it is.
export const add = binary(op.BPF_ADD, 64)
export const sub = binary(op.BPF_SUB, 64)
export const mul = binary(op.BPF_MUL, 64)
export const div = binary(op.BPF_DIV, 64)
export const mod = binary(op.BPF_MOD, 64)
export const or = binary(op.BPF_OR, 64)
export const and = binary(op.BPF_AND, 64)
export const xor = binary(op.BPF_XOR, 64)
export const lsh = binary(op.BPF_LSH, 64)
export const rsh = binary(op.BPF_RSH, 64)
export const arsh = binary(op.BPF_ARSH, 64)
export const mov = binary(op.BPF_MOV, 64)
/** Signed division, kernel 6.6. */
export const sdiv = binary(op.BPF_DIV, 64, 1)
/** Signed modulo, kernel 6.6. */
export const smod = binary(op.BPF_MOD, 64, 1)

// 32-bit arithmetic, on the lower halves; the upper half of dst becomes zero.
export const add32 = binary(op.BPF_ADD, 32)
export const sub32 = binary(op.BPF_SUB, 32)
export const mul32 = binary(op.BPF_MUL, 32)
export const div32 = binary(op.BPF_DIV, 32)
export const mod32 = binary(op.BPF_MOD, 32)
export const or32 = binary(op.BPF_OR, 32)
export const and32 = binary(op.BPF_AND, 32)
export const xor32 = binary(op.BPF_XOR, 32)
export const lsh32 = binary(op.BPF_LSH, 32)
export const rsh32 = binary(op.BPF_RSH, 32)
export const arsh32 = binary(op.BPF_ARSH, 32)
export const mov32 = binary(op.BPF_MOV, 32)
/** Signed division, kernel 6.6. */
export const sdiv32 = binary(op.BPF_DIV, 32, 1)
/** Signed modulo, kernel 6.6. */
export const smod32 = binary(op.BPF_MOD, 32, 1)

/** dst = -dst */
export const neg = (dst: Register): Operation => make(op.BPF_ALU64 | op.BPF_NEG, dst.register, 0, 0, 0)
/** The 32-bit `neg`. */
export const neg32 = (dst: Register): Operation => make(op.BPF_ALU | op.BPF_NEG, dst.register, 0, 0, 0)

/** dst = the lower `bits` of src, sign-extended to 64 bits. Kernel 6.6. */
export const movsx = (dst: Register, src: Register, bits: 8 | 16 | 32): Operation =>
  make(op.BPF_ALU64 | op.BPF_MOV | op.BPF_X, dst.register, src.register, bits, 0)
/** dst = the lower `bits` of src, sign-extended to 32 bits. Kernel 6.6. */
export const movsx32 = (dst: Register, src: Register, bits: 8 | 16): Operation =>
  make(op.BPF_ALU | op.BPF_MOV | op.BPF_X, dst.register, src.register, bits, 0)

type Swap = (dst: Register, bits: 16 | 32 | 64) => Operation
/** Between host order and little endian, cutting to `bits`. */
export const le: Swap = (dst, bits) => make(op.BPF_ALU | op.BPF_END | op.BPF_TO_LE, dst.register, 0, 0, bits)
/** Between host order and big endian (the network's), cutting to `bits`. */
export const be: Swap = (dst, bits) => make(op.BPF_ALU | op.BPF_END | op.BPF_TO_BE, dst.register, 0, 0, bits)
/** Swaps the bytes whatever the host's order, cutting to `bits`. Kernel 6.6; `be` does the same here. */
export const bswap: Swap = (dst, bits) => make(op.BPF_ALU64 | op.BPF_END, dst.register, 0, 0, bits)

/** dst = *(size *)(base + offset) */
export const load = (size: LoadSize, dst: Register, base: Register, offset = 0): Operation =>
  make(op.BPF_LDX | loadModes[size], dst.register, base.register, offset, 0)

/** *(size *)(base + offset) = value; a number is sign-extended to 64 bits. */
export const store = (
  size: StoreSize,
  base: Register,
  offset: number,
  value: Register | number,
): Operation =>
  typeof value === 'number'
    ? make(
        op.BPF_ST | op.BPF_MEM | storeSizes[size],
        base.register,
        0,
        offset,
        immediate(value, size === 'u64' ? 64 : 32),
      )
    : make(op.BPF_STX | op.BPF_MEM | storeSizes[size], base.register, value.register, offset, 0)

/** dst = value, all 64 bits of it (two slots). Numbers must be safe integers; negative values are two's complement. */
export const load64 = (dst: Register, value: bigint | number): Operation => {
  if (typeof value === 'number' && !Number.isSafeInteger(value)) {
    throw new OptionError('immediate', `${value} is not a safe integer`, 'Pass a BigInt.')
  }
  const wide = BigInt(value)
  if (wide < -(2n ** 63n) || wide >= 2n ** 64n) {
    throw new OptionError('immediate', `${value} does not fit in 64 bits`)
  }
  return make(op.LD_IMM64, dst.register, 0, 0, Number(BigInt.asIntN(32, wide)), {
    high: Number(BigInt.asIntN(32, wide >> 32n)),
  })
}

/** dst = the map, as helpers take it. */
export const loadMap = (dst: Register, map: MapTarget): Operation =>
  make(op.LD_IMM64, dst.register, op.BPF_PSEUDO_MAP_FD, 0, 0, { high: 0, map })

/** dst = the address of byte `offset` in the only value of an array map (5.2). */
export const loadMapValue = (dst: Register, map: MapTarget, offset = 0): Operation =>
  make(op.LD_IMM64, dst.register, op.BPF_PSEUDO_MAP_VALUE, 0, 0, { high: immediate(offset, 32), map })

/** dst = the address of a subprogram, for helpers that call back (5.13). */
export const loadFunction = (dst: Register, label: string): Operation =>
  make(op.LD_IMM64, dst.register, op.BPF_PSEUDO_FUNC, 0, 0, { high: 0, to: { label, kind: 'function' } })

/** r0 = *(size *)skb[offset]: the old packet load, big endian to host, for socket filters and classifiers only. */
export const loadAbsolute = (size: 'u8' | 'u16' | 'u32', offset: number): Operation =>
  make(op.BPF_LD | op.BPF_ABS | storeSizes[size], 0, 0, 0, immediate(offset, 32))

/** r0 = *(size *)skb[src + offset]; see `loadAbsolute`. */
export const loadIndirect = (size: 'u8' | 'u16' | 'u32', src: Register, offset: number): Operation =>
  make(op.BPF_LD | op.BPF_IND | storeSizes[size], 0, src.register, 0, immediate(offset, 32))

/** Atomic read-modify-write operations. `fetch-…`, `xchg` and `cmpxchg` give the old value back (5.12). */
export type AtomicOperation =
  'add' | 'or' | 'and' | 'xor' | 'fetch-add' | 'fetch-or' | 'fetch-and' | 'fetch-xor' | 'xchg' | 'cmpxchg'

const atomics: Record<AtomicOperation, number> = {
  add: op.BPF_ADD,
  or: op.BPF_OR,
  and: op.BPF_AND,
  xor: op.BPF_XOR,
  'fetch-add': op.BPF_ADD | op.BPF_FETCH,
  'fetch-or': op.BPF_OR | op.BPF_FETCH,
  'fetch-and': op.BPF_AND | op.BPF_FETCH,
  'fetch-xor': op.BPF_XOR | op.BPF_FETCH,
  xchg: op.BPF_XCHG,
  cmpxchg: op.BPF_CMPXCHG,
}

/**
 * Atomically *(size *)(base + offset) = that `operation` src. The old value lands in src, for `cmpxchg` in r0,
 * which is also what it compares with.
 */
export const atomic = (
  operation: AtomicOperation,
  size: 'u32' | 'u64',
  base: Register,
  offset: number,
  src: Register,
): Operation =>
  make(op.BPF_STX | op.BPF_ATOMIC | storeSizes[size], base.register, src.register, offset, atomics[operation])

/** dst = *(size *)(base + offset), ordered before every later access. Kernel 6.15. */
export const loadAcquire = (size: StoreSize, dst: Register, base: Register, offset = 0): Operation =>
  make(op.BPF_STX | op.BPF_ATOMIC | storeSizes[size], dst.register, base.register, offset, op.BPF_LOAD_ACQ)

/** *(size *)(base + offset) = src, ordered after every earlier access. Kernel 6.15. */
export const storeRelease = (size: StoreSize, base: Register, offset: number, src: Register): Operation =>
  make(op.BPF_STX | op.BPF_ATOMIC | storeSizes[size], base.register, src.register, offset, op.BPF_STORE_REL)

/** Names the place of the next instruction. */
export const label = (name: string): Label => {
  const source = callSite()
  return source ? { label: name, source } : { label: name }
}

/** Goes to a label, at most 32767 slots away. */
export const jump = (to: string): Operation =>
  make(op.BPF_JMP | op.BPF_JA, 0, 0, 0, 0, { to: { label: to, kind: 'jump' } })

/** Goes to a label at any distance. Kernel 6.6. */
export const jumpLong = (to: string): Operation =>
  make(op.BPF_JMP32 | op.BPF_JA, 0, 0, 0, 0, { to: { label: to, kind: 'long jump' } })

type Branch = (dst: Register, condition: Condition, operand: Register | number, to: string) => Operation

function branch(kind: number, bits: 32 | 64): Branch {
  return (dst, condition, operand, label) => {
    const opcode = kind | conditions[condition]
    const to = { label, kind: 'jump' } as const
    return typeof operand === 'number'
      ? make(opcode | op.BPF_K, dst.register, 0, 0, immediate(operand, bits), { to })
      : make(opcode | op.BPF_X, dst.register, operand.register, 0, 0, { to })
  }
}

/** Goes to a label when dst `condition` operand holds in 64 bits. */
export const jumpIf = branch(op.BPF_JMP, 64)
/** Goes to a label when dst `condition` operand holds in the lower 32 bits (5.1). */
export const jumpIf32 = branch(op.BPF_JMP32, 32)

/** Calls a helper of the kernel, by name without `bpf_` or by number: arguments in r1 to r5, result in r0. */
export const call = (helper: HelperName | number): Operation =>
  make(op.BPF_JMP | op.BPF_CALL, 0, 0, 0, typeof helper === 'number' ? helper : BPF_FUNC[helper])

/** Calls a subprogram of this program: arguments in r1 to r5, result in r0 (4.16). */
export const callLocal = (to: string): Operation =>
  make(op.BPF_JMP | op.BPF_CALL, 0, op.BPF_PSEUDO_CALL, 0, 0, { to: { label: to, kind: 'call' } })

/**
 * Calls a kernel function (kfunc, 5.13) by the id of its BTF_KIND_FUNC in vmlinux, or in the module whose
 * BTF descriptor is at `module` in the load's `fdArray`.
 */
export const callKernel = (btfId: number, module = 0): Operation =>
  make(op.BPF_JMP | op.BPF_CALL, 0, op.BPF_PSEUDO_KFUNC_CALL, module, btfId)

/** Returns r0 to the caller. */
export const exit = (): Operation => make(op.BPF_JMP | op.BPF_EXIT, 0, 0, 0, 0)

/** A bare instruction, as it is. */
export const raw = (instruction: Instruction): Operation => {
  const source = callSite()
  return source ? { ...instruction, source } : { ...instruction }
}

/** Gives every instruction and label in `code` that has none the place `source`. */
export function withSource(source: SourceLocation, code: Code): Code {
  return code.map((item) => (isCode(item) ? withSource(source, item) : { source, ...item }))
}

/** Whether an item is a nested list. */
export function isCode(item: Operation | Label | Code): item is Code {
  return Array.isArray(item)
}
