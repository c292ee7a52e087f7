// Stages with a thread each that crash, are killed, or hang: packets keep their order, and every frame comes home.
import assert from 'node:assert/strict'
import { setImmediate as turn } from 'node:timers/promises'
import { describe, it, type TestContext } from 'node:test'
import fc from 'fast-check'
import { DescriptorRing } from '../../src/forward/descriptor-ring.js'
import {
  Forwarder,
  type ForwardWarning,
  type ForwarderOptions,
  type StageThread,
} from '../../src/forward/index.js'
import { descriptorsBeside, needsRoot, openDescriptors } from '../support/lab.js'
import { assertConserved, generatorAt, isOurs, openAt, until } from '../support/xsk.js'
import { RIGHT, assertNoLoss, forward, twoLabs } from './cable.js'
import { faultFrame, numberOf, type Fault } from './fault-stage.js'

const STAGE = new URL('./fault-stage.js', import.meta.url)

const stages = (count: number, rest: Partial<ForwarderOptions> = {}): Partial<ForwarderOptions> => ({
  stages: Array.from({ length: count }, () => STAGE),
  ...rest,
})

const ascending = (numbers: readonly number[]) => numbers.every((n, i) => i === 0 || numbers[i - 1] < n)

/** What a run of numbered packets across two labs is tested with. */
async function cross(t: TestContext, labs: ReturnType<typeof twoLabs>) {
  const receiver = await openAt(t, labs.right.b)
  const generator = generatorAt(t, labs.left.b)
  const got: number[] = []
  const look = () => {
    while (receiver.receive((packet) => void (isOurs(packet) && got.push(numberOf(packet)))) > 0);
    return got
  }
  let next = 0
  /** Sends so many, one of them with a fault, and lets the event loop turn in between. */
  const send = async (count: number, fault: Fault = 'none', stage = 0, at = -1) => {
    for (let i = 0; i < count; i++) {
      generator.send(faultFrame(next++, i === at ? fault : 'none', stage), 1)
      if (i % 16 === 15) await turn()
    }
  }
  return { got, look, send }
}

describe('a ring of descriptors whose thread has ended', () => {
  it('goes on behind what was done, without the packet that was in hand, and nothing twice', () => {
    const MARK = 0x2000
    const turns = fc.array(
      fc.record({
        come: fc.integer({ min: 0, max: 6 }),
        batch: fc.integer({ min: 1, max: 4 }),
        // How many of the batch are done when the thread ends; and whether it still puts them in, and takes them out.
        done: fc.integer({ min: 0, max: 4 }),
        end: fc.constantFrom('before commit', 'before release', 'not at all'),
      }),
      { maxLength: 60 },
    )
    fc.assert(
      fc.property(turns, (turns) => {
        const [input, output] = [8, 8].map((n) => new DescriptorRing(DescriptorRing.allocate(n)))
        let came = 0
        let went = 0
        const lost = new Set<number>()
        const counted = { told: 0, recovered: 0 }
        for (const { come, batch, done, end } of turns) {
          for (let i = 0; i < come && came - went < 8; i++) input.push(4096 * came, came++)
          const count = Math.min(input.level, batch)
          if (count > 0) {
            output.begin(count)
            const reached = end === 'before commit' ? Math.min(done, count) : count
            for (let i = 0; i < reached; i++) output.set(i, input.address(i), input.note(i))
            if (end !== 'before commit') {
              counted.told += count
              output.commit()
            }
            if (end === 'not at all') input.release(count)
            else {
              if (end === 'before commit' && reached < count) lost.add(input.note(reached))
              const found = output.recover(input, MARK)
              counted.recovered += found.handled
              assert.equal(found.lost, end === 'before commit' && reached < count ? 1 : 0)
            }
          }
          const level = output.level
          for (let i = 0; i < level; i++, went++) {
            assert.equal(output.address(i), 4096 * went)
            assert.equal(output.note(i), lost.has(went) ? went | MARK : went)
          }
          output.release(level)
          assert.equal(input.level, came - went)
        }
        assert.equal(counted.told + counted.recovered + lost.size, went)
      }),
      { seed: 11, numRuns: 500 },
    )
  })
})

describe('a stage with a thread', { skip: needsRoot }, () => {
  it('that crashes loses the packet in hand and no other, and is started again', async (t) => {
    const labs = twoLabs(t)
    const { forwarder, stop } = await forward(t, labs, stages(2, { restart: { delayMs: 1 } }))
    const crashes: string[] = []
    let restarts = 0
    forwarder.on('crash', (error, stage) => crashes.push(`${stage.index}: ${error.message}`))
    forwarder.on('restart', () => restarts++)
    const { got, look, send } = await cross(t, labs)
    await send(300, 'throw', 0, 100)
    await until('the rest has arrived', () => look().length === 299)
    await send(300, 'exit', 1, 100)
    await until('the rest has arrived', () => look().length === 598)
    await send(300, 'stray', 0, 100)
    await until('the rest has arrived', () => look().length === 897)
    assert.deepEqual(
      got,
      Array.from({ length: 900 }, (_, i) => i).filter((i) => i % 300 !== 100),
    )
    assert.equal(crashes.length, 3)
    assert.match(crashes[0], /^0: stage 0 cannot bear 100/)
    assert.match(crashes[1], /^1: The thread of stage 1 has ended with status 3/)
    assert.match(crashes[2], /^0: .*not a packet within its frame/)
    assert.equal(restarts, 3)
    const [first, second] = forwarder.stageStatistics()
    assert.deepEqual([first.thread?.restarts, first.thread?.lost, first.thread?.waiting], [2, 2, 0])
    assert.deepEqual([second.thread?.restarts, second.thread?.lost, second.thread?.waiting], [1, 1, 0])
    assert.equal(forwarder.statistics()[0].dropped, 3)
    // Each was given every packet, but for those that were lost before it.
    const all = forwarder.statistics().reduce((sum, { rx }) => sum + rx.packets, 0)
    assert.deepEqual([first.packets, second.packets], [all, all - 2])
    await stop()
  })

  it('that is killed again and again while packets flow loses no more than one a time', async (t) => {
    const labs = twoLabs(t)
    const { forwarder, stop } = await forward(t, labs, stages(2, { restart: { delayMs: 1, limit: 100 } }))
    const { got, look, send } = await cross(t, labs)
    const KILLS = 8
    const lost = () => forwarder.stageStatistics().reduce((sum, { thread }) => sum + (thread?.lost ?? 0), 0)
    for (let i = 1; i <= KILLS; i++) {
      const stage = forwarder.threads[i % 2]
      const sent = send(200)
      // In the midst of them.
      await until('some have arrived', () => look().length > 200 * (i - 1))
      await stage.terminate()
      await sent
      await until('the rest has arrived', () => look().length + lost() === 200 * i)
      await until('it is back', () => stage.state === 'running')
    }
    assert.ok(ascending(got))
    assert.ok(lost() <= KILLS)
    const restarts = forwarder.stageStatistics().map(({ thread }) => thread?.restarts)
    assert.deepEqual(restarts, [KILLS / 2, KILLS / 2])
    await stop()
  })

  it('that crashes too often ends the run with its error; frames come home, and it can run again', async (t) => {
    const labs = twoLabs(t)
    const { left, right } = labs
    const forwarder = await Forwarder.open({
      in: { interface: left.a.interface, namespace: left.a.namespace },
      out: { interface: right.a.interface, namespace: right.a.namespace },
      trackFrames: true,
      ...stages(3, { restart: { delayMs: 1, limit: 2 } }),
    })
    t.after(() => forwarder.close())
    const { look, send } = await cross(t, labs)
    const waits: number[] = []
    forwarder.on('crash', (_error, _stage, ms) => waits.push(ms))
    const running = forwarder.run()
    const failed = assert.rejects(running, { name: 'RangeError', message: 'stage 1 cannot bear 2' })
    await send(1, 'throw', 1, 0)
    await send(1, 'throw', 1, 0)
    await send(20, 'throw', 1, 0)
    await failed
    assert.deepEqual(waits, [1, 2])
    assert.deepEqual(
      forwarder.threads.map(({ state }) => state),
      ['stopped', 'failed', 'stopped'],
    )
    await forwarder.drain()
    for (const socket of forwarder.group.sockets) assert.equal(assertConserved(socket).held, 0)
    const before = look().length
    const again = forwarder.run()
    await send(100)
    await until('they have arrived', () => look().length >= before + 100)
    forwarder.stop()
    await again
    for (const socket of forwarder.group.sockets) assert.equal(assertConserved(socket).held, 0)
  })

  it('that never returns does not keep the forwarder from ending, nor the frames', async (t) => {
    const labs = twoLabs(t)
    const { forwarder, stop } = await forward(t, labs, stages(2))
    const { look, send } = await cross(t, labs)
    await send(50, 'hang', 1, 25)
    await until('those before it have arrived, and the others wait', () => {
      return look().length <= 25 && forwarder.stageStatistics()[0].packets >= 50
    })
    await stop()
    assert.ok(ascending(look()))
    assert.ok(look().every((number) => number < 25))
  })

  it('that never returns is told of, and replaced once it is ended', async (t) => {
    const labs = twoLabs(t)
    const { forwarder, stop } = await forward(t, labs, stages(2, { restart: { delayMs: 1 }, stallMs: 400 }))
    const { got, look, send } = await cross(t, labs)
    const told = new Promise<[ForwardWarning, StageThread]>((resolve) => {
      forwarder.on('stall', (warning, stage) => {
        if (stage === forwarder.threads[1]) resolve([warning, stage])
      })
    })
    await send(50, 'hang', 1, 25)
    const [warning, stage] = await told
    assert.equal(warning.code, 'stalled')
    assert.match(warning.message, /stage 1 has made no progress for 400 ms/)
    const stalled = forwarder.stageStatistics()[1].thread
    assert.ok(stalled !== undefined && stalled.stalledMs >= 300, JSON.stringify(stalled))
    assert.equal(stalled.state, 'running')
    await stage.terminate()
    await until('the rest has arrived', () => look().length === 49)
    assert.deepEqual(
      got,
      Array.from({ length: 50 }, (_, i) => i).filter((i) => i !== 25),
    )
    await until('it is back', () => stage.state === 'running')
    const { stalledMs, lost, restarts } = stage.statistics()
    assert.deepEqual({ stalledMs, lost, restarts }, { stalledMs: 0, lost: 1, restarts: 1 })
    await stop()
  })

  it('hears and says messages, and is told when it is over', async (t) => {
    const labs = twoLabs(t)
    const { forwarder, stop } = await forward(t, labs, stages(2, { workerData: { greeting: 'hi' } }))
    const said: unknown[] = []
    forwarder.on('message', (message) => said.push(message))
    await until('both are there', () => forwarder.threads.every(({ state }) => state === 'running'))
    assert.equal(forwarder.threads[1].post('one'), true)
    await until('it has answered', () => said.length === 1)
    assert.deepEqual(said, [{ stage: 1, heard: 'one', greeting: 'hi' }])
    await stop()
    assert.equal(forwarder.threads[1].post('two'), false)
    assert.deepEqual(
      new Set(said.slice(1)),
      new Set([
        { stage: 0, stopped: true },
        { stage: 1, stopped: true },
      ]),
    )
  })

  it('counts what it was given and what it dropped, behind functions too', async (t) => {
    const labs = twoLabs(t)
    let seen = 0
    const { forwarder, stop } = await forward(t, labs, {
      stages: [
        function everyThird(packet) {
          return isOurs(packet) && seen++ % 3 === 0 ? 'drop' : undefined
        },
        STAGE,
        STAGE,
      ],
    })
    const { look, send } = await cross(t, labs)
    // Number 1 is dropped by the first thread, and number 4 by the second.
    for (const [i, stage] of [0, 0, 0, 1, 1, 1].entries())
      await send(1, i % 3 === 1 ? 'drop' : 'none', stage, 0)
    await until('two have arrived', () => look().length === 2)
    const [first, second, third] = forwarder.stageStatistics()
    const all = forwarder.statistics().reduce((sum, { rx }) => sum + rx.packets, 0)
    assert.deepEqual(first, { stage: 0, name: 'everyThird', packets: all, dropped: 2 })
    assert.deepEqual([second.stage, second.name, second.packets, second.dropped], [1, STAGE.href, all - 2, 1])
    assert.deepEqual([third.stage, third.packets, third.dropped], [2, all - 3, 1])
    assert.equal(forwarder.statistics()[0].dropped, 4)
    await stop()
  })

  it('ends with the forwarder, closed or stopped in the midst of a flood', async (t) => {
    const labs = twoLabs(t)
    const before = openDescriptors()
    for (const how of ['close', 'stop', 'close'] as const) {
      const forwarder = await Forwarder.open({
        in: { interface: labs.left.a.interface, namespace: labs.left.a.namespace },
        out: { interface: labs.right.a.interface, namespace: labs.right.a.namespace },
        trackFrames: true,
        ...stages(2),
      })
      const running = forwarder.run()
      await assertNoLoss(labs.left, ['-c', '3', '-i', '0.01', RIGHT])
      const flood = labs.left.spawn('b', 'ping', ['-f', RIGHT], { stdio: 'ignore' })
      const ended = new Promise((resolve) => flood.once('close', resolve))
      const from = forwarder.statistics()[0].rx.packets
      await until('it flows', () => forwarder.statistics()[0].rx.packets > from + 300)
      if (how === 'stop') {
        forwarder.stop()
        await running
        await forwarder.drain(10_000)
        for (const socket of forwarder.group.sockets) assert.equal(assertConserved(socket).held, 0)
      }
      await forwarder.close()
      await running
      flood.kill('SIGKILL')
      await ended
    }
    await until('no descriptor is left', () => descriptorsBeside(before).length === 0)
  })
})
