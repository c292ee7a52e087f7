// The three ways of capture on a lab's cable beside tcpdump: the same packets, for every filter, and nothing disturbed.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite, test, type TestContext } from 'node:test'
import { CaptureEngine } from '../../src/capture/engine.js'
import type { CaptureOptions, LiveMode } from '../../src/capture/engine-options.js'
import { getFeatures, setInterfaceUp } from '../../src/kernel/index.js'
import type { Lab } from '../../src/lab/index.js'
import { buildPacket } from '../../src/packet/index.js'
import { queryXdp } from '../../src/bpf/index.js'
import type { PacketRecord } from '../../src/packet/pcap-record.js'
import { readFileBytes } from '../packet/pcap-files.js'
import { createTestLab, needsRoot, openDescriptors } from '../support/lab.js'
import { frameOf, isOurs, until } from '../support/xsk.js'
import { hexOf, senderAt } from './support.js'

const MODES: readonly LiveMode[] = ['divert', 'mirror', 'packet']
const FILTERS = [
  '',
  'ip',
  'ip6',
  'arp',
  'udp',
  'tcp',
  'icmp6',
  'udp port 53',
  'tcp dst port 80',
  'host 192.0.2.1',
  'src host 192.0.2.2',
  'net 192.0.2.0/24 and not udp',
  'portrange 50-60',
  'tcp[tcpflags] & tcp-syn != 0',
  'vlan',
  'vlan 5 and udp',
  'greater 1000',
  'less 100',
  'ip[6:2] & 0x1fff != 0',
  'ether proto 0x88b5 or ip6 host 2001:db8::2',
  'not (ip or ip6)',
  // Behind the first buffer of a packet in several.
  'ether[5000] = 0x62',
  'udp[7000:4] != 0',
  'ip[ip[2:2] - 1] = 0x6f',
  'ip6[8000] = 0x6d or less 100',
]

const ipv4 = { src: '192.0.2.1', dst: '192.0.2.2' }
const ipv6 = { src: '2001:db8::1', dst: '2001:db8::2' }
const back = { src: '192.0.2.2', dst: '192.0.2.1' }
const udp = (srcPort: number, dstPort: number) => ({ srcPort, dstPort })
const FRAMES: readonly Uint8Array[] = [
  buildPacket({ ipv4, udp: udp(1000, 53), payload: 'a question' }),
  buildPacket({ ipv4: back, udp: udp(53, 1000), payload: 'an answer' }),
  buildPacket({ ipv4, tcp: { ...udp(2000, 80), flags: 2 } }),
  buildPacket({ ipv4: back, tcp: { ...udp(80, 2000), flags: 18 } }),
  buildPacket({ ipv4, tcp: { ...udp(2000, 80), flags: 24 }, payload: 'GET / HTTP/1.1\r\n\r\n' }),
  buildPacket({ ipv6, udp: udp(55, 56), payload: 'six' }),
  buildPacket({ ipv6, tcp: { ...udp(1, 2), flags: 2 } }),
  buildPacket({ vlans: [{ id: 5, priority: 3 }], ipv4, udp: udp(1, 53), payload: 'tagged' }),
  buildPacket({ vlans: [{ id: 100 }, { id: 200 }], ipv6, udp: udp(1, 2), payload: 'twice' }),
  buildPacket({ ipv4: { ...ipv4, moreFragments: true }, udp: udp(1, 53), payload: 'first!!!' }),
  buildPacket({ ipv4: { ...ipv4, fragmentOffset: 800, protocol: 17 }, payload: 'later' }),
  buildPacket({ ipv4, udp: udp(7, 8), payload: 'x'.repeat(1400) }),
  buildPacket({ ipv4, udp: udp(9, 53), payload: 'jumbo'.repeat(1600) }),
  buildPacket({ ipv6, udp: udp(9, 54), payload: 'jumbo'.repeat(1700) }),
  frameOf(60, 1),
  frameOf(1500, 2),
  ...Array.from({ length: 20 }, (_, i) => buildPacket({ ipv4, udp: udp(50 + i, 99), payload: `flow ${i}` })),
]

const toHex = (frame: Uint8Array) => Buffer.from(frame).toString('hex')

async function openAt(t: TestContext, lab: Lab, options: Partial<CaptureOptions>): Promise<CaptureEngine> {
  const { interface: name, namespace } = lab.a
  const engine = await CaptureEngine.open({ interface: name, namespace, ...options })
  t.after(() => engine.close())
  return engine
}

/** Keeps a copy of each packet that arrived. */
function keep(engine: CaptureEngine): PacketRecord[] {
  const kept: PacketRecord[] = []
  engine.start({
    packet: (packet) => {
      if (packet.direction === 'inbound') kept.push(packet.copy())
    },
  })
  return kept
}

/** tcpdump at an end of the lab until `stop`, which gives the packets of its file. */
async function startTcpdump(t: TestContext, lab: Lab, end: 'a' | 'b') {
  const directory = mkdtempSync(join(tmpdir(), 'node-xdp-engine-'))
  t.after(() => rmSync(directory, { recursive: true }))
  const path = join(directory, 'tcpdump.pcap')
  const direction = end === 'a' ? 'in' : 'out'
  const args = ['-i', lab[end].interface, '-Q', direction, '-U', '-B', '8192', '-w', path, '--immediate-mode']
  const tcpdump = lab.spawn(end, 'tcpdump', args, { stdio: ['ignore', 'ignore', 'pipe'] })
  const exited = once(tcpdump, 'exit')
  let said = ''
  tcpdump.stderr?.on('data', (text: Buffer) => (said += text.toString()))
  await until('tcpdump listens', () => said.includes('listening on'))
  const packets = () => readFileBytes(readFileSync(path)).packets.map(hexOf)
  const stop = async (count: number) => {
    await until('tcpdump has all', () => packets().length >= count)
    tcpdump.kill('SIGINT')
    await exited
    return packets()
  }
  return { path, stop }
}

/** Which of the packets of a file a filter takes, by libpcap. */
function filteredByTcpdump(path: string, filter: string): string[] {
  const file = execFileSync('tcpdump', ['-r', path, '-w', '-', ...(filter === '' ? [] : [filter])], {
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  return readFileBytes(file).packets.map(hexOf)
}

suite('modes of capture', { skip: needsRoot }, () => {
  for (const mode of MODES) {
    test(`${mode} takes the packets that tcpdump takes, with each of ${FILTERS.length} filters`, async (t) => {
      const lab = createTestLab(t, { mtu: 9000 })
      // At the sender's end: nobody else sees what divert takes.
      const tcpdump = await startTcpdump(t, lab, 'b')
      const send = senderAt(t, lab.b)
      for (const frame of FRAMES) send(frame)
      const theirs = await tcpdump.stop(FRAMES.length)
      assert.deepEqual(theirs, FRAMES.map(toHex))
      const live = await startTcpdump(t, lab, 'b')
      for (const filter of FILTERS) {
        const expected = filteredByTcpdump(tcpdump.path, filter)
        const engine = await openAt(t, lab, { mode, filter })
        const kept = keep(engine)
        for (const frame of FRAMES) send(frame)
        await until(`${mode} has what "${filter}" wants`, () => kept.length >= expected.length)
        await engine.stop()
        assert.deepEqual(kept.map(hexOf), expected, `${mode}: ${filter}`)
        const { dropped } = engine.stats()
        assert.deepEqual(dropped, { interface: 0, kernel: 0, ring: 0, consumer: 0 })
        assert.ok(kept.every(({ length, wireLength }) => length === wireLength))
        await engine.close()
      }
      const all = await live.stop(FILTERS.length * FRAMES.length)
      assert.deepEqual(all, Array.from({ length: FILTERS.length }, () => FRAMES.map(toHex)).flat())
    })

    test(`${mode} gives times of day that only grow, and what it knows of a packet`, async (t) => {
      const lab = createTestLab(t)
      const engine = await openAt(t, lab, { mode, snapLength: 40 })
      const kept = keep(engine)
      const send = senderAt(t, lab.b)
      const before = Date.now()
      for (let i = 0; i < 50; i++) send(frameOf(60 + i))
      await until('all came', () => kept.length >= 50)
      const after = Date.now()
      let last = 0
      for (const [i, packet] of kept.entries()) {
        assert.deepEqual([packet.length, packet.wireLength, packet.packetId], [40, 60 + i, i])
        const at = packet.seconds * 1000 + packet.nanoseconds / 1e6
        // A millisecond for what Date.now() does not tell.
        assert.ok(at >= before - 1.1 && at <= after + 1.1, `${before} ${at} ${after}`)
        assert.ok(at >= last)
        last = at
        assert.ok(packet.nanoseconds >= 0 && packet.nanoseconds < 1e9 && Number.isInteger(packet.nanoseconds))
        if (mode !== 'packet') {
          assert.equal(packet.queue, 0)
          assert.equal(packet.verdict, mode === 'mirror' ? 2 : 4)
        }
      }
    })

    test(`${mode} lets the interface go when its consumer throws`, async (t) => {
      const lab = createTestLab(t)
      const { interface: name, namespace } = lab.a
      const engine = await CaptureEngine.open({ interface: name, namespace, mode })
      t.after(() => engine.close())
      const failure = new Error('the consumer')
      engine.start({
        packet: () => {
          throw failure
        },
      })
      const ended = once(engine, 'end')
      senderAt(t, lab.b)(frameOf(60))
      assert.deepEqual(await ended, [failure])
      await until('nothing is attached', () => queryXdp(name, { namespace }).length === 0)
      assert.equal(engine.stats().packets, 1)
    })

    test(`${mode} leaves nothing behind`, async (t) => {
      const lab = createTestLab(t)
      const { interface: name, namespace } = lab.a
      for (let i = 0; i < 2; i++) {
        const before = openDescriptors()
        const engine = await CaptureEngine.open({ interface: name, namespace, mode })
        assert.equal(queryXdp(name, { namespace }).length, engine.isUsingXdp ? 1 : 0)
        if (i === 1) {
          engine.start({ packet: () => undefined })
          await engine.stop()
        }
        await engine.close()
        assert.equal(queryXdp(name, { namespace }).length, 0)
        assert.deepEqual(openDescriptors(), before)
      }
    })

    test(`${mode} says that the interface went down and came back, goes on, and ends when it is deleted`, async (t) => {
      const lab = createTestLab(t)
      const engine = await openAt(t, lab, { mode })
      const links: boolean[] = []
      let end: Error | undefined
      engine.on('link', (isUp) => links.push(isUp))
      engine.on('end', (error) => (end = error))
      const kept = keep(engine)
      const ours = () => kept.filter((packet) => isOurs(packet as never)).length
      setInterfaceUp(lab.a.interface, false, lab.a)
      await until('it is said to be down', () => links.length === 1)
      setInterfaceUp(lab.a.interface, true, lab.a)
      await until('it is said to be up', () => links.length === 2)
      assert.deepEqual(links, [false, true])
      await until('the link runs', () => lab.interfaces().b.running)
      senderAt(t, lab.b)(frameOf(70))
      await until('the packet came', () => ours() === 1)
      assert.equal(end, undefined)
      await lab.exec('a', 'ip', ['link', 'del', lab.a.interface])
      await until('the end', () => end !== undefined)
      assert.equal((end as { code?: string } | undefined)?.code, 'ENODEV')
      assert.equal(engine.state, 'ended')
      engine.stats()
      await engine.close()
    })

    test(`${mode} counts what a slow consumer misses, and goes on`, async (t) => {
      const lab = createTestLab(t)
      const sockets = { umem: { frames: 64 }, rings: { rx: 64, fill: 64 } }
      const small = { buffer: 50, ringBytes: 65_536, sockets }
      const engine = await openAt(t, lab, { mode, ...small, filter: 'ether proto 0x88b5' })
      engine.start()
      const send = senderAt(t, lab.b)
      const sent = 3000
      // In pieces, so that the engine has its turns.
      for (let i = 0; i < sent; i++) {
        send(frameOf(200, i))
        if (i % 100 === 99) await new Promise((resolve) => setImmediate(resolve))
      }
      const missing = () => {
        const { dropped } = engine.stats()
        return dropped.kernel + dropped.ring + dropped.consumer
      }
      const ids: number[] = []
      const loop = (async () => {
        for await (const packet of engine) ids.push(packet.packetId)
      })()
      await until('every packet is accounted for', () => ids.length + missing() >= sent)
      assert.ok(missing() > 0)
      send(frameOf(200, 5))
      await until('the next packet came', () => ids.length + missing() === sent + 1)
      await engine.stop()
      await loop
      const { processed, packets, dropped } = engine.stats()
      assert.equal(processed, ids.length)
      assert.equal(packets, processed + dropped.consumer)
    })
  }

  test('divert takes from the host what matches, and only that', async (t) => {
    const lab = createTestLab(t)
    const engine = await openAt(t, lab, { mode: 'divert', filter: 'icmp6' })
    engine.start({ packet: () => undefined })
    const ping = ['-c', '3', '-i', '0.01', '-W', '1']
    assert.match((await lab.exec('b', 'ping', [...ping, lab.a.ipv4])).stdout, /3 received/)
    assert.match((await lab.exec('b', 'ping', [...ping, lab.a.ipv6!])).stdout, / 0 received/)
    await engine.stop()
    assert.match((await lab.exec('b', 'ping', ['-c', '3', '-W', '5', lab.a.ipv6!])).stdout, /3 received/)
    assert.ok(engine.stats().packets >= 3)
  })

  test('mirror disturbs nothing: every ping is answered in order, a TCP transfer is whole', async (t) => {
    const lab = createTestLab(t)
    const engine = await openAt(t, lab, { mode: 'mirror' })
    const kept = keep(engine)
    const ping = await lab.exec('b', 'ping', ['-n', '-c', '200', '-i', '0.002', '-W', '5', lab.a.ipv4])
    assert.match(ping.stdout, /200 received/)
    const sequence = [...ping.stdout.matchAll(/icmp_seq=(\d+)/g)].map(([, number]) => Number(number))
    assert.deepEqual(
      sequence,
      Array.from({ length: 200 }, (_, i) => i + 1),
    )
    const isRequest = ({ bytes, offset }: PacketRecord) =>
      bytes[offset + 23] === 1 && bytes[offset + 34] === 8
    await until('all requests were mirrored', () => kept.filter(isRequest).length === 200)
    const size = 20_000_000
    const server = `require('node:net').createServer((socket) => {
      let bytes = 0, sum = 0
      socket.on('data', (data) => { bytes += data.length; for (const byte of data) sum = (sum * 31 + byte) >>> 0 })
      socket.on('end', () => { console.log(bytes, sum); process.exit() })
    }).listen(7777, () => console.log('ready'))`
    const child = lab.spawn('a', process.execPath, ['-e', server], { stdio: ['ignore', 'pipe', 'inherit'] })
    let said = ''
    child.stdout?.on('data', (text: Buffer) => (said += text.toString()))
    const closed = once(child, 'close')
    await until('the server listens', () => said.includes('ready'))
    const client = `const data = Buffer.from(Array.from({ length: ${size} }, (_, i) => (i * 7 + (i >> 8)) & 255))
      let sum = 0; for (const byte of data) sum = (sum * 31 + byte) >>> 0
      require('node:net').connect(7777, '${lab.a.ipv4}').end(data).on('close', () => console.log(sum))`
    const sent = await lab.exec('b', process.execPath, ['-e', client])
    await closed
    assert.equal(said.trim().split('\n').at(-1), `${size} ${sent.stdout.trim()}`)
  })

  test('auto mirrors; where another program is in the way it says so and takes AF_PACKET', async (t) => {
    const lab = createTestLab(t)
    const first = await openAt(t, lab, {})
    assert.deepEqual([first.mode, first.fallbacks], ['mirror', []])
    const second = await openAt(t, lab, {})
    assert.equal(second.mode, 'packet')
    assert.equal(second.fallbacks.length, 1)
    assert.match(second.fallbacks[0].reason, /XDP program/)
  })

  test('a veth whose other end sends large segments is warned of where the program cuts them', async (t) => {
    const cases = [
      { checksums: 'offload', options: { mode: 'mirror' }, warns: true },
      { checksums: 'offload', options: { mode: 'mirror', xdpMode: 'generic' }, warns: false },
      { checksums: 'offload', options: { mode: 'packet' }, warns: false },
      { checksums: 'full', options: { mode: 'mirror' }, warns: false },
    ] as const
    for (const { checksums, options, warns } of cases) {
      const lab = createTestLab(t, { checksums })
      const { interface: name, namespace } = lab.a
      const engine = await CaptureEngine.open({ interface: name, namespace, ...options })
      t.after(() => engine.close())
      // What it warns of: the kernel has switched it off at the other end, or has not.
      const isCut = getFeatures(lab.b.ifindex, lab.b)?.get('tx-tcp-segmentation')?.on === false
      if (checksums === 'offload') assert.equal(isCut, warns)
      assert.equal(engine.warnings.length, warns ? 1 : 0)
      if (warns) assert.match(engine.warnings[0], /is a veth, .* cuts .* generic mode/)
    }
  })

  test('"any" is no interface, unless one is called so', async (t) => {
    const lab = createTestLab(t)
    const { namespace } = lab.a
    for (const mode of [...MODES, 'auto'] as const) {
      await assert.rejects(CaptureEngine.open({ interface: 'any', namespace, mode }), {
        code: 'XDP_UNSUPPORTED',
        message: 'A capture is of one interface, and "any" is none',
        hint: /-m packet .*mergecap/,
      })
    }
    setInterfaceUp(lab.a.interface, false, lab.a)
    await lab.exec('a', 'ip', ['link', 'set', lab.a.interface, 'name', 'any'])
    const engine = await CaptureEngine.open({ interface: 'any', namespace })
    assert.equal(engine.source.name, 'any')
    await engine.close()
  })

  test('what the device cannot honour is a warning where that is wanted, and an error elsewhere', async (t) => {
    const lab = createTestLab(t)
    const zero = { mode: 'divert', sockets: { copy: 'zero-copy' } } as const
    await assert.rejects(openAt(t, lab, zero))
    const copied = await openAt(t, lab, { ...zero, lenient: true })
    assert.deepEqual(copied.warnings, [`${lab.a.interface} has no zero copy: packets are copied`])
    await copied.close()
    await assert.rejects(openAt(t, lab, { mode: 'divert', queues: [0, 7], sockets: { strict: true } }))
    for (const mode of ['divert', 'mirror'] as const) {
      const engine = await openAt(t, lab, { mode, queues: [0, 7], lenient: true })
      assert.deepEqual(engine.warnings, [`${lab.a.interface} has 1 queue and no queue 7: 0 will be captured`])
      const kept = keep(engine)
      senderAt(t, lab.b)(frameOf(70))
      await until('it came', () => kept.length === 1)
      await engine.close()
    }
  })

  test(
    'a full batch waits for no time to be over, and neither does stopping',
    { timeout: 50_000 },
    async (t) => {
      const lab = createTestLab(t)
      const send = senderAt(t, lab.b)
      for (const mode of MODES) {
        const engine = await openAt(t, lab, { mode, filter: 'ether proto 0x88b5', batch: 4, timeout: 60_000 })
        engine.start()
        const batches: number[] = []
        const done = engine.forEachBatch((packets) => void batches.push(packets.length))
        for (let i = 0; i < 5; i++) send(frameOf(60 + i))
        await until('four came', () => batches.length > 0, 30_000)
        await engine.stop()
        await done
        assert.deepEqual(batches, [4, 1], mode)
        await engine.close()
      }
    },
  )

  test('an interface is promiscuous while it is captured, unless that is not wanted', async (t) => {
    const lab = createTestLab(t)
    const promiscuity = async () => {
      const { stdout } = await lab.exec('a', 'ip', ['-d', 'link', 'show', lab.a.interface])
      return Number(/promiscuity (\d+)/.exec(stdout)?.[1])
    }
    const before = await promiscuity()
    for (const mode of MODES) {
      const engine = await openAt(t, lab, { mode })
      assert.equal(await promiscuity(), before + 1, mode)
      await engine.close()
      assert.equal(await promiscuity(), before, mode)
      const other = await openAt(t, lab, { mode, promiscuous: false })
      assert.equal(await promiscuity(), before, mode)
      await other.close()
    }
  })

  test('queues that are not there are refused, and never make all of them be taken', async (t) => {
    const lab = createTestLab(t)
    for (const mode of ['divert', 'mirror'] as const) {
      for (const [queues, lenient] of [
        [[7], false],
        [[7], true],
        [[-1], true],
        [[0, 7], false],
        [[], true],
      ] as const) {
        const opening = openAt(t, lab, { mode, queues, lenient })
        await assert.rejects(opening, { code: 'XDP_BAD_OPTION', option: 'queues' })
      }
    }
    assert.equal(queryXdp(lab.a.interface, { namespace: lab.a.namespace }).length, 0)
  })

  test('a burst that the kernel has room for is lost to no queue and no pause, however small and slow', async (t) => {
    const lab = createTestLab(t)
    const send = senderAt(t, lab.b)
    const frames = Array.from({ length: 1500 }, (_, i) => frameOf(100 + (i % 50), i))
    const filter = 'ether proto 0x88b5'
    for (const mode of MODES) {
      const engine = await openAt(t, lab, { mode, filter, buffer: 50 })
      engine.start()
      for (const frame of frames) send(frame)
      const seen: string[] = []
      const done = engine.forEachBatch(async (packets) => {
        seen.push(...packets.map(hexOf))
        if (seen.length < 500) await new Promise((resolve) => setImmediate(resolve))
      })
      await until('some came', () => seen.length > 0)
      await engine.stop()
      await done
      assert.deepEqual(seen, frames.map(toHex), mode)
      assert.deepEqual(engine.stats().dropped, { interface: 0, kernel: 0, ring: 0, consumer: 0 })
      await engine.close()

      const other = await openAt(t, lab, { mode, filter })
      const taken: string[] = []
      let isPaused = false
      other.start({
        packet: (packet) => {
          assert.equal(isPaused, false)
          if (taken.push(hexOf(packet)) % 300 > 0) return
          other.pause()
          isPaused = true
          setImmediate(() => {
            isPaused = false
            other.resume()
          })
        },
      })
      for (const frame of frames) send(frame)
      await until('some came', () => taken.length > 0)
      await other.stop()
      await other.close()
      assert.deepEqual(taken, frames.map(toHex), mode)
    }
  })

  test('several queues: those that are named, by every XDP mode', async (t) => {
    const lab = createTestLab(t, { queues: 4 })
    const send = senderAt(t, lab.b)
    const frames = Array.from({ length: 64 }, (_, i) =>
      buildPacket({ ipv4, udp: udp(1000 + i * 7, 9), payload: `${i}` }),
    )
    const seen: Record<string, PacketRecord[]> = {}
    for (const mode of ['mirror', 'divert'] as const) {
      const engine = await openAt(t, lab, { mode })
      const kept = (seen[mode] = keep(engine))
      for (const frame of frames) send(frame)
      await until('all came', () => kept.length >= frames.length)
      await engine.close()
      assert.deepEqual(kept.map(hexOf).sort(), frames.map(toHex).sort())
      const queue = kept[0].queue
      const one = await openAt(t, lab, { mode, queues: [queue] })
      const ofOne = keep(one)
      for (const frame of frames) send(frame)
      const expected = kept.filter((packet) => packet.queue === queue).map(hexOf)
      await until('those of the queue came', () => ofOne.length >= expected.length)
      await one.close()
      assert.deepEqual(ofOne.map(hexOf), expected)
    }
  })

  test('switches through all modes while a flow runs: every packet comes, doubled at most where that was said', async (t) => {
    const lab = createTestLab(t)
    const engine = await openAt(t, lab, { mode: 'packet', filter: 'ether proto 0x88b5' })
    const kept = keep(engine)
    const send = senderAt(t, lab.b)
    let next = 0
    const seeds = (packets: readonly PacketRecord[]) => packets.map(hexOf)
    for (const [mode, between] of [
      ['mirror', 'some may be doubled'],
      ['divert', 'some may be lost'],
      ['packet', 'some may be doubled'],
      ['divert', 'some may be doubled'],
      ['mirror', 'some may be lost'],
    ] as const) {
      for (let i = 0; i < 20; i++) send(frameOf(100, next++))
      const change = await engine.switchMode(mode)
      assert.deepEqual([change.to, change.between, engine.mode], [mode, between, mode])
    }
    for (let i = 0; i < 20; i++) send(frameOf(100, next++))
    await until('all came', () => new Set(seeds(kept)).size >= Math.min(next, 256))
    await engine.stop()
    assert.deepEqual(
      seeds(kept),
      Array.from({ length: next }, (_, i) => toHex(frameOf(100, i))),
    )
  })

  test('divert in a namespace whose default route is on the interface wants consent', async (t) => {
    const lab = createTestLab(t)
    const { interface: name, namespace } = lab.a
    await lab.exec('a', 'ip', ['route', 'add', 'default', 'via', lab.b.ipv4])
    const options = { interface: name, namespace, mode: 'divert' } as const
    await assert.rejects(CaptureEngine.open(options), (error: Error & { code: string }) => {
      assert.equal(error.code, 'XDP_TAKES_TRAFFIC')
      assert.match(error.message, /default route/)
      return true
    })
    await (await CaptureEngine.open({ ...options, takeTraffic: true })).close()
    const mirror = await openAt(t, lab, { mode: 'mirror' })
    mirror.start()
    await assert.rejects(mirror.switchMode('divert'), { code: 'XDP_TAKES_TRAFFIC' })
    assert.equal(mirror.mode, 'mirror')
  })

  test('divert on an interface with an SSH connection wants consent', async (t) => {
    const lab = createTestLab(t)
    const { interface: name, namespace } = lab.a
    const server = `require('node:net').createServer(() => console.log('connected')).listen(22, () => console.log('ready'))`
    const child = lab.spawn('a', process.execPath, ['-e', server], { stdio: ['ignore', 'pipe', 'inherit'] })
    let said = ''
    child.stdout?.on('data', (text: Buffer) => (said += text.toString()))
    await until('the server listens', () => said.includes('ready'))
    const options = { interface: name, namespace, mode: 'divert' } as const
    // A server without a connection is no reason.
    await (await CaptureEngine.open(options)).close()
    const client = lab.spawn('b', process.execPath, [
      '-e',
      `require('node:net').connect(22, '${lab.a.ipv4}')`,
    ])
    await until('they are connected', () => said.includes('connected'))
    await assert.rejects(CaptureEngine.open(options), (error: Error & { code: string }) => {
      assert.equal(error.code, 'XDP_TAKES_TRAFFIC')
      assert.ok(error.message.includes(`SSH connection of this host, with ${lab.b.ipv4}`), error.message)
      return true
    })
    client.kill()
    child.kill()
  })
})
