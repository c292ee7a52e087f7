// The UMEM and its frames: sizes, sharing by descriptor, ownership, what is left after closing.
import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { Worker } from 'node:worker_threads'
import fc from 'fast-check'
import type { KernelError } from '../../src/kernel/index.js'
import { FramePool } from '../../src/xsk/frame-pool.js'
import { Umem } from '../../src/xsk/umem.js'

for (const [shape, option] of [
  [{ frames: 0 }, 'frames'],
  [{ frames: 1.5 }, 'frames'],
  [{ frameSize: 1024 }, 'frameSize'],
  [{ frameSize: 3000 }, 'frameSize'],
  [{ frameSize: 8192 }, 'frameSize'],
  [{ headroom: -1 }, 'headroom'],
  [{ headroom: 1792 }, 'headroom'],
  [{ frames: 2 ** 21 }, 'frames'],
] as const) {
  test(`a UMEM with ${JSON.stringify(shape)} is refused by the name of the option`, () => {
    assert.throws(() => Umem.create(shape), { code: 'XDP_BAD_OPTION', option })
  })
}

test('closing detaches the views instead of leaving them over unmapped memory', () => {
  const umem = Umem.create({ frames: 4 })
  const { bytes } = umem
  bytes[0] = 1
  umem.close()
  assert.equal(bytes[0], undefined)
  assert.equal(bytes.length, 0)
  umem.close()
})

test('another thread that opens the description sees the same memory', async () => {
  const umem = Umem.create({ frames: 4, shared: true })
  umem.bytes[5000] = 42
  const worker = new Worker(
    `const { workerData, parentPort } = require('node:worker_threads')
     import(workerData.module).then(({ Umem }) => {
       const umem = Umem.open(workerData.description)
       const seen = umem.bytes[5000]
       umem.bytes[5001] = 43
       umem.close()
       parentPort.postMessage(seen)
     })`,
    {
      eval: true,
      workerData: {
        module: new URL('../../src/xsk/umem.js', import.meta.url).href,
        description: umem.describe(),
      },
    },
  )
  const seen = await new Promise<number>((resolve, reject) => {
    worker.once('message', resolve)
    worker.once('error', reject)
  })
  assert.equal(seen, 42)
  assert.equal(umem.bytes[5001], 43)
  await worker.terminate()
  umem.close()
})

test('huge pages are used, or refused with the errno when none are free', () => {
  const free = Number(/HugePages_Free:\s+(\d+)/.exec(readFileSync('/proc/meminfo', 'utf8'))?.[1] ?? 0)
  const make = () => Umem.create({ frames: 1024, frameSize: 2048, hugePages: '2MiB' })
  if (free === 0) assert.throws(make, { code: 'ENOMEM', syscall: 'mmap' })
  else make().close()
})

test('a UMEM serves one claim at a time, and is not closed under it', () => {
  const umem = Umem.create({ frames: 4 })
  const release = umem.claim('veth0 queue 0')
  assert.throws(() => umem.claim('veth0 queue 1'), {
    code: 'XDP_STATE',
    message: /in use by the socket on veth0 queue 0/,
  })
  assert.throws(() => umem.close(), { code: 'XDP_STATE' })
  release()
  umem.claim('veth0 queue 1')()
  umem.close()
})

test('slices of a UMEM are claimed by one socket each', () => {
  const umem = Umem.create({ frames: 8 })
  const first = umem.claim('veth0 queue 0', { first: 0, count: 4 })
  const second = umem.claim('veth0 queue 1', { first: 4, count: 4 })
  for (const slice of [
    { first: 0, count: 1 },
    { first: 3, count: 2 },
    { first: 7, count: 1 },
    { first: 0, count: 8 },
  ]) {
    assert.throws(() => umem.claim('veth0 queue 2', slice), { code: 'XDP_STATE' })
  }
  first()
  umem.claim('veth0 queue 3', { first: 0, count: 4 })()
  assert.throws(() => umem.close(), { code: 'XDP_STATE', message: /veth0 queue 1/ })
  second()
  umem.close()
})

test('huge pages, where they can be had: ordinary pages otherwise, with the reason', () => {
  const free = Number(/HugePages_Free:\s+(\d+)/.exec(readFileSync('/proc/meminfo', 'utf8'))?.[1] ?? 0)
  const umem = Umem.create({ frames: 1024, hugePages: 'auto' })
  assert.equal(umem.pages.got, free > 0 ? '2MiB' : 'ordinary')
  if (free === 0) assert.match(umem.pages.why ?? '', /1 pages of 2 MiB are not free: mmap .*ENOMEM/)
  umem.bytes[umem.size - 1] = 1
  umem.close()
})

test('a pool gives out each frame once, and takes back any address within it', () => {
  const umem = Umem.create({ frames: 16 })
  fc.assert(
    fc.property(
      fc.array(fc.boolean(), { maxLength: 100 }),
      fc.integer({ min: 0, max: 2047 }),
      (steps, within) => {
        const pool = new FramePool(umem, { first: 3, count: 10, track: true })
        const taken: number[] = []
        for (const take of steps) {
          if (take) {
            const frame = pool.take()
            assert.equal(frame === -1, taken.length === 10)
            if (frame === -1) continue
            assert.ok(frame >= 3 * 2048 && frame < 13 * 2048 && frame % 2048 === 0)
            assert.ok(!taken.includes(frame))
            taken.push(frame)
          } else if (taken.length > 0) {
            pool.put((taken.pop() as number) + within)
          }
          assert.equal(pool.available, 10 - taken.length)
        }
      },
    ),
    { seed: 21 },
  )
  umem.close()
})

test('a tracking pool refuses a frame returned twice, and one of another pool', () => {
  const umem = Umem.create({ frames: 8 })
  const pool = new FramePool(umem, { first: 0, count: 4, track: true })
  const frame = pool.take()
  pool.put(frame)
  assert.throws(() => pool.put(frame), /returned twice/)
  assert.throws(() => pool.put(5 * 2048), /not of this pool/)
  assert.throws(() => new FramePool(umem, { first: 4, count: 5 }), { code: 'XDP_BAD_OPTION' })
  umem.close()
})

test('huge pages that are not there are what the error speaks of', (t) => {
  assert.throws(() => Umem.create({ hugePages: 'x' as 'auto' }), {
    code: 'XDP_BAD_OPTION',
    option: 'hugePages',
  })
  const directory = '/sys/kernel/mm/hugepages/hugepages-2048kB'
  if (!existsSync(directory)) return t.skip('this machine has no pages of 2 MiB')
  const free = Number(readFileSync(`${directory}/free_hugepages`, 'utf8'))
  if (free >= 2) return t.skip('this machine has free huge pages')
  assert.throws(
    () => Umem.create({ frames: 2048, hugePages: '2MiB' }),
    ({ code, hint }: KernelError) => {
      assert.equal(code, 'ENOMEM')
      assert.match(
        hint ?? '',
        /^2 pages of 2MiB are wanted, \d+ free: `echo \d+ > \/sys\/kernel\/mm.*hugePages "auto"/,
      )
      return true
    },
  )
})
