// From the graph to a list of instructions, in the order in which libpcap lays them out.
import { BPF_MAXINSNS, JUMP, RETURN, decode, mnemonic } from './classic.js'
import type { Block } from './graph.js'
import type { JumpingStatement } from './test.js'

/** An instruction in its place. Jumps have the indices they go to. */
export interface Instruction {
  readonly code: number
  readonly k: number
  /** Where it goes on when its question is answered so; -1 in what is no question. `ja` goes to `yes`. */
  readonly yes: number
  readonly no: number
}

/** Lays a graph out. Jumps lead forward, but for loops within lists of statements. */
export function linearize(root: Block): Instruction[] {
  const order = layOut(root)
  const starts = new Map<Block, number>()
  let length = 0
  for (const block of order) {
    starts.set(block, length)
    length += block.statements.length + 1
  }
  const instructions: Instruction[] = []
  for (const { statements, code, k, ifTrue, ifFalse } of order) {
    const first = instructions.length
    for (const one of statements as readonly JumpingStatement[]) {
      const target = (to: JumpingStatement | undefined): number => (to ? first + statements.indexOf(to) : -1)
      instructions.push({ code: one.code, k: one.k, yes: target(one.yes), no: target(one.no) })
    }
    instructions.push({
      code,
      k,
      yes: ifTrue ? starts.get(ifTrue)! : -1,
      no: ifFalse ? starts.get(ifFalse)! : -1,
    })
  }
  return instructions
}

/** Blocks in the order they lie in: each before those it leads to, what lies behind `yes` directly behind it. */
function layOut(root: Block): Block[] {
  const order: Block[] = []
  const seen = new Set<Block>([root])
  // An own stack: chains of tests are longer than JavaScript's calls may nest.
  const stack = [{ block: root, next: [root.ifTrue, root.ifFalse] }]
  for (let top = stack.at(-1); top; top = stack.at(-1)) {
    if (top.next.length === 0) {
      order.push(top.block)
      stack.pop()
      continue
    }
    const next = top.next.pop()
    if (!next || seen.has(next)) continue
    seen.add(next)
    stack.push({ block: next, next: [next.ifTrue, next.ifFalse] })
  }
  return order.reverse()
}

/** How often a loop runs at most, once it has been unrolled. */
const ROUNDS = 16

/** Whether a program loops, which neither kernel machine allows of a filter. */
const loops = (program: readonly Instruction[]): boolean =>
  program.some(({ yes, no }, index) => (yes >= 0 && yes <= index) || (no >= 0 && no <= index))

/**
 * The same program without loops: what lies from a jump back's target to the jump is written out 16 times, and a packet that
 * would need another round does not match. All that runs a filter runs this form, so that they agree.
 */
export function unroll(program: readonly Instruction[]): readonly Instruction[] {
  if (!loops(program)) return program
  const rejects: Instruction = { code: RETURN, k: 0, yes: -1, no: -1 }
  // Copies of instructions, by round; a jump back leads into the next round, everything else stays in its own.
  const copies: { instruction: Instruction; index: number; round: number }[] = []
  const at = new Map<string, number>()
  const heads = new Map<number, number>()
  program.forEach(({ yes }, index) => {
    if (yes >= 0 && yes <= index) heads.set(yes, Math.max(index, heads.get(yes) ?? 0))
  })
  const add = (index: number, round: number): void => {
    at.set(`${index} ${round}`, copies.length)
    copies.push({ instruction: program[index], index, round })
  }
  for (let index = 0; index < program.length; index++) {
    const last = heads.get(index)
    if (last === undefined) {
      add(index, 0)
      continue
    }
    for (let round = 0; round < ROUNDS; round++) {
      for (let inside = index; inside <= last; inside++) add(inside, round)
    }
    index = last
  }
  const end = copies.length
  const unrolled = copies.map(({ instruction, index, round }): Instruction => {
    const target = (to: number): number => {
      if (to < 0) return -1
      const next = to <= index ? round + 1 : round
      // What lies behind the loop is there once.
      return at.get(`${to} ${next}`) ?? (to <= index ? end : at.get(`${to} 0`)!)
    }
    return { ...instruction, yes: target(instruction.yes), no: target(instruction.no) }
  })
  return [...unrolled, rejects]
}

/** The text of a program, as tcpdump -d prints it. */
export function listing(program: readonly Instruction[]): string {
  return program
    .map(({ code, k, yes, no }, index) => {
      const [name, operand] = mnemonic(code, k)
      const line = `(${`${index}`.padStart(3, '0')}) ${name.padEnd(8)} ${code === JUMP ? yes : operand}`
      return decode(code).op === 'jump' ? `${line.padEnd(31)} jt ${yes}\tjf ${no}` : line
    })
    .join('\n')
}

/** Bytes of a `struct sock_filter`. */
const INSTRUCTION_BYTES = 8
/** What one of the two offsets of a conditional jump can hold. */
const FARTHEST = 255

/** A program as `struct sock_filter[]`; undefined when it is more than the kernel takes. Jumps that reach too far get help. */
export function encode(program: readonly Instruction[]): Uint8Array | undefined {
  const placed = withLongJumps(program)
  if (placed.length > BPF_MAXINSNS) return undefined
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

/** Puts a `ja` behind each conditional jump for each of its targets that is more than 255 instructions away. */
function withLongJumps(program: readonly Instruction[]): Instruction[] {
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
