// Every type of map with every operation, on the kernel.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, test, type TestContext } from 'node:test'
import fc from 'fast-check'
import {
  BpfMap,
  BpfProgram,
  type MapType,
  asm,
  bytes,
  cpumapValue,
  devmapValue,
  possibleCpus,
  prefixKey,
  struct,
  u16,
  u32,
  u64,
} from '../../src/bpf/index.js'
import type { CreateMapOptions } from '../../src/bpf/map-options.js'
import { needsRoot, openDescriptors } from '../support/lab.js'

const cpus = possibleCpus()

function make<T extends MapType, K, V>(t: TestContext, options: CreateMapOptions<T, K, V>) {
  const map = BpfMap.create(options)
  t.after(() => map.close())
  return map
}

const sorted = (entries: Iterable<[number, unknown]>): [number, unknown][] =>
  [...entries].sort(([a], [b]) => a - b)

describe('maps', { skip: needsRoot }, () => {
  for (const type of ['hash', 'lru_hash'] as const) {
    test(`${type}: single elements, modes, iteration, batches`, (t) => {
      const map = make(t, { type, name: 'm', key: u32, value: u64, maxEntries: 1000 })
      assert.equal(map.lookup(1), undefined)
      assert.equal(map.update(1, 10n), true)
      assert.equal(map.lookup(1), 10n)
      assert.equal(map.update(1, 11n, 'create'), false)
      assert.equal(map.lookup(1), 10n)
      assert.equal(map.update(2, 20n, 'replace'), false)
      assert.equal(map.lookup(2), undefined)
      assert.equal(map.update(1, 12n, 'replace'), true)
      assert.equal(map.update(2, 20n, 'create'), true)
      assert.deepEqual(sorted(map), [
        [1, 12n],
        [2, 20n],
      ])
      assert.equal(map.delete(1), true)
      assert.equal(map.delete(1), false)
      assert.equal(map.take(2), 20n)
      assert.equal(map.take(2), undefined)
      assert.deepEqual([...map], [])

      const wanted = Array.from({ length: 500 }, (_, i) => [i, BigInt(i) * 3n] as [number, bigint])
      assert.equal(map.updateBatch(wanted), 500)
      assert.deepEqual(sorted(map.entries()), wanted)
      assert.deepEqual(
        [...map.keys()].sort((a, b) => a - b),
        wanted.map(([key]) => key),
      )
      assert.equal(map.updateBatch([]), 0)
      // Keys that are not there, at the start, in the middle and at the end.
      assert.equal(map.deleteBatch([5000, 0, 1, 6000, 7000, 2, 8000]), 3)
      assert.equal(map.deleteBatch([0, 1, 2]), 0)
      assert.deepEqual(sorted(map), wanted.slice(3))
      assert.deepEqual(sorted(map.drain()), wanted.slice(3))
      assert.deepEqual([...map], [])
    })
  }

  test('hash: more elements than one batch holds, and a value that spans batches', (t) => {
    const map = make(t, { type: 'hash', key: u32, value: 1000, maxEntries: 3000, preallocate: false })
    const value = new Uint8Array(1000).fill(7)
    const keys = Array.from({ length: 3000 }, (_, i) => i)
    assert.equal(map.updateBatch(keys.map((key) => [key, value])), 3000)
    const seen = sorted(map)
    assert.deepEqual(
      seen.map(([key]) => key),
      keys,
    )
    assert.ok(seen.every(([, one]) => Buffer.compare(one as Uint8Array, value) === 0))
  })

  test('hash: full is an error that says so, and what was given may be deleted while iterating', (t) => {
    const map = make(t, { type: 'hash', name: 'small', key: u32, value: u32, maxEntries: 8 })
    for (let key = 0; key < 8; key++) map.update(key, key)
    assert.throws(() => map.update(99, 1), { code: 'E2BIG', message: /"small"/, hint: /8 entries/ })
    assert.throws(() => map.updateBatch([[99, 1]]), { code: 'E2BIG', message: /0 of 1 written/ })
    let count = 0
    for (const key of map.keys()) {
      assert.equal(map.delete(key), true)
      count++
    }
    assert.equal(count, 8)
    assert.deepEqual([...map], [])
  })

  test('hash: a batch update that fails half way says how far it got', (t) => {
    const map = make(t, { type: 'hash', key: u32, value: u32, maxEntries: 4 })
    assert.throws(() => map.updateBatch([1, 2, 3, 4, 5, 6].map((key) => [key, key])), {
      code: 'E2BIG',
      message: /4 of 6 written/,
    })
  })

  test('lru_hash evicts instead of filling up', (t) => {
    const map = make(t, { type: 'lru_hash', key: u32, value: u32, maxEntries: 64, perCpuLru: false })
    for (let key = 0; key < 1000; key++) map.update(key, key)
    const kept = [...map.keys()]
    assert.ok(kept.length > 0 && kept.length <= 64)
    assert.equal(map.lookup(999), 999)
  })

  test('array: all elements are there from the start and stay', (t) => {
    const map = make(t, { type: 'array', name: 'a', value: struct({ a: u16, b: u64 }), maxEntries: 5 })
    assert.deepEqual(map.lookup(4), { a: 0, b: 0n })
    assert.equal(map.lookup(5), undefined)
    assert.equal(map.update(2, { a: 7, b: 8n }), true)
    assert.equal(map.update(2, { a: 7, b: 8n }, 'create'), false)
    assert.deepEqual([...map.keys()], [0, 1, 2, 3, 4])
    assert.deepEqual([...map][2], [2, { a: 7, b: 8n }])
    assert.throws(() => map.delete(2), { code: 'EINVAL' })
    assert.throws(() => map.update(5, { a: 0, b: 0n }), { code: 'E2BIG' })
    assert.equal(map.updateBatch([0, 1, 2].map((key) => [key, { a: key, b: 1n }])), 3)
    assert.deepEqual(
      [...map].map(([, { a }]) => a),
      [0, 1, 2, 0, 0],
    )
  })

  for (const type of ['percpu_hash', 'lru_percpu_hash', 'percpu_array'] as const) {
    test(`${type}: one value for each possible processor`, (t) => {
      // 12 bytes: the kernel rounds each processor's slot up to 16.
      const map = make(t, { type, key: u32, value: struct({ a: u32, b: u32, c: u32 }), maxEntries: 10 })
      const value = Array.from({ length: cpus }, (_, cpu) => ({ a: cpu, b: cpu * 2, c: cpu * 3 }))
      assert.equal(map.update(3, value), true)
      assert.deepEqual(map.lookup(3), value)
      const entries = new Map(map.entries())
      assert.deepEqual(entries.get(3), value)
      assert.equal(map.updateBatch([4, 5].map((key) => [key, value])), 2)
      assert.deepEqual(new Map(map.entries()).get(5), value)
      assert.throws(() => map.update(3, []), { code: 'XDP_BAD_OPTION' })
      if (type === 'percpu_array') {
        assert.equal([...map].length, 10)
      } else {
        assert.equal(map.deleteBatch([3, 4]), 2)
        assert.deepEqual([...map.keys()], [5])
        assert.deepEqual([...map.drain()], [[5, value]])
      }
    })
  }

  test('percpu: a program counts on its own processor only', (t) => {
    const map = make(t, { type: 'percpu_array', value: u64, maxEntries: 1 })
    const { r0, r1, r2, r10 } = asm
    const program = BpfProgram.load({
      type: 'xdp',
      code: [
        asm.store('u32', r10, -4, 0),
        asm.mov(r2, r10),
        asm.add(r2, -4),
        asm.loadMap(r1, map),
        asm.call('map_lookup_elem'),
        asm.jumpIf(r0, '==', 0, 'out'),
        asm.mov(r1, 1),
        asm.atomic('add', 'u64', r0, 0, r1),
        asm.label('out'),
        asm.mov(r0, 2),
        asm.exit(),
      ],
    })
    t.after(() => program.close())
    program.testRun({ packet: new Uint8Array(64), repeat: 1000 })
    const counted = map.lookup(0)!
    assert.equal(counted.length, cpus)
    assert.equal(
      counted.reduce((sum, one) => sum + one),
      1000n,
    )
  })

  test('lpm_trie: the longest prefix wins', (t) => {
    const map = make(t, { type: 'lpm_trie', name: 'routes', key: prefixKey(4), value: u32, maxEntries: 100 })
    const key = (prefixLength: number, ...data: number[]) => ({ prefixLength, data: Uint8Array.from(data) })
    map.update(key(0, 0, 0, 0, 0), 1)
    map.update(key(8, 10, 0, 0, 0), 2)
    map.update(key(24, 10, 1, 2, 0), 3)
    assert.equal(map.lookup(key(32, 10, 1, 2, 77)), 3)
    assert.equal(map.lookup(key(32, 10, 9, 9, 9)), 2)
    assert.equal(map.lookup(key(32, 192, 168, 0, 1)), 1)
    assert.deepEqual([...map].map(([{ prefixLength }, value]) => [prefixLength, value]).sort(), [
      [0, 1],
      [24, 3],
      [8, 2],
    ])
    assert.equal(map.delete(key(24, 10, 1, 2, 0)), true)
    assert.equal(map.delete(key(24, 10, 1, 2, 0)), false)
    assert.equal(map.lookup(key(32, 10, 1, 2, 77)), 2)
    assert.equal(map.updateBatch([[key(16, 10, 5, 0, 0), 9]]), 1)
    assert.equal(map.lookup(key(32, 10, 5, 5, 5)), 9)
    assert.equal(map.deleteBatch([key(16, 10, 5, 0, 0), key(17, 1, 2, 3, 4)]), 1)
    assert.throws(() => map.update(key(33, 1, 2, 3, 4), 1), { code: 'EINVAL' })
  })

  test('devmap and devmap_hash hold devices', (t) => {
    const plain = make(t, { type: 'devmap', maxEntries: 4 })
    assert.equal(plain.lookup(0), undefined)
    assert.equal(plain.update(1, 1), true) // lo
    assert.equal(plain.lookup(1), 1)
    assert.deepEqual(
      [...plain.entries()].filter(([key]) => key === 1),
      [[1, 1]],
    )
    assert.equal(plain.delete(1), true)
    assert.equal(plain.lookup(1), undefined)
    assert.throws(() => plain.update(0, 0x7fffffff), { code: 'EINVAL', hint: /no device with that index/ })

    const withProgram = make(t, { type: 'devmap_hash', key: u32, value: devmapValue, maxEntries: 4 })
    const program = BpfProgram.load({
      type: 'xdp',
      attachType: 'xdp_devmap',
      code: [asm.mov(asm.r0, 2), asm.exit()],
    })
    t.after(() => program.close())
    assert.equal(withProgram.update(77, { ifindex: 1, program: program.fd }), true)
    assert.deepEqual([...withProgram], [[77, { ifindex: 1, program: program.id }]])
    assert.equal(withProgram.delete(77), true)
    assert.equal(withProgram.delete(77), false)
  })

  test('cpumap holds queue lengths and programs', (t) => {
    const map = make(t, { type: 'cpumap', value: cpumapValue, maxEntries: cpus })
    const program = BpfProgram.load({
      type: 'xdp',
      attachType: 'xdp_cpumap',
      code: [asm.mov(asm.r0, 2), asm.exit()],
    })
    t.after(() => program.close())
    assert.equal(map.update(0, { queueSize: 128, program: program.fd }), true)
    assert.deepEqual(map.lookup(0), { queueSize: 128, program: program.id })
    assert.equal(map.delete(0), true)
    assert.equal(map.lookup(0), undefined)
    const short = make(t, { type: 'cpumap', maxEntries: cpus })
    short.update(0, 64)
    assert.equal(short.lookup(0), 64)
    const long = make(t, { type: 'cpumap', maxEntries: cpus + 1 })
    assert.throws(() => long.update(cpus, 64), { code: 'ENODEV', hint: /no such processor/ })
  })

  test('prog_array holds programs: written as descriptors, read as ids', (t) => {
    const map = make(t, { type: 'prog_array', maxEntries: 2 })
    const program = BpfProgram.load({ type: 'xdp', code: [asm.mov(asm.r0, 1), asm.exit()] })
    t.after(() => program.close())
    const { r0, r1, r2, r3 } = asm
    const caller = BpfProgram.load({
      type: 'xdp',
      code: [asm.loadMap(r2, map), asm.mov(r3, 0), asm.call('tail_call'), asm.mov(r0, 2), asm.exit()],
    })
    t.after(() => caller.close())
    void r1
    const run = () => caller.testRun({ packet: new Uint8Array(64) }).verdict
    assert.equal(run(), 'pass')
    assert.equal(map.update(0, program.fd), true)
    assert.equal(map.lookup(0), program.id)
    assert.equal(run(), 'drop')
    assert.equal(map.delete(0), true)
    assert.equal(run(), 'pass')
  })

  test('xskmap takes no reading, and refuses what is no AF_XDP socket', (t) => {
    const map = make(t, { type: 'xskmap', name: 'xsks', maxEntries: 4 })
    assert.throws(() => map.lookup(0), { code: 'ENOTSUP' })
    assert.deepEqual([...map.keys()], [0, 1, 2, 3])
    assert.throws(() => map.update(0, 0))
    map.delete(1)
    assert.throws(() => make(t, { type: 'xskmap', value: 8, maxEntries: 1 }), { code: 'XDP_BAD_OPTION' })
  })

  test('maps of maps hold maps of the same shape', (t) => {
    const inner = make(t, { type: 'hash', key: u32, value: u64, maxEntries: 8 })
    for (const type of ['array_of_maps', 'hash_of_maps'] as const) {
      const outer = make(t, { type, key: u32, innerMap: inner, maxEntries: 2 })
      assert.equal(outer.update(1, inner.fd), true)
      assert.equal(outer.lookup(1), inner.id)
      assert.equal(outer.delete(1), true)
      assert.equal(outer.lookup(1), undefined)
      const other = make(t, { type: 'hash', key: u32, value: u32, maxEntries: 8 })
      assert.throws(() => outer.update(0, other.fd), { code: 'EINVAL' })
    }
  })

  test('queue and stack have no keys', (t) => {
    const none = new Uint8Array(0)
    for (const type of ['queue', 'stack'] as const) {
      const map = make(t, { type, value: u32, maxEntries: 3 })
      for (const value of [1, 2, 3]) map.update(none, value)
      assert.deepEqual([map.take(none), map.take(none)], type === 'queue' ? [1, 2] : [3, 2])
      assert.equal(map.lookup(none), type === 'queue' ? 3 : 1)
    }
  })

  test('an array in memory is the map itself', (t) => {
    const map = make(t, { type: 'array', value: u64, maxEntries: 600, mmapable: true })
    const region = map.mmap()
    t.after(() => region.close())
    assert.equal(region.buffer.byteLength, 8192)
    const view = new DataView(region.buffer)
    map.update(599, 0x1122334455667788n)
    assert.equal(view.getBigUint64(599 * 8, true), 0x1122334455667788n)
    view.setBigUint64(8, 5n, true)
    assert.equal(map.lookup(1), 5n)
    assert.throws(() => make(t, { type: 'array', value: u64, maxEntries: 1 }).mmap(), {
      code: 'XDP_BAD_OPTION',
    })
  })

  test('a frozen map cannot be changed from here', (t) => {
    const map = make(t, { type: 'array', value: u32, maxEntries: 1, programAccess: 'read-only' })
    map.update(0, 7)
    map.freeze()
    assert.throws(() => map.update(0, 8), { code: 'EPERM' })
    assert.equal(map.lookup(0), 7)
    assert.throws(() => map.freeze(), { code: 'EPERM' })
    assert.throws(() => map.updateBatch([[0, 8]]), { code: 'EPERM', message: /0 of 1 written/ })
  })

  test('access from here can be limited', (t) => {
    const map = make(t, { type: 'hash', key: u32, value: u32, maxEntries: 1, access: 'read-only' })
    assert.throws(() => map.update(0, 8), { code: 'EPERM' })
    assert.equal(map.lookup(0), undefined)
  })

  test('maps open by id, and the codecs must fit', (t) => {
    const map = make(t, { type: 'hash', name: 'a-name too long for it', key: u32, value: u64, maxEntries: 3 })
    map.update(1, 2n)
    assert.equal(map.info().name, 'a_name_too_long')
    const same = BpfMap.openById(map.id, { key: u32, value: u64 })
    t.after(() => same.close())
    assert.deepEqual(
      [same.type, same.name, same.keySize, same.valueSize, same.maxEntries, same.id, same.lookup(1)],
      ['hash', map.name, 4, 8, 3, map.id, 2n],
    )
    const raw = BpfMap.openById(map.id)
    t.after(() => raw.close())
    assert.deepEqual(raw.lookup(Uint8Array.of(1, 0, 0, 0)), Uint8Array.of(2, 0, 0, 0, 0, 0, 0, 0))
    assert.throws(() => BpfMap.openById(map.id, { key: u16 }), { code: 'XDP_BAD_OPTION', message: /4 bytes/ })
    assert.throws(() => BpfMap.openById(map.id, { perCpu: true }), { code: 'XDP_BAD_OPTION' })
    assert.throws(() => BpfMap.openById(0x7ffffff0), { code: 'XDP_NOT_FOUND' })
    const perCpu = make(t, { type: 'percpu_array', value: u64, maxEntries: 1 })
    const opened = BpfMap.openById(perCpu.id, { key: u32, value: u64, perCpu: true })
    t.after(() => opened.close())
    assert.equal(opened.lookup(0)!.length, cpus)
  })

  test('closing lets go of the descriptor, twice is harmless, and use after it is an error', () => {
    const before = openDescriptors()
    const map = BpfMap.create({ type: 'array', value: u32, maxEntries: 1 })
    map.close()
    map.close()
    assert.throws(() => map.lookup(0), { code: 'XDP_STATE' })
    assert.throws(() => [...map], { code: 'XDP_STATE' })
    assert.throws(() => map.fd, { code: 'XDP_STATE' })
    // A descriptor of a map that does not fit the codecs is closed too.
    assert.throws(() => BpfMap.openById(0x7ffffff0))
    assert.deepEqual(openDescriptors(), before)
  })

  test('what the kernel refuses comes with the sizes asked for', () => {
    assert.throws(() => BpfMap.create({ type: 'hash', key: 4, value: 4, maxEntries: 0xffffffff }), {
      name: 'KernelError',
      syscall: 'bpf(MAP_CREATE)',
      message: /4294967295 entries/,
    })
  })

  test('any sequence of operations agrees with a Map', (t) => {
    const map = make(t, { type: 'hash', key: bytes(3), value: u32, maxEntries: 64 })
    const key = fc.integer({ min: 0, max: 9 })
    const operation = fc.oneof(
      fc.record({
        kind: fc.constant('update'),
        key,
        value: fc.nat(),
        mode: fc.constantFrom('any', 'create', 'replace'),
      }),
      fc.record({ kind: fc.constantFrom('delete', 'take'), key }),
      fc.record({ kind: fc.constant('deleteBatch'), keys: fc.uniqueArray(key) }),
      fc.record({ kind: fc.constant('drain') }),
    )
    const bytesOf = (key: number) => Uint8Array.of(key, 0, 255 - key)
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 40 }), (operations) => {
        map.deleteBatch([...map.keys()])
        const model = new Map<number, number>()
        for (const op of operations) {
          if ('mode' in op) {
            const isAllowed = op.mode === 'any' || model.has(op.key) === (op.mode === 'replace')
            assert.equal(map.update(bytesOf(op.key), op.value, op.mode as 'any'), isAllowed)
            if (isAllowed) model.set(op.key, op.value)
          } else if ('keys' in op) {
            const there = op.keys.filter((key) => model.delete(key)).length
            assert.equal(map.deleteBatch(op.keys.map(bytesOf)), there)
          } else if ('key' in op) {
            const there = model.get(op.key)
            if (op.kind === 'take') assert.equal(map.take(bytesOf(op.key)), there)
            else assert.equal(map.delete(bytesOf(op.key)), there !== undefined)
            model.delete(op.key)
          } else {
            assert.equal([...map.drain()].length, model.size)
            model.clear()
          }
          const entries = [...map].map(([key, value]) => [key[0], value] as [number, number])
          assert.deepEqual(sorted(entries), sorted(model))
        }
      }),
      { seed: 3, numRuns: 100 },
    )
  })
})

test('sizes are checked before the kernel is asked', () => {
  const bad: [CreateMapOptions<MapType, unknown, unknown>, string][] = [
    [{ type: 'hash', value: 4, maxEntries: 1 }, 'key'],
    [{ type: 'hash', key: 4, maxEntries: 1 }, 'value'],
    [{ type: 'hash', key: 4, value: 4, maxEntries: 0 }, 'maxEntries'],
    [{ type: 'hash', key: 4, value: 4, maxEntries: 1.5 }, 'maxEntries'],
    [{ type: 'hash', key: 0, value: 4, maxEntries: 1 }, 'key'],
    [{ type: 'hash', key: -1, value: 4, maxEntries: 1 }, 'key'],
    [{ type: 'array', key: 8, value: 4, maxEntries: 1 }, 'key'],
    [{ type: 'array', value: 0, maxEntries: 1 }, 'value'],
    [{ type: 'lpm_trie', key: 4, value: 4, maxEntries: 1 }, 'key'],
    [{ type: 'xskmap', value: 8, maxEntries: 1 }, 'value'],
    [{ type: 'devmap', value: 12, maxEntries: 1 }, 'value'],
    [{ type: 'ringbuf', maxEntries: 1000 }, 'maxEntries'],
    [{ type: 'ringbuf', maxEntries: 4096 * 3 }, 'maxEntries'],
    [{ type: 'ringbuf', value: 4, maxEntries: 4096 }, 'value'],
    [{ type: 'hash', key: 4, value: 4, maxEntries: 1, mmapable: true }, 'mmapable'],
    [{ type: 'array_of_maps', maxEntries: 1 }, 'innerMap'],
    [{ type: 'hash', key: 4, value: 4, maxEntries: 1, innerMap: { fd: 1 } }, 'innerMap'],
    [{ type: 'nonsense' as MapType, key: 4, value: 4, maxEntries: 1 }, 'type'],
  ]
  for (const [options, option] of bad) {
    assert.throws(() => BpfMap.create(options), { code: 'XDP_BAD_OPTION', option }, JSON.stringify(options))
  }
})

test('the possible processors are counted as the kernel lists them', () => {
  const text = readFileSync('/sys/devices/system/cpu/possible', 'utf8').trim()
  if (/^\d+(-\d+)?$/.test(text)) {
    const [first, last = first] = text.split('-').map(Number)
    assert.equal(cpus, last - first + 1)
  }
  assert.ok(cpus >= 1)
})
