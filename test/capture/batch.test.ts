// Packets in batches: encoded to the same bytes as one by one, handed on to whoever wants them how, written across chunks and files.
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, readdirSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite, test, type TestContext } from 'node:test'
import fc from 'fast-check'
import { native } from '../../src/kernel/native.js'
import { BatchMoves, INBOUND, PacketBatch } from '../../src/packet/pcap-batch.js'
import { PacketRecord } from '../../src/packet/pcap-record.js'
import { PCAP_ROWS, microsecondRows, writePcapRecord } from '../../src/packet/pcap.js'
import { writePacketBlock, writePacketBlocks } from '../../src/packet/pcapng-write.js'
import { Handover } from '../../src/capture/handover.js'
import { CaptureWriter, type CaptureWriterOptions } from '../../src/capture/writer.js'
import { hexOf, Keeper } from './support.js'

const SEED = 20_261
const EFAULT = 14
const memory = Uint8Array.from({ length: 70_000 }, (_, i) => (i * 7) ^ (i >> 8))

const rows = fc.array(
  fc.record({
    offset: fc.nat(1000),
    length: fc.oneof(fc.nat(5), fc.nat(130), fc.nat(65_536)),
    cut: fc.nat(100),
    seconds: fc.oneof(fc.constant(1_700_000_000), fc.nat(2 ** 31 - 1), fc.constant(2 ** 32 - 1)),
    nanoseconds: fc.nat(999_999_999),
    queue: fc.oneof(fc.constant(-1), fc.nat(63)),
    direction: fc.nat(2),
  }),
  { maxLength: 20 },
)
const common = fc.record({
  interfaceId: fc.nat(3),
  verdict: fc.oneof(fc.constant(-1), fc.nat(4)),
  firstId: fc.oneof(fc.constant(-1), fc.nat(), fc.constant(2 ** 32 - 2), fc.constant(2 ** 53 - 50)),
  dropCount: fc.oneof(fc.constant(-1), fc.nat(), fc.constant(2 ** 40)),
})
type Rows = typeof rows extends fc.Arbitrary<infer T> ? T : never

function batchOf(packets: Rows, rest: Partial<PacketBatch> = {}): PacketBatch {
  const batch = Object.assign(new PacketBatch(Math.max(packets.length, 1)), rest)
  batch.begin(memory)
  for (const { offset, length, cut, seconds, nanoseconds, queue, direction } of packets)
    batch.add(offset, length, length + cut, seconds, nanoseconds, queue, direction)
  return batch
}

/** Packets of the same length, each told by its number. */
const simple = (count: number, length = 60) =>
  batchOf(
    Array.from({ length: count }, (_, i) => ({
      offset: i,
      length,
      cut: 0,
      seconds: 1_700_000_000 + Math.floor(i / 100),
      nanoseconds: i,
      queue: 0,
      direction: INBOUND,
    })),
    { firstId: 0 },
  )

function* recordsOf(batch: PacketBatch): Generator<PacketRecord> {
  const record = new PacketRecord()
  for (let i = 0; i < batch.count; i++) {
    batch.read(i, record)
    yield record
  }
}

/** What the encoders leave: heads around the packets, and the packets copied into their places. */
function encoded(bytes: Uint8Array, encode: (moves: BatchMoves) => void, offset: number) {
  const moves = new BatchMoves()
  encode(moves)
  assert.equal(native.gather(bytes, memory, moves.table, moves.count), 0)
  return { bytes: bytes.subarray(offset, moves.end), count: moves.count }
}

/** The same for pcap, whose heads are in the rows. */
function recorded(
  bytes: Uint8Array,
  offset: number,
  batch: PacketBatch,
  first: number,
  resolution: 'nanoseconds' | 'microseconds',
) {
  const rows = resolution === 'nanoseconds' ? batch.rows : microsecondRows(batch, first, new Uint32Array(0))
  const done = new Uint32Array(2)
  const { count } = batch
  assert.equal(native.gatherRows(bytes, offset, bytes.length, memory, rows, PCAP_ROWS, first, count, done), 0)
  return { bytes: bytes.subarray(offset, done[1]), count: done[0] }
}

suite('batches', () => {
  test('are encoded to the bytes that their records are, as far as there is room', () => {
    fc.assert(
      fc.property(rows, common, fc.nat(200_000), fc.nat(3), (packets, rest, room, first) => {
        const batch = batchOf(packets, rest)
        const from = Math.min(first, packets.length)
        for (const resolution of ['nanoseconds', 'microseconds', 'pcapng'] as const) {
          const offset = 8
          const expected = new Uint8Array(offset + room)
          let end = offset
          let count = 0
          for (const record of recordsOf(batch)) {
            if (count++ < from) continue
            const next =
              resolution === 'pcapng'
                ? writePacketBlock(expected, end, record)
                : writePcapRecord(expected, end, record, resolution)
            if (next < 0) {
              count--
              break
            }
            end = next
          }
          // What was there before must not show.
          const target = new Uint8Array(offset + room).fill(0xee)
          const found =
            resolution === 'pcapng'
              ? encoded(
                  target,
                  (moves) => writePacketBlocks(target, offset, target.length, batch, from, moves),
                  offset,
                )
              : recorded(target, offset, batch, from, resolution)
          assert.equal(found.count, count - from)
          assert.deepEqual(Buffer.from(found.bytes), Buffer.from(expected.subarray(offset, end)))
        }
      }),
      { seed: SEED, numRuns: 150 },
    )
  })

  test('gather copies nothing outside of both memories', () => {
    const target = new Uint8Array(8)
    const refused = (move: number[], count = 1) =>
      assert.equal(native.gather(target, memory, Uint32Array.from(move), count), -EFAULT)
    refused([1, 0, 8])
    refused([0, memory.length - 7, 8])
    refused([2 ** 32 - 1, 0, 2])
    refused([0, 2 ** 32 - 1, 2 ** 32 - 1])
    refused([0, 0, 1], 2)
    assert.deepEqual([...target], [0, 0, 0, 0, 0, 0, 0, 0])
    assert.equal(native.gather(target, memory, Uint32Array.of(6, 3, 2, 0, 9, 0), 2), 0)
    assert.deepEqual([...target], [0, 0, 0, 0, 0, 0, memory[3], memory[4]])
  })

  test('gatherRows takes nothing from outside, and refuses rows that are not there', () => {
    const target = new Uint8Array(64)
    const done = new Uint32Array(2)
    const refused = (row: number[], layout = [4, 2, 1, 1], count = 1, limit = 64) =>
      assert.equal(
        native.gatherRows(
          target,
          0,
          limit,
          memory,
          Uint32Array.from(row),
          Uint32Array.from(layout),
          0,
          count,
          done,
        ),
        -EFAULT,
      )
    refused([memory.length, 1, 0, 0])
    refused([2 ** 32 - 1, 1, 0, 0])
    refused([0, 1, 0, 0], [4, 2, 3, 1])
    refused([0, 1, 0, 0], [4, 2 ** 32 - 1, 1, 1])
    refused([0, 1, 0, 0], [4, 2, 1, 4])
    refused([0, 1, 0, 0], [4, 2, 1, 1], 2)
    refused([0, 1, 0, 0], [4, 2, 1, 1], 1, 65)
    refused([0, 1, 0, 0], [4, 2, 1])
    assert.ok(target.every((byte) => byte === 0))
    const [at, limit] = [60, 64]
    assert.equal(
      native.gatherRows(
        target,
        at,
        limit,
        memory,
        Uint32Array.of(3, 1),
        Uint32Array.of(2, 1, 1, 1),
        0,
        1,
        done,
      ),
      0,
    )
    assert.deepEqual([...done], [0, 60])
  })

  test('gatherBefore brings what lies in front of packets into their rows, and nothing from outside', () => {
    const words = new Uint32Array(memory.buffer, 0, memory.length >> 2)
    const property = fc.property(
      fc.array(fc.integer({ min: 2, max: words.length }), { minLength: 1, maxLength: 60 }),
      fc.integer({ min: 0, max: 2 }),
      (places, more) => {
        const [stride, at] = [4 + more, 2 + more]
        const rows = new Uint32Array(places.length * stride)
        places.forEach((word, i) => (rows[i * stride] = 4 * word))
        const expected = rows.slice()
        places.forEach((word, i) => expected.set(words.subarray(word - 2, word), i * stride + at))
        assert.equal(native.gatherBefore(rows, stride, places.length, memory, 2, at), 0)
        assert.deepEqual(rows, expected)
      },
    )
    fc.assert(property, { seed: SEED, numRuns: 100 })
    const refused = (offset: number, count = 1, wanted = 2, at = 2) =>
      assert.equal(
        native.gatherBefore(Uint32Array.of(offset, 0, 0, 0), 4, count, memory, wanted, at),
        -EFAULT,
      )
    refused(7)
    refused(memory.length + 1)
    refused(2 ** 32 - 1)
    refused(8, 2)
    refused(16, 1, 3)
    refused(16, 1, 2, 2 ** 32 - 1)
  })

  test('come whole to who takes them so, and one by one to who does not, until the memory is gone', () => {
    const batch = simple(10)
    const whole: number[] = []
    new Handover().give(batch, {
      packet: () => assert.fail('one by one'),
      batch: ({ count }) => void whole.push(count),
    })
    assert.deepEqual(whole, [10])
    const keeper = new Keeper()
    new Handover().give(batch, keeper)
    assert.deepEqual(keeper.packets.map(hexOf), Array.from(recordsOf(batch), hexOf))
    assert.equal(keeper.batches, 1)
    assert.deepEqual(
      keeper.packets.map(({ packetId, direction }) => [packetId, direction]),
      keeper.packets.map((_, i) => [i, 'inbound']),
    )
    let seen = 0
    new Handover().give(batch, {
      packet: () => {
        if (++seen === 4) batch.clear()
      },
    })
    assert.equal(seen, 4)
  })

  test('wait for who pauses in the middle of them, in their order, though their memory is used again', () => {
    const [batch, other] = [simple(10), simple(5)]
    batch.bytes = batch.bytes.slice()
    other.bytes = other.bytes.slice()
    const expected = [...Array.from(recordsOf(batch), hexOf), ...Array.from(recordsOf(other), hexOf)]
    const handover = new Handover()
    const { gate } = handover
    const keeper = new Keeper()
    const take = {
      packet: (packet: PacketRecord) => {
        assert.equal(gate.isShut, false)
        keeper.packet(packet)
        if (keeper.packets.length % 4 === 0) gate.shut()
      },
      batchEnd: () => keeper.batchEnd(),
    }
    handover.give(batch, take)
    assert.deepEqual([keeper.packets.length, keeper.batches, handover.isKeeping], [4, 1, true])
    batch.bytes.fill(0)
    // While it is paused nothing comes, and what is given waits behind what was kept.
    handover.give(other, take)
    other.bytes.fill(0)
    handover.goOn(take)
    assert.equal(keeper.packets.length, 4)
    while (handover.isKeeping) {
      gate.open()
      handover.goOn(take)
    }
    assert.deepEqual(keeper.packets.map(hexOf), expected)
    assert.equal(keeper.batches, 5)
    gate.shut()
    handover.give(simple(3), take)
    handover.close()
    handover.goOn(take)
    assert.deepEqual([keeper.packets.length, handover.isKeeping, gate.isShut], [15, false, false])
  })

  test('wait for who takes the first of them and pauses, and come one by one where he cannot', () => {
    const [batch, other] = [simple(10), simple(5)]
    batch.bytes = batch.bytes.slice()
    batch.firstId = 100
    batch.dropCount = 7
    const copies = (batch: PacketBatch) => Array.from(recordsOf(batch), (record) => record.copy())
    const expected = [...copies(batch), ...copies(other)].map(hexOf)
    const handover = new Handover()
    const found: PacketRecord[] = []
    const ids: number[] = []
    const drops: number[] = []
    const answers = [4, 0, 5, undefined]
    const take = {
      packet: () => assert.fail('one by one'),
      batch: (batch: PacketBatch) => {
        const taken = answers.shift()
        const records = copies(batch).slice(0, taken)
        found.push(...records)
        assert.equal(batch.captured, 60 * batch.count)
        if (batch.firstId >= 0) ids.push(...records.map(({ packetId }) => packetId))
        drops.push(batch.dropCount)
        if (taken !== undefined) handover.gate.shut()
        return taken
      },
    }
    handover.give(batch, take)
    assert.deepEqual([found.length, handover.isKeeping], [4, true])
    batch.bytes.fill(0)
    handover.give(other, take)
    while (handover.isKeeping) {
      handover.gate.open()
      handover.goOn(take)
    }
    assert.deepEqual(found.map(hexOf), expected)
    assert.deepEqual(ids.slice(0, 10), [100, 101, 102, 103, 104, 105, 106, 107, 108, 109])
    assert.deepEqual(drops.slice(0, 3), [7, -1, -1])

    // Who does not pause gets all the same.
    const numbers: number[] = []
    handover.give(simple(5), {
      packet: ({ nanoseconds }) => void numbers.push(nanoseconds),
      batch: () => 3,
    })
    assert.deepEqual([numbers, handover.isKeeping], [[3, 4], false])
  })
})

/** The files that a writer makes of a batch, whole and record by record, in their order. */
async function filesOf(t: TestContext, batch: PacketBatch, options: Partial<CaptureWriterOptions>) {
  const contents: Buffer[][] = []
  for (const isWhole of [true, false]) {
    const directory = mkdtempSync(join(tmpdir(), 'node-xdp-batch-'))
    t.after(() => rmSync(directory, { recursive: true }))
    const writer = await CaptureWriter.open({ path: join(directory, 'file'), ...options })
    for (let round = 0; round < 3; round++) {
      if (isWhole) writer.writeBatch(batch)
      else for (const record of recordsOf(batch)) writer.write(record)
      await writer.flush()
    }
    await writer.close()
    assert.deepEqual(
      { given: writer.stats.given, written: writer.stats.written, lost: writer.stats.lost },
      { given: 3 * batch.count, written: 3 * batch.count, lost: 0 },
    )
    contents.push(
      readdirSync(directory)
        .sort()
        .map((name) => readFileSync(join(directory, name))),
    )
  }
  return { whole: contents[0], single: contents[1] }
}

/** A writer with as little room as can be, into a named pipe that is read to its end. */
async function writerToPipe(t: TestContext) {
  const directory = mkdtempSync(join(tmpdir(), 'node-xdp-batch-'))
  t.after(() => rmSync(directory, { recursive: true }))
  // A named pipe is no regular file: nothing is written to it before the event loop has its turn.
  const path = join(directory, 'pipe')
  execFileSync('mkfifo', [path])
  const reader = spawn('cat', [path], { stdio: ['ignore', 'pipe', 'inherit'] })
  const read = reader.stdout.toArray() as Promise<Buffer[]>
  return { writer: await CaptureWriter.open({ path, format: 'pcap', bufferSize: 1 }), read }
}

suite('batches in files', () => {
  for (const format of ['pcap', 'pcapng'] as const) {
    test(`are what their records are: ${format}, over several chunks`, async (t) => {
      const { whole, single } = await filesOf(t, simple(1000, 1400), { format })
      assert.ok(whole[0].length > 3 * 1400 * 1000)
      assert.deepEqual(whole, single)
    })

    test(`begin new files where their records do: ${format}`, async (t) => {
      const batch = simple(1000)
      const bySize = await filesOf(t, batch, { format, rotate: { bytes: 50_000 } })
      assert.ok(bySize.whole.length > 3)
      assert.deepEqual(bySize.whole, bySize.single)
      const byTime = await filesOf(t, batch, { format, rotate: { seconds: 4 } })
      assert.equal(byTime.whole.length, 3)
      assert.deepEqual(byTime.whole, byTime.single)
    })
  }

  test('what a writer has no room for is lost and counted, the rest is whole', async (t) => {
    const { writer, read } = await writerToPipe(t)
    const batch = simple(1000, 1400)
    for (let round = 0; round < 4; round++) writer.writeBatch(batch)
    assert.equal(writer.hasRoom, false)
    await writer.close()
    const { given, written, lost } = writer.stats
    assert.equal(given, 4000)
    assert.ok(lost > 0 && written > 0)
    assert.equal(written + lost, 4000)
    assert.equal(Buffer.concat(await read).length, 24 + written * (16 + 1400))
  })

  test('a writer takes as many as it has room for, and the rest later', async (t) => {
    const { writer, read } = await writerToPipe(t)
    const batch = simple(4000, 1400)
    let calls = 0
    for (let left = batch.count; left > 0; calls++) {
      const taken = writer.takeBatch(batch)
      left -= taken
      batch.skip(taken)
      if (left > 0) assert.equal(writer.hasRoom, false)
      await writer.ready()
    }
    assert.ok(calls > 1, 'it had room for all of them, or this proves nothing')
    await writer.close()
    const { given, written, lost } = writer.stats
    assert.deepEqual({ given, written, lost }, { given: 4000, written: 4000, lost: 0 })
    assert.equal(Buffer.concat(await read).length, 24 + 4000 * 1416)
  })

  test('small files are written, begun and ended before the event loop has its turn', async (t) => {
    const directory = mkdtempSync(join(tmpdir(), 'node-xdp-batch-'))
    t.after(() => rmSync(directory, { recursive: true }))
    const path = join(directory, 'file.pcap')
    const rotate = { bytes: 5000, files: 20 }
    const writer = await CaptureWriter.open({ path, format: 'pcap', bufferSize: 1, rotate })
    const batch = simple(150, 1400)
    const first = writer.takeBatch(batch)
    assert.ok(first > 20, `${first} packets, of which its memory holds 9`)
    // A disk that does not keep up is left to the thread pool.
    for (let taken = first; taken < batch.count; taken = writer.takeBatch(batch)) {
      batch.skip(taken)
      await writer.ready()
    }
    await writer.close()
    const { written, lost, files } = writer.stats
    assert.deepEqual({ written, lost, files }, { written: 150, lost: 0, files: 50 })
    const sizes = readdirSync(directory).map((name) => statSync(join(directory, name)).size)
    assert.deepEqual(sizes, Array(20).fill(24 + 3 * 1416))
  })

  test('a regular file is written before the event loop has its turn', async (t) => {
    const directory = mkdtempSync(join(tmpdir(), 'node-xdp-batch-'))
    t.after(() => rmSync(directory, { recursive: true }))
    const path = join(directory, 'file.pcap')
    const writer = await CaptureWriter.open({ path, format: 'pcap', bufferSize: 1 })
    const batch = simple(1000, 1400)
    writer.writeBatch(batch)
    assert.ok(statSync(path).size > 500_000)
    for (let round = 1; round < 8; round++) {
      // A disk that does not keep up is left to the thread pool.
      await writer.ready()
      writer.writeBatch(batch)
    }
    await writer.close()
    const size = 24 + 8000 * (16 + 1400)
    assert.deepEqual(
      { ...writer.stats },
      { given: 8000, written: 8000, bytes: size, lost: 0, failed: 0, files: 1 },
    )
    assert.equal(readFileSync(path).length, size)
  })
})
