// Too few frames, full rings, more packets than anyone reads: what is lost is counted, and nothing stays stuck.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { setInterfaceUp } from '../../src/kernel/interfaces.js'
import { createTestLab, needsRoot } from '../support/lab.js'
import {
  assertAllHome,
  assertConserved,
  collect,
  frameOf,
  generatorAt,
  isOurs,
  linkPackets,
  openAt,
  until,
} from '../support/xsk.js'

const rings = (size: number) => ({ rx: size, tx: size, fill: size, completion: size })

describe('a socket under pressure', { skip: needsRoot }, () => {
  for (const frames of [1, 2, 3]) {
    it(`with ${frames} frame${frames > 1 ? 's' : ''} and rings of 1 receives, and reflects by run`, async (t) => {
      const lab = createTestLab(t)
      const a = await openAt(t, lab.a, { umem: { frames }, rings: rings(1), trackFrames: true })
      const b = await openAt(t, lab.b, { umem: { frames: 16 } })
      const exchange = async (i: number) => {
        const back: Uint8Array[] = []
        assert.ok(b.send(frameOf(60 + i)))
        b.flush()
        await until(`packet ${i} is back`, () => {
          collect(b, back)
          return back.length > 0
        })
        assert.deepEqual(back, [frameOf(60 + i)])
      }
      const running = a.run(() => 'transmit')
      for (let i = 0; i < 50; i++) await exchange(i)
      a.stop()
      await running
      await assertAllHome(a)
      assert.equal(a.frames().total, frames)
      assert.equal(a.statistics().txDropped, 0)
    })
  }

  it('with one frame counts what it cannot take, and takes the next one after each', async (t) => {
    const lab = createTestLab(t)
    const a = await openAt(t, lab.a, { umem: { frames: 1 }, rings: rings(1), trackFrames: true })
    const generator = generatorAt(t, lab.b)
    for (let round = 1; round <= 20; round++) {
      generator.send(frameOf(60), 10)
      let got = 0
      await until('one is there', () => {
        a.receive((packet) => {
          if (isOurs(packet)) got++
        })
        return got > 0
      })
      assert.equal(got, 1)
      const { kernel } = a.statistics()
      assert.equal(kernel.fillRingEmpty, 9 * round)
      assert.equal(kernel.rxDropped + kernel.rxRingFull, 9 * round)
      assertConserved(a)
    }
    assert.equal(a.allocate(), -1)
    assert.equal(a.send(frameOf(60)), false)
    await assertAllHome(a)
  })

  it('receives nothing while every frame is held, says so, and goes on when they are released', async (t) => {
    const lab = createTestLab(t)
    const frames = 64
    const a = await openAt(t, lab.a, { umem: { frames }, trackFrames: true })
    const generator = generatorAt(t, lab.b)
    const held: number[] = []
    const hold = () => {
      a.receive((packet) => {
        held.push(packet.frame)
        return 'hold'
      })
    }
    for (let round = 0; round < 3; round++) {
      // The fill ring has half of the frames; what is held is replaced until none is left.
      for (let sent = 0; sent < frames; sent += 16) {
        generator.send(frameOf(60), 16)
        hold()
      }
      assert.equal(held.length, frames)
      assert.equal(new Set(held).size, frames)
      assert.deepEqual(assertConserved(a), {
        total: frames,
        free: 0,
        fill: 0,
        rx: 0,
        held: frames,
        tx: 0,
        completion: 0,
      })
      const before = a.statistics()
      generator.send(frameOf(60), 10)
      assert.equal(
        a.receive(() => assert.fail('a packet without a frame')),
        0,
      )
      const after = a.statistics()
      assert.equal(after.kernel.fillRingEmpty - before.kernel.fillRingEmpty, 10)
      assert.equal(after.rx.packets, before.rx.packets)
      // One frame released is one packet received.
      a.release((held.pop() as number) + 77)
      generator.send(frameOf(60), 10)
      hold()
      assert.equal(held.length, frames)
      for (const frame of held.splice(0)) a.release(frame)
      await assertAllHome(a)
    }
  })

  it('goes on by itself in run when a held frame is released', async (t) => {
    const lab = createTestLab(t)
    const a = await openAt(t, lab.a, { umem: { frames: 1 }, trackFrames: true })
    const generator = generatorAt(t, lab.b)
    const held: number[] = []
    const running = a.run((packet) => {
      held.push(packet.frame)
      return 'hold'
    })
    for (let i = 0; i < 5; i++) {
      generator.send(frameOf(60), 3)
      await until('it is held', () => held.length === 1)
      a.release(held.pop() as number)
    }
    a.stop()
    await running
    await assertAllHome(a)
  })

  it('that nobody reads fills its RX ring; the kernel counts the rest, and the next ones arrive', async (t) => {
    const lab = createTestLab(t)
    const a = await openAt(t, lab.a, {
      umem: { frames: 256 },
      rings: { rx: 16, fill: 128 },
      trackFrames: true,
    })
    const generator = generatorAt(t, lab.b)
    const before = linkPackets(lab)
    for (let round = 1; round <= 5; round++) {
      generator.send(frameOf(60), 100)
      const statistics = a.statistics()
      assert.equal(statistics.levels.rx, 16)
      assert.equal(statistics.frames.rx, 16)
      assert.equal(statistics.kernel.rxRingFull, round * 84)
      assert.equal(statistics.kernel.fillRingEmpty, 0)
      assertConserved(a)
      assert.equal(
        a.receive(() => undefined, 1000),
        16,
      )
      assert.equal(
        a.receive(() => undefined),
        0,
      )
    }
    // What came in is what was handed on and what was not.
    const { rx, kernel } = a.statistics()
    assert.equal(linkPackets(lab).aReceived - before.aReceived, 500)
    assert.equal(rx.packets + kernel.rxRingFull + kernel.rxDropped, 500)
    assert.equal(rx.bytes, rx.packets * 60)
    await assertAllHome(a)
  })

  it('whose TX ring is full while the link is down says so, loses nothing and goes on when it is up', async (t) => {
    const lab = createTestLab(t)
    const size = 32
    const b = await openAt(t, lab.b, {
      attach: 'none',
      umem: { frames: 256 },
      rings: { tx: size, fill: 64 },
      trackFrames: true,
    })
    const a = await openAt(t, lab.a)
    setInterfaceUp(lab.b.interface, false, { namespace: lab.b.namespace })
    const answers = Array.from({ length: 40 }, (_, i) => b.send(frameOf(60 + i)))
    b.flush()
    assert.deepEqual(
      answers,
      answers.map((_, i) => i < size),
    )
    assert.equal(b.statistics().txDropped, 40 - size)
    assert.equal(b.statistics().tx.packets, size)
    assert.equal(b.txPending, size)
    assertConserved(b)
    await assert.rejects(b.drain(20), { code: 'ETIMEDOUT' })
    assert.equal(assertConserved(b).tx, size)
    setInterfaceUp(lab.b.interface, true, { namespace: lab.b.namespace })
    await until(
      'the link is up',
      () => lab.interfaces().b.operState === 'up' && lab.interfaces().a.operState === 'up',
    )
    const got: Uint8Array[] = []
    await b.drain(10_000)
    await until('all are there', () => {
      collect(a, got)
      return got.length === size
    })
    assert.deepEqual(
      got,
      Array.from({ length: size }, (_, i) => frameOf(60 + i)),
    )
    await assertAllHome(b)
  })

  it('sends through a TX ring of 1 and a completion ring of 1, one after the other', async (t) => {
    const lab = createTestLab(t)
    const b = await openAt(t, lab.b, {
      attach: 'none',
      umem: { frames: 64 },
      rings: { tx: 1, completion: 1 },
      trackFrames: true,
    })
    const a = await openAt(t, lab.a)
    const got: Uint8Array[] = []
    for (let i = 0; i < 100; i++) {
      await until('there is room', () => b.send(frameOf(60 + i)))
      await b.drain()
    }
    await until('all are there', () => {
      collect(a, got)
      return got.length === 100
    })
    got.forEach((frame, i) => assert.deepEqual(frame, frameOf(60 + i)))
    await assertAllHome(b)
  })

  it('sends a thousand packets without a pause, and counts as the link does', async (t) => {
    const lab = createTestLab(t)
    const b = await openAt(t, lab.b, { attach: 'none', trackFrames: true })
    const a = await openAt(t, lab.a, { trackFrames: true })
    const before = linkPackets(lab)
    let sent = 0
    let got = 0
    while (sent < 1000) {
      if (b.send(frameOf(100))) sent++
      if (sent % 32 === 0) {
        b.flush()
        a.receive((packet) => void (isOurs(packet) && got++))
      }
    }
    await b.drain()
    await until('all are there', () => {
      a.receive((packet) => void (isOurs(packet) && got++))
      return got === 1000
    })
    const after = linkPackets(lab)
    const { tx, txDropped, kernel } = b.statistics()
    assert.deepEqual({ tx, txDropped }, { tx: { packets: 1000, bytes: 100_000 }, txDropped: 0 })
    assert.equal(kernel.txInvalidDescriptors, 0)
    assert.equal(after.bSent - before.bSent, 1000)
    assert.equal(after.aReceived - before.aReceived, 1000)
    assert.equal(a.statistics().rx.packets, 1000)
    await assertAllHome(a)
    await assertAllHome(b)
  })

  it('reports the levels of its rings and where the frames are, within a handler too', async (t) => {
    const lab = createTestLab(t)
    const a = await openAt(t, lab.a, { umem: { frames: 16 }, trackFrames: true })
    generatorAt(t, lab.b).send(frameOf(60), 8)
    assert.deepEqual(a.frames(), { total: 16, free: 8, fill: 0, rx: 8, held: 0, tx: 0, completion: 0 })
    let handled = 0
    a.receive((packet) => {
      assert.ok(isOurs(packet))
      handled++
      const census = assertConserved(a)
      assert.deepEqual(census, {
        total: 16,
        free: 8 + Math.floor((handled - 1) / 2),
        fill: 0,
        rx: 8 - handled,
        held: 1 + Math.ceil((handled - 1) / 2),
        tx: 0,
        completion: 0,
      })
      return handled % 2 === 1 ? 'hold' : undefined
    })
    assert.equal(handled, 8)
  })

  it('finds out who frees a frame twice, or one that is no frame, and keeps its count', async (t) => {
    const lab = createTestLab(t)
    const a = await openAt(t, lab.a, { umem: { frames: 16 }, trackFrames: true, attach: 'none' })
    const frame = a.allocate()
    a.release(frame)
    const before = assertConserved(a)
    assert.throws(() => a.release(frame), RangeError)
    assert.throws(() => a.release(1 << 20), { code: 'XDP_BAD_OPTION' })
    assert.deepEqual(assertConserved(a), before)
    const other = a.allocate()
    assert.throws(() => a.transmit(other, 2049), { code: 'XDP_BAD_OPTION' })
    assert.throws(() => a.transmit(other + 1, 2048), { code: 'XDP_BAD_OPTION' })
    assert.throws(() => a.transmit(other, 0), { code: 'XDP_BAD_OPTION' })
    assert.throws(() => a.transmit(other, NaN), { code: 'XDP_BAD_OPTION' })
    assert.throws(() => a.transmit(1 << 20, 60), { code: 'XDP_BAD_OPTION' })
    a.release(other)
    await assertAllHome(a)
  })

  it('gives back the frames of a batch in which a packet has no length', async (t) => {
    const lab = createTestLab(t)
    const a = await openAt(t, lab.a, { umem: { frames: 16 }, trackFrames: true, attach: 'none' })
    const batch = a.reserve(4)
    for (const i of [0, 1, 3]) batch.setLength(i, 60)
    assert.throws(() => batch.commit(), { code: 'XDP_BAD_OPTION' })
    assertConserved(a)
    a.reserve(4).cancel()
    assert.equal(a.statistics().tx.packets, 2)
    await assertAllHome(a)
  })
})
