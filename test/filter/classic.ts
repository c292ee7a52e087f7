// Classic BPF as the kernel reads it (net/core/filter.c), written apart from what the compiler knows of it.

/** struct sock_filter */
const INSTRUCTION_BYTES = 8
/** BPF_MAXINSNS */
const MOST_INSTRUCTIONS = 4096
/** BPF_MEMWORDS */
const MEMORY_WORDS = 16
/** SKF_LL_OFF: from here up an absolute offset means something else than a place in the packet. */
const SPECIAL_OFFSETS = -0x200000

const LD = 0
const LDX = 1
const ST = 2
const STX = 3
const ALU = 4
const JMP = 5
const RET = 6
const MISC = 7

/** What an instruction is: `code`, and its class, mode and operation within. */
export interface ClassicInstruction {
  code: number
  ifTrue: number
  ifFalse: number
  k: number
}

/** Reads `struct sock_filter[]` in the machine's order of bytes. */
export function readClassic(bytes: Uint8Array): ClassicInstruction[] {
  if (bytes.length % INSTRUCTION_BYTES !== 0) throw new Error(`${bytes.length} bytes are no classic BPF`)
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  return Array.from({ length: bytes.length / INSTRUCTION_BYTES }, (_, i) => ({
    code: view.getUint16(8 * i, true),
    ifTrue: view.getUint8(8 * i + 2),
    ifFalse: view.getUint8(8 * i + 3),
    k: view.getUint32(8 * i + 4, true),
  }))
}

const SIZES: Record<number, number> = { 0x00: 4, 0x08: 2, 0x10: 1 }
const KNOWN = new Set([
  ...[0x00, 0x08, 0x10].flatMap((size) => [LD | size | 0x20, LD | size | 0x40]),
  ...[LD | 0x00, LD | 0x60, LD | 0x80, LDX | 0x00, LDX | 0x60, LDX | 0x80, LDX | 0xb0, ST, STX],
  ...[0x00, 0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0x90, 0xa0].flatMap((operation) => [
    ALU | operation,
    ALU | operation | 8,
  ]),
  ...[ALU | 0x80, JMP, RET, RET | 0x10, MISC, MISC | 0x80],
  ...[0x10, 0x20, 0x30, 0x40].flatMap((operation) => [JMP | operation, JMP | operation | 8]),
])

/** What the kernel would not attach, as bpf_check_classic() finds it; undefined when it would. */
export function refusal(program: readonly ClassicInstruction[]): string | undefined {
  if (program.length === 0 || program.length > MOST_INSTRUCTIONS) return `${program.length} instructions`
  for (const [i, { code, ifTrue, ifFalse, k }] of program.entries()) {
    const about = (what: string) => `instruction ${i} (code ${code.toString(16)}, k ${k}): ${what}`
    if (!KNOWN.has(code)) return about('no such code')
    const kind = code & 7
    if (code === (ALU | 0x30) || code === (ALU | 0x90)) if (k === 0) return about('division by 0')
    if ((code === (ALU | 0x60) || code === (ALU | 0x70)) && k >= 32) return about('shift too far')
    if ((kind === ST || kind === STX || code === (LD | 0x60) || code === (LDX | 0x60)) && k >= MEMORY_WORDS) {
      return about('no such word of memory')
    }
    if (kind === LD && (code & 0xe0) === 0x20 && (k | 0) < 0 && (k | 0) >= SPECIAL_OFFSETS)
      return about('a special offset')
    if (code === JMP && i + 1 + k >= program.length) return about('jumps out')
    if (kind === JMP && code !== JMP && i + 1 + Math.max(ifTrue, ifFalse) >= program.length)
      return about('jumps out')
  }
  if ((program[program.length - 1].code & 7) !== RET) return 'the end is no return'
  return undefined
}

/**
 * Runs the program on a packet: the bytes to keep, 0 for a packet not taken. libpcap's own may have jumps back, which no kernel
 * takes: those give -1 when they go on for more than `mostSteps`.
 */
export function runClassic(
  program: readonly ClassicInstruction[],
  packet: Uint8Array,
  wireLength: number,
  mostSteps = MOST_INSTRUCTIONS,
): number {
  const memory = new Uint32Array(MEMORY_WORDS)
  const load = (at: number, size: number): number => {
    if (at + size > packet.length) return -1
    if (size === 1) return packet[at]
    const high = (packet[at] << 8) | packet[at + 1]
    return size === 2 ? high : high * 0x10000 + ((packet[at + 2] << 8) | packet[at + 3])
  }
  let a = 0
  let x = 0
  for (let i = 0, steps = 0; ; i++, steps++) {
    if (steps > mostSteps) return -1
    const { code, ifTrue, ifFalse, k } = program[i]
    const operand = code & 8 ? x : k
    switch (code & 7) {
      case LD:
      case LDX: {
        let value: number
        const mode = code & 0xe0
        if (code === (LDX | 0xb0)) {
          value = load(k, 1)
          if (value < 0) return 0
          value = 4 * (value & 0xf)
        } else if (mode === 0x20 || mode === 0x40) {
          value = load(mode === 0x20 ? k : (x + k) >>> 0, SIZES[code & 0x18])
          if (value < 0) return 0
        } else if (mode === 0x60) value = memory[k]
        else value = mode === 0x80 ? wireLength : k
        if ((code & 7) === LD) a = value
        else x = value
        break
      }
      case ST:
        memory[k] = a
        break
      case STX:
        memory[k] = x
        break
      case ALU: {
        const divides = (code & 0xf0) === 0x30 || (code & 0xf0) === 0x90
        if (divides && operand === 0) return 0
        a = arithmetic(code & 0xf0, a, operand)
        break
      }
      case JMP: {
        if (code === JMP) {
          i += k | 0
          break
        }
        const [equal, above] = [a === operand, a > operand]
        const holds = [equal, above, above || equal, (a & operand) !== 0][((code & 0xf0) >> 4) - 1]
        i += holds ? ifTrue : ifFalse
        break
      }
      case RET:
        return (code & 0x18) === 0x10 ? a : k
      default:
        if (code === MISC) x = a
        else a = x
    }
  }
}

function arithmetic(operation: number, a: number, b: number): number {
  switch (operation) {
    case 0x00:
      return (a + b) >>> 0
    case 0x10:
      return (a - b) >>> 0
    case 0x20:
      return Math.imul(a, b) >>> 0
    case 0x30:
      return Math.floor(a / b)
    case 0x40:
      return (a | b) >>> 0
    case 0x50:
      return (a & b) >>> 0
    case 0x60: // The kernel's shifts take 5 bits of the count, where libpcap's yield 0: a compiler has to allow for both.
      return (a << (b & 31)) >>> 0
    case 0x70:
      return a >>> (b & 31)
    case 0x80:
      return -a >>> 0
    case 0x90:
      return a % b
    default:
      return (a ^ b) >>> 0
  }
}
