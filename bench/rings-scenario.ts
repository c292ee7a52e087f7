// One scenario over simulated rings, in a process of its own so that no other has shaped its machine code.
// Prints one JSON line: see `RingsResult`.
import { PerformanceObserver, constants } from 'node:perf_hooks'
import { setTimeout as delay } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { Headers, buildPacket, parseHeaders, swapMacs } from '../src/packet/index.js'
import { Responder } from '../src/serve/index.js'
import { CompletionRing } from '../src/xsk/completion-ring.js'
import { FillRing } from '../src/xsk/fill-ring.js'
import { FramePool, Umem, type PacketHandler, type Verdict } from '../src/xsk/index.js'
import { RxRing } from '../src/xsk/rx-ring.js'
import { TxRing } from '../src/xsk/tx-ring.js'
import { SimulatedKernel, simulatedPath } from './simulated-kernel.js'

export interface RingsResult {
  scenario: string
  /** Nanoseconds a packet: the median and the best of the rounds. */
  median: number
  best: number
  rounds: number
  /** Packets of the heap pass, growth of the used heap over them and collections of the young generation in it. */
  packets: number
  heapGrowth: number
  collections: number
}

const FRAMES = 4096
const RING = 2048
const BATCH = 64
const ROUNDS = 25
const WARM_UP = 4e6
const ROUND = 2e6
const HEAP_PACKETS = 50e6

const gc = (setFlagsFromString('--expose-gc'), runInNewContext('gc') as () => void)

/** Takes what is there: batch after batch until the RX ring is empty. */
type Drain = () => void

const udp = buildPacket({
  ipv4: { src: '10.0.0.2', dst: '10.0.0.1' },
  udp: { srcPort: 9, dstPort: 9 },
  payload: 'x'.repeat(18),
})
const ping = buildPacket({
  ethernet: { src: '02:00:00:00:00:02', dst: '02:00:00:00:00:01' },
  ipv4: { src: '10.0.0.2', dst: '10.0.0.1' },
  icmp: { type: 8, identifier: 1, sequence: 1 },
  payload: 'x'.repeat(56),
})

/** The least there is: every descriptor of the RX ring goes back into the fill ring. */
function bareRecycle(kernel: SimulatedKernel, umem: Umem): Drain {
  return recycler(kernel, umem, () => undefined)
}

/** The same with every packet dissected and its MAC addresses swapped. */
function bareParseAndSwap(kernel: SimulatedKernel, umem: Umem): Drain {
  const headers = new Headers()
  const { bytes } = umem
  return recycler(kernel, umem, (address, length) => {
    if (parseHeaders(bytes, address, length, headers).problem === 'none') swapMacs(bytes, address)
  })
}

function recycler(
  kernel: SimulatedKernel,
  umem: Umem,
  look: (address: number, length: number) => void,
): Drain {
  const fill = new FillRing(kernel.rings.fill)
  const rx = new RxRing(kernel.rings.rx)
  const frameMask = ~(umem.frameSize - 1)
  const slots = fill.reserve(RING)
  for (let i = 0; i < slots; i++) fill.set(i, i * umem.frameSize)
  fill.commit(slots)
  return () => {
    for (;;) {
      const count = rx.peek(BATCH)
      const room = fill.reserve(count)
      for (let i = 0; i < room; i++) {
        const address = rx.address(i)
        look(address, rx.length(i))
        fill.set(i, address & frameMask)
      }
      fill.commit(room)
      rx.release(room)
      if (count === 0) return
    }
  }
}

/** What `XdpSocket.receive` does, spelt with the bare rings: peek, hand over, pool, release, refill. */
function pooledRecycle(kernel: SimulatedKernel, umem: Umem): Drain {
  const pool = new FramePool(umem)
  const fill = new FillRing(kernel.rings.fill)
  const rx = new RxRing(kernel.rings.rx)
  let lent = 0
  return () => {
    for (;;) {
      const count = rx.peek(BATCH)
      for (let i = 0; i < count; i++) pool.put(rx.address(i))
      rx.release(count)
      lent -= count
      const slots = fill.reserve(Math.min(RING - lent, pool.available))
      for (let i = 0; i < slots; i++) fill.set(i, pool.take())
      fill.commit(slots)
      lent += slots
      if (count === 0) return
    }
  }
}

/** By the pool, with every packet dissected, its MAC addresses swapped and sent back, and sent frames taken back. */
function bareReflect(kernel: SimulatedKernel, umem: Umem): Drain {
  const pool = new FramePool(umem)
  const fill = new FillRing(kernel.rings.fill)
  const completion = new CompletionRing(kernel.rings.completion)
  const rx = new RxRing(kernel.rings.rx)
  const tx = new TxRing(kernel.rings.tx)
  const headers = new Headers()
  const { bytes } = umem
  let lent = 0
  return () => {
    for (;;) {
      const count = rx.peek(BATCH)
      const room = tx.reserve(count)
      let sent = 0
      for (let i = 0; i < count; i++) {
        const address = rx.address(i)
        const length = rx.length(i)
        if (parseHeaders(bytes, address, length, headers).problem === 'none' && sent < room) {
          swapMacs(bytes, address)
          tx.set(sent++, address, length)
        } else {
          pool.put(address)
        }
      }
      tx.commit(sent)
      rx.release(count)
      lent -= count
      const done = completion.peek(RING)
      for (let i = 0; i < done; i++) pool.put(completion.address(i))
      completion.release(done)
      const slots = fill.reserve(Math.min(RING - lent, pool.available))
      for (let i = 0; i < slots; i++) fill.set(i, pool.take())
      fill.commit(slots)
      lent += slots
      if (count === 0) return
    }
  }
}

/** As an `XdpSocket` does it. */
function pathDrain(kernel: SimulatedKernel, umem: Umem, handler: PacketHandler): Drain {
  const path = simulatedPath(kernel, umem, BATCH)
  return () => {
    while (path.receive(handler) > 0);
  }
}

function reflector(verdict: Verdict): PacketHandler {
  const headers = new Headers()
  return (packet) => {
    if (parseHeaders(packet.bytes, packet.offset, packet.length, headers).problem !== 'none') return undefined
    swapMacs(packet.bytes, packet.offset)
    return verdict
  }
}

function responder(): PacketHandler {
  const { handle } = new Responder({ mac: new Uint8Array([2, 0, 0, 0, 0, 1]), frameSize: 2048 })
  return (packet) => {
    const verdict = handle(packet)
    // The reply is the next request.
    packet.bytes[packet.offset + 5] = 1
    packet.bytes[packet.offset + 11] = 2
    packet.bytes[packet.offset + 34] = 8
    return verdict
  }
}

const scenarios: Record<
  string,
  { packet: Uint8Array; drain: (kernel: SimulatedKernel, umem: Umem) => Drain }
> = {
  recycle: { packet: udp, drain: bareRecycle },
  'recycle by the pool': { packet: udp, drain: pooledRecycle },
  'parse-and-swap': { packet: udp, drain: bareParseAndSwap },
  reflect: { packet: udp, drain: bareReflect },
  'socket recycle': { packet: udp, drain: (kernel, umem) => pathDrain(kernel, umem, () => undefined) },
  'socket parse-and-swap': {
    packet: udp,
    drain: (kernel, umem) => pathDrain(kernel, umem, reflector(undefined)),
  },
  'socket reflect': { packet: udp, drain: (kernel, umem) => pathDrain(kernel, umem, reflector('transmit')) },
  'socket answers ping': { packet: ping, drain: (kernel, umem) => pathDrain(kernel, umem, responder()) },
}

async function run(name: string): Promise<RingsResult> {
  const { packet, drain: make } = scenarios[name]
  const umem = Umem.create({ frames: FRAMES })
  for (let frame = 0; frame < umem.size; frame += umem.frameSize) umem.bytes.set(packet, frame + 256)
  const kernel = new SimulatedKernel(RING, packet.length)
  const drain = make(kernel, umem)
  drain() // the first one fills the fill ring

  /** The nanoseconds that the reading side took for `packets`; without a clock, 0. */
  const turn = (packets: number, timed: boolean): number => {
    let elapsed = 0
    for (let done = 0; done < packets;) {
      done += kernel.receive()
      if (timed) {
        const start = performance.now()
        drain()
        elapsed += performance.now() - start
      } else {
        drain()
      }
      kernel.send()
    }
    return elapsed * 1e6
  }
  turn(WARM_UP, false)
  turn(WARM_UP, true)
  const rounds: number[] = []
  for (let i = 0; i < ROUNDS; i++) rounds.push(turn(ROUND, true) / ROUND)
  rounds.sort((a, b) => a - b)

  let collections = 0
  const observer = new PerformanceObserver((list) => {
    // Only collections of the young generation: it is allocating that causes them.
    for (const { detail } of list.getEntries() as unknown as { detail: { kind: number } }[]) {
      if (detail.kind === constants.NODE_PERFORMANCE_GC_MINOR) collections++
    }
  })
  gc()
  await delay(10)
  observer.observe({ entryTypes: ['gc'] })
  const before = process.memoryUsage().heapUsed
  turn(HEAP_PACKETS, false)
  const heapGrowth = process.memoryUsage().heapUsed - before
  await delay(10) // the observer is told on a later turn
  observer.disconnect()
  return {
    scenario: name,
    median: rounds[ROUNDS >> 1],
    best: rounds[0],
    rounds: ROUNDS,
    packets: HEAP_PACKETS,
    heapGrowth,
    collections,
  }
}

console.log(JSON.stringify(await run(process.argv[2])))
