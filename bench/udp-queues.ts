// A UDP server by one queue and by two of a veth: a thread a queue, and one thread for both.
import { fileURLToPath } from 'node:url'
import { BpfProgram, asm, attachXdp } from '../src/bpf/index.js'
import { Lab } from '../src/lab/index.js'
import type { Figure, Section } from './figures.js'
import { Generator, Measured } from './processes.js'
import { GATHER_NS, moderate } from './queues-receive.js'
import type { QueuesResult } from './queues-receiver.js'
import type { QueuesOrder } from './queues-sender.js'
import {
  RECEIVER_CPU,
  SENDER_CPU,
  SIZE,
  downOnSignal,
  figuresOf,
  measureLoad,
  ratioOf,
  type Load,
  type Sample,
} from './queues-shared.js'
import type { UdpOptions } from './udp.js'

const SERVER = fileURLToPath(new URL('./udp-server.js', import.meta.url))
// Of each queue: a second one brings its own packets.
const LOADS: readonly (Load & { job: string })[] = [
  { name: 'receive, paced', job: 'receive', rate: 100e3, warmUp: 100e3, packets: 200e3 },
  { name: 'echo, paced', job: 'echo', rate: 50e3, warmUp: 50e3, packets: 100e3 },
]
const QUEUES = [1, 2] as const
const WAYS = { workers: 'a thread a queue', xdp: 'one thread' } as const
// Two queues against one, in CPU a packet: what is less than this counts as equal.
const EQUAL = 1.05

export async function benchUdpQueues({ rounds, say }: UdpOptions): Promise<Section> {
  const called = (way: string, queues: number) => `${way}, ${queues === 1 ? '1 queue' : `${queues} queues`}`
  const figures: Figure[] = []
  using lab = Lab.create({ queues: 2 })
  downOnSignal(lab)
  await moderate(lab)
  // Answers end here.
  const sink = BpfProgram.load({ type: 'xdp', name: 'bench_sink', code: [asm.mov(asm.r0, 1), asm.exit()] })
  const { ifindex, namespace } = lab.b
  const attachment = attachXdp(sink, { interface: ifindex, namespace, mode: 'native' })
  const sender = await Generator.start<QueuesOrder>(lab, SENDER_CPU, 'queues-sender.js')
  try {
    for (const load of LOADS) {
      const samples = new Map<string, Sample[]>()
      for (let round = 0; round < rounds; round++) {
        for (const [library, way] of Object.entries(WAYS)) {
          for (const queues of QUEUES) {
            const subject = called(way, queues)
            say(`udp: ${load.name}, round ${round + 1} of ${rounds}, ${subject}`)
            const flags = ['-i', lab.a.interface, '-q', String(queues)]
            const command = [process.execPath, SERVER, library, load.job, ...flags]
            const server = await Measured.start<QueuesResult>(lab, RECEIVER_CPU, command)
            const sample = await measureLoad(load, [server], (packets) =>
              sender.send({ packets: packets * queues, size: SIZE, rate: load.rate * queues, queues }),
            )
            samples.set(subject, [...(samples.get(subject) ?? []), sample])
          }
        }
      }
      figures.push(...figuresOf(load.name, samples, true))
      for (const way of Object.values(WAYS)) {
        const [over, under] = [called(way, 2), called(way, 1)]
        figures.push(
          ...ratioOf(`${load.name}: CPU ratio`, samples, { over, under, by: 'cpu', target: EQUAL }),
        )
      }
    }
  } finally {
    await sender.close()
    attachment.detach()
    sink.close()
  }
  const notes = [
    'Paced: 100 k/s for each queue, 50 k/s when all are answered. The server has one processor, one queue or two: what a queue of its ' +
      'own costs, not what a further processor gains.',
    `The receiving end gathers packets for ${GATHER_NS / 1e3} µs at a time, as devices moderate their interrupts.`,
  ]
  return {
    title: `A UDP server on one queue and on two, native mode, copy, packets of ${SIZE} bytes`,
    figures,
    notes,
  }
}
