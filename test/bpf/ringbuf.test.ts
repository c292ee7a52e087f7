// The ring buffer consumer, fed by programs in test runs, and from the event loop.
import assert from 'node:assert/strict'
import { closeSync } from 'node:fs'
import { describe, test, type TestContext } from 'node:test'
import {
  type Code,
  call,
  exit,
  jumpIf,
  load,
  loadMap,
  mov,
  r0,
  r1,
  r10,
  r2,
  r3,
  r4,
  r6,
  r7,
  store,
  label,
  add,
  atomic,
  loadMapValue,
} from '../../src/bpf/asm.js'
import { BpfMap, BpfProgram, RecordBatch, RingBuffer } from '../../src/bpf/index.js'
import { MappedRegion, PAGE_SIZE, createMemoryFile } from '../../src/kernel/memory.js'
import { needsRoot, openDescriptors } from '../support/lab.js'

const SIZE = 4096
const BPF_RB_NO_WAKEUP = 1
const BUSY = 0x80000000 // BPF_RINGBUF_BUSY_BIT

function makeMap(t: TestContext, size = SIZE): BpfMap {
  const map = BpfMap.create({ type: 'ringbuf', name: 'events', maxEntries: size })
  t.after(() => map.close())
  return map
}

function open(t: TestContext, map: BpfMap): RingBuffer {
  const ring = new RingBuffer(map)
  t.after(() => ring.close())
  return ring
}

function loadProgram(t: TestContext, code: Code): BpfProgram {
  const program = BpfProgram.load({ type: 'xdp', code })
  t.after(() => program.close())
  return program
}

/** A program that puts the bytes it is given into the ring, `length` at a time, and returns what the kernel said (0). */
function output(t: TestContext, map: BpfMap, length: number, flags = 0): BpfProgram {
  return loadProgram(t, [
    mov(r6, r1),
    // The packet is copied to the stack: 8 bytes at a time, length rounded up.
    load('u32', r2, r6, 0),
    load('u32', r3, r6, 4),
    mov(r4, r2),
    add(r4, 64),
    jumpIf(r4, '>', r3, 'short'),
    Array.from({ length: 8 }, (_, i) => [load('u64', r4, r2, i * 8), store('u64', r10, -64 + i * 8, r4)]),
    loadMap(r1, map),
    mov(r2, r10),
    add(r2, -64),
    mov(r3, length),
    mov(r4, flags),
    call('ringbuf_output'),
    exit(),
    label('short'),
    mov(r0, 99),
    exit(),
  ])
}

/** A ring in ordinary memory, where the test plays the kernel. Positions are those of the kernel's pages. */
function fakeRing(t: TestContext, start = 0n) {
  const fd = createMemoryFile('ring', 2 * PAGE_SIZE + 2 * SIZE)
  const region = MappedRegion.map({ fd, length: 2 * PAGE_SIZE + 2 * SIZE })
  const view = new DataView(region.buffer)
  const consumerPosition = (): bigint => view.getBigUint64(0, true)
  view.setBigUint64(0, start, true)
  view.setBigUint64(PAGE_SIZE, start, true)
  /** A record at a position, whose first data byte is `mark`; the producer's position goes behind it. */
  const write = (position: bigint, header: number, mark: number): void => {
    const at = 2 * PAGE_SIZE + (Number(position) & (SIZE - 1))
    view.setUint32(at, header, true)
    view.setUint8(at + 8, mark)
    view.setBigUint64(PAGE_SIZE, position + BigInt((header & 0xffffff) + 8), true)
  }
  const ring = new RingBuffer({ fd, type: 'ringbuf', name: 'fake', maxEntries: SIZE })
  t.after(() => {
    ring.close()
    region.close()
    closeSync(fd)
  })
  return { ring, write, consumerPosition }
}

const packet = (mark: number): Uint8Array => Uint8Array.from({ length: 64 }, (_, i) => (i === 0 ? mark : i))

function collect(ring: RingBuffer, budget?: number): number[][] {
  const records: number[][] = []
  ring.consume((bytes, offset, length) => records.push([...bytes.subarray(offset, offset + length)]), budget)
  return records
}

describe('ring buffer', { skip: needsRoot }, () => {
  test('records of every length arrive whole and in order', (t) => {
    const map = makeMap(t)
    const ring = open(t, map)
    assert.deepEqual(collect(ring), [])
    const expected: number[][] = []
    for (let length = 1; length <= 64; length++) {
      // The ring is emptied before it is full, and wraps several times.
      assert.equal(output(t, map, length).testRun({ packet: packet(length) }).returnValue, 0)
      expected.push([...packet(length).subarray(0, length)])
      if (length % 7 === 0) assert.deepEqual(collect(ring), expected.splice(0))
    }
    assert.deepEqual(collect(ring), expected)
    assert.deepEqual(ring.counters, { received: 64, discarded: 0 })
    assert.equal(ring.pending, 0)
  })

  test('the ring wraps for long, and no record is torn', (t) => {
    const map = makeMap(t)
    const ring = open(t, map)
    const program = output(t, map, 50)
    let mark = 0
    for (let round = 0; round < 300; round++) {
      for (let i = 0; i < 3; i++)
        assert.equal(program.testRun({ packet: packet((mark + i) & 0xff) }).returnValue, 0)
      const records = collect(ring)
      assert.equal(records.length, 3)
      for (const record of records) assert.deepEqual(record, [...packet(mark++ & 0xff).subarray(0, 50)])
    }
    assert.equal(ring.counters.received, 900)
  })

  test('a full ring refuses the program, and takes records again once it was emptied', (t) => {
    const map = makeMap(t)
    const ring = open(t, map)
    const program = output(t, map, 56) // 64 bytes with its header: 64 fill the ring
    const results = Array.from({ length: 70 }, () => program.testRun({ packet: packet(1) }).returnValue | 0)
    const fitting = results.filter((result) => result === 0).length
    assert.ok(fitting === 63 || fitting === 64, `${fitting}`)
    assert.ok(results.slice(fitting).every((result) => result === -11)) // EAGAIN
    assert.equal(ring.pending, fitting * 64)
    assert.equal(collect(ring).length, fitting)
    assert.equal(program.testRun({ packet: packet(1) }).returnValue, 0)
    assert.equal(collect(ring).length, 1)
  })

  test('records are taken many at a time, stay until they are released, and none is torn where the ring wraps', (t) => {
    const map = makeMap(t)
    const ring = open(t, map)
    const program = output(t, map, 50)
    const batch = new RecordBatch(4)
    const take = () => {
      ring.take(batch)
      return Array.from(batch.offsets.subarray(0, batch.count), (at) => [
        ...batch.bytes.subarray(at, at + 50),
      ])
    }
    let mark = 0
    for (let round = 0; round < 200; round++) {
      const sent = Array.from({ length: 7 }, () => packet(mark++ & 0xff))
      for (const data of sent) assert.equal(program.testRun({ packet: data }).returnValue, 0)
      const { pending } = ring
      const taken = []
      for (let records = take(); records.length > 0; records = take()) {
        taken.push(...records)
        for (const [i, at] of batch.offsets.subarray(0, batch.count).entries())
          assert.equal(batch.words[at >>> 2] & 0xff, records[i][0])
        if (round % 2 === 0) ring.release()
      }
      assert.deepEqual(
        taken,
        sent.map((data) => [...data.subarray(0, 50)]),
      )
      ring.release()
      assert.equal(ring.pending, 0)
      assert.equal(pending, 7 * 64)
    }
    assert.equal(ring.counters.received, 1400)
    for (let i = 0; i < 4; i++) program.testRun({ packet: packet(i) })
    assert.equal(ring.take(batch, 65), 2)
    ring.release()
    assert.equal(ring.take(batch, 1), 1)
    ring.close()
    ring.release()
  })

  test('a budget leaves the rest for the next time', (t) => {
    const map = makeMap(t)
    const ring = open(t, map)
    output(t, map, 8).testRun({ packet: packet(5), repeat: 10 })
    assert.equal(collect(ring, 4).length, 4)
    assert.equal(collect(ring, 4).length, 4)
    assert.equal(ring.pending, 2 * 16)
    assert.equal(collect(ring, 0).length, 0)
    assert.equal(collect(ring, 4).length, 2)
  })

  test('discarded records are counted, not handed on', (t) => {
    const map = makeMap(t)
    const ring = open(t, map)
    const reserve = (how: 'ringbuf_submit' | 'ringbuf_discard', value: number): BpfProgram =>
      loadProgram(t, [
        loadMap(r1, map),
        mov(r2, 8),
        mov(r3, 0),
        call('ringbuf_reserve'),
        jumpIf(r0, '==', 0, 'full'),
        store('u64', r0, 0, value),
        mov(r1, r0),
        mov(r2, 0),
        call(how),
        mov(r0, 2),
        exit(),
        label('full'),
        mov(r0, 1),
        exit(),
      ])
    for (const [how, value] of [
      ['ringbuf_submit', 1],
      ['ringbuf_discard', 2],
      ['ringbuf_discard', 3],
      ['ringbuf_submit', 4],
    ] as const) {
      assert.equal(reserve(how, value).testRun({ packet: packet(0) }).verdict, 'pass')
    }
    assert.deepEqual(
      collect(ring).map(([first]) => first),
      [1, 4],
    )
    assert.deepEqual(ring.counters, { received: 2, discarded: 2 })
    // Discarded ones use up the budget too: a pass is bounded whatever it meets.
    for (let i = 0; i < 3; i++) reserve('ringbuf_discard', 0).testRun({ packet: packet(0) })
    assert.equal(collect(ring, 2).length, 0)
    assert.equal(ring.counters.discarded, 4)
    assert.equal(ring.pending, 16)
  })

  test('a record that is not committed yet holds back those behind it', (t) => {
    // A record cannot stay reserved once its program ended, so the kernel's side is a page of memory here.
    const { ring, write, consumerPosition } = fakeRing(t)
    write(0n, 8, 11)
    write(16n, 8 | BUSY, 22)
    write(32n, 8, 33)
    const marks = (): number[] => collect(ring).map(([mark]) => mark)
    assert.deepEqual(marks(), [11])
    assert.equal(consumerPosition(), 16n)
    assert.deepEqual(marks(), [])
    write(16n, 8, 22)
    write(32n, 8, 33)
    assert.deepEqual(marks(), [22, 33])
    assert.equal(consumerPosition(), 48n)
  })

  test('positions go past 2^32', (t) => {
    const { ring, write, consumerPosition } = fakeRing(t, 2n ** 32n - 32n)
    assert.equal(ring.pending, 0)
    for (let i = 0n; i < 5n; i++) write(2n ** 32n - 32n + i * 16n, 8, Number(i))
    assert.equal(ring.pending, 80)
    assert.deepEqual(
      collect(ring).map(([mark]) => mark),
      [0, 1, 2, 3, 4],
    )
    assert.equal(consumerPosition(), 2n ** 32n + 48n)
    assert.equal(ring.pending, 0)
    write(2n ** 32n + 48n, 8, 77)
    assert.deepEqual(
      collect(ring).map(([mark]) => mark),
      [77],
    )
  })

  test('what the handler throws is passed on, and its record is not seen again', (t) => {
    const map = makeMap(t)
    const ring = open(t, map)
    output(t, map, 8).testRun({ packet: packet(9), repeat: 3 })
    assert.throws(
      () =>
        ring.consume(() => {
          throw new Error('mine')
        }),
      /mine/,
    )
    assert.throws(() => ring.consume(() => void collect(ring)), { code: 'XDP_STATE' })
    assert.equal(collect(ring).length, 1)
  })

  test('the handler may close the ring', (t) => {
    const map = makeMap(t)
    const ring = open(t, map)
    output(t, map, 8).testRun({ packet: packet(9), repeat: 3 })
    assert.equal(
      ring.consume(() => ring.close()),
      1,
    )
    assert.throws(() => ring.consume(() => undefined), { code: 'XDP_STATE' })
    assert.equal(collect(open(t, map)).length, 2)
  })

  test('a new consumer goes on where the last one stopped', (t) => {
    const map = makeMap(t)
    output(t, map, 8).testRun({ packet: packet(9), repeat: 5 })
    const first = open(t, map)
    assert.equal(collect(first, 2).length, 2)
    first.close()
    assert.equal(collect(open(t, map)).length, 3)
  })

  test('watching wakes the event loop for each batch, budget by budget', async (t) => {
    const map = makeMap(t)
    const ring = open(t, map)
    const program = output(t, map, 8)
    const seen: number[] = []
    const all = new Promise<void>((resolve) => {
      ring.watch(
        (bytes, offset) => {
          seen.push(bytes[offset])
          if (seen.length === 30) resolve()
        },
        { budget: 4 },
      )
    })
    assert.throws(() => ring.watch(() => undefined), { code: 'XDP_STATE' })
    program.testRun({ packet: packet(1), repeat: 20 })
    assert.equal(seen.length, 0)
    setImmediate(() => program.testRun({ packet: packet(2), repeat: 10 }))
    await all
    assert.deepEqual(
      seen,
      Array.from({ length: 30 }, (_, i) => (i < 20 ? 1 : 2)),
    )
    ring.unwatch()
    ring.unwatch()
    program.testRun({ packet: packet(3) })
    await new Promise((resolve) => setImmediate(resolve))
    assert.equal(seen.length, 30)
    assert.equal(collect(ring).length, 1)
  })

  test('records without a wake-up are found by consuming', (t) => {
    const map = makeMap(t)
    const ring = open(t, map)
    output(t, map, 8, BPF_RB_NO_WAKEUP).testRun({ packet: packet(1), repeat: 3 })
    assert.equal(collect(ring).length, 3)
  })

  test('a hundred thousand records through a small ring: received and refused add up', (t) => {
    const map = makeMap(t, 65536)
    const ring = open(t, map)
    const numbers = BpfMap.create({ type: 'array', value: 16, maxEntries: 1 })
    t.after(() => numbers.close())
    // Numbers each record; what does not fit is counted.
    const program = loadProgram(t, [
      mov(r7, 1),
      loadMapValue(r6, numbers, 0),
      atomic('fetch-add', 'u64', r6, 0, r7),
      store('u64', r10, -8, r7),
      loadMap(r1, map),
      mov(r2, r10),
      add(r2, -8),
      mov(r3, 8),
      mov(r4, 0),
      call('ringbuf_output'),
      jumpIf(r0, '==', 0, 'done'),
      mov(r7, 1),
      atomic('add', 'u64', r6, 8, r7),
      label('done'),
      mov(r0, 2),
      exit(),
    ])
    let last = -1
    let isRising = true
    for (let round = 0; round < 20; round++) {
      program.testRun({ packet: packet(0), repeat: 5000 })
      ring.consume((bytes, offset) => {
        const number = bytes[offset] | (bytes[offset + 1] << 8) | (bytes[offset + 2] << 16)
        isRising &&= number > last
        last = number
      })
    }
    const counted = new DataView(numbers.lookup(0)!.buffer)
    assert.ok(isRising)
    assert.equal(counted.getUint32(0, true), 100_000)
    assert.equal(ring.counters.received + counted.getUint32(8, true), 100_000)
    assert.ok(ring.counters.received >= 20 * 4000)
  })

  test('only ring buffers are taken, and closing unmaps', (t) => {
    const before = openDescriptors()
    const array = BpfMap.create({ type: 'array', value: 4, maxEntries: 1 })
    assert.throws(() => new RingBuffer(array), { code: 'XDP_BAD_OPTION', message: /"array"/ })
    array.close()
    const map = makeMap(t)
    const ring = new RingBuffer(map)
    ring.close()
    ring.close()
    assert.throws(() => ring.pending, { code: 'XDP_STATE' })
    map.close()
    assert.deepEqual(openDescriptors(), before)
  })
})
