// Mapped memory: one owner, views that die instead of dangling, memory files shared by descriptor.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MappedRegion, PAGE_SIZE, createMemoryFile, native } from '../../src/kernel/index.js'

test('two mappings of one memory file are the same bytes', () => {
  const fd = createMemoryFile('test', PAGE_SIZE)
  const a = MappedRegion.map({ fd, length: PAGE_SIZE })
  const b = MappedRegion.map({ fd, length: PAGE_SIZE })
  native.close(fd)
  new Uint8Array(a.buffer)[7] = 42
  assert.equal(new Uint8Array(b.buffer)[7], 42)
  a.close()
  b.close()
})

test('closing detaches every view: reads give undefined, nothing crashes', () => {
  const fd = createMemoryFile('test', PAGE_SIZE)
  const region = MappedRegion.map({ fd, length: PAGE_SIZE })
  const words = new Uint32Array(region.buffer, 64, 1)
  Atomics.store(words, 0, 5)
  region.close()
  assert.equal(words[0], undefined)
  assert.throws(() => Atomics.load(words, 0), TypeError)
  assert.throws(() => region.assertOpen('The region'), { code: 'XDP_STATE', message: 'The region is closed' })
  region.close()
  native.close(fd)
})

test('a mapping that cannot be made names the call and the errno', () => {
  assert.throws(() => MappedRegion.map({ fd: -1, length: PAGE_SIZE, context: { about: 'nothing' } }), {
    code: 'EBADF',
    syscall: 'mmap',
    message: /^mmap \(nothing\) failed: .* \(EBADF\)$/,
  })
})

test('an offset beyond 32 bits reaches the kernel whole', () => {
  const far = 2 ** 32 + PAGE_SIZE
  const fd = createMemoryFile('test', far + PAGE_SIZE)
  const region = MappedRegion.map({ fd, length: PAGE_SIZE, offset: far })
  const same = MappedRegion.map({ fd, length: PAGE_SIZE, offset: PAGE_SIZE })
  new Uint8Array(region.buffer)[0] = 1
  assert.equal(new Uint8Array(same.buffer)[0], 0, 'not cut to 32 bits')
  region.close()
  same.close()
  native.close(fd)
})

test('memory that is dropped without close is unmapped by the collector, not twice', async () => {
  const { setFlagsFromString } = await import('node:v8')
  const { runInNewContext } = await import('node:vm')
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  const fd = createMemoryFile('test', PAGE_SIZE)
  const mappings = async () => {
    const { readFile } = await import('node:fs/promises')
    return (await readFile('/proc/self/maps', 'utf8'))
      .split('\n')
      .filter((line) => line.includes('memfd:test')).length
  }
  const before = await mappings()
  for (let i = 0; i < 50; i++) MappedRegion.map({ fd, length: PAGE_SIZE })
  // Finalizers run on later turns of the event loop; each turn collects once more, up to a bound.
  for (let i = 0; i < 100 && (await mappings()) > before; i++) {
    collect()
    await new Promise((resolve) => setImmediate(resolve))
  }
  assert.equal(await mappings(), before)
  native.close(fd)
})
