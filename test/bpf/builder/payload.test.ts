// What UDP and TCP carry, and checksums that follow bytes: beside plain TypeScript, over generated packets.
import assert from 'node:assert/strict'
import { describe, test, type TestContext } from 'node:test'
import {
  type LoadedXdp,
  type Value,
  type Xdp,
  defineMap,
  defineXdp,
  updateChecksum,
} from '../../../src/bpf/builder/index.js'
import { bytes, struct, u32 } from '../../../src/bpf/codec.js'
import { OptionError } from '../../../src/kernel/errors.js'
import { checksum } from '../../../src/packet/checksum.js'
import { needsRoot } from '../../support/lab.js'
import { type Random, random } from './random-program.js'

const ETHERNET = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]
const NEW = Uint8Array.from([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0xfe, 0xdc, 0, 0, 0, 0, 0xff, 0xff])

const anyBytes = (next: Random, length: number): number[] => Array.from({ length }, () => next(256))

const load = (t: TestContext, body: (x: Xdp) => undefined | 'drop'): LoadedXdp => {
  const loaded = defineXdp('payload', { otherwise: 'aborted' }, body).load()
  t.after(() => loaded.close())
  return loaded
}

describe('what TCP carries', { skip: needsRoot }, () => {
  const found = defineMap({
    type: 'array',
    name: 'found',
    value: struct({ headerLength: u32, urgent: u32, at: u32, first: bytes(4), again: bytes(4) }),
    maxEntries: 1,
  })

  test('begins behind the options, however long they are and IP has', (t) => {
    const { program, map } = ((loaded) => ({ program: loaded.program, map: loaded.map(found) }))(
      load(t, (x) => {
        const slot = x.lookup(found, 0).orReturn()
        const tcp = x.packet.ethernet().ipv4().transport().tcp()
        slot.headerLength.set(tcp.headerLength)
        slot.urgent.set(tcp.urgentPointer.host().u32())
        slot.at.set(tcp.payloadOffset)
        slot.first.set(tcp.payload(0, 4))
        slot.again.set(x.packet.bytesAt(tcp.payloadOffset, 4))
        return 'drop'
      }),
    )
    const next = random(11)
    const seen = { drop: 0, aborted: 0 }
    for (let i = 0; i < 3000; i++) {
      const [words, ipWords, length] = [next(16), 5 + next(11), next(12)]
      const ip = [0x40 | ipWords, 0, 0, 200, 0, 0, 0, 0, 64, 6, ...anyBytes(next, 10 + (ipWords - 5) * 4)]
      const tcp = [...anyBytes(next, 12), words << 4, ...anyBytes(next, 7)]
      const rest = anyBytes(next, Math.max(0, words - 5) * 4 + length)
      const packet = Uint8Array.from([...ETHERNET, 8, 0, ...ip, ...tcp, ...rest])
      const { verdict } = program.testRun({ packet })
      assert.equal(verdict, words < 5 || length < 4 ? 'aborted' : 'drop')
      seen[verdict]++
      if (verdict !== 'drop') continue
      const at = 14 + ipWords * 4 + words * 4
      const wanted = packet.slice(at, at + 4)
      assert.deepEqual(map.lookup(0), {
        headerLength: words * 4,
        urgent: (tcp[18] << 8) | tcp[19],
        at,
        first: wanted,
        again: wanted,
      })
    }
    assert.ok(seen.drop > 1000 && seen.aborted > 1000, JSON.stringify(seen))
  })

  test('and UDP, behind its eight bytes', (t) => {
    const { program } = load(t, (x) => {
      const udp = x.packet.ethernet().ipv6().transport().udp()
      const mark = udp.payload(2, 2).field(0, 'be16')
      x.require(mark.eq(0xbeef).and(udp.payloadOffset.eq(62)))
      return 'drop'
    })
    const packet = udp6(random(1), 4)
    assert.equal(program.testRun({ packet }).verdict, 'aborted')
    packet.set([0xbe, 0xef], 64)
    assert.equal(program.testRun({ packet }).verdict, 'drop')
    assert.equal(program.testRun({ packet: packet.subarray(0, 65) }).verdict, 'aborted')
  })
})

/** UDP over IPv6, its checksum right. */
function udp6(next: Random, length = 2 * next(20)): Uint8Array {
  const size = 8 + length
  const packet = Uint8Array.from([
    ...ETHERNET,
    ...[0x86, 0xdd, 0x60, 0, 0, 0, 0, size, 17, 64],
    ...anyBytes(next, 32),
    ...anyBytes(next, 4),
    ...[0, size, 0, 0],
    ...anyBytes(next, length),
  ])
  setChecksum(packet)
  return packet
}

const udpChecksum = (packet: Uint8Array): number => {
  const bare = packet.slice()
  bare.set([0, 0], 60)
  return transportSum(bare)
}

/** Of the pseudo header and the datagram (RFC 8200, section 8.1). */
function transportSum(packet: Uint8Array): number {
  const size = packet.length - 54
  const whole = Uint8Array.from([
    ...packet.subarray(22, 54),
    ...[0, 0, size >> 8, size & 0xff, 0, 0, 0, 17],
    ...packet.subarray(54),
  ])
  return checksum(whole, 0, whole.length) || 0xffff
}

function setChecksum(packet: Uint8Array): void {
  const sum = udpChecksum(packet)
  packet.set([sum >> 8, sum & 0xff], 60)
}

describe('a checksum that follows bytes', { skip: needsRoot }, () => {
  const sumOf = (packet: Uint8Array): number => (packet[60] << 8) | packet[61]

  test('is right for IPv6 addresses that were replaced, by known ones and by others', (t) => {
    const { program } = load(t, (x) => {
      const ip = x.packet.ethernet().ipv6()
      const udp = ip.transport({ extensions: 0 }).udp()
      updateChecksum(udp.checksum, ip.src, NEW, { protocol: 'udp' })
      ip.src.set(NEW)
      const turned = x.struct(bytes(16))
      turned.fields.set(ip.dst)
      turned.fields.field(0, 'be16').set(0xfd00)
      updateChecksum(udp.checksum, ip.dst, turned.fields, { protocol: 'udp' })
      ip.dst.set(turned.fields)
      return 'drop'
    })
    const next = random(12)
    for (let i = 0; i < 5000; i++) {
      const packet = udp6(next)
      const { packet: now } = program.testRun({ packet })
      assert.deepEqual(now.slice(22, 38), NEW)
      assert.deepEqual(now.slice(38, 54), Uint8Array.from([0xfd, 0, ...packet.subarray(40, 54)]))
      assert.equal(sumOf(now), udpChecksum(now), Buffer.from(packet).toString('hex'))
    }
  })

  test('carries as often as the largest and smallest words can', (t) => {
    const extremes = [new Uint8Array(64), new Uint8Array(64).fill(255)]
    for (const from of extremes) {
      for (const to of extremes) {
        const { program } = load(t, (x) => {
          updateChecksum(x.packet.field(0, 'be16'), from, to)
          return 'drop'
        })
        for (const start of [0, 1, 0x7fff, 0xfffe, 0xffff]) {
          const packet = new Uint8Array(60)
          packet.set([start >> 8, start & 0xff])
          const now = program.testRun({ packet }).packet
          // 0 and 0xffff are the same number to it.
          assert.equal(((now[0] << 8) | now[1]) % 0xffff, start % 0xffff)
        }
      }
    }
  })

  test('of UDP stays away where there is none, and is never written as 0', (t) => {
    const change = (x: Xdp, protocol: 'any' | 'udp'): void => {
      const udp = x.packet.ethernet().ipv6().transport({ extensions: 0 }).udp()
      const after: Value<'be16'> = x.value('be16', 0)
      updateChecksum(udp.checksum, udp.srcPort, after, { protocol })
      udp.srcPort.set(after)
    }
    const udp = load(t, (x) => void change(x, 'udp')).program
    const any = load(t, (x) => void change(x, 'any')).program
    const packet = udp6(random(13), 2)
    // A payload that makes the sum 0xffff, and the checksum 0, once the port is 0.
    packet.set([0, 0], 54)
    packet.set([0, 0], 62)
    packet.set([udpChecksum(packet) >> 8, udpChecksum(packet) & 0xff], 62)
    packet.set([0x12, 0x34], 54)
    setChecksum(packet)
    assert.equal(sumOf(udp.testRun({ packet }).packet), 0xffff)
    assert.equal(sumOf(any.testRun({ packet }).packet), 0)
    packet.set([0, 0], 60)
    assert.equal(sumOf(udp.testRun({ packet }).packet), 0)
    assert.notEqual(sumOf(any.testRun({ packet }).packet), 0)
  })
})

test('a checksum follows no odd bytes, and none of two lengths', () => {
  const refused = (before: Uint8Array, after: Uint8Array, message: RegExp): void =>
    assert.throws(
      () => defineXdp('odd', (x) => updateChecksum(x.packet.field(0, 'be16'), before, after)),
      (error: OptionError) => error instanceof OptionError && message.test(error.message),
    )
  refused(new Uint8Array(3), new Uint8Array(3), /an even number, not 3 \(.*payload\.test\.ts:\d+ /)
  refused(new Uint8Array(66), new Uint8Array(66), /2 to 64 bytes/)
  refused(new Uint8Array(4), new Uint8Array(16), /4 bytes meet 16/)
})
