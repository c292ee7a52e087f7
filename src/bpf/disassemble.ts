// Instructions as text, in the syntax of the kernel's verifier log and of `bpftool prog dump xlated` (kernel/bpf/disasm.c).
import { helperName } from './helpers.js'
import * as op from './instruction.js'
import { type Instruction, decodeProgram, slotsOf } from './instruction.js'

/** Names that only the caller knows. Each may return undefined for the kernel's bare form. */
export interface DisassembleNames {
  /** What a wide immediate refers to: `map[id:7]`. `imm` is the unsigned 64-bit value. */
  wide?: (instruction: Instruction, imm: bigint) => string | undefined
  /** The name of a called kernel function. */
  kernelFunction?: (instruction: Instruction) => string | undefined
}

/** One instruction of a listing. */
export interface DisassembledLine {
  /** The slot the instruction starts at, as the verifier counts. */
  index: number
  instruction: Instruction
  /** `r0 = *(u32 *)(r1 +4)` */
  text: string
}

const aluSymbols = ['+=', '-=', '*=', '/=', '|=', '&=', '<<=', '>>=', 'neg', '%=', '^=', '=', 's>>=']
const atomicNames: Record<number, string> = {
  [op.BPF_ADD]: 'add',
  [op.BPF_AND]: 'and',
  [op.BPF_OR]: 'or',
  [op.BPF_XOR]: 'xor',
}
const unsignedSizes: Record<number, string> = {
  [op.BPF_W]: 'u32',
  [op.BPF_H]: 'u16',
  [op.BPF_B]: 'u8',
  [op.BPF_DW]: 'u64',
}
const signedSizes: Record<number, string> = {
  [op.BPF_W]: 's32',
  [op.BPF_H]: 's16',
  [op.BPF_B]: 's8',
  [op.BPF_DW]: '(null)', // no such load; what the kernel's printf makes of it
}
const jumpSymbols: Record<number, string> = {
  [op.BPF_JEQ]: '==',
  [op.BPF_JGT]: '>',
  [op.BPF_JLT]: '<',
  [op.BPF_JGE]: '>=',
  [op.BPF_JLE]: '<=',
  [op.BPF_JSET]: '&',
  [op.BPF_JNE]: '!=',
  [op.BPF_JSGT]: 's>',
  [op.BPF_JSLT]: 's<',
  [op.BPF_JSGE]: 's>=',
  [op.BPF_JSLE]: 's<=',
}

/** Text of one instruction, without its number. Never throws: what is no instruction reads `BUG_…`, as in the kernel. */
export function disassembleInstruction(instruction: Instruction, names: DisassembleNames = {}): string {
  switch (instruction.opcode & 7) {
    case op.BPF_ALU:
    case op.BPF_ALU64:
      return arithmetic(instruction)
    case op.BPF_STX:
      return storeRegister(instruction)
    case op.BPF_ST:
      return (instruction.opcode & 0xe0) === op.BPF_MEM
        ? `${memory(instruction, instruction.dst)} = ${instruction.imm}`
        : bug('BUG_st_', instruction)
    case op.BPF_LDX:
      return loadRegister(instruction)
    case op.BPF_LD:
      return load(instruction, names)
    default:
      return jump(instruction, names)
  }
}

/** Text of a whole program: one line an instruction. */
export function disassemble(bytes: Uint8Array, names?: DisassembleNames): DisassembledLine[] {
  let index = 0
  return decodeProgram(bytes).map((instruction) => {
    const line = { index, instruction, text: disassembleInstruction(instruction, names) }
    index += slotsOf(instruction)
    return line
  })
}

/** The program as `bpftool prog dump xlated` prints it: `   0: (b7) r0 = 2`. */
export function listing(bytes: Uint8Array, names?: DisassembleNames): string {
  return disassemble(bytes, names)
    .map(
      ({ index, instruction, text }) =>
        `${String(index).padStart(4)}: (${hex(instruction.opcode)}) ${text}\n`,
    )
    .join('')
}

function arithmetic(instruction: Instruction): string {
  const { opcode, dst, src, offset, imm } = instruction
  const wide = (opcode & 7) === op.BPF_ALU64
  const letter = wide ? 'r' : 'w'
  const operation = opcode & 0xf0
  const fromRegister = (opcode & op.BPF_X) !== 0
  if (operation === op.BPF_END) {
    if (wide) return `r${dst} = bswap${imm} r${dst}`
    return `r${dst} = ${fromRegister ? 'be' : 'le'}${imm} r${dst}`
  }
  if (operation === op.BPF_NEG) return `${letter}${dst} = -${letter}${dst}`
  let symbol = aluSymbols[operation >> 4]
  if (symbol === undefined) return bug('BUG_alu_', instruction)
  const isDivision = operation === op.BPF_DIV || operation === op.BPF_MOD
  if (isDivision && offset === 1) symbol = `s${symbol}`
  if (!fromRegister) return `${letter}${dst} ${symbol} ${imm}`
  const isExtendingMove = operation === op.BPF_MOV && (offset === 8 || offset === 16 || offset === 32)
  const extension = isExtendingMove ? `(s${offset})` : ''
  return `${letter}${dst} ${symbol} ${extension}${letter}${src}`
}

function storeRegister(instruction: Instruction): string {
  const { opcode, dst, src, offset, imm } = instruction
  const mode = opcode & 0xe0
  if (mode === op.BPF_MEM) return `${memory(instruction, dst)} = r${src}`
  if (mode !== op.BPF_ATOMIC) return bug('BUG_', instruction)
  const place = `(${unsignedSizes[opcode & 0x18]} *)(r${dst} ${signed(offset)})`
  const width = (opcode & 0x18) === op.BPF_DW ? '64' : ''
  if (imm === op.BPF_CMPXCHG) return `r0 = atomic${width}_cmpxchg(${place}, r0, r${src})`
  if (imm === op.BPF_XCHG) return `r${src} = atomic${width}_xchg(${place}, r${src})`
  if (imm === op.BPF_STORE_REL) return `store_release(${place}, r${src})`
  if (imm === op.BPF_LOAD_ACQ) {
    return `r${dst} = load_acquire((${unsignedSizes[opcode & 0x18]} *)(r${src} ${signed(offset)}))`
  }
  const name = atomicNames[imm & ~op.BPF_FETCH]
  if (name === undefined) return bug('BUG_', instruction)
  if (imm & op.BPF_FETCH) return `r${src} = atomic${width}_fetch_${name}(${place}, r${src})`
  return `lock *${place} ${aluSymbols[imm >> 4]} r${src}`
}

function loadRegister(instruction: Instruction): string {
  const { opcode, dst, src, offset } = instruction
  const mode = opcode & 0xe0
  if (mode !== op.BPF_MEM && mode !== op.BPF_MEMSX) return bug('BUG_ldx_', instruction)
  const size = (mode === op.BPF_MEM ? unsignedSizes : signedSizes)[opcode & 0x18]
  return `r${dst} = *(${size} *)(r${src} ${signed(offset)})`
}

function load(instruction: Instruction, names: DisassembleNames): string {
  const { opcode, dst, src, imm, high } = instruction
  const size = unsignedSizes[opcode & 0x18]
  const mode = opcode & 0xe0
  if (mode === op.BPF_ABS) return `r0 = *(${size} *)skb[${imm}]`
  if (mode === op.BPF_IND) return `r0 = *(${size} *)skb[r${src} + ${imm}]`
  if (opcode !== op.LD_IMM64 || high === undefined) return bug('BUG_ld_', instruction)
  const value = (BigInt(high >>> 0) << 32n) | BigInt(imm >>> 0)
  return `r${dst} = ${names.wide?.(instruction, value) ?? `0x${value.toString(16)}`}`
}

function jump(instruction: Instruction, names: DisassembleNames): string {
  const { opcode, dst, src, offset, imm } = instruction
  const letter = (opcode & 7) === op.BPF_JMP32 ? 'w' : 'r'
  const operation = opcode & 0xf0
  if (operation === op.BPF_CALL) return call(instruction, names)
  if (opcode === (op.BPF_JMP | op.BPF_JA)) return `goto pc${signed(offset)}`
  if (opcode === (op.BPF_JMP32 | op.BPF_JA)) return `gotol pc${signed(imm)}`
  if (opcode === (op.BPF_JMP | op.BPF_JCOND) && src === 0) return `may_goto pc${signed(offset)}`
  if (opcode === (op.BPF_JMP | op.BPF_EXIT)) return 'exit'
  const symbol = jumpSymbols[operation]
  if (symbol === undefined) return bug('BUG_jmp_', instruction)
  const operand = opcode & op.BPF_X ? `${letter}${src}` : `0x${(imm >>> 0).toString(16)}`
  return `if ${letter}${dst} ${symbol} ${operand} goto pc${signed(offset)}`
}

function call(instruction: Instruction, names: DisassembleNames): string {
  const { src, offset, imm } = instruction
  // In a loaded program the kernel keeps the distance in the offset (which is zero before), and its own number in imm.
  if (src === op.BPF_PSEUDO_CALL) return `call pc${signed(offset === 0 ? imm : offset)}`
  if (src === op.BPF_PSEUDO_KFUNC_CALL) {
    return `call ${names.kernelFunction?.(instruction) ?? 'kernel-function'}#${imm}`
  }
  const helper = helperName(imm)
  return helper === undefined ? `call unknown#${imm}` : `call bpf_${helper}#${imm}`
}

function memory(instruction: Instruction, base: number): string {
  return `*(${unsignedSizes[instruction.opcode & 0x18]} *)(r${base} ${signed(instruction.offset)})`
}

function signed(value: number): string {
  return value < 0 ? `${value}` : `+${value}`
}

function bug(prefix: string, instruction: Instruction): string {
  return prefix + hex(instruction.opcode)
}

function hex(opcode: number): string {
  return opcode.toString(16).padStart(2, '0')
}
