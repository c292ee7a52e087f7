// The same expressions over the same packets: each back end gives the verdict that tcpdump gives.
import assert from 'node:assert/strict'
import { before, describe, it } from 'node:test'
import { type Filter, FilterError, compileFilter } from '../../src/filter/index.js'
import { createQuietLab, needsRoot } from '../support/lab.js'
import { type Backend, classic, classicInKernel, ebpf, ebpfInBuffers, predicate, verify } from './backends.js'
import { type CorpusExpression, corpusExpressions } from './corpus/expressions.js'
import { type CorpusPacket, corpusPackets } from './corpus/packets.js'
import { type Judgement, judge, tcpdumpVersion } from './oracle.js'
import { type Disagreement, describeDisagreement, shrink } from './shrink.js'

/** Disagreements that are made small and shown; of the others only the expression. */
const SHOWN = 3

interface Case extends CorpusExpression {
  judgement: Judgement
  filter?: Filter
  refusal?: FilterError
}

const version = tcpdumpVersion()
const packets = corpusPackets()
let cases: Case[]

before(async () => {
  if (version === undefined) return
  const expressions = corpusExpressions()
  const judgements = await judge(
    packets,
    expressions.map(({ text }) => text),
  )
  cases = expressions.map((expression, i) => ({
    ...expression,
    judgement: judgements[i],
    ...compiled(expression.text),
  }))
})

function compiled(text: string): { filter?: Filter; refusal?: FilterError } {
  try {
    return { filter: compileFilter(text) }
  } catch (error) {
    if (error instanceof FilterError) return { refusal: error }
    throw new Error(`${JSON.stringify(text)} made the compiler fail`, { cause: error })
  }
}

const list = (lines: readonly string[]) => `${lines.length} of them:\n  ${lines.slice(0, 40).join('\n  ')}`

type Judged = Case & { judgement: { accepted: true }; filter: Filter }

/** The filters that both sides take. */
const judged = (): Judged[] => cases.filter((one): one is Judged => one.judgement.accepted && !!one.filter)

const failure = ({ text }: CorpusExpression, error: unknown): string =>
  `${JSON.stringify(text)}: ${error instanceof Error ? error.message.slice(0, 300) : String(error)}`

/** Runs some filters on the packets; gives the first disagreement of each. Throws when one of them cannot be run. */
function disagreements(backend: Backend, some: readonly Judged[], chosen: readonly number[]): Disagreement[] {
  const found: Disagreement[] = []
  const isFound = new Uint8Array(some.length)
  const verdicts = new Uint8Array(some.length)
  const runner = backend.prepare(some.map(({ filter }) => filter))
  try {
    for (const i of chosen) {
      runner.judge(packets[i], verdicts)
      for (const [n, { text, judgement }] of some.entries()) {
        if (verdicts[n] === judgement.matches[i] || isFound[n] === 1) continue
        isFound[n] = 1
        found.push({ backend, expression: text, packet: packets[i] })
      }
    }
  } finally {
    runner.close?.()
  }
  return found
}

/** Runs every filter (or each so many-th) on every packet that the back end takes, and fails with the smallest disagreement. */
async function compare(backend: Backend, step = 1): Promise<void> {
  const found: Disagreement[] = []
  const failed: string[] = []
  const chosen = [...packets.keys()].filter((i) => backend.takes(packets[i]))
  assert.ok(chosen.length >= 4500, `${chosen.length} packets`)
  const all = judged().filter((_, i) => i % step === 0)
  for (let at = 0; at < all.length; at += backend.width) {
    const some = all.slice(at, at + backend.width)
    try {
      found.push(...disagreements(backend, some, chosen))
    } catch (error) {
      failed.push(`one of ${some.length}, ${failure(some[0], error)}`)
    }
  }
  assert.deepEqual(failed, [], `${backend.name} does not run ${list(failed)}`)
  if (found.length === 0) return
  found.sort((a, b) => a.expression.length - b.expression.length)
  const shown: string[] = []
  for (const one of found.slice(0, SHOWN)) shown.push(await describeDisagreement(await shrink(one)))
  const rest = list(found.map(({ expression }) => JSON.stringify(expression)))
  assert.fail(`${backend.name} and tcpdump disagree\n\n${shown.join('\n\n')}\n\non ${rest}`)
}

describe('filters and libpcap', { skip: version === undefined && 'needs tcpdump' }, () => {
  it('have a corpus of 1,500 expressions and 5,000 packets to agree on', () => {
    assert.ok(packets.length >= 5000, `${packets.length} packets`)
    const accepted = cases.filter(({ judgement }) => judgement.accepted)
    assert.ok(accepted.length >= 1500, `${accepted.length} expressions`)
    const refused = cases.filter(({ judgement }) => !judgement.accepted)
    assert.ok(refused.length >= 500, `${refused.length} refused expressions`)
  })

  it('have expressions of every class that take some packets and leave some', () => {
    const classes = new Map<string, { some: number; all: number }>()
    for (const { class: name, judgement } of cases) {
      if (!judgement.accepted || name === 'refused') continue
      const counts = classes.get(name) ?? { some: 0, all: 0 }
      classes.set(name, counts)
      counts.all++
      if (judgement.count > 0 && judgement.count < packets.length) counts.some++
    }
    assert.ok(classes.size > 20)
    for (const [name, { some, all }] of classes) {
      // Constants compared with constants are true of all packets, and bytes behind all packets are nothing.
      assert.ok(
        some >= all * (['precedence', 'corner'].includes(name) ? 0.4 : 0.6),
        `${name}: ${some} of ${all} tell packets apart`,
      )
    }
  })

  it('refuse the same expressions', () => {
    const wrong = cases
      .filter(({ judgement, filter }) => !judgement.accepted && filter)
      .map(({ text, judgement }) => `${JSON.stringify(text)}: ${!judgement.accepted && judgement.message}`)
    assert.deepEqual(wrong, [], `we take what libpcap refuses, ${list(wrong)}`)
  })

  it('take the same expressions', () => {
    const wrong = cases
      .filter(({ judgement, filter }) => judgement.accepted && !filter)
      .map(({ text, refusal }) => `${JSON.stringify(text)}: ${refusal?.message.split('\n', 1)[0]}`)
    assert.deepEqual(wrong, [], `we refuse what libpcap takes, ${list(wrong)}`)
  })

  it('point into the expression that they refuse', () => {
    for (const { text, refusal } of cases) {
      if (!refusal) continue
      const { position, length, message, code } = refusal
      assert.ok(
        Number.isInteger(position) && position >= 0 && position <= text.length,
        `${text}: position ${position}`,
      )
      assert.ok(
        Number.isInteger(length) && length >= 0 && position + length <= Math.max(text.length, position + 1),
        `${text}: length ${length}`,
      )
      assert.ok(typeof code === 'string', text)
      assert.match(message, /\^/, text)
    }
  })

  it('agree as a TypeScript predicate, on every packet', () => compare(predicate))

  it('agree as classic BPF, on every packet', () => compare(classic))

  it(
    'agree as classic BPF that the kernel runs for sockets, on every whole packet',
    { skip: needsRoot },
    async (t) => {
      const backend = classicInKernel(createQuietLab(t).a)
      try {
        await compare(backend)
      } finally {
        backend.close?.()
      }
    },
  )

  it('are taken by the verifier, each by itself', { skip: needsRoot }, () => {
    const refused: string[] = []
    for (const one of judged()) {
      try {
        verify(one.filter)
      } catch (error) {
        refused.push(failure(one, error))
      }
    }
    assert.deepEqual(refused, [], `the verifier refuses ${list(refused)}`)
  })

  it('agree as eBPF that the kernel runs, on every whole packet', { skip: needsRoot }, () => compare(ebpf))

  for (const near of [14, 40]) {
    it(`agree as eBPF on packets with ${near} bytes in their first buffer`, { skip: needsRoot }, () =>
      compare(ebpfInBuffers(near), 8),
    )
  }
})

describe('what judges the filters', { skip: version === undefined && 'needs tcpdump' }, () => {
  it('sees a packet taken and a packet left', async () => {
    const two: CorpusPacket[] = packets.filter(({ kind }) => kind === 'arp' || kind === 'ip6').slice(0, 400)
    const [judgement] = await judge(two, ['arp'])
    assert.ok(judgement.accepted)
    assert.deepEqual(
      two.map((_, i) => judgement.matches[i] === 1),
      two.map(({ kind }) => kind === 'arp'),
    )
  })
})
