// No frame is lost or had twice: after a million packets, exceptions, links that go down, and a close under load.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { setInterfaceUp } from '../../src/kernel/interfaces.js'
import type { Verdict, XdpPacket, XdpSocket } from '../../src/xsk/index.js'
import { createTestLab, needsRoot } from '../support/lab.js'
import { assertAllHome, assertConserved, frameOf, generatorAt, openAt, until } from '../support/xsk.js'
import { startFlood } from '../support/flood.js'

class Mishap extends Error {}

/** A handler that does everything a handler may, by a seeded die, and remembers what it holds. */
class Chaos {
  handled = 0
  thrown = 0
  transmitted = 0
  readonly held: number[] = []
  readonly #socket: XdpSocket
  #state: number

  constructor(socket: XdpSocket, seed: number) {
    this.#socket = socket
    this.#state = seed
  }

  /** xorshift32: the same choices in every run. */
  random(below: number): number {
    this.#state ^= this.#state << 13
    this.#state ^= this.#state >>> 17
    this.#state ^= this.#state << 5
    return (this.#state >>> 0) % below
  }

  readonly handle = (packet: XdpPacket): Verdict => {
    this.handled++
    const choice = this.random(1000)
    if (choice < 400) return undefined
    if (choice < 700) {
      this.transmitted++
      return 'transmit'
    }
    if (choice < 850) {
      this.held.push(packet.frame + this.random(2048))
      return 'hold'
    }
    if (choice < 996) {
      // From within the handler: one of the held frames leaves, another is freed.
      this.letGo()
      return undefined
    }
    if (choice < 998) {
      packet.length = 3000
      this.thrown++
      return 'transmit' // which is refused
    }
    this.thrown++
    throw new Mishap()
  }

  letGo(): void {
    const [one, other] = this.held.splice(-2)
    if (one !== undefined) {
      const frame = one - (one % 2048)
      this.#socket.transmit(frame + this.random(1000), 60 + this.random(900))
    }
    if (other !== undefined) this.#socket.release(other)
  }

  letGoOfAll(): void {
    for (const frame of this.held.splice(0)) this.#socket.release(frame)
  }

  /** Takes all there is, whatever is thrown. */
  takeAll(): void {
    for (;;) {
      try {
        if (this.#socket.receive(this.handle) === 0) return
      } catch (error) {
        if (!(error instanceof Mishap) && (error as { code?: string }).code !== 'XDP_BAD_OPTION') throw error
      }
    }
  }
}

describe('frames are conserved', { skip: needsRoot }, () => {
  it('over a million packets held, released, transmitted and thrown at', async (t) => {
    const lab = createTestLab(t)
    const burst = 8192 // each takes the kernel some 20 ms to prepare
    const rings = { rx: burst, fill: burst }
    const socket = await openAt(t, lab.a, { trackFrames: true, umem: { frames: 2 * burst }, rings })
    const generator = generatorAt(t, lab.b)
    const chaos = new Chaos(socket, 0x5eed)
    const packet = frameOf(64)
    const before = lab.stats().a
    while (chaos.handled < 1_000_000) {
      generator.send(packet, burst)
      chaos.takeAll()
      assertConserved(socket)
      chaos.letGo()
      if (chaos.held.length > burst / 2) chaos.letGoOfAll()
    }
    chaos.letGoOfAll()
    await assertAllHome(socket)
    const { rx, tx, kernel, txDropped } = socket.statistics()
    assert.equal(rx.packets, chaos.handled)
    assert.ok(chaos.thrown > 1000, String(chaos.thrown))
    assert.ok(tx.packets + txDropped >= chaos.transmitted)
    // Every packet that came in on the link went to the handler or was counted by the kernel.
    const after = lab.stats().a
    assert.equal(rx.packets + kernel.rxDropped + kernel.rxRingFull, after.rxPackets - before.rxPackets)
    assert.equal(after.txPackets - before.txPackets + (after.txDropped - before.txDropped), tx.packets)
    assert.equal(kernel.rxInvalidDescriptors, 0)
    assert.equal(kernel.txInvalidDescriptors, 0)
  })

  it('under load in run, restarted after every exception', async (t) => {
    const lab = createTestLab(t)
    const socket = await openAt(t, lab.a, { trackFrames: true, umem: { frames: 512 }, rings: { rx: 256 } })
    const flood = startFlood(t, lab.b, frameOf(64))
    const chaos = new Chaos(socket, 42)
    let ends = 0
    while (chaos.handled < 50_000 || ends < 50) {
      const running = socket.run(chaos.handle)
      await assert.rejects(running, (error: Error & { code?: string }) => {
        return error instanceof Mishap || error.code === 'XDP_BAD_OPTION'
      })
      ends++
      assertConserved(socket)
      if (chaos.held.length > 200) chaos.letGoOfAll()
    }
    await flood.stop()
    chaos.takeAll()
    chaos.letGoOfAll()
    await assertAllHome(socket)
    assert.equal(socket.statistics().rx.packets - chaos.handled, 0)
  })

  it('when the link goes down and up under load', async (t) => {
    const lab = createTestLab(t)
    const socket = await openAt(t, lab.a, { trackFrames: true })
    const flood = startFlood(t, lab.b, frameOf(64))
    let reflected = 0
    const running = socket.run(() => {
      reflected++
      return 'transmit'
    })
    for (let i = 0; i < 6; i++) {
      const { interface: name, namespace } = i % 2 === 0 ? lab.b : lab.a
      const before = reflected
      await until('packets are reflected', () => reflected > before + 2000)
      setInterfaceUp(name, false, { namespace })
      assertConserved(socket)
      setInterfaceUp(name, true, { namespace })
      assertConserved(socket)
    }
    const before = reflected
    await until('packets are reflected again', () => reflected > before)
    await flood.stop()
    socket.stop()
    await running
    while (socket.receive(() => undefined) > 0);
    await assertAllHome(socket)
  })

  it('when the peer goes down while its packets are being sent', async (t) => {
    const lab = createTestLab(t)
    const a = await openAt(t, lab.a, { trackFrames: true, umem: { frames: 128 } })
    for (let round = 0; round < 10; round++) {
      for (let i = 0; i < 32; i++) a.send(frameOf(60))
      setInterfaceUp(lab.b.interface, false, { namespace: lab.b.namespace })
      a.flush()
      assertConserved(a)
      setInterfaceUp(lab.b.interface, true, { namespace: lab.b.namespace })
      await until('the link is up', () => lab.interfaces().a.operState === 'up')
      await a.drain(10_000)
      await assertAllHome(a)
    }
  })
})
