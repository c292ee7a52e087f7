// Maps handed in to a built program, in the place of those that it declares.
import assert from 'node:assert/strict'
import { describe, test, type TestContext } from 'node:test'
import { defineMap, defineXdp } from '../../../src/bpf/builder/index.js'
import { BpfMap, u32, u64 } from '../../../src/bpf/index.js'
import type { MapType } from '../../../src/bpf/constants.js'
import { needsRoot } from '../../support/lab.js'

const counts = defineMap({ type: 'hash', name: 'counts', key: u32, value: u32, maxEntries: 4 })
const counting = defineXdp('counting', (x) => {
  x.update(counts, 7, 9)
  return 'drop'
})

function mapOf(t: TestContext, type: MapType, key: number, value: number): { fd: number; name: string } {
  const map = BpfMap.create({ type, name: 'mine', key, value, maxEntries: 4 })
  t.after(() => map.close())
  return map
}

describe('a map handed in to a built program', { skip: needsRoot }, () => {
  test('is used when it fits, of whatever size', (t) => {
    const map = BpfMap.create({ type: 'hash', name: 'mine', key: u32, value: u32, maxEntries: 100 })
    t.after(() => map.close())
    using loaded = counting.load({ maps: { counts: map } })
    assert.equal(loaded.program.testRun({ packet: new Uint8Array(64) }).verdict, 'drop')
    assert.deepEqual([...map.entries()], [[7, 9]])
  })

  test('is refused when keys, values or the type are others: the program would write what is beside them', (t) => {
    for (const [type, key, value, how] of [
      ['hash', 8, 4, 'size of keys 8 instead of 4'],
      ['hash', 4, 8, 'size of values 8 instead of 4'],
      ['hash', 4, 1, 'size of values 1 instead of 4'],
      ['array', 4, 4, 'type array instead of hash'],
      ['lru_hash', 4, 4, 'type lru_hash instead of hash'],
      ['percpu_hash', 8, 4, 'type percpu_hash instead of hash, size of keys 8 instead of 4'],
    ] as const) {
      const map = mapOf(t, type, key, value)
      assert.throws(() => counting.load({ maps: { counts: map } }), {
        code: 'XDP_BAD_OPTION',
        option: 'maps',
        message: `The map handed in as "counts" does not fit "counting": ${how}`,
      })
    }
  })

  test('a ring buffer fits by its type, whatever its records are', (t) => {
    const ring = defineMap({ type: 'ringbuf', name: 'ring', value: u64, maxEntries: 4096 })
    const writing = defineXdp('writing', (x) => void x.record(ring, 1, () => {}))
    const mine = BpfMap.create({ type: 'ringbuf', name: 'mine', maxEntries: 8192 })
    t.after(() => mine.close())
    writing.load({ maps: { ring: mine } }).close()
    const other = BpfMap.create({ type: 'array', name: 'mine', value: u64, maxEntries: 1 })
    t.after(() => other.close())
    assert.throws(() => writing.load({ maps: { ring: other } }), {
      option: 'maps',
      message: /type array instead of ringbuf/,
    })
  })

  test('devices stand in for sockets', (t) => {
    const sockets = defineMap({ type: 'xskmap', name: 'xsks_map', maxEntries: 1 })
    const redirecting = defineXdp('redirecting', (x) => x.redirectTo(sockets, 0))
    const devices = BpfMap.create({ type: 'devmap', name: 'devices', maxEntries: 1 })
    t.after(() => devices.close())
    devices.update(0, 1)
    using loaded = redirecting.load({ maps: { xsks_map: devices } })
    assert.equal(loaded.program.testRun({ packet: new Uint8Array(64) }).verdict, 'redirect')
    const wide = BpfMap.create({ type: 'devmap', name: 'devices', value: 8, maxEntries: 1 })
    t.after(() => wide.close())
    assert.throws(() => redirecting.load({ maps: { xsks_map: wide } }), /size of values 8 instead of 4/)
  })
})
