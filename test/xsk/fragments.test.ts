// Packets in several frames over simulated rings: whole at every budget, whole when sent, and no frame lost whatever a handler does.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { DataPath } from '../../src/xsk/data-path.js'
import { FramePool, Umem, type Fragments, type XdpPacket } from '../../src/xsk/index.js'
import { FragmentingKernel, join } from './fragmenting-kernel.js'

const FRAMES = 64
const RING = 32
/** Bytes of a frame that can be received into. */
const ROOM = 1792

function make(
  options: { track?: boolean; multiBuffer?: boolean; start?: number; needWakeup?: boolean } = {},
) {
  const umem = Umem.create({ frames: FRAMES })
  const kernel = new FragmentingKernel(umem.bytes, RING, options.start)
  const path = new DataPath({
    bytes: umem.bytes,
    view: umem.view,
    frameSize: umem.frameSize,
    pool: new FramePool(umem, { track: options.track ?? true }),
    rings: kernel.rings,
    doorbell: { receive: () => 0, send: () => kernel.send() },
    batch: 8,
    needWakeup: options.needWakeup ?? false,
    multiBuffer: options.multiBuffer ?? true,
    interface: 'simulated',
    queue: 0,
  })
  path.refill()
  return { umem, kernel, path }
}

/** Parts of a packet, of these lengths, unlike those of any other packet. */
function partsOf(lengths: readonly number[], seed: number): Uint8Array[] {
  let at = seed * 7919
  return lengths.map((length) => Uint8Array.from({ length }, () => (at = (at * 31 + 17) & 0xffff) & 0xff))
}

function assertConserved(path: DataPath): void {
  const census = path.frames()
  const { total, ...places } = census
  assert.equal(
    Object.values(places).reduce((a, b) => a + b, 0),
    total,
    JSON.stringify(census),
  )
  for (const count of Object.values(places)) assert.ok(count >= 0, JSON.stringify(census))
}

function assertAllHome(path: DataPath): void {
  path.flush()
  path.flush()
  path.refill()
  const { rx, held, tx, completion } = path.frames()
  assert.deepEqual({ rx, held, tx, completion }, { rx: 0, held: 0, tx: 0, completion: 0 })
  assertConserved(path)
}

const boom = new Error('boom')

test('a packet is seen as one thing', () => {
  const { kernel, path } = make()
  const parts = partsOf([ROOM, 1000, 7], 1)
  const whole = join(parts)
  kernel.write(parts)
  kernel.publish()
  const taken = path.receive((packet) => {
    assert.equal(packet.fragments, 3)
    assert.equal(packet.length, ROOM)
    assert.equal(packet.totalLength, ROOM + 1007)
    assert.deepEqual(
      [0, 1, 2].map((i) => packet.fragmentLength(i)),
      [ROOM, 1000, 7],
    )
    for (const [i, part] of parts.entries()) {
      const at = packet.fragmentOffset(i)
      assert.deepEqual(packet.bytes.slice(at, at + part.length), part)
    }
    assert.deepEqual(packet.copy(), whole)
    assert.deepEqual(packet.subarray(), parts[0])
    const short = new Uint8Array(2000)
    assert.equal(packet.copyTo(short), 2000)
    assert.deepEqual(short, whole.slice(0, 2000))
    const room = new Uint8Array(4000)
    assert.equal(packet.copyTo(room, 100), whole.length)
    assert.deepEqual(room.slice(100, 100 + whole.length), whole)
    assert.equal(path.frames().held, 3)
  })
  assert.equal(taken, 1)
  assert.equal(path.counters[0], 1)
  assert.equal(path.counters[1], whole.length)
  assertAllHome(path)
})

test('a packet in one frame behind one in several is in one frame', () => {
  const { kernel, path } = make()
  kernel.write(partsOf([ROOM, 5], 1))
  kernel.write(partsOf([60], 2))
  kernel.publish()
  const seen: number[][] = []
  path.receive((packet) => void seen.push([packet.fragments, packet.totalLength]))
  assert.deepEqual(seen, [
    [2, ROOM + 5],
    [1, 60],
  ])
})

test('a packet whose end is not there yet stays in the ring, and so does what comes behind it', () => {
  const { kernel, path } = make()
  const first = partsOf([60], 1)
  const long = partsOf([ROOM, ROOM, 300], 2)
  kernel.write(first)
  kernel.write(long)
  kernel.publish(1)
  const seen: Uint8Array[] = []
  const keep = (packet: XdpPacket) => void seen.push(packet.copy())
  assert.equal(path.receive(keep), 1)
  assert.equal(path.receive(keep), 0)
  assert.equal(path.frames().rx, 2)
  kernel.publish()
  assert.equal(path.receive(keep), 1)
  assert.deepEqual(seen, [join(first), join(long)])
  assertAllHome(path)
})

test('a budget counts packets, not frames', () => {
  const { kernel, path } = make()
  for (let i = 0; i < 5; i++) kernel.write(partsOf([ROOM, ROOM, 9], i))
  kernel.publish()
  let seen = 0
  const count = () => void seen++
  assert.equal(path.receive(count, 2), 2)
  assert.equal(path.receive(count, 1), 1)
  assert.equal(path.receive(count, 64), 2)
  assert.equal(seen, 5)
})

test('a packet of more frames than any before it is whole', () => {
  const { kernel, path } = make()
  const parts = partsOf(
    Array.from({ length: 32 }, (_, i) => 100 + i),
    3,
  )
  assert.ok(kernel.write(parts))
  kernel.publish()
  let seen: Uint8Array | undefined
  path.receive((packet) => void (seen = packet.copy()))
  assert.deepEqual(seen, join(parts))
  assertAllHome(path)
})

test('without multiBuffer a descriptor is a packet', () => {
  const { kernel, path } = make({ multiBuffer: false })
  kernel.write(partsOf([ROOM, 5], 1))
  kernel.publish()
  assert.equal(
    path.receive((packet) => void assert.equal(packet.fragments, 1)),
    2,
  )
  assert.throws(() => path.send(new Uint8Array(3000)), { code: 'XDP_BAD_OPTION', hint: /multiBuffer/ })
  assertAllHome(path)
})

test('a packet is sent in as many frames as it takes', () => {
  const { kernel, path } = make()
  const packets = [60, 2048, 2049, 4096, 8000, 18 * 2048].map((length, i) => join(partsOf([length], i)))
  for (const packet of packets) {
    assert.ok(path.send(packet), `${packet.length}`)
    path.flush()
  }
  assert.deepEqual(kernel.sent, packets)
  assert.equal(path.counters[2], packets.length)
  assert.equal(
    path.counters[3],
    packets.reduce((sum, { length }) => sum + length, 0),
  )
  for (const length of [0, 18 * 2048 + 1]) {
    assert.throws(() => path.send(new Uint8Array(length)), { code: 'XDP_BAD_OPTION', option: 'packet' })
  }
  assertAllHome(path)
})

test('a packet in one frame does not take the place in the ring of one that goes on', () => {
  const { kernel, path } = make()
  const packets = [3 * 2048, 60, 60, 3 * 2048, 60].map((length, i) => join(partsOf([length], i)))
  for (let round = 0; round < RING; round++) {
    for (const packet of packets) assert.ok(path.send(packet))
    path.flush()
    assert.deepEqual(kernel.sent.splice(0), packets)
  }
})

test('a packet for which there is no room is not sent in part', () => {
  const { kernel, path } = make({ needWakeup: true })
  // Nobody rings, so nothing is taken from the TX ring.
  let fit = 0
  while (path.send(new Uint8Array(3 * 2048).fill(fit))) fit++
  assert.ok(fit > 0 && fit <= RING / 3, String(fit))
  assertConserved(path)
  kernel.rings.tx.flags[0] = 1
  path.flush()
  assert.deepEqual(
    kernel.sent.map((packet) => [packet.length, packet[0]]),
    Array.from({ length: fit }, (_, i) => [3 * 2048, i]),
  )
  assertAllHome(path)
})

test('what is kept of a held packet sends or frees all of it, from anywhere', () => {
  const { kernel, path } = make()
  const packets = [1, 2, 3, 4].map((seed) => partsOf([ROOM, ROOM, seed], seed))
  const held: Fragments[] = []
  for (const parts of packets) kernel.write(parts)
  kernel.publish()
  path.receive((packet) => (held.push(packet.keep()), 'hold'))
  assert.equal(path.frames().held, 12)
  for (const [i, packet] of held.entries()) {
    if (i % 2 === 0) path.releaseFragments(packet)
    else assert.ok(path.transmitFragments(packet))
  }
  path.flush()
  assert.deepEqual(kernel.sent, [join(packets[1]), join(packets[3])])
  assertAllHome(path)
})

for (const track of [false, true]) {
  const ways: [string, (path: DataPath, packet: XdpPacket) => 'transmit' | 'hold' | undefined, object?][] = [
    ['says nothing', () => undefined],
    ["says 'transmit'", () => 'transmit'],
    [
      'throws',
      () => {
        throw boom
      },
      boom,
    ],
    ['frees all by itself', (path, packet) => path.releaseFragments(packet) as undefined],
    ['frees the first by itself', (path, packet) => path.release(packet.fragmentOffset(0)) as undefined],
    ['frees the last by itself', (path, packet) => path.release(packet.fragmentOffset(2)) as undefined],
    ['transmits all by itself', (path, packet) => (path.transmitFragments(packet), undefined)],
    [
      'transmits one frame by itself',
      (path, packet) => (path.transmit(packet.fragmentOffset(1), 60), undefined),
    ],
    ["frees all by itself and says 'hold'", (path, packet) => (path.releaseFragments(packet), 'hold')],
    [
      'frees the last by itself and throws',
      (path, packet) => {
        path.release(packet.fragmentOffset(2))
        throw boom
      },
      boom,
    ],
    [
      "frees the last by itself and says 'transmit'",
      (path, packet) => (path.release(packet.fragmentOffset(2)), 'transmit'),
      { code: 'XDP_BAD_OPTION', option: 'handler' },
    ],
    [
      'makes it longer than its frame',
      (_, packet) => ((packet.length = 2048), 'transmit'),
      { code: 'XDP_BAD_OPTION', option: 'length' },
    ],
    [
      'answers with a promise',
      () => Promise.resolve() as unknown as undefined,
      { code: 'XDP_BAD_OPTION', option: 'handler' },
    ],
  ]
  for (const [what, handler, error] of ways) {
    test(`a handler that ${what} loses none of the frames and frees none twice${track ? ', tracked' : ''}`, () => {
      const { kernel, path } = make({ track })
      for (let round = 0; round < 50; round++) {
        for (let i = 0; i < 4; i++) assert.ok(kernel.write(partsOf([700, ROOM, 5], i)), `round ${round}`)
        kernel.publish()
        const drain = () => {
          while (path.receive((packet) => handler(path, packet)) > 0);
        }
        for (let i = 0; error && i < 4; i++) assert.throws(drain, error)
        drain()
        assertAllHome(path)
      }
    })
  }
}

test('random packets, budgets and handlers: each packet once, whole and in order, each frame somewhere', () => {
  const lengths = fc.array(fc.integer({ min: 1, max: ROOM }), { minLength: 1, maxLength: 9 })
  const step = fc.oneof(
    fc.record({ do: fc.constant('write' as const), lengths, keep: fc.integer({ min: 0, max: 4 }) }),
    fc.record({
      do: fc.constant('receive' as const),
      budget: fc.integer({ min: 1, max: 6 }),
      verdicts: fc.array(fc.constantFrom('free', 'transmit', 'hold', 'throw', 'own', 'send'), {
        minLength: 6,
        maxLength: 6,
      }),
    }),
    fc.record({ do: fc.constant('let go' as const), transmit: fc.boolean() }),
    fc.record({ do: fc.constant('send' as const), length: fc.integer({ min: 1, max: 9000 }) }),
    fc.record({ do: fc.constant('flush' as const), budget: fc.integer({ min: 0, max: 9 }) }),
  )
  const start = fc.constantFrom(0, 2 ** 32 - 20)
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), start, fc.boolean(), (steps, start, track) => {
      const { kernel, path } = make({ track, start })
      const expected: Uint8Array[] = []
      const leaving: Uint8Array[] = []
      const held: { fragments: Fragments; bytes: Uint8Array }[] = []
      let received = 0
      const send = (packet: Uint8Array) => {
        if (path.send(packet)) leaving.push(packet)
      }
      for (const [seed, step] of steps.entries()) {
        if (step.do === 'write') {
          const parts = partsOf(step.lengths, seed)
          if (kernel.write(parts)) expected.push(join(parts))
          kernel.publish(step.keep)
        } else if (step.do === 'receive') {
          let calls = 0
          const before = path.counters[4]
          const handle = (packet: XdpPacket) => {
            const bytes = packet.copy()
            assert.deepEqual(bytes, expected[received++])
            const verdict = step.verdicts[calls++]
            if (verdict === 'throw') throw boom
            if (verdict === 'send') send(bytes.slice(0, 3000))
            if (verdict === 'own' && path.transmitFragments(packet)) leaving.push(bytes)
            if (verdict === 'hold') held.push({ fragments: packet.keep(), bytes })
            if (verdict === 'transmit') leaving.push(bytes)
            return verdict === 'hold' || verdict === 'transmit' ? verdict : undefined
          }
          try {
            assert.equal(path.receive(handle, step.budget), calls)
          } catch (error) {
            if (error !== boom) throw error
          }
          assert.ok(calls <= step.budget)
          // What had no room was dropped as a whole: which of them, the counter cannot say, so such runs end here.
          if (path.counters[4] > before) return
        } else if (step.do === 'let go') {
          const it = held.pop()
          if (it && step.transmit) {
            if (!path.transmitFragments(it.fragments)) return
            leaving.push(it.bytes)
          } else if (it) path.releaseFragments(it.fragments)
        } else if (step.do === 'send') {
          send(join(partsOf([step.length], seed)))
        } else {
          kernel.budget = step.budget
          path.flush()
          kernel.budget = Infinity
        }
        assertConserved(path)
      }
      kernel.publish()
      while (path.receive((packet) => void assert.deepEqual(packet.copy(), expected[received++])) > 0);
      for (const { fragments } of held) path.releaseFragments(fragments)
      path.flush()
      assert.equal(received, expected.length)
      assert.deepEqual(kernel.sent, leaving)
      assertAllHome(path)
    }),
    { seed: 6, numRuns: 250 },
  )
})
