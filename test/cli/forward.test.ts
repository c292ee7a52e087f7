// xdp forward between two labs of this machine's namespace, and back out of one, as a user runs it.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { queryXdp } from '../../src/bpf/index.js'
import { deleteLink, setNeighbour } from '../../src/kernel/netlink/index.js'
import type { Lab } from '../../src/lab/index.js'
import { parseIp, parseMac } from '../../src/packet/index.js'
import { LEFT, RIGHT, assertNoLoss, twoLabs } from '../forward/cable.js'
import { faultFrame } from '../forward/fault-stage.js'
import { createTestLab, needsRoot, uniqueName } from '../support/lab.js'
import { generatorAt } from '../support/xsk.js'
import { startXdp, xdp } from './xdp.js'

const MODULE = fileURLToPath(new URL('../forward/fault-stage.js', import.meta.url))
const NO_MODULE = fileURLToPath(new URL('./xdp.js', import.meta.url))

const READY = /^xdp: (?:forwarding between|sending back) .*\n/m

/** Two labs whose ends `a` are both here. */
const here = (t: Parameters<typeof twoLabs>[0]) => {
  const { left, right } = twoLabs(t, { isolated: false, queues: 2 })
  return { left, right, names: [left.name, right.name] }
}

const lastPackets = (stdout: string, from: string, to: string, label: 'RX' | 'TX') => {
  const counts = new RegExp(`^${from} -> ${to}\\n(?:.*\\n)?.*${label}: +([\\d,]+) pkts`, 'gm')
  return Number([...stdout.matchAll(counts)].at(-1)?.[1].replaceAll(',', ''))
}

describe('xdp forward', { skip: needsRoot }, () => {
  for (const options of [[], ['--mode', 'generic'], ['--preset', 'highThroughput'], ['--busy-poll']]) {
    it(`joins two interfaces ${options.join(' ')}, counts each way, and ends by Ctrl-C`, async (t) => {
      const { left, right, names } = here(t)
      const running = await startXdp(t, ['forward', ...names, '-i', '0.1', ...options], READY)
      for (const name of names)
        assert.deepEqual(
          queryXdp(name).map((program) => program.name),
          ['xdp_forward'],
        )
      await assertNoLoss(left, ['-c', '50', '-i', '0.005', RIGHT])
      await assertNoLoss(right, ['-c', '50', '-i', '0.005', LEFT])
      const { status, stdout, stderr } = await running.stop()
      assert.equal(status, 0, stderr)
      for (const [from, to] of [names, [...names].reverse()]) {
        const rx = lastPackets(stdout, from, to, 'RX')
        assert.ok(rx >= 100, stdout)
        assert.equal(lastPackets(stdout, from, to, 'TX'), rx)
        assert.match(
          stderr,
          new RegExp(`^xdp: forwarded ${rx} packets from ${from} to ${to}, dropped 0$`, 'm'),
        )
      }
      assert.match(
        stderr,
        new RegExp(`^xdp: forwarding between ${names[0]} and ${names[1]}: ${names[0]} queues 0, 1 in `, 'm'),
      )
      for (const name of names) assert.deepEqual(queryXdp(name), [])
    })
  }

  it('sends packets back out of one interface, with hardware addresses exchanged', async (t) => {
    const lab = createTestLab(t, { isolated: false })
    const running = await startXdp(t, ['forward', lab.name, '--json', '-i', '0.1'], READY)
    const before = lab.stats().b.rxPackets
    await lab.exec('b', 'ping', ['-c', '5', '-i', '0.01', '-W', '0.1', lab.a.ipv4])
    const { status, stdout } = await running.stop()
    assert.equal(status, 0)
    const last = JSON.parse(stdout.trimEnd().split('\n').at(-1)!) as Record<'from' | 'to', string> & {
      rx: { packets: number }
      tx: { packets: number }
    }
    assert.deepEqual([last.from, last.to, last.rx.packets, last.tx.packets], [lab.name, lab.name, 5, 5])
    assert.equal(lab.stats().b.rxPackets - before, 5)
  })

  it('gives packets the destinations it is told, and leaves what the filter does not match', async (t) => {
    const { left, right, names } = here(t)
    // Both ends believe that the other has the near end's address: only rewritten packets are taken.
    const believe = (lab: Lab, address: string) =>
      setNeighbour(lab.b.ifindex, { address: parseIp(address)!, mac: parseMac(lab.a.mac)! }, lab.b)
    believe(left, RIGHT)
    believe(right, LEFT)
    const options = ['--to', right.b.mac, '--back-to', left.b.mac, '--filter', 'icmp and net 10.99.0.0/24']
    const running = await startXdp(t, ['forward', ...names, ...options], READY)
    await assertNoLoss(left, ['-c', '10', '-i', '0.005', RIGHT])
    await assertNoLoss(left, ['-c', '10', '-i', '0.005', left.a.ipv4])
    const { stderr } = await running.stop()
    assert.match(stderr, /^xdp: forwarded 1[0-9] packets .*\nxdp: forwarded 1[0-9] packets .*\n$/m)
  })

  it('forwards what a program of the user gives to its sockets', async (t) => {
    const { left, right, names } = here(t)
    const know = (lab: Lab, address: string, mac: string) =>
      setNeighbour(lab.b.ifindex, { address: parseIp(address)!, mac: parseMac(mac)! }, lab.b)
    know(left, RIGHT, right.b.mac)
    know(right, LEFT, left.b.mac)
    const options = ['--program', 'redirect', '--filter', 'icmp and net 10.99.0.0/24']
    const running = await startXdp(t, ['forward', ...names, ...options], READY)
    await running.waitFor(
      'stderr',
      /between \w+ and \w+ what "redirect" takes and matches "icmp and net 10[^"]+": /,
    )
    for (const name of names) {
      const [program] = queryXdp(name)
      assert.notEqual(program.name, 'xdp_forward')
    }
    await assertNoLoss(left, ['-c', '10', '-i', '0.005', RIGHT])
    await assertNoLoss(left, ['-c', '10', '-i', '0.005', left.a.ipv4])
    const { stderr } = await running.stop()
    assert.match(stderr, /^xdp: forwarded 1[0-9] packets .*\nxdp: forwarded 1[0-9] packets .*\n$/m)
  })

  it('hands packets through the modules that it is given, each in a thread, and counts by stage', async (t) => {
    const { left, names } = here(t)
    const options = ['--stage', MODULE, '--stage', MODULE]
    const running = await startXdp(t, ['forward', ...names, '-i', '0.1', ...options], READY)
    await assertNoLoss(left, ['-c', '50', '-i', '0.005', RIGHT])
    const { status, stdout, stderr } = await running.stop()
    assert.equal(status, 0, stderr)
    const [from, to] = names
    const all = lastPackets(stdout, from, to, 'RX') + lastPackets(stdout, to, from, 'RX')
    assert.ok(all >= 100)
    const line = `fault-stage.js: ${all} packets, 0 dropped, 0 lost, 0 waiting\n`
    assert.ok(stdout.endsWith(`${line}${line}\n`), stdout)
    for (const name of names) assert.deepEqual(queryXdp(name), [])
  })

  it('says that a module has crashed, and ends with its error when it does so again and again', async (t) => {
    const { left, names } = here(t)
    const running = await startXdp(t, ['forward', ...names, '--json', '--stage', MODULE], READY)
    const generator = generatorAt(t, left.b)
    // One packet a thread is enough: five wait in the ring for those to come.
    generator.send(faultFrame(7, 'throw'), 6)
    const { status, stdout, stderr } = await running.end
    assert.equal(status, 1)
    assert.match(
      stderr,
      /^xdp: warning: fault-stage\.js has crashed and starts again in 100 ms: stage 0 cannot/m,
    )
    assert.match(
      stderr.trimEnd().split('\n').at(-1)!,
      /^xdp: A stage ended with RangeError: stage 0 cannot bear 7\. With --debug/,
    )
    assert.equal(stderr.match(/has crashed/g)?.length, 5, stdout)
    for (const name of names) assert.deepEqual(queryXdp(name), [])
  })

  it('ends with one sentence when an interface goes away', async (t) => {
    const { names } = here(t)
    const running = await startXdp(t, ['forward', ...names], READY)
    deleteLink(names[1])
    const { status, stderr } = await running.end
    assert.equal(status, 1)
    assert.match(stderr.trimEnd().split('\n').at(-1)!, /^xdp: .*(?:ENXIO|ENODEV|ENETDOWN|No interface).*\. /)
    assert.deepEqual(queryXdp(names[0]), [])
  })

  it('says what it cannot do', async (t) => {
    const { name } = createTestLab(t, { isolated: false })
    const cases: [args: string[], status: number, says: RegExp][] = [
      [[], 2, /missing required argument 'in'/],
      [[name, name], 2, /cannot be forwarded to itself\. To send packets back .* name it once/],
      [[name, uniqueName('no')], 1, /No interface /],
      [[name, 'lo'], 1, /lo is what the programs .*Add --take-traffic/],
      [[name, '--rewrite', 'all'], 2, /'all' is invalid\. Allowed choices are none, swap, source/],
      [[name, '--to', '02:00'], 2, /'02:00' is invalid\. Use a hardware address/],
      [[name, '--back-to', '02:00:00:00:00:01'], 2, /--back-to is for two interfaces.*\. Use --to/],
      [[name, '--to', '02:00:00:00:00:01', '--rewrite', 'swap'], 2, /contradict each other\. Leave one/],
      [[name, '--filter', 'tcp port'], 2, /tcp port\n/],
      [[name, '--program', 'no-such'], 2, /There is no program "no-such"/],
      [[name, '--program', 'pass'], 2, /gives no packets to sockets/],
      [[name, '--program', 'redirect', '--discovery', 'kernel'], 2, /decides what is forwarded, and so does/],
      [[name, '--set', 'port=53'], 2, /--set is about a program, and none was named/],
      [[name, '--stage', './no-such.js'], 2, /There is no such file/],
      [[name, '--stage', NO_MODULE], 1, /returned no stage\. Export a function/],
      [[name, '--queue', '7'], 2, /has no queue 7/],
    ]
    for (const [args, status, says] of cases) {
      const result = await xdp(['forward', ...args])
      assert.match(result.stderr, says)
      assert.equal(result.status, status, result.stderr)
    }
    assert.deepEqual(queryXdp(name), [])
  })
})
