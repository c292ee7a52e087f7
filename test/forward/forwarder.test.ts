// Forwarding between two devices, judged by ping, TCP and tcpdump beyond them, and by where the frames are afterwards.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { bindPacketSocket, openPacketSocket } from '../../src/capture/packet-socket.js'
import { compileFilter } from '../../src/filter/index.js'
import { Forwarder } from '../../src/forward/index.js'
import { setInterfaceUp } from '../../src/kernel/interfaces.js'
import { check, native } from '../../src/kernel/index.js'
import type { Lab } from '../../src/lab/index.js'
import { buildPacket, getU16 } from '../../src/packet/index.js'
import { createTestLab, needsRoot, openDescriptors } from '../support/lab.js'
import { attachedAt, frameOf, generatorAt, isOurs, openAt, until } from '../support/xsk.js'
import { LEFT, LEFT6, RIGHT, RIGHT6, assertNoLoss, forward, startTcpdump, twoLabs } from './cable.js'

/** Sends 5 MB each way over one connection, and prints the hash of what came. */
const TCP = `
  const [role, host, port] = process.argv.slice(1)
  const { createHash } = require('node:crypto')
  const net = require('node:net')
  const bytes = Buffer.alloc(5_000_000)
  for (let i = 0, x = role.length; i < bytes.length; i++) bytes[i] = (x = (x * 1103515245 + 12345) >>> 0) >>> 16
  const hash = (data) => createHash('sha256').update(data).digest('hex')
  const talk = (socket) => {
    const got = createHash('sha256')
    socket.on('data', (chunk) => got.update(chunk))
    socket.on('end', () => console.log(JSON.stringify({ sent: hash(bytes), got: got.digest('hex') })))
    socket.end(bytes)
  }
  if (role === 'server') {
    const server = net.createServer({ allowHalfOpen: true }, (socket) => (server.close(), talk(socket)))
    server.listen(0, host, () => console.log(server.address().port))
  } else talk(net.connect({ host, port: Number(port), allowHalfOpen: true }))
`

async function transfer(server: Lab, host: string, client: Lab): Promise<void> {
  const listening = server.spawn('b', process.execPath, ['-e', TCP, 'server', host], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let said = ''
  listening.stdout?.setEncoding('utf8').on('data', (text: string) => (said += text))
  await until('the server listens', () => said.includes('\n'))
  const { stdout, stderr } = await client.exec('b', process.execPath, [
    '-e',
    TCP,
    'client',
    host,
    said.trim(),
  ])
  await until('the server has all', () => said.trim().includes('\n'))
  const parse = (text: string) => JSON.parse(text) as { sent: string; got: string }
  const [there, here] = [parse(said.split('\n')[1]), parse(stdout || stderr)]
  assert.equal(there.got, here.sent)
  assert.equal(here.got, there.sent)
}

const assertNothingLost = (forwarder: Forwarder, droppedOnPurpose = 0) => {
  const all = forwarder.statistics()
  assert.equal(
    all.reduce((sum, { dropped }) => sum + dropped, 0),
    droppedOnPurpose,
  )
  for (const { txDropped, kernel } of all) {
    const { rxDropped, rxRingFull, fillRingEmpty, txInvalidDescriptors } = kernel
    assert.deepEqual([txDropped, rxDropped, rxRingFull, fillRingEmpty, txInvalidDescriptors], [0, 0, 0, 0, 0])
  }
}

/** Sends UDP with VLAN tags and an IP packet of `length` bytes from the end `b` of a lab, as any program would. */
function sendTagged(lab: Lab, vlans: readonly number[], length: number): void {
  const fd = openPacketSocket(lab.b.namespace)
  try {
    bindPacketSocket(fd, lab.b.ifindex, lab.b.interface)
    const packet = buildPacket({
      ethernet: { dst: '02:00:00:00:00:0a', src: lab.b.mac },
      vlans: vlans.map((id) => ({ id })),
      ipv4: { src: LEFT, dst: RIGHT },
      udp: { srcPort: 1234, dstPort: 9 },
      payload: Uint8Array.from({ length: length - 28 }, (_, i) => i * 7),
    })
    check(native.send(fd, packet, 0), 'send')
  } finally {
    native.close(fd)
  }
}

const isPromiscuous = async (lab: Lab) => {
  const { stdout } = await lab.exec('a', 'ip', ['-d', 'link', 'show', lab.a.interface])
  return Number(/ promiscuity (\d+)/.exec(stdout)?.[1]) > 0
}

describe('two devices', { skip: needsRoot }, () => {
  for (const mode of ['native', 'generic'] as const) {
    it(`are one link in ${mode} mode: neighbours find each other, and no ping is lost`, async (t) => {
      const labs = twoLabs(t, { queues: 2 })
      const { forwarder, stop } = await forward(t, labs, { mode })
      await Promise.all([
        assertNoLoss(labs.left, ['-c', '200', '-i', '0.002', RIGHT]),
        assertNoLoss(labs.right, ['-c', '200', '-i', '0.002', LEFT6]),
      ])
      const [there, back] = forwarder.statistics()
      for (const { rx, tx } of [there, back]) {
        assert.ok(rx.packets >= 400)
        assert.deepEqual(tx, rx)
      }
      assertNothingLost(forwarder)
      await stop()
    })
  }

  it('carry TCP both ways at once, over IPv4 and IPv6, every byte as it was', async (t) => {
    const labs = twoLabs(t, { queues: 2 })
    const { forwarder, stop } = await forward(t, labs)
    await transfer(labs.right, RIGHT, labs.left)
    await transfer(labs.left, LEFT6, labs.right)
    for (const { rx } of forwarder.statistics()) assert.ok(rx.bytes > 10_000_000)
    assertNothingLost(forwarder)
    await stop()
  })

  it('leave every byte of every packet as it was: all sizes, VLAN tags, jumbo frames', async (t) => {
    const labs = twoLabs(t, { mtu: 3400 })
    const { forwarder, stop } = await forward(t, labs)
    assert.equal(forwarder.group.umem.frameSize, 4096)
    assert.deepEqual(forwarder.warnings, [])
    // What the packet is, and every byte of it; without times.
    const args = ['-t', '-e', '-xx', '-s', '0', 'arp or icmp or icmp6 or vlan 7']
    const seen = [
      await startTcpdump(t, labs.left, 'b', args),
      await startTcpdump(t, labs.right, 'b', args),
    ] as const
    const sizes = [0, 1, 17, 18, 56, 1472, 1473, 2000, 3300, 3372]
    for (const size of sizes) {
      await assertNoLoss(labs.left, ['-c', '1', '-s', String(size), '-M', 'do', RIGHT])
      await assertNoLoss(labs.right, ['-c', '1', '-s', String(Math.min(size, 3352)), LEFT6])
      for (const vlans of [[7], [7, 9]]) {
        for (const lab of [labs.left, labs.right])
          sendTagged(lab, vlans, Math.min(size + 28, 3400 - 4 * vlans.length))
      }
    }
    const isAll = (text: string) =>
      text.match(/echo reply/g)?.length === 2 * sizes.length &&
      text.match(/vlan 7, .* > [\d.]+9: UDP/g)?.length === 4 * sizes.length
    const [left, right] = await Promise.all(seen.map((ending) => ending(isAll)))
    // What one end sent while the other still received has another place in the list.
    const packets = (text: string) =>
      text
        .trimEnd()
        .split(/\n(?!\t)/)
        .sort()
    assert.deepEqual(packets(left), packets(right))
    assert.match(left, / is-at /)
    assert.match(left, /neighbor advertisement/)
    assert.match(left, /length 3414: /)
    assert.match(left, /length 3414: vlan 7, .*vlan 9, /)
    assertNothingLost(forwarder)
    await stop()
  })

  it('get their packets back when forwarding ends, are promiscuous meanwhile, and nothing is left', async (t) => {
    const labs = twoLabs(t)
    const before = openDescriptors()
    const { forwarder, stop } = await forward(t, labs)
    for (const lab of [labs.left, labs.right]) {
      assert.deepEqual(
        attachedAt(lab.a).map(({ name }) => name),
        ['xdp_forward'],
      )
      assert.equal(await isPromiscuous(lab), true)
    }
    const { stdout } = await labs.left.exec('b', 'ping', ['-c', '1', '-W', '0.2', labs.left.a.ipv4])
    assert.match(stdout, / 100% packet loss/)
    await stop()
    assert.equal(
      forwarder.group.sockets.every(({ closed }) => closed),
      true,
    )
    for (const lab of [labs.left, labs.right]) {
      assert.deepEqual(attachedAt(lab.a), [])
      assert.equal(await isPromiscuous(lab), false)
    }
    await assertNoLoss(labs.left, ['-c', '1', labs.left.a.ipv4])
    assert.deepEqual(openDescriptors(), before)
  })

  it('forward only what matches the filter: the kernel answers the rest', async (t) => {
    const labs = twoLabs(t)
    const { forwarder, stop } = await forward(t, labs, { filter: compileFilter('arp or net 10.99.0.0/24') })
    await assertNoLoss(labs.left, ['-c', '5', '-i', '0.01', RIGHT])
    // The near ends know each other's hardware addresses.
    await assertNoLoss(labs.left, ['-c', '5', '-i', '0.01', labs.left.a.ipv4])
    const { stdout } = await labs.left.exec('b', 'ping', ['-c', '1', '-W', '0.2', RIGHT6])
    assert.match(stdout, / 100% packet loss/)
    assert.ok(forwarder.statistics()[0].rx.packets < 10)
    await stop()
  })

  it('leave neighbours to be found by the kernel when told so', async (t) => {
    const labs = twoLabs(t)
    const { forwarder, stop } = await forward(t, labs, { discovery: 'kernel' })
    const { stdout } = await labs.left.exec('b', 'ping', ['-c', '1', '-W', '0.2', RIGHT])
    assert.match(stdout, / 100% packet loss|unreachable/i)
    assert.equal(forwarder.statistics()[0].rx.packets, 0)
    await stop()
  })

  it('rewrite hardware addresses by direction, but never those of a group', async (t) => {
    const labs = twoLabs(t)
    const { stop } = await forward(t, labs, { rewrite: [{ destination: labs.right.b.mac }, 'source'] })
    const ends = { l: await openAt(t, labs.left.b), r: await openAt(t, labs.right.b) }
    const packet = frameOf(64)
    const group = frameOf(64)
    group.set([0xff, 0xff, 0xff, 0xff, 0xff, 0xff])
    const macs: Record<string, string[]> = { l: [], r: [] }
    for (const [lab, to] of [
      [labs.left, 'r'],
      [labs.right, 'l'],
    ] as const) {
      const generator = generatorAt(t, lab.b)
      generator.send(packet, 1)
      generator.send(group, 1)
      await until('both are there', () => {
        ends[to].receive((p) => {
          if (!isOurs(p)) return
          macs[to].push(Buffer.from(p.copy().subarray(0, 12)).toString('hex'))
          assert.deepEqual(p.copy().subarray(12), packet.subarray(12))
        })
        return macs[to].length === 2
      })
    }
    const hex = (mac: string) => mac.replaceAll(':', '')
    const broadcast = 'f'.repeat(12)
    assert.deepEqual(macs, {
      r: [hex(labs.right.b.mac) + hex(labs.right.a.mac), broadcast + hex(labs.right.a.mac)],
      l: ['02000000000a' + hex(labs.left.a.mac), broadcast + hex(labs.left.a.mac)],
    })
    await stop()
  })

  it('lose no packet and no frame of a million, through a stage that drops every seventh', async (t) => {
    const labs = twoLabs(t)
    const burst = 8192 // each takes the kernel some 20 ms to prepare
    let count = 0
    const { forwarder, stop } = await forward(t, labs, {
      umem: { frames: 2 * burst },
      rings: { rx: burst, tx: burst, fill: burst, completion: burst },
      trackFrames: false,
      stages: [(packet) => (isOurs(packet) && ++count % 7 === 0 ? 'drop' : undefined)],
    })
    const before = labs.right.stats()
    const generator = generatorAt(t, labs.left.b)
    while (count < 1_000_000) {
      generator.send(frameOf(64), burst)
      const sent = count + burst
      await until('all were taken', () => count === sent)
    }
    await forwarder.drain()
    const [{ rx, tx, dropped }] = forwarder.statistics()
    assertNothingLost(forwarder, Math.floor(count / 7))
    assert.equal(tx.packets, rx.packets - dropped)
    // Those that the device at the other end had no room for, it has counted.
    const after = labs.right.stats()
    const [sent, refused] = (['txPackets', 'txDropped'] as const).map(
      (name) => after.a[name] - before.a[name],
    )
    assert.equal(sent + refused, tx.packets)
    assert.equal(after.b.rxPackets - before.b.rxPackets, sent)
    await stop()
  })

  it('lose no frame while one of them goes down and up', async (t) => {
    const labs = twoLabs(t)
    const { forwarder, stop } = await forward(t, labs, {
      umem: { frames: 128 },
      rings: { rx: 64, tx: 64, fill: 64, completion: 64 },
    })
    const { left, right } = labs
    const generator = generatorAt(t, left.b)
    for (const { interface: name, namespace } of [right.a, right.b, left.a, right.a]) {
      setInterfaceUp(name, false, { namespace })
      if (namespace !== left.a.namespace) {
        const before = forwarder.statistics()[0].rx.packets
        for (let i = 0; i < 20; i++) {
          generator.send(frameOf(100), 30)
          await until('they are taken', () => forwarder.statistics()[0].rx.packets >= before + 30 * (i + 1))
        }
      }
      setInterfaceUp(name, true, { namespace })
      await until('the link is up', () => [left, right].every((lab) => lab.interfaces().a.operState === 'up'))
      await assertNoLoss(left, ['-c', '20', '-i', '0.005', RIGHT])
    }
    assert.ok(forwarder.statistics()[0].txDropped > 0)
    await stop()
  })
})

describe('a stage', { skip: needsRoot }, () => {
  it('sees each packet with its way, changes it, and makes it longer or shorter', async (t) => {
    const labs = twoLabs(t)
    const seen: string[] = []
    const { forwarder, stop } = await forward(t, labs, {
      stages: [
        (packet, { from, to, index }) => {
          seen.push(`${index} ${from} ${to} ${packet.length}`)
          packet.bytes[packet.offset + 20] = 1
        },
        // Sees what the one before did; puts four bytes in front, as a tag would be.
        (packet) => {
          if (packet.bytes[packet.offset + 20] !== 1) return 'drop'
          packet.bytes.copyWithin(packet.offset - 4, packet.offset, packet.offset + 12)
          packet.offset -= 4
          packet.length += 4
          packet.view.setUint32(packet.offset + 12, 0x88b5_0007)
          return
        },
      ],
    })
    const receiver = await openAt(t, labs.right.b)
    generatorAt(t, labs.left.b).send(frameOf(100), 3)
    const got: Uint8Array[] = []
    await until('all have come', () => {
      receiver.receive((packet) => void (isOurs(packet) && got.push(packet.copy())))
      return got.length === 3
    })
    const expected = new Uint8Array(104)
    expected.set(frameOf(100), 4)
    expected.set(frameOf(100).subarray(0, 12))
    expected.set([0x88, 0xb5, 0, 7], 12)
    expected[24] = 1
    assert.deepEqual(got, [expected, expected, expected])
    const [{ from, to }] = forwarder.ways
    assert.deepEqual(
      seen.filter((line) => line.endsWith(' 100')),
      Array(3).fill(`0 ${from} ${to} 100`),
    )
    await stop()
  })

  it('that throws ends the run with its error, and loses no frame', async (t) => {
    const labs = twoLabs(t)
    const { left, right } = labs
    const forwarder = await Forwarder.open({
      in: { interface: left.a.interface, namespace: left.a.namespace },
      out: { interface: right.a.interface, namespace: right.a.namespace },
      trackFrames: true,
      stages: [
        () => {
          throw new RangeError('no more')
        },
      ],
    })
    t.after(() => forwarder.close())
    const running = forwarder.run()
    generatorAt(t, left.b).send(frameOf(64), 10)
    await assert.rejects(running, { message: 'no more' })
    const { frames } = forwarder.statistics()[0]
    assert.equal(frames.held, 0)
    // It may be run again; nothing stays of the last run.
    generatorAt(t, left.b).send(frameOf(64), 1)
    await assert.rejects(forwarder.run(), { message: 'no more' })
  })
})

describe('one device', { skip: needsRoot }, () => {
  it('sends packets back with their hardware addresses exchanged, and can still be found', async (t) => {
    const left = createTestLab(t, { queues: 2 })
    const { forwarder, stop } = await forward(t, { left })
    assert.equal(forwarder.ways.length, 1)
    const seen = await startTcpdump(t, left, 'b', ['-t', '-e', '-xx', 'icmp'])
    assert.equal((await left.exec('b', 'ip', ['neigh', 'flush', 'all'])).status, 0)
    await left.exec('b', 'ping', ['-c', '3', '-i', '0.01', '-W', '0.1', left.a.ipv4])
    const text = await seen((text) => (text.match(/echo request/g)?.length ?? 0) === 6)
    const { mac: a } = left.a
    const { mac: b } = left.b
    assert.equal(text.match(new RegExp(`^${b} > ${a}, .*echo request`, 'gm'))?.length, 3)
    assert.equal(text.match(new RegExp(`^${a} > ${b}, .*echo request`, 'gm'))?.length, 3)
    const [{ rx, tx }] = forwarder.statistics()
    assert.deepEqual([rx.packets, tx.packets], [3, 3])
    assert.equal(await isPromiscuous(left), false)
    await stop()
  })

  it('sends back what stages let through', async (t) => {
    const left = createTestLab(t)
    let dropped = 0
    const { forwarder, stop } = await forward(
      t,
      { left },
      {
        stages: [
          (packet) => {
            assert.equal(getU16(packet.bytes, packet.offset + 12), 0x88b5)
            return packet.length > 100 ? (dropped++, 'drop') : undefined
          },
        ],
      },
    )
    const receiver = await openAt(t, left.b)
    const generator = generatorAt(t, left.b)
    for (const size of [60, 100, 101, 1000]) generator.send(frameOf(size), 50)
    let got = 0
    await until('all have come back', () => {
      receiver.receive((packet) => void (isOurs(packet) && got++))
      return got === 100 && dropped === 100
    })
    assert.equal(forwarder.statistics()[0].dropped, 100)
    await stop()
  })
})

describe('what cannot be forwarded', { skip: needsRoot }, () => {
  it('is refused with a reason, and nothing is left', async (t) => {
    const { left, right } = twoLabs(t)
    const before = openDescriptors()
    const [a, b] = [left.a, right.a].map((end) => ({ interface: end.interface, namespace: end.namespace }))
    const refuse = (options: Parameters<typeof Forwarder.open>[0], expected: object) =>
      assert.rejects(Forwarder.open(options), expected)
    await refuse({ in: a, out: a }, { code: 'XDP_BAD_OPTION', option: 'out' })
    await refuse({ in: a, out: b, ...{ multiBuffer: true } }, { option: 'multiBuffer' })
    await refuse({ in: a, out: 'nosuch0' }, { code: 'XDP_NOT_FOUND' })
    await refuse(
      { in: a, out: b, rewrite: { destination: '02:00' } },
      { code: 'XDP_BAD_OPTION', option: 'rewrite' },
    )
    await refuse({ in: a, out: b, rewrite: 'both' as 'swap' }, { code: 'XDP_BAD_OPTION', option: 'rewrite' })
    await refuse({ in: a, discovery: 'me' as 'kernel' }, { code: 'XDP_BAD_OPTION', option: 'discovery' })
    await refuse({ in: a, out: { ...b, queues: [7] } }, { code: 'XDP_BAD_OPTION', option: 'queue' })
    const taken = await openAt(t, right.a, { attach: 'none' })
    await refuse({ in: a, out: b }, { code: 'EBUSY' })
    await taken.close()
    assert.deepEqual(attachedAt(left.a), [])
    assert.deepEqual(openDescriptors(), before)
  })

  it('is warned of: packets longer than a frame, devices that differ', async (t) => {
    const left = createTestLab(t, { mtu: 3400 })
    const right = createTestLab(t)
    const forwarder = await Forwarder.open({
      in: { interface: left.a.interface, namespace: left.a.namespace },
      out: { interface: right.a.interface, namespace: right.a.namespace },
      umem: { frameSize: 2048 },
    })
    t.after(() => forwarder.close())
    assert.deepEqual(
      forwarder.warnings.map(({ code }) => code),
      ['frame-size', 'mtu'],
    )
  })
})
