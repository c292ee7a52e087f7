// What a TCP transfer loses by being captured: iperf3 through a veth pair, watched by nobody and by each subject by turns.
import { CaptureProcess, type Subject } from './capture-subjects.js'
import { median, type Figure } from './figures.js'
import { isInstalled } from '../src/kernel/commands.js'
import { BpfProgram, asm, attachXdp } from '../src/bpf/index.js'
import { Lab } from '../src/lab/index.js'
import { onCpu } from './processes.js'

const NEEDS = ['iperf3', 'ethtool']
/** Of one transfer. */
const SECONDS = 2
/** Bits a second; 0 for as fast as it goes. */
const LOADS = [
  { name: 'TCP, 500 Mbit/s', rate: '500M' },
  { name: 'TCP, flat out', rate: '0' },
]
const CAPTURE_CPU = 0
const SENDER_CPU = 1
const NOBODY = 'nobody'
/** What of a capture by XDP is XDP's own: on a veth, each packet is put into other memory and passed on from there. */
const PASSING = 'nobody, an XDP program that passes'
// include/uapi/linux/bpf.h: enum xdp_action
const XDP_PASS = 2

/** Throughput with each of the subjects that leave packets to the host, and without; a note where that cannot be had. */
export async function throughputFigures(
  subjects: readonly Subject[],
  rounds: number,
  say: (line: string) => void,
): Promise<{ figures: Figure[]; notes: string[] }> {
  const missing = NEEDS.filter((name) => !isInstalled(name))
  if (missing.length > 0)
    return { figures: [], notes: missing.map((name) => `No ${name}; TCP's throughput needs it.`) }
  const watching = subjects.filter(({ name }) => !name.includes('divert'))
  const rates = new Map<string, number[][]>(
    [NOBODY, PASSING, ...watching.map(({ name }) => name)].map((name) => [name, LOADS.map(() => [])]),
  )
  const code = [asm.mov(asm.r0, XDP_PASS), asm.exit()]
  const passing = BpfProgram.load({ type: 'xdp', name: 'bench_pass', code })
  const lab = Lab.create()
  const stop = () => {
    lab.down()
    process.exit(1)
  }
  process.once('SIGINT', stop).once('SIGTERM', stop)
  try {
    // An XDP program on a veth ends that its peer hands over many segments in one piece: nobody does.
    for (const end of ['a', 'b'] as const) {
      await lab.exec(end, 'ethtool', ['-K', lab[end].interface, 'tso', 'off', 'gso', 'off', 'gro', 'off'])
    }
    for (let round = 0; round < rounds; round++) {
      for (const [name, lists] of rates) {
        say(`capture: TCP, round ${round + 1} of ${rounds}, ${name}`)
        const subject = watching.find((subject) => subject.name === name)
        const capture = subject && (await CaptureProcess.start(lab, CAPTURE_CPU, subject, '/dev/null'))
        const { ifindex, namespace } = lab.a
        const attachment =
          name === PASSING ? attachXdp(passing, { interface: ifindex, namespace }) : undefined
        for (const [i, { rate }] of LOADS.entries()) lists[i].push(await transfer(lab, rate))
        attachment?.close()
        await capture?.end()
      }
    }
  } finally {
    passing.close()
    lab.down()
    process.off('SIGINT', stop).off('SIGTERM', stop)
  }
  const figures = LOADS.flatMap(({ name }, i) =>
    [...rates].map(([subject, lists]) => ({
      name,
      subject,
      value: median(lists[i]) / 1e6,
      unit: 'Mbit/s',
      source: `iperf3 at the receiver, without segmentation offload, captured to /dev/null, median of ${rounds}`,
    })),
  )
  return { figures, notes: [] }
}

/** Bits a second that arrived. */
async function transfer(lab: Lab, rate: string): Promise<number> {
  // It serves one client, and says when it can.
  const server = onCpu(CAPTURE_CPU, () =>
    lab.spawn('a', 'iperf3', ['-s', '-1', '--forceflush'], { stdio: ['ignore', 'pipe', 'ignore'] }),
  )
  await new Promise((resolve) => server.stdout?.once('data', resolve).once('end', resolve))
  const { stdout } = await onCpu(SENDER_CPU, () =>
    lab.exec('b', 'iperf3', ['-c', lab.a.ipv4, '-t', String(SECONDS), '-b', rate, '-J']),
  )
  const report = JSON.parse(stdout) as { error?: string; end: { sum_received: { bits_per_second: number } } }
  if (report.error !== undefined) throw new Error(`iperf3: ${report.error}`)
  return report.end.sum_received.bits_per_second
}
