// xdp generate and xdp measure, as a user runs them: in a lab, one at each end.
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import type { MeterReport, Sent } from '../../src/generate/index.js'
import { createTestLab, needsRoot } from '../support/lab.js'
import { Running, run, startXdp, XDP, xdp } from './xdp.js'

/** Runs xdp generate at end b of a lab. */
const generateAt = (lab: string, ...args: string[]) =>
  xdp(['lab', 'exec', '-e', 'b', lab, '--', ...XDP, 'generate', 'veth-b', ...args])

describe('xdp generate and xdp measure', { skip: needsRoot }, () => {
  for (const by of ['kernel', 'socket']) {
    it(`meters what the ${by} sends: nothing lost, in order, with latencies`, async (t) => {
      const lab = createTestLab(t, { isolated: false })
      const args = ['measure', lab.a.interface, '--count', '3000', '--json']
      const measuring = await startXdp(t, args, /measuring on/)
      const flags = ['--by', by, '-r', '20k', '-c', '3000', '-f', '3', '-s', '60,200', '--json']
      const sent = await generateAt(lab.name, '--to', lab.a.ipv4, ...flags)
      assert.equal(sent.status, 0, sent.stderr)
      const { packets, stream } = JSON.parse(sent.stdout.trim().split('\n').at(-1)!) as Sent & {
        stream: number
      }
      assert.equal(packets, 3000)
      const { status, stdout } = await measuring.end
      assert.equal(status, 0, stdout)
      const report = JSON.parse(stdout.trim().split('\n').at(-1)!) as MeterReport & { unstamped: number }
      assert.deepEqual(
        [report.stream, report.received, report.lost, report.duplicates, report.unstamped],
        [stream, 3000, 0, 0, 0],
      )
      assert.ok(report.latency && report.latency.p50 > 0)
    })
  }

  it('speaks IPv6 and VLAN, and in sentences; what it is not told it finds out', async (t) => {
    const lab = createTestLab(t, { isolated: false })
    const measuring = await startXdp(t, ['measure', lab.a.interface, '-p', '7'], /measuring on/)
    const sent = await generateAt(lab.name, '--to', lab.a.ipv6!, '-p', '7', '-c', '10')
    assert.match(sent.stdout, /^sent 10 packets, 800 bytes in .* s: [\d,]+ packets\/s/)
    // A tagged packet is the kernel's.
    assert.equal(
      (await generateAt(lab.name, '--to', lab.a.ipv4, '-p', '7', '-c', '10', '--vlan', '5,6')).status,
      0,
    )
    assert.equal((await generateAt(lab.name, '--to', lab.a.ipv6!, '-p', '8', '-c', '10')).status, 0)
    const { status, stdout } = await measuring.stop()
    assert.equal(status, 0)
    assert.match(
      stdout,
      /received 10 packets, 800 bytes; lost 0 \(0\.000 %\), reordered 0, duplicates 0\nlatency in µs: min/,
    )
  })

  it('measures what is tagged where it is told to, and says when nothing has come', async (t) => {
    const lab = createTestLab(t, { isolated: false })
    const tagged = await startXdp(
      t,
      ['measure', lab.a.interface, '--vlan', '5,6', '-c', '10'],
      /measuring on/,
    )
    for (const vlan of ['4', '6'])
      assert.equal((await generateAt(lab.name, '--to', lab.a.ipv4, '-c', '10', '--vlan', vlan)).status, 0)
    const { status, stdout } = await tagged.end
    assert.equal(status, 0, stdout)
    assert.match(stdout, /^received 10 packets, 640 bytes; lost 0 \(0\.000 %\), reordered 0, duplicates 0\n/)
    const nothing = await startXdp(t, ['measure', lab.a.interface], /measuring on/)
    const stopped = await nothing.stop()
    assert.equal(stopped.status, 1)
    assert.match(stopped.stderr, /^xdp: no packet that `xdp generate` numbered has come$/m)
  })

  it('counts what is lost while nobody takes it, and exits with 1', async (t) => {
    const lab = createTestLab(t, { isolated: false })
    const args = ['measure', lab.a.interface, '--json', '-i', '0.1']
    const measuring = await startXdp(t, args, /measuring on/)
    const line = ['lab', 'exec', '-e', 'b', lab.name, '--', ...XDP, 'generate', 'veth-b', '--to', lab.a.ipv4]
    const generating = new Running(
      XDP[0],
      [XDP[1], ...line, '-r', '100k', '-t', '50', '-i', '0.1', '--json'],
      {},
    )
    t.after(() => generating.child.kill('SIGTERM'))
    await measuring.waitFor('stdout', /"received":[1-9]/)
    measuring.child.kill('SIGSTOP')
    // Many more than it has frames for.
    await generating.waitFor('stdout', /"packets":\d{6}/)
    measuring.child.kill('SIGCONT')
    await measuring.waitFor('stdout', /"lost":[1-9]/)
    assert.equal((await generating.stop()).status, 0)
    const { status, stdout } = await measuring.stop()
    assert.equal(status, 1)
    const { received, lost } = JSON.parse(stdout.trim().split('\n').at(-1)!) as {
      received: number
      lost: number
    }
    assert.ok(received > 0 && lost > 0)
  })

  it('sends the packets of a capture file as they are', async (t) => {
    const lab = createTestLab(t, { isolated: false })
    const directory = mkdtempSync(join(tmpdir(), 'xdp-generate-'))
    t.after(() => rmSync(directory, { recursive: true }))
    const path = join(directory, 'two.pcap')
    const packet = (bytes: number) =>
      Buffer.from('ffffffffffff02000000000288b5'.padEnd(2 * bytes, '5a'), 'hex')
    const header = Buffer.from('d4c3b2a1020004000000000000000000ffff000001000000', 'hex')
    const record = (bytes: number) => {
      const head = Buffer.alloc(16)
      head.writeUInt32LE(bytes, 8)
      head.writeUInt32LE(bytes, 12)
      return Buffer.concat([head, packet(bytes)])
    }
    writeFileSync(path, Buffer.concat([header, record(60), record(100)]))
    const args = [
      '-i',
      lab.a.interface,
      '-c',
      '4',
      '-e',
      '-xx',
      '--immediate-mode',
      'ether',
      'proto',
      '0x88b5',
    ]
    const tcpdump = lab.spawn('a', 'tcpdump', args, { stdio: ['ignore', 'pipe', 'pipe'] })
    let [text, log] = ['', '']
    tcpdump.stdout!.on('data', (chunk: Buffer) => (text += chunk.toString()))
    const listening = new Promise<void>((resolve) => {
      tcpdump.stderr!.on('data', (chunk: Buffer) => {
        log += chunk.toString()
        if (log.includes('listening')) resolve()
      })
    })
    await listening
    const ended = new Promise((resolve) => tcpdump.once('close', resolve))
    const sent = await generateAt(lab.name, '--pcap', path, '-c', '4')
    assert.equal(sent.status, 0, sent.stderr)
    await ended
    assert.equal(text.match(/5a5a 5a5a/g) !== null, true, text)
    const lengths = [...text.matchAll(/\blength (\d+):/g)].map(([, length]) => length)
    assert.deepEqual(lengths, ['60', '100', '60', '100'], text)
    assert.match(sent.stdout, /sent 4 packets, 320 bytes/)
    const both = await generateAt(lab.name, '--pcap', path, '-c', '4', '--to', lab.a.ipv4)
    assert.equal(both.status, 2)
    assert.match(both.stderr, /'--pcap <file>' cannot be used with option '--to <address>'/)
  })

  it('sends to the gateway what is behind one', async (t) => {
    const lab = createTestLab(t)
    const ip = async (...args: string[]) => assert.equal((await lab.exec('b', 'ip', args)).status, 0)
    await ip('neighbour', 'replace', lab.a.ipv4, 'lladdr', lab.a.mac, 'dev', lab.b.interface)
    await ip('route', 'add', '198.51.100.0/24', 'via', lab.a.ipv4)
    const args = ['generate', lab.b.interface, '--to', '198.51.100.7', '-c', '1']
    const { status, stdout, stderr } = await lab.exec('b', XDP[0], [...XDP.slice(1), ...args])
    assert.equal(status, 0, stderr)
    assert.match(stdout, /^sent 1 packets/)
  })

  it('refuses what is no lab, and says what is missing', async (t) => {
    const lab = createTestLab(t, { isolated: false })
    const none = await xdp(['generate', 'lo', '--to', '127.0.0.1', '-c', '1'])
    assert.equal(none.status, 1)
    assert.match(none.stderr, /^xdp: lo is no end of a lab.*--i-own-this-network\.\n$/)
    const loopback = await xdp(['generate', 'lo', '--to', '127.0.0.1', '-c', '1', '--i-own-this-network'])
    assert.equal(loopback.status, 2)
    for (const [args, sentence] of [
      [['-c', '1'], /--to an address/],
      [['--to', 'nonsense', '-c', '1'], /'nonsense' is invalid\. Use an IPv4 or IPv6 address/],
      [['--to', '10.255.255.1', '-c', '1'], /no neighbour 10\.255\.255\.1/],
      [['--to', lab.b.ipv4, '-s', '59', '-c', '1'], /59 bytes cannot be made/],
      [['--to', lab.b.ipv4, '-r', 'quick', '-c', '1'], /250k or 1\.5M/],
      [['--to', lab.b.ipv4, '-r', '5', '--by', 'kernel', '-c', '1'], /as few as 5/],
      [['--to', lab.b.ipv4, '-f', '0', '-c', '1'], /whole number from 1/],
      [['--to', lab.b.ipv4, '--to-mac', lab.b.mac, '-q', '0', '-c', '1'], /by no queue.*--by socket/],
    ] as const) {
      const { status, stderr } = await xdp(['generate', lab.a.interface, ...args])
      assert.match(stderr, sentence)
      assert.equal(status, 2, stderr)
    }
    assert.equal((await run([...XDP, 'measure', 'no-such-if'])).status, 1)
  })
})
