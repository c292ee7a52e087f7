// pcap and pcapng by themselves: what is written is read, in chunks of any size, and nothing malformed does harm.
import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import { CaptureInput } from '../../src/packet/pcap-input.js'
import { PacketRecord } from '../../src/packet/pcap-record.js'
import { nanosecondsHigh, nanosecondsLow, ticksToTime, tickScale } from '../../src/packet/pcap-time.js'
import { PcapReader, writePcapHeader, writePcapRecord } from '../../src/packet/pcap.js'
import { MAX_BLOCK_LENGTH, PcapngReader } from '../../src/packet/pcapng.js'
import {
  encodeInterface,
  encodeSection,
  encodeStatistics,
  packetBlockLength,
  writePacketBlock,
} from '../../src/packet/pcapng-write.js'
import { modifiedPcapFile, packets, pcapFile, pcapngFile, readFileBytes, record } from './pcap-files.js'

const SEED = { seed: 41, numRuns: 150 }
const chunks = fc.array(fc.integer({ min: 1, max: 200 }), { minLength: 1, maxLength: 5 })
const bytesOf = ({ bytes, offset, length }: PacketRecord) => [...bytes.subarray(offset, offset + length)]

suite('pcap', () => {
  test('reads what was written, in either byte order and both resolutions, from chunks of any size', () => {
    const headers = fc.record({
      littleEndian: fc.boolean(),
      resolution: fc.constantFrom('microseconds' as const, 'nanoseconds' as const),
      snapLength: fc.integer({ min: 0, max: 262144 }),
      linkType: fc.constantFrom(1, 101, 113),
    })
    fc.assert(
      fc.property(packets, headers, chunks, (written, header, sizes) => {
        const { packets: read, problem, decoder } = readFileBytes(pcapFile(written, header), sizes)
        assert.equal(problem, undefined)
        assert.equal(read.length, written.length)
        for (const [i, packet] of read.entries()) {
          assert.deepEqual(bytesOf(packet), bytesOf(written[i]))
          assert.equal(packet.wireLength, written[i].wireLength)
          assert.equal(packet.seconds, written[i].seconds)
          const unit = header.resolution === 'microseconds' ? 1000 : 1
          assert.equal(packet.nanoseconds, written[i].nanoseconds - (written[i].nanoseconds % unit))
          assert.equal(packet.linkType, header.linkType)
        }
        assert.equal(decoder.format, 'pcap')
        assert.equal(decoder.interfaces[0].snapLength, header.snapLength)
      }),
      SEED,
    )
  })

  test('reads modified pcap, in either byte order, from chunks of any size', () => {
    fc.assert(
      fc.property(packets, fc.boolean(), chunks, (written, littleEndian, sizes) => {
        const file = modifiedPcapFile(written, littleEndian)
        const { packets: read, problem, decoder } = readFileBytes(file, sizes)
        assert.equal(problem, undefined)
        assert.equal(decoder.format, 'pcap')
        const times = (some: readonly PacketRecord[], unit: number) =>
          some.map(({ seconds, nanoseconds, wireLength }) => {
            return [seconds, nanoseconds - (nanoseconds % unit), wireLength]
          })
        assert.deepEqual(read.map(bytesOf), written.map(bytesOf))
        assert.deepEqual(times(read, 1), times(written, 1000))
        // What is missing is said to be, wherever it ends.
        const cut = readFileBytes(file.subarray(0, file.length - 1), sizes)
        assert.equal(cut.problem?.problem, 'truncated')
      }),
      SEED,
    )
  })

  test('carries a fraction of more than a second into the seconds', () => {
    const file = pcapFile([record(Uint8Array.of(1), { seconds: 5, nanoseconds: 7 })], {
      resolution: 'microseconds',
    })
    new DataView(file.buffer).setUint32(28, 2_500_000, true)
    const [packet] = readFileBytes(file).packets
    assert.deepEqual([packet.seconds, packet.nanoseconds], [7, 500_000_000])
  })

  test('says what is wrong and where', () => {
    const sound = pcapFile([record(new Uint8Array(10)), record(new Uint8Array(20))])
    const changed = (at: number, value: number) => {
      const file = sound.slice()
      new DataView(file.buffer).setUint32(at, value, true)
      return readFileBytes(file)
    }
    assert.deepEqual(at(changed(0, 0x12345678)), ['unknown-format', 0, 0])
    assert.deepEqual(at(changed(4, 0x00030002)), ['bad-version', 0, 0])
    assert.deepEqual(at(changed(50 + 8, 0xffffffff)), ['bad-length', 50, 1])
    assert.deepEqual(at(changed(50 + 8, 21)), ['truncated', 50, 1])
    assert.deepEqual(at(readFileBytes(sound.subarray(0, 60))), ['truncated', 50, 1])
    assert.deepEqual(at(readFileBytes(sound.subarray(0, 10))), ['truncated', 0, 0])
    assert.deepEqual(at(readFileBytes(sound.subarray(0, 50))), [undefined, undefined, 1])
    assert.deepEqual(at(readFileBytes(sound.subarray(0, 3))), ['truncated', 0, 0])
  })

  test('writes nothing where there is no room', () => {
    const packet = record(new Uint8Array(10))
    const small = new Uint8Array(45).fill(7)
    assert.equal(writePcapHeader(small, 22), -1)
    assert.equal(writePcapRecord(small, 20, packet), -1)
    assert.ok(small.every((byte) => byte === 7))
    assert.equal(writePcapRecord(small, 19, packet), 45)
  })
})

suite('pcapng', () => {
  test('reads what was written, options included, from chunks of any size', () => {
    fc.assert(
      fc.property(packets, chunks, (written, sizes) => {
        const { packets: read, problem, decoder } = readFileBytes(pcapngFile(written), sizes)
        assert.equal(problem, undefined)
        assert.equal(decoder.format, 'pcapng')
        assert.deepEqual(
          read,
          written.map((packet) => packet.copy()),
        )
      }),
      SEED,
    )
  })

  test('keeps what is said about section, interface and statistics', () => {
    const section = { hardware: 'x86', os: 'Linux ä', application: 'test', comment: 'why' }
    const device = {
      linkType: 1,
      snapLength: 96,
      name: 'eth0',
      description: 'the wire',
      filter: 'tcp port 80',
      os: 'Linux',
      hardware: 'nic',
      comment: 'c',
      speed: 2 ** 40,
      mac: Uint8Array.of(2, 0, 0, 0, 0, 1),
    }
    const statistics = {
      seconds: 1_800_000_000,
      nanoseconds: 999_999_999,
      start: { seconds: 1_799_999_000, nanoseconds: 1 },
      end: { seconds: 1_800_000_000, nanoseconds: 999_999_998 },
      received: 2 ** 52 + 1,
      interfaceDropped: 1,
      accepted: 2,
      systemDropped: 3,
      delivered: 4,
      comment: 'end',
    }
    const file = Buffer.concat([
      encodeSection(section),
      encodeInterface(device),
      encodeInterface({ name: 'other' }),
      encodeStatistics(0, statistics),
    ])
    const reader = new PcapngReader()
    reader.input.push(file)
    assert.equal(reader.next(new PacketRecord()), 'more')
    assert.equal(reader.finish(), undefined)
    assert.deepEqual(reader.section, section)
    const scale = { perSecond: 1e9, offset: 0 }
    assert.deepEqual(reader.interfaces[0], { ...device, scale, statistics })
    assert.equal(reader.interfaces[1].name, 'other')
    assert.equal(reader.interfaces[1].snapLength, 262144)
  })

  test('reads sections of the other byte order, simple and obsolete packets, and steps over unknown blocks', () => {
    const file = Buffer.concat([
      bigEndianBlock(0x0a0d0d0a, [0x1a2b3c4d, 0x00010000, 0xffffffff, 0xffffffff]),
      bigEndianBlock(1, [0x00010000, 8]), // Ethernet, snap length 8
      bigEndianBlock(0x0bad0bad, [1, 2, 3]),
      bigEndianBlock(3, [5, 0x01020304, 0x05000000]),
      bigEndianBlock(3, [100, 0x01020304, 0x05060708]),
      bigEndianBlock(2, [0x00000007, 0x000000e8, 0xd4a51000 + 1, 4, 6, 0x0a0b0c0d]),
      pcapngFile([record(Uint8Array.of(9), { seconds: 3, nanoseconds: 4 })]),
    ])
    const { packets: read, problem } = readFileBytes(file, [5])
    assert.equal(problem, undefined)
    assert.deepEqual(read.map(bytesOf), [[1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6, 7, 8], [10, 11, 12, 13], [9]])
    assert.deepEqual(
      read.map(({ wireLength }) => wireLength),
      [5, 100, 6, 1],
    )
    // 0xe8d4a51000 is 10^12: microseconds unless the interface says otherwise.
    assert.deepEqual([read[2].seconds, read[2].nanoseconds, read[2].dropCount], [1_000_000, 1000, 7])
    assert.deepEqual([read[3].seconds, read[3].nanoseconds], [3, 4])
  })

  test('steps over an unknown block of 4 GiB without keeping it', () => {
    const reader = new PcapngReader(new CaptureInput())
    reader.input.push(Buffer.concat([encodeSection(), encodeInterface()]))
    const head = new Uint8Array(12)
    const length = 0xfffffff0
    new DataView(head.buffer).setUint32(0, 0x0bad0bad, true)
    new DataView(head.buffer).setUint32(4, length, true)
    reader.input.push(head)
    const into = new PacketRecord()
    assert.equal(reader.next(into), 'more')
    assert.equal(reader.finish()?.problem, 'truncated')
    assert.ok(reader.input.bytes.length < 1 << 17)
  })

  test('says what is wrong and where', () => {
    const head = Buffer.concat([encodeSection(), encodeInterface()])
    const packet = pcapngFile([record(Uint8Array.of(1, 2, 3), { queue: 1 })]).slice(pcapngFile([]).length)
    const faulty = (change: (view: DataView) => void) => {
      const copy = packet.slice()
      change(new DataView(copy.buffer))
      return at(readFileBytes(Buffer.concat([head, packet, copy])))
    }
    const where = head.length + packet.length
    assert.deepEqual(
      faulty((view) => view.setUint32(4, 13, true)),
      ['bad-length', where, 1],
    )
    assert.deepEqual(
      faulty((view) => view.setUint32(4, MAX_BLOCK_LENGTH + 4, true)),
      ['bad-length', where, 1],
    )
    assert.deepEqual(
      faulty((view) => view.setUint32(packet.length - 4, 9, true)),
      ['length-mismatch', where, 1],
    )
    assert.deepEqual(
      faulty((view) => view.setUint32(8, 1, true)),
      ['unknown-interface', where, 1],
    )
    assert.deepEqual(
      faulty((view) => view.setUint32(20, 4000, true)),
      ['bad-length', where, 1],
    )
    assert.deepEqual(
      faulty((view) => view.setUint16(34, 4000, true)),
      ['bad-option', where, 1],
    )
    assert.deepEqual(at(readFileBytes(packet)), ['unknown-format', 0, 0])
    const section = encodeSection()
    section[8] = 0
    assert.deepEqual(at(readFileBytes(section)), ['bad-byte-order', 0, 0])
    const later = encodeSection()
    later[12] = 9
    assert.deepEqual(at(readFileBytes(later)), ['bad-version', 0, 0])
  })

  test('writes nothing where there is no room, and as much as it says', () => {
    const packet = record(new Uint8Array(9), {
      queue: 1,
      verdict: 2,
      packetId: 3,
      dropCount: 4,
      direction: 'inbound',
    })
    const total = packetBlockLength(packet)
    const small = new Uint8Array(total).fill(7)
    assert.equal(writePacketBlock(small, 1, packet), -1)
    assert.ok(small.every((byte) => byte === 7))
    assert.equal(writePacketBlock(small, 0, packet), total)
  })
})

test('time stamps are exact at every scale', () => {
  const resolutions = fc.oneof(fc.integer({ min: 0, max: 15 }), fc.integer({ min: 0x80, max: 0x80 + 53 }))
  const u32 = fc.integer({ min: 0, max: 0xffffffff })
  fc.assert(
    fc.property(u32, u32, resolutions, (high, low, resolution) => {
      const scale = tickScale(resolution, 0)
      assert.ok(scale)
      const time = { seconds: 0, nanoseconds: 0 }
      ticksToTime(high, low, scale, time)
      const ticks = (BigInt(high) << 32n) | BigInt(low)
      const unit = BigInt(scale.perSecond)
      assert.equal(time.seconds, Number(ticks / unit))
      assert.equal(time.nanoseconds, Number(((ticks % unit) * 1_000_000_000n) / unit))
    }),
    { seed: 42, numRuns: 2000 },
  )
  fc.assert(
    fc.property(u32, fc.integer({ min: 0, max: 999_999_999 }), (seconds, nanoseconds) => {
      const ticks = BigInt(seconds) * 1_000_000_000n + BigInt(nanoseconds)
      assert.equal(nanosecondsHigh(seconds, nanoseconds), Number(ticks >> 32n))
      assert.equal(nanosecondsLow(seconds, nanoseconds), Number(ticks & 0xffffffffn))
    }),
    { seed: 43, numRuns: 2000 },
  )
  // What 64 bits of nanoseconds cannot say is not some other year.
  const words = (seconds: number) => [
    nanosecondsHigh(seconds, 999_999_999),
    nanosecondsLow(seconds, 999_999_999),
  ]
  const last = 18_446_744_072_999_999_999n
  assert.deepEqual(words(2 ** 62), [Number(last >> 32n), Number(last & 0xffffffffn)])
  assert.deepEqual(words(-5), [0, 999_999_999])
  const bytes = new Uint8Array(16)
  writePcapRecord(bytes, 0, record(new Uint8Array(0), { seconds: 2 ** 32 + 5 }))
  assert.deepEqual(Array.from(bytes.subarray(0, 4)), [255, 255, 255, 255])
  assert.equal(tickScale(0x80 + 54, 0), undefined)
  assert.equal(tickScale(16, 0), undefined)
})

test('damaged files end in packets or a problem: no exception, no reading outside, no end without either', () => {
  const damage = fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 })), { maxLength: 8 })
  const file = fc.oneof(
    packets.map((some) => pcapngFile(some)),
    packets.map((some) => pcapFile(some)),
    packets.map((some) => modifiedPcapFile(some, some.length % 2 === 0)),
    fc.uint8Array({ maxLength: 200 }),
  )
  fc.assert(
    fc.property(file, damage, chunks, fc.nat(), (sound, changes, sizes, cut) => {
      const bytes = sound.slice(0, cut % 3 === 0 ? cut % (sound.length + 1) : sound.length)
      for (const [where, value] of changes) if (bytes.length > 0) bytes[where % bytes.length] = value
      const { packets: read, problem, decoder } = readFileBytes(bytes, sizes)
      for (const packet of read) {
        assert.equal(packet.bytes.length, packet.length)
        assert.ok(packet.wireLength >= packet.length)
        assert.ok(packet.nanoseconds >= 0 && packet.nanoseconds < 1e9)
      }
      if (problem) assert.ok(problem.offset >= 0 && problem.offset <= bytes.length && problem.detail !== '')
      assert.ok(decoder.input.bytes.length <= 65536)
      // The same bytes in one piece are the same packets.
      assert.deepEqual(readFileBytes(bytes), {
        packets: read,
        problem,
        decoder: readFileBytes(bytes).decoder,
      })
    }),
    { seed: 44, numRuns: 600 },
  )
})

test('a copy of a record has bytes of its own, whatever they were in', () => {
  for (const bytes of [Uint8Array.of(1, 2, 3), Buffer.from([1, 2, 3])]) {
    const copy = record(bytes, { offset: 1, length: 2 }).copy()
    bytes.fill(9)
    assert.deepEqual([...copy.bytes], [2, 3])
    assert.equal(copy.offset, 0)
  }
})

test('a reader of pcap does not take its header for a packet when there is no more', () => {
  const reader = new PcapReader()
  assert.equal(reader.next(new PacketRecord()), 'more')
  assert.equal(reader.finish()?.problem, 'truncated')
})

function at({ packets: read, problem }: ReturnType<typeof readFileBytes>): unknown[] {
  return [problem?.problem, problem?.offset, read.length]
}

function bigEndianBlock(type: number, words: number[]): Uint8Array {
  const view = new DataView(new ArrayBuffer(12 + 4 * words.length))
  const length = view.byteLength
  for (const [i, word] of [type, length, ...words, length].entries()) view.setUint32(4 * i, word)
  return new Uint8Array(view.buffer)
}
