// Sends packets into a veth by the kernel's live-frame test runs, in a process of its own: tell it how many.
import { BpfMap, BpfProgram, asm, u32, u64 } from '../src/bpf/index.js'
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
// program itself looks at the clock until it is time for the next packet, so many times at most.
const MOST_LOOKS = 4000
// A schedule that is further behind than this, in ns, begins anew: after a pause nothing is made up for.
const PATIENCE = 1e6

const [, , namespaceName, ifindex, mac, source, destination] = process.argv
const namespace = Namespace.open(namespaceName)

/** Redirects every frame into the veth, `interval` ns after the one before. */
function load(interval: number): BpfProgram {
  const { add, call, exit, jump, jumpIf, label, loadMapValue, load, mov, r0, r1, r2, r6, r7, r8, store } = asm
  const schedule = BpfMap.create({
    type: 'array',
    name: 'bench_schedule',
    key: u32,
    value: u64,
    maxEntries: 1,
  })
  const pause =
    interval === 0
      ? []
      : [
          [loadMapValue(r6, schedule, 0), load('u64', r7, r6, 0), mov(r8, MOST_LOOKS)],
          [label('look'), call('ktime_get_ns'), jumpIf(r0, '>=', r7, 'due')],
          [add(r8, -1), jumpIf(r8, '!=', 0, 'look')],
          [
            label('due'),
            add(r7, PATIENCE),
            jumpIf(r0, '>', r7, 'late'),
            add(r7, interval - PATIENCE),
            jump('next'),
          ],
          [label('late'), mov(r7, r0), add(r7, interval)],
          [label('next'), store('u64', r6, 0, r7)],
        ]
  const code = [pause, mov(r1, Number(ifindex)), mov(r2, 0), call('redirect'), exit()]
  try {
    return BpfProgram.load({ type: 'xdp', name: 'bench_generator', code })
  } finally {
    schedule.close() // The program has it.
  }
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
const programs = new Map<number, BpfProgram>()

function programFor(rate: number): BpfProgram {
  const made = programs.get(rate) ?? load(rate === 0 ? 0 : Math.round(1e9 / rate))
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
