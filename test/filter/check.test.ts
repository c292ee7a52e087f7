// The checks: what bare names inherit, where names come from, and what cannot be meant.
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import {
  FilterError,
  type FilterErrorCode,
  type Resolver,
  compileFilter,
  fileResolver,
} from '../../src/filter/index.js'

const HOSTS: Record<string, Uint8Array[]> = {
  four: [Uint8Array.of(10, 0, 0, 4)],
  six: [Uint8Array.of(0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 6)],
  both: [Uint8Array.of(10, 0, 0, 4), Uint8Array.of(0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 6)],
}

const SERVICES: Record<'tcp' | 'udp', Record<string, number>> = {
  tcp: { web: 80, dns: 53, split: 1 },
  udp: { dns: 53, log: 514, split: 2 },
}

const resolve: Resolver = {
  host: (name) => HOSTS[name] ?? [],
  network: (name) => ({ whole: 0x0a000000, short: 0x0a01 })[name],
  ether: (name) => (name === 'mac' ? Uint8Array.of(2, 0, 0, 0, 0, 1) : undefined),
  service: (name, transport) => SERVICES[transport][name],
  protocol: (name) => ({ tcp: 6, ospf: 89 })[name],
  names: (kind) => Object.keys(kind === 'host' ? HOSTS : { ...SERVICES.tcp, ...SERVICES.udp }),
}

const checked = (expression: string): string[] =>
  compileFilter(expression, { resolve }).explain().checked.split('\n')

function refusal(expression: string): FilterError {
  try {
    compileFilter(expression, { resolve })
  } catch (error) {
    if (error instanceof FilterError) return error
    throw error
  }
  throw new assert.AssertionError({ message: `${expression} was compiled` })
}

describe('the checked tree of a filter', () => {
  it('hands qualifiers on to bare names', () => {
    assert.deepEqual(checked('tcp src port 80 or 443'), [
      'port 80 to 80, src, over tcp',
      'or port 443 to 443, src, over tcp',
    ])
    assert.deepEqual(
      checked('host 10.0.0.1 and not 10.0.0.2')[2],
      '  ipv4 10.0.0.2 mask 255.255.255.255, src or dst, in any',
    )
  })

  it('goes on behind parentheses as before them', () => {
    assert.equal(
      checked('port 80 or (udp port 53) or 90').at(-1),
      'or port 90 to 90, src or dst, over tcp, udp or sctp',
    )
    assert.equal(refusal('(port 80) or 90').position, 13)
  })

  it('hands nothing on behind a test that has no qualifiers', () => {
    const error = refusal('tcp or four')
    assert.equal(error.code, 'XDP_FILTER_SYNTAX')
    assert.equal(error.position, 7)
  })

  const meanings: [expression: string, meaning: string[]][] = [
    [
      'host four and 1 = 1',
      [
        'ipv4 10.0.0.4 mask 255.255.255.255, src or dst, in any',
        'and relation =',
        '  number 1',
        '  number 1',
      ],
    ],
    [
      'host both',
      [
        'ipv4 10.0.0.4 mask 255.255.255.255, src or dst, in any',
        'or ipv6 fd00::6 mask ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff, src or dst',
      ],
    ],
    ['ip host both', ['ipv4 10.0.0.4 mask 255.255.255.255, src or dst, in ip']],
    ['ip6 dst both', ['ipv6 fd00::6 mask ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff, dst']],
    ['arp host 1.2.3.4', ['ipv4 1.2.3.4 mask 255.255.255.255, src or dst, in arp']],
    ['net 10', ['ipv4 10.0.0.0 mask 255.0.0.0, src or dst, in any']],
    ['host 10', ['ipv4 0.0.0.10 mask 255.255.255.255, src or dst, in any']],
    ['net 10.1', ['ipv4 10.1.0.0 mask 255.255.0.0, src or dst, in any']],
    ['net 10.1.0.0/20', ['ipv4 10.1.0.0 mask 255.255.240.0, src or dst, in any']],
    ['net 10.1 mask 255.255', ['ipv4 10.1.0.0 mask 255.255.0.0, src or dst, in any']],
    ['net 0.0.0.0/0', ['ipv4 0.0.0.0 mask 0.0.0.0, src or dst, in any']],
    ['net whole', ['ipv4 10.0.0.0 mask 255.255.255.255, src or dst, in any']],
    ['net short', ['ipv4 10.1.0.0 mask 255.255.0.0, src or dst, in any']],
    ['net fd00::/9', ['ipv6 fd00:: mask ff80::, src or dst']],
    ['ether src mac', ['mac 02:00:00:00:00:01, src']],
    ['ether host 1.2.3.4.5.f', ['mac 01:02:03:04:05:0f, src or dst']],
    ['ether host 0011.2233.4455', ['mac 00:11:22:33:44:55, src or dst']],
    ['port web', ['port 80 to 80, src or dst, over tcp']],
    ['port dns', ['port 53 to 53, src or dst, over tcp, udp or sctp']],
    ['udp port dns', ['port 53 to 53, src or dst, over udp']],
    ['port split', ['port 1 to 1, src or dst, over tcp']],
    ['portrange 90-80', ['port 80 to 90, src or dst, over tcp, udp or sctp']],
    ['portrange web-log', ['port 80 to 514, src or dst, over tcp, udp or sctp']],
    ['ip proto ospf', ['proto 89 in ip']],
    ['proto \\tcp', ['proto 6 in any']],
    ['ether proto \\ip6', ['proto 34525 in ether']],
    ['ether proto \\stp', ['proto 66 in ether']],
    ['iso proto \\clnp', ['proto 129 in iso']],
    ['decnet host 1.5', ['decnet 1.5, src or dst']],
    ['llc rnr', ['llc control & 0xf = 0x5']],
    ['vlan', ['vlan any']],
  ]
  for (const [expression, meaning] of meanings) {
    it(`means by ${expression} what libpcap means`, () => assert.deepEqual(checked(expression), meaning))
  }

  const faults: [expression: string, code: FilterErrorCode, position: number][] = [
    ['tcp host 1.2.3.4', 'XDP_FILTER_MEANING', 9],
    ['ip host ::1', 'XDP_FILTER_MEANING', 8],
    ['ip6 host 1.2.3.4', 'XDP_FILTER_MEANING', 9],
    ['host 1.2.3.256', 'XDP_FILTER_MEANING', 5],
    ['host 10.0.0.0/8', 'XDP_FILTER_MEANING', 5],
    ['net 10.0.0.1/8', 'XDP_FILTER_MEANING', 4],
    ['net 10.0.0.0/33', 'XDP_FILTER_MEANING', 4],
    ['net fd00::1/64', 'XDP_FILTER_MEANING', 4],
    ['host 1:2:3:4:5:6', 'XDP_FILTER_MEANING', 5],
    ['port 65536', 'XDP_FILTER_MEANING', 5],
    ['icmp port 80', 'XDP_FILTER_MEANING', 10],
    ['udp port web', 'XDP_FILTER_MEANING', 9],
    ['tcp proto 5', 'XDP_FILTER_MEANING', 10],
    ['arp protochain 5', 'XDP_FILTER_MEANING', 15],
    ['arp broadcast', 'XDP_FILTER_MEANING', 0],
    ['ether', 'XDP_FILTER_MEANING', 0],
    ['vlan 4096', 'XDP_FILTER_MEANING', 0],
    ['ip[0:3] = 1', 'XDP_FILTER_MEANING', 0],
    ['1 / 0 = 1', 'XDP_FILTER_MEANING', 4],
    ['5 / (1 - 1) = 1', 'XDP_FILTER_MEANING', 0],
    ['1 << 32 = 1', 'XDP_FILTER_MEANING', 5],
    ['llc foo', 'XDP_FILTER_MEANING', 0],
    ['esp[0] = 1', 'XDP_FILTER_UNSUPPORTED', 0],
    ['mpls and arp', 'XDP_FILTER_UNSUPPORTED', 9],
    ['pppoes and vlan', 'XDP_FILTER_UNSUPPORTED', 11],
    ['host nobody', 'XDP_FILTER_UNKNOWN_NAME', 5],
    ['ip host six', 'XDP_FILTER_UNKNOWN_NAME', 8],
    ['net nobody', 'XDP_FILTER_UNKNOWN_NAME', 4],
    ['port nobody', 'XDP_FILTER_UNKNOWN_NAME', 5],
    ['proto nobody', 'XDP_FILTER_UNKNOWN_NAME', 6],
    ['1 = 2', 'XDP_FILTER_NEVER', 0],
    ['tcp and not tcp', 'XDP_FILTER_NEVER', 0],
  ]
  for (const [expression, code, position] of faults) {
    it(`refuses ${expression}`, () => {
      const error = refusal(expression)
      assert.deepEqual([error.code, error.position], [code, position], error.message)
    })
  }

  it('suggests a name for a misspelt one', () => {
    assert.equal(refusal('host fuor').suggestion, 'four')
    assert.equal(refusal('tcp port wbe').suggestion, 'web')
    assert.equal(refusal('host nothing-like-it').suggestion, undefined)
    // It is there, but not for IPv6.
    assert.equal(refusal('ip6 host four').suggestion, undefined)
    const nameless = { ...resolve, names: () => [] }
    assert.throws(() => compileFilter('host fuor', { resolve: nameless }), /No host is called "fuor"\n/)
  })

  it('looks names up in files of the usual form', () => {
    const folder = mkdtempSync(join(tmpdir(), 'filter-names-'))
    const file = (name: string, text: string): string => {
      writeFileSync(join(folder, name), text)
      return join(folder, name)
    }
    try {
      const files = fileResolver({
        hosts: file('hosts', '10.0.0.7 seven.example Seven # one\nfd00::7 seven\nnonsense seven\n'),
        networks: file('networks', 'ours 10.1\n'),
        ethers: file('ethers', '2:0:0:0:0:7 seven\n'),
        services: file('services', 'web 80/tcp www\nweb 81/udp\n'),
        protocols: file('protocols', 'ospf 89 OSPFIGP\n'),
      })
      assert.deepEqual(files.host('seven'), [
        Uint8Array.of(10, 0, 0, 7),
        new Uint8Array(16).map((_, i) => [0xfd, ...Array<number>(14).fill(0), 7][i]),
      ])
      assert.deepEqual(files.host('eight'), [])
      assert.equal(files.network('ours'), 0x0a010000)
      assert.deepEqual(files.ether('seven'), Uint8Array.of(2, 0, 0, 0, 0, 7))
      assert.deepEqual(
        [files.service('www', 'tcp'), files.service('web', 'udp'), files.service('www', 'udp')],
        [80, 81, undefined],
      )
      assert.equal(files.protocol('OSPFIGP'), 89)
      assert.deepEqual(files.names?.('service'), ['web', 'www', 'web'])
      assert.ok(files.names?.('host').includes('seven.example'))
    } finally {
      rmSync(folder, { recursive: true })
    }
    assert.deepEqual(fileResolver({ hosts: join(folder, 'gone') }).host('seven'), [])
  })
})
