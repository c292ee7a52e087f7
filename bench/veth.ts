// Receive, transmit and reflect on a veth pair: node-xdp and C on libxdp by turns, in one run on one link.
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { BpfProgram, asm, attachXdp } from '../src/bpf/index.js'
import { Lab } from '../src/lab/index.js'
import { median, type Figure, type Section } from './figures.js'
import { Generator, Measured } from './processes.js'
import type { ReceiverResult } from './receiver.js'
import { buildReference } from './reference.js'

export interface VethOptions {
  /** Measurements of each receiver at each job. */
  rounds: number
  say: (line: string) => void
}

/** A job, and what is sent to it: `packets` at about `rate` a second, 0 for as fast as the generator goes, after `warmUp` of them. */
interface Load {
  name: string
  job: 'rxdrop' | 'l2fwd' | 'txpush'
  packets: number
  rate: number
  warmUp: number
}

const SIZE = 60
// Before anything counts: enough for V8 to have compiled what runs, what runs once a batch included (queues-forward.ts).
const WARM_UP = 800e3
const WARM_UP_FLAT_OUT = 6e6
const LOADS: readonly Load[] = [
  { name: 'receive', job: 'rxdrop', packets: 3e6, rate: 0, warmUp: WARM_UP_FLAT_OUT },
  { name: 'receive, paced', job: 'rxdrop', packets: 1e6, rate: 400e3, warmUp: WARM_UP },
  { name: 'reflect', job: 'l2fwd', packets: 3e6, rate: 0, warmUp: WARM_UP_FLAT_OUT },
  { name: 'reflect, paced', job: 'l2fwd', packets: 300e3, rate: 100e3, warmUp: WARM_UP },
  { name: 'transmit', job: 'txpush', packets: 0, rate: 0, warmUp: 0 },
]
const TRANSMIT_MS = 2000
// Time for what is under way to arrive and for signals to be seen. Idle time is not measured: it costs no CPU.
const SETTLE_MS = 200
// The receiver has a processor, the generator the other; interrupts of both directions follow who sends.
const RECEIVER_CPU = 0
const GENERATOR_CPU = 1

interface Sample {
  rate: number
  cpu: number
  lost: number
}

/** Who is measured: the command to start, before the job and the interface. */
type Subjects = Record<string, readonly string[]>

export async function benchVeth({ rounds, say }: VethOptions): Promise<Section> {
  const notes: string[] = []
  const subjects: Subjects = {
    'node-xdp': [process.execPath, fileURLToPath(new URL('./receiver.js', import.meta.url))],
  }
  const reference = await buildReference()
  if ('program' in reference) subjects['C (libxdp)'] = [reference.program]
  else notes.push(reference.missing)

  const lab = Lab.create()
  const stop = () => {
    lab.down()
    process.exit(1)
  }
  process.once('SIGINT', stop).once('SIGTERM', stop)
  // Packets sent back, or sent from the start, end here.
  const sink = BpfProgram.load({ type: 'xdp', name: 'bench_sink', code: [asm.mov(asm.r0, 1), asm.exit()] })
  try {
    const attachment = attachXdp(sink, {
      interface: lab.b.ifindex,
      namespace: lab.b.namespace,
      mode: 'native',
    })
    const generator = await Generator.start(lab, GENERATOR_CPU)
    const figures: Figure[] = []
    for (const load of LOADS) {
      const samples = await alternate(subjects, rounds, (subject, round) => {
        say(`veth: ${load.name}, round ${round + 1} of ${rounds}, ${subject}`)
        return measure(lab, generator, subjects[subject], load)
      })
      figures.push(...summarise(load, samples, rounds))
    }
    await generator.close()
    attachment.detach()
    notes.push(
      'The generator runs the receiving end of the veth in its own time, so the CPU is that of wake-ups, rings and sending.',
      'Lost: sent by the generator, and not received (receive) or not back at the far end (reflect).',
    )
    return { title: `veth pair, native mode, copy, packets of ${SIZE} bytes`, figures, notes }
  } finally {
    sink.close()
    lab.down()
    process.off('SIGINT', stop).off('SIGTERM', stop)
  }
}

/** A B A B …: what disturbs the machine for a while disturbs both. */
async function alternate(
  subjects: Subjects,
  rounds: number,
  sample: (subject: string, round: number) => Promise<Sample>,
): Promise<Map<string, Sample[]>> {
  const samples = new Map<string, Sample[]>(Object.keys(subjects).map((subject) => [subject, []]))
  for (let round = 0; round < rounds; round++) {
    for (const [subject, list] of samples) list.push(await sample(subject, round))
  }
  return samples
}

async function measure(
  lab: Lab,
  generator: Generator,
  command: readonly string[],
  load: Load,
): Promise<Sample> {
  const receiver = await Measured.start<ReceiverResult>(lab, RECEIVER_CPU, [
    ...command,
    ...[load.job, '-i', lab.a.interface, '-s', String(SIZE)],
  ])
  if (load.job === 'txpush') {
    await delay(TRANSMIT_MS / 2)
    receiver.mark()
    await delay(TRANSMIT_MS)
    const result = await receiver.end()
    return { rate: result.packets / result.wall, cpu: cpuPerPacket(result), lost: 0 }
  }
  const warmUp = { packets: load.warmUp, size: SIZE, rate: load.rate }
  await generator.send(warmUp)
  await delay(SETTLE_MS)
  receiver.mark()
  await delay(SETTLE_MS)
  const before = lab.stats().b.rxPackets
  const sent = await generator.send({ ...warmUp, packets: load.packets })
  await delay(SETTLE_MS)
  const back = lab.stats().b.rxPackets - before
  const result = await receiver.end()
  const arrived = load.job === 'l2fwd' ? back : result.packets
  return { rate: arrived / sent.seconds, cpu: cpuPerPacket(result), lost: sent.packets - arrived }
}

function cpuPerPacket({ user, system, packets }: ReceiverResult): number {
  return ((user + system) * 1e9) / packets
}

function summarise(load: Load, samples: Map<string, Sample[]>, rounds: number): Figure[] {
  const figures: Figure[] = []
  const by = `median of ${rounds}`
  for (const [subject, list] of samples) {
    figures.push(
      {
        name: load.name,
        subject,
        value: median(list.map(({ rate }) => rate)),
        unit: 'packets/s',
        source:
          load.job === 'txpush' ? `receiver, ${by}` : `receiver's packets over the generator's time, ${by}`,
      },
      {
        name: `${load.name}: CPU`,
        subject,
        value: median(list.map(({ cpu }) => cpu)),
        unit: 'ns/packet',
        source: `getrusage of the receiver, user and system, ${by}`,
      },
    )
    if (load.job === 'txpush') continue
    figures.push({
      name: `${load.name}: lost`,
      subject,
      value: (median(list.map(({ lost }) => lost)) / load.packets) * 100,
      unit: '%',
      ...(load.rate > 0 ? { target: 0 } : {}),
      source: `${load.packets} sent less those that arrived, ${by}`,
    })
  }
  const ours = samples.get('node-xdp')
  const theirs = samples.get('C (libxdp)')
  if (ours && theirs) {
    figures.push({
      name: `${load.name}: CPU ratio`,
      subject: 'node-xdp / C',
      value: median(ours.map(({ cpu }, round) => cpu / theirs[round].cpu)),
      unit: 'times',
      target: 1.2,
      source: `a round's two receivers, ${by}`,
    })
  }
  return figures
}
