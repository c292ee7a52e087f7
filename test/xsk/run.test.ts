// The ways to a socket's packets: receive, run, for await. When they end, what they cost, what they refuse.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { deleteLink } from '../../src/kernel/netlink/index.js'
import type { PacketHandler, Verdict, XdpSocket } from '../../src/xsk/index.js'
import { startFlood } from '../support/flood.js'
import { createQuietLab, createTestLab, needsRoot } from '../support/lab.js'
import {
  assertAllHome,
  assertConserved,
  collect,
  frameOf,
  generatorAt,
  isOurs,
  openAt,
  until,
  watchPromise,
} from '../support/xsk.js'

const nothing: PacketHandler = () => undefined

describe('receive', { skip: needsRoot }, () => {
  it('gives at most the budget, by default the batch, and says how many', async (t) => {
    const lab = createTestLab(t)
    const socket = await openAt(t, lab.a, { batch: 7 })
    generatorAt(t, lab.b).send(frameOf(60), 30)
    assert.equal(socket.receive(nothing), 7)
    assert.equal(socket.receive(nothing, 1), 1)
    assert.equal(socket.receive(nothing, 1000), 22)
    assert.equal(
      socket.receive(() => assert.fail('nothing is there')),
      0,
    )
    assert.equal(socket.statistics().batches, 3)
    assert.equal(socket.statistics().rx.packets, 30)
    for (const budget of [0, -1, NaN]) {
      assert.throws(() => socket.receive(nothing, budget), { code: 'XDP_BAD_OPTION', option: 'budget' })
    }
  })

  it('frees the packet of a handler that throws, and leaves the rest in the ring', async (t) => {
    const lab = createTestLab(t)
    const socket = await openAt(t, lab.a, { trackFrames: true })
    generatorAt(t, lab.b).send(frameOf(60), 10)
    const problem = new Error('of the handler')
    let calls = 0
    const failing = () => {
      if (++calls === 4) throw problem
    }
    assert.throws(
      () => socket.receive(failing),
      (error) => error === problem,
    )
    assert.equal(socket.statistics().rx.packets, 4)
    assert.equal(socket.frames().rx, 6)
    assert.equal(socket.frames().held, 0)
    assert.equal(socket.receive(nothing), 6)
    await assertAllHome(socket)
  })

  it('transmits what handlers before an exception asked for', async (t) => {
    const lab = createTestLab(t)
    const a = await openAt(t, lab.a)
    const b = await openAt(t, lab.b)
    generatorAt(t, lab.b).send(frameOf(60), 10)
    let calls = 0
    assert.throws(() =>
      a.receive(() => {
        if (++calls === 4) throw new Error('after three')
        return 'transmit'
      }),
    )
    const back: Uint8Array[] = []
    await until('three are back', () => {
      collect(b, back)
      return back.length === 3
    })
    await a.drain()
  })

  it('refuses to be called from within a handler, which may catch that', async (t) => {
    const lab = createTestLab(t)
    const socket = await openAt(t, lab.a, { trackFrames: true })
    generatorAt(t, lab.b).send(frameOf(60), 2)
    let calls = 0
    assert.equal(
      socket.receive(() => {
        calls++
        assert.throws(() => socket.receive(nothing), { code: 'XDP_STATE' })
      }),
      2,
    )
    assert.equal(calls, 2)
    await assertAllHome(socket)
  })

  for (const [what, verdict] of [
    ['a promise', () => Promise.resolve()],
    ['a word that is no verdict', () => 'transmitt'],
    ['null', () => null],
    ['true', () => true],
  ] as const) {
    it(`refuses ${what} as a verdict, and loses no frame`, async (t) => {
      const lab = createTestLab(t)
      const socket = await openAt(t, lab.a, { trackFrames: true })
      generatorAt(t, lab.b).send(frameOf(60), 1)
      assert.throws(() => socket.receive(verdict as unknown as PacketHandler), { code: 'XDP_BAD_OPTION' })
      await assertAllHome(socket)
    })
  }

  it('reuses one packet object, and hands out copies on demand', async (t) => {
    const lab = createTestLab(t)
    const socket = await openAt(t, lab.a, { umem: { frames: 8 } })
    const generator = generatorAt(t, lab.b)
    const packets = new Set<unknown>()
    let copy: Uint8Array | undefined
    for (let i = 0; i < 3; i++) {
      generator.send(frameOf(60 + i), 3)
      socket.receive((packet) => {
        packets.add(packet)
        if (i === 0) copy = packet.copy()
      })
    }
    assert.equal(packets.size, 1)
    assert.deepEqual(copy, frameOf(60))
  })
})

describe('run', { skip: needsRoot }, () => {
  const endings: Record<string, (socket: XdpSocket, control: AbortController) => unknown> = {
    'stop()': (socket) => socket.stop(),
    'an aborted signal': (_, control) => control.abort(),
    'close()': (socket) => socket.close(),
  }
  for (const [how, end] of Object.entries(endings)) {
    it(`resolves by ${how}, idle and busy, and can run again`, async (t) => {
      const lab = createTestLab(t)
      const socket = await openAt(t, lab.a)
      const generator = generatorAt(t, lab.b)
      for (const busy of [false, true]) {
        if (socket.closed) break
        const control = new AbortController()
        let got = 0
        const run = watchPromise(socket.run(() => void got++, { signal: control.signal }))
        if (busy) {
          generator.send(frameOf(60), 5)
          await until('a packet was handled', () => got >= 5)
        }
        assert.equal(run.settled(), false)
        await end(socket, control)
        await run.promise
      }
    })
  }

  it('resolves at once for a signal that is aborted already', async (t) => {
    const lab = createTestLab(t)
    const socket = await openAt(t, lab.a)
    generatorAt(t, lab.b).send(frameOf(60), 1)
    await socket.run(() => assert.fail('aborted'), { signal: AbortSignal.abort() })
    assert.equal(socket.receive(nothing), 1)
  })

  it('ends after the packet at which the handler stops it, within the batch', async (t) => {
    const lab = createTestLab(t)
    const socket = await openAt(t, lab.a, { trackFrames: true })
    generatorAt(t, lab.b).send(frameOf(60), 200)
    let got = 0
    await socket.run(() => {
      if (++got === 10) socket.stop()
    })
    assert.equal(got, 64) // "after the batch it is at"
    await assertAllHome(socket)
  })

  it('rejects with what the handler threw, even after it stopped the run, and loses no frame', async (t) => {
    const lab = createTestLab(t)
    const socket = await openAt(t, lab.a, { trackFrames: true })
    const generator = generatorAt(t, lab.b)
    const problem = new Error('of the handler')
    const fails = (): Verdict => {
      throw problem
    }
    generator.send(frameOf(60), 3)
    await assert.rejects(socket.run(fails), (error) => error === problem)
    const running = socket.run(fails)
    await assert.rejects(running, (error) => error === problem)
    await assert.rejects(
      socket.run(() => {
        socket.stop()
        throw problem
      }),
      (error) => error === problem,
    )
    // Idle, then a packet.
    const idle = assert.rejects(socket.run(fails), (error) => error === problem)
    generator.send(frameOf(60), 1)
    await idle
    await assertAllHome(socket)
  })

  it('is one at a time', async (t) => {
    const lab = createTestLab(t)
    const socket = await openAt(t, lab.a)
    const running = socket.run(nothing)
    await assert.rejects(socket.run(nothing), { code: 'XDP_STATE' })
    socket.stop()
    await running
    await assert.rejects(socket.run(nothing, { budget: 0 }), { code: 'XDP_BAD_OPTION', option: 'budget' })
    const again = socket.run(nothing)
    socket.stop()
    await again
  })

  for (const busyPoll of [false, true]) {
    for (const end of ['a', 'b'] as const) {
      it(`rejects when the device is deleted at end ${end}, ${busyPoll ? 'busy' : 'idle'}; the socket can be closed`, async (t) => {
        const lab = createTestLab(t)
        const socket = await openAt(t, lab.a, { busyPoll })
        const running = assert.rejects(
          socket.run(nothing),
          (error: Error & { code: string; hint: string }) => {
            assert.equal(error.name, 'KernelError')
            assert.match(error.code, /ENETDOWN|ENXIO/)
            assert.match(error.hint, /gone/)
            return true
          },
        )
        deleteLink(lab[end].interface, { namespace: lab[end].namespace })
        await running
        socket.frames()
        await socket.close()
      })
    }
  }

  for (const wait of ['event-loop', 'poll'] as const) {
    it(`costs nothing while idle, waiting by ${wait}: no callback, no wake-up, no turn of the loop`, async (t) => {
      const lab = createQuietLab(t)
      const socket = await openAt(t, lab.a)
      const running = socket.run(nothing, { wait })
      await new Promise((resolve) => setImmediate(resolve))
      const started = performance.now()
      const before = socket.statistics()
      const idleBefore = performance.eventLoopUtilization()
      // A number of turns of an otherwise idle loop; a socket that spins would have been served in each.
      for (let i = 0; i < 50; i++) await new Promise((resolve) => setTimeout(resolve, 1))
      const after = socket.statistics()
      // Once a second it asks whether the device is still there.
      assert.ok(after.wakeups.rx - before.wakeups.rx <= 1 + (performance.now() - started) / 1000)
      assert.equal(after.wakeups.tx, before.wakeups.tx)
      assert.equal(after.batches, before.batches)
      assert.ok(performance.eventLoopUtilization(idleBefore).utilization < 0.9)
      socket.stop()
      await running
    })
  }

  it('costs few wake-ups while the link is down and packets wait to be sent', async (t) => {
    const lab = createTestLab(t)
    const socket = await openAt(t, lab.a, { trackFrames: true })
    const { setInterfaceUp } = await import('../../src/kernel/interfaces.js')
    setInterfaceUp(lab.a.interface, false, { namespace: lab.a.namespace })
    for (let i = 0; i < 8; i++) assert.ok(socket.send(frameOf(60)))
    const running = socket.run(nothing)
    const turns = 200
    for (let i = 0; i < turns; i++) await new Promise((resolve) => setTimeout(resolve, 1))
    const { tx } = socket.statistics().wakeups
    assert.ok(tx < 20 * turns, `${tx} wake-ups in ${turns} turns`)
    assert.equal(socket.txPending, 8)
    setInterfaceUp(lab.a.interface, true, { namespace: lab.a.namespace })
    await until('run has sent them by itself', () => socket.txPending === 0)
    socket.stop()
    await running
    await assertAllHome(socket)
  })

  it('never stalls: everything is reflected under load, and drains', async (t) => {
    const lab = createTestLab(t)
    const rings = { rx: 256, tx: 64, fill: 256, completion: 64 }
    for (const [enough, wait, options] of [
      [20_000, 'event-loop', { rings, umem: { frames: 512 } }],
      [20_000, 'poll', { rings, umem: { frames: 512 } }],
      [500, 'event-loop', { umem: { frames: 2 } }],
      [500, 'poll', { umem: { frames: 2 } }],
      [20_000, 'event-loop', {}],
      [20_000, 'poll', {}],
    ] as const) {
      const socket = await openAt(t, lab.a, { ...options, trackFrames: true })
      const flood = startFlood(t, lab.b, frameOf(64))
      const running = socket.run(() => 'transmit', { wait })
      await until(`${enough} packets are reflected`, () => socket.statistics().tx.packets > enough)
      await flood.stop()
      socket.stop()
      await running
      while (socket.receive(() => 'transmit') > 0);
      await assertAllHome(socket)
      const { rx, tx, txDropped } = socket.statistics()
      assert.equal(tx.packets + txDropped, rx.packets)
      await socket.close()
    }
  })

  it('leaves timers and promises their turn while it waits in poll', async (t) => {
    const lab = createTestLab(t)
    const socket = await openAt(t, lab.a)
    const flood = startFlood(t, lab.b, frameOf(64))
    let promises = 0
    const control = new AbortController()
    const running = socket.run(() => void Promise.resolve().then(() => promises++), {
      wait: 'poll',
      signal: control.signal,
    })
    for (let turn = 0; turn < 5; turn++) {
      const before = [promises, socket.statistics().rx.packets]
      await until('packets came, and promises were settled', () => {
        return promises > before[0] && socket.statistics().rx.packets > before[1]
      })
    }
    control.abort()
    await running
    await flood.stop()
  })

  for (const wait of ['event-loop', 'poll'] as const) {
    it(`serves two sockets of one loop, waiting by ${wait}, and timers beside them`, async (t) => {
      const lab = createTestLab(t)
      const a = await openAt(t, lab.a)
      const b = await openAt(t, lab.b)
      // A packet that both reflect for ever.
      let rounds = 0
      const bounce = () => {
        rounds++
        return 'transmit' as const
      }
      const running = [a.run(bounce, { wait }), b.run(bounce, { wait })]
      generatorAt(t, lab.b).send(frameOf(60), 200)
      let ticks = 0
      const timer = setInterval(() => ticks++, 1)
      await until('it goes on', () => rounds > 20_000 && ticks > 10)
      clearInterval(timer)
      a.stop()
      b.stop()
      await Promise.all(running)
    })
  }

  it('sleeps in poll for all sockets of its thread that wait so', async (t) => {
    const lab = createTestLab(t)
    const sockets = [await openAt(t, lab.a), await openAt(t, lab.b)]
    // How often the packets went from one end to the other in one turn of the event loop.
    let turns = 0
    let [seenIn, last, times, most] = [0, -1, 0, 0]
    const bounce = (end: number) => () => {
      if (seenIn !== turns) times = 0
      else if (last !== end) times++
      seenIn = turns
      last = end
      most = Math.max(most, times)
      return 'transmit' as const
    }
    const running = sockets.map((socket, end) => socket.run(bounce(end), { wait: 'poll' }))
    const turn = () => void (turns++, (immediate = setImmediate(turn)))
    let immediate = setImmediate(turn)
    generatorAt(t, lab.b).send(frameOf(60), 10)
    // Readiness of both takes it from one to the other and back at most.
    await until('they have had it several times each without a turn', () => most >= 6)
    clearImmediate(immediate)
    sockets[0].stop()
    // The other one goes on by itself.
    const before = sockets[1].statistics().rx.packets
    generatorAt(t, lab.a).send(frameOf(60), 10)
    await until('it has some', () => sockets[1].statistics().rx.packets >= before + 10)
    sockets[1].stop()
    await Promise.all(running)
  })

  it('ends a run whose handler throws, and goes on with the others, in poll', async (t) => {
    const lab = createTestLab(t)
    const sockets = [await openAt(t, lab.a), await openAt(t, lab.b)]
    const fails = sockets[0].run(
      (packet) => {
        if (isOurs(packet)) throw new Error('boom')
      },
      { wait: 'poll' },
    )
    let seen = 0
    let third: Promise<void> | undefined
    const goesOn = sockets[1].run(
      (packet) => {
        if (!isOurs(packet)) return
        // A run may begin while others are polled for.
        if (seen++ === 0) third = sockets[0].run(nothing, { wait: 'poll' })
      },
      { wait: 'poll' },
    )
    generatorAt(t, lab.b).send(frameOf(60), 5)
    await assert.rejects(fails, { message: 'boom' })
    generatorAt(t, lab.a).send(frameOf(60), 50)
    await until('the other one has its own', () => seen === 50)
    for (const socket of sockets) socket.stop()
    await Promise.all([goesOn, third])
    assertConserved(sockets[0])
  })
})

describe('for await', { skip: needsRoot }, () => {
  it('yields copies, in order, and waits for more', async (t) => {
    const lab = createTestLab(t)
    const socket = await openAt(t, lab.a, { umem: { frames: 4 } })
    const sender = await openAt(t, lab.b, { attach: 'none' })
    const got: Uint8Array[] = []
    const reading = (async () => {
      for await (const packet of socket) {
        got.push(packet)
        if (got.length === 50) break
      }
    })()
    for (let i = 0; i < 50; i++) {
      assert.ok(sender.send(frameOf(60 + i)))
      sender.flush()
      await until('it is there', () => got.length === i + 1)
    }
    await reading
    got.forEach((packet, i) => assert.deepEqual(packet, frameOf(60 + i)))
    assert.equal(new Set(got.map(({ buffer }) => buffer)).size, 50)
    assert.equal(socket.closed, false)
  })

  it('does not read ahead: what was not asked for is still there after leaving the loop', async (t) => {
    const lab = createTestLab(t)
    const socket = await openAt(t, lab.a)
    const sender = await openAt(t, lab.b, { attach: 'none' })
    for (let i = 0; i < 20; i++) assert.ok(sender.send(frameOf(60 + i)))
    await sender.drain()
    await until('all are there', () => socket.frames().rx === 20)
    const got: Uint8Array[] = []
    for await (const packet of socket) {
      got.push(packet)
      assert.equal(socket.frames().rx, 20 - got.length)
      if (got.length === 5) break
    }
    for await (const packet of socket) {
      got.push(packet)
      if (got.length === 12) break
    }
    socket.receive((packet) => {
      assert.ok(isOurs(packet))
      got.push(packet.copy())
    })
    assert.deepEqual(
      got,
      Array.from({ length: 20 }, (_, i) => frameOf(60 + i)),
    )
  })

  it('ends when the socket is closed, while it waits and between two packets', async (t) => {
    const lab = createTestLab(t)
    const generator = generatorAt(t, lab.b)
    const waiting = await openAt(t, lab.a)
    const idle = watchPromise(
      (async () => {
        for await (const packet of waiting) assert.fail(`${packet.length} bytes from nowhere`)
      })(),
    )
    await new Promise((resolve) => setImmediate(resolve))
    assert.equal(idle.settled(), false)
    await waiting.close()
    await idle.promise
    const socket = await openAt(t, lab.a)
    generator.send(frameOf(60), 10)
    let got = 0
    for await (const packet of socket) {
      assert.equal(packet.length, 60)
      got++
      await socket.close()
    }
    assert.equal(got, 1)
  })

  it('rejects when the device goes', async (t) => {
    const lab = createTestLab(t)
    const socket = await openAt(t, lab.a)
    const reading = assert.rejects(
      (async () => {
        for await (const packet of socket) assert.fail(`${packet.length} bytes from nowhere`)
      })(),
      { code: /ENETDOWN|ENXIO/ },
    )
    await new Promise((resolve) => setImmediate(resolve))
    deleteLink(lab.a.interface, { namespace: lab.a.namespace })
    await reading
  })

  it('loses nothing of what arrives between two turns', async (t) => {
    const lab = createTestLab(t)
    const socket = await openAt(t, lab.a, { trackFrames: true })
    const generator = generatorAt(t, lab.b)
    const rounds = 20
    let got = 0
    for (let i = 0; i < rounds; i++) {
      generator.send(frameOf(60), 50)
      for await (const packet of socket) {
        assert.equal(packet.length, 60)
        if (++got % 50 === 0) break
        if (got % 7 === 0) await new Promise((resolve) => setImmediate(resolve))
      }
    }
    assert.equal(got, 50 * rounds)
    await assertAllHome(socket)
  })
})
