// Capturing into a file on a veth pair: what a packet costs beside tcpdump and dumpcap, what is lost, what the sender feels.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { Lab } from '../src/lab/index.js'
import { CaptureProcess, countByLength, presentSubjects, type Subject } from './capture-subjects.js'
import { throughputFigures } from './capture-throughput.js'
import { median, type Figure, type Section } from './figures.js'
import { Generator } from './processes.js'

export interface CaptureBenchOptions {
  rounds: number
  say: (line: string) => void
}

/** `packets` of `size` bytes, a size that no other load has: it tells their packets apart in the file. */
interface Load {
  name: string
  packets: number
  size: number
  /** A second; 0 for as fast as the generator goes. */
  rate: number
}

const LOADS: readonly Load[] = [
  { name: '60 bytes, 100 k/s', packets: 200e3, size: 60, rate: 100e3 },
  { name: '60 bytes, 300 k/s', packets: 600e3, size: 62, rate: 300e3 },
  { name: '60 bytes, flat out', packets: 1e6, size: 64, rate: 0 },
  { name: '1400 bytes, 100 k/s', packets: 150e3, size: 1400, rate: 100e3 },
  { name: '1400 bytes, 300 k/s', packets: 300e3, size: 1402, rate: 300e3 },
  { name: '1400 bytes, flat out', packets: 300e3, size: 1404, rate: 0 },
]
/** Enough for V8 to have compiled what runs, which takes seconds: a capture runs for longer. */
const WARM_UP = { packets: 1.2e6, size: 66, rate: 200e3 }
/** Time for packets to come through, and for buffers to be written: they are the packets' cost too. */
const SETTLE_MS = 400
const CAPTURE_CPU = 0
const GENERATOR_CPU = 1
const NOBODY = 'nobody'

/** One load, one capture. */
interface Sample {
  /** Of the sender: packets a second. */
  rate: number
  captured: number
  /** Nanoseconds a captured packet. */
  cpu: number
}

/** A round of a subject: its samples by the names of loads, and the most memory it had. */
interface Run {
  samples: Map<string, Sample>
  resident: number
}

export async function benchCapture({ rounds, say }: CaptureBenchOptions): Promise<Section> {
  const { subjects, missing } = presentSubjects()
  const runs = new Map<string, Run[]>([NOBODY, ...subjects.map(({ name }) => name)].map((name) => [name, []]))
  // Where captures go: a disk's file system, mostly. What the disk itself takes is nobody's CPU.
  const directory = mkdtempSync(join(tmpdir(), 'node-xdp-bench-'))
  const lab = Lab.create()
  const clean = () => {
    lab.down()
    rmSync(directory, { recursive: true, force: true })
  }
  const stop = () => {
    clean()
    process.exit(1)
  }
  process.once('SIGINT', stop).once('SIGTERM', stop)
  try {
    // Without an address the host has no use for the packets, and answers none.
    await lab.exec('a', 'ip', ['address', 'flush', 'dev', lab.a.interface])
    const generator = await Generator.start(lab, GENERATOR_CPU)
    for (let round = 0; round < rounds; round++) {
      for (const [name, list] of runs) {
        say(`capture: round ${round + 1} of ${rounds}, ${name}`)
        const subject = subjects.find((subject) => subject.name === name)
        list.push(await runOnce(lab, generator, subject, join(directory, `capture.${subject?.extension}`)))
      }
    }
    await generator.close()
  } finally {
    clean()
    process.off('SIGINT', stop).off('SIGTERM', stop)
  }
  const throughput = await throughputFigures(subjects, rounds, say)
  return {
    title: 'Capturing into a file on a veth pair (to be read: CPU a captured packet)',
    figures: [
      ...LOADS.flatMap((load) => figuresOf(load, runs)),
      ...memoryFigures(subjects, runs),
      ...throughput.figures,
    ],
    notes: [
      ...missing,
      ...throughput.notes,
      `Files are in ${tmpdir()}; TMPDIR says where else, /dev/shm for memory. The kernel puts packets into rings in the time of whoever sends; the CPU is that of the capturing process: all threads, user and system.`,
      'Files are pcap as tcpdump writes it, 16 bytes beside each packet; pcapng has 32 there, and that of node-xdp 80: queue, verdict and number.',
    ],
  }
}

async function runOnce(
  lab: Lab,
  generator: Generator,
  subject: Subject | undefined,
  file: string,
): Promise<Run> {
  const capture = subject && (await CaptureProcess.start(lab, CAPTURE_CPU, subject, file))
  const runs: { load: Load; rate: number; cpu: number }[] = []
  await generator.send(WARM_UP)
  await delay(SETTLE_MS)
  for (const load of LOADS) {
    const before = capture?.cpu ?? 0
    const { packets, seconds } = await generator.send(load)
    await delay(SETTLE_MS)
    runs.push({ load, rate: packets / seconds, cpu: (capture?.cpu ?? 0) - before })
  }
  const resident = capture?.maxResident ?? 0
  await capture?.end()
  const counts = capture ? await countByLength(file) : new Map<number, number>()
  rmSync(file, { force: true })
  const samples = runs.map(({ load, rate, cpu }): [string, Sample] => {
    const captured = counts.get(load.size) ?? 0
    return [load.name, { rate, captured, cpu: (cpu * 1e9) / captured }]
  })
  return { samples: new Map(samples), resident }
}

/** What CPU a packet may cost, in that of tcpdump. */
const GOALS: Record<string, number> = {
  'node-xdp, mirror': 1,
  'node-xdp, packet': 1,
  'node-xdp, divert': 0.5,
}

function figuresOf({ name, packets, rate }: Load, runs: Map<string, Run[]>): Figure[] {
  const figures: Figure[] = []
  const of = (subject: string) => (runs.get(subject) ?? []).map(({ samples }) => samples.get(name)!)
  for (const subject of runs.keys()) {
    const samples = of(subject)
    const by = `median of ${samples.length}`
    const sent = { name: `${name}: sent`, subject, value: median(samples.map(({ rate }) => rate)) }
    if (rate === 0) figures.push({ ...sent, unit: 'packets/s', source: `generator, ${by}` })
    if (subject === NOBODY) continue
    const lost = { name: `${name}: lost`, subject, unit: '%', ...(rate > 0 && { target: 0 }) }
    figures.push(
      {
        name: `${name}: CPU`,
        subject,
        value: median(samples.map(({ cpu }) => cpu)),
        unit: 'ns/packet',
        source: `/proc/PID/task/*/schedstat over packets in the file, ${by}`,
      },
      {
        ...lost,
        value: (1 - median(samples.map(({ captured }) => captured)) / packets) * 100,
        source: `${packets} sent less those in the file, ${by}`,
      },
    )
    const theirs = of('tcpdump')
    if (!(subject in GOALS) || theirs.length === 0) continue
    figures.push({
      name: `${name}: CPU ratio`,
      subject: `${subject} / tcpdump`,
      value: median(samples.map(({ cpu }, round) => cpu / theirs[round].cpu)),
      unit: 'times',
      target: GOALS[subject],
      source: `a round's two captures, ${by}`,
    })
  }
  return figures
}

/** Beside the buffers that were asked for. */
const MOST_MEMORY = 80 * 2 ** 20

function memoryFigures(subjects: readonly Subject[], runs: Map<string, Run[]>): Figure[] {
  return subjects.map(({ name, buffers }) => ({
    name: 'memory at most',
    subject: name,
    value: Math.max(...(runs.get(name) ?? []).map(({ resident }) => resident)),
    unit: 'bytes',
    ...(buffers !== undefined && { target: MOST_MEMORY + buffers }),
    source: 'VmHWM of /proc/PID/status, of all rounds',
  }))
}
