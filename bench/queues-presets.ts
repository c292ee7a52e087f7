// The presets beside each other: receiving flat out and paced, and how long an echo takes.
import { Lab } from '../src/lab/index.js'
import { PRESETS } from '../src/xsk/index.js'
import { median, type Figure, type Section } from './figures.js'
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
  type Load,
  type QueuesOptions,
  type Sample,
} from './queues-shared.js'
import { LATENCY, ask } from './udp.js'
import type { LatencyResult } from './udp-client.js'

const LOADS: readonly Load[] = [
  { name: 'receive', rate: 0, warmUp: 2e6, packets: 3e6 },
  { name: 'receive, 400 k/s', rate: 400e3, warmUp: 400e3, packets: 800e3 },
]
const NAMES = Object.keys(PRESETS)

export async function benchPresets({ rounds, say }: QueuesOptions): Promise<Section> {
  const figures: Figure[] = []
  using lab = Lab.create()
  downOnSignal(lab)
  const generator = await Generator.start(lab, SENDER_CPU)
  try {
    for (const load of LOADS) {
      const samples = new Map<string, Sample[]>(NAMES.map((preset) => [preset, []]))
      for (let round = 0; round < rounds; round++) {
        for (const [preset, list] of samples) {
          say(`presets: ${load.name}, round ${round + 1} of ${rounds}, ${preset}`)
          const receiver = await start(lab, 'preset', preset)
          const send = (packets: number) => generator.send({ packets, size: SIZE, rate: load.rate })
          list.push(await measureLoad(load, [receiver], send))
        }
      }
      figures.push(...figuresOf(load.name, samples, load.rate > 0))
    }
  } finally {
    await generator.close()
  }
  figures.push(...(await benchLatency(lab, rounds, say)))
  const notes = [
    'lowLatency polls all the time: it has a processor to itself, whose time is shared out among few packets or many.',
    `Latency: one echo at a time asked of a UDP server, ${LATENCY.rate} a second, by a client that polls busily on the other processor.`,
  ]
  return { title: `Presets on a veth pair, native mode, copy, packets of ${SIZE} bytes`, figures, notes }
}

async function benchLatency(lab: Lab, rounds: number, say: QueuesOptions['say']): Promise<Figure[]> {
  const results = new Map<string, LatencyResult[]>(NAMES.map((preset) => [preset, []]))
  for (let round = 0; round < rounds; round++) {
    for (const [preset, list] of results) {
      say(`presets: latency, round ${round + 1} of ${rounds}, ${preset}`)
      const server = await start(lab, 'echo', preset)
      list.push(await ask(lab))
      await server.end()
    }
  }
  return [...results].flatMap(([subject, list]) => {
    const lost = list.reduce((sum, { sent, received }) => sum + sent - received, 0)
    return (['p50', 'p99', 'p999'] as const).map((which): Figure => {
      const percent = { p50: '50', p99: '99', p999: '99.9' }[which]
      return {
        name: `echo: ${percent} % within`,
        subject,
        value: median(list.map((result) => result[which])) / 1e3,
        unit: 'µs',
        source: `${LATENCY.count} asked, ${lost} lost in all, median of ${rounds}`,
      }
    })
  })
}

function start(lab: Lab, job: 'preset' | 'echo', preset: string): Promise<Measured<QueuesResult>> {
  return Measured.start(lab, RECEIVER_CPU, [...RECEIVER, job, '-i', lab.a.interface, '-p', preset])
}
