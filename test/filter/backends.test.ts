// The three forms of a filter beside each other: the predicate, classic BPF, and XDP programs with a filter in them.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type XdpDefinition, defineXdp } from '../../src/bpf/builder/index.js'
import {
  type Filter,
  compileFilter,
  defineFilterProgram,
  matchFilter,
  requireMatch,
} from '../../src/filter/index.js'
import { type PacketDescription, buildPacket } from '../../src/packet/build.js'
import { needsRoot } from '../support/lab.js'
import { readClassic, refusal, runClassic } from './classic.js'

const packet = (more: PacketDescription): Uint8Array => buildPacket({ padTo: 60, ...more })

const src = Uint8Array.of(10, 0, 0, 1)
const dst = Uint8Array.of(10, 0, 0, 2)
const web = packet({
  ipv4: { src, dst },
  tcp: { srcPort: 4000, dstPort: 80, flags: 2 },
})
const dns = packet({ ipv4: { src, dst }, udp: { srcPort: 4000, dstPort: 53 } })

const classicTakes = (filter: Filter, bytes: Uint8Array, wireLength = bytes.length): boolean => {
  const program = readClassic(filter.toClassicBpf())
  assert.equal(refusal(program), undefined)
  return runClassic(program, bytes, wireLength) !== 0
}

/** An authentication header, or as many as wanted, in front of TCP over IPv6. */
function chained(headers: number): Uint8Array {
  const bytes = new Uint8Array(14 + 40 + 8 * headers + 20)
  bytes.set([0x86, 0xdd], 12)
  bytes[14] = 0x60
  // Destination options, each of eight bytes, the last of which is followed by TCP.
  bytes[20] = headers > 0 ? 60 : 6
  for (let one = 0; one < headers; one++) bytes[54 + 8 * one] = one < headers - 1 ? 60 : 6
  return bytes
}

/** A packet for fd00::`host`. */
function toHost(host: number): Uint8Array {
  const bytes = chained(0)
  bytes.set([0xfd, 0], 38)
  new DataView(bytes.buffer).setUint16(52, host)
  return bytes
}

/** Hosts that come to somewhat more than 4096 instructions of classic BPF. */
const LARGE = 240
const large = compileFilter(
  Array.from({ length: LARGE }, (_, host) => `host fd00::${host.toString(16)}`).join(' or '),
)

describe('the forms of a filter', () => {
  it('are libpcap code for classic BPF', () => {
    assert.equal(
      compileFilter('ip and greater 100', { snapLength: 96 }).explain().classic,
      [
        '(000) ldh      [12]',
        '(001) jeq      #0x800           jt 2\tjf 5',
        '(002) ld       #pktlen',
        '(003) jge      #0x64            jt 4\tjf 5',
        '(004) ret      #96',
        '(005) ret      #0',
      ].join('\n'),
    )
  })

  it('take everything without words', () => {
    const filter = compileFilter('  ')
    assert.ok(filter.matches(new Uint8Array(0)))
    assert.ok(classicTakes(filter, new Uint8Array(0)))
  })

  it('look only at the bytes they are given', () => {
    const filter = compileFilter('tcp dst port 80')
    const around = new Uint8Array(web.length + 20).fill(0xff)
    around.set(web, 7)
    assert.ok(filter.matches(around, 7, web.length))
    assert.ok(!filter.matches(around, 6, web.length))
    // The port is in bytes 36 and 37.
    assert.ok(filter.matches(around, 7, 38))
    assert.ok(!filter.matches(around, 7, 37))
    assert.ok(!filter.matches(web.subarray(0, 37)))
  })

  it('fail a packet that is too short for a test, negated or not', () => {
    for (const expression of [
      'ether[100] = 0',
      'not ether[100] = 0',
      'ether[100:4] > 1',
      'ip[len] = 0 or tcp',
    ]) {
      const filter = compileFilter(expression)
      assert.ok(!filter.matches(web), expression)
      assert.ok(!classicTakes(filter, web), expression)
    }
  })

  it('count the length on the wire', () => {
    const filter = compileFilter('len > 1000')
    assert.ok(filter.matches(web, 0, web.length, 1500))
    assert.ok(!filter.matches(web))
    assert.ok(classicTakes(filter, web, 1500))
  })

  it('compute with 32 bits, unsigned', () => {
    // The first byte of the packet is 2, its third is 0: what the optimizer cannot know.
    for (const truth of [
      'ether[0] - 3 = 0xffffffff',
      'ether[0] - 3 > 5',
      '(ether[0] - 3) * (ether[0] - 3) = 1',
      '(ether[0] - 3) / ether[6] = 0x7fffffff',
      '-ether[0] > 5',
      '(ether[0] + 5) % 4 + 1 = 2',
      '(ether[0] << 31) = 0',
    ]) {
      const filter = compileFilter(truth)
      assert.ok(filter.matches(web), truth)
      assert.ok(classicTakes(filter, web), truth)
    }
    for (const divided of ['len / ether[2] = 0', 'len % ether[2] = 0', 'not len / ether[2] = 5']) {
      const filter = compileFilter(divided)
      assert.ok(!filter.matches(web), divided)
      assert.ok(!classicTakes(filter, web), divided)
    }
  })

  it('shift everything out by 32 and more', () => {
    // The packet is 60 bytes long, and its first is 2.
    const filter = compileFilter('ip and (ether[0] << len) = 0 and (ether[0] >> len) = 0')
    assert.ok(filter.matches(web))
    assert.ok(classicTakes(filter, web))
  })

  it('give offsets beyond all packets no meaning of the kernel', () => {
    const filter = compileFilter('ether[-1] = 0')
    assert.ok(!filter.matches(web))
    assert.ok(!classicTakes(filter, web))
  })

  it('find nothing at offsets that are computed beyond 32 bits', () => {
    // The first byte is 2: X is 2^32 - 1, and the IP header begins at 14.
    const filter = compileFilter('ip[ether[0] - 3] = ip[ether[0] - 3]')
    assert.ok(!filter.matches(web))
    assert.ok(!classicTakes(filter, web))
    // Where X is no more than the length of a header, nothing is asked.
    const usual = compileFilter('tcp port 80')
    assert.equal(usual.toClassicBpf().length / 8, usual.program.length)
  })

  it('follow up to 16 headers of a chain', () => {
    const filter = compileFilter('ip6 protochain 6')
    for (const [headers, taken] of [
      [0, true],
      [1, true],
      [15, true],
      [16, false],
    ] as const) {
      assert.equal(filter.matches(chained(headers)), taken, `${headers} headers`)
      assert.equal(classicTakes(filter, chained(headers)), taken, `${headers} headers`)
    }
  })

  it('help jumps that reach further than 255 instructions', () => {
    const filter = compileFilter(
      Array.from({ length: 150 }, (_, port) => `tcp port ${port * 2}`).join(' or '),
    )
    const program = readClassic(filter.toClassicBpf())
    assert.ok(program.length > filter.program.length)
    assert.ok(classicTakes(filter, web))
    assert.ok(!classicTakes(filter, dns))
  })

  it('are larger than classic BPF may be, and say so only when asked for that', () => {
    const lines = large.explain().classic.split('\n').length
    assert.ok(lines > 4096)
    assert.throws(() => large.toClassicBpf(), {
      name: 'FilterError',
      code: 'XDP_FILTER_TOO_LARGE',
      message: new RegExp(
        `^The filter comes to ${lines} instructions of classic BPF; the kernel takes 4096 `,
      ),
    })
    assert.ok(large.matches(toHost(LARGE - 1)))
    assert.ok(!large.matches(toHost(LARGE)))
  })

  it('take thousands of addresses', () => {
    const hosts = Array.from({ length: 1500 }, (_, host) => `host 10.0.${host >> 8}.${host & 255}`)
    const filter = compileFilter(hosts.join(' or '))
    const from = (third: number, fourth: number): Uint8Array =>
      packet({ ipv4: { src: Uint8Array.of(10, 0, third, fourth), dst: Uint8Array.of(9, 9, 9, 9) } })
    assert.ok(filter.matches(from(0, 0)))
    assert.ok(filter.matches(from(1499 >> 8, 1499 & 255)))
    assert.ok(!filter.matches(from(1500 >> 8, 1500 & 255)))
  })

  it('say whether they ask for VLAN tags', () => {
    assert.ok(compileFilter('ip or not (vlan 5 and tcp)').asksForTags)
    assert.ok(!compileFilter('ip or mpls').asksForTags)
    assert.ok(!compileFilter('').asksForTags)
  })

  it('explain each of their stages', () => {
    const stages = compileFilter('tcp port 80').explain()
    for (const [name, text] of Object.entries(stages) as [string, string][]) assert.ok(text.length > 10, name)
    assert.match(stages.ir, /^block 0\n {2}ldh \[12\]\n/)
    assert.match(stages.ebpf, /exit$/)
    assert.ok(stages.optimised.length < stages.ir.length)
  })
})

const run = (definition: XdpDefinition, bytes: Uint8Array): string => {
  using loaded = definition.load()
  return `${loaded.program.testRun({ packet: bytes }).verdict}`
}

describe('filters in XDP programs', { skip: needsRoot }, () => {
  it('answer by themselves', () => {
    const program = defineFilterProgram(compileFilter('tcp port 80'), { match: 'tx', otherwise: 'drop' })
    assert.equal(run(program, web), 'tx')
    assert.equal(run(program, dns), 'drop')
    assert.equal(run(program, web.subarray(0, 37)), 'drop')
  })

  it('stand in front of a program', () => {
    const program = (filter: Filter | undefined) =>
      defineXdp('behind', (x) => {
        requireMatch(x, filter)
        return 'tx'
      })
    assert.equal(run(program(compileFilter('udp')), web), 'pass')
    assert.equal(run(program(compileFilter('udp')), dns), 'tx')
    assert.equal(run(program(undefined), web), 'tx')
  })

  it('are conditions among others, several in one program', () => {
    const program = defineXdp('both', (x) => {
      x.if(matchFilter(x, compileFilter('tcp')), () => 'tx').elseIf(x.packet.length.gt(1000), () => 'aborted')
      x.if(matchFilter(x, compileFilter('udp port 53')).not(), () => 'pass')
      return 'drop'
    })
    assert.equal(run(program, web), 'tx')
    assert.equal(run(program, dns), 'drop')
    assert.equal(run(program, packet({ ipv4: { src, dst }, udp: { srcPort: 1, dstPort: 2 } })), 'pass')
  })

  it('may be larger than classic BPF', () => {
    const program = defineFilterProgram(large, { match: 'tx', otherwise: 'drop' })
    assert.equal(run(program, toHost(LARGE - 1)), 'tx')
    assert.equal(run(program, toHost(LARGE)), 'drop')
  })

  it('follow chains and tunnels', () => {
    const chain = defineFilterProgram(compileFilter('ip6 protochain 6'), { match: 'tx', otherwise: 'drop' })
    assert.equal(run(chain, chained(15)), 'tx')
    assert.equal(run(chain, chained(16)), 'drop')
  })
})
