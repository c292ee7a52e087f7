// The queue between source and consumer, against a model: what was taken comes out whole and in order, whatever its size.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { PacketQueue } from '../../src/capture/queue.js'
import { PacketRecord } from '../../src/packet/pcap-record.js'

test('gives back what it took, in order, and refuses only for want of room', () => {
  const step = fc.oneof(
    fc.record({ push: fc.oneof(fc.integer({ min: 0, max: 200 }), fc.integer({ min: 0, max: 262_144 })) }),
    fc.record({ drop: fc.integer({ min: 0, max: 8 }) }),
  )
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const [capacity, size] = [16, 300_000]
      const queue = new PacketQueue({ packets: capacity, bytes: size })
      const model: { seed: number; length: number }[] = []
      for (const [seed, step] of steps.entries()) {
        if ('drop' in step) {
          queue.drop(step.drop)
          model.splice(0, step.drop)
        } else {
          const packet = new PacketRecord()
          packet.bytes = new Uint8Array(step.push + 3).fill(seed)
          packet.offset = 3
          packet.length = step.push
          packet.wireLength = seed
          const used = model.reduce((sum, { length }) => sum + length, 0)
          if (queue.push(packet)) model.push({ seed, length: step.push })
          // Packets are in one piece, so that some room is lost at the end: never more than half of what there is.
          else assert.ok(model.length === capacity || used + 2 * step.push + capacity >= size / 2)
        }
        assert.equal(queue.length, model.length)
        assert.ok(queue.level >= 0 && queue.level <= 1)
        for (const [i, { seed, length }] of model.entries()) {
          const slot = queue.peek(i)
          assert.ok(slot && slot.length === length && slot.wireLength === seed)
          const { bytes, offset } = slot
          for (const at of [0, length >> 1, length - 1])
            if (at >= 0 && at < length) assert.equal(bytes[offset + at], seed)
        }
      }
    }),
    { seed: 6, numRuns: 300 },
  )
})

test('waits for as many as are wanted, for the time that is given, or for the end', async () => {
  const queue = new PacketQueue({ packets: 10 })
  const packet = new PacketRecord()
  const three = queue.wait(3, 60_000)
  for (let i = 0; i < 3; i++) {
    queue.push(packet)
    queue.notify()
  }
  await three
  await queue.wait(5, 1)
  assert.equal(queue.length, 3)
  const never = queue.wait(8, 60_000)
  queue.end(new Error('over'))
  await never
  assert.equal(queue.error?.message, 'over')
  await queue.wait(8, 60_000)
})
