// Forwarding from one veth to another over one UMEM: node-xdp and C on libxdp by turns.
import { BpfProgram, asm, attachXdp } from '../src/bpf/index.js'
import { Lab } from '../src/lab/index.js'
import type { Figure, Section } from './figures.js'
import { Generator, Measured } from './processes.js'
import type { QueuesResult } from './queues-receiver.js'
import {
  RECEIVER,
  RECEIVER_CPU,
  SENDER_CPU,
  SIZE,
  downOnSignal,
  figuresOf,
  measureLoad,
  ratioOf,
  type Load,
  type QueuesOptions,
  type Sample,
} from './queues-shared.js'

// V8 compiles what runs once a batch only after up to ten thousand batches of up to 64, which is five seconds and more at 100 k/s
// (--trace-opt), and flat out four packets of five are lost: what is measured is what a forwarder costs for the rest of its days.
const LOADS: readonly Load[] = [
  { name: 'forward', rate: 0, warmUp: 3e6, packets: 3e6 },
  { name: 'forward, paced', rate: 100e3, warmUp: 800e3, packets: 200e3 },
]
// Against C: at least 0.97 times its packets a second, at no more than 1.15 times its CPU a packet.
const TARGET = { rate: 1 / 0.97, cpu: 1.15 } as const
const OURS = 'node-xdp'
const C = 'C (libxdp)'
// What the way through threads costs, where packets are rare enough that each of them sleeps between two batches.
const STAGED = Object.fromEntries(
  [1, 2].map((stages) => [
    `${OURS}, ${stages} ${stages === 1 ? 'stage' : 'stages'} with a thread`,
    [...RECEIVER, 'forward', '--stages', String(stages)],
  ]),
)

export async function benchForward({ rounds, say, reference }: QueuesOptions): Promise<Section> {
  const notes: string[] = []
  const commands: Record<string, readonly string[]> = { [OURS]: [...RECEIVER, 'forward'] }
  if ('program' in reference) commands[C] = [reference.program, 'forward']
  else notes.push(reference.missing)
  const figures: Figure[] = []
  // Their ends `a` are here, so that one process, which has one namespace, reaches both.
  using from = Lab.create({ isolated: false })
  using to = Lab.create({ isolated: false })
  downOnSignal(from, to)
  // What was forwarded ends here.
  const sink = BpfProgram.load({ type: 'xdp', name: 'bench_sink', code: [asm.mov(asm.r0, 1), asm.exit()] })
  const attachment = attachXdp(sink, { interface: to.b.ifindex, namespace: to.b.namespace, mode: 'native' })
  const generator = await Generator.start(from, SENDER_CPU)
  try {
    for (const load of LOADS) {
      const measured = load.rate > 0 ? { ...commands, ...STAGED } : commands
      const samples = new Map<string, Sample[]>(Object.keys(measured).map((subject) => [subject, []]))
      for (let round = 0; round < rounds; round++) {
        for (const [subject, list] of samples) {
          say(`queues: ${load.name}, round ${round + 1} of ${rounds}, ${subject}`)
          const args = [...measured[subject], '-i', from.a.interface, '-o', to.a.interface]
          const forwarder = await Measured.start<QueuesResult>(from, RECEIVER_CPU, args)
          const send = (packets: number) => generator.send({ packets, size: SIZE, rate: load.rate })
          list.push(await measureLoad(load, [forwarder], send, () => to.stats().b.rxPackets))
        }
      }
      figures.push(...figuresOf(load.name, samples, load.rate > 0))
      const [over, under] = [OURS, C]
      figures.push(
        ...ratioOf(`${load.name}: CPU ratio`, samples, { over, under, by: 'cpu', target: TARGET.cpu }),
        // This way round, so that less is better, as everywhere.
        ...ratioOf(`${load.name}: packets/s ratio`, samples, {
          over: under,
          under: over,
          by: 'rate',
          target: TARGET.rate,
        }),
      )
    }
  } finally {
    await generator.close()
    attachment.detach()
    sink.close()
  }
  notes.push(
    'Packets go one way of the two that are forwarded. What counts, and is paid for, is what arrives beyond the second device.',
  )
  return { title: `Forward between two veth pairs, one UMEM, packets of ${SIZE} bytes`, figures, notes }
}
