// npm run bench [-- rings|veth|udp|queues|idle|programs|filter ...] [--rounds N] [--json FILE]: tables on the terminal, and JSON.
import { writeFileSync } from 'node:fs'
import { cpus, release } from 'node:os'
import { parseArgs } from 'node:util'
import Table from 'cli-table3'
import { benchCapture } from './capture.js'
import type { Figure, Section } from './figures.js'
import { benchFilter } from './filter.js'
import { benchIdle } from './idle.js'
import { benchPrograms } from './programs.js'
import { benchQueues } from './queues.js'
import { benchRings } from './rings.js'
import { benchUdp } from './udp.js'
import { benchVeth } from './veth.js'

const USAGE = `usage: npm run bench [-- [rings] [veth] [idle] [udp] [queues] [programs] [filter] [capture] [--rounds N] [--seconds N] [--json FILE]]
  rings      the TypeScript alone, on simulated rings
  veth       receive, reflect and transmit on a veth pair, against C on libxdp (needs root)
  udp        a UDP server's receiving, echo and latency, beside node:dgram and C (needs root)
  queues     one and two queues, forwarding, presets, beside C (needs root)
  idle       CPU and memory of the responder (needs root)
  programs   shipped programs beside the same in C: build time, instructions, ns a packet (needs root)
  filter     ten filters: compile time, ns a packet in the kernel and in TypeScript, beside libpcap
  capture    capturing into a file, beside tcpdump and dumpcap (needs root)
  --rounds   measurements of each receiver at each job; default 5
  --seconds  how long to watch the idle responder; default 10
  --json     write the figures there too; - for standard output, instead of the tables`

const BENCHMARKS = ['rings', 'veth', 'udp', 'queues', 'idle', 'programs', 'filter', 'capture'] as const
type Benchmark = (typeof BENCHMARKS)[number]

interface Arguments {
  benchmarks: readonly Benchmark[]
  rounds: number
  seconds: number
  json: string | undefined
}

const say = (line: string): void => void process.stderr.write(`${line}\n`)

function readArguments(): Arguments | undefined {
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: {
        json: { type: 'string' },
        rounds: { type: 'string', default: '5' },
        seconds: { type: 'string', default: '10' },
      },
    })
    const rounds = Number(values.rounds)
    const seconds = Number(values.seconds)
    const known = positionals.every((name) => BENCHMARKS.includes(name as Benchmark))
    if (!known || !Number.isInteger(rounds) || rounds < 1 || !Number.isInteger(seconds) || seconds < 1)
      return undefined
    const benchmarks = positionals.length === 0 ? BENCHMARKS : (positionals as Benchmark[])
    return { benchmarks, rounds, seconds, json: values.json }
  } catch {
    return undefined
  }
}

function format({ value, unit }: Figure): string {
  if (unit === 'packets/s') return `${(value / 1e3).toFixed(0)} k/s`
  if (unit === 'slots' || unit === 'steps') return `${value} ${unit}`
  if (unit === 'bytes' && Math.abs(value) >= 2 ** 20) return `${(value / 2 ** 20).toFixed(1)} MiB`
  const digits =
    unit === 'bytes' || unit === 'times' ? (Number.isInteger(value) ? 0 : 2) : unit.startsWith('%') ? 3 : 1
  return `${value.toFixed(digits)} ${unit}`
}

function verdict(figure: Figure): string {
  if (figure.target === undefined) return ''
  return `<= ${format({ ...figure, value: figure.target })}  ${figure.value <= figure.target ? 'met' : 'missed'}`
}

function print({ title, figures, notes }: Section): void {
  const table = new Table({
    head: ['what', 'of', 'figure', 'to reach', 'from'],
    style: { head: [], border: [] },
  })
  for (const figure of figures) {
    table.push([figure.name, figure.subject, format(figure), verdict(figure), figure.source])
  }
  console.log(`\n${title}\n${table.toString()}`)
  for (const note of notes) console.log(note)
}

const settings = readArguments()
if (settings === undefined) {
  say(USAGE)
  process.exitCode = 2
} else {
  const { benchmarks, rounds, seconds, json } = settings
  const run: Record<Benchmark, () => Promise<Section | Section[]>> = {
    rings: () => benchRings(say),
    veth: () => benchVeth({ rounds, say }),
    udp: () => benchUdp({ rounds, say }),
    queues: () => benchQueues({ rounds, say }),
    idle: () => benchIdle({ seconds, say }),
    programs: () => benchPrograms({ rounds, say }),
    filter: () => benchFilter({ rounds, say }),
    capture: () => benchCapture({ rounds, say }),
  }
  const sections: Section[] = []
  for (const name of benchmarks) {
    for (const section of [await run[name]()].flat()) {
      sections.push(section)
      if (json !== '-') print(section)
    }
  }
  const machine = { kernel: release(), node: process.version, processors: cpus().map(({ model }) => model) }
  const text = JSON.stringify({ machine, sections }, null, 2) + '\n'
  if (json === '-') process.stdout.write(text)
  else if (json !== undefined) writeFileSync(json, text)
}
