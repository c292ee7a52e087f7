// xdp lab as a user goes through it, from up to down, with the system's own tools at the ends.
import assert from 'node:assert/strict'
import { describe, it, type TestContext } from 'node:test'
import { listInterfaces } from '../../src/kernel/interfaces.js'
import { Namespace } from '../../src/kernel/index.js'
import { Lab } from '../../src/lab/index.js'
import { createTestLab, needsRoot, uniqueName } from '../support/lab.js'
import { Running, XDP, burst, run, startOnTerminal, xdp, xdpJson, xdpOk } from './xdp.js'

interface LabStatus {
  name: string
  complete: boolean
  isolated: boolean | null
  processes: number[]
  ends: {
    end: string
    interface: string
    namespace: string | null
    ipv4: string
    ipv6: string | null
    queues: number
    mtu: number
    up: boolean
    programs: { name: string; mode: string; kind: string }[]
  }[]
}

type Counters = Record<'a' | 'b', Record<string, number>>

/** A name for a lab made by the command, gone when the test ends. */
function labName(t: TestContext): string {
  const name = uniqueName('c')
  t.after(() => Lab.remove(name))
  return name
}

const traces = (name: string): string[] => [
  ...Namespace.list().filter((namespace) => namespace.includes(name)),
  ...listInterfaces()
    .map((link) => link.name)
    .filter((link) => link === name),
]

async function statusOf(name: string): Promise<LabStatus> {
  const labs = await xdpJson<LabStatus[]>('lab', 'status', name)
  assert.deepEqual(
    labs.map((lab) => lab.name),
    [name],
  )
  return labs[0]
}

async function statsOf(name: string): Promise<Counters> {
  return (await xdpJson<{ ends: Counters }>('lab', 'stats', name)).ends
}

describe('xdp lab', { skip: needsRoot }, () => {
  it('goes from up to down', async (t) => {
    const name = labName(t)
    const up = await xdpOk('lab', 'up', name, '--queues', '2', '--mtu', '3000')
    const lab = await statusOf(name)
    const [a, b] = lab.ends
    for (const text of [name, a.ipv4, b.ipv4, a.ipv6!, b.ipv6!, `xdp pong ${name}`])
      assert.ok(up.includes(text), up)
    assert.deepEqual([lab.complete, lab.isolated, lab.processes], [true, false, []])
    assert.deepEqual(
      [a.interface, a.namespace, b.interface, b.namespace],
      [name, null, 'veth-b', `xdp-${name}-b`],
    )
    for (const end of lab.ends) assert.deepEqual([end.queues, end.mtu, end.up], [2, 3000, true])
    const table = await xdpOk('lab', 'status', name)
    assert.match(table, new RegExp(`^LAB +END +INTERFACE .*\n${name} +a +${name} .*\n +b +veth-b .*\n$`))

    for (const [arguments_, target] of [
      [[], a.ipv6],
      [['-4'], a.ipv4],
      [['-6', '-e', 'a'], b.ipv6],
      [['-4', '--end', 'a'], b.ipv4],
    ] as const) {
      const ping = await xdpOk('lab', 'ping', name, ...arguments_, '--', ...burst(4))
      assert.ok(ping.startsWith(`PING ${target}`), ping)
      assert.match(ping, /4 packets transmitted, 4 received, 0% packet loss/)
    }
    const stats = await statsOf(name)
    assert.ok(stats.a['rxPackets'] >= 16 && stats.b['rxPackets'] >= 16, JSON.stringify(stats))
    assert.equal(stats.a['rxPackets'], stats.b['txPackets'])
    assert.match(
      await xdpOk('lab', 'stats', name),
      new RegExp(`^END +INTERFACE +RX PACKETS .*\na +${name} .*\nb +veth-b .*\n$`),
    )

    assert.match(
      await xdpOk('lab', 'load', name, 'drop'),
      /^program \d+ "xdp_drop" runs on .* in native mode\n$/,
    )
    assert.match(
      await xdpOk('lab', 'load', name, '-e', 'b', '-m', 'generic'),
      /"xdp_redirect" .* in generic mode\n$/,
    )
    const programs = (await statusOf(name)).ends.map((end) =>
      end.programs.map(({ name, mode, kind }) => [name, mode, kind]),
    )
    assert.deepEqual(programs, [
      [['xdp_drop', 'native', 'netlink']],
      [['xdp_redirect', 'generic', 'netlink']],
    ])
    const lost = await xdp(['lab', 'ping', name, '--', '-c', '2', '-i', '0.02', '-W', '0.2'])
    assert.equal(lost.status, 1)
    assert.match(lost.stdout, /2 packets transmitted, 0 received, 100% packet loss/)
    assert.match(
      await xdpOk('lab', 'unload', name),
      /^took program \d+ "xdp_drop" \(native, by netlink\) off /,
    )
    assert.match(await xdpOk('lab', 'unload', name), /^no XDP program attached to /)
    // What arrives on a queue without a socket reaches the kernel: the redirecting program is still at end b.
    await xdpOk('lab', 'ping', name, '--', ...burst(2))

    await xdpOk('lab', 'reset', name)
    const anew = await statusOf(name)
    assert.deepEqual(
      anew.ends.map(({ programs, queues, mtu, ipv4, ipv6 }) => ({ programs, queues, mtu, ipv4, ipv6 })),
      lab.ends.map(({ queues, mtu, ipv4, ipv6 }) => ({ programs: [], queues, mtu, ipv4, ipv6 })),
    )
    assert.ok((await statsOf(name)).a['rxPackets'] < 16)

    assert.equal(await xdpOk('lab', 'down', name), `The lab ${name} is gone.\n`)
    assert.deepEqual(traces(name), [])
  })

  it('takes networks, and gives both ends namespaces on request', async (t) => {
    const name = labName(t)
    await xdpOk('lab', 'up', name, '--isolated', '--ipv4', '192.0.2.0/29', '--ipv6', '2001:db8::/64')
    const { isolated, ends } = await statusOf(name)
    assert.equal(isolated, true)
    assert.deepEqual(
      ends.map(({ ipv4, ipv6, namespace }) => [ipv4, ipv6, namespace]),
      [
        ['192.0.2.1', '2001:db8::1', `xdp-${name}-a`],
        ['192.0.2.2', '2001:db8::2', `xdp-${name}-b`],
      ],
    )
    assert.ok(listInterfaces().every((link) => link.name !== name))
    await xdpOk('lab', 'ping', name, '--', ...burst(2))
    await xdpOk('lab', 'down', name)
    assert.deepEqual(traces(name), [])
  })

  it('means xdplab0 when no lab is named, and shows and removes all on request', async () => {
    // In a network and a /run/netns of its own, as there may be another xdplab0 on this machine.
    const script = `
      set -e
      mount -t tmpfs none /run/netns
      xdp() { "${XDP[0]}" "${XDP[1]}" "$@"; }
      test "$(xdp lab status)" = "no lab; make one with \\\`xdp lab up\\\`"
      test "$(xdp lab status --json)" = "[]"
      xdp lab up
      xdp lab ping -- -c 1 -W 5
      xdp lab exec -- ip -o link show veth-b
      xdp lab up other --isolated
      test "$(xdp lab status --json | grep -c '"complete": true')" = 2
      xdp lab down --all
      test "$(ls /run/netns)" = ""
      test "$(ip -o link | grep -c veth)" = 0
      test "$(xdp lab down --all)" = "no lab to remove"
      echo done`
    const result = await run(['unshare', '--mount', '--net', 'sh', '-c', script])
    assert.equal(result.status, 0, result.stdout + result.stderr)
    assert.match(result.stdout, /^The lab xdplab0 is up\.\n/)
    assert.match(result.stdout, / 0% packet loss/)
    assert.match(result.stdout, /\nThe lab other is gone\.\nThe lab xdplab0 is gone\.\n(?:.*\n)*done\n$/)
    assert.equal(result.stderr, '')
  })

  it('removes what a crash left, and says so when a lab is not whole', async (t) => {
    const name = labName(t)
    await xdpOk('lab', 'up', name, '--isolated')
    Namespace.remove(`xdp-${name}-b`)
    assert.deepEqual(await statusOf(name), { name, complete: false, isolated: null, processes: [], ends: [] })
    assert.match(
      await xdpOk('lab', 'status', name),
      new RegExp(`^${name} is not whole: .*xdp lab down ${name}`),
    )
    await xdpOk('lab', 'down', name)
    assert.deepEqual(traces(name), [])
  })

  it('runs commands at an end, and ends as they end', async (t) => {
    const lab = createTestLab(t, { isolated: false })
    const exec = (...words: string[]) => xdp(['lab', 'exec', lab.name, ...words])
    assert.deepEqual(await exec('--', 'sh', '-c', 'echo out; echo err >&2; exit 7'), {
      status: 7,
      signal: null,
      stdout: 'out\n',
      stderr: 'err\n',
    })
    assert.match((await exec('--', 'ip', '-o', 'link')).stdout, /: veth-b@/)
    assert.match((await exec('-e', 'a', '--', 'ip', '-o', 'link')).stdout, new RegExp(`: ${lab.name}@`))
    assert.equal((await exec('--', 'ls', '/sys/class/net')).stdout.includes('veth-b'), true)
    for (const end of ['a', 'b']) {
      const { status, stdout, stderr } = await exec('-e', end, '--', 'no-such-command')
      assert.equal(status, 127)
      assert.equal(stdout, '')
      assert.equal(stderr, `xdp: there is no command no-such-command to run at end ${end}\n`)
    }
    // Words behind the dashes are never options of ours.
    assert.equal(
      (await exec('--', 'echo', '--', '-e', '--json', '--debug', '-h')).stdout,
      '-- -e --json --debug -h\n',
    )
    const killed = await exec('--', 'sh', '-c', 'kill -KILL $$')
    assert.equal(killed.status, 128 + 9)
  })

  it('passes signals on to the command, and stays up', async (t) => {
    const lab = createTestLab(t, { isolated: false })
    for (const [signal, status] of [
      ['SIGTERM', 128 + 15],
      ['SIGHUP', 128 + 1],
      ['SIGINT', 128 + 2],
    ] as const) {
      // In a session of its own, and so without a terminal.
      const args = [XDP[1], 'lab', 'exec', lab.name, '--', 'sh', '-c', 'echo ready; exec sleep 1000']
      const running = new Running(XDP[0], args, { detached: true })
      t.after(() => running.child.kill('SIGKILL'))
      await running.waitFor('stdout', /ready/)
      assert.equal((await running.stop(signal)).status, status)
      assert.deepEqual((await statusOf(lab.name)).processes, [])
    }
    assert.equal((await statusOf(lab.name)).complete, true)
  })

  it('leaves Ctrl-C to the command', async (t) => {
    const lab = createTestLab(t, { isolated: false })
    // A shell that counts the interrupts it gets, on a terminal, until it is told to quit.
    const counter = [
      'trap "n=\\$((n+1)); echo got \\$n" INT; echo ready',
      'while [ "$line" != quit ]; do read line; done; echo "interrupts: $n"; exit 3',
    ].join('; ')
    const terminal = startOnTerminal(t, ['lab', 'exec', lab.name, '--', 'sh', '-c', counter])
    await terminal.waitFor('stdout', /ready/)
    for (let count = 1; count <= 3; count++) {
      terminal.child.stdin!.write('\x03')
      await terminal.waitFor('stdout', new RegExp(`got ${count}`))
    }
    terminal.child.stdin!.write('quit\n')
    const { status, stdout } = await terminal.end
    assert.match(stdout, /interrupts: 3\b/)
    assert.equal(status, 3)
    assert.equal((await statusOf(lab.name)).complete, true)
  })

  it('opens a shell at an end', async (t) => {
    const lab = createTestLab(t, { isolated: false })
    const { status, stdout, stderr } = await xdp(['lab', 'enter', lab.name], {
      input: 'echo "$XDP_LAB"; ip -o link show veth-b; exit 4\n',
      env: { ...process.env, SHELL: '/bin/sh' },
    })
    assert.equal(status, 4)
    assert.match(stdout, new RegExp(`^${lab.name}\n\\d+: veth-b@`))
    assert.match(stderr, new RegExp(`^xdp: end b of the lab ${lab.name}: veth-b, ${lab.b.ipv4}, `))
  })

  it('watches packets with tcpdump', async (t) => {
    const lab = createTestLab(t, { isolated: false })
    const args = [XDP[1], 'lab', 'tcpdump', lab.name, '--', '--immediate-mode', '-c', '2', 'icmp']
    const tcpdump = new Running(XDP[0], args, {})
    t.after(() => tcpdump.child.kill('SIGKILL'))
    await tcpdump.waitFor('stderr', /listening on veth-b/)
    await xdpOk('lab', 'ping', lab.name, '-4', '--', ...burst(2))
    const { status, stdout } = await tcpdump.end
    assert.equal(status, 0)
    const [first, second] = stdout.split('\n')
    assert.ok(first.includes(`IP ${lab.b.ipv4} > ${lab.a.ipv4}: ICMP echo request`), stdout)
    assert.ok(second.includes(`IP ${lab.a.ipv4} > ${lab.b.ipv4}: ICMP echo reply`), stdout)
  })

  it('shows counters again and again until it is stopped', async (t) => {
    const lab = createTestLab(t, { isolated: false })
    const args = [XDP[1], 'lab', 'stats', lab.name, '--json', '--interval', '0.05']
    const stats = new Running(XDP[0], args, {})
    t.after(() => stats.child.kill('SIGKILL'))
    await stats.waitFor('stdout', /\n.*\n.*\n/)
    const { status, stdout } = await stats.stop()
    assert.equal(status, 0)
    for (const line of stdout.trimEnd().split('\n')) {
      const object = JSON.parse(line) as { lab: string; ends: Counters }
      assert.equal(object.lab, lab.name)
      assert.ok(Object.values(object.ends).every((end) => Number.isInteger(end['rxPackets'])))
    }
  })

  it('says how to install what is missing', async (t) => {
    const lab = createTestLab(t, { isolated: false })
    // Nothing is installed where /usr and /sbin are empty but for the command itself.
    const { status, stdout, stderr } = await xdp(['lab', 'ping', lab.name], {
      env: { ...process.env, PATH: '/nowhere' },
    })
    assert.deepEqual([status, stdout], [1, ''])
    assert.equal(
      stderr,
      'xdp: The command ping is not installed. Install it with `apt-get install iputils-ping`.\n',
    )
  })
})
