// When diverted packets came: what the program notes in front of each, however late they are read.
import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { DivertSource } from '../../src/capture/divert-source.js'
import { createTestLab, needsRoot } from '../support/lab.js'
import { frameOf, isOurs, until } from '../support/xsk.js'
import { Keeper, hexOf, senderAt } from './support.js'

// What Node tells of the time of day is right to a millisecond.
const EDGE = 0.002

suite('times of diverted packets', { skip: needsRoot }, () => {
  for (const xdpMode of ['native', 'generic'] as const) {
    test(`are those of their arrival, ${xdpMode}`, async (t) => {
      const lab = createTestLab(t)
      const { interface: name, namespace } = lab.a
      const source = await DivertSource.open({ interface: name, namespace, xdpMode })
      t.after(() => source.close())
      const keeper = new Keeper((packet) => isOurs(packet as never))
      source.start(keeper)
      source.pause()
      const send = senderAt(t, lab.b)
      const [socket] = source.group.sockets
      const frames = Array.from({ length: 50 }, (_, i) => frameOf(60 + i, i))
      const before = Date.now() / 1000
      for (const frame of frames) send(frame)
      await until('they wait in the ring', () => socket.statistics().levels.rx >= frames.length)
      const arrived = Date.now() / 1000
      // Whoever read the clock now would be late.
      await until('time passes', () => Date.now() / 1000 > arrived + 5 * EDGE)
      source.resume()
      await until('they are here', () => keeper.packets.length === frames.length)
      assert.deepEqual(
        keeper.packets.map(hexOf),
        frames.map((frame) => Buffer.from(frame).toString('hex')),
      )
      const times = keeper.packets.map(({ seconds, nanoseconds }) => seconds + nanoseconds / 1e9)
      assert.ok(times[0] >= before - EDGE, `${times[0]} is before ${before}`)
      assert.ok(times[49] <= arrived + EDGE, `${times[49]} is after ${arrived}`)
      assert.deepEqual(
        times,
        [...times].sort((a, b) => a - b),
      )
      assert.ok(new Set(times).size > 40, 'each has its own')
    })
  }
})
