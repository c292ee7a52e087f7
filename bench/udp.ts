// UDP on a veth pair: what a received and an echoed datagram costs, and how long an echo takes, beside node:dgram and C.
import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { BpfProgram, asm, attachXdp } from '../src/bpf/index.js'
import { Lab } from '../src/lab/index.js'
import { median, type Figure, type Section } from './figures.js'
import { Generator, Measured, onCpu } from './processes.js'
import { buildReference } from './reference.js'
import type { LatencyResult } from './udp-client.js'
import { benchUdpQueues } from './udp-queues.js'
import type { UdpServerResult } from './udp-server.js'

export interface UdpOptions {
  rounds: number
  say: (line: string) => void
}

type Job = 'receive' | 'echo'
/** Who serves: the command to start, before the interface. */
type Subject = { name: string; command: (job: Job) => readonly string[]; flags?: readonly string[] }

const SIZE = 60
const WARM_UP = 4e6
const PACKETS = 3e6
const SETTLE_MS = 300
const SERVER_CPU = 0
const CLIENT_CPU = 1
/** The echoes that are asked for: how many, and how many a second. */
export const LATENCY = { rate: 5000, count: 20_000 }
// Against node:dgram, in CPU a packet: receiving at least ten times as cheap, echoing five times; against C 1.15 times as much.
const TARGETS = { dgram: { receive: 1 / 10, echo: 1 / 5 }, c: 1.15 } as const

const C = 'C (libxdp)'
const C_VERIFYING = 'C (libxdp), verifying'

const script = (name: string) => fileURLToPath(new URL(`./${name}.js`, import.meta.url))
const node =
  (library: string): Subject['command'] =>
  (job) => [process.execPath, script('udp-server'), library, job]

export async function benchUdp({ rounds, say }: UdpOptions): Promise<Section[]> {
  const notes: string[] = []
  const subjects: Subject[] = [
    { name: 'node-xdp', command: node('xdp') },
    { name: 'node:dgram', command: node('dgram') },
  ]
  // Who is asked for the load alone.
  const serving: Subject[] = []
  const reference = await buildReference()
  if ('program' in reference) {
    const bare = { receive: 'rxdrop', echo: 'udpecho' }
    const equal = { receive: 'udprecv', echo: 'udpanswer' }
    subjects.push({ name: C, command: (job) => [reference.program, bare[job]] })
    serving.push({ name: C_VERIFYING, command: (job) => [reference.program, equal[job]] })
  } else notes.push(reference.missing)
  const busy: Subject[] = subjects
    .filter(({ name }) => name !== 'node:dgram')
    .map((subject) => ({ ...subject, name: `${subject.name}, busy`, flags: ['-B'] }))
  const figures: Figure[] = []
  for (const job of ['receive', 'echo'] as const)
    figures.push(...(await benchLoad(job, [...subjects, ...serving], rounds, say)))
  figures.push(...(await benchLatency([...subjects, ...busy], rounds, say)))
  notes.push(
    'Packets come from one flow, as fast as the kernel makes them; the kernel puts them into the ring or the socket in the time of ' +
      "whoever sends. A server's CPU is what it takes from there.",
    `${C} counts packets, and swaps addresses for an echo. ${C_VERIFYING} does what the kernel no longer does for a server: it looks ` +
      'at the headers, verifies both checksums, and answers with new ones, as node-xdp does.',
    `Latency: one echo at a time asked for, ${LATENCY.rate} a second, by a client that polls busily on the other processor.`,
  )
  const title = `UDP on a veth pair, native mode, copy, packets of ${SIZE} bytes`
  return [{ title, figures, notes }, await benchUdpQueues({ rounds, say })]
}

async function benchLoad(
  job: Job,
  subjects: readonly Subject[],
  rounds: number,
  say: UdpOptions['say'],
): Promise<Figure[]> {
  const samples = new Map<string, { cpu: number; rate: number }[]>(subjects.map(({ name }) => [name, []]))
  using lab = Lab.create()
  // Answers end here.
  const sink = BpfProgram.load({ type: 'xdp', name: 'bench_sink', code: [asm.mov(asm.r0, 1), asm.exit()] })
  const attachment = attachXdp(sink, { interface: lab.b.ifindex, namespace: lab.b.namespace, mode: 'native' })
  const generator = await Generator.start(lab, CLIENT_CPU)
  try {
    for (let round = 0; round < rounds; round++) {
      for (const subject of subjects) {
        say(`udp: ${job}, round ${round + 1} of ${rounds}, ${subject.name}`)
        const server = await start(lab, subject, job)
        await generator.send({ packets: WARM_UP, size: SIZE, rate: 0 })
        await delay(SETTLE_MS)
        server.mark()
        await delay(SETTLE_MS)
        const { seconds } = await generator.send({ packets: PACKETS, size: SIZE, rate: 0 })
        await delay(SETTLE_MS)
        const { packets, user, system } = await server.end()
        samples.get(subject.name)!.push({ cpu: ((user + system) * 1e9) / packets, rate: packets / seconds })
      }
    }
  } finally {
    await generator.close()
    attachment.detach()
    sink.close()
  }
  const by = `median of ${rounds}`
  const figures = [...samples].flatMap(([subject, list]): Figure[] => [
    {
      name: job,
      subject,
      value: median(list.map(({ rate }) => rate)),
      unit: 'packets/s',
      source: `served over the generator's time, ${by}`,
    },
    {
      name: `${job}: CPU`,
      subject,
      value: median(list.map(({ cpu }) => cpu)),
      unit: 'ns/packet',
      source: `getrusage of the server, ${by}`,
    },
  ])
  const ours = samples.get('node-xdp')!
  for (const [other, target] of [
    ['node:dgram', TARGETS.dgram[job]],
    [C, TARGETS.c],
    [C_VERIFYING, TARGETS.c],
  ] as const) {
    const theirs = samples.get(other)
    if (!theirs) continue
    const value = median(ours.map(({ cpu }, round) => cpu / theirs[round].cpu))
    figures.push({
      name: `${job}: CPU ratio`,
      subject: `node-xdp / ${other}`,
      value,
      unit: 'times',
      target,
      source: `a round's two servers, ${by}`,
    })
  }
  return figures
}

async function benchLatency(
  subjects: readonly Subject[],
  rounds: number,
  say: UdpOptions['say'],
): Promise<Figure[]> {
  const figures: Figure[] = []
  for (const subject of subjects) {
    const results: LatencyResult[] = []
    for (let round = 0; round < rounds; round++) {
      say(`udp: latency, round ${round + 1} of ${rounds}, ${subject.name}`)
      using lab = Lab.create()
      const server = await start(lab, subject, 'echo')
      results.push(await ask(lab))
      await server.end()
    }
    const lost = results.reduce((sum, { sent, received }) => sum + sent - received, 0)
    for (const which of ['p50', 'p99', 'p999'] as const) {
      const percent = { p50: '50', p99: '99', p999: '99.9' }[which]
      figures.push({
        name: `echo: ${percent} % within`,
        subject: subject.name,
        value: median(results.map((result) => result[which])) / 1e3,
        unit: 'µs',
        source: `${LATENCY.count} asked, ${lost} lost in all, median of ${rounds}`,
      })
    }
  }
  return figures
}

function start(lab: Lab, { command, flags = [] }: Subject, job: Job): Promise<Measured<UdpServerResult>> {
  return Measured.start(lab, SERVER_CPU, [
    ...command(job),
    '-i',
    lab.a.interface,
    '-s',
    String(SIZE),
    ...flags,
  ])
}

/** Asks the echo server at end `a` for them. */
export async function ask(lab: Lab): Promise<LatencyResult> {
  const { a, b } = lab
  const { rate, count } = LATENCY
  const args = [b.interface, b.mac, a.mac, b.ipv4, a.ipv4, String(rate), String(count)]
  const client = onCpu(CLIENT_CPU, () =>
    lab.spawn('b', process.execPath, [script('udp-client'), ...args], {
      sysfs: 'host',
      stdio: ['ignore', 'pipe', 'inherit'],
    }),
  )
  let text = ''
  client.stdout!.setEncoding('utf8').on('data', (part: string) => (text += part))
  await once(client, 'close')
  return JSON.parse(text) as LatencyResult
}
