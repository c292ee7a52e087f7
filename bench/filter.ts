// Ten typical filters: time to compile, and nanoseconds a packet in the kernel and in TypeScript, beside libpcap's interpreter.
import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { defineXdp, type BpfProgram, type XdpDefinition } from '../src/bpf/index.js'
import { compileFilter, defineFilterProgram, type Filter } from '../src/filter/index.js'
import { missingCapabilities } from '../src/kernel/index.js'
import {
  PacketRecord,
  buildPacket,
  writePcapHeader,
  writePcapRecord,
  type PacketDescription,
} from '../src/packet/index.js'
import { type Figure, type Section } from './figures.js'
import { buildReference } from './reference.js'

const FILTERS = [
  'tcp port 80',
  'udp port 53',
  'host 10.0.0.1',
  'net 10.0.0.0/8',
  'ip6',
  'not arp',
  'tcp port 80 or 443',
  'host 10.0.0.2 and tcp port 443',
  'tcp[tcpflags] & tcp-syn != 0',
  'vlan 100 and udp portrange 5000-6000',
] as const

/** Microseconds that a typical filter may take, from its words to eBPF. */
const MOST_COMPILE = 5000
const COMPILES = 150
/** By the kernel on each packet, a round. Its clock gives whole nanoseconds, of which the mean over the packets is taken. */
const RUNS = 20_000
const PREDICATE_RUNS = 200_000

/** Answers of pcap_reference. */
interface ReferenceLine {
  compile: number
  packet: number
  instructions: number
  matches: number
}

/** Traffic as a host sees it: two thirds IPv4, TCP mostly; each filter takes some and leaves some. */
function traffic(): Uint8Array[] {
  const ports = [80, 443, 53, 22, 5001, 8080]
  const hosts = ['10.0.0.1', '10.0.0.2', '192.168.1.10', '172.16.5.4']
  const frames: PacketDescription[] = []
  for (const [i, dstPort] of ports.entries()) {
    const ipv4 = { src: hosts[i % 4], dst: hosts[(i + 1) % 4] }
    const ipv6 = { src: 'fd00::1', dst: 'fd00::2' }
    const tcp = { srcPort: 40000 + i, dstPort, flags: i % 3 === 0 ? 0x02 : 0x10 }
    const udp = { srcPort: 40000 + i, dstPort }
    const payload = new Uint8Array([0, 200, 1000][i % 3])
    frames.push(
      { ipv4, tcp, payload, padTo: 60 },
      { ipv4, tcp: { ...tcp, flags: 0x18 }, payload: new Uint8Array(1400) },
    )
    frames.push(
      { ipv4, udp, payload, padTo: 60 },
      { ipv6, tcp, payload },
      { vlans: [{ id: 100 }], ipv4, udp, payload, padTo: 60 },
    )
  }
  const echo = { type: 8, identifier: 1, sequence: 1 }
  frames.push({ ipv4: { src: hosts[0], dst: hosts[1] }, icmp: echo, payload: new Uint8Array(56) })
  const ends = {
    senderMac: '02:00:00:00:00:02',
    senderIp: hosts[0],
    targetMac: new Uint8Array(6),
    targetIp: hosts[1],
  }
  frames.push({ arp: { operation: 1, ...ends }, padTo: 60 })
  return frames.map(buildPacket)
}

function captureOf(packets: readonly Uint8Array[]): Uint8Array {
  const file = new Uint8Array(packets.reduce((sum, { length }) => sum + length + 16, 24))
  const record = new PacketRecord()
  let at = writePcapHeader(file, 0)
  for (const bytes of packets) {
    Object.assign(record, { bytes, length: bytes.length, wireLength: bytes.length })
    at = writePcapRecord(file, at, record)
  }
  return file
}

export async function benchFilter({
  rounds,
  say,
}: {
  rounds: number
  say: (line: string) => void
}): Promise<Section> {
  const title = 'Filters'
  const packets = traffic()
  const figures: Figure[] = []
  const notes = [
    `${packets.length} packets, ${Math.min(...packets.map(({ length }) => length))} to ${Math.max(...packets.map(({ length }) => length))} bytes; nanoseconds are the mean over them.`,
    "libpcap is its interpreter, bpf_filter(), in C over the same packets; the kernel's figures contain its test run, that of a program that returns at once.",
  ]
  const isPrivileged = missingCapabilities(['CAP_BPF', 'CAP_NET_ADMIN']).length === 0
  if (!isPrivileged) notes.push('Nothing was run by the kernel: that needs root.')
  const reference = await runReference(packets)
  if ('missing' in reference) notes.push(reference.missing)
  if (isPrivileged) {
    say('filter: a program that returns at once')
    const value = inKernel(
      defineXdp('nothing', () => 'pass'),
      packets,
      rounds,
    )
    figures.push({
      name: 'kernel test run',
      subject: 'no filter',
      value,
      unit: 'ns/packet',
      source: leastOf(rounds),
    })
  }
  for (const [i, expression] of FILTERS.entries()) {
    say(`filter: ${expression}`)
    const filter = compileFilter(expression)
    const matches = packets.filter((packet) => filter.matches(packet)).length
    if (matches === 0 || matches === packets.length)
      throw new Error(`${expression} matches ${matches} packets`)
    figures.push(...compileFigures(expression))
    const definition = programOf(filter)
    if (isPrivileged) {
      const value = inKernel(definition, packets, rounds)
      figures.push({
        name: 'kernel test run',
        subject: expression,
        value,
        unit: 'ns/packet',
        source: `eBPF, ${leastOf(rounds)}`,
      })
    }
    figures.push({
      name: 'TypeScript',
      subject: expression,
      value: inTypeScript(filter, packets, rounds),
      unit: 'ns/packet',
      source: `predicate, ${leastOf(rounds)}`,
    })
    figures.push({
      name: 'instructions',
      subject: expression,
      value: definition.assembled.bytes.length / 8,
      unit: 'slots',
      source: 'eBPF',
    })
    if ('missing' in reference) continue
    const theirs = reference.lines[i]
    if (theirs.matches !== matches)
      throw new Error(`${expression}: libpcap takes ${theirs.matches} packets, we ${matches}`)
    figures.push(
      {
        name: 'compile',
        subject: expression,
        value: theirs.compile / 1e3,
        unit: 'µs',
        source: 'libpcap, least of 50',
      },
      {
        name: 'interpreter',
        subject: expression,
        value: theirs.packet,
        unit: 'ns/packet',
        source: 'libpcap, least of 15 rounds',
      },
      {
        name: 'instructions',
        subject: expression,
        value: theirs.instructions,
        unit: 'slots',
        source: 'libpcap, classic BPF',
      },
    )
  }
  return { title, figures, notes }
}

const leastOf = (rounds: number): string => `least of ${rounds} rounds`
const programOf = (filter: Filter): XdpDefinition =>
  defineFilterProgram(filter, { match: 'pass', otherwise: 'drop' })

function compileFigures(expression: string): Figure[] {
  const words: number[] = []
  const program: number[] = []
  for (let i = 0; i < COMPILES; i++) {
    const start = performance.now()
    const filter = compileFilter(expression)
    words.push(performance.now() - start)
    void programOf(filter).assembled
    program.push(performance.now() - start)
  }
  const figure = { subject: expression, unit: 'µs', source: `least of ${COMPILES}` }
  return [
    {
      ...figure,
      name: 'compile',
      value: 1e3 * Math.min(...words),
      source: `node-xdp, to classic BPF, ${figure.source}`,
    },
    {
      ...figure,
      name: 'compile',
      value: 1e3 * Math.min(...program),
      source: `node-xdp, to eBPF, ${figure.source}`,
      target: MOST_COMPILE,
    },
  ]
}

/** Nanoseconds a packet: the mean over the packets, the least of the rounds. */
function inKernel(definition: XdpDefinition, packets: readonly Uint8Array[], rounds: number): number {
  const loaded = definition.load()
  const time = (program: BpfProgram, packet: Uint8Array) =>
    program.testRun({ packet, repeat: RUNS }).durationNs
  try {
    const means = Array.from({ length: rounds }, () =>
      mean(packets.map((packet) => time(loaded.program, packet))),
    )
    return Math.min(...means)
  } finally {
    loaded.close()
  }
}

function inTypeScript(filter: Filter, packets: readonly Uint8Array[], rounds: number): number {
  const times = Array.from({ length: rounds + 1 }, () => {
    const start = performance.now()
    let matches = 0
    for (let run = 0; run < PREDICATE_RUNS; run += packets.length) {
      for (const packet of packets) if (filter.matches(packet)) matches++
    }
    const took = performance.now() - start
    const runs = Math.ceil(PREDICATE_RUNS / packets.length) * packets.length
    return matches === 0 ? Infinity : (took * 1e6) / runs
  })
  return Math.min(...times)
}

const mean = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length

async function runReference(
  packets: readonly Uint8Array[],
): Promise<{ lines: ReferenceLine[] } | { missing: string }> {
  const reference = await buildReference('pcap_reference')
  if ('missing' in reference) return reference
  const folder = mkdtempSync(join(tmpdir(), 'node-xdp-bench-'))
  try {
    const file = join(folder, 'packets.pcap')
    writeFileSync(file, captureOf(packets))
    const { stdout } = await promisify(execFile)(reference.program, [file, ...FILTERS])
    const lines = stdout.trim().split('\n')
    return { lines: lines.map((line) => JSON.parse(line) as ReferenceLine) }
  } finally {
    rmSync(folder, { recursive: true })
  }
}
