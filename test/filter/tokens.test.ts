// The scanner: the longest match wins, and what nothing matches is pointed at.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { FilterError } from '../../src/filter/index.js'
import { tokenize } from '../../src/filter/tokens.js'

const scanned = (expression: string): string =>
  tokenize(expression)
    .filter(({ kind }) => kind !== 'end')
    .map(({ kind, text, value }) => (value === undefined ? `${kind} ${text}` : `${kind} ${value}`))
    .join(', ')

function refusal(expression: string): FilterError {
  try {
    tokenize(expression)
  } catch (error) {
    if (error instanceof FilterError) return error
    throw error
  }
  throw new assert.AssertionError({ message: `${expression} was scanned` })
}

describe('tokens of a filter', () => {
  const table: [expression: string, tokens: string][] = [
    ['tcp port 80', 'keyword tcp, keyword port, number 80'],
    ['tcp&&udp||not arp', 'keyword tcp, keyword and, keyword udp, keyword or, operator !, keyword arp'],
    ['a==b!=c', 'name a, operator =, name b, operator !=, name c'],
    ['link ppp length es-is', 'keyword ether, keyword ether, keyword len, keyword esis'],
    ['TCP', 'name TCP'],
    ['\\tcp \\a-b/c', 'name tcp, name a-b/c'],
    ['10 010 0x1F 0XfF', 'number 10, number 8, number 31, number 255'],
    ['tcp-syn tcpflags icmp6-echoreply', 'number 2, number 13, number 129'],
    // A dash within a word belongs to it; one at its end does not.
    ['80-90 len-5 len - 5', 'name 80-90, name len-5, keyword len, operator -, number 5'],
    ['1.2 1.2.3.4 1.2.3.4.5 0x1.2', 'ipv4 1.2, ipv4 1.2.3.4, name 1.2.3.4.5, ipv4 0x1.2'],
    ['1:2:3:4:5:6 1-2-3-4-5-6 1.2.3.4.5.6', 'mac 1:2:3:4:5:6, mac 1-2-3-4-5-6, mac 1.2.3.4.5.6'],
    ['0011.2233.4455 001122334455', 'mac 0011.2233.4455, mac 001122334455'],
    [
      '::1 fe80:: 1:2:3:4:5:6:7:8 ::ffff:1.2.3.4',
      'ipv6 ::1, ipv6 fe80::, ipv6 1:2:3:4:5:6:7:8, ipv6 ::ffff:1.2.3.4',
    ],
    ['ether[0:4]', 'keyword ether, operator [, number 0, operator :, number 4, operator ]'],
    ['$a5', 'arcnet $a5'],
    ['  \t\r\n ', ''],
  ]
  for (const [expression, tokens] of table) {
    it(`reads ${JSON.stringify(expression)}`, () => assert.equal(scanned(expression), tokens))
  }

  it('knows where each token stands', () => {
    assert.deepEqual(
      tokenize(' ip  or\tarp').map(({ position, length }) => [position, length]),
      [
        [1, 2],
        [5, 2],
        [8, 3],
        [11, 0],
      ],
    )
  })

  const faults: [expression: string, position: number, length: number, message: RegExp][] = [
    ['tcp # udp', 4, 1, /"#" means nothing/],
    ['port 08', 5, 2, /octal/],
    ['len > 4294967296', 6, 10, /32 bits/],
    ['ether host 1:2:3:4:5', 11, 8, /MAC/],
    ['ether host 1:2:3:', 11, 6, /MAC/],
    ['host ::1.2.3.400', 5, 11, /IPv6/],
    ['a \u{1f600}', 2, 1, /\u{1f600}/u],
  ]
  for (const [expression, position, length, message] of faults) {
    it(`points into ${JSON.stringify(expression)}`, () => {
      const error = refusal(expression)
      assert.equal(error.code, 'XDP_FILTER_SYNTAX')
      assert.match(error.message, message)
      assert.deepEqual([error.position, error.length], [position, length])
    })
  }

  it('shows the expression, and below it carets under the fault', () => {
    assert.equal(
      refusal('tcp port 08 or arp').message,
      [
        '"08" begins with 0, so it is octal, but has a digit above 7',
        '  tcp port 08 or arp',
        '           ^^',
      ].join('\n'),
    )
  })

  it('shows a piece of a long expression', () => {
    const [, shown, carets] = refusal(`${'tcp or '.repeat(50)}#${' or udp'.repeat(50)}`).message.split('\n')
    assert.ok(shown.length < 120)
    assert.equal(shown[carets.indexOf('^')], '#')
    assert.match(shown, /^ {2}….*…$/)
  })
})
