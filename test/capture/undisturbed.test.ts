// A capture that copies leaves the traffic alone: no TCP segment is lost or late, every ping is answered, in order.
// What would disturb it, the same capture as `divert`, is there to show that the counters see it.
import assert from 'node:assert/strict'
import { suite, test, type TestContext } from 'node:test'
import { CaptureEngine } from '../../src/capture/engine.js'
import type { CaptureOptions } from '../../src/capture/engine-options.js'
import { isInstalled } from '../../src/kernel/index.js'
import type { EndId, Lab } from '../../src/lab/index.js'
import { burst } from '../cli/xdp.js'
import { iperfClient, iperfServer } from '../support/iperf.js'
import { createTestLab, needsRoot } from '../support/lab.js'
import { until } from '../support/xsk.js'

const PINGS = 25
/** What is under way at a time fits into the rings of a cable, however long a busy machine leaves it there. */
const WINDOW = ['-w', '256K']
/** With rings of its own: otherwise packets wait in a queue that a processor has for all of the machine's cables. */
const LAB = { napi: true } as const

type Counters = Record<string, number>

/** The kernel's counters of a namespace: `Tcp.OutSegs`, `TcpExt.TCPOFOQueue`, … */
async function countersAt(lab: Lab, end: EndId): Promise<Counters> {
  const { stdout } = await lab.exec(end, 'cat', ['/proc/net/snmp', '/proc/net/netstat'])
  const lines = stdout.trim().split('\n')
  const counters: Counters = {}
  for (let i = 0; i + 1 < lines.length; i += 2) {
    const [table, ...names] = lines[i].split(' ')
    const values = lines[i + 1].split(' ').slice(1)
    names.forEach((name, at) => (counters[table.replace(':', '.') + name] = Number(values[at])))
  }
  return counters
}

/**
 * States of connections of which nothing is on its way (include/net/tcp_states.h): FIN_WAIT2, TIME_WAIT, CLOSE_WAIT, LISTEN.
 * iperf3's server forgets to close one now and then.
 */
const QUIET = ['05', '06', '08', '0A']

/** Those of both ends once nothing is under way: no connection is being opened, used or closed, and nothing is counted any more. */
async function settledCounters(lab: Lab): Promise<Record<EndId, Counters>> {
  const deadline = performance.now() + 60_000
  for (let before = ''; ;) {
    const [a, b] = [await countersAt(lab, 'a'), await countersAt(lab, 'b')]
    let now = JSON.stringify([tcpOf(a), tcpOf(b)])
    for (const end of ['a', 'b'] as const) {
      const { stdout } = await lab.exec(end, 'cat', ['/proc/net/tcp', '/proc/net/tcp6'])
      const states = [...stdout.matchAll(/^ *\d+: \S+ \S+ (\S\S) /gm)].map(([, state]) => state)
      if (states.every((state) => QUIET.includes(state))) continue
      now = ''
      assert.ok(performance.now() < deadline, `connections of end ${end} do not come to an end:\n${stdout}`)
    }
    if (now !== '' && now === before) return { a, b }
    before = now
  }
}

const tcpOf = (counters: Counters) =>
  ['OutSegs', 'RetransSegs', 'InSegs'].map((name) => counters[`Tcp.${name}`])

/** The sequence numbers of the answers to pings, as they came. */
async function pings(lab: Lab, address: string, version: 4 | 6): Promise<number[]> {
  const { stdout } = await lab.exec('b', 'ping', [`-${version}`, '-n', ...burst(PINGS), address])
  return [...stdout.matchAll(/icmp_seq=(\d+)/g)].map(([, number]) => Number(number))
}

/** What became of traffic in both directions while something captures at end a, or nothing does. */
interface Outcome {
  /** TCP segments, those that were sent again too, that left an end and never came to the other. */
  lost: { toA: number; toB: number }
  /** Segments that came to end a before one that was sent earlier: a loss or a change of order on the way. */
  outOfOrder: number
  /** Of end b. On a busy machine TCP also sends again what was only late to be acknowledged. */
  retransmitted: number
  /** Those that it sent again because the other end told it of a gap. */
  missed: number
  ping4: number[]
  ping6: number[]
}

async function traffic(lab: Lab): Promise<Outcome> {
  const before = await settledCounters(lab)
  const [ping4, ping6] = await Promise.all([
    pings(lab, lab.a.ipv4, 4),
    pings(lab, lab.a.ipv6!, 6),
    (async () => {
      await iperfClient(lab, 'b', lab.a.ipv4, '-n', '6M', ...WINDOW)
      await iperfClient(lab, 'b', lab.a.ipv4, '-n', '2M', '-R', ...WINDOW)
    })(),
  ])
  const after = await settledCounters(lab)
  const grown = (end: EndId, name: string): number => {
    assert.ok(name in after[end], `the kernel counts ${name}`)
    return after[end][name] - before[end][name]
  }
  return {
    lost: {
      toA: grown('b', 'Tcp.OutSegs') + grown('b', 'Tcp.RetransSegs') - grown('a', 'Tcp.InSegs'),
      toB: grown('a', 'Tcp.OutSegs') + grown('a', 'Tcp.RetransSegs') - grown('b', 'Tcp.InSegs'),
    },
    outOfOrder: grown('a', 'TcpExt.TCPOFOQueue'),
    retransmitted: grown('b', 'Tcp.RetransSegs'),
    missed: grown('b', 'TcpExt.TCPFastRetrans') + grown('b', 'TcpExt.TCPSackRecovery'),
    ping4,
    ping6,
  }
}

const ALL = Array.from({ length: PINGS }, (_, i) => i + 1)
const UNDISTURBED = { lost: { toA: 0, toB: 0 }, outOfOrder: 0, missed: 0, ping4: ALL, ping6: ALL }

async function capture(t: TestContext, lab: Lab, options: Partial<CaptureOptions>) {
  const { interface: name, namespace } = lab.a
  const engine = await CaptureEngine.open({ interface: name, namespace, ...options })
  t.after(() => engine.close())
  let packets = 0
  engine.start({ packet: () => void packets++ })
  return { engine, packets: () => packets }
}

const needs = needsRoot || (!isInstalled('iperf3') && 'iperf3 is not installed')

suite('traffic under a capture', { skip: needs }, () => {
  for (const [what, options] of [
    ['mirror, native', { mode: 'mirror', xdpMode: 'native' }],
    ['mirror, generic', { mode: 'mirror', xdpMode: 'generic' }],
    ['packet', { mode: 'packet' }],
  ] as const) {
    test(`${what}: TCP loses no segment either way, every ping is answered, as without`, async (t) => {
      const lab = createTestLab(t, LAB)
      await iperfServer(t, lab, 'a')
      const without = await traffic(lab)
      const { engine, packets } = await capture(t, lab, options)
      const first = lab.stats().a.rxPackets
      const beside = await traffic(lab)
      // It did look at all of that. Elsewhere than in native mode it sees what the kernel has put together (GRO).
      const arrived = lab.stats().a.rxPackets - first
      const least = what === 'mirror, native' ? arrived : 2 * PINGS
      const seen = () => {
        const { dropped } = engine.stats()
        return packets() + dropped.ring + dropped.kernel
      }
      await until('all that came was seen or counted as missed', () => seen() >= least)
      t.diagnostic(JSON.stringify({ without, beside }))
      for (const { lost, outOfOrder, missed, ping4, ping6 } of [without, beside])
        assert.deepEqual({ lost, outOfOrder, missed, ping4, ping6 }, UNDISTURBED)
    })
  }

  test('a capture that takes one packet of 256 shows in every one of these counts', async (t) => {
    const lab = createTestLab(t, LAB)
    await iperfServer(t, lab, 'a')
    // By the identification of IPv4, which a segment that is sent again does not have again; and one ping of each kind.
    const filter = 'tcp and greater 1000 and ip[5] = 66 or icmp[7] = 7 or icmp6[7] = 7'
    const { packets } = await capture(t, lab, { mode: 'divert', filter })
    const { lost, outOfOrder, retransmitted, missed, ping4, ping6 } = await traffic(lab)
    assert.ok(lost.toA > 0 && outOfOrder > 0 && retransmitted > 0 && missed > 0)
    assert.ok(!ping4.includes(7) && !ping6.includes(7))
    assert.ok(packets() > 0)
  })
})
