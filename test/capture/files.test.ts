// Capture files as users have them: written and read back, rotated, on full disks, through pipes that close or stall.
import assert from 'node:assert/strict'
import { execFileSync, spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite, test, type TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { CaptureFileError, CaptureWriteError } from '../../src/capture/errors.js'
import { FileSource } from '../../src/capture/file-source.js'
import { CaptureReader } from '../../src/capture/reader.js'
import { CaptureWriter, type WriterStatistics } from '../../src/capture/writer.js'
import { buildPacket } from '../../src/packet/index.js'
import { LINKTYPE_RAW, type PacketRecord } from '../../src/packet/pcap-record.js'
import { output, pcapFile, pcapngFile, readFileBytes, record } from '../packet/pcap-files.js'
import { createTestLab, needsRoot } from '../support/lab.js'
import { until } from '../support/xsk.js'
import { hexOf, Keeper, senderAt } from './support.js'
import type { ChildOrder } from './writer-child.js'

const packets = Array.from({ length: 300 }, (_, i) =>
  record(new Uint8Array(60 + i).fill(i), {
    seconds: 1_700_000_000 + i,
    nanoseconds: i * 1001,
    packetId: i,
    queue: i % 4,
  }),
)

function makeDirectory(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'node-xdp-capture-'))
  t.after(() => rmSync(directory, { recursive: true }))
  return directory
}

async function collect(source: string | AsyncIterable<Uint8Array>): Promise<PacketRecord[]> {
  const found: PacketRecord[] = []
  for await (const packet of await CaptureReader.open(source)) found.push(packet)
  return found
}

interface ChildReport {
  stats: WriterStatistics
  code?: string
  message?: string
}

function childArguments(order: Partial<ChildOrder>): string[] {
  const path = fileURLToPath(new URL('./writer-child.js', import.meta.url))
  return [path, JSON.stringify({ path: '-', packets: 1000, length: 1000, patient: true, ...order })]
}

function startChild(
  t: TestContext,
  order: Partial<ChildOrder>,
): ChildProcess & { report: Promise<ChildReport> } {
  // A shell's pipe, as a user would have it; Node's own would be a socket.
  const quoted = childArguments(order).map((word) => `'${word}'`)
  const child = spawn('sh', ['-c', `exec ${process.execPath} ${quoted.join(' ')}`], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  t.after(() => child.kill('SIGKILL'))
  let said = ''
  child.stderr.on('data', (text: Buffer) => (said += text.toString()))
  const report = once(child.stderr, 'close').then(() => JSON.parse(said) as ChildReport)
  return Object.assign(child, { report })
}

suite('capture files', () => {
  for (const format of ['pcapng', 'pcap'] as const) {
    test(`${format}: what was written is read, by us and by others`, async (t) => {
      const path = join(makeDirectory(t), `file.${format}`)
      const counted = { seconds: 1_700_000_400, nanoseconds: 0, received: 305, systemDropped: 5 }
      const writer = await CaptureWriter.open({
        path,
        format,
        interfaces: [{ name: 'veth0', snapLength: 1000 }],
        section: { application: 'node-xdp' },
        statistics: () => [counted],
      })
      for (const packet of packets) assert.equal(writer.write(packet), true)
      await writer.close()
      await writer.close()
      assert.deepEqual(
        { ...writer.stats },
        { given: 300, written: 300, lost: 0, failed: 0, files: 1, bytes: statSync(path).size },
      )
      assert.throws(() => writer.write(packets[0]), { code: 'XDP_STATE' })

      const reader = await CaptureReader.open(path)
      assert.equal(reader.format, format)
      const read: PacketRecord[] = []
      for await (const packet of reader) read.push(packet)
      assert.deepEqual(read.map(hexOf), packets.map(hexOf))
      assert.deepEqual(
        read.map(({ nanoseconds }) => nanoseconds),
        packets.map(({ nanoseconds }) => nanoseconds),
      )
      assert.match(output('capinfos', '-M', path), /Number of packets: +300\b/)
      assert.equal(output('tcpdump', '--count', '-r', path).trim(), '300 packets')
      if (format === 'pcap') return
      assert.deepEqual(read, packets)
      assert.equal(reader.interfaces[0].name, 'veth0')
      assert.match(output('capinfos', '-M', path), /Number of stat entries = 1/)
    })
  }

  test('`read` hands on a reused record, waits for promises, and ends where it is told', async (t) => {
    const path = join(makeDirectory(t), 'file.pcapng')
    writeFileSync(path, pcapngFile(packets))
    await using reader = await CaptureReader.open(path)
    const seen = new Set<PacketRecord>()
    const ids: number[] = []
    let waiting = 0
    await reader.read(async (packet) => {
      assert.equal(waiting++, 0)
      seen.add(packet)
      ids.push(packet.packetId)
      await new Promise((resolve) => setImmediate(resolve))
      assert.equal(packet.packetId, ids.at(-1))
      waiting--
      return ids.length < 10
    })
    assert.deepEqual(ids, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    assert.equal(seen.size, 1)
  })

  test('a damaged file gives the packets before the damage, then says what and where', async (t) => {
    const path = join(makeDirectory(t), 'file.pcap')
    const sound = pcapFile(packets)
    writeFileSync(path, sound.subarray(0, sound.length - 10))
    const reader = await CaptureReader.open(path)
    const found: PacketRecord[] = []
    await assert.rejects(
      async () => {
        for await (const packet of reader) found.push(packet)
      },
      (error: unknown) => {
        assert.ok(error instanceof CaptureFileError)
        assert.equal(error.code, 'XDP_BAD_CAPTURE')
        const last = packets[299].length + 16
        assert.deepEqual([error.problem.problem, error.problem.offset], ['truncated', sound.length - last])
        return true
      },
    )
    assert.equal(found.length, 299)
    writeFileSync(path, 'this is no capture file')
    await assert.rejects(CaptureReader.open(path), { code: 'XDP_BAD_CAPTURE' })
    writeFileSync(path, '')
    await assert.rejects(CaptureReader.open(path), { code: 'XDP_BAD_CAPTURE' })
    await assert.rejects(CaptureReader.open(join(path, 'nothing')), { code: 'ENOTDIR' })
    writeFileSync(path, pcapFile([]))
    assert.deepEqual(await collect(path), [])
  })

  test('damage at the first packet is found when the packets are read, of a file and of a pipe', async (t) => {
    const path = join(makeDirectory(t), 'file')
    const tooLong = pcapFile(packets)
    tooLong.fill(0xff, 24 + 8, 24 + 12)
    // The block of the first packet says that it has 13 bytes; its head and the interface's are before it.
    const badBlock = pcapngFile(packets)
    const first = pcapngFile([]).length
    badBlock[first + 4] = 13
    for (const [file, problem, offset] of [
      [tooLong, 'bad-length', 24],
      [tooLong.subarray(0, 30), 'truncated', 24],
      [badBlock, 'bad-length', first],
      [pcapngFile(packets).subarray(0, first + 40), 'truncated', first],
    ] as const) {
      writeFileSync(path, file)
      const said = (error: unknown) => {
        assert.ok(error instanceof CaptureFileError)
        assert.deepEqual([error.problem.problem, error.problem.offset], [problem, offset])
        return true
      }
      async function* pipe(): AsyncGenerator<Uint8Array> {
        await Promise.resolve()
        yield file
      }
      for (const source of [path, pipe()]) {
        const reader = await CaptureReader.open(source)
        assert.equal(reader.interfaces.length, 1)
        await assert.rejects(
          reader.read(() => assert.fail('there is no whole packet')),
          said,
        )
        await reader.close()
      }
      const closed = await CaptureReader.open(path)
      await closed.close()
      await closed.read(() => assert.fail('it is closed'))
    }
  })

  test('reads a pipe, packet by packet as they come', async () => {
    const file = pcapngFile(packets.slice(0, 3))
    let asked = 0
    async function* drops(): AsyncGenerator<Uint8Array> {
      for (let at = 0; at < file.length; at += 7) {
        asked++
        await Promise.resolve()
        yield file.subarray(at, at + 7)
      }
    }
    const reader = await CaptureReader.open(drops())
    const iterator = reader[Symbol.asyncIterator]()
    await iterator.next()
    const forFirst = asked
    assert.ok(forFirst < file.length / 7 / 2, 'the first packet came before the rest was read')
    await iterator.next()
    await iterator.next()
    assert.equal((await iterator.next()).done, true)
  })

  test(
    'a pipe that says nothing more does not hold up who stops listening',
    { timeout: 20_000 },
    async () => {
      async function* silent(): AsyncGenerator<Uint8Array> {
        yield pcapngFile(packets.slice(0, 1))
        await new Promise(() => {})
      }
      const reader = await CaptureReader.open(silent())
      const ids: number[] = []
      const reading = reader.read((packet) => void ids.push(packet.packetId))
      await until('the packet came', () => ids.length === 1)
      await reader.close()
      await reading
      assert.deepEqual(ids, [0])
    },
  )

  test('a file source goes through a filter, stops when paused and ends', async (t) => {
    const path = join(makeDirectory(t), 'file.pcapng')
    writeFileSync(
      path,
      pcapngFile(Array.from({ length: 5000 }, (_, i) => record(Uint8Array.of(i, i >> 8, 3)))),
    )
    const filter = {
      matches: (bytes: Uint8Array, offset: number) => bytes[offset] % 2 === 0,
      toClassicBpf: () => new Uint8Array(8),
    }
    const source = await FileSource.open(path, { filter, snapLength: 2 })
    t.after(() => source.close())
    const keeper = new Keeper()
    source.start(keeper)
    assert.throws(() => source.start(keeper), { code: 'XDP_STATE' })
    await until('the first batch is over', () => keeper.batches === 1)
    source.pause()
    const paused = keeper.packets.length
    for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve))
    assert.ok(keeper.packets.length <= paused + 512)
    source.resume()
    await until('the file is over', () => keeper.end !== undefined)
    assert.equal(keeper.end?.error, undefined)
    assert.equal(keeper.packets.length, 2500)
    assert.ok(keeper.packets.every(({ length, wireLength }) => length === 2 && wireLength === 3))
    assert.equal(source.stats().packets, 2500)
  })

  test('a file of raw IP is read without a filter, and refused with one', async (t) => {
    const path = join(makeDirectory(t), 'raw.pcapng')
    const writer = await CaptureWriter.open({ path, interfaces: [{ linkType: LINKTYPE_RAW }] })
    writer.write(record(Uint8Array.of(0x45, 0, 0, 2), { linkType: LINKTYPE_RAW }))
    await writer.close()
    const matchAll = { matches: () => true, toClassicBpf: () => new Uint8Array(8) }
    for (const [filter, packets, code] of [
      [undefined, 1, undefined],
      [matchAll, 0, 'XDP_UNSUPPORTED'],
    ] as const) {
      const source = await FileSource.open(path, { filter })
      t.after(() => source.close())
      const keeper = new Keeper()
      source.start(keeper)
      await until('the file is over', () => keeper.end !== undefined)
      assert.equal(keeper.packets.length, packets)
      assert.equal((keeper.end?.error as { code?: string } | undefined)?.code, code)
    }
  })
})

suite('with others', () => {
  test('we read what dumpcap and tcpdump capture', { skip: needsRoot, timeout: 60_000 }, async (t) => {
    const lab = createTestLab(t)
    const directory = makeDirectory(t)
    const device = lab.a.interface
    const commands: [name: string, command: string, args: string[]][] = [
      ['dumpcap.pcapng', 'dumpcap', ['-q', '-p', '-i', device, '-c', '5', '-f', 'udp port 53']],
      ['tcpdump.pcap', 'tcpdump', ['-p', '-i', device, '-c', '5', 'udp port 53']],
      ['tcpdump-ns.pcap', 'tcpdump', ['--time-stamp-precision=nano', '-i', device, '-c', '5', 'udp port 53']],
    ]
    // Where dumpcap may write whoever it runs as.
    chmodSync(directory, 0o777)
    const said = commands.map(() => '')
    const running = commands.map(([name, command, args], i) => {
      const child = lab.spawn('a', command, [...args, '-w', join(directory, name)], {
        stdio: ['ignore', 'ignore', 'pipe'],
      })
      child.stderr?.on('data', (text: Buffer) => (said[i] += text.toString()))
      return once(child, 'exit')
    })
    await until(
      'all listen',
      () => /File:/.test(said[0]) && said.slice(1).every((text) => /listening/.test(text)),
    )
    const send = senderAt(t, lab.b)
    const frames = Array.from({ length: 5 }, (_, i) =>
      buildPacket({
        ipv4: { src: '192.0.2.1', dst: '192.0.2.2' },
        udp: { srcPort: 1000 + i, dstPort: 53 },
        payload: 'x'.repeat(100 * i),
      }),
    )
    for (const frame of frames) send(frame)
    await Promise.all(running)
    for (const [name] of commands) {
      const reader = await CaptureReader.open(join(directory, name))
      const found: PacketRecord[] = []
      for await (const packet of reader) found.push(packet)
      assert.deepEqual(
        found.map(hexOf),
        frames.map((frame) => Buffer.from(frame).toString('hex')),
        name,
      )
      if (name !== 'dumpcap.pcapng') continue
      const [info] = reader.interfaces
      assert.deepEqual([info.name, info.filter], [device, 'udp port 53'])
    }
  })

  test('who reads along sees each packet when it is written', { timeout: 20_000 }, async (t) => {
    const path = join(makeDirectory(t), 'pipe')
    execFileSync('mkfifo', [path])
    const opening = CaptureReader.open(path)
    const writer = await CaptureWriter.open({ path, flush: 'immediate' })
    writer.write(packets[0])
    const iterator = (await opening)[Symbol.asyncIterator]()
    for (let i = 0; i < 5; i++) {
      const { value } = await iterator.next()
      assert.equal((value as PacketRecord).packetId, i)
      writer.write(packets[i + 1])
    }
    await writer.close()
    await iterator.next()
    assert.equal((await iterator.next()).done, true)
  })
})

suite('interfaces', () => {
  test('that come later are described before their first packet, in every file', async (t) => {
    const directory = makeDirectory(t)
    const path = join(directory, 'file.pcapng')
    const writer = await CaptureWriter.open({ path, interfaces: [{ name: 'a0' }], rotate: { bytes: 2000 } })
    const of = (interfaceId: number) => Object.assign(packets[0].copy(), { interfaceId, length: 60 })
    assert.throws(() => writer.write(of(1)), { option: 'interfaceId' })
    for (let i = 0; i < 3; i++) writer.write(of(0))
    assert.equal(writer.addInterface({ name: 'b0', linkType: 101 }), 1)
    for (let i = 0; i < 40; i++) writer.write(of(1))
    await writer.close()
    const files = readdirSync(directory).map((name) => readFileBytes(readFileSync(join(directory, name))))
    assert.ok(files.length > 2)
    for (const { problem, decoder } of files) {
      assert.equal(problem, undefined)
      assert.deepEqual(
        decoder.interfaces.map((info) => info.name),
        ['a0', 'b0'],
      )
    }
    const all = files.flatMap((file) => file.packets)
    assert.deepEqual(
      all.map(({ interfaceId, linkType }) => [interfaceId, linkType]),
      [...Array.from({ length: 3 }, () => [0, 1]), ...Array.from({ length: 40 }, () => [1, 101])],
    )
    assert.equal(writer.stats.written, 43)
    const pcap = await CaptureWriter.open({ path: join(directory, 'file.pcap'), format: 'pcap' })
    t.after(() => pcap.close())
    assert.throws(() => pcap.addInterface({}), { option: 'format' })
    assert.throws(() => pcap.write(Object.assign(packets[0].copy(), { linkType: 101 })), {
      option: 'linkType',
    })
  })
})

suite('rotation', () => {
  test('by size: no file is larger, no packet is lost or split, each file is whole by itself', async (t) => {
    const directory = makeDirectory(t)
    const writer = await CaptureWriter.open({
      path: join(directory, 'ring.pcapng'),
      rotate: { bytes: 5000 },
      statistics: () => [
        {
          seconds: 1,
          nanoseconds: 0,
          received: 1,
          interfaceDropped: 2,
          accepted: 3,
          systemDropped: 4,
          delivered: 5,
        },
      ],
    })
    for (const packet of packets) {
      await writer.ready()
      assert.equal(writer.write(packet), true)
    }
    await writer.close()
    const names = readdirSync(directory).sort()
    assert.equal(names.length, writer.stats.files)
    assert.ok(names.length > 10)
    assert.match(names[0], /^ring_00001_\d{14}\.pcapng$/)
    const all: PacketRecord[] = []
    for (const name of names) {
      const { packets: some, problem, decoder } = readFileBytes(readFileSync(join(directory, name)))
      assert.equal(problem, undefined)
      assert.ok('statistics' in decoder.interfaces[0])
      // Its end included.
      const { size } = statSync(join(directory, name))
      assert.ok(size <= 5000, `${name}: ${size}`)
      all.push(...some)
    }
    assert.deepEqual(all, packets)
  })

  test('by time and with a ring: the newest files stay', async (t) => {
    const directory = makeDirectory(t)
    const writer = await CaptureWriter.open({
      path: join(directory, 'ring.pcap'),
      format: 'pcap',
      rotate: { seconds: 10, files: 3 },
    })
    for (const packet of packets) {
      await writer.ready()
      assert.equal(writer.write(packet), true)
    }
    await writer.close()
    const names = readdirSync(directory).sort()
    assert.deepEqual(
      names.map((name) => name.slice(0, 11)),
      ['ring_00028_', 'ring_00029_', 'ring_00030_'],
    )
    for (const [i, name] of names.entries()) {
      const { packets: some } = readFileBytes(readFileSync(join(directory, name)))
      assert.deepEqual(some.map(hexOf), packets.slice(270 + 10 * i, 280 + 10 * i).map(hexOf))
    }
    assert.deepEqual([writer.stats.files, writer.stats.written, writer.stats.lost], [30, 300, 0])
  })

  test('what cannot be is refused by name', async (t) => {
    const path = join(makeDirectory(t), 'file')
    const refused = (options: object, option: string) =>
      assert.rejects(CaptureWriter.open({ path, ...options }), { code: 'XDP_BAD_OPTION', option })
    await refused({ rotate: { bytes: 0 } }, 'rotate.bytes')
    await refused({ rotate: { files: 1.5 } }, 'rotate.files')
    await refused({ path: '-', rotate: { bytes: 1 } }, 'rotate')
    await refused({ path: '' }, 'path')
    assert.ok(!existsSync(path))
    await assert.rejects(CaptureWriter.open({ path: join(path, 'no', 'such') }), (error: unknown) => {
      assert.ok(error instanceof CaptureWriteError)
      assert.equal(error.code, 'ENOENT')
      return true
    })
  })
})

suite('trouble', () => {
  test('a full device ends the writing with ENOSPC, and every packet is accounted for', async () => {
    const errors: string[] = []
    const writer = await CaptureWriter.open({ path: '/dev/full', onError: ({ code }) => errors.push(code) })
    for (const packet of packets) writer.write(packet)
    await writer.flush()
    assert.equal(writer.failure?.code, 'ENOSPC')
    assert.equal(writer.hasRoom, false)
    assert.equal(await writer.ready(), false)
    assert.equal(writer.write(packets[0]), false)
    await assert.rejects(writer.close(), { code: 'ENOSPC', path: '/dev/full' })
    assert.deepEqual(
      { ...writer.stats },
      { given: 301, written: 0, lost: 301, failed: 301, files: 1, bytes: 0 },
    )
    assert.deepEqual(errors, ['ENOSPC'])
  })

  for (const format of ['pcapng', 'pcap'] as const) {
    test(
      `a full disk keeps a whole ${format} file up to the last packet that fitted`,
      { skip: needsRoot },
      (t) => {
        const directory = makeDirectory(t)
        const path = join(directory, `file.${format}`)
        const copy = join(makeDirectory(t), 'copy')
        const order = childArguments({ path, format, packets: 5000, length: 1000 })
        const script = `mount -t tmpfs -o size=1m tmpfs "$1" && shift && "$@"; cp '${path}' '${copy}'`
        const { stderr } = spawnSync(
          'unshare',
          ['-m', 'sh', '-c', script, 'sh', directory, process.execPath, ...order],
          { encoding: 'utf8', timeout: 30_000 },
        )
        const { stats, code } = JSON.parse(stderr) as ChildReport
        assert.equal(code, 'ENOSPC')
        const { packets: kept, problem } = readFileBytes(readFileSync(copy))
        assert.equal(problem, undefined)
        assert.ok(kept.length > 900 && kept.length < 1050, `${kept.length} packets`)
        assert.equal(stats.written, kept.length)
        assert.equal(stats.bytes, statSync(copy).size)
        assert.equal(stats.given, stats.written + stats.lost)
        if (format === 'pcapng')
          assert.deepEqual(
            kept.map(({ packetId }) => packetId),
            [...kept.keys()],
          )
        assert.match(
          output('capinfos', '-c', '-M', copy),
          new RegExp(`Number of packets: +${kept.length}\\b`),
        )
        assert.ok(!existsSync(path), 'the mount was private')
      },
    )
  }

  test('a reader that goes away ends the writing with EPIPE', { timeout: 60_000 }, async (t) => {
    const child = startChild(t, { packets: 1e7 })
    let read = 0
    for await (const data of child.stdout as AsyncIterable<Buffer>) {
      read += data.length
      if (read > 2_000_000) break // which closes it
    }
    const { stats, code } = await child.report
    assert.equal(code, 'EPIPE')
    assert.ok(stats.written > 0)
    assert.equal(stats.given, stats.written + stats.lost)
  })

  for (const through of ['a socket', 'a pipe']) {
    test(`a reader of ${through} that goes away while nothing is written is noticed`, () => {
      const order = childArguments({ packets: 3, length: 60, lingers: true })
      const words = order.map((word) => `'${word}'`).join(' ')
      const script = `${process.execPath} ${words} | head -c 24`
      const { stderr } =
        through === 'a pipe'
          ? spawnSync('sh', ['-c', script], { encoding: 'utf8', timeout: 30_000 })
          : spawnSync(process.execPath, ['-e', socketReader, process.execPath, ...order], {
              encoding: 'utf8',
              timeout: 30_000,
            })
      const { stats, code } = JSON.parse(stderr) as ChildReport
      assert.equal(code, 'EPIPE')
      assert.deepEqual([stats.given, stats.written + stats.lost], [3, 3])
    })
  }

  test('a shell pipe: the reader gets every packet, however slow it is', () => {
    const words = childArguments({ packets: 20_000, length: 500 }).map((word) => `'${word}'`)
    const script = `${process.execPath} ${words.join(' ')} | (sleep 0.3; tcpdump -nq -r - 2>/dev/null) | wc -l`
    const { stdout, stderr } = spawnSync('sh', ['-c', script], { encoding: 'utf8', timeout: 60_000 })
    assert.equal(stdout.trim(), '20000')
    const { stats, code } = JSON.parse(stderr) as ChildReport
    assert.equal(code, undefined)
    assert.deepEqual([stats.given, stats.written, stats.lost], [20_000, 20_000, 0])
  })

  test('a reader that stalls costs packets, which are counted, and no memory', () => {
    const words = childArguments({ packets: 200_000, length: 1000, patient: false }).map(
      (word) => `'${word}'`,
    )
    const script = `${process.execPath} ${words.join(' ')} | (sleep 1; cat)`
    const { stdout, stderr } = spawnSync('sh', ['-c', script], { timeout: 60_000, maxBuffer: 1 << 29 })
    const { stats } = JSON.parse(stderr.toString()) as ChildReport
    assert.equal(stats.given, 200_000)
    assert.equal(stats.given, stats.written + stats.lost)
    assert.ok(stats.lost > 1000, `${stats.lost} lost`)
    const { packets: read, problem } = readFileBytes(stdout)
    assert.equal(problem, undefined)
    assert.equal(read.length, stats.written)
  })

  test('standard output to a file, and standard input from one', (t) => {
    const path = join(makeDirectory(t), 'file')
    const words = childArguments({ packets: 50, length: 60 }).map((word) => `'${word}'`)
    spawnSync('sh', ['-c', `${process.execPath} ${words.join(' ')} > '${path}'`], { timeout: 30_000 })
    assert.equal(readFileBytes(readFileSync(path)).packets.length, 50)
    const module = new URL('../../src/capture/reader.js', import.meta.url).href
    const program = `import { CaptureReader } from '${module}'
      let n = 0; for await (const _ of await CaptureReader.open('-')) n++; console.log(n)`
    for (const feed of [`< '${path}'`, '']) {
      const command = `${process.execPath} --input-type=module -e "$0" ${feed}`
      const script = feed === '' ? `cat '${path}' | ${command}` : command
      const { stdout } = spawnSync('sh', ['-c', script, program], { encoding: 'utf8', timeout: 30_000 })
      assert.equal(stdout.trim(), '50')
    }
  })
})

/** Runs a command with a socket for its output, and closes that after the first bytes. */
const socketReader = `
  const [command, ...args] = process.argv.slice(1)
  const child = require('node:child_process').spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  child.stdout.once('data', () => child.stdout.destroy())`
