// Sends packets into a veth by the kernel's live-frame test runs, in a process of its own: tell it how many.
import { BpfProgram, asm } from '../src/bpf/index.js'
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
// Setting a test run up and tearing it down takes some 20 ms, so a slow rate cannot be made of short runs: the
// program itself takes its time instead, by counting.
const LONGEST_COUNT = 200_000

const [, , namespaceName, ifindex, mac, source, destination] = process.argv
const namespace = Namespace.open(namespaceName)

/** Redirects every frame into the veth, after counting to `count`. */
function load(count: number): BpfProgram {
  const { call, exit, jumpIf, label, mov, r1, r2, r6, sub } = asm
  const pause = count === 0 ? [] : [mov(r6, count), label('count'), sub(r6, 1), jumpIf(r6, '!=', 0, 'count')]
  return BpfProgram.load({
    type: 'xdp',
    name: 'bench_generator',
    code: [pause, mov(r1, Number(ifindex)), mov(r2, 0), call('redirect'), exit()],
  })
}

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
const programs = new Map<number, BpfProgram>([[0, load(0)]])

/** A program that sends at about `rate` a second: measured first at full speed, then with some counting. */
function programFor(rate: number, packet: Uint8Array): BpfProgram {
  const made = programs.get(rate)
  if (made) return made
  const perPacket = (program: BpfProgram) => {
    const { packets, seconds } = send(program, packet, 50e3)
    return (seconds / packets) * 1e9
  }
  const trial = 1000
  const counting = load(trial)
  const base = perPacket(load(0))
  const each = Math.max(0.1, (perPacket(counting) - base) / trial)
  counting.close()
  const count = Math.min(LONGEST_COUNT, Math.max(1, Math.round((1e9 / rate - base) / each)))
  const program = load(count)
  programs.set(rate, program)
  return program
}

function obey(order: GeneratorOrder): GeneratorReport {
  const packet = buildFor(order)
  return send(programFor(order.rate, packet), packet, order.packets)
}

process.on('message', (order: GeneratorOrder) => process.send?.(obey(order)))
process.on('disconnect', () => process.exit())
process.send?.('ready')
