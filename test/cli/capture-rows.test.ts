// Rows of the capture command that a user checks by hand: safety, a reader that reads along, files by time, a link that comes and goes.
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it, type TestContext } from 'node:test'
import { queryXdp } from '../../src/bpf/index.js'
import { CaptureEngine } from '../../src/capture/engine.js'
import { CaptureWriter } from '../../src/capture/index.js'
import { isInstalled, setInterfaceUp } from '../../src/kernel/index.js'
import type { Lab } from '../../src/lab/index.js'
import { buildPacket } from '../../src/packet/index.js'
import { PacketRecord } from '../../src/packet/pcap-record.js'
import { senderAt } from '../capture/support.js'
import { readFileBytes } from '../packet/pcap-files.js'
import { createTestLab, needsRoot } from '../support/lab.js'
import { frameOf, isOurs, until } from '../support/xsk.js'
import { XDP, burst, startXdp, xdp } from './xdp.js'

const READY = /xdp: capturing on \S+ in mode \S+/
const MODES = ['divert', 'mirror', 'packet'] as const

function directoryOf(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'node-xdp-proof-'))
  t.after(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}

const udp = (port: number) =>
  buildPacket({
    ipv4: { src: '192.0.2.1', dst: '192.0.2.2' },
    udp: { srcPort: 4000, dstPort: port },
    payload: 'x',
  })

/** How many of five pings from end b are answered at end a. */
async function answered(lab: Lab, ...options: string[]): Promise<number> {
  const { stdout } = await lab.exec('b', 'ping', ['-n', ...burst(5), ...options, lab.a.ipv4])
  return Number(/ (\d+) received/.exec(stdout)?.[1])
}

describe('xdp capture, row by row', { skip: needsRoot }, () => {
  it('divert on the default route is refused with status 1; with consent it takes what matches, and Ctrl-C gives it back', async (t) => {
    const lab = createTestLab(t)
    await lab.exec('a', 'ip', ['route', 'add', 'default', 'via', lab.b.ipv4])
    const line = [XDP[1], 'capture', lab.a.interface, '-m', 'divert', '-n', 'icmp']
    const refused = await lab.exec('a', XDP[0], line)
    assert.equal(refused.status, 1)
    assert.match(refused.stderr, /^xdp: \S+ carries the default route of this host.*--take-traffic.*\n$/)
    const where = { namespace: lab.a.namespace! }
    assert.equal(queryXdp(lab.a.interface, where).length, 0)
    assert.equal(await answered(lab), 5)

    const child = lab.spawn('a', XDP[0], [...line, '--take-traffic'], { stdio: ['ignore', 'pipe', 'pipe'] })
    const closed = once(child, 'close')
    let [stdout, stderr] = ['', '']
    child.stdout?.on('data', (text: Buffer) => (stdout += text.toString()))
    child.stderr?.on('data', (text: Buffer) => (stderr += text.toString()))
    await until('it captures', () => READY.test(stderr))
    assert.equal(await answered(lab, '-i', '0.1', '-W', '1'), 0)
    await until('it shows them', () => stdout.split('echo request').length === 6)
    // What does not match is the host's: a port that nobody listens on is answered by it.
    const { stdout: reply } = await lab.exec('b', 'python3', [
      '-c',
      `import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_STREAM)\nprint(s.connect_ex(('${lab.a.ipv4}', 9)))`,
    ])
    assert.equal(reply.trim(), '111', 'ECONNREFUSED')
    child.kill('SIGINT')
    assert.deepEqual(await closed, [0, null])
    assert.equal(queryXdp(lab.a.interface, where).length, 0)
    assert.equal(await answered(lab), 5)
  })

  const needsTshark = !isInstalled('tshark') && 'tshark is not installed'
  for (const mode of MODES) {
    it(
      `${mode}: tshark shows packets of a pipe while the capture goes on`,
      { skip: needsTshark },
      async (t) => {
        const lab = createTestLab(t, { isolated: false })
        const filter = ['ether', 'proto', '0x88b5']
        const args = [XDP[1], 'capture', lab.a.interface, '-m', mode, '-w', '-', ...filter]
        const capture = spawn(XDP[0], args, { stdio: ['ignore', 'pipe', 'pipe'] })
        const fields = ['-T', 'fields', '-e', 'frame.len', '-e', 'frame.interface_name']
        const tshark = spawn('tshark', ['-l', '-n', '-i', '-', ...fields], {
          stdio: ['pipe', 'pipe', 'ignore'],
        })
        t.after(() => [capture, tshark].forEach((child) => child.kill('SIGKILL')))
        tshark.stdin.on('error', () => undefined)
        capture.stdout.pipe(tshark.stdin)
        const closed = [once(capture, 'close'), once(tshark, 'close')]
        let [stderr, shown] = ['', '']
        capture.stderr.on('data', (text: Buffer) => (stderr += text.toString()))
        tshark.stdout.on('data', (text: Buffer) => (shown += text.toString()))
        await until('it captures', () => READY.test(stderr))
        const send = senderAt(t, lab.b)
        const expected: string[] = []
        for (const length of [60, 61, 62]) {
          send(frameOf(length))
          expected.push(`${length}\t${lab.a.interface}`)
          // Each is shown before the next one is sent.
          await until(`tshark shows ${expected.length}`, () => shown.split('\n').length > expected.length)
          assert.deepEqual(shown.trim().split('\n'), expected)
        }
        assert.equal(capture.exitCode, null)
        capture.kill('SIGINT')
        assert.deepEqual(await closed[0], [0, null], stderr)
        await closed[1]
        assert.deepEqual(shown.trim().split('\n'), expected)
      },
    )

    it(`${mode}: says that the link is down when it begins, and waits`, async (t) => {
      const lab = createTestLab(t, { isolated: false })
      setInterfaceUp(lab.a.interface, false)
      const args = ['capture', lab.a.interface, '-m', mode, '-n', '-c', '1', '-e', 'ether', 'proto', '0x88b5']
      const capturing = await startXdp(t, args, READY)
      await capturing.waitFor(
        'stderr',
        new RegExp(`xdp: ${lab.a.interface} is down; waiting until it is up\n`),
      )
      setInterfaceUp(lab.a.interface, true)
      await capturing.waitFor('stderr', new RegExp(`xdp: ${lab.a.interface} is up again\n`))
      await until('the link runs', () => lab.interfaces().b.running)
      senderAt(t, lab.b)(frameOf(71))
      const { status, stdout } = await capturing.end
      assert.equal(status, 0)
      assert.match(stdout, /length 71\b/)
    })

    it(`${mode}: says that the link went down and came back, and goes on`, async (t) => {
      const lab = createTestLab(t, { isolated: false })
      const args = ['capture', lab.a.interface, '-m', mode, '-n', '-e', 'ether', 'proto', '0x88b5']
      const capturing = await startXdp(t, args, READY)
      const send = senderAt(t, lab.b)
      send(frameOf(70))
      await capturing.waitFor('stdout', /length 70\b/)
      setInterfaceUp(lab.a.interface, false)
      await capturing.waitFor(
        'stderr',
        new RegExp(`xdp: ${lab.a.interface} is down; waiting until it is up\n`),
      )
      setInterfaceUp(lab.a.interface, true)
      await capturing.waitFor('stderr', new RegExp(`xdp: ${lab.a.interface} is up again\n`))
      await until('the link runs', () => lab.interfaces().b.running)
      send(frameOf(71))
      await capturing.waitFor('stdout', /length 71\b/)
      const { status, stderr } = await capturing.stop()
      assert.equal(status, 0)
      assert.match(stderr, /packets_received=2 .*packets_dropped=0 .*errors=0/)
    })
  }

  it('writes pcap with nanoseconds: the bytes that were sent up to the snap length, and how many there were', async (t) => {
    const lab = createTestLab(t, { isolated: false })
    const file = join(directoryOf(t), 'classic.pcap')
    const frames = [udp(53), frameOf(60), frameOf(1500), udp(9)]
    for (const mode of MODES) {
      const filter = ['udp', 'or', 'ether', 'proto', '0x88b5']
      const args = ['capture', lab.a.interface, '-m', mode, '-w', file, '-c', '4', '-s', '100', ...filter]
      const capturing = await startXdp(t, args, READY)
      const send = senderAt(t, lab.b)
      for (const frame of frames) send(frame)
      assert.equal((await capturing.end).status, 0)
      const { packets } = readFileBytes(readFileSync(file))
      assert.deepEqual(
        packets.map(({ bytes, offset, length, wireLength }) => [
          Buffer.from(bytes.subarray(offset, offset + length)).toString('hex'),
          wireLength,
        ]),
        frames.map((frame) => [Buffer.from(frame.subarray(0, 100)).toString('hex'), frame.length]),
      )
      const info = spawnSync('capinfos', ['-T', '-r', '-t', '-l', '-c', file], { encoding: 'utf8' })
      assert.match(info.stdout, /\tnsecpcap\t100\t/, info.stderr)
    }
  })

  it('begins files by the time of packets, and keeps the newest', async (t) => {
    const directory = directoryOf(t)
    const source = join(directory, 'source.pcapng')
    const writer = await CaptureWriter.open({ path: source })
    const frame = udp(53)
    const seconds = [0, 10, 59, 60, 119, 121, 500, 501]
    for (const [i, second] of seconds.entries()) {
      const packet = new PacketRecord()
      packet.bytes = frame
      packet.length = packet.wireLength = frame.length
      packet.linkType = 1
      packet.seconds = 1_700_000_000 + second
      packet.packetId = i
      writer.write(packet)
    }
    await writer.close()
    for (const [keep, expected] of [
      [[], [[0, 10, 59], [60, 119], [121], [500, 501]]],
      [
        ['-W', '2'],
        [[121], [500, 501]],
      ],
    ] as const) {
      const into = directoryOf(t)
      const path = join(into, 'minute.pcap')
      const { status, stderr } = await xdp(['capture', '-r', source, '-w', path, '-G', '60', ...keep])
      assert.equal(status, 0, stderr)
      const files = readdirSync(into).sort()
      const times = files.map((name) =>
        readFileBytes(readFileSync(join(into, name))).packets.map((packet) => packet.seconds - 1_700_000_000),
      )
      assert.deepEqual(times, expected)
    }
  })

  it('keys of the sockets reach the kernel: memory, rings, frames, mode, copying, wake-ups', async (t) => {
    const lab = createTestLab(t, { isolated: false })
    const path = join(directoryOf(t), 'capture.yaml')
    const rings = 'rx_ring_size: 128, tx_ring_size: 1024, fill_ring_size: 512, comp_ring_size: 8192'
    writeFileSync(
      path,
      `capture: {interface: ${lab.a.interface}, mode: divert, xdp_queue_id: 0, snap_length: 61, enable_stats: false}
xdp: {umem_size: 2097152, num_frames: 300, frame_size: 2048, ${rings}, flags: 2, bind_flags: 2}\n`,
    )
    const capturing = await startXdp(t, ['capture', '--config', path, '--json', 'ether proto 0x88b5'], READY)
    assert.equal(queryXdp(lab.a.interface)[0].mode, 'generic')
    // include/uapi/linux/if_xdp.h: XDP_PGOFF_RX_RING, _TX_RING, XDP_UMEM_PGOFF_FILL_RING, _COMPLETION_RING
    const maps = readFileSync(`/proc/${capturing.child.pid}/maps`, 'utf8')
    const pagesAt = (offset: string): number => {
      const [, from, to] = new RegExp(`^(\\w+)-(\\w+) rw-s ${offset} .*socket:`, 'm').exec(maps) ?? []
      return (parseInt(to, 16) - parseInt(from, 16)) / 4096
    }
    // Descriptors of 16 bytes in two rings, of 8 in the others, behind the indices of a ring, in whole pages.
    const pages = (entries: number, size: number) => Math.floor((entries * size) / 4096) + 1
    const offsets = ['00000000', '80000000', '100000000', '180000000']
    assert.deepEqual(offsets.map(pagesAt), [pages(128, 16), pages(1024, 16), pages(512, 8), pages(8192, 8)])
    senderAt(t, lab.b)(frameOf(80))
    await capturing.waitFor('stdout', /"length":61,"wireLength":80/)
    const { status, stderr } = await capturing.stop()
    assert.equal(status, 0)
    assert.doesNotMatch(stderr, /statistics/)
  })

  it('a mode that the kernel refuses: the one before goes on, on a real link', async (t) => {
    const lab = createTestLab(t)
    const { interface: name, namespace } = lab.a
    const sockets = { copy: 'zero-copy' } as const
    const engine = await CaptureEngine.open({ interface: name, namespace, mode: 'mirror', sockets })
    t.after(() => engine.close())
    let ours = 0
    engine.start({ packet: (packet) => void (isOurs(packet as never) && ours++) })
    const send = senderAt(t, lab.b)
    for (let round = 1; round <= 3; round++) {
      // A virtual cable has no zero copy; that shows after the mirror has left.
      await assert.rejects(engine.switchMode('divert'))
      assert.deepEqual([engine.mode, engine.state], ['mirror', 'running'])
      assert.equal(queryXdp(name, { namespace: namespace! }).length, 1)
      send(frameOf(70))
      await until('it goes on', () => ours === round)
    }
    assert.equal(await answered(lab), 5)
    assert.equal((await engine.switchMode('packet')).to, 'packet')
    assert.equal(queryXdp(name, { namespace: namespace! }).length, 0)
  })
})
