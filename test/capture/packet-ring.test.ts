// AF_PACKET on a lab's cable: every packet once, as it was on the wire, in order, filtered, and counted when it is lost.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite, test, type TestContext } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { setInterfaceUp } from '../../src/kernel/index.js'
import type { Lab } from '../../src/lab/index.js'
import { buildPacket, decodeVlan } from '../../src/packet/index.js'
import type { PacketRecord } from '../../src/packet/pcap-record.js'
import { CaptureEngine } from '../../src/capture/engine.js'
import { InterfaceGoneError } from '../../src/capture/errors.js'
import { PacketRing, ringShape, type PacketRingOptions } from '../../src/capture/packet-ring.js'
import { readFileBytes } from '../packet/pcap-files.js'
import { createTestLab, needsRoot, openDescriptors } from '../support/lab.js'
import { frameOf, isOurs, until } from '../support/xsk.js'
import { hexOf, Keeper, libpcapFilter, senderAt } from './support.js'

const ours = (packet: PacketRecord) => isOurs(packet as never)
const udp = (dstPort: number, payload = 'payload') =>
  buildPacket({
    ipv4: { src: '192.0.2.1', dst: '192.0.2.2' },
    udp: { srcPort: 9, dstPort },
    payload,
  })
const toHex = (frame: Uint8Array) => Buffer.from(frame).toString('hex')

function openRing(t: TestContext, lab: Lab, options: Partial<PacketRingOptions> = {}): PacketRing {
  const { interface: name, namespace } = lab.a
  const ring = PacketRing.open({ interface: name, namespace, ...options })
  t.after(() => ring.close())
  return ring
}

test('a ring has blocks for packets of 64 KiB, four at least, and a timeout that makes it last', () => {
  const KIB = 1024
  const shape = (ring: number, latency?: number) => {
    const { blockSize, blocks, blockTimeout } = ringShape(ring * KIB, latency)
    return [blockSize / KIB, blocks, blockTimeout]
  }
  assert.deepEqual(shape(8192), [128, 64, 250])
  assert.deepEqual(shape(4096), [128, 32, 250])
  assert.deepEqual(shape(8192, 100), [128, 64, 1000])
  assert.deepEqual(shape(4096, 100), [128, 32, 1000])
  assert.deepEqual(shape(4096, 20), [128, 32, 20])
  assert.deepEqual(shape(4096, 0), [128, 32, 20])
  assert.deepEqual(shape(16384), [128, 128, 125])
  assert.deepEqual(shape(32768, 100), [128, 256, 252])
  assert.deepEqual(shape(1 << 20, 100), [128, 8192, 100])
  assert.deepEqual(shape(1 << 20), [128, 8192, 20])
  assert.deepEqual(shape(300), [64, 4, 250])
  assert.deepEqual(shape(64), [16, 4, 250])
})

suite('packet ring', { skip: needsRoot }, () => {
  test('hands on every packet as it was, in order, with time and direction', async (t) => {
    const lab = createTestLab(t)
    const ring = openRing(t, lab)
    const keeper = new Keeper(ours)
    ring.start(keeper)
    const before = Date.now() / 1000
    const frames = Array.from({ length: 500 }, (_, i) => frameOf(60 + ((i * 37) % 1400), i))
    const send = senderAt(t, lab.b)
    for (const frame of frames) send(frame)
    const back = frameOf(99, 9999)
    senderAt(t, lab.a)(back)
    await ring.stop()
    assert.equal(keeper.packets.length, 501)
    assert.deepEqual(keeper.packets.map(hexOf), [...frames, back].map(toHex))
    for (const [i, packet] of keeper.packets.entries()) {
      assert.equal(packet.direction, i < 500 ? 'inbound' : 'outbound')
      assert.equal(packet.wireLength, packet.length)
      const at = packet.seconds + packet.nanoseconds / 1e9
      assert.ok(at >= before - 1 && at <= Date.now() / 1000 + 1)
      const last = keeper.packets[i - 1] ?? packet
      assert.ok(at >= last.seconds + last.nanoseconds / 1e9)
    }
    const stats = ring.stats()
    assert.ok(stats.packets >= 501 && stats.batches > 0)
    assert.equal(stats.dropped.kernel, 0)
  })

  test('takes the same packets as tcpdump at the same time: IPv4, IPv6, tagged, twice tagged, fragments', async (t) => {
    const lab = createTestLab(t)
    const directory = mkdtempSync(join(tmpdir(), 'node-xdp-ring-'))
    t.after(() => rmSync(directory, { recursive: true }))
    const path = join(directory, 'tcpdump.pcap')
    const tcpdump = lab.spawn('a', 'tcpdump', ['-i', lab.a.interface, '-U', '-w', path, '--immediate-mode'], {
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    const exited = once(tcpdump, 'exit')
    let said = ''
    tcpdump.stderr?.on('data', (text: Buffer) => (said += text.toString()))
    await until('tcpdump listens', () => said.includes('listening on'))
    const ring = openRing(t, lab)
    const keeper = new Keeper()
    ring.start(keeper)
    const ipv6 = { src: '2001:db8::1', dst: '2001:db8::2' }
    const ipv4 = { src: '192.0.2.1', dst: '192.0.2.2' }
    const frames = [
      udp(7),
      buildPacket({ ipv6, tcp: { srcPort: 1, dstPort: 2, flags: 2 } }),
      buildPacket({
        vlans: [{ id: 5, priority: 3 }],
        ipv4,
        udp: { srcPort: 1, dstPort: 2 },
        payload: 'tagged',
      }),
      buildPacket({
        vlans: [{ id: 100 }, { id: 200 }],
        ipv6,
        udp: { srcPort: 1, dstPort: 2 },
        payload: 'twice',
      }),
      buildPacket({
        ipv4: { ...ipv4, moreFragments: true },
        udp: { srcPort: 1, dstPort: 2 },
        payload: 'first',
      }),
      buildPacket({ ipv4: { ...ipv4, fragmentOffset: 800, protocol: 17 }, payload: 'later' }),
      udp(8, 'x'.repeat(1400)),
    ]
    const send = senderAt(t, lab.b)
    for (const frame of frames) send(frame)
    await until('tcpdump has them', () => {
      const { packets } = readFileBytes(readFileSync(path))
      return packets.length >= frames.length
    })
    await ring.stop()
    tcpdump.kill('SIGINT')
    await exited
    const theirs = readFileBytes(readFileSync(path)).packets.map(hexOf)
    const mine = keeper.packets.map(hexOf)
    assert.deepEqual(
      frames.map(toHex).filter((frame) => !mine.includes(frame)),
      [],
    )
    assert.deepEqual(mine, theirs)
  })

  test('takes what a filter wants, tagged packets judged with their tags, and cuts at the snap length', async (t) => {
    const lab = createTestLab(t)
    const seen: number[] = []
    const filter = libpcapFilter('udp dst port 53', (bytes, offset, length, wireLength) => {
      // Only what carries a tag comes here: the kernel has judged the others.
      const tag = decodeVlan(bytes, offset + 14, offset + length)
      if (tag.problem) return false
      assert.equal(wireLength >= length, true)
      seen.push(tag.id)
      return tag.id === 5
    })
    const ring = openRing(t, lab, { filter, snapLength: 50 })
    const keeper = new Keeper()
    ring.start(keeper)
    const send = senderAt(t, lab.b)
    const tagged = (id: number) =>
      buildPacket({
        vlans: [{ id }],
        ipv4: { src: '192.0.2.1', dst: '192.0.2.2' },
        udp: { srcPort: 1, dstPort: 53 },
        payload: 'something long enough',
      })
    const wanted = udp(53, 'the first question')
    for (const frame of [udp(52), wanted, tagged(4), udp(54), tagged(5)]) send(frame)
    await ring.stop()
    assert.deepEqual(
      keeper.packets.map(hexOf),
      [wanted, tagged(5)].map((frame) => toHex(frame.subarray(0, 50))),
    )
    assert.deepEqual(
      keeper.packets.map(({ wireLength }) => wireLength),
      [wanted.length, tagged(5).length],
    )
    assert.deepEqual(seen, [4, 5])
  })

  test('counts what it had no room for, while paused, and hands on the rest', async (t) => {
    const lab = createTestLab(t)
    const ring = openRing(t, lab, { blocks: 2, blockSize: 4096, blockTimeout: 60_000 })
    const keeper = new Keeper(ours)
    ring.start(keeper)
    ring.pause()
    const send = senderAt(t, lab.b)
    for (let i = 0; i < 100; i++) send(frameOf(1000, i))
    const lost = ring.stats().dropped.kernel
    assert.ok(lost >= 85 && lost < 100, `${lost} lost`)
    ring.resume()
    await until('the blocks that are full came', () => keeper.packets.length + lost >= 97)
    assert.deepEqual(hexOf(keeper.packets[0]), toHex(frameOf(1000, 0)))
  })

  test('loses nothing of a trickle while nobody looks, where it would fit many times over', async (t) => {
    const lab = createTestLab(t)
    const { interface: name, namespace } = lab.a
    // As programs have it, and as the command has it for files.
    await using usual = await CaptureEngine.open({ interface: name, namespace, mode: 'packet' })
    await using slow = await CaptureEngine.open({ interface: name, namespace, mode: 'packet', latency: 100 })
    const captures = [usual, slow].map((engine) => ({ engine, keeper: new Keeper(ours) }))
    for (const { engine, keeper } of captures) {
      engine.start({ packet: (packet) => keeper.packet(packet) })
      engine.pause()
    }
    const send = senderAt(t, lab.b)
    const frames = Array.from({ length: 40 }, (_, i) => frameOf(100, i))
    for (const frame of frames) {
      send(frame)
      // Blocks of a ring that has fewer than packets come must not be over in this time.
      await delay(50)
    }
    for (const { engine, keeper } of captures) {
      assert.equal(engine.stats().dropped.kernel, 0)
      engine.resume()
      await engine.stop()
      assert.deepEqual(keeper.packets.map(hexOf), frames.map(toHex))
    }
  })

  test('keeps as many packets as the ring has room for, whatever their size', async (t) => {
    const lab = createTestLab(t, { mtu: 9000 })
    for (const length of [60, 1514, 9014]) {
      // No block is given up before it is full, however long the sending takes.
      const ring = openRing(t, lab, { blockTimeout: 60_000 })
      const keeper = new Keeper(ours)
      ring.start(keeper)
      ring.pause()
      const send = senderAt(t, lab.b)
      // What the kernel puts before a packet, and the room that the last of a block does not fit in.
      const count = Math.floor((8 << 20) / (length + 90 + 8)) - Math.ceil((64 * length) / (length + 98)) - 128
      const frame = frameOf(length, 1)
      for (let i = 0; i < count; i++) send(frame)
      assert.equal(ring.stats().dropped.kernel, 0)
      ring.resume()
      await ring.stop()
      assert.equal(keeper.packets.length, count)
      await ring.close()
    }
  })

  test(
    'hands on what came last at once when it stops, however long blocks may take',
    { timeout: 50_000 },
    async (t) => {
      const lab = createTestLab(t)
      const ring = openRing(t, lab, { blockTimeout: 60_000 })
      const keeper = new Keeper(ours)
      ring.start(keeper)
      const frames = Array.from({ length: 300 }, (_, i) => frameOf(1000, i))
      const send = senderAt(t, lab.b)
      for (const frame of frames) send(frame)
      await ring.stop()
      assert.deepEqual(keeper.packets.map(hexOf), frames.map(toHex))
      send(frameOf(1000, 300))
      await ring.stop()
      assert.equal(keeper.packets.length, 300)
    },
  )

  test('a packet longer than a block is cut, its length on the wire kept', async (t) => {
    const lab = createTestLab(t, { mtu: 9000 })
    const ring = openRing(t, lab, { blockSize: 4096, blocks: 4 })
    const keeper = new Keeper(ours)
    ring.start(keeper)
    senderAt(t, lab.b)(frameOf(8000))
    await ring.stop()
    const [packet] = keeper.packets
    assert.equal(packet.wireLength, 8000)
    assert.ok(packet.length > 3900 && packet.length < 4096)
    assert.equal(hexOf(packet), toHex(frameOf(8000).subarray(0, packet.length)))
  })

  test('says when the interface goes down and comes back, and goes on', async (t) => {
    const lab = createTestLab(t)
    const ring = openRing(t, lab)
    const keeper = new Keeper(ours)
    ring.start(keeper)
    setInterfaceUp(lab.a.interface, false, lab.a)
    await until('the sink knows', () => keeper.links.length === 1)
    setInterfaceUp(lab.a.interface, true, lab.a)
    await until('the sink knows', () => keeper.links.length === 2)
    assert.deepEqual(keeper.links, [false, true])
    await until('the link runs', () => lab.interfaces().b.running)
    senderAt(t, lab.b)(frameOf(70))
    await until('the packet came', () => keeper.packets.length === 1)
    assert.equal(keeper.end, undefined)
  })

  test('waits for an interface that is down', async (t) => {
    const lab = createTestLab(t)
    setInterfaceUp(lab.a.interface, false, lab.a)
    const ring = openRing(t, lab)
    const keeper = new Keeper(ours)
    ring.start(keeper)
    await until('the sink knows', () => keeper.links.length === 1)
    setInterfaceUp(lab.a.interface, true, lab.a)
    await until('the sink knows', () => keeper.links.length === 2)
    assert.deepEqual(keeper.links, [false, true])
    await until('the link runs', () => lab.interfaces().b.running)
    senderAt(t, lab.b)(frameOf(70))
    await until('the packet came', () => keeper.packets.length === 1)
  })

  test('has the interface take everything as long as it is open, unless told not to', async (t) => {
    const lab = createTestLab(t)
    const promiscuity = async () => {
      const { stdout } = await lab.exec('a', 'ip', ['-details', '-json', 'link', 'show', lab.a.interface])
      return (JSON.parse(stdout) as { promiscuity: number }[])[0].promiscuity
    }
    openRing(t, lab, { promiscuous: false })
    assert.equal(await promiscuity(), 0)
    const ring = openRing(t, lab)
    assert.equal(await promiscuity(), 1)
    await ring.close()
    assert.equal(await promiscuity(), 0)
  })

  test('ends with an error when the interface is gone', async (t) => {
    const lab = createTestLab(t)
    const ring = openRing(t, lab)
    const keeper = new Keeper()
    ring.start(keeper)
    await lab.exec('a', 'ip', ['link', 'del', lab.a.interface])
    await until('the sink knows', () => keeper.end !== undefined)
    assert.ok(keeper.end?.error instanceof InterfaceGoneError)
    assert.equal(keeper.end.error.code, 'ENODEV')
    ring.stats()
  })

  test('sees each packet on loopback once', async (t) => {
    const lab = createTestLab(t)
    const { namespace } = lab.a
    await lab.exec('a', 'ip', ['link', 'set', 'lo', 'up'])
    const ring = PacketRing.open({ interface: 'lo', namespace })
    t.after(() => ring.close())
    const keeper = new Keeper()
    ring.start(keeper)
    await lab.exec('a', 'ping', ['-c', '3', '-i', '0.01', '127.0.0.1'])
    await ring.stop()
    assert.equal(keeper.packets.length, 6)
  })

  test('a link without Ethernet headers is captured as raw IP, and refused with a filter', async (t) => {
    const lab = createTestLab(t)
    const made = await lab.exec('a', 'ip', ['tuntap', 'add', 'dev', 'raw0', 'mode', 'tun'])
    if (made.status !== 0) {
      t.skip(`no tun device here: ${made.stderr.trim()}`)
      return
    }
    const options = { interface: 'raw0', namespace: lab.a.namespace }
    const ring = PacketRing.open(options)
    assert.equal(ring.linkType, 101)
    await ring.close()
    const before = openDescriptors()
    const filter = libpcapFilter('udp', () => true)
    assert.throws(() => PacketRing.open({ ...options, filter }), {
      code: 'XDP_UNSUPPORTED',
      message: /raw0 have no Ethernet header/,
    })
    assert.deepEqual(openDescriptors(), before)
  })

  test('hands on packets when the time of their block is over, and all of them while many come', async (t) => {
    const lab = createTestLab(t)
    const ring = openRing(t, lab, { blockTimeout: 80 })
    const keeper = new Keeper(ours)
    ring.start(keeper)
    const send = senderAt(t, lab.b)
    send(frameOf(100, 0))
    await until('the first one is there', () => keeper.packets.length === 1)
    // More than the ring holds, as fast as it is read.
    const frames = Array.from({ length: 6000 }, (_, i) => frameOf(1400, i + 1))
    for (let i = 0; i < frames.length; i += 500) {
      for (const frame of frames.slice(i, i + 500)) send(frame)
      await until('these are there', () => keeper.packets.length === 1 + i + 500)
    }
    await ring.stop()
    assert.deepEqual(keeper.packets.slice(1).map(hexOf), frames.map(toHex))
    assert.equal(ring.stats().dropped.kernel, 0)
  })

  test('refuses what cannot be, by name, and leaves no descriptor open', async (t) => {
    const lab = createTestLab(t)
    const { interface: name, namespace } = lab.a
    const before = openDescriptors()
    const refused = (options: Partial<PacketRingOptions>, expected: object) => {
      assert.throws(() => PacketRing.open({ interface: name, namespace, ...options }), expected)
    }
    refused({ interface: 'nothere' }, { code: 'XDP_NOT_FOUND' })
    refused({ blockSize: 5000 }, { option: 'blockSize' })
    refused({ snapLength: 0 }, { option: 'snapLength' })
    refused({ blocks: 0 }, { option: 'blocks' })
    const bad = { matches: () => true, toClassicBpf: () => Uint8Array.of(0xff, 0xff, 0, 0, 0, 0, 0, 0) }
    refused({ filter: bad }, { syscall: 'setsockopt(SO_ATTACH_FILTER)', code: 'EINVAL' })
    const ring = PacketRing.open({ interface: name, namespace })
    ring.start(new Keeper())
    assert.throws(() => ring.start(new Keeper()), { code: 'XDP_STATE' })
    await ring.close()
    await ring.close()
    assert.throws(() => ring.start(new Keeper()), { code: 'XDP_STATE' })
    assert.deepEqual(openDescriptors(), before)
  })

  test('ends with what the sink throws', async (t) => {
    const lab = createTestLab(t)
    const ring = openRing(t, lab)
    const error = new Error('from the sink')
    const ended = new Promise((resolve) => {
      ring.start({
        packet() {
          throw error
        },
        ended: resolve,
      })
    })
    senderAt(t, lab.b)(frameOf(60))
    assert.equal(await ended, error)
  })
})
