// Packets larger than a frame on a lab's cable: received whole, sent whole, answered, counted; and what it says where that cannot be.
import assert from 'node:assert/strict'
import { describe, it, type TestContext } from 'node:test'
import { defineXdp } from '../../src/bpf/builder/index.js'
import { getLink } from '../../src/kernel/netlink/index.js'
import type { Lab } from '../../src/lab/index.js'
import { socketMap } from '../../src/programs/sockets.js'
import type { XdpSocket } from '../../src/xsk/index.js'
import { XdpGroup, type Fragments, type PacketHandler } from '../../src/xsk/index.js'
import { createTestLab, needsRoot } from '../support/lab.js'
import { assertAllHome, assertConserved, frameOf, isOurs, openAt, until } from '../support/xsk.js'

const JUMBO = { mtu: 9000 }

/** Both ends with sockets for packets of any length. */
async function openBoth(t: TestContext, lab: Lab, frameSize = 2048) {
  const options = { multiBuffer: true, trackFrames: true, umem: { frameSize } }
  return { a: await openAt(t, lab.a, options), b: await openAt(t, lab.b, options) }
}

/** Copies of the packets that `frameOf` made, `count` of them, in the order in which they came. */
async function take(socket: XdpSocket, count: number, verdict?: 'transmit'): Promise<Uint8Array[]> {
  const taken: Uint8Array[] = []
  await until(`${count} packets are there`, () => {
    socket.receive((packet) => {
      if (!isOurs(packet)) return
      taken.push(packet.copy())
      return verdict
    })
    return taken.length >= count
  })
  return taken
}

/**
 * Answers echo requests in place: only the first frame changes, and the checksum by as much as the type does. Anything else is
 * dropped; the lab's neighbours are permanent.
 */
const pong: PacketHandler = ({ bytes, offset, view }) => {
  const isIpv6 = view.getUint16(offset + 12) === 0x86dd
  const [addresses, length, icmp, request, reply] = isIpv6 ? [22, 16, 54, 128, 129] : [26, 4, 34, 8, 0]
  if (bytes[offset + icmp] !== request || bytes[offset + (isIpv6 ? 20 : 23)] !== (isIpv6 ? 58 : 1)) return
  const swap = (at: number, length: number) => {
    const first = bytes.slice(at, at + length)
    bytes.copyWithin(at, at + length, at + 2 * length)
    bytes.set(first, at + length)
  }
  swap(offset, 6)
  swap(offset + addresses, length)
  bytes[offset + icmp] = reply
  // RFC 1624
  const sum = (~view.getUint16(offset + icmp + 2) & 0xffff) + (~(request << 8) & 0xffff) + (reply << 8)
  const folded = (sum & 0xffff) + (sum >>> 16)
  view.setUint16(offset + icmp + 2, ~((folded & 0xffff) + (folded >>> 16)))
  return 'transmit'
}

describe('packets larger than a frame', { skip: needsRoot }, () => {
  for (const frameSize of [2048, 4096]) {
    it(`of every length arrive as they were sent, and go back as they came, with frames of ${frameSize}`, async (t) => {
      const lab = createTestLab(t, JUMBO)
      const { a, b } = await openBoth(t, lab, frameSize)
      assert.ok(a.multiBuffer)
      const room = a.umem.maxReceive
      const lengths = [
        60,
        room - 1,
        room,
        room + 1,
        2 * room,
        2 * room + 1,
        2049,
        4096,
        4097,
        8000,
        9013,
        9014,
      ]
      const sent = lengths.map((length) => frameOf(length))
      for (const packet of sent) assert.ok(b.send(packet))
      b.flush()
      assert.deepEqual(await take(a, sent.length, 'transmit'), sent)
      assert.deepEqual(await take(b, sent.length), sent)
      for (const socket of [a, b]) {
        const { rx, tx, txDropped, kernel } = socket.statistics()
        const bytes = lengths.reduce((sum, length) => sum + length, 0)
        assert.deepEqual(
          { rx, tx, txDropped },
          { rx: tx, tx: { packets: lengths.length, bytes }, txDropped: 0 },
        )
        assert.deepEqual([kernel.rxDropped, kernel.txInvalidDescriptors], [0, 0])
        await assertAllHome(socket)
      }
    })
  }

  it('are dropped and counted without multiBuffer', async (t) => {
    const lab = createTestLab(t, JUMBO)
    const a = await openAt(t, lab.a, { trackFrames: true })
    const b = await openAt(t, lab.b, { multiBuffer: true, trackFrames: true, attach: 'none' })
    assert.equal(a.multiBuffer, false)
    for (const length of [1792, 1793, 8000, 100]) b.send(frameOf(length))
    b.flush()
    const taken = await take(a, 2)
    assert.deepEqual(
      taken.map(({ length }) => length),
      [1792, 100],
    )
    assert.equal(a.statistics().kernel.rxDropped, 2)
    assert.throws(() => a.send(frameOf(3000)), { code: 'XDP_BAD_OPTION', hint: /multiBuffer/ })
    await assertAllHome(a)
  })

  for (const mode of ['native', 'generic'] as const) {
    it(`are pinged with: 8000 bytes, IPv4 and IPv6, ${mode}`, async (t) => {
      const lab = createTestLab(t, JUMBO)
      const a = await openAt(t, lab.a, { multiBuffer: true, trackFrames: true, mode })
      assert.equal(a.mode?.got, mode)
      let large = 0
      const running = a.run((packet) => {
        if (packet.fragments > 1) large++
        return pong(packet)
      })
      for (const address of [lab.a.ipv4, lab.a.ipv6]) {
        assert.ok(address !== undefined)
        const ping = await lab.exec('b', 'ping', [
          '-c',
          '20',
          '-i',
          '0.01',
          '-M',
          'do',
          '-s',
          '8000',
          address,
        ])
        assert.match(ping.stdout, /20 packets transmitted, 20 received/, ping.stdout + ping.stderr)
        assert.doesNotMatch(ping.stdout, /wrong data/)
      }
      assert.equal(large, 40)
      a.stop()
      await running
      await assertAllHome(a)
    })
  }

  it('are held and sent later, and forwarded to another socket of a group', async (t) => {
    const lab = createTestLab(t, { ...JUMBO, queues: 2 })
    const group = await XdpGroup.open({
      interface: lab.a.interface,
      namespace: lab.a.namespace,
      multiBuffer: true,
      trackFrames: true,
    })
    t.after(() => group.close())
    const b = await openAt(t, lab.b, { multiBuffer: true, attach: 'none' })
    const before = lab.stats().a.txPackets
    const [first, second] = group.sockets
    const sent = Array.from({ length: 50 }, (_, i) => frameOf(7000 + i))
    for (const packet of sent) b.send(packet)
    b.flush()
    const held: [XdpSocket, Fragments][] = []
    let forwarded = 0
    await until('all have come', () => {
      group.receive((packet) => {
        if (!isOurs(packet)) return
        const other = packet.queue === first.queue ? second : first
        if (forwarded++ % 2 === 0) return void assert.ok(other.transmitFragments(packet))
        held.push([other, packet.keep()])
        return 'hold'
      })
      return forwarded === sent.length
    })
    for (const [other, kept] of held) assert.ok(other.transmitFragments(kept))
    await group.drain()
    while (group.receive(() => undefined) > 0);
    for (const socket of group.sockets) {
      assertConserved(socket)
      const { rx, held, tx, completion } = socket.frames()
      assert.deepEqual({ rx, held, tx, completion }, { rx: 0, held: 0, tx: 0, completion: 0 })
    }
    assert.equal(group.statistics().tx.packets, sent.length)
    assert.ok(lab.stats().a.txPackets - before >= sent.length)
  })

  it('of more frames than the kernel sends are counted, and their frames come back', async (t) => {
    const lab = createTestLab(t, { mtu: 40_000 })
    const { a, b } = await openBoth(t, lab)
    // 18 frames full; received, each has room for 1792 bytes.
    const packet = frameOf(18 * 2048)
    assert.ok(b.send(packet))
    assert.throws(() => b.send(frameOf(18 * 2048 + 1)), { code: 'XDP_BAD_OPTION' })
    b.flush()
    assert.deepEqual(await take(a, 1, 'transmit'), [packet])
    await assertAllHome(a)
    assert.equal(a.statistics().kernel.txInvalidDescriptors, Math.ceil(packet.length / 1792))
  })

  it('lose no frame when the fill ring runs out within one, and come whole afterwards', async (t) => {
    const lab = createTestLab(t, JUMBO)
    const umem = { frames: 16 }
    const a = await openAt(t, lab.a, {
      multiBuffer: true,
      trackFrames: true,
      umem,
      rings: { rx: 8, fill: 8 },
    })
    const b = await openAt(t, lab.b, { multiBuffer: true, trackFrames: true })
    const before = lab.stats().a.rxPackets
    for (let round = 0; round < 50; round++) {
      for (let i = 0; i < 4; i++) b.send(frameOf(4000 + i, round))
      b.flush()
      await b.drain()
      const taken = await take(a, 1)
      for (const packet of taken) assert.deepEqual(packet, frameOf(packet.length, round))
      assertConserved(a)
    }
    const { rx, kernel } = a.statistics()
    assert.equal(rx.packets + kernel.rxDropped + kernel.rxRingFull, lab.stats().a.rxPackets - before)
    assert.ok(kernel.rxDropped + kernel.rxRingFull > 0)
    await assertAllHome(a)
  })

  it('want a program that takes them: in native mode it says which one does not', async (t) => {
    const lab = createTestLab(t, JUMBO)
    const program = ({ queues, multiBuffer }: { queues: number; multiBuffer: boolean }) => {
      assert.equal(multiBuffer, true)
      const sockets = socketMap(queues)
      const loaded = defineXdp('no_frags', (x) => x.redirectTo(sockets, x.queue)).load()
      return { program: loaded.program, sockets: loaded.map(sockets), close: () => loaded.close() }
    }
    const options = { interface: lab.a.interface, namespace: lab.a.namespace, multiBuffer: true, program }
    await assert.rejects(XdpGroup.open({ ...options, mode: 'native' }), {
      code: 'XDP_UNSUPPORTED',
      message: /"no_frags" was not loaded as/,
      hint: /xdp\.frags/,
    })
    assert.equal(getLink(lab.a.interface, { namespace: lab.a.namespace }).xdp.programs.native, undefined)
    // In generic mode the kernel puts each packet together for it, and takes it apart for the socket.
    const group = await XdpGroup.open(options)
    t.after(() => group.close())
    assert.equal(group.attachment?.mode, 'generic')
    assert.match(group.attachment?.fallbackReason ?? '', /MTU/)
    const b = await openAt(t, lab.b, { multiBuffer: true, attach: 'none' })
    b.send(frameOf(8000))
    b.flush()
    assert.deepEqual(await take(group.sockets[0], 1), [frameOf(8000)])
  })
})
