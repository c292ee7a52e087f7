// Frames cross the rings byte for byte, at every length the kernel lets through; tcpdump sees the same bytes.
import assert from 'node:assert/strict'
import { describe, it, type TestContext } from 'node:test'
import type { Lab } from '../../src/lab/index.js'
import type { Traffic, XdpPacket, XdpSocket } from '../../src/xsk/index.js'
import { createTestLab, needsRoot } from '../support/lab.js'
import { assertAllHome, collect, frameOf, isOurs, openAt, until } from '../support/xsk.js'

const ETH_HLEN = 14
const VLAN_HLEN = 4

/** Lengths around everything that has an edge: words, cache lines, the shortest Ethernet frame, the ends. */
function lengthsUpTo(longest: number): number[] {
  const edges = [
    14, 15, 16, 17, 28, 31, 32, 33, 42, 59, 60, 61, 63, 64, 65, 127, 128, 129, 255, 256, 257, 511, 512, 513,
  ]
  edges.push(1023, 1024, 1025, 1279, 1280, 1500, 1513, 1514, 1791, 1792, 2047, 2048, 2049, 3071, 3072, 3519)
  const near = [3, 2, 1, 0].map((less) => longest - less)
  return [...new Set([...edges, ...near])].filter((length) => length <= longest)
}

/** Sends one frame after the other and compares what arrives. */
async function exchange(
  sender: XdpSocket,
  receiver: XdpSocket,
  lengths: readonly number[],
): Promise<Traffic> {
  const seen: Traffic = { packets: 0, bytes: 0 }
  for (const length of lengths) {
    const sent = frameOf(length)
    const got: Uint8Array[] = []
    assert.equal(sender.send(sent), true)
    sender.flush()
    await until(`the frame of ${length} bytes is there`, () => {
      receiver.receive((packet) => {
        seen.packets++
        seen.bytes += packet.length
        if (!isOurs(packet)) return
        assert.equal(packet.queue, 0)
        assert.equal(packet.length, length)
        assert.deepEqual(packet.subarray(), packet.copy())
        got.push(packet.copy())
      })
      return got.length > 0
    })
    assert.equal(got.length, 1)
    assert.ok(Buffer.from(sent).equals(got[0]), `frame of ${length} bytes`)
  }
  return seen
}

/** Sends a frame that must not arrive, then one that must: it would come after. */
async function exchangeWithout(sender: XdpSocket, receiver: XdpSocket, lost: number): Promise<void> {
  assert.equal(sender.send(frameOf(lost)), true)
  await exchange(sender, receiver, [60])
}

async function bothEnds(t: TestContext, lab: Lab, frameSize: number, mode: 'native' | 'generic') {
  const umem = { frames: 64, frameSize }
  const receiver = await openAt(t, lab.a, { mode, umem, trackFrames: true })
  const sender = await openAt(t, lab.b, { attach: 'none', umem, trackFrames: true })
  return { receiver, sender }
}

describe('frames', { skip: needsRoot }, () => {
  for (const [mode, frameSize, mtu] of [
    // A frame receives chunk - 256 bytes; the kernel forwards MTU + Ethernet header + one VLAN tag.
    ['native', 2048, 1792 - ETH_HLEN - VLAN_HLEN],
    ['generic', 2048, 1792 - ETH_HLEN - VLAN_HLEN],
    // 3506 is the largest MTU for which a veth takes a native program (drivers/net/veth.c: veth_xdp_set).
    ['native', 4096, 3506],
    ['generic', 4096, 3840 - ETH_HLEN - VLAN_HLEN],
  ] as const) {
    it(`cross byte for byte in ${mode} mode and chunks of ${frameSize}, up to the longest`, async (t) => {
      const lab = createTestLab(t, { mtu })
      const { sender, receiver } = await bothEnds(t, lab, frameSize, mode)
      const longest = mtu + ETH_HLEN + VLAN_HLEN
      if (mtu !== 3506) assert.equal(longest, receiver.umem.maxReceive)
      const lengths = lengthsUpTo(mtu === 3506 ? mtu + ETH_HLEN : longest)
      const seen = await exchange(sender, receiver, lengths)
      const bytes = lengths.reduce((sum, length) => sum + length, 0)
      assert.deepEqual(receiver.statistics().rx, seen)
      assert.deepEqual(sender.statistics().tx, { packets: lengths.length, bytes })
      await assertAllHome(sender)
      await assertAllHome(receiver)
    })
  }

  it('come back byte for byte when the receiver changes and transmits them in place', async (t) => {
    const lab = createTestLab(t)
    const a = await openAt(t, lab.a, { umem: { frames: 16 }, trackFrames: true })
    const b = await openAt(t, lab.b, { umem: { frames: 16 }, trackFrames: true })
    for (const length of lengthsUpTo(1514)) {
      const sent = frameOf(length)
      const expected = sent.slice().fill(length & 0xff, 6, 12)
      assert.ok(b.send(sent))
      b.flush()
      const back: Uint8Array[] = []
      await until(`${length} bytes are back`, () => {
        a.receive((packet) => {
          packet.bytes.fill(length & 0xff, packet.offset + 6, packet.offset + 12)
          return 'transmit'
        })
        collect(b, back)
        return back.length > 0
      })
      assert.deepEqual(back, [expected])
    }
    await assertAllHome(a)
    await assertAllHome(b)
  })

  it('can be sent shorter, longer and from another offset than they came', async (t) => {
    const lab = createTestLab(t)
    const a = await openAt(t, lab.a, { umem: { frames: 4, headroom: 64 }, trackFrames: true })
    const b = await openAt(t, lab.b, { umem: { frames: 4 }, trackFrames: true })
    const sent = frameOf(100)
    for (const [offset, length] of [
      [0, 60],
      [0, 200],
      [-64, 164],
      [20, 80],
    ]) {
      assert.ok(b.send(sent))
      b.flush()
      const back: Uint8Array[] = []
      let expected: Uint8Array | undefined
      await until('it is back', () => {
        a.receive((packet) => {
          packet.offset += offset
          packet.length = length
          packet.bytes.set(frameOf(14), packet.offset)
          expected = packet.copy()
          return 'transmit'
        })
        collect(b, back)
        return back.length > 0
      })
      assert.deepEqual(back, [expected])
    }
    await assertAllHome(a)
  })

  it('use the headroom asked for, and lie within their frame', async (t) => {
    const lab = createTestLab(t)
    for (const headroom of [0, 64, 256]) {
      const receiver = await openAt(t, lab.a, { umem: { frames: 8, headroom } })
      const sender = await openAt(t, lab.b, { attach: 'none', umem: { frames: 8 } })
      assert.ok(sender.send(frameOf(60)))
      sender.flush()
      await until('it is there', () => {
        return (
          receiver.receive((packet) => {
            assert.equal(packet.offset - packet.frame, headroom + 256)
            assert.equal(packet.frame % 2048, 0)
          }) > 0
        )
      })
      await receiver.close()
      await sender.close()
    }
  })

  it('longer than a frame can receive are dropped and counted by the kernel, and the next one arrives', async (t) => {
    const lab = createTestLab(t, { mtu: 3000 })
    const { sender, receiver } = await bothEnds(t, lab, 2048, 'native')
    await sender.close()
    const wide = await openAt(t, lab.b, { attach: 'none', umem: { frames: 8, frameSize: 4096 } })
    await exchange(wide, receiver, [1792])
    await exchangeWithout(wide, receiver, 1793)
    await exchangeWithout(wide, receiver, 3014)
    assert.equal(receiver.statistics().kernel.rxDropped, 2)
    await assertAllHome(receiver)
  })

  it('shorter than an Ethernet header, or longer than the link takes, are dropped by the driver and counted there', async (t) => {
    const lab = createTestLab(t)
    const { sender, receiver } = await bothEnds(t, lab, 2048, 'native')
    const before = lab.stats().b.txDropped
    const impossible = [1, 13, 1500 + ETH_HLEN + VLAN_HLEN + 1, 2048]
    for (const length of impossible) await exchangeWithout(sender, receiver, length)
    assert.equal(lab.stats().b.txDropped - before, impossible.length)
    // The kernel gives the frames back: nothing is lost of the memory.
    await assertAllHome(sender)
  })

  it('of no length, or longer than a chunk, are refused before anything is taken', async (t) => {
    const lab = createTestLab(t)
    const { sender } = await bothEnds(t, lab, 2048, 'native')
    const before = sender.frames()
    assert.throws(() => sender.send(new Uint8Array(0)), { code: 'XDP_BAD_OPTION' })
    assert.throws(() => sender.send(new Uint8Array(2049)), { code: 'XDP_BAD_OPTION' })
    assert.deepEqual(sender.frames(), before)
  })

  it('sent in place by reserve and commit arrive in order; what is not committed is free again', async (t) => {
    const lab = createTestLab(t)
    const { sender, receiver } = await bothEnds(t, lab, 2048, 'native')
    const { free } = sender.frames()
    const batch = sender.reserve(10)
    assert.equal(batch.length, 10)
    assert.equal(sender.frames().held, 10)
    for (let i = 0; i < 7; i++) {
      sender.bytes.set(frameOf(60 + i), batch.offset(i))
      batch.setLength(i, 60 + i)
    }
    assert.equal(batch.commit(7), 7)
    const got: Uint8Array[] = []
    await until('seven are there', () => {
      collect(receiver, got)
      return got.length === 7
    })
    got.forEach((frame, i) => assert.deepEqual(frame, frameOf(60 + i)))
    await sender.drain()
    assert.equal(sender.frames().free, free)
    sender.reserve(5)
    sender.reserve(3)
    assert.equal(sender.frames().held, 3)
    sender.reserve(3).cancel()
    assert.equal(sender.frames().free, free)
    assert.throws(() => sender.reserve(2).commit(3), RangeError)
    sender.reserve(0)
    await assertAllHome(sender)
  })

  it('arrive at the other end as tcpdump sees them there', async (t) => {
    const lab = createTestLab(t)
    const sender = await openAt(t, lab.b, { attach: 'none', umem: { frames: 256 } })
    const lengths = lengthsUpTo(1518)
    const seen = await captureAt(lab, 'a', ['ether', 'proto', '0x88b5'], lengths.length)
    for (const length of lengths) assert.ok(sender.send(frameOf(length)))
    sender.flush()
    const frames = await seen()
    assert.equal(frames.length, lengths.length)
    frames.forEach((frame, i) => assert.ok(frame.equals(frameOf(lengths[i])), `frame of ${lengths[i]} bytes`))
  })

  it("are received as tcpdump sees the kernel's packets leave", async (t) => {
    const lab = createTestLab(t)
    const receiver = await openAt(t, lab.a)
    const count = 300
    const seen = await captureAt(lab, 'b', ['udp', 'port', '9'], count)
    const flood = `
      const socket = require('node:dgram').createSocket('udp4')
      let size = 0
      const next = () => size < ${count} ? socket.send(Buffer.alloc(size * 4, size++), 9, ${JSON.stringify(lab.a.ipv4)}, next) : socket.close()
      next()`
    const { status, stderr } = await lab.exec('b', process.execPath, ['-e', flood])
    assert.equal(status, 0, stderr)
    const got: Uint8Array[] = []
    await until('all are there', () => {
      receiver.receive((packet) => {
        if (isUdp(packet)) got.push(packet.copy())
      })
      return got.length === count
    })
    const frames = await seen()
    frames.forEach((frame, i) => assert.ok(frame.equals(got[i]), `frame ${i}`))
    assert.equal(frames.length, count)
  })
})

/** Whether it is an IPv4 packet with UDP in it. */
function isUdp({ bytes, offset }: XdpPacket): boolean {
  return bytes[offset + 12] === 0x08 && bytes[offset + 13] === 0x00 && bytes[offset + 23] === 17
}

/** Starts tcpdump; the result waits for `count` frames and gives them. */
async function captureAt(
  lab: Lab,
  end: 'a' | 'b',
  filter: readonly string[],
  count: number,
): Promise<() => Promise<Buffer[]>> {
  const options = ['-i', lab[end].interface, '-n', '-U', '-s', '0', '-w', '-', '-c', String(count)]
  const tcpdump = lab.spawn(end, 'tcpdump', [...options, ...filter], { stdio: ['ignore', 'pipe', 'pipe'] })
  const chunks: Buffer[] = []
  tcpdump.stdout?.on('data', (chunk: Buffer) => chunks.push(chunk))
  let said = ''
  tcpdump.stderr?.setEncoding('utf8').on('data', (text: string) => (said += text))
  let closed = false
  tcpdump.once('close', () => (closed = true))
  await until('tcpdump listens', () => said.includes('listening on'))
  return async () => {
    await until(`tcpdump has seen ${count} frames`, () => closed)
    return readPcap(Buffer.concat(chunks))
  }
}

/** The frames of a little-endian classic pcap file. */
function readPcap(file: Buffer): Buffer[] {
  const frames: Buffer[] = []
  for (let at = 24; at < file.length;) {
    const length = file.readUInt32LE(at + 8)
    frames.push(file.subarray(at + 16, at + 16 + length))
    at += 16 + length
  }
  return frames
}
