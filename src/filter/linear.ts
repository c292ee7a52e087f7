// From the graph to a list of instructions, in the order in which libpcap lays them out.
import { JUMP, decode, mnemonic } from './classic.js'
import type { Block } from './graph.js'
import type { JumpingStatement } from './generate/tests.js'

/** An instruction in its place. Jumps have the indices they go to. */
export interface Instruction {
  readonly code: number
  readonly k: number
  /** Where it goes on when its question is answered so; -1 in what is no question. `ja` goes to `yes`. */
  readonly yes: number
  readonly no: number
}

/** What a back end takes of a compiled filter. */
export interface FilterCode {
  /** The words, for what is said of it. */
  readonly expression: string
  /** Without loops. */
  readonly program: readonly Instruction[]
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
export function layOut(root: Block): Block[] {
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
