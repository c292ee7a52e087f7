// The instructions of classic BPF (include/uapi/linux/{bpf_common,filter}.h): numbers, and the text that tcpdump -d has for them.
import {
  BPF_ABS,
  BPF_ADD,
  BPF_ALU,
  BPF_AND,
  BPF_B,
  BPF_DIV,
  BPF_H,
  BPF_IMM,
  BPF_IND,
  BPF_JA,
  BPF_JEQ,
  BPF_JGE,
  BPF_JGT,
  BPF_JMP,
  BPF_JSET,
  BPF_K,
  BPF_LD,
  BPF_LDX,
  BPF_LEN,
  BPF_LSH,
  BPF_MEM,
  BPF_MISC,
  BPF_MOD,
  BPF_MSH,
  BPF_MUL,
  BPF_NEG,
  BPF_OR,
  BPF_RET,
  BPF_RSH,
  BPF_ST,
  BPF_STX,
  BPF_SUB,
  BPF_TAX,
  BPF_TXA,
  BPF_W,
  BPF_X,
  BPF_XOR,
} from './graph.js'

/** Cells of scratch memory. */
export const BPF_MEMWORDS = 16
/** The most instructions the kernel takes. */
export const BPF_MAXINSNS = 4096

export type Size = 1 | 2 | 4
const SIZES: Record<Size, number> = { 1: BPF_B, 2: BPF_H, 4: BPF_W }

/** A = bytes of the packet at `k`. */
export const loadAbsolute = (size: Size): number => BPF_LD | BPF_ABS | SIZES[size]
/** A = bytes of the packet at X + `k`. */
export const loadIndirect = (size: Size): number => BPF_LD | BPF_IND | SIZES[size]
/** A = `k` */
export const LOAD_CONSTANT = BPF_LD | BPF_IMM
/** A = the packet's length on the wire */
export const LOAD_LENGTH = BPF_LD | BPF_LEN
/** A = M[k] */
export const LOAD_CELL = BPF_LD | BPF_MEM
/** X = `k` */
export const LOADX_CONSTANT = BPF_LDX | BPF_IMM
/** X = M[k] */
export const LOADX_CELL = BPF_LDX | BPF_MEM
/** X = 4 * (byte at `k` & 0xf): the length of an IPv4 header */
export const LOADX_HEADER = BPF_LDX | BPF_MSH | BPF_B
/** M[k] = A */
export const STORE = BPF_ST
/** M[k] = X */
export const STOREX = BPF_STX
/** X = A */
export const TAX = BPF_MISC | BPF_TAX
/** A = X */
export const TXA = BPF_MISC | BPF_TXA
/** A = -A */
export const NEGATE = BPF_ALU | BPF_NEG
/** The verdict. */
export const RETURN = BPF_RET | BPF_K
/** Goes on `k` further. */
export const JUMP = BPF_JMP | BPF_JA

const OPERATIONS = {
  '+': BPF_ADD,
  '-': BPF_SUB,
  '*': BPF_MUL,
  '/': BPF_DIV,
  '%': BPF_MOD,
  '&': BPF_AND,
  '|': BPF_OR,
  '^': BPF_XOR,
  '<<': BPF_LSH,
  '>>': BPF_RSH,
} as const
export type Operator = keyof typeof OPERATIONS

/** A = A `operator` `k` */
export const aluConstant = (operator: Operator): number => BPF_ALU | OPERATIONS[operator] | BPF_K
/** A = A `operator` X */
export const aluX = (operator: Operator): number => BPF_ALU | OPERATIONS[operator] | BPF_X

const TESTS = { '=': BPF_JEQ, '>': BPF_JGT, '>=': BPF_JGE, '&': BPF_JSET } as const
/** What a jump can ask; `&` is "any of these bits". */
export type Tested = keyof typeof TESTS

/** Whether A `test` `k` */
export const jumpConstant = (test: Tested): number => BPF_JMP | TESTS[test] | BPF_K
/** Whether A `test` X */
export const jumpX = (test: Tested): number => BPF_JMP | TESTS[test] | BPF_X

/** A code, taken apart. */
export type Decoded =
  | { readonly op: 'load'; readonly size: Size; readonly indirect: boolean }
  | { readonly op: 'alu'; readonly operator: Operator; readonly x: boolean }
  | { readonly op: 'jump'; readonly test: Tested; readonly x: boolean }
  | { readonly op: 'other' }

const DECODED: ReadonlyMap<number, Decoded> = new Map<number, Decoded>([
  ...([1, 2, 4] as const).flatMap((size): [number, Decoded][] => [
    [loadAbsolute(size), { op: 'load', size, indirect: false }],
    [loadIndirect(size), { op: 'load', size, indirect: true }],
  ]),
  ...(Object.keys(OPERATIONS) as Operator[]).flatMap((operator): [number, Decoded][] => [
    [aluConstant(operator), { op: 'alu', operator, x: false }],
    [aluX(operator), { op: 'alu', operator, x: true }],
  ]),
  ...(Object.keys(TESTS) as Tested[]).flatMap((test): [number, Decoded][] => [
    [jumpConstant(test), { op: 'jump', test, x: false }],
    [jumpX(test), { op: 'jump', test, x: true }],
  ]),
])
const OTHER: Decoded = { op: 'other' }

export const decode = (code: number): Decoded => DECODED.get(code) ?? OTHER

const hex = (k: number): string => `#0x${k.toString(16)}`
const ALU_NAMES = {
  '+': 'add',
  '-': 'sub',
  '*': 'mul',
  '/': 'div',
  '%': 'mod',
  '&': 'and',
  '|': 'or',
  '^': 'xor',
  '<<': 'lsh',
  '>>': 'rsh',
}
const JUMP_NAMES = { '=': 'jeq', '>': 'jgt', '>=': 'jge', '&': 'jset' }
const LOAD_NAMES = { 1: 'ldb', 2: 'ldh', 4: 'ld' }

/** The name and operand of an instruction. */
export function mnemonic(code: number, k: number): [name: string, operand: string] {
  const decoded = decode(code)
  switch (decoded.op) {
    case 'load':
      return [LOAD_NAMES[decoded.size], decoded.indirect ? `[x + ${k | 0}]` : `[${k | 0}]`]
    case 'alu': {
      const bits = decoded.operator === '&' || decoded.operator === '|' || decoded.operator === '^'
      return [ALU_NAMES[decoded.operator], decoded.x ? 'x' : bits ? hex(k) : `#${k | 0}`]
    }
    case 'jump':
      return [JUMP_NAMES[decoded.test], decoded.x ? 'x' : hex(k)]
    case 'other':
      break
  }
  switch (code) {
    case LOAD_CONSTANT:
      return ['ld', hex(k)]
    case LOAD_LENGTH:
      return ['ld', '#pktlen']
    case LOAD_CELL:
      return ['ld', `M[${k}]`]
    case LOADX_CONSTANT:
      return ['ldx', hex(k)]
    case LOADX_CELL:
      return ['ldx', `M[${k}]`]
    case LOADX_HEADER:
      return ['ldxb', `4*([${k | 0}]&0xf)`]
    case STORE:
      return ['st', `M[${k}]`]
    case STOREX:
      return ['stx', `M[${k}]`]
    case TAX:
      return ['tax', '']
    case TXA:
      return ['txa', '']
    case NEGATE:
      return ['neg', '']
    case RETURN:
      return ['ret', `#${k | 0}`]
    case JUMP:
      return ['ja', `${k | 0}`]
    default:
      return ['nop', '']
  }
}
