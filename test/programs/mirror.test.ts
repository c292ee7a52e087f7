// Mirroring: against its model, its twin in C, a full ring, and real traffic beside it.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { RingBuffer, attachXdp } from '../../src/bpf/index.js'
import { inNamespace } from '../../src/kernel/index.js'
import { MAX_SNAP_LENGTH, Mirror, defineMirror } from '../../src/programs/mirror.js'
import { MOST, compileTwin, speed } from '../bpf/builder/compile-twin.js'
import { random } from '../bpf/builder/random-program.js'
import { needsClang } from '../bpf/elf/compile.js'
import { createTestLab, needsRoot } from '../support/lab.js'
import { until } from '../support/xsk.js'
import { UDP, randomPacket } from './packets.js'
import { runOnTwoCpus } from './two-cpus.js'

interface Kept {
  length: number
  bytes: Uint8Array
  time: number
  ifindex: number
  queue: number
}

function take(mirror: Mirror): Kept[] {
  const kept: Kept[] = []
  mirror.consume(({ bytes, offset, captured, length, time, ifindex, queue }) => {
    kept.push({ length, bytes: bytes.slice(offset, offset + captured), time, ifindex, queue })
  })
  return kept
}

test('keeps 100,000 packets cut at any length, and passes each as it came', { skip: needsRoot }, (t) => {
  const next = random(51)
  const lengths = [1, 14, 40, 63, 64, 65, 100, 200, 1500, MAX_SNAP_LENGTH]
  const now = () => Number(process.hrtime.bigint())
  for (const snapLength of lengths) {
    const mirror = Mirror.load({ snapLength })
    try {
      for (let i = 0; i < 100_000 / lengths.length; i++) {
        const long = next(20) === 0
        const packet = long
          ? Uint8Array.from({ length: 14 + next(3000) }, () => next(256))
          : randomPacket(next, 8)
        const before = now()
        const { verdict, packet: left } = mirror.program.testRun({ packet })
        assert.equal(verdict, 'pass')
        assert.equal(Buffer.compare(left, packet), 0)
        const kept = take(mirror)
        assert.equal(kept.length, 1)
        const [{ length, bytes, time, queue }] = kept
        assert.equal(length, packet.length)
        assert.equal(Buffer.compare(bytes, packet.subarray(0, snapLength)), 0)
        assert.ok(time >= before && time <= now(), `${before} ${time}`)
        assert.equal(queue, 0)
      }
      assert.equal(mirror.lost, 0)
    } finally {
      mirror.close()
    }
  }
  t.diagnostic(`${lengths.length} snap lengths`)
})

test('keeps jumbo packets of several buffers as a whole', { skip: needsRoot }, (t) => {
  const mirror = Mirror.load()
  t.after(() => mirror.close())
  for (const length of [3000, 4000, 9014, 20_000]) {
    const packet = Uint8Array.from({ length }, (_, at) => at * 7)
    assert.equal(mirror.program.testRun({ packet }).verdict, 'pass')
    assert.deepEqual(
      take(mirror).map(({ length, bytes }) => ({ length, bytes })),
      [{ length, bytes: packet }],
    )
  }
})

/** The longest that local TCP sends (BIG TCP aside), and what it may be with all that IP allows. */
const LARGE = 65_226
const LARGEST = 14 + 65_535

test(
  'has room for a hundred packets of 64 KiB in 8 MiB, and for two hundred of half of that',
  { skip: needsRoot },
  (t) => {
    const mirror = Mirror.load()
    t.after(() => mirror.close())
    for (const [count, length] of [
      [120, LARGE],
      [120, LARGEST],
      [240, 32_768],
      [500, 16_384],
      [880, 9014],
    ]) {
      const packet = Uint8Array.from({ length }, (_, at) => at * 7)
      for (let i = 0; i < count; i++) mirror.program.testRun({ packet })
      let kept = 0
      mirror.consume(({ bytes, offset, captured, length: whole }) => {
        assert.equal(whole, length)
        assert.equal(Buffer.compare(bytes.subarray(offset, offset + captured), packet), 0)
        kept++
      })
      assert.deepEqual([kept, mirror.lost], [count, 0])
    }
  },
)

test('keeps of each packet what a small ring has room for', { skip: needsRoot }, () => {
  for (const ringBytes of [4096, 8192, 16_384, 32_768, 65_536, 131_072]) {
    const mirror = Mirror.load({ ringBytes })
    try {
      for (const length of [60, 1514, 4056, 4057, 9014, 16_385, 32_768, 65_496, 65_497, LARGEST]) {
        const packet = Uint8Array.from({ length }, (_, at) => at * 7)
        mirror.program.testRun({ packet })
        const [{ length: whole, bytes }, ...more] = take(mirror)
        assert.deepEqual([whole, more.length, mirror.lost], [length, 0, 0])
        assert.equal(bytes.length, Math.min(length, ringBytes - 40))
        assert.equal(Buffer.compare(bytes, packet.subarray(0, bytes.length)), 0)
      }
    } finally {
      mirror.close()
    }
  }
})

test('keeps only what matches the filter; what is too short for it does not', { skip: needsRoot }, (t) => {
  const mirror = Mirror.load({ filter: (x) => x.packet.field(40, 'u8').and(3).eq(1) })
  t.after(() => mirror.close())
  const next = random(52)
  let matched = 0
  for (let i = 0; i < 5000; i++) {
    const packet = randomPacket(next)
    assert.equal(mirror.program.testRun({ packet }).verdict, 'pass')
    const matches = packet.length > 40 && (packet[40] & 3) === 1
    if (matches) matched++
    assert.deepEqual(
      take(mirror).map(({ bytes }) => bytes),
      matches ? [packet] : [],
    )
  }
  assert.ok(matched > 300)
})

test(
  'counts what finds no room, on two CPUs at once, and goes on when there is room',
  { skip: needsRoot },
  async (t) => {
    const lab = createTestLab(t)
    const mirror = Mirror.load({ ringBytes: 65_536 })
    t.after(() => mirror.close())
    const each = 5000
    await runOnTwoCpus(mirror.program.id, [UDP], each, lab.a)
    const kept = take(mirror)
    assert.ok(kept.length > 0 && kept.length <= 65_536 / (8 + 24 + 64))
    assert.equal(kept.length + mirror.lost, 2 * each)
    for (const { bytes, ifindex } of kept) {
      assert.equal(Buffer.compare(bytes, UDP), 0)
      assert.equal(ifindex, lab.a.ifindex)
    }
    const { lost } = mirror
    mirror.program.testRun({ packet: UDP })
    assert.equal(take(mirror).length, 1)
    assert.equal(mirror.lost, lost)
  },
)

test(
  'rings its bell once when as much waits as it was told, and anew when that was heard',
  { skip: needsRoot },
  (t) => {
    const mirror = Mirror.load({ ringBytes: 65_536, bellAt: 16_384 })
    t.after(() => mirror.close())
    const { bell } = mirror
    assert.ok(bell)
    const untilHeard = (most: number) => {
      for (let i = 1; i <= most; i++) {
        mirror.program.testRun({ packet: UDP })
        if (bell.hear()) return i
      }
      return Infinity
    }
    const each = 8 + 24 + 64
    const first = Math.ceil(16_384 / each)
    assert.equal(untilHeard(2 * first), first)
    // It is full still.
    assert.equal(untilHeard(1), 1)
    for (let i = 0; i < 100; i++) mirror.program.testRun({ packet: UDP })
    assert.equal(bell.hear(), true)
    assert.equal(bell.hear(), false)
    assert.equal(take(mirror).length, first + 101)
    assert.equal(untilHeard(2 * first), first)
  },
)

test('refuses what cannot be', () => {
  for (const snapLength of [0, 1.5, MAX_SNAP_LENGTH + 1]) {
    assert.throws(() => defineMirror({ snapLength }), { code: 'XDP_BAD_OPTION', option: 'snapLength' })
  }
  assert.throws(() => Mirror.load({ ringBytes: 5000 }))
})

test(
  'has about as many instructions as its twin in C, and writes the same',
  { skip: needsRoot || needsClang },
  (t) => {
    for (const snapLength of [96, MAX_SNAP_LENGTH]) {
      const object = compileTwin('test/programs/twins/mirror.c', [`-DSNAP=${snapLength}`, '-DRING=8388608'])
      const definition = defineMirror({ snapLength })
      const [ours, clang] = [definition.assembled.bytes.length / 8, object.link('program').bytes.length / 8]
      t.diagnostic(
        `mirror at ${snapLength}: ${ours} instructions, clang -O2 ${clang}: ${(ours / clang).toFixed(2)}`,
      )
      assert.ok(ours <= clang * MOST, `${ours} instructions, clang has ${clang}`)
      const mirror = Mirror.load({ snapLength })
      const compiled = object.load()
      const twin = compiled.program('program')
      const ring = new RingBuffer(compiled.map('mirrored'))
      try {
        const next = random(53)
        for (let i = 0; i < 2000; i++) {
          const packet = randomPacket(next)
          assert.equal(mirror.program.testRun({ packet }).verdict, twin.testRun({ packet }).verdict)
          const record = (from: RingBuffer): number[] => {
            let found: number[] = []
            from.consume((bytes, offset, length) => {
              // Without the time, and without what fills up the room.
              const end = Math.min(length, 24 + Math.min(packet.length, snapLength))
              found = [length, ...bytes.subarray(offset + 8, offset + end)]
            })
            return found
          }
          assert.deepEqual(record(mirror.ring), record(ring))
        }
        const [built, c] = [speed(mirror.program, UDP, 10_000), speed(twin, UDP, 10_000)]
        t.diagnostic(`mirror: ${built} ns a packet, clang -O2 ${c}: ${(built / c).toFixed(2)}`)
      } finally {
        ring.close()
        compiled.close()
        mirror.close()
      }
    }
  },
)

test('shows the pings that arrive, which are answered all the same', { skip: needsRoot }, async (t) => {
  const lab = createTestLab(t)
  const mirror = inNamespace(lab.a.namespace, () => Mirror.load())
  t.after(() => mirror.close())
  const attachment = attachXdp(mirror.program, { interface: lab.a.interface, namespace: lab.a.namespace })
  t.after(() => attachment.detach())
  const sequence: number[] = []
  mirror.watch(({ bytes, offset, captured, length, ifindex }) => {
    // Echo requests over IPv4.
    if (bytes[offset + 12] !== 8 || bytes[offset + 13] !== 0 || bytes[offset + 34] !== 8) return
    assert.deepEqual([captured, length, ifindex], [98, 98, lab.a.ifindex])
    sequence.push((bytes[offset + 40] << 8) | bytes[offset + 41])
  })
  const { stdout } = await lab.exec('b', 'ping', ['-n', '-c', '20', '-i', '0.01', '-W', '2', lab.a.ipv4])
  assert.match(stdout, /20 received/)
  await until('all are seen', () => sequence.length >= 20)
  assert.deepEqual(
    sequence,
    Array.from({ length: 20 }, (_, index) => index + 1),
  )
  assert.equal(mirror.lost, 0)
})
