// Rings against a simulated peer: what one end commits is what the other end sees, also across the 2^32 wrap.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { CompletionRing } from '../../src/xsk/completion-ring.js'
import { FillRing } from '../../src/xsk/fill-ring.js'
import { ADDRESS_WORDS, DESCRIPTOR_WORDS, simulatedRing } from '../../src/xsk/ring-memory.js'
import { RxRing } from '../../src/xsk/rx-ring.js'
import { TxRing } from '../../src/xsk/tx-ring.js'
import { XDP_RING_NEED_WAKEUP } from '../../src/xsk/uapi.js'

// The TX and the RX ring have the same layout, and so have fill and completion: each reads what the other writes.
const addresses = (size: number, start = 0) => {
  const memory = simulatedRing(size, ADDRESS_WORDS, start)
  return { memory, producer: new FillRing(memory), consumer: new CompletionRing(memory) }
}
const descriptors = (size: number, start = 0) => {
  const memory = simulatedRing(size, DESCRIPTOR_WORDS, start)
  return { memory, producer: new TxRing(memory), consumer: new RxRing(memory) }
}

test('nothing is visible before commit, and exactly what was committed after it', () => {
  const { producer, consumer } = addresses(8)
  assert.equal(producer.reserve(5), 5)
  for (let i = 0; i < 5; i++) producer.set(i, 2048 * i)
  assert.equal(consumer.peek(8), 0)
  producer.commit(3)
  assert.equal(consumer.peek(8), 3)
  assert.deepEqual(
    [0, 1, 2].map((i) => consumer.address(i)),
    [0, 2048, 4096],
  )
  assert.equal(producer.level, 3)
})

test('a cancelled reservation leaves no trace', () => {
  const { memory, producer, consumer } = addresses(4)
  assert.equal(producer.reserve(4), 4)
  producer.set(0, 7)
  producer.cancel()
  assert.equal(consumer.peek(4), 0)
  assert.equal(memory.producer[0], 0)
  assert.equal(producer.reserve(4), 4)
})

test('a full ring reserves nothing until the peer releases', () => {
  const { producer, consumer } = addresses(4)
  assert.equal(producer.reserve(9), 4)
  producer.commit()
  assert.equal(producer.reserve(1), 0)
  assert.equal(consumer.peek(2), 2)
  consumer.release(2)
  assert.equal(producer.reserve(9), 2)
})

test('entries peeked but not released are seen again', () => {
  const { producer, consumer } = descriptors(4)
  producer.reserve(2)
  producer.set(0, 100, 60)
  producer.set(1, 4196, 1500)
  producer.commit()
  assert.equal(consumer.peek(2), 2)
  consumer.release(1)
  assert.equal(consumer.peek(2), 1)
  assert.deepEqual([consumer.address(0), consumer.length(0)], [4196, 1500])
})

test('committing or releasing more than was granted is refused', () => {
  const { producer, consumer } = addresses(4)
  producer.reserve(1)
  assert.throws(() => producer.commit(2), RangeError)
  producer.commit(1)
  consumer.peek(4)
  assert.throws(() => consumer.release(2), RangeError)
})

test('need_wakeup is read from the flags the peer sets', () => {
  const { memory, producer } = addresses(4)
  assert.equal(producer.needsWakeup, false)
  memory.flags[0] = XDP_RING_NEED_WAKEUP
  assert.equal(producer.needsWakeup, true)
})

test('addresses above 2 GiB keep their value', () => {
  const { producer, consumer } = descriptors(2)
  producer.reserve(1)
  producer.set(0, 0xfffff800, 64)
  producer.commit()
  consumer.peek(1)
  assert.equal(consumer.address(0), 0xfffff800)
})

// A model: a plain queue. Whatever the order of operations and wherever the index starts, the ring behaves like it.
const operations = fc.array(
  fc.record({
    produce: fc.boolean(),
    ask: fc.integer({ min: 0, max: 20 }),
    use: fc.integer({ min: 0, max: 20 }),
  }),
  { maxLength: 200 },
)
// Close below the wrap, so that a run crosses it.
const starts = fc.oneof(fc.constant(0), fc.integer({ min: 0xffffff00, max: 0xffffffff }))

test('a ring is a bounded queue, across the wrap of its 32-bit index', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 4 }), starts, operations, (log2, start, steps) => {
      const size = 1 << log2
      const { memory, producer, consumer } = descriptors(size, start)
      const model: number[] = []
      let next = 1
      let produced = 0
      for (const { produce, ask, use } of steps) {
        if (produce) {
          const granted = producer.reserve(ask)
          assert.equal(granted, Math.min(ask, size - model.length))
          const count = Math.min(use, granted)
          for (let i = 0; i < count; i++) {
            model.push(next)
            producer.set(i, next, next + 1)
            next += 2
          }
          producer.commit(count)
          produced += count
        } else {
          const ready = consumer.peek(ask)
          assert.equal(ready, Math.min(ask, model.length))
          const count = Math.min(use, ready)
          for (let i = 0; i < count; i++) {
            const expected = model.shift() as number
            assert.deepEqual([consumer.address(i), consumer.length(i)], [expected, expected + 1])
          }
          consumer.release(count)
        }
        assert.equal(consumer.level, model.length)
        assert.equal(producer.level, model.length)
      }
      assert.equal(memory.producer[0], (start + produced) >>> 0)
    }),
    { seed: 20, numRuns: 300 },
  )
})

test('a whole lap and more over the wrap, in batches that do not divide the size', () => {
  const { memory, producer, consumer } = addresses(64, 0xffffffff - 1000)
  let sent = 0
  let seen = 0
  for (let round = 0; round < 2000; round++) {
    const granted = producer.reserve(7)
    for (let i = 0; i < granted; i++) producer.set(i, (sent++ * 2048) >>> 0)
    producer.commit()
    const ready = consumer.peek(5 + (round % 3))
    for (let i = 0; i < ready; i++) assert.equal(consumer.address(i), (seen++ * 2048) >>> 0)
    consumer.release(ready)
  }
  assert.ok(seen > 10_000)
  assert.ok(memory.producer[0] < 100_000, 'the index went over the wrap')
})
