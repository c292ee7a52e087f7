// Stages with a thread each: packets go through all of them in order, as descriptors, and every frame comes home.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { DescriptorRing } from '../../src/forward/descriptor-ring.js'
import { Forwarder, type ForwarderOptions } from '../../src/forward/index.js'
import { native } from '../../src/kernel/index.js'
import { descriptorsBeside, needsRoot, openDescriptors } from '../support/lab.js'
import { assertConserved, frameOf, generatorAt, isOurs, openAt, until } from '../support/xsk.js'
import { LEFT6, RIGHT, assertNoLoss, forward, twoLabs } from './cable.js'
import type { NumberStageData } from './number-stage.js'

const STAGE = new URL('./number-stage.js', import.meta.url)

const threads = (count: number, workerData: NumberStageData = {}): Partial<ForwarderOptions> => ({
  stages: Array.from({ length: count }, () => STAGE),
  workerData,
})

describe('a ring of descriptors', () => {
  it('gives what was put in, in order, over its end and back', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 8 }), { maxLength: 50 }), (steps) => {
        const memory = DescriptorRing.allocate(8)
        const [here, there] = [new DescriptorRing(memory), new DescriptorRing(memory)]
        let next = 0
        for (const step of steps) {
          for (let i = 0; i < step; i++) here.push(2 ** 32 - 1 - (next + i), -next - i)
          assert.equal(there.level, step)
          for (let i = 0; i < step; i++, next++) {
            assert.deepEqual([there.address(0), there.note(0)], [2 ** 32 - 1 - next, -next | 0])
            there.release(1)
          }
          assert.equal(there.level, 0)
        }
      }),
      { seed: 7 },
    )
  })
})

describe('stages with threads', { skip: needsRoot }, () => {
  it('pass on what arrives, both ways, without loss', async (t) => {
    const labs = twoLabs(t, { queues: 2 })
    const { forwarder, stop } = await forward(t, labs, threads(3))
    await Promise.all([
      assertNoLoss(labs.left, ['-c', '100', '-i', '0.005', RIGHT]),
      assertNoLoss(labs.right, ['-c', '100', '-i', '0.005', LEFT6]),
    ])
    // Seconds after it learnt of a neighbour the kernel asks whether it is still there: a packet may be under way.
    await until('what came has gone on', () =>
      forwarder
        .statistics()
        .every(({ rx, tx, dropped }) => rx.packets >= 200 && tx.packets === rx.packets && dropped === 0),
    )
    await stop()
  })

  it('see every packet once and in order, change it in place, and drop it for those behind too', async (t) => {
    const labs = twoLabs(t)
    const { forwarder, stop } = await forward(t, labs, {
      // So few frames that they run out again and again.
      ...{ umem: { frames: 128 }, rings: { rx: 64, tx: 64, fill: 64, completion: 64 } },
      ...threads(2, { drop: [0, 5] }),
    })
    const receiver = await openAt(t, labs.right.b)
    const generator = generatorAt(t, labs.left.b)
    const got: number[] = []
    let taken = 0
    for (let round = 0; round < 100; round++) {
      const packet = frameOf(100)
      new DataView(packet.buffer).setUint32(30, round)
      generator.send(packet, 50)
      await until('all have arrived', () => {
        receiver.receive((packet) => {
          if (!isOurs(packet)) return
          got.push(packet.view.getUint32(packet.offset + 30))
          assert.equal(packet.length, 98)
          assert.deepEqual([packet.bytes[packet.offset + 20], packet.bytes[packet.offset + 21]], [100, 101])
        })
        taken = forwarder.statistics()[0].dropped + got.length
        return taken === 50 * (round + 1)
      })
    }
    assert.deepEqual(
      got,
      [...got].sort((a, b) => a - b),
    )
    assert.equal(got.length, 4000)
    assert.equal(forwarder.statistics()[0].dropped, 1000)
    await stop()
  })

  it('end the run with the error that one throws; the frames of all come home, and it can run again', async (t) => {
    const { left, right } = twoLabs(t)
    const forwarder = await Forwarder.open({
      in: { interface: left.a.interface, namespace: left.a.namespace },
      out: { interface: right.a.interface, namespace: right.a.namespace },
      trackFrames: true,
      ...threads(3, { fail: [1, 100] }),
      restart: false,
    })
    t.after(() => forwarder.close())
    for (let round = 0; round < 2; round++) {
      const running = forwarder.run()
      const failed = assert.rejects(running, { name: 'RangeError', message: 'stage 1 has had enough' })
      generatorAt(t, left.b).send(frameOf(64), 300)
      await failed
      await forwarder.drain()
      const sockets = forwarder.group.sockets
      await until('all are home', () => {
        forwarder.group.flush()
        for (const socket of sockets) while (socket.receive(() => undefined) > 0);
        return sockets.every((socket) => assertConserved(socket).held === 0)
      })
    }
  })

  it('end with the forwarder, however early it is closed', async (t) => {
    const { left, right } = twoLabs(t)
    const before = openDescriptors()
    for (const turns of [0, 1, 5, 20]) {
      const forwarder = await Forwarder.open({
        in: { interface: left.a.interface, namespace: left.a.namespace },
        out: { interface: right.a.interface, namespace: right.a.namespace },
        ...threads(2),
      })
      const running = forwarder.run()
      for (let i = 0; i < turns; i++) await new Promise((resolve) => setTimeout(resolve, 1))
      await forwarder.close()
      await running
    }
    await until('no descriptor is left', () => descriptorsBeside(before).length === 0)
  })

  it('are refused when they are none, or in an order that cannot be', async (t) => {
    const { left } = twoLabs(t)
    const device = { interface: left.a.interface, namespace: left.a.namespace }
    const nothing = () => undefined
    await assert.rejects(Forwarder.open({ in: device, stages: [STAGE, nothing] }), {
      code: 'XDP_BAD_OPTION',
      option: 'stages',
    })
    await assert.rejects(Forwarder.open({ in: device, stages: ['x' as unknown as URL] }), {
      option: 'stages',
    })
  })

  it('are there before the first packet comes: what is none leaves the devices alone', async (t) => {
    const { left } = twoLabs(t)
    const device = { interface: left.a.interface, namespace: left.a.namespace }
    const before = openDescriptors()
    const attached = t.mock.method(native, 'bpf')
    const LINK_CREATE = 28
    const of = (source: string) => new URL(`data:text/javascript,${encodeURIComponent(source)}`)
    for (const [module, expected] of [
      [new URL('./cable.js', import.meta.url), /cable\.js returned no stage/],
      [new URL('./no-such.js', import.meta.url), /no-such\.js/],
      [of('export const x ='), /^The stage data:.* did not start: SyntaxError/],
      [
        of('export default () => { throw new RangeError("no") }'),
        /^The stage data:.* did not start: RangeError: no$/,
      ],
      [of('export default () => new Promise(() => {})'), /not ready in 1500 ms: data:.* has not answered$/],
    ] as const) {
      const options = { in: device, stages: [module], startTimeoutMs: 1500 }
      await assert.rejects(Forwarder.open(options), { code: 'XDP_STAGE', message: expected })
    }
    assert.deepEqual(
      attached.mock.calls.filter(({ arguments: [command] }) => command === LINK_CREATE),
      [],
    )
    await until('no descriptor is left', () => descriptorsBeside(before).length === 0)
    await assert.rejects(Forwarder.open({ in: device, startTimeoutMs: 0 }), { option: 'startTimeoutMs' })
  })

  it('that are ready stop when the forwarder is closed without a run; what they have said before is told with it', async (t) => {
    const { left } = twoLabs(t)
    const device = { interface: left.a.interface, namespace: left.a.namespace }
    const source = 'export default ({ port }) => { port.postMessage("here"); return () => undefined }'
    const module = new URL(`data:text/javascript,${encodeURIComponent(source)}`)
    for (const runs of [false, true]) {
      const forwarder = await Forwarder.open({ in: device, stages: [module] })
      assert.equal(forwarder.threads[0].state, 'running')
      const said: unknown[] = []
      forwarder.on('message', (message) => said.push(message))
      if (runs) {
        const running = forwarder.run()
        await until('it is heard', () => said.length > 0)
        forwarder.stop()
        await running
        assert.deepEqual(said, ['here'])
      }
      await forwarder.close()
      assert.equal(forwarder.threads[0].threadId, undefined)
    }
  })
})
