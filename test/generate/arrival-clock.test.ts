// The clock that packets of a batch share: few looks at it, and never earlier than a packet was sent.
import assert from 'node:assert/strict'
import test from 'node:test'
import { ArrivalClock } from '../../src/generate/arrival-clock.js'

/** A clock that moves by one at every look. */
function counting() {
  let looks = 0
  return { clock: new ArrivalClock(() => 1000 + looks++), looks: () => looks }
}

test('sixteen packets share a reading, and every turn of the event loop has its own', async () => {
  const { clock, looks } = counting()
  for (let i = 0; i < 16; i++) assert.equal(clock.at(0), 1000)
  assert.equal(clock.at(0), 1001)
  await Promise.resolve()
  assert.equal(clock.at(0), 1002)
  assert.equal(looks(), 3)
})

test('a packet that was sent after the reading has a new one', () => {
  const { clock } = counting()
  assert.equal(clock.at(999), 1000)
  assert.equal(clock.at(1001), 1001)
  assert.equal(clock.at(999), 1001)
})
