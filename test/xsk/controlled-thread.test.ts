// A thread with a module of the user's: its start and its ends, what it says, and how it is seen to stand still.
import assert from 'node:assert/strict'
import { describe, it, type TestContext } from 'node:test'
import fc from 'fast-check'
import { ControlledThread, checkStallMs } from '../../src/xsk/controlled-thread.js'
import { Crashes } from '../../src/xsk/restart.js'
import { until } from '../support/xsk.js'
import type { ControlledData, ControlledOrder } from './controlled-script.js'

function make(
  t: TestContext,
  { stallMs = Infinity, startTimeoutMs = Infinity, progress = (): number => 0 } = {},
) {
  const seen = { messages: [] as unknown[], crashes: [] as [Error, number][], stalls: 0 }
  const thread = new ControlledThread({
    script: new URL('./controlled-script.js', import.meta.url),
    name: 'test',
    subject: 'The thread of the test',
    module: 'its module',
    startTimeoutMs,
    stallMs,
    progress,
    onMessage: (message) => seen.messages.push(message),
    onCrash: (error, ranForMs) => seen.crashes.push([error, ranForMs]),
    onStall: () => seen.stalls++,
  })
  t.after(() => thread.end(0))
  const start = (data: Partial<ControlledData> = {}) => thread.start({ greeting: 'hello', ...data })
  const tell = (order: ControlledOrder) => thread.post(order)
  return { thread, seen, start, tell }
}

describe('a controlled thread', () => {
  it('starts, says and hears messages, and stops when it is told', async (t) => {
    const { thread, seen, start, tell } = make(t)
    assert.equal(thread.threadId, undefined)
    await start()
    assert.equal(typeof thread.threadId, 'number')
    tell({ block: 0 })
    await until('it has answered', () => seen.messages.length === 2)
    await thread.end(60_000)
    assert.deepEqual(seen.messages, ['hello', 'done', 'bye'])
    assert.equal(thread.threadId, undefined)
    assert.deepEqual(seen.crashes, [])
    await thread.end(0)
    await start()
    assert.equal(typeof thread.threadId, 'number')
  })

  it('rejects its start with what has ended it, and that is no crash', async (t) => {
    const { thread, seen, start } = make(t)
    await assert.rejects(start({ does: 'throw' }), { name: 'RangeError', message: 'on purpose' })
    await assert.rejects(start({ does: 'exit' }), {
      code: 'XDP_WORKER',
      message: 'The thread of the test has ended with status 4',
    })
    assert.equal(thread.threadId, undefined)
    assert.deepEqual(seen.crashes, [])
  })

  it('is ended when it is not ready in time', async (t) => {
    const { thread, seen, start } = make(t, { startTimeoutMs: 500 })
    await assert.rejects(start({ does: 'nothing' }), {
      code: 'XDP_WORKER',
      message: /^The thread of the test was not ready in 500 ms: its module is still loading/,
    })
    assert.equal(thread.threadId, undefined)
    assert.deepEqual(seen.crashes, [])
  })

  for (const [how, expected] of [
    ['throw', /^on purpose$/],
    ['exit', /has ended with status 3$/],
    ['terminate', /has ended with status 1$/],
  ] as const) {
    it(`tells of a crash by ${how}, once`, async (t) => {
      const { thread, seen, start, tell } = make(t)
      await start()
      if (how === 'terminate') await thread.terminate()
      else tell(how)
      await until('it has crashed', () => seen.crashes.length === 1)
      const [[error, ranForMs]] = seen.crashes
      assert.match(error.message, expected)
      assert.ok(ranForMs >= 0)
      await thread.end(0)
      assert.equal(seen.crashes.length, 1)
    })
  }

  it('is ended when it does not stop in time, and that is no crash', async (t) => {
    const { thread, seen, start, tell } = make(t)
    await start({ does: 'ignore' })
    await thread.end(1)
    await start()
    tell('hang')
    await thread.end(1)
    assert.equal(thread.threadId, undefined)
    assert.deepEqual(seen.crashes, [])
  })

  it('is seen to stand still, until it moves again', async (t) => {
    const { thread, seen, start, tell } = make(t, { stallMs: 100 })
    await start()
    tell({ block: 1000 })
    await until('that is seen', () => thread.stalledMs >= 75)
    assert.ok(seen.stalls > 0)
    await until('it has gone on', () => seen.messages.length === 2)
    await until('that is seen', () => thread.stalledMs === 0)
    const stalls = seen.stalls
    tell('hang')
    await until('that is seen again', () => seen.stalls > stalls)
    await thread.terminate()
    assert.equal(thread.stalledMs, 0)
    assert.equal(seen.crashes.length, 1)
  })

  it('does not stand still as long as it counts', async (t) => {
    const count = new Int32Array(new SharedArrayBuffer(8))
    const { thread, seen, start, tell } = make(t, { stallMs: 1000, progress: () => Atomics.load(count, 0) })
    await start()
    const from = performance.now()
    tell({ count })
    await until('it has counted for longer than that', () => performance.now() - from > 1500)
    assert.deepEqual([seen.stalls, thread.stalledMs], [0, 0])
    Atomics.store(count, 1, 1)
    await until('it has gone on', () => seen.messages.length === 2)
  })

  it('cannot be watched for no time', () => {
    for (const wrong of [0, -1, NaN])
      assert.throws(() => checkStallMs(wrong), { code: 'XDP_BAD_OPTION', option: 'stallMs' })
    assert.equal(checkStallMs(Infinity), Infinity)
  })
})

describe('crashes in a row', () => {
  it('are waited for ever longer, up to a limit, and forgotten by one that has run well', () => {
    const policy = fc.record({
      limit: fc.integer({ min: 0, max: 8 }),
      delayMs: fc.integer({ min: 0, max: 100 }),
      maxDelayMs: fc.integer({ min: 0, max: 1000 }),
      healthyMs: fc.constant(50),
    })
    fc.assert(
      fc.property(policy, fc.array(fc.integer({ min: 0, max: 60 }), { maxLength: 30 }), (policy, runs) => {
        const crashes = new Crashes(policy)
        let inARow = 0
        for (const ranForMs of runs) {
          inARow = ranForMs >= policy.healthyMs ? 1 : inARow + 1
          const expected = Math.min(policy.maxDelayMs, policy.delayMs * 2 ** (inARow - 1))
          assert.equal(crashes.add(ranForMs), inARow > policy.limit ? undefined : expected)
        }
        crashes.clear()
        if (policy.limit > 0) assert.equal(crashes.add(), Math.min(policy.maxDelayMs, policy.delayMs))
      }),
      { seed: 5 },
    )
    assert.equal(new Crashes(false).add(1e6), undefined)
    assert.equal(new Crashes({}).add(), 100)
  })
})
