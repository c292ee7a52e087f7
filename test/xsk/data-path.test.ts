// The data path against a kernel played in user space: what handlers may do with the frame in hand.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { SimulatedKernel } from '../../bench/simulated-kernel.js'
import { DataPath } from '../../src/xsk/data-path.js'
import { FramePool, Umem, type PacketHandler } from '../../src/xsk/index.js'

const RING = 16

function make(options: { track?: boolean } = {}) {
  const umem = Umem.create({ frames: 2 * RING })
  const kernel = new SimulatedKernel(RING, 60)
  const path = new DataPath({
    bytes: umem.bytes,
    view: umem.view,
    frameSize: umem.frameSize,
    pool: new FramePool(umem, options),
    rings: kernel.rings,
    doorbell: { receive: () => 0, send: () => kernel.send() },
    batch: RING,
    needWakeup: false,
    interface: 'simulated',
    queue: 0,
  })
  path.refill()
  return { kernel, path }
}

/** Every frame is somewhere, and once the kernel has sent everything all but the lent ones are free. */
function assertWhole(path: DataPath): void {
  path.flush()
  path.flush()
  const { total, free, fill, rx, held, tx, completion } = path.frames()
  assert.equal(free + fill + rx + held + tx + completion, total)
  assert.deepEqual({ held, tx, completion }, { held: 0, tx: 0, completion: 0 })
}

const boom = new Error('boom')
for (const track of [false, true]) {
  const ways: [string, (path: DataPath) => PacketHandler, Error?][] = [
    ['says nothing', () => () => undefined],
    ["says 'transmit'", () => () => 'transmit'],
    [
      'throws',
      () => () => {
        throw boom
      },
      boom,
    ],
    ['releases it by itself', (path) => (packet) => path.release(packet.frame)],
    ['transmits it by itself', (path) => (packet) => void path.transmit(packet.offset, packet.length)],
    ["releases it by itself and says 'hold'", (path) => (packet) => (path.release(packet.frame), 'hold')],
    [
      'releases it by itself and throws',
      (path) => (packet) => {
        path.release(packet.frame)
        throw boom
      },
      boom,
    ],
    [
      'transmits it by itself and throws',
      (path) => (packet) => {
        path.transmit(packet.offset, packet.length)
        throw boom
      },
      boom,
    ],
  ]
  for (const [what, handler, error] of ways) {
    test(`a handler that ${what} loses no frame and frees none twice${track ? ', tracked' : ''}`, () => {
      const { kernel, path } = make({ track })
      for (let round = 0; round < 50; round++) {
        assert.ok(kernel.receive() > 0, `the kernel has frames to receive into in round ${round}`)
        const handle = handler(path)
        const drain = () => {
          while (path.receive(handle) > 0);
        }
        if (error) assert.throws(drain, error)
        else drain()
        assertWhole(path)
      }
    })
  }

  test(`a handler cannot transmit what it has given away${track ? ', tracked' : ''}`, () => {
    const { kernel, path } = make({ track })
    kernel.receive()
    const handle: PacketHandler = (packet) => (path.release(packet.frame), 'transmit')
    assert.throws(() => path.receive(handle), { code: 'XDP_BAD_OPTION', option: 'handler' })
    assertWhole(path)
  })
}

test("held frames are the caller's until it gives them back, from anywhere", () => {
  const { kernel, path } = make({ track: true })
  const held: number[] = []
  kernel.receive()
  while (path.receive((packet) => (held.push(packet.frame), 'hold')) > 0);
  assert.equal(path.frames().held, held.length)
  held.forEach((frame, i) => (i % 2 === 0 ? path.release(frame) : path.transmit(frame + 256, 60)))
  assertWhole(path)
})
