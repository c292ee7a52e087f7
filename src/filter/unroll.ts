// Programs without loops: neither of the kernel's machines lets a filter loop as it likes.
import { RETURN } from './classic.js'
import type { Instruction } from './linear.js'

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
