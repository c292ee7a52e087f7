// The parser: what belongs to what, and what is said of what does not belong.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { FilterError } from '../../src/filter/index.js'
import { parse } from '../../src/filter/parse.js'
import { printTree } from '../../src/filter/print.js'
import { tokenize } from '../../src/filter/tokens.js'

const tree = (expression: string): string[] => printTree(parse(expression, tokenize(expression))).split('\n')

function refusal(expression: string): FilterError {
  try {
    parse(expression, tokenize(expression))
  } catch (error) {
    if (error instanceof FilterError) return error
    throw error
  }
  throw new assert.AssertionError({ message: `${expression} was parsed` })
}

describe('the syntax tree of a filter', () => {
  it('is nothing for an expression without words', () => assert.equal(parse(' ', tokenize(' ')), undefined))

  it('joins and and or from the left, alike', () => {
    assert.deepEqual(tree('tcp or udp and arp'), ['protocol tcp', 'or protocol udp', 'and protocol arp'])
  })

  it('negates one test', () => {
    assert.deepEqual(tree('not tcp and udp'), ['not', '  protocol tcp', 'and protocol udp'])
  })

  it('takes a bare name behind and and or', () => {
    assert.deepEqual(tree('tcp port 80 or 443 and not http'), [
      'qualified tcp port',
      '  number 80',
      'or number 443',
      'and not',
      '  name http',
    ])
  })

  it('takes names in parentheses behind qualifiers', () => {
    assert.deepEqual(tree('src host (a or not b)'), [
      'qualified src host',
      '  name a',
      '  or not',
      '    name b',
    ])
  })

  it('tells parentheses around tests, names and sums apart', () => {
    assert.deepEqual(tree('host a or (tcp)'), ['qualified host', '  name a', 'or group', '  protocol tcp'])
    assert.deepEqual(tree('host a or (b and c)'), ['qualified host', '  name a', 'or name b', 'and name c'])
    assert.deepEqual(tree('(len) > (5)'), ['relation >', '  length', '  number 5'])
    assert.deepEqual(tree('(5) < len'), ['relation <', '  number 5', '  length'])
    assert.deepEqual(tree('port ((80) or 90)'), ['qualified port', '  number 80', '  or number 90'])
  })

  it('takes both directions in either order', () => {
    assert.equal(tree('dst or src port 1')[0], 'qualified src or dst port')
    assert.equal(tree('src and dst 1.2.3.4')[0], 'qualified src and dst')
  })

  it('ranks operators, but neither % nor ^', () => {
    const sum = (text: string): string[] =>
      tree(`${text} = 0`)
        .slice(1, -1)
        .map((line) => line.slice(2))
    assert.deepEqual(sum('1 + 2 * 3'), [
      'operation +',
      '  number 1',
      '  operation *',
      '    number 2',
      '    number 3',
    ])
    assert.deepEqual(sum('1 * 2 + 3'), [
      'operation +',
      '  operation *',
      '    number 1',
      '    number 2',
      '  number 3',
    ])
    assert.deepEqual(sum('7 % 4 + 1'), [
      'operation %',
      '  number 7',
      '  operation +',
      '    number 4',
      '    number 1',
    ])
    assert.deepEqual(sum('2 * 6 ^ 3 & 1').slice(0, 4), [
      'operation *',
      '  number 2',
      '  operation ^',
      '    number 6',
    ])
    assert.deepEqual(sum('8 - 4 - 2'), [
      'operation -',
      '  operation -',
      '    number 8',
      '    number 4',
      '  number 2',
    ])
    assert.deepEqual(sum('- 1 * 2'), ['operation *', '  negative', '    number 1', '  number 2'])
  })

  it('reads loads within loads', () => {
    assert.deepEqual(tree('ip[ether[3]:2] != 5'), [
      'relation !=',
      '  2 of ip at',
      '    1 of ether at',
      '      number 3',
      '  number 5',
    ])
  })

  const faults: [expression: string, position: number, expected: RegExp | undefined, suggestion?: string][] =
    [
      ['tcp and', 7, /test/],
      ['tcp port', 8, /name, number or address/],
      ['tcp prot 80', 4, undefined, 'port'],
      ['hots 1.2.3.4', 0, undefined, 'host'],
      ['udp adn tcp', 4, undefined, 'and'],
      ['80', 0, /word such as host/],
      ['tcp)', 3, undefined],
      ['(tcp', 4, /"\)"/],
      ['host a or (b or tcp)', 16, /name or number/],
      ['ip[0', 4, /"\]"/],
      ['ip[0]', 0, /comparison/],
      ['len 5', 0, /comparison/],
      ['src or port 5', 7, /"dst"/],
      ['src proto 5', 4, /host, net, port/],
      ['host tcp', 5, /\\tcp/],
      ['less', 4, /length/],
      ['byte 3 / 4', 7, /& \| < > =/],
      ['net 10/8', 6, /"and", "or"/],
      ['host ((a or b))', 5, /one pair/],
      ['tcp[tcpflags] & tcp-sny = 2', 16, undefined, 'tcp-syn'],
    ]
  for (const [expression, position, expected, suggestion] of faults) {
    it(`points into ${JSON.stringify(expression)}`, () => {
      const error = refusal(expression)
      assert.equal(error.code, 'XDP_FILTER_SYNTAX')
      assert.equal(error.position, position, error.message)
      if (expected) assert.match(error.expected ?? '', expected)
      assert.equal(error.suggestion, suggestion, error.message)
    })
  }

  it('refuses tests that are about other links, and says which', () => {
    for (const [expression, about] of [
      ['inbound', /live capture/],
      ['type data', /802\.11/],
      ['wlan addr1 1:2:3:4:5:6', /802\.11/],
      ['vpi 5', /ATM/],
      ['rset foo', /packet filter/],
      ['gateway foo', /gateway/],
    ] as const) {
      const error = refusal(expression)
      assert.equal(error.code, 'XDP_FILTER_UNSUPPORTED')
      assert.match(error.message, about)
    }
  })

  it('bounds how deep and how long an expression may be', () => {
    for (const expression of [
      '('.repeat(5000),
      'not '.repeat(5000) + 'tcp',
      '-'.repeat(5000) + '1 = 1',
      `ip[0]${' + 1'.repeat(5000)} = 1`,
      'a'.repeat(2 ** 20 + 1),
    ]) {
      assert.equal(refusal(expression).code, 'XDP_FILTER_TOO_LARGE')
    }
  })
})
