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

/** The codes of classic BPF: uapi/linux/bpf_common.h. */
export const BPF_LD = 0x00
export const BPF_LDX = 0x01
export const BPF_ST = 0x02
export const BPF_STX = 0x03
export const BPF_ALU = 0x04
export const BPF_JMP = 0x05
export const BPF_RET = 0x06
export const BPF_MISC = 0x07
export const BPF_W = 0x00
export const BPF_H = 0x08
export const BPF_B = 0x10
export const BPF_IMM = 0x00
export const BPF_ABS = 0x20
export const BPF_IND = 0x40
export const BPF_MEM = 0x60
export const BPF_LEN = 0x80
export const BPF_MSH = 0xa0
export const BPF_ADD = 0x00
export const BPF_SUB = 0x10
export const BPF_MUL = 0x20
export const BPF_DIV = 0x30
export const BPF_OR = 0x40
export const BPF_AND = 0x50
export const BPF_LSH = 0x60
export const BPF_RSH = 0x70
export const BPF_NEG = 0x80
export const BPF_MOD = 0x90
export const BPF_XOR = 0xa0
export const BPF_JA = 0x00
export const BPF_JEQ = 0x10
export const BPF_JGT = 0x20
export const BPF_JGE = 0x30
export const BPF_JSET = 0x40
export const BPF_K = 0x00
export const BPF_X = 0x08
export const BPF_TAX = 0x00
export const BPF_TXA = 0x80

export const classOf = (code: number): number => code & 0x07
export const modeOf = (code: number): number => code & 0xe0
export const sizeOf = (code: number): number => code & 0x18
export const operationOf = (code: number): number => code & 0xf0
export const sourceOf = (code: number): number => code & 0x08
