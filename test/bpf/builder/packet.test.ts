// Cursors find what the dissector of src/packet finds, on good and on broken packets.
import assert from 'node:assert/strict'
import { after, describe, test } from 'node:test'
import { defineMap, defineXdp, updateChecksum } from '../../../src/bpf/builder/index.js'
import type { LoadedXdp, Transport, Value, Xdp } from '../../../src/bpf/builder/index.js'
import type { TestRunResult } from '../../../src/bpf/index.js'
import { array, struct, u32 } from '../../../src/bpf/codec.js'
import { Headers, ipv4ChecksumValid, parseHeaders } from '../../../src/packet/index.js'
import { ETH_P_ARP, ETH_P_IP, ETH_P_IPV6 } from '../../../src/packet/ethernet.js'
import { checksum } from '../../../src/packet/checksum.js'
import { randomPacket } from '../../programs/packets.js'
import { random } from './random-program.js'

const found = defineMap({
  type: 'array',
  name: 'found',
  value: struct({ type: u32, tags: u32, vlan: u32, version: u32, protocol: u32, ports: array(u32, 2) }),
  maxEntries: 1,
})

/** Writes down what it finds; `drop` says that it got through to the end, `pass` that a header was short or malformed. */
const dissector = defineXdp('dissector', (x) => {
  const slot = x.lookup(found, 0).orReturn('aborted')
  const eth = x.packet.ethernet({ vlans: 2 })
  slot.type.set(eth.type.host().u32())
  slot.tags.set(eth.tags)
  slot.vlan.set(eth.vlan.u32())
  const ports = (transport: Transport, protocol: Value<'u8'>): void => {
    slot.protocol.set(protocol.u32())
    x.if(protocol.eq(17), () => {
      const udp = transport.udp()
      slot.ports.at(0).set(udp.srcPort.host().u32())
      slot.ports.at(1).set(udp.dstPort.host().u32())
    }).elseIf(protocol.eq(6), () => {
      const tcp = transport.tcp()
      slot.ports.at(0).set(tcp.srcPort.host().u32())
      slot.ports.at(1).set(tcp.dstPort.host().u32())
    })
  }
  x.if(eth.type.eq(ETH_P_IP), () => {
    const transport = eth.ipv4().transport()
    slot.version.set(4)
    ports(transport, transport.protocol)
    return 'drop'
  })
    .elseIf(eth.type.eq(ETH_P_IPV6), () => {
      const transport = eth.ipv6().transport()
      slot.version.set(6)
      ports(transport, transport.protocol)
      return 'drop'
    })
    .elseIf(eth.type.eq(ETH_P_ARP), () => {
      eth.arp()
      return 'drop'
    })
  return 'tx'
})

describe('cursors', () => {
  let loaded: LoadedXdp | undefined
  after(() => loaded?.close())

  test('find types, tags, protocols and ports where the dissector finds them', () => {
    loaded = dissector.load()
    const map = loaded.map(found)
    const next = random(3)
    const headers = new Headers()
    const seen = { 4: 0, 6: 0, tags: 0, ports: 0, short: 0 }
    for (let i = 0; i < 10_000; i++) {
      const packet = randomPacket(next)
      map.update(0, { type: 0, tags: 0, vlan: 0, version: 0, protocol: 0, ports: [0, 0] })
      const { verdict }: TestRunResult = loaded.program.testRun({ packet })
      const value = map.lookup(0)!
      const parsed = parseHeaders(packet, 0, packet.length, headers)
      const about: string = `${Buffer.from(packet).toString('hex')} ${verdict} ${JSON.stringify(value)} ${JSON.stringify(parsed)}`
      assert.notEqual(verdict, 'aborted')
      // A third tag is a type to the program, and one more tag to the dissector.
      if (parsed.vlanCount > 2 || parsed.problem === 'short-vlan') continue
      assert.equal(value.type, parsed.etherType, about)
      assert.equal(value.tags, parsed.vlanCount, about)
      assert.equal(value.vlan, Math.max(0, parsed.outerVlan), about)
      if (verdict === 'tx') {
        assert.ok(![ETH_P_IP, ETH_P_IPV6, ETH_P_ARP].includes(parsed.etherType), about)
      } else if (verdict === 'drop' && parsed.etherType !== ETH_P_ARP) {
        assert.equal(value.version, parsed.ipVersion || value.version, about)
        seen[value.version as 4 | 6]++
        // The dissector stops at a hop-by-hop header that is not the first; the program goes on.
        if (parsed.l4Offset >= 0) {
          assert.equal(value.protocol, parsed.protocol, about)
        }
        if (parsed.srcPort >= 0) {
          assert.deepEqual(value.ports, [parsed.srcPort, parsed.dstPort], about)
          seen.ports++
        }
      } else if (verdict === 'pass') {
        assert.ok(parsed.problem !== 'none' || parsed.fragment === 'later', about)
        seen.short++
      }
      if (value.tags > 0) seen.tags++
    }
    for (const [what, count] of Object.entries(seen)) assert.ok(count > 300, `${what}: ${count}`)
  })
})

describe('fragments', () => {
  const v6 = (...chain: number[]): Uint8Array =>
    Uint8Array.from([...Array<number>(12).fill(2), 0x86, 0xdd, 0x60, ...Array<number>(5).fill(0), ...chain])
  const address = Array<number>(33).fill(1)
  const fragment = (next: number, offset: number): number[] => [
    next,
    0,
    offset >> 8,
    offset & 0xff,
    0,
    0,
    0,
    1,
  ]
  const udp = [0, 50, 0, 60, 0, 8, 0, 0]
  const cases: [string, Uint8Array, 'first' | 'any', number][] = [
    ['a whole datagram', v6(17, ...address, ...udp), 'any', 1700 + 50],
    [
      'a first fragment, stopped at',
      v6(44, ...address, ...fragment(60, 1), 17, 0, ...Array<number>(14).fill(0)),
      'any',
      6001,
    ],
    ['a later fragment', v6(44, ...address, ...fragment(17, 0xb8), ...udp), 'any', 1701],
    ['an atomic fragment', v6(44, ...address, ...fragment(17, 0), ...udp), 'any', 1700 + 50],
    ['a first fragment', v6(44, ...address, ...fragment(17, 1), ...udp), 'first', 1700 + 50],
    ['a later fragment, left out', v6(44, ...address, ...fragment(17, 0xb8), ...udp), 'first', 0],
  ]
  for (const [what, packet, fragments, expected] of cases) {
    test(`IPv6: ${what}`, () => {
      const loaded = defineXdp('fragments', { otherwise: 'aborted' }, (x) => {
        const transport = x.packet.ethernet().ipv6().transport({ fragments })
        const out = x.let(transport.protocol.u32().mul(100))
        const ports = () => out.set(out.value.add(transport.ports().srcPort.host().u32()))
        if (fragments === 'first') ports()
        else x.if(transport.isFragment, () => out.set(out.value.add(1))).else(ports)
        return x.verdict(out.value)
      }).load()
      try {
        assert.equal(loaded.program.testRun({ packet }).returnValue, expected)
      } finally {
        loaded.close()
      }
    })
  }
  test('IPv4: any fragment is told, the header of a later one not looked at', () => {
    const loaded = defineXdp('fragments', (x) => {
      const transport = x.packet.ethernet().ipv4().transport({ fragments: 'any' })
      x.require(transport.isFragment)
      return 'drop'
    }).load()
    try {
      const verdicts = [0, 0x4000, 0x2000, 0x2010, 0x00b9].map((part) => {
        const packet = new Uint8Array(34)
        packet.set([8, 0, 0x45], 12)
        packet.set([part >> 8, part & 0xff], 20)
        return loaded.program.testRun({ packet }).verdict
      })
      assert.deepEqual(verdicts, ['pass', 'pass', 'drop', 'drop', 'drop'])
    } finally {
      loaded.close()
    }
  })
  test('later fragments are told from first ones, which have their ports', () => {
    const loaded = defineXdp('later', (x) => {
      const eth = x.packet.ethernet()
      const judge = (transport: Transport): void => {
        x.if(transport.isLater, () => 'drop')
        x.require(transport.protocol.eq(17).and(transport.ports().dstPort.eq(53)))
      }
      x.if(eth.type.eq(ETH_P_IP), () => judge(eth.ipv4().transport({ fragments: 'later' }))).else(() =>
        judge(eth.ipv6().transport({ fragments: 'later' })),
      )
      return 'tx'
    }).load()
    const verdictOf = (header: number[], at: number): string | undefined => {
      const packet = new Uint8Array(80)
      packet.set(header, 12)
      packet.set([0, 53], at + 2)
      return loaded.program.testRun({ packet }).verdict
    }
    try {
      const ipv4 = [0, 0x4000, 0x2000, 0x2010, 0x00b9].map((part) =>
        verdictOf([8, 0, 0x45, 0, 0, 60, 0, 0, part >> 8, part & 0xff, 64, 17], 34),
      )
      assert.deepEqual(ipv4, ['tx', 'tx', 'tx', 'drop', 'drop'])
      const ipv6 = [0, 0x0001, 0x0009, 0x0010].map((part) => {
        const header = [0x86, 0xdd, 0x60, 0, 0, 0, 0, 26, 44, 64, ...Array<number>(32).fill(0)]
        return verdictOf([...header, 17, 255, part >> 8, part & 0xff, 0, 0, 0, 1], 62)
      })
      assert.deepEqual(ipv6, ['tx', 'tx', 'drop', 'drop'])
    } finally {
      loaded.close()
    }
  })
  test('whether it is one is known only where all were let through', () => {
    assert.throws(
      () => defineXdp('left_out', (x) => x.require(x.packet.ethernet().ipv4().transport().isFragment)),
      /was not found with transport\(\{ fragments: 'any' \}\)/,
    )
  })
})

describe('rewriting', () => {
  const ipv4 = (next: ReturnType<typeof random>): Uint8Array => {
    const packet = Uint8Array.from({ length: 60 }, () => next(256))
    packet.set([8, 0, 0x45], 12)
    packet.set([0, 0], 24)
    const sum = checksum(packet, 14, 20)
    packet.set([sum >> 8, sum & 0xff], 24)
    return packet
  }

  const check = (
    t: string,
    body: (x: Xdp) => undefined | void,
    changed: (before: Uint8Array, now: Uint8Array) => void,
  ): void => {
    test(t, () => {
      const program = defineXdp('rewrite', body).load()
      try {
        const next = random(5)
        for (let i = 0; i < 2000; i++) {
          const packet = ipv4(next)
          if (packet[22] === 0) packet[22] = 1
          packet.set([0, 0], 24)
          const sum = checksum(packet, 14, 20)
          packet.set([sum >> 8, sum & 0xff], 24)
          const { packet: now } = program.program.testRun({ packet })
          assert.ok(ipv4ChecksumValid(now, 14), Buffer.from(packet).toString('hex'))
          changed(packet, now)
        }
      } finally {
        program.close()
      }
    })
  }

  check(
    'the time to live falls by one',
    (x) => x.packet.ethernet().ipv4().decrementTtl(),
    (before, now) => assert.equal(now[22], before[22] - 1),
  )
  check(
    'addresses are replaced',
    (x) => {
      const ip = x.packet.ethernet().ipv4()
      ip.rewriteSrc(0x0a00_0001)
      ip.rewriteDst(ip.identification.u16().u32().shl(16).or(7).network())
    },
    (before, now) => {
      assert.deepEqual([...now.subarray(26, 30)], [10, 0, 0, 1])
      assert.deepEqual([...now.subarray(30, 34)], [before[18], before[19], 0, 7])
    },
  )
  check(
    'any field is replaced, and the checksum told',
    (x) => {
      const ip = x.packet.ethernet().ipv4()
      const [before, after] = [ip.identification.or(0), x.value('be16', 0xbeef)]
      ip.identification.set(after)
      updateChecksum(ip.checksum, before, after)
    },
    (_, now) => assert.deepEqual([...now.subarray(18, 20)], [0xbe, 0xef]),
  )
})
