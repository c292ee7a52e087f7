// A run looks after the frames that were sent while no packet comes. The kernel is played: a veth gives frames back at once.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { SimulatedKernel } from '../../bench/simulated-kernel.js'
import { check, native } from '../../src/kernel/index.js'
import { DataPath } from '../../src/xsk/data-path.js'
import { FramePool, Umem } from '../../src/xsk/index.js'
import { runOnEvents } from '../../src/xsk/loop.js'
import { until } from '../support/xsk.js'

test('frames that were sent outside of a batch come back without a packet', async (t) => {
  const umem = Umem.create({ frames: 32 })
  const kernel = new SimulatedKernel(16, 60)
  const path = new DataPath({
    bytes: umem.bytes,
    view: umem.view,
    frameSize: umem.frameSize,
    pool: new FramePool(umem, { track: true }),
    rings: kernel.rings,
    doorbell: { receive: () => 0, send: () => 0 },
    batch: 16,
    needWakeup: true,
    interface: 'simulated',
    queue: 0,
  })
  // Any descriptor that nothing comes on.
  const fd = check(native.socket(2, 2, 0), 'socket')
  t.after(() => native.close(fd))
  const control = new AbortController()
  let rejected: unknown
  const running = runOnEvents({
    path,
    fd,
    takeError: () => new Error('the descriptor failed'),
    handler: () => undefined,
    budget: undefined,
    wait: undefined,
    signal: control.signal,
  }).catch((error: unknown) => (rejected = error))
  for (let round = 0; round < 5; round++) {
    for (let i = 0; i < 4; i++) assert.ok(path.send(new Uint8Array(60)))
    path.flush()
    assert.equal(path.txOutstanding, 4)
    assert.equal(kernel.send(), 4)
    assert.equal(path.frames().completion, 4)
    await until('the frames are back', () => path.txOutstanding === 0)
  }
  assert.deepEqual(path.frames(), { ...path.frames(), held: 0, tx: 0, completion: 0 })
  control.abort()
  await running
  assert.equal(rejected, undefined)
  // What is sent when nobody runs is nobody's to look after.
  path.send(new Uint8Array(60))
  path.flush()
  assert.equal(path.onOutstanding, undefined)
})
