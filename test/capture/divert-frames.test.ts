// A diverting capture with few frames: a burst may take all of them, and packets come again nevertheless.
import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { DivertSource } from '../../src/capture/divert-source.js'
import { createTestLab, needsRoot } from '../support/lab.js'
import { assertConserved, frameOf, isOurs, until } from '../support/xsk.js'
import { Keeper, hexOf, senderAt } from './support.js'

suite('diverted packets with few frames', { skip: needsRoot }, () => {
  for (const frames of [1, 32, 256]) {
    for (const latency of [0, 20]) {
      test(`go on coming: ${frames} of them, looked at after ${latency} ms`, async (t) => {
        const lab = createTestLab(t)
        const { interface: name, namespace } = lab.a
        const source = await DivertSource.open({ interface: name, namespace, umem: { frames }, latency })
        t.after(() => source.close())
        const keeper = new Keeper((packet) => isOurs(packet as never))
        source.start(keeper)
        const send = senderAt(t, lab.b)
        // One look finds every frame taken.
        source.pause()
        for (let i = 0; i < frames + 200; i++) send(frameOf(60, i))
        source.resume()
        await until('the first came', () => keeper.packets.length >= 1)
        for (let i = 0; i < 5; i++) {
          const frame = frameOf(100 + i)
          const hex = Buffer.from(frame).toString('hex')
          // Until there is a frame again, it is lost.
          const comes = () => {
            send(frame)
            return keeper.packets.some((packet) => packet.length === 100 + i && hexOf(packet) === hex)
          }
          await until(`one of ${100 + i} bytes comes`, comes, 10_000)
        }
        for (const socket of source.group.sockets) assertConserved(socket)
        assert.ok(source.stats().dropped.kernel > 0, 'some had no frame')
      })
    }
  }
})
