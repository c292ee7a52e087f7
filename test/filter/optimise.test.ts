// The optimiser, given what libpcap generates (tcpdump -O -ddd), yields what libpcap's own optimiser yields (tcpdump -ddd).
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Block } from '../../src/filter/graph.js'
import { ConstantFault, optimise } from '../../src/filter/optimise/index.js'
import { corpusExpressions } from './corpus/expressions.js'
import { type ClassicInstruction } from './classic.js'
import { listings, tcpdumpVersion } from './oracle.js'

/** Every so many of the corpus's expressions. */
const SAMPLE = 3
const RETURN = 0x06
const JUMP = 0x05

/** The graph that a listing was made from. */
function graphOf(program: readonly ClassicInstruction[]): Block {
  const blocks = new Map<number, Block>()
  const resolve = (at: number): number => (program[at].code === JUMP ? resolve(at + 1 + program[at].k) : at)
  const blockAt = (at: number): Block => {
    const start = resolve(at)
    const had = blocks.get(start)
    if (had) return had
    const statements = []
    let i = start
    for (; (program[i].code & 7) !== JUMP && program[i].code !== RETURN; i++) {
      statements.push({ code: program[i].code, k: program[i].k })
    }
    const { code, k, ifTrue, ifFalse } = program[i]
    const block: Block = { statements, code, k, ifTrue: undefined, ifFalse: undefined }
    blocks.set(start, block)
    if (code !== RETURN) {
      block.ifTrue = blockAt(i + 1 + ifTrue)
      block.ifFalse = blockAt(i + 1 + ifFalse)
    }
    return block
  }
  return blockAt(0)
}

/** Lines that are equal for equal graphs. */
function describeGraph(root: Block): string[] {
  const numbers = new Map<Block, number>()
  const lines: string[] = []
  const visit = (block: Block | undefined): string => {
    if (!block) return '-'
    const had = numbers.get(block)
    if (had !== undefined) return `#${had}`
    const number = numbers.size
    numbers.set(block, number)
    const words = block.statements.map(({ code, k }) => `${code.toString(16)}:${k}`)
    const ways = [visit(block.ifTrue), visit(block.ifFalse)]
    lines[number] = [...words, `${block.code.toString(16)}:${block.k}`, ...ways].join(' ')
    return `#${number}`
  }
  visit(root)
  return lines
}

describe('the optimiser', { skip: tcpdumpVersion() === undefined && 'needs tcpdump' }, () => {
  it('makes of a graph what libpcap makes of it', async () => {
    const texts = corpusExpressions()
      .map(({ text }) => text)
      // libpcap optimises nothing in a filter with one of these.
      .filter((text, i) => i % SAMPLE === 0 && !/protochain|geneve/.test(text))
    const [plain, optimised] = await Promise.all([listings(texts, ['-O']), listings(texts)])
    let compared = 0
    for (const [i, text] of texts.entries()) {
      const before = plain[i]
      const after = optimised[i]
      if (typeof before === 'string') continue
      if (typeof after === 'string') {
        if (/by zero|shift by/.test(after))
          assert.throws(() => optimise(graphOf(before)), ConstantFault, text)
        else assert.deepEqual(describeGraph(optimise(graphOf(before))), ['6:0 - -'], `${text}: ${after}`)
      } else assert.deepEqual(describeGraph(optimise(graphOf(before))), describeGraph(graphOf(after)), text)
      compared++
    }
    assert.ok(compared > 500, `${compared} compared`)
  })
})
