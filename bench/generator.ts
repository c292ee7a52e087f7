// Sends packets into a veth by the kernel's live-frame test runs, in a process of its own: tell it how many.
import type { BpfProgram } from '../src/bpf/index.js'
import { defineGenerator } from '../src/generate/program.js'
import { Namespace } from '../src/kernel/index.js'
import { buildPacket } from '../src/packet/index.js'

/** Asks for `packets` of UDP, or pings, `size` bytes each, about `rate` a second (0: as fast as it goes). */
export interface GeneratorOrder {
  packets: number
  size: number
  rate: number
  ping?: boolean
}

/** What was sent, and in how many seconds. */
export interface GeneratorReport {
  packets: number
  seconds: number
}

// Frames that are handed over at a time: what one NAPI run takes.
const BATCH = 64
const [, , namespaceName, ifindex, mac, source, destination] = process.argv
const namespace = Namespace.open(namespaceName)

function buildFor({ size, ping }: GeneratorOrder): Uint8Array {
  return buildPacket({
    ethernet: { dst: mac },
    ipv4: { src: source, dst: destination },
    ...(ping ? { icmp: { type: 8 } } : { udp: { srcPort: 9, dstPort: 9 } }),
    payload: new Uint8Array(size - 42),
  })
}

function send(program: BpfProgram, packet: Uint8Array, packets: number): GeneratorReport {
  const start = performance.now()
  program.runLive({ packet, repeat: packets, batchSize: BATCH, namespace })
  return { packets, seconds: (performance.now() - start) / 1e3 }
}

// Programs by the rate they were made for.
const programs = new Map<number, BpfProgram>()

function programFor(rate: number): BpfProgram {
  const interval = rate === 0 ? 0 : Math.round(1e9 / rate)
  const shape = { ifindex: Number(ifindex), stream: 0, flows: 1, firstPort: 0, interval }
  const made = programs.get(rate) ?? defineGenerator(shape).load().program
  programs.set(rate, made)
  return made
}

function obey(order: GeneratorOrder): GeneratorReport {
  const packet = buildFor(order)
  return send(programFor(order.rate), packet, order.packets)
}

process.on('message', (order: GeneratorOrder) => process.send?.(obey(order)))
process.on('disconnect', () => process.exit())
process.send?.('ready')
