// One eBPF instruction as plain data, to and from its bytes (include/uapi/linux/bpf.h, struct bpf_insn; RFC 9669).

// Instruction classes: the low three bits of the opcode.
export const BPF_LD = 0x00
export const BPF_LDX = 0x01
export const BPF_ST = 0x02
export const BPF_STX = 0x03
export const BPF_ALU = 0x04
export const BPF_JMP = 0x05
export const BPF_JMP32 = 0x06
export const BPF_ALU64 = 0x07

// Sizes of loads and stores.
export const BPF_W = 0x00
export const BPF_H = 0x08
export const BPF_B = 0x10
export const BPF_DW = 0x18

// Modes of loads and stores.
export const BPF_IMM = 0x00
export const BPF_ABS = 0x20
export const BPF_IND = 0x40
export const BPF_MEM = 0x60
/** Sign-extending load, kernel 6.6 (cpu v4). */
export const BPF_MEMSX = 0x80
export const BPF_ATOMIC = 0xc0

// Where the second operand comes from.
export const BPF_K = 0x00
export const BPF_X = 0x08

// Arithmetic.
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
export const BPF_MOV = 0xb0
export const BPF_ARSH = 0xc0
export const BPF_END = 0xd0

// Byte order of BPF_END in class BPF_ALU; in class BPF_ALU64 it is an unconditional swap (6.6).
export const BPF_TO_LE = 0x00
export const BPF_TO_BE = 0x08

// Jumps.
export const BPF_JA = 0x00
export const BPF_JEQ = 0x10
export const BPF_JGT = 0x20
export const BPF_JGE = 0x30
export const BPF_JSET = 0x40
export const BPF_JNE = 0x50
export const BPF_JSGT = 0x60
export const BPF_JSGE = 0x70
export const BPF_CALL = 0x80
export const BPF_EXIT = 0x90
export const BPF_JLT = 0xa0
export const BPF_JLE = 0xb0
export const BPF_JSLT = 0xc0
export const BPF_JSLE = 0xd0
export const BPF_JCOND = 0xe0

// Atomic operations: the immediate of BPF_STX | BPF_ATOMIC (5.12), beside BPF_ADD, BPF_OR, BPF_AND, BPF_XOR.
export const BPF_FETCH = 0x01
export const BPF_XCHG = 0xe0 | BPF_FETCH
export const BPF_CMPXCHG = 0xf0 | BPF_FETCH
/** Kernel 6.15. */
export const BPF_LOAD_ACQ = 0x100
/** Kernel 6.15. */
export const BPF_STORE_REL = 0x110

// Meanings of the source register in a wide load of an immediate.
export const BPF_PSEUDO_MAP_FD = 1
export const BPF_PSEUDO_MAP_VALUE = 2
export const BPF_PSEUDO_BTF_ID = 3
export const BPF_PSEUDO_FUNC = 4
export const BPF_PSEUDO_MAP_IDX = 5
export const BPF_PSEUDO_MAP_IDX_VALUE = 6

// Meanings of the source register in a call; 0 is a helper.
export const BPF_PSEUDO_CALL = 1
export const BPF_PSEUDO_KFUNC_CALL = 2

/** Opcode of the only instruction that takes two slots: BPF_LD | BPF_IMM | BPF_DW. */
export const LD_IMM64 = BPF_LD | BPF_IMM | BPF_DW

/** The size of an instruction slot in bytes. Offsets of jumps and calls count slots. */
export const SLOT_BYTES = 8

/** An instruction. All fields are as in `struct bpf_insn`. */
export interface Instruction {
  /** 8 bits: class, and operation or size and mode. */
  opcode: number
  /** Destination register, 4 bits. */
  dst: number
  /** Source register, 4 bits; in calls and wide loads what the immediate means (`BPF_PSEUDO_…`). */
  src: number
  /** Signed 16 bits. */
  offset: number
  /** Signed 32 bits. */
  imm: number
  /** The upper half of a wide (two-slot) immediate, signed 32 bits. Present in `LD_IMM64` only. */
  high?: number
}

/** How many slots an instruction takes: 2 for a wide one. */
export function slotsOf(instruction: Instruction): 1 | 2 {
  return instruction.high === undefined ? 1 : 2
}

/** Writes the instruction at byte `at`; returns the offset behind it. Fields are cut to their width. */
export function encodeInstruction(view: DataView, at: number, instruction: Instruction): number {
  view.setUint8(at, instruction.opcode)
  view.setUint8(at + 1, (instruction.dst & 0xf) | ((instruction.src & 0xf) << 4))
  view.setInt16(at + 2, instruction.offset, true)
  view.setInt32(at + 4, instruction.imm, true)
  if (instruction.high === undefined) return at + SLOT_BYTES
  view.setUint32(at + 8, 0, true)
  view.setInt32(at + 12, instruction.high, true)
  return at + 2 * SLOT_BYTES
}

/**
 * Reads the instruction at byte `at`, which must have 8 bytes behind it. A wide opcode whose second slot is
 * missing or not blank is no wide instruction (the kernel refuses it) and comes back without `high`, so that
 * encoding what was decoded always gives the same bytes.
 */
export function decodeInstruction(view: DataView, at: number): Instruction {
  const registers = view.getUint8(at + 1)
  const instruction: Instruction = {
    opcode: view.getUint8(at),
    dst: registers & 0xf,
    src: registers >> 4,
    offset: view.getInt16(at + 2, true),
    imm: view.getInt32(at + 4, true),
  }
  const second = at + SLOT_BYTES
  if (
    instruction.opcode === LD_IMM64 &&
    second + SLOT_BYTES <= view.byteLength &&
    view.getUint32(second, true) === 0
  ) {
    instruction.high = view.getInt32(second + 4, true)
  }
  return instruction
}

/** The bytes of a whole program. */
export function encodeProgram(instructions: readonly Instruction[]): Uint8Array {
  const slots = instructions.reduce((sum, instruction) => sum + slotsOf(instruction), 0)
  const bytes = new Uint8Array(slots * SLOT_BYTES)
  const view = new DataView(bytes.buffer)
  let at = 0
  for (const instruction of instructions) at = encodeInstruction(view, at, instruction)
  return bytes
}

/** The instructions of a whole program. Bytes after the last full slot are left out. */
export function decodeProgram(bytes: Uint8Array): Instruction[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const instructions: Instruction[] = []
  for (let at = 0; at + SLOT_BYTES <= bytes.length;) {
    const instruction = decodeInstruction(view, at)
    instructions.push(instruction)
    at += slotsOf(instruction) * SLOT_BYTES
  }
  return instructions
}
