// Batches of packets as rows, over simulated rings: every packet once and in order, beside those in several frames, and no frame lost.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { DataPath } from '../../src/xsk/data-path.js'
import { FramePool, Umem, type PacketRows } from '../../src/xsk/index.js'
import { FragmentingKernel, join } from './fragmenting-kernel.js'

const FRAMES = 64
const RING = 32

function make({ track = false, start = 0 } = {}) {
  const umem = Umem.create({ frames: FRAMES })
  const kernel = new FragmentingKernel(umem.bytes, RING, start)
  const path = new DataPath({
    bytes: umem.bytes,
    view: umem.view,
    frameSize: umem.frameSize,
    pool: new FramePool(umem, { track }),
    rings: kernel.rings,
    doorbell: { receive: () => 0, send: () => kernel.send() },
    batch: 8,
    needWakeup: false,
    multiBuffer: true,
    interface: 'simulated',
    queue: 0,
  })
  path.refill()
  return { umem, kernel, path }
}

const rowsFor = (packets: number, stride = 2, bytes?: number): PacketRows => ({
  rows: new Uint32Array(packets * stride),
  stride,
  bytes,
})

/** The packets that the rows tell of. */
function read({ umem }: { umem: Umem }, { rows, stride }: PacketRows, count: number): string[] {
  return Array.from({ length: count }, (_, i) => {
    const [offset, length] = rows.subarray(i * stride)
    return Buffer.from(umem.bytes.subarray(offset, offset + length)).toString('hex')
  })
}

function assertConserved(path: DataPath): void {
  const { total, ...places } = path.frames()
  assert.equal(
    Object.values(places).reduce((a, b) => a + b, 0),
    total,
    JSON.stringify(places),
  )
  for (const count of Object.values(places)) assert.ok(count >= 0, JSON.stringify(places))
}

/** All frames are free or the kernel's. */
function assertAllHome(path: DataPath): void {
  const { rx, held, tx, completion } = path.frames()
  assert.deepEqual({ rx, held, tx, completion }, { rx: 0, held: 0, tx: 0, completion: 0 })
  assertConserved(path)
}

const packet = (...bytes: number[]) => Uint8Array.from(bytes)

for (const track of [false, true]) {
  test(`every packet comes once, whole and in order, whatever lies between${track ? ', tracked' : ''}`, () => {
    const lengths = fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 1, maxLength: 3 })
    fc.assert(
      fc.property(
        fc.array(lengths, { maxLength: 80 }),
        fc.integer({ min: 1, max: 40 }),
        fc.integer({ min: 2, max: 9 }),
        fc.option(fc.integer({ min: 1, max: 300 }), { nil: undefined }),
        fc.integer({ min: -40, max: 40 }),
        fc.nat(2),
        (packets, room, stride, bytes, start, keep) => {
          const made = make({ track, start })
          const { kernel, path } = made
          const into = rowsFor(room, stride, bytes)
          const seen: string[] = []
          const sent: string[] = []
          let seed = 0
          const take = () => {
            for (;;) {
              const count = path.receiveBatch(into, (count) => {
                assertConserved(path)
                assert.equal(path.frames().held, count)
                const found = read(made, into, count)
                assert.ok(count === 1 || bytes === undefined || found.join('').length <= 2 * bytes)
                seen.push(...found)
              })
              assertConserved(path)
              const long =
                count === 0
                  ? path.receive((it) => void seen.push(Buffer.from(it.copy()).toString('hex')), 1)
                  : 0
              if (count + long === 0) break
            }
          }
          for (const parts of packets) {
            const made = parts.map((length) =>
              Uint8Array.from({ length }, () => (seed = (seed * 31 + 17) & 0xff)),
            )
            while (!kernel.write(made)) {
              kernel.publish()
              take()
            }
            sent.push(Buffer.from(join(made)).toString('hex'))
            // Not all descriptors of a packet need be there at once.
            if (seed % 3 === 0) {
              kernel.publish(keep)
              take()
            }
          }
          kernel.publish()
          take()
          assert.deepEqual(seen, sent)
          assertAllHome(path)
        },
      ),
      { seed: 20_261, numRuns: 150 },
    )
  })

  test(`a handler that throws loses its batch and no frame${track ? ', tracked' : ''}`, () => {
    const made = make({ track })
    const { kernel, path } = made
    const into = rowsFor(2)
    for (let round = 0; round < 50; round++) {
      for (const byte of [1, 2, 3]) kernel.write([packet(byte)])
      kernel.publish()
      const boom = new Error('boom')
      assert.throws(() => path.receiveBatch(into, () => { throw boom }), boom) // prettier-ignore
      assertConserved(path)
      assert.equal(
        path.receiveBatch(into, (count) => assert.deepEqual(read(made, into, count), ['03'])),
        1,
      )
      assertAllHome(path)
    }
  })
}

test('a handler that closes the socket has had its batch, and no other comes', () => {
  const { kernel, path } = make({ track: true })
  for (let i = 0; i < 3; i++) kernel.write([packet(i)])
  kernel.publish()
  let calls = 0
  const close = () => {
    calls++
    path.close()
  }
  assert.equal(path.receiveBatch(rowsFor(2), close), 2)
  assert.throws(() => path.receiveBatch(rowsFor(2), close), { code: 'XDP_STATE' })
  assert.equal(calls, 1)
})

test('a handler may write over the rows, and send, but not receive', () => {
  const { kernel, path } = make({ track: true })
  const into = rowsFor(4)
  for (let i = 0; i < 4; i++) kernel.write([packet(i)])
  kernel.publish()
  path.receiveBatch(into, () => {
    into.rows.fill(0)
    assert.ok(path.send(packet(7, 7)))
    for (const again of [() => path.receive(() => undefined), () => path.receiveBatch(into, () => undefined)])
      assert.throws(again, { code: 'XDP_STATE' })
  })
  path.flush()
  assert.deepEqual(kernel.sent, [packet(7, 7)])
  assertAllHome(path)
})

test('rows without room for a packet are refused', () => {
  const { path } = make()
  for (const into of [rowsFor(0), rowsFor(4, 1), { rows: new Uint32Array(4), stride: 2.5 }])
    assert.throws(() => path.receiveBatch(into, () => undefined), { code: 'XDP_BAD_OPTION', option: 'rows' })
})

test('batches are counted as packets are', () => {
  const { kernel, path } = make()
  for (let i = 0; i < 10; i++) kernel.write([new Uint8Array(i + 1)])
  kernel.publish()
  let packets = 0
  while (packets < 10) packets += path.receiveBatch(rowsFor(4), () => undefined)
  const [rxPackets, rxBytes, , , , batches] = path.counters
  assert.deepEqual([rxPackets, rxBytes, batches], [10, 55, 3])
})
