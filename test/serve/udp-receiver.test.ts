// The receiver's short way for ordinary datagrams, held to the way of all others: the same packet, beginning with a word of memory
// and not, is the same message, the same answer or the same drop.
import assert from 'node:assert/strict'
import { it } from 'node:test'
import fc from 'fast-check'
import { buildPacket } from '../../src/packet/index.js'
import { countsOf, dropsOf, makeCounters } from '../../src/serve/udp-counters.js'
import { identification } from '../../src/serve/udp-frame.js'
import { UdpListeners } from '../../src/serve/udp-listeners.js'
import type { UdpMessage } from '../../src/serve/udp-message.js'
import { UdpReceiver } from '../../src/serve/udp-receiver.js'
import { XdpPacket } from '../../src/xsk/packet.js'

const OWN = '02:00:00:00:00:01'
const FRAME = 2048

type Answer = 'none' | 'same' | Uint8Array

/** A receiver on two frames of memory, with one endpoint on port 9. */
function receiver(verifiesChecksums: boolean) {
  const bytes = new Uint8Array(2 * FRAME)
  const counters = makeCounters()
  const listeners = new UdpListeners({ add: () => undefined, remove: () => true }, 'test0')
  let heard: unknown
  let answer: Answer = 'none'
  const deliver = (message: UdpMessage) => {
    const { length, port, localPort, family, vlan, room, address, localAddress } = message
    heard = {
      length,
      port,
      localPort,
      family,
      vlan,
      room,
      address,
      localAddress,
      payload: [...message.copy()],
    }
    if (message.room < 0) return // a reply of another kind
    if (answer === 'same') message.reply()
    else if (answer !== 'none') message.reply(answer)
  }
  listeners.add(
    {
      ports: [9],
      verifiesChecksums,
      addresses: () => undefined,
      counters,
      deliver,
      fail: assert.ifError,
      replyElsewhere: () => false,
    },
    [],
  )
  const own = new UdpReceiver({
    bytes,
    frameSize: FRAME,
    zone: 'test0',
    listeners,
    counters,
    sender: { batchOf: -1 },
    failed: (_, error) => assert.ifError(error),
  })
  own.setLinks({ mac: Buffer.from(OWN.replaceAll(':', ''), 'hex'), mtu: 1500 } as never, [])
  const packet = new XdpPacket(bytes, new DataView(bytes.buffer), 0)
  return {
    bytes,
    /** All that can be told of what becomes of `data`, received at `offset` of the second frame. */
    receive(data: Uint8Array, offset: number, reply: Answer) {
      bytes.fill(0xa5)
      bytes.set(data, FRAME + offset)
      counters.fill(0)
      Object.assign(packet, { frame: FRAME, offset: FRAME + offset, length: data.length })
      identification.last = 7
      heard = undefined
      answer = reply
      const verdict = own.handle(packet)
      const sent = bytes.slice(packet.offset, packet.offset + packet.length)
      const around = bytes.subarray(0, packet.offset).every((byte) => byte === 0xa5)
      return { ...dropsOf(counters), ...countsOf(counters), verdict, heard, sent, around }
    },
  }
}

// One's own, and a group's.
const IPV6 = ['2001:db8::1', '2001:db8::1', '2001:db8::1', 'ff02::fb']

const datagrams = fc
  .record({
    dst: fc.constantFrom(OWN, OWN, OWN, '02:00:00:00:00:03', '01:00:5e:00:00:fb', 'ff:ff:ff:ff:ff:ff'),
    address: fc.constantFrom('198.51.100.1', '198.51.100.1', '224.0.0.251', '255.255.255.255', ...IPV6),
    srcPort: fc.constantFrom(0, 9, 53, 65_535),
    dstPort: fc.constantFrom(9, 9, 9, 10),
    // Below and above what is summed in the same piece of code.
    payload: fc.oneof(fc.uint8Array({ maxLength: 90 }), fc.uint8Array({ minLength: 60, maxLength: 300 })),
    checksum: fc.constantFrom('right', 'right', 'none', 'partial'),
    dontFragment: fc.boolean(),
    padTo: fc.constantFrom(0, 60, 100),
    cut: fc.constantFrom(0, 0, 0, 1, 5, 30),
    changes: fc.array(fc.tuple(fc.nat(90), fc.nat(255)), { maxLength: 2 }),
  })
  .map(({ dst, address, srcPort, dstPort, payload, checksum, dontFragment, padTo, cut, changes }) => {
    const isIpv6 = address.includes(':')
    const bytes = Uint8Array.from(
      buildPacket({
        ethernet: { src: '02:00:00:00:00:02', dst },
        ...(isIpv6
          ? { ipv6: { src: '2001:db8::2', dst: address } }
          : { ipv4: { src: '198.51.100.2', dst: address, dontFragment } }),
        udp: { srcPort, dstPort },
        payload,
        ...(padTo > 0 && { padTo }),
      }),
    )
    const view = new DataView(bytes.buffer)
    // Where the addresses and the UDP header begin.
    const [addresses, udp] = isIpv6 ? [22, 54] : [26, 34]
    if (checksum === 'none') view.setUint16(udp + 6, 0)
    if (checksum === 'partial') {
      let sum = 17 + view.getUint16(udp + 4)
      for (let at = addresses; at < udp; at += 2) sum += view.getUint16(at)
      view.setUint16(udp + 6, (sum & 0xffff) + (sum >>> 16))
    }
    for (const [at, value] of changes) if (at < bytes.length) bytes[at] ^= value
    return bytes.subarray(0, bytes.length - cut)
  })

const answers: fc.Arbitrary<Answer> = fc.oneof(
  fc.constantFrom('none' as const, 'same' as const),
  fc.uint8Array({ maxLength: 200 }),
)

for (const verifies of [true, false]) {
  it(`takes the short way to the same end, checksums ${verifies ? 'verified' : 'trusted'}`, () => {
    const subject = receiver(verifies)
    const seen = { delivered: 0, answered: 0, damaged: 0, unwanted: 0 }
    fc.assert(
      fc.property(datagrams, answers, fc.integer({ min: 1, max: 3 }), (data, answer, shift) => {
        const short = subject.receive(data, 256, answer)
        const long = subject.receive(data, 256 + shift, answer)
        assert.deepEqual(short, long)
        assert.ok(short.around)
        seen.delivered += short.received
        seen.answered += short.replied
        seen.damaged += short.damaged
        seen.unwanted += short.unwanted
      }),
      { seed: 21, numRuns: 5000 },
    )
    for (const count of Object.values(seen)) assert.ok(count > 50, JSON.stringify(seen))
  })
}
