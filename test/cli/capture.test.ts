// xdp capture, as a user runs it: in a lab, beside other people's tools, and through everything that can go wrong.
import assert from 'node:assert/strict'
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it, type TestContext } from 'node:test'
import { queryXdp } from '../../src/bpf/index.js'
import type { Lab } from '../../src/lab/index.js'
import { buildPacket } from '../../src/packet/index.js'
import { senderAt } from '../capture/support.js'
import { readFileBytes } from '../packet/pcap-files.js'
import { createTestLab, needsRoot } from '../support/lab.js'
import { until } from '../support/xsk.js'
import { XDP, run, startXdp, xdp } from './xdp.js'

const READY = /xdp: capturing on \S+ in mode \S+/
const MODES = ['divert', 'mirror', 'packet'] as const

function directoryOf(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'node-xdp-capture-'))
  t.after(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}

/** A lab whose end a is in this namespace, where the command runs. */
const hostLab = (t: TestContext): Lab => createTestLab(t, { isolated: false })

const udp = (lab: Lab, port: number, payload = `to ${port}`) =>
  buildPacket({
    ethernet: { src: lab.b.mac, dst: lab.a.mac },
    ipv4: { src: lab.b.ipv4, dst: lab.a.ipv4 },
    udp: { srcPort: 4000, dstPort: port },
    payload,
  })

/** What tshark says about every packet of a file, without what is the capture's own. */
function dissect(file: string): unknown {
  const text = execFileSync(
    'tshark',
    [
      '-n',
      '-o',
      'tcp.analyze_sequence_numbers:FALSE',
      '-r',
      file,
      '-T',
      'json',
      '-J',
      'eth vlan ip ipv6 udp tcp arp icmp icmpv6 dns',
    ],
    {
      encoding: 'utf8',
      maxBuffer: 1 << 28,
      stdio: ['ignore', 'pipe', 'ignore'],
    },
  )
  const own = /^(frame|_index|Timestamps|_source\.layers\.frame)/
  return JSON.parse(text, (key, value: unknown) =>
    own.test(key) || /time_(delta|relative)|\.time$/.test(key) ? undefined : value,
  )
}

const statisticsOf = (stderr: string): Record<string, string> => {
  const line = stderr.split('\n').findLast((line) => line.startsWith('Capture statistics: ')) ?? ''
  return Object.fromEntries([...line.matchAll(/(\w+)=(\S+)/g)].map(([, key, value]) => [key, value]))
}

describe('xdp capture', { skip: needsRoot }, () => {
  for (const mode of MODES) {
    it(`${mode}: prints what the filter takes like tcpdump, and the statistics line at the end`, async (t) => {
      const lab = hostLab(t)
      const args = ['capture', lab.a.interface, '-m', mode, '-n', '-c', '3', '-t', 'udp', 'port', '53']
      const capturing = await startXdp(t, args, READY)
      const send = senderAt(t, lab.b)
      for (const port of [52, 53, 54, 53, 53, 53]) send(udp(lab, port, 'x'))
      const { status, stdout, stderr } = await capturing.end
      assert.equal(status, 0, stderr)
      const line = `IP ${lab.b.ipv4}.4000 > ${lab.a.ipv4}.53:`
      assert.deepEqual(
        stdout
          .trim()
          .split('\n')
          .map((text) => text.slice(0, line.length)),
        [line, line, line],
      )
      const {
        mode: name,
        packets_processed: processed,
        packets_dropped: dropped,
        errors,
      } = statisticsOf(stderr)
      const names = { divert: 'AF_XDP', mirror: 'XDP_MIRROR', packet: 'AF_PACKET' }
      assert.deepEqual([name, processed, dropped, errors], [names[mode], '3', '0', '0'])
      assert.match(
        stderr,
        /packets_received=\d+ bytes_received=\d+ packets_processed=3 packets_dropped=0 batches=\d+ errors=0\n/,
      )
    })

    it(`${mode}: writes pcapng that capinfos and tshark take, with tcpdump's dissection`, async (t) => {
      const lab = hostLab(t)
      const directory = directoryOf(t)
      const [ours, theirs] = [join(directory, 'ours.pcapng'), join(directory, 'theirs.pcap')]
      const tcpdump = lab.spawn(
        'b',
        'tcpdump',
        ['-i', lab.b.interface, '-Q', 'out', '-U', '-w', theirs, '--immediate-mode'],
        {
          stdio: ['ignore', 'ignore', 'pipe'],
        },
      )
      let said = ''
      tcpdump.stderr?.on('data', (text: Buffer) => (said += text.toString()))
      await until('tcpdump listens', () => said.includes('listening on'))
      const capturing = await startXdp(t, ['capture', lab.a.interface, '-m', mode, '-w', ours, '-U'], READY)
      const send = senderAt(t, lab.b)
      const frames = [
        // To nobody here: an answer would be captured too.
        buildPacket({
          ipv4: { src: '192.0.2.1', dst: '192.0.2.2' },
          udp: { srcPort: 4000, dstPort: 53 },
          payload: 'x',
        }),
        buildPacket({
          ipv6: { src: '2001:db8::1', dst: '2001:db8::2' },
          tcp: { srcPort: 1, dstPort: 80, flags: 2 },
        }),
        buildPacket({
          vlans: [{ id: 7 }],
          ipv4: { src: '192.0.2.1', dst: '192.0.2.2' },
          udp: { srcPort: 1, dstPort: 2 },
        }),
        buildPacket({
          ipv4: { src: '192.0.2.1', dst: '192.0.2.2', fragmentOffset: 80, protocol: 17 },
          payload: 'later',
        }),
      ]
      for (let i = 0; i < 5; i++) for (const frame of frames) send(frame)
      const count = 5 * frames.length
      await until('both have them', () =>
        [ours, theirs].every((file) => readFileBytes(readFileSync(file)).packets.length >= count),
      )
      tcpdump.kill('SIGINT')
      assert.equal((await capturing.stop()).status, 0)
      const read = readFileBytes(readFileSync(ours))
      assert.equal(read.packets.length, count)
      const [packet] = read.packets
      assert.equal(packet.packetId, 0)
      if (mode !== 'packet') assert.deepEqual([packet.queue, packet.verdict], [0, mode === 'mirror' ? 2 : 4])
      const info = execFileSync('capinfos', ['-T', '-r', '-t', '-c', '-E', '-Q', ours], { encoding: 'utf8' })
      assert.match(info, new RegExp(`"pcapng"\t"ether"\t"${count}"`))
      const verbose = execFileSync('capinfos', [ours], { encoding: 'utf8' })
      assert.match(verbose, new RegExp(`Name = ${lab.a.interface}`))
      assert.match(verbose, /nanoseconds/)
      assert.deepEqual(dissect(ours), dissect(theirs))
    })

    it(`${mode}: killed, it leaves nothing attached and a file that is whole up to where it was`, async (t) => {
      const lab = hostLab(t)
      const file = join(directoryOf(t), 'killed.pcapng')
      const capturing = await startXdp(t, ['capture', lab.a.interface, '-m', mode, '-w', file, '-U'], READY)
      const send = senderAt(t, lab.b)
      for (let i = 0; i < 10; i++) send(udp(lab, 1000 + i))
      await until('they are in the file', () => readFileBytes(readFileSync(file)).packets.length >= 10)
      capturing.child.kill('SIGKILL')
      assert.equal((await capturing.end).signal, 'SIGKILL')
      await until('nothing is attached', () => queryXdp(lab.a.interface).length === 0)
      assert.equal(spawnSync('capinfos', [file]).status, 0)
      // At once again.
      const again = await startXdp(t, ['capture', lab.a.interface, '-m', mode], READY)
      assert.equal((await again.stop()).status, 0)
      assert.equal(queryXdp(lab.a.interface).length, 0)
    })

    it(`${mode}: deleted under it, the interface ends the capture with status 1 and a sentence`, async (t) => {
      const lab = hostLab(t)
      const file = join(directoryOf(t), 'gone.pcapng')
      const capturing = await startXdp(t, ['capture', lab.a.interface, '-m', mode, '-w', file], READY)
      senderAt(t, lab.b)(udp(lab, 5))
      execFileSync('ip', ['link', 'del', lab.a.interface])
      const { status, stderr } = await capturing.end
      assert.equal(status, 1, stderr)
      const gone = `xdp: ${lab.a.interface} is gone. It was deleted, or moved to another network namespace.`
      assert.deepEqual(
        stderr.split('\n').filter((line) => line.includes('gone')),
        [gone],
      )
      assert.equal(spawnSync('capinfos', [file]).status, 0)
    })
  }

  it('a reader that goes away ends it with status 0, and nothing stays attached', async (t) => {
    const lab = hostLab(t)
    for (const output of [['-n'], ['--json'], ['-w', '-']]) {
      const command = [...XDP, 'capture', lab.a.interface, '-m', 'mirror', ...output].join(' ')
      const piped = run(['bash', '-c', `set -o pipefail; ${command} | head -c 200`])
      await until('it is attached', () => queryXdp(lab.a.interface).length === 1)
      const send = senderAt(t, lab.b)
      const timer = setInterval(() => send(udp(lab, 1)), 5)
      const { status, stderr } = await piped
      clearInterval(timer)
      assert.equal(status, 0, stderr)
      assert.match(stderr, /Capture statistics/)
      assert.equal(queryXdp(lab.a.interface).length, 0)
    }
  })

  it('a full disk ends it with status 1 and a sentence; what was written is whole', async (t) => {
    const lab = hostLab(t)
    const directory = directoryOf(t)
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'node-xdp-test', directory])
    try {
      const file = join(directory, 'full.pcapng')
      const capturing = await startXdp(t, ['capture', lab.a.interface, '-w', file, '-U'], READY)
      const send = senderAt(t, lab.b)
      for (let i = 0; i < 200; i++) send(udp(lab, 9, 'x'.repeat(1000)))
      const { status, stderr } = await capturing.end
      assert.equal(status, 1)
      assert.match(stderr, /full\.pcapng failed: ENOSPC.*disk is full/)
      const { packets_processed: processed, packets_dropped: dropped } = statisticsOf(stderr)
      const { packets } = readFileBytes(readFileSync(file))
      assert.ok(packets.length > 20 && packets.length < 64)
      assert.equal(Number(processed), packets.length, stderr)
      assert.ok(Number(dropped) > 0)
      // What came since is missing for that reason and no other.
      assert.match(stderr, new RegExp(`^xdp: lost ${dropped} because writing failed \\(ENOSPC\\)$`, 'm'))
      assert.equal(spawnSync('capinfos', [file]).status, 0)
    } finally {
      execFileSync('umount', [directory])
    }
  })

  it('a reader that is too slow: losses are counted, memory is bounded, and it goes on when it can', async (t) => {
    const lab = hostLab(t)
    for (const output of [
      ['-n', '-x'],
      ['-w', '-'],
    ]) {
      const args = [XDP[1], 'capture', lab.a.interface, '-m', 'mirror', ...output]
      const child = spawn(XDP[0], args, { stdio: ['ignore', 'pipe', 'pipe'] })
      t.after(() => child.kill('SIGKILL'))
      const closed = once(child, 'close')
      let stderr = ''
      child.stderr.on('data', (text: Buffer) => (stderr += text.toString()))
      await until('it runs', () => READY.test(stderr))
      // More than the pipe, the output and the ring hold together.
      const send = senderAt(t, lab.b)
      for (let i = 0; i < 20_000; i++) {
        send(udp(lab, 9, 'x'.repeat(1000)))
        if (i % 500 === 0) await new Promise((resolve) => setImmediate(resolve))
      }
      child.kill('SIGUSR1')
      await until('losses are counted', () => Number(statisticsOf(stderr)['packets_dropped'] ?? 0) > 0)
      await until('it is said where', () => /lost \d+ in the ring buffer of the XDP program/.test(stderr))
      const memory = /VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${child.pid}/status`, 'utf8'))
      // Twice 8 MiB of ring, 4 MiB of output, and Node.
      assert.ok(Number(memory?.[1]) < 160 * 1024, memory?.[0])
      let read = 0
      child.stdout.on('data', (data: Buffer) => (read += data.length))
      await until('what waited is read', () => read > 2_000_000)
      child.kill('SIGINT')
      assert.deepEqual(await closed, [0, null])
      const {
        packets_received: received,
        packets_processed: processed,
        packets_dropped: dropped,
      } = statisticsOf(stderr)
      assert.ok(Number(dropped) > 0 && Number(processed) <= Number(received))
      assert.ok(Number(processed) + Number(dropped) >= 20_000, stderr)
    }
  })

  it('reads files back through the same filter and printers, and writes them again', async (t) => {
    const directory = directoryOf(t)
    const [first, second] = [join(directory, 'first.pcapng'), join(directory, 'second.pcap')]
    const lab = hostLab(t)
    const capturing = await startXdp(
      t,
      ['capture', '-i', lab.a.interface, '-c', '6', '-w', first, 'udp'],
      READY,
    )
    const send = senderAt(t, lab.b)
    for (const port of [1, 2, 3, 1, 2, 3]) send(udp(lab, port))
    assert.equal((await capturing.end).status, 0)
    const written = await xdp([
      'sniff',
      '-r',
      first,
      '-w',
      second,
      'dst',
      'port',
      '2',
      'or',
      'dst',
      'port',
      '3',
    ])
    assert.equal(written.status, 0, written.stderr)
    assert.equal(readFileSync(second).readUInt32LE(0), 0xa1b23c4d)
    const read = await xdp(['capture', '-r', second, '-n', '-tt', 'dst', 'port', '3'])
    const theirs = execFileSync('tcpdump', ['-n', '-tt', '-r', second, 'dst', 'port', '3'], {
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    assert.equal(read.stdout, theirs.toString())
    assert.equal(read.stdout.split('\n').length, 3)
    const json = await xdp(['capture', '-r', first, '--json', '-c', '2'])
    const lines = json.stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { interface: string; layers: unknown[] })
    assert.equal(lines.length, 2)
    assert.equal(lines[0].interface, lab.a.interface)
    const piped = await run([
      'bash',
      '-c',
      `cat ${first} | ${XDP.join(' ')} capture -r - -w - | tshark -r - -n | wc -l`,
    ])
    assert.equal(piped.stdout.trim(), '6', piped.stderr)
  })

  it('rotates by size and keeps so many files', async (t) => {
    const lab = hostLab(t)
    const directory = directoryOf(t)
    const args = [
      'capture',
      lab.a.interface,
      '-w',
      join(directory, 'ring.pcapng'),
      '-C',
      '5k',
      '-W',
      '3',
      '-c',
      '50',
      'udp',
    ]
    const capturing = await startXdp(t, args, READY)
    const send = senderAt(t, lab.b)
    for (let i = 0; i < 50; i++) send(udp(lab, 9, 'x'.repeat(900)))
    assert.equal((await capturing.end).status, 0)
    const files = readdirSync(directory).sort()
    assert.equal(files.length, 3)
    for (const file of files) {
      assert.match(file, /^ring_\d{5}_\d{14}\.pcapng$/)
      assert.ok(statSync(join(directory, file)).size <= 5000 + 200)
      assert.equal(spawnSync('capinfos', [join(directory, file)]).status, 0)
    }
  })

  it('prints statistics at every interval and on SIGUSR1', async (t) => {
    const lab = hostLab(t)
    const capturing = await startXdp(t, ['capture', lab.a.interface], READY)
    senderAt(t, lab.b)(udp(lab, 9))
    await capturing.waitFor('stdout', /UDP/)
    capturing.child.kill('SIGUSR1')
    await capturing.waitFor('stderr', /Capture statistics: mode=XDP_MIRROR packets_received=1 /)
    assert.equal((await capturing.stop()).status, 0)
    const every = await startXdp(t, ['capture', lab.a.interface, '--interval', '0.05'], READY)
    await every.waitFor('stderr', /(Capture statistics: .*\n){3}/)
    assert.equal((await every.stop('SIGTERM')).status, 0)
  })

  it('takes a configuration: its keys work, those that cannot are said to, flags go before', async (t) => {
    const lab = hostLab(t)
    const path = join(directoryOf(t), 'capture.yaml')
    writeFileSync(
      path,
      `capture: {interface: ${lab.a.interface}, use_xdp: true, xdp_queue_id: 0, buffer_size: 100, batch_size: 4, timeout: 10ms, stats_interval: 50ms}
xdp: {umem_size: 1048576, num_frames: 512, frame_size: 2048, rx_ring_size: 256, fill_ring_size: 256, tx_ring_size: 64, comp_ring_size: 64, bind_flags: 8, enable_stats: true}\n`,
    )
    const capturing = await startXdp(t, ['capture', '--config', path, '-n', 'udp'], READY)
    assert.match((await capturing.waitFor('stderr', READY))[0], /divert/)
    const send = senderAt(t, lab.b)
    for (let i = 0; i < 10; i++) send(udp(lab, 100 + i))
    await capturing.waitFor('stdout', /\.109: UDP/)
    await capturing.waitFor(
      'stderr',
      /Capture statistics: mode=AF_XDP packets_received=10 .*\nXDP statistics: rx_dropped=0/,
    )
    assert.equal((await capturing.stop()).status, 0)
    const mirror = await startXdp(t, ['capture', '--config', path, '-m', 'mirror'], READY)
    const { stderr } = await mirror.stop()
    assert.match(stderr, /warning: xdp\.rx_ring_size has no effect in mode mirror/)
    const printed = await xdp([
      'capture',
      '--config',
      path,
      '--print-config',
      '-m',
      'packet',
      '-Q',
      '0,1',
      'tcp',
    ])
    assert.equal(printed.status, 0)
    assert.match(
      printed.stdout,
      /mode: packet[^]*xdp_queue_id:\s+- 0\s+- 1[^]*filter: tcp[^]*timeout: 10ms[^]*rx_ring_size: 256/,
    )
    writeFileSync(path, 'xdp: {rx_ring_size: 100}')
    const wrong = await xdp(['capture', '--config', path, 'lo'])
    assert.equal(wrong.status, 2)
    assert.match(wrong.stderr, /^xdp: .*capture\.yaml: xdp\.rx_ring_size \(100\) is no power of two\n$/)
  })

  it('the command line goes before the configuration: statistics, queues that are not there', async (t) => {
    const lab = hostLab(t)
    const path = join(directoryOf(t), 'capture.yaml')
    writeFileSync(path, `capture: {interface: ${lab.a.interface}, enable_stats: false, stats_interval: 1h}`)
    const silent = await startXdp(t, ['capture', '--config', path], READY)
    const { stderr } = await silent.stop()
    assert.match(
      stderr,
      /warning: capture\.stats_interval has no effect while capture\.enable_stats is false/,
    )
    assert.doesNotMatch(stderr, /Capture statistics/)
    const asked = await startXdp(t, ['capture', '--config', path, '--interval', '0.05'], READY)
    await asked.waitFor('stderr', /Capture statistics/)
    await asked.stop()
    const refused = await xdp(['capture', '--config', path, '-m', 'divert', '-Q', '7'])
    assert.deepEqual([refused.status, refused.stdout], [2, ''])
    assert.match(refused.stderr, /has no queue 7/)
  })

  it('two signals at once are one request: the file is whole, the statistics are said', async (t) => {
    const lab = hostLab(t)
    const path = join(directoryOf(t), 'two.pcapng')
    const capturing = await startXdp(
      t,
      ['capture', lab.a.interface, '-m', 'packet', '-w', path, 'udp'],
      READY,
    )
    senderAt(t, lab.b)(udp(lab, 9))
    capturing.child.kill('SIGINT')
    capturing.child.kill('SIGTERM')
    const { status, stderr } = await capturing.end
    assert.deepEqual([status, statisticsOf(stderr)['packets_processed']], [0, '1'], stderr)
    assert.match(execFileSync('capinfos', ['-Mc', path], { encoding: 'utf8' }), /Number of packets:\s+1\n/)
  })

  it('waits for the reader of a named pipe before anything is attached, and can be interrupted there', async (t) => {
    const lab = hostLab(t)
    const path = join(directoryOf(t), 'pipe')
    execFileSync('mkfifo', [path])
    const args = ['capture', lab.a.interface, '-m', 'mirror', '-c', '1', '-w', path, 'udp']
    const alone = await startXdp(t, args, /waiting for a reader of/)
    assert.deepEqual(queryXdp(lab.a.interface), [])
    assert.deepEqual([(await alone.stop()).status], [0])
    const read = await startXdp(t, args, /waiting for a reader of/)
    const reader = run(['tshark', '-r', path, '-T', 'fields', '-e', 'udp.dstport'])
    await read.waitFor('stderr', READY)
    senderAt(t, lab.b)(udp(lab, 1234))
    assert.equal((await read.end).status, 0)
    assert.equal((await reader).stdout, '1234\n')
  })

  it('use_xdp mirrors on the interface of the default route, and says why it does not divert', async (t) => {
    const lab = createTestLab(t)
    await lab.exec('a', 'ip', ['route', 'add', 'default', 'via', lab.b.ipv4])
    const path = join(directoryOf(t), 'capture.yaml')
    writeFileSync(path, `capture: {interface: ${lab.a.interface}, use_xdp: true}`)
    const child = lab.spawn('a', XDP[0], [XDP[1], 'capture', '--config', path, '-n', '-c', '1', 'icmp'], {
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    const closed = once(child, 'close')
    let stderr = ''
    child.stderr?.on('data', (text: Buffer) => (stderr += text.toString()))
    await until('it captures', () => READY.test(stderr))
    assert.match((await lab.exec('b', 'ping', ['-c', '1', '-W', '5', lab.a.ipv4])).stdout, / 1 received/)
    assert.deepEqual(await closed, [0, null])
    assert.match(stderr, /cannot have mode divert: \S+ carries the default route of this host/)
    assert.match(stderr, /in mode mirror/)
  })

  it('says in one sentence what cannot be, with the status for it', async (t) => {
    const lab = hostLab(t)
    const refused = [
      [[], 2, /Nothing says where packets/],
      [['no-such-if0'], 1, /No interface no-such-if0/],
      [['any', '-m', 'packet'], 1, /^xdp: A capture is of one interface, and "any" is none\. .*mergecap/],
      [['lo', '-m', 'divert'], 1, /--take-traffic/],
      [['lo', 'udp', 'prot', '53'], 2, /prot/],
      [['lo', '-w', '-', '-C', '10k'], 2, /cannot be rotated/],
      [['lo', '-w', 'x.pcap', '-C', '0.5k'], 2, /4096 bytes at least/],
      [['lo', '-w', 'x.pcap', '--json'], 2, /not written as json/],
      [['lo', '-W', '3', '-w', 'x.pcap'], 2, /-C or -G/],
      [['lo', '-m', 'sideways'], 2, /sideways/],
      [['-r', '/nonexistent/file'], 1, /nonexistent/],
      [[lab.a.interface, '-w', '/nonexistent/file.pcap'], 1, /nonexistent/],
      [['-r', '/etc/passwd'], 1, /neither a pcap nor a pcapng/],
    ] as const
    const results = await Promise.all(refused.map(([args]) => xdp(['capture', ...args])))
    for (const [i, [args, status, pattern]] of refused.entries()) {
      const result = results[i]
      assert.match(result.stderr, pattern)
      assert.equal(result.status, status, `${args.join(' ')}: ${result.stderr}`)
      assert.doesNotMatch(result.stderr, /\n\s+at /)
    }
  })
})
