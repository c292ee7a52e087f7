// Every field of every header: it is read where the header has it, and written there and nowhere else. And what is done to
// numbers in maps in one step.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import {
  type Bytes,
  type Ethernet,
  type Field,
  defineMap,
  defineXdp,
} from '../../../src/bpf/builder/index.js'
import { struct, u32, u64 } from '../../../src/bpf/codec.js'
import { listing } from '../../../src/bpf/index.js'
import { needsRoot } from '../../support/lab.js'

const ETHERNET = 14
const IPV4 = ETHERNET + 20
const IPV6 = ETHERNET + 40

type Integer = Field<'u8'> | Field<'be16'> | Field<'be32'>

/** The names of fields, each with where it stands in its header and how wide it is (RFC 791, 826, 768, 792, 8200, 9293). */
type Places<T> = { readonly [K in keyof T]?: readonly [at: number, bytes: 1 | 2 | 4 | 6 | 16] }

interface Header<T> {
  /** Where the header begins. */
  readonly at: number
  /** Bytes that must be what they are for it to be found. */
  readonly fixed: Readonly<Record<number, number>>
  readonly find: (eth: Ethernet) => T
  readonly places: Places<T>
}

const header = <T>(one: Header<T>): Header<unknown> => one

const V4 = { [ETHERNET]: 0x45, [ETHERNET + 6]: 0, [ETHERNET + 7]: 0 }
const ports = { srcPort: [0, 2], dstPort: [2, 2] } as const

const headers: Readonly<Record<string, Header<unknown>>> = {
  Ethernet: header({ at: 0, fixed: {}, find: (eth) => eth, places: { dst: [0, 6], src: [6, 6] } }),
  ARP: header({
    at: ETHERNET,
    fixed: {},
    find: (eth) => eth.arp(),
    places: {
      hardwareType: [0, 2],
      protocolType: [2, 2],
      lengths: [4, 2],
      operation: [6, 2],
      senderMac: [8, 6],
      senderIp: [14, 4],
      targetMac: [18, 6],
      targetIp: [24, 4],
    },
  }),
  IPv4: header({
    at: ETHERNET,
    fixed: V4,
    find: (eth) => eth.ipv4(),
    places: {
      tos: [1, 1],
      totalLength: [2, 2],
      identification: [4, 2],
      fragment: [6, 2],
      ttl: [8, 1],
      protocol: [9, 1],
      checksum: [10, 2],
      src: [12, 4],
      dst: [16, 4],
    },
  }),
  IPv6: header({
    at: ETHERNET,
    fixed: { [ETHERNET]: 0x60 },
    find: (eth) => eth.ipv6(),
    places: { payloadLength: [4, 2], nextHeader: [6, 1], hopLimit: [7, 1], src: [8, 16], dst: [24, 16] },
  }),
  UDP: header({
    at: IPV4,
    fixed: V4,
    find: (eth) => eth.ipv4().transport().udp(),
    places: { ...ports, length: [4, 2], checksum: [6, 2] },
  }),
  TCP: header({
    at: IPV4,
    fixed: V4,
    find: (eth) => eth.ipv4({ options: false, fragments: false }).transport().tcp(),
    places: {
      ...ports,
      sequence: [4, 4],
      acknowledgment: [8, 4],
      flags: [13, 1],
      window: [14, 2],
      checksum: [16, 2],
      urgentPointer: [18, 2],
    },
  }),
  'ICMP, behind IPv4': header({
    at: IPV4,
    fixed: V4,
    find: (eth) => eth.ipv4().transport().icmp(),
    places: { type: [0, 1], code: [1, 1], checksum: [2, 2], identifier: [4, 2], sequence: [6, 2] },
  }),
  'ICMPv6, directly behind IPv6': header({
    at: IPV6,
    fixed: { [ETHERNET]: 0x60 },
    find: (eth) => eth.ipv6().transport({ extensions: 0 }).icmp(),
    places: { type: [0, 1], code: [1, 1], checksum: [2, 2], identifier: [4, 2], sequence: [6, 2] },
  }),
}

describe('fields of headers', { skip: needsRoot }, () => {
  for (const [what, { at, fixed, find, places }] of Object.entries(headers)) {
    const packet = Uint8Array.from({ length: 80 }, (_, index) => fixed[index] ?? index + 1)
    for (const [name, place] of Object.entries(places)) {
      const [offset, width] = place as readonly [number, number]
      const [from, to] = [at + offset, at + offset + width]
      test(`${what}: ${name}`, (t) => {
        const old = packet.slice(from, to)
        const number = Number(BigInt(`0x${Buffer.from(old).toString('hex')}`))
        const written = Uint8Array.from({ length: width }, (_, index) => 0xf1 - index)
        const definition = defineXdp('fields', (x) => {
          const field = (find(x.packet.ethernet()) as Record<string, Bytes | Integer>)[name]
          if ('swap' in field) {
            x.require(field.eq(old))
            field.set(written)
          } else {
            x.require(field.eq(number))
            field.set(Number(BigInt(`0x${Buffer.from(written).toString('hex')}`)))
          }
          return 'tx'
        })
        const loaded = definition.load()
        t.after(() => loaded.close())
        const changed = packet.slice()
        changed.set(written, from)
        const run = loaded.program.testRun({ packet })
        assert.equal(run.verdict, 'tx')
        assert.deepEqual(run.packet, changed)
        for (let index = from; index < to; index++) {
          // What the way to the header depends on cannot be anything else.
          if (fixed[index] !== undefined) continue
          const other = packet.slice()
          other[index] ^= 1
          const { verdict, packet: after } = loaded.program.testRun({ packet: other })
          assert.equal(verdict, 'pass')
          assert.deepEqual(after, other)
        }
      })
    }
  }

  test('the first tag of two: its priority, DEI and id', (t) => {
    const packet = Uint8Array.from({ length: 64 }, (_, index) => index)
    packet.set([0x88, 0xa8, 0x3f, 0xfe, 0x81, 0x00, 0x00, 0x07, 0x08, 0x00], 12)
    const definition = defineXdp('tags', (x) => {
      const eth = x.packet.ethernet({ vlans: 2 })
      x.require(eth.tci.eq(0x3ffe).and(eth.vlan.eq(0xffe)))
      x.require(eth.tags.eq(2).and(eth.type.eq(0x0800)))
      return 'tx'
    })
    const loaded = definition.load()
    t.after(() => loaded.close())
    assert.equal(loaded.program.testRun({ packet }).verdict, 'tx')
    packet[14] ^= 0x80
    assert.equal(loaded.program.testRun({ packet }).verdict, 'pass')
  })
})

test('bits of numbers in maps are set, cut and flipped in one step', { skip: needsRoot }, (t) => {
  const numbers = defineMap({
    type: 'array',
    name: 'numbers',
    value: struct({ or: u32, and: u32, xor: u32, or64: u64, and64: u64, xor64: u64 }),
    maxEntries: 1,
  })
  const definition = defineXdp('bits', (x) => {
    const slot = x.lookup(numbers, 0).orReturn('aborted')
    const bits = x.packet.field(0, 'u8').u32()
    slot.or.atomicOr(bits)
    slot.and.atomicAnd(bits)
    slot.xor.atomicXor(bits)
    slot.or64.atomicOr(0x1_0000_0001n)
    slot.and64.atomicAnd(0xffff_0000_0000n)
    slot.xor64.atomicXor(bits.u64())
    return 'tx'
  })
  // As they are written down: what is atomic cannot be seen from one processor.
  const operations = /lock \*\(u(?:32|64) \*\)\(r\d \+\d+\) [|&^]= r\d/g
  assert.equal(listing(definition.assembled.bytes).match(operations)?.length, 6)
  const loaded = definition.load()
  t.after(() => loaded.close())
  const map = loaded.map(numbers)
  const full = 0xffff_ffff_ffff_ffffn
  map.update(0, { or: 0xf0, and: 0xfff, xor: 0xff, or64: 2n, and64: full, xor64: full })
  const packet = new Uint8Array(64).fill(0x33, 0, 1)
  assert.equal(loaded.program.testRun({ packet }).verdict, 'tx')
  assert.deepEqual(map.lookup(0), {
    or: 0xf3,
    and: 0x33,
    xor: 0xcc,
    or64: 0x1_0000_0003n,
    and64: 0xffff_0000_0000n,
    xor64: full ^ 0x33n,
  })
})
