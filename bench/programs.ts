// The shipped programs: time from builder to loaded, instructions and nanoseconds a packet beside twins in C by clang -O2.
import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { BpfMap, BpfObject, RingBuffer, type BpfProgram } from '../src/bpf/index.js'
import { missingCapabilities } from '../src/kernel/index.js'
import { type Figure, type Section } from './figures.js'
import type { BuildReport } from './program-build.js'
import { INCLUDES, programCases, type ProgramCase } from './program-cases.js'
import { runCommand } from './processes.js'

/** The most that building and loading may take, the most instructions and time for each of the twin's. */
const MOST_MILLISECONDS = 20
const MOST_INSTRUCTIONS = 1.3
const MOST_TIME = 1.1

const BUILDS = 21
const PROCESSES = 5
const RUNS = 100_000
const PARTS = 4

/** UDP from 10.0.0.2 to port 80 of 10.0.0.1, 64 bytes, checksums right; for the responder a ping. */
function packetFor(name: string): Uint8Array {
  const isPing = name === 'responder'
  return Uint8Array.of(
    ...[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0],
    ...[0x45, 0, 0, 50, 0, 0, 0, 0, 64, isPing ? 1 : 17, 0x66, isPing ? 0xc7 : 0xb7],
    ...[10, 0, 0, 2, 10, 0, 0, 1],
    ...(isPing ? [8, 0, 0xf7, 0xff] : [0, 9, 0, 80, 0, 30, 0, 0]),
    ...Array<number>(isPing ? 26 : 22).fill(0),
  )
}

export async function benchPrograms({
  rounds,
  say,
}: {
  rounds: number
  say: (line: string) => void
}): Promise<Section> {
  const title = 'Shipped programs'
  const missing = missingCapabilities(['CAP_BPF', 'CAP_NET_ADMIN'])
  if (missing.length > 0) {
    return { title, figures: [], notes: [`Not measured: ${missing.join(', ')} missing, run as root.`] }
  }
  const hasClang = (await runCommand('clang', ['--version'])).status === 0
  const folder = mkdtempSync(join(tmpdir(), 'node-xdp-bench-'))
  const figures: Figure[] = []
  const notes = [
    `A packet of 64 bytes; ${RUNS} runs by the kernel's test run a round, the two in turn, the least of ${rounds} rounds; whole nanoseconds.`,
    'A build is from the builder to loaded; the first in a process is what a command waits for. Verifier steps: instructions it walked.',
  ]
  if (!hasClang) notes.push('No figures beside C: clang is not there; it needs `apt install clang`.')
  try {
    for (const it of programCases()) {
      say(`programs: ${it.name}`)
      figures.push(...(await buildFigures(it)))
      const object = hasClang && it.twin !== undefined ? await compile(it, folder, it.twin) : undefined
      if (object instanceof BpfObject) figures.push(...besideTwin(it, object, rounds))
      else if (object !== undefined) notes.push(`${it.name}: its twin does not compile: ${object.problem}`)
      else {
        figures.push(...alone(it, rounds))
        if (hasClang) notes.push(`${it.name}: nobody wrote a twin in C.`)
      }
    }
  } finally {
    rmSync(folder, { recursive: true })
  }
  return { title, figures, notes }
}

async function buildFigures({ name }: ProgramCase): Promise<Figure[]> {
  const script = fileURLToPath(new URL('./program-build.js', import.meta.url))
  const run = async (rounds: number): Promise<BuildReport['builds']> => {
    const { stdout } = await promisify(execFile)(process.execPath, [script, name, String(rounds)])
    return (JSON.parse(stdout) as BuildReport).builds
  }
  const builds = await run(BUILDS)
  const firsts = [builds[0]]
  while (firsts.length < PROCESSES) firsts.push((await run(1))[0])
  const first = Math.min(...firsts.map(({ builder, kernel }) => builder + kernel))
  const least = (of: (build: BuildReport['builds'][number]) => number) => Math.min(...builds.map(of))
  const figure = { subject: name, unit: 'ms' }
  const source = `program-build, least of ${BUILDS}`
  return [
    {
      ...figure,
      name: 'first build',
      value: first,
      source: `program-build, the first of ${PROCESSES} processes, least: V8 compiles the builder too`,
    },
    {
      ...figure,
      name: 'build',
      value: least((build) => build.builder + build.kernel),
      source,
      target: MOST_MILLISECONDS,
    },
    { ...figure, name: 'build: builder', value: least((build) => build.builder), source },
    { ...figure, name: 'build: kernel', value: least((build) => build.kernel), source },
  ]
}

async function compile(
  { name, flags }: ProgramCase,
  folder: string,
  source: string,
): Promise<BpfObject | { problem: string }> {
  const file = join(folder, `${name}.o`)
  // As the tests do: `uname -m` of Debian's multiarch headers is that of the machine.
  const machine = process.arch === 'arm64' ? 'aarch64' : 'x86_64'
  const fixed = ['-O2', '-g', '-target', 'bpf', '-mcpu=v3', `-I/usr/include/${machine}-linux-gnu`]
  const { status, stderr } = await runCommand('clang', [
    ...fixed,
    ...INCLUDES,
    ...flags,
    '-c',
    source,
    '-o',
    file,
  ])
  return status === 0 ? BpfObject.open(file) : { problem: stderr.split('\n')[0] }
}

/** A loaded program, its twin, and their maps. */
interface Pair {
  ours: BpfProgram
  twin: BpfProgram | undefined
  drain: () => void
  close: () => void
}

/**
 * Loads a program and its twin over the same maps, where they are alike. In the place of the map of sockets is one of devices: what is
 * redirected is then counted as such, and in a test run goes nowhere.
 */
function loadPair({ define }: ProgramCase, object: BpfObject | undefined): Pair {
  const { definition, fill } = define()
  const owned: { close(): void }[] = []
  const given: Record<string, BpfMap> = {}
  const sockets = [...definition.maps.values()].find(({ name }) => name === 'xsks_map')
  if (sockets) {
    const wanted = object?.maps.find(({ name }) => name === 'xsks_map')?.maxEntries ?? 1
    const devices = BpfMap.create({ type: 'devmap', name: 'xsks_map', maxEntries: wanted })
    for (let queue = 0; queue < wanted; queue++) devices.update(queue, 1)
    owned.push(devices)
    given['xsks_map'] = devices
  }
  const loaded = definition.load({ maps: given })
  owned.push(loaded)
  fill?.(loaded)
  const made = [...definition.maps.values()].filter(({ name }) => given[name] === undefined)
  const maps = new Map(made.map((map) => [map.name, loaded.map(map) as BpfMap]))
  const shared = (object?.maps ?? []).flatMap(({ name, type, keySize, valueSize }) => {
    const map = given[name] ?? maps.get(name)
    const isAlike = map?.type === type && map.keySize === keySize && map.valueSize === valueSize
    return isAlike ? [[name, map] as const] : []
  })
  const twin = object?.load({ maps: Object.fromEntries(shared), frags: definition.loadsWithFrags })
  if (twin) owned.push(twin)
  const all = [...maps.values(), ...(twin?.maps.values() ?? [])]
  const rings = [...new Set(all)].filter(({ type }) => type === 'ringbuf').map((map) => new RingBuffer(map))
  return {
    ours: loaded.program,
    twin: twin?.program('program'),
    // A ring buffer that is full is a shorter way.
    drain: () => rings.forEach((ring) => ring.consume(() => undefined)),
    close: () => {
      for (const ring of rings) ring.close()
      for (const one of owned.reverse()) one.close()
    },
  }
}

function besideTwin(it: ProgramCase, object: BpfObject, rounds: number): Figure[] {
  const ours = it.define().definition.assembled.bytes.length / 8
  const theirs = object.link('program').bytes.length / 8
  const pair = loadPair(it, object)
  try {
    const times = measure(pair, it.name, rounds)
    const beside = (unit: string, name: string, a: number, b: number, most: number): Figure[] => [
      { name, subject: it.name, value: a, unit, source: 'node-xdp' },
      { name, subject: it.name, value: b, unit, source: 'clang -O2' },
      {
        name: `${name}: ratio`,
        subject: it.name,
        value: a / b,
        unit: 'times',
        target: most,
        source: 'node-xdp / clang',
      },
    ]
    return [
      ...beside('slots', 'instructions', ours, theirs, MOST_INSTRUCTIONS),
      ...steps(pair, it.name),
      ...beside('ns/packet', 'test run', times.ours, times.twin, MOST_TIME),
    ]
  } finally {
    pair.close()
  }
}

/** What the kernel's part of a build depends on. Kernel 5.16. */
function steps({ ours, twin }: Pair, subject: string): Figure[] {
  const figure = { name: 'verifier steps', subject, unit: 'steps' }
  return [
    { ...figure, value: ours.info().verifiedInstructions, source: 'node-xdp' },
    ...(twin ? [{ ...figure, value: twin.info().verifiedInstructions, source: 'clang -O2' }] : []),
  ]
}

function alone(it: ProgramCase, rounds: number): Figure[] {
  const pair = loadPair(it, undefined)
  const slots = it.define().definition.assembled.bytes.length / 8
  try {
    const figure = { subject: it.name, source: 'node-xdp' }
    return [
      { ...figure, name: 'instructions', value: slots, unit: 'slots' },
      ...steps(pair, it.name),
      { ...figure, name: 'test run', value: measure(pair, it.name, rounds).ours, unit: 'ns/packet' },
    ]
  } finally {
    pair.close()
  }
}

/** Nanoseconds a packet, the least of the rounds. */
function measure({ ours, twin, drain }: Pair, name: string, rounds: number): { ours: number; twin: number } {
  const least = { ours: Infinity, twin: Infinity }
  const packet = packetFor(name)
  for (let round = 0; round < rounds; round++) {
    least.ours = Math.min(least.ours, nanoseconds(ours, packet, drain))
    if (twin) least.twin = Math.min(least.twin, nanoseconds(twin, packet, drain))
  }
  return least
}

/** As the kernel takes the time, without what other processes had of the processor. */
function nanoseconds(program: BpfProgram, packet: Uint8Array, drain: () => void): number {
  // In parts, so that what they write fits into a ring buffer.
  const parts = Array.from({ length: PARTS }, () => {
    drain()
    return program.testRun({ packet, repeat: RUNS / PARTS }).durationNs
  })
  return Math.min(...parts)
}
