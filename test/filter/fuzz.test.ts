// The parser on anything: a filter or a FilterError that points into the text, soon and in little memory.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { FilterError, compileFilter } from '../../src/filter/index.js'
import { corpusExpressions } from './corpus/expressions.js'
import { corpusPackets } from './corpus/packets.js'
import { Random } from './corpus/random.js'
import { misspelt } from './corpus/refused.js'
import { judge, tcpdumpVersion } from './oracle.js'

/** Time on the processor, ten times what the longest expressions of these tests take. */
const TOO_LONG_US = 10e6
/** What one text may leave behind and use meanwhile, above what is in use before. */
const TOO_MUCH_BYTES = 512 * 2 ** 20

/** Whether the text is a filter. Fails for any other end than a filter or a right `FilterError`. */
function isFilter(text: string): boolean {
  const shown = JSON.stringify(text.length > 200 ? `${text.slice(0, 200)}…` : text)
  const before = process.cpuUsage()
  try {
    compileFilter(text)
    return true
  } catch (error) {
    if (!(error instanceof FilterError)) throw new Error(`${shown} made the compiler fail`, { cause: error })
    const { position, length, message, code } = error
    assert.match(code, /^XDP_FILTER_[A-Z_]+$/, shown)
    assert.ok(
      Number.isInteger(position) && position >= 0 && position <= text.length,
      `${shown}: position ${position}`,
    )
    assert.ok(Number.isInteger(length) && length >= 1, `${shown}: length ${length}`)
    assert.ok(position + length <= Math.max(text.length, position + 1), `${shown}: ${position} + ${length}`)
    const [, , carets] = message.split('\n')
    assert.match(carets, /^ *\^+$/, shown)
    assert.ok(message.length < 2000, `${shown}: a message of ${message.length} characters`)
    return false
  } finally {
    const { user, system } = process.cpuUsage(before)
    assert.ok(user + system < TOO_LONG_US, `${shown} took ${(user + system) / 1e6} s of a processor`)
  }
}

const WORDS = (
  'ip ip6 tcp udp icmp arp ether vlan mpls pppoes geneve llc src dst host net port portrange proto mask and or not len less ' +
  'greater byte broadcast multicast gateway tcpflags tcp-syn icmptype 10.0.0.1 10.0/16 fd00::1 02:00:00:00:00:01 80 20-80 0x1f ' +
  '4294967295 99999999999 localhost http \\tcp foo ( ) [ ] : = == != < > <= >= ! && || & | ^ + - * / % << >> , ; $ # " é \0 \n'
).split(' ')

describe('the filter language, given anything', () => {
  it('takes or refuses any text', () => {
    fc.assert(
      fc.property(
        fc.oneof(fc.string({ maxLength: 60 }), fc.string({ unit: 'binary', maxLength: 60 })),
        (text) => {
          isFilter(text)
        },
      ),
      { numRuns: 1500, seed: 51 },
    )
  })

  it('takes or refuses any words', () => {
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...WORDS), { maxLength: 14 }), (words) => {
        isFilter(words.join(' '))
      }),
      { numRuns: 3000, seed: 52 },
    )
  })

  it('takes or refuses sound expressions with a fault in them', () => {
    const texts = corpusExpressions().map(({ text }) => text)
    const taken = misspelt(texts, 1500, 53).filter(isFilter).length
    // Neither all nor none: or nothing was tried.
    assert.ok(taken > 150 && taken < 1350, `${taken} taken`)
  })

  it('takes or refuses what is nested deeply, and what is long', () => {
    const deep = (open: string, inside: string, close: string, times: number) =>
      open.repeat(times) + inside + close.repeat(times)
    const before = process.memoryUsage().rss
    for (const times of [10, 100, 10_000]) {
      for (const text of [
        deep('(', 'ip', ')', times),
        deep('(', 'ip', '', times),
        deep('', 'ip', ')', times),
        deep('not ', 'ip', '', times),
        deep('!', 'ip', '', times),
        deep('(not ', 'ip', ')', times),
        deep('(1+', '1', ')', times) + ' = 1',
        deep('-', '1', '', times) + ' = 1',
        deep('ip[', '0', ']', times) + ' = 1',
        deep('ip[0] + ', '1', '', times) + ' = 1',
        deep('ip[0] % ', '1', '', times) + ' = 1',
        deep('ip or ', 'ip', '', times),
        deep('port 80 and not ', 'ip', '', times),
        deep('(ip or ', 'tcp', ')', times),
        deep('port (80 or ', '443', ')', times),
        deep('vlan and ', 'ip', '', times),
        deep('mpls and ', 'ip', '', times),
        deep('host 10.0.0.1 or (', 'ip', ')', times),
      ]) {
        isFilter(text.slice(0, 2 ** 20))
      }
    }
    // Few tests, and more comparisons than are looked through.
    assert.equal(isFilter(`${'port 80 and not '.repeat(1500)}ip`), false)
    for (const [start, unit] of [
      ['', 'a'],
      ['', '1'],
      ['0x', 'f'],
      ['host ', 'a'],
      ['host ', '1.'],
      ['host ', 'f:'],
      ['port ', '9'],
      ['ip[', '1'],
      ['ip proto \\', 'x'],
      ['', ' '],
      ['', '&'],
      ['', '='],
      ['', '\0'],
      ['', '\u{1f600}'],
      ['tcp port 80 ', 'or 443 '],
      ['host ', '10.0.0.1 or host '],
    ]) {
      isFilter((start + unit.repeat(2 ** 20)).slice(0, 2 ** 20))
    }
    const used = process.memoryUsage().rss - before
    assert.ok(used < TOO_MUCH_BYTES, `${(used / 2 ** 20).toFixed(0)} MiB`)
  })

  it(
    'takes and refuses what libpcap takes and refuses',
    { skip: tcpdumpVersion() === undefined && 'needs tcpdump' },
    async () => {
      const random = new Random(54)
      const texts = corpusExpressions().map(({ text }) => text)
      // Names may be looked up by libpcap elsewhere than in the system's files; tcpdump gets arguments without NUL.
      const candidates = [
        ...misspelt(texts, 600, 55),
        ...Array.from({ length: 400 }, () =>
          Array.from({ length: 1 + random.below(7) }, () => random.pick(WORDS)).join(' '),
        ),
      ].filter((text) => !text.includes('\0'))
      const judgements = await judge(corpusPackets().slice(0, 1), candidates)
      const wrong: string[] = []
      let taken = 0
      for (const [i, text] of candidates.entries()) {
        const judgement = judgements[i]
        const ours = isFilter(text)
        if (ours) taken++
        if (ours === judgement.accepted) continue
        wrong.push(`${JSON.stringify(text)}: libpcap ${judgement.accepted ? 'takes it' : judgement.message}`)
      }
      assert.ok(taken > 100, `${taken} taken`)
      assert.deepEqual(wrong, [], `${wrong.length} differ:\n  ${wrong.slice(0, 40).join('\n  ')}`)
    },
  )
})
