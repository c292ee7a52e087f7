// How often a ring is looked at: driven by a clock of the test's own.
import assert from 'node:assert/strict'
import { mock, suite, test, type TestContext } from 'node:test'
import { Pace } from '../../src/capture/pace.js'

/** A ring whose levels are said beforehand, on timers that only `tick` moves. */
function paced(t: TestContext, longest: number, hasBell = false) {
  mock.timers.enable({ apis: ['setTimeout', 'setImmediate'] })
  t.after(() => mock.timers.reset())
  const levels: (number | Error)[] = []
  const log: string[] = []
  const pace = new Pace(
    {
      take: () => {
        log.push('take')
        const level = levels.shift() ?? 0
        if (level instanceof Error) throw level
        return level
      },
      watch: () => void log.push('watch'),
      ignore: () => void log.push('ignore'),
      failed: (error) => void log.push(error.message),
    },
    longest,
    hasBell,
  )
  const looks = () => log.filter((what) => what === 'take').length
  return { pace, levels, log, looks, tick: (ms: number) => mock.timers.tick(ms) }
}

suite('pace', () => {
  test('watches, looks seldomer while little is there, and watches again when nothing comes', (t) => {
    const { pace, levels, log, looks, tick } = paced(t, 4)
    pace.start()
    assert.deepEqual(log, ['watch'])
    levels.push(0.01, 0.01, 0.01)
    pace.begin()
    tick(1)
    assert.equal(looks(), 1)
    tick(1)
    assert.equal(looks(), 1)
    tick(1)
    assert.equal(looks(), 2)
    tick(4)
    assert.equal(looks(), 3)
    // Nothing any more: a few looks at the longest distance, then it waits to be told.
    for (let i = 0; i < 50; i++) tick(4)
    assert.equal(log.at(-1), 'watch')
    const before = looks()
    assert.ok(before < 20, `${before} looks`)
    tick(1000)
    assert.equal(looks(), before)
  })

  test('looks more often the fuller the ring is', (t) => {
    const { pace, levels, looks, tick } = paced(t, 8)
    pace.start()
    levels.push(0.01, 0.01, 0.9, 0.9, 0.1)
    pace.begin()
    tick(1)
    tick(2)
    tick(4)
    assert.equal(looks(), 3)
    tick(2)
    assert.equal(looks(), 4)
    tick(1)
    assert.equal(looks(), 5)
  })

  test('looks at once when it is told that the ring fills, if it would have looked later', (t) => {
    const { pace, levels, looks, tick } = paced(t, 64)
    pace.hurry()
    pace.start()
    pace.hurry()
    assert.equal(looks(), 0)
    pace.begin()
    levels.push(0.2, 0.2)
    pace.hurry()
    assert.equal(looks(), 1)
    // The timer began anew.
    tick(1)
    assert.equal(looks(), 2)
    pace.stop()
    pace.hurry()
    assert.equal(looks(), 2)
  })

  test('leaves a full ring to whoever hurries it, and looks as seldom as it may', (t) => {
    const { pace, levels, looks, tick } = paced(t, 8, true)
    pace.start()
    pace.begin()
    levels.push(0.9, 0.9, 0.9, 0.9, 0.9, 0.9)
    for (const wait of [1, 2, 4]) tick(wait)
    assert.equal(looks(), 3)
    tick(7)
    assert.equal(looks(), 3)
    pace.hurry()
    assert.equal(looks(), 4)
    tick(7)
    assert.equal(looks(), 4)
    tick(1)
    assert.equal(looks(), 5)
  })

  test('goes on looking after a pause if it was looking, and watching if it was not', (t) => {
    const { pace, levels, log, looks, tick } = paced(t, 8)
    pace.start()
    pace.stop()
    pace.start()
    assert.deepEqual(log, ['watch', 'ignore', 'watch'])
    pace.begin()
    pace.stop()
    pace.stop()
    levels.push(0.2)
    pace.start()
    assert.equal(looks(), 0)
    tick(0)
    assert.equal(looks(), 1)
    assert.equal(log.filter((what) => what === 'watch').length, 2)
    pace.stop()
    tick(100)
    assert.equal(looks(), 1)
  })

  test('with no time to wait, every packet is waited for', (t) => {
    const { pace, log, tick } = paced(t, 0)
    pace.start()
    pace.begin()
    tick(100)
    assert.deepEqual(log, ['watch'])
  })

  test('stopped, it looks no more; what looking throws stops it', (t) => {
    const { pace, levels, log, looks, tick } = paced(t, 4)
    pace.start()
    pace.begin()
    pace.stop()
    tick(100)
    assert.deepEqual([looks(), log], [0, ['watch', 'ignore']])
    levels.push(new Error('the consumer'))
    pace.start()
    pace.begin()
    tick(100)
    assert.deepEqual([looks(), log.at(-1)], [1, 'the consumer'])
  })
})
