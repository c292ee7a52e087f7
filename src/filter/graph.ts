// A filter as a graph of classic BPF: blocks of statements that end in a comparison, and lead to a return in the end.

/** One statement, in the kernel's codes (struct sock_filter): `code` as in `BPF_LD | BPF_H | BPF_ABS`, `k` 0 to 2^32 - 1. */
export interface Statement {
  code: number
  k: number
}

/**
 * Statements that run one after the other, then a comparison (`BPF_JMP`) that leads on, or a return (`BPF_RET`).
 * A statement never jumps. Blocks are shared where ways meet; there are no circles.
 */
export interface Block {
  statements: Statement[]
  /** The comparison, or `BPF_RET | BPF_K`. */
  code: number
  k: number
  /** Where to go on; undefined for a return. */
  ifTrue: Block | undefined
  ifFalse: Block | undefined
}

// The codes of classic BPF (uapi/linux/bpf_common.h), most of which eBPF has too.
export {
  BPF_LD,
  BPF_LDX,
  BPF_ST,
  BPF_STX,
  BPF_ALU,
  BPF_JMP,
  BPF_W,
  BPF_H,
  BPF_B,
  BPF_IMM,
  BPF_ABS,
  BPF_IND,
  BPF_MEM,
  BPF_ADD,
  BPF_SUB,
  BPF_MUL,
  BPF_DIV,
  BPF_OR,
  BPF_AND,
  BPF_LSH,
  BPF_RSH,
  BPF_NEG,
  BPF_MOD,
  BPF_XOR,
  BPF_JA,
  BPF_JEQ,
  BPF_JGT,
  BPF_JGE,
  BPF_JSET,
  BPF_K,
  BPF_X,
} from '../bpf/instruction.js'
export const BPF_RET = 0x06
export const BPF_MISC = 0x07
export const BPF_LEN = 0x80
export const BPF_MSH = 0xa0
export const BPF_TAX = 0x00
export const BPF_TXA = 0x80

export const classOf = (code: number): number => code & 0x07
export const modeOf = (code: number): number => code & 0xe0
export const sizeOf = (code: number): number => code & 0x18
export const operationOf = (code: number): number => code & 0xf0
export const sourceOf = (code: number): number => code & 0x08
