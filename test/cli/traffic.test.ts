// xdp pong and xdp drop on a lab's interface, asked by the system's ping from the other namespace.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { queryXdp } from '../../src/bpf/index.js'
import { deleteLink } from '../../src/kernel/netlink/index.js'
import { createTestLab, needsRoot } from '../support/lab.js'
import { burst, startXdp, xdp, xdpOk } from './xdp.js'

// printf("%-12s %'11lld pkts (%'10.0f pps) %'11lld Kbytes (%'6.0f Mbits/s) period:%f\n") of the tutorial's af_xdp_user.c
const counters = String.raw`[ \d,]{10}\d pkts \([ \d,]{9}\d pps\) [ \d,]{10}\d Kbytes \([ \d,]{5}\d Mbits\/s\) period:\d+\.\d{6}`
const BLOCKS = new RegExp(String.raw`^(?:AF_XDP RX:   ${counters}\n       TX:   ${counters}\n\n)+$`)

/** The packet counts in the last two lines. */
function lastCounts(stdout: string): { rx: number; tx: number } {
  const last = (label: string) => {
    const lines = [...stdout.matchAll(new RegExp(`^ *(?:AF_XDP )?${label}: +([\\d,]+) pkts`, 'gm'))]
    return Number(lines.at(-1)?.[1].replaceAll(',', ''))
  }
  return { rx: last('RX'), tx: last('TX') }
}

describe('xdp pong', { skip: needsRoot }, () => {
  for (const mode of ['native', 'generic'] as const) {
    it(`answers ping without loss in ${mode} mode, and leaves nothing`, async (t) => {
      const lab = createTestLab(t, { isolated: false, queues: 2 })
      const pong = await startXdp(
        t,
        ['pong', lab.name, '--mode', mode, '--interval', '0.1'],
        /^xdp: answering for .*\n/,
      )
      assert.deepEqual(
        queryXdp(lab.name).map((program) => [program.name, program.mode, program.kind]),
        [['xdp_pong', mode, 'link']],
      )
      for (const version of ['-4', '-6']) {
        const ping = await xdpOk('lab', 'ping', lab.name, version, '--', ...burst(10))
        assert.match(ping, /10 packets transmitted, 10 received, 0% packet loss/)
      }
      const { status, stdout, stderr } = await pong.stop()
      assert.equal(status, 0)
      assert.match(stdout, BLOCKS)
      const { rx, tx } = lastCounts(stdout)
      assert.ok(rx >= 20 && tx >= 20, stdout)
      const [greeting, summary, ...more] = stderr.trimEnd().split('\n')
      assert.ok(
        greeting.startsWith(`xdp: answering for ${lab.a.ipv4}, ${lab.a.ipv6} on ${lab.name}, queues 0, 1: `),
      )
      assert.match(greeting, new RegExp(`in ${mode} mode by link, packets by copy$`))
      assert.match(summary, /^xdp: answered 10 IPv4 and 10 IPv6 pings, /)
      assert.deepEqual(more, [])
      assert.deepEqual(queryXdp(lab.name), [])
    })
  }

  it('passes what is not for it to the kernel', async (t) => {
    const lab = createTestLab(t, { isolated: false })
    const pong = await startXdp(t, ['pong', lab.name], /^xdp: answering for .*\n/)
    // Nobody listens: the refusal comes from the kernel at end a.
    const nobody = `const s = require('dgram').createSocket('udp4')
      s.connect(9, '${lab.a.ipv4}', () => { s.once('error', (e) => { console.log(e.code); s.close() }); s.send('x') })`
    assert.equal(await xdpOk('lab', 'exec', lab.name, '--', process.execPath, '-e', nobody), 'ECONNREFUSED\n')
    assert.match((await pong.stop()).stderr, /answered 0 IPv4 and 0 IPv6 pings/)
  })
})

describe('xdp drop', { skip: needsRoot }, () => {
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    it(`eats every packet, counts them as the tutorial does, and ends well by ${signal}`, async (t) => {
      const lab = createTestLab(t, { isolated: false })
      const drop = await startXdp(
        t,
        ['drop', lab.name, '--interval', '0.1'],
        /^xdp: dropping everything .*\n/,
      )
      const ping = await xdp(['lab', 'ping', lab.name, '-4', '--', '-c', '3', '-i', '0.02', '-W', '0.2'])
      assert.equal(ping.status, 1)
      assert.match(ping.stdout, /3 packets transmitted, 0 received, 100% packet loss/)
      await drop.waitFor('stdout', / 3 pkts /)
      const { status, stdout, stderr } = await drop.stop(signal)
      assert.equal(status, 0)
      assert.match(stdout, BLOCKS)
      assert.deepEqual(lastCounts(stdout), { rx: 3, tx: 0 })
      assert.match(
        stderr,
        new RegExp(`^xdp: dropping everything that arrives on ${lab.name}, queue 0: .*\n$`),
      )
      assert.deepEqual(queryXdp(lab.name), [])
    })
  }

  it('prints an object a line with --json', async (t) => {
    const lab = createTestLab(t, { isolated: false })
    const drop = await startXdp(
      t,
      ['drop', lab.name, '--json', '-i', '0.1'],
      /^xdp: dropping everything .*\n/,
    )
    await xdp(['lab', 'ping', lab.name, '-6', '--', '-c', '3', '-i', '0.02', '-W', '0.2'])
    await drop.waitFor('stdout', /"packets":3\b/)
    const { status, stdout } = await drop.stop()
    assert.equal(status, 0)
    assert.ok(stdout.endsWith('}\n'))
    const lines = stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as { time: string; period: number; rx: Record<string, number> })
    const last = lines.at(-1)!
    assert.equal(last.rx['packets'], 3)
    assert.equal(last.rx['bytes'], 3 * (14 + 40 + 8 + 56))
    for (const line of lines) {
      assert.deepEqual(Object.keys(line), Object.keys(last))
      assert.equal(new Date(line.time).toISOString(), line.time)
      assert.ok(line.period > 0)
    }
  })
})

describe('an interface that goes away', { skip: needsRoot }, () => {
  for (const [command, ...options] of [['pong'], ['pong', '--interval', '0.05'], ['drop']]) {
    it(`ends xdp ${[command, ...options].join(' ')} with one sentence`, async (t) => {
      const lab = createTestLab(t, { isolated: false })
      const running = await startXdp(t, [command, lab.name, ...options], /^xdp: .*\n/)
      deleteLink(lab.name)
      const { status, stderr } = await running.end
      assert.equal(status, 1)
      const lines = stderr.trimEnd().split('\n').slice(1)
      assert.equal(lines.length, 1, stderr)
      assert.match(lines[0], /^xdp: .*(?:ENXIO|ENODEV|ENETDOWN|No interface).*\. /)
    })
  }
})
