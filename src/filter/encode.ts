// Programs as the kernel takes them for sockets: struct sock_filter (include/uapi/linux/filter.h).
import {
  BPF_MAXINSNS,
  BPF_MEMWORDS,
  JUMP,
  LOADX_CELL,
  LOADX_CONSTANT,
  LOADX_HEADER,
  LOAD_CELL,
  LOAD_CONSTANT,
  RETURN,
  STORE,
  STOREX,
  TAX,
  TXA,
  aluX,
  decode,
  jumpConstant,
} from './classic.js'
import { lifetimes } from './lifetimes.js'
import { tooLarge } from './error.js'
import type { FilterCode, Instruction } from './linear.js'

/** Who is not bound to classic BPF. */
const ELSEWHERE =
  'XDP programs take more (`xdp filter` says how much of them this one is), and files any number.'
/** Bytes of a `struct sock_filter`. */
const INSTRUCTION_BYTES = 8
/** What one of the two offsets of a conditional jump can hold. */
const FARTHEST = 255

/**
 * A filter as `struct sock_filter[]`. Jumps that reach too far get help. Throws `FilterError` (`XDP_FILTER_TOO_LARGE`) when it is more
 * than the kernel takes.
 */
export function encode({ expression, program }: FilterCode): Uint8Array {
  const accepted = acceptable(program)
  if (!accepted)
    throw tooLarge(
      expression,
      `The filter leaves no cell of classic BPF's ${BPF_MEMWORDS} to shift by`,
      ELSEWHERE,
    )
  const placed = withLongJumps(accepted)
  if (placed.length > BPF_MAXINSNS) {
    const sentence = `The filter comes to ${placed.length} instructions of classic BPF; the kernel takes ${BPF_MAXINSNS} for a packet socket`
    throw tooLarge(expression, sentence, ELSEWHERE)
  }
  const bytes = new Uint8Array(placed.length * INSTRUCTION_BYTES)
  const view = new DataView(bytes.buffer)
  placed.forEach(({ code, k, yes, no }, index) => {
    const at = index * INSTRUCTION_BYTES
    view.setUint16(at, code, true)
    if (code === JUMP) {
      view.setUint32(at + 4, yes - index - 1, true)
      return
    }
    if (yes >= 0) {
      view.setUint8(at + 2, yes - index - 1)
      view.setUint8(at + 3, no - index - 1)
    }
    view.setUint32(at + 4, k, true)
  })
  return bytes
}

/** The first offset that the kernel takes for its own: it counts from the end of the numbers (SKF_AD_OFF and others). */
const SPECIAL_OFFSETS = 0x8000_0000

/**
 * The same program in a form that the kernel takes, and gives libpcap's verdicts for. The kernel wants cells written before they are
 * read (libpcap takes what is there by chance; zeros, here). libpcap finds nothing at offsets by which the kernel would give more
 * than the packet, or that are computed beyond 32 bits, where the kernel begins at 0 again. And it shifts everything out where the
 * kernel's machine would take the count modulo 32. Undefined when there is no cell left for that.
 */
function acceptable(program: readonly Instruction[]): readonly Instruction[] | undefined {
  const spare = program.some(isShift) ? spareCell(program) : 0
  if (spare === undefined) return undefined
  const guards = computesX(program)
  const zeros = cellsIn(lifetimes(program)[0]).map((cell) => plain(STORE, cell))
  // A is 0 at the start.
  let length = zeros.length
  const places = program.map((instruction) => {
    const here = length
    if (isShift(instruction)) length += SHIFT_LENGTH
    else length += guards && isIndirect(instruction) && !isBeyond(instruction) ? LOAD_LENGTH : 1
    return here
  })
  const rewritten = program.flatMap((instruction, index) => {
    const { code, k, yes, no } = instruction
    if (isShift(instruction)) return safeShift(code, spare, places[index])
    if (isBeyond(instruction)) return [plain(RETURN, 0)]
    if (guards && isIndirect(instruction)) return safeLoad(instruction, places[index])
    return [{ code, k, yes: yes < 0 ? -1 : places[yes], no: no < 0 ? -1 : places[no] }]
  })
  return [...zeros, ...rewritten]
}

const plain = (code: number, k: number): Instruction => ({ code, k, yes: -1, no: -1 })

const isShift = ({ code }: Instruction): boolean => code === aluX('<<') || code === aluX('>>')

const isIndirect = ({ code }: Instruction): boolean => {
  const decoded = decode(code)
  return decoded.op === 'load' && decoded.indirect
}

/** Whether it loads from where no packet reaches. */
const isBeyond = ({ code, k }: Instruction): boolean =>
  k >= SPECIAL_OFFSETS && (decode(code).op === 'load' || code === LOADX_HEADER)

/** Whether X is ever something else than the length of a header or of a packet: with these no load comes to special offsets. */
const computesX = (program: readonly Instruction[]): boolean =>
  program.some(
    ({ code, k }) => code === TAX || code === LOADX_CELL || (code === LOADX_CONSTANT && k > LONGEST_PACKET),
  )

const LONGEST_PACKET = 0xffff
const LOAD_LENGTH = 4

/** A load from X + `k`: 0 is returned where that is 2^31 and more. A may be anything until it is loaded. */
function safeLoad(load: Instruction, at: number): Instruction[] {
  return [
    plain(TXA, 0),
    { code: jumpConstant('>='), k: SPECIAL_OFFSETS - load.k, yes: at + 2, no: at + 3 },
    plain(RETURN, 0),
    plain(load.code, load.k),
  ]
}

const SHIFT_LENGTH = 7

/** A shift of A by X, by way of a cell for A: 0 when X is 32 or more. */
function safeShift(code: number, cell: number, at: number): Instruction[] {
  const end = at + SHIFT_LENGTH
  return [
    plain(STORE, cell),
    plain(TXA, 0),
    { code: jumpConstant('>='), k: 32, yes: end - 1, no: at + 3 },
    plain(LOAD_CELL, cell),
    plain(code, 0),
    { code: JUMP, k: 0, yes: end, no: -1 },
    plain(LOAD_CONSTANT, 0),
  ]
}

/** A cell that the program does not use. */
function spareCell(program: readonly Instruction[]): number | undefined {
  const used = new Set(
    program.filter(({ code }) => [STORE, STOREX, LOAD_CELL, LOADX_CELL].includes(code)).map(({ k }) => k),
  )
  return cellsIn(-1).find((cell) => !used.has(cell))
}

const cellsIn = (bits: number): number[] =>
  Array.from({ length: BPF_MEMWORDS }, (_, cell) => cell).filter((cell) => ((bits >>> cell) & 1) !== 0)

/** Puts a `ja` behind each conditional jump for each of its targets that is more than 255 instructions away, as libpcap does. */
export function withLongJumps(program: readonly Instruction[]): Instruction[] {
  const far = program.map(() => ({ yes: false, no: false }))
  const places = (): number[] => {
    let at = 0
    return program.map((_, index) => {
      const here = at
      at += 1 + Number(far[index].yes) + Number(far[index].no)
      return here
    })
  }
  let at = places()
  // Each helping jump moves what is behind it, so that others may become too far.
  for (let changed = true; changed;) {
    changed = false
    program.forEach(({ code, yes, no }, index) => {
      if (yes < 0 || code === JUMP) return
      const reach = at[index] + 1 + FARTHEST
      for (const [side, target] of [
        ['yes', yes],
        ['no', no],
      ] as const) {
        if (far[index][side] || at[target] <= reach) continue
        far[index][side] = true
        changed = true
      }
    })
    at = places()
  }
  return program.flatMap((instruction, index) => {
    const { code, yes, no } = instruction
    if (yes < 0 || code === JUMP) return [{ ...instruction, yes: yes < 0 ? -1 : at[yes] }]
    const helpers: Instruction[] = []
    const aim = (side: 'yes' | 'no', target: number): number => {
      if (!far[index][side]) return at[target]
      helpers.push({ code: JUMP, k: 0, yes: at[target], no: -1 })
      return at[index] + helpers.length
    }
    const aimed = { ...instruction, yes: aim('yes', yes), no: aim('no', no) }
    return [aimed, ...helpers]
  })
}
