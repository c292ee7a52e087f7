// The time of day of packets, beside the kernel's own.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { WallClock } from '../../src/capture/wall-clock.js'
import { native } from '../../src/kernel/native.js'

/** Nanoseconds that the two may be apart: what an interrupted reading may take. */
const NEAR = 10_000n

test('is the time of day, to what reading the clocks takes', () => {
  const clocks = new BigInt64Array(3)
  for (let i = 0; i < 50; i++) {
    const clock = new WallClock()
    native.readClocks(clocks)
    const [, before] = clocks
    clock.read(clock.now())
    native.readClocks(clocks)
    const [, after] = clocks
    const time = BigInt(clock.seconds) * 1_000_000_000n + BigInt(clock.nanoseconds)
    // Whatever interrupts this comes between the two, and widens what is right.
    assert.ok(time >= before - NEAR && time <= after + NEAR, `${before} ${time} ${after}`)
    const now = BigInt(Math.floor(clock.now()))
    assert.ok(now + clock.offset >= time && now + clock.offset <= after + 1_000_000_000n)
  }
})

test('reads times before and behind the second that it is in', () => {
  const clock = new WallClock()
  const now = Math.floor(clock.now())
  for (const time of [now, now + 3.2e9, now - 5.7e9, now, 0, now + 1]) {
    clock.read(time)
    assert.equal(
      BigInt(clock.seconds) * 1_000_000_000n + BigInt(clock.nanoseconds),
      BigInt(time) + clock.offset,
    )
  }
})
