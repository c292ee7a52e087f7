// What a UDP server itself costs a datagram, over simulated rings: `udp-scenario.js JOB [SIZE [FAMILY]]`, in a process of its own,
// so that no other scenario has shaped its machine code. Prints one JSON line: see `UdpScenarioResult`.
import { buildPacket } from '../src/packet/index.js'
import { countsOf, dropsOf, makeCounters } from '../src/serve/udp-counters.js'
import { UdpListeners } from '../src/serve/udp-listeners.js'
import { UdpReceiver } from '../src/serve/udp-receiver.js'
import type { UdpHandler } from '../src/serve/index.js'
import { Umem } from '../src/xsk/index.js'
import { SimulatedKernel, simulatedPath } from './simulated-kernel.js'

/** Nanoseconds a datagram: the best and the median of the rounds. */
export interface UdpScenarioResult {
  job: string
  size: number
  family: number
  best: number
  median: number
}

const RING = 2048
const BATCH = 64
const ROUNDS = 1500
const WARM_UP = 500
const MAC = '02:00:00:00:00:01'

const answer = Buffer.from('an answer of its own')
const jobs: Record<string, UdpHandler> = {
  receive: () => undefined,
  echo: (message) => void message.reply(),
  answer: (message) => void message.reply(answer),
  text: (message) => void message.reply(message.address),
}

function run(job: string, size: number, family: number): UdpScenarioResult {
  const packet = buildPacket({
    ethernet: { src: '02:00:00:00:00:02', dst: MAC },
    ...(family === 4
      ? { ipv4: { src: '10.0.0.2', dst: '10.0.0.1' } }
      : { ipv6: { src: 'fd00::2', dst: 'fd00::1' } }),
    udp: { srcPort: 9, dstPort: 9 },
    payload: Uint8Array.from({ length: size - (family === 4 ? 42 : 62) }, (_, i) => i * 7),
  })
  const umem = Umem.create({ frames: 4096 })
  const kernel = new SimulatedKernel(RING, packet.length)
  const path = simulatedPath(kernel, umem, BATCH)
  const drops = makeCounters()
  const listeners = new UdpListeners({ add: () => undefined, remove: () => true }, 'simulated')
  const counters = makeCounters()
  listeners.add(
    {
      ports: [9],
      verifiesChecksums: true,
      addresses: () => undefined,
      counters,
      deliver: jobs[job],
      fail: (error) => {
        throw error
      },
      replyElsewhere: () => false,
    },
    [],
  )
  const receiver = new UdpReceiver({
    bytes: umem.bytes,
    frameSize: umem.frameSize,
    zone: 'simulated',
    listeners,
    counters: drops,
    sender: { batchOf: -1 },
    failed: (endpoint, error) => endpoint.fail(error),
  })
  const link = { mac: Buffer.from(MAC.replaceAll(':', ''), 'hex'), mtu: 1500 }
  receiver.setLinks(link as never, [])
  path.refill()

  // One round is all that the rings hold: they are filled by copies, as the kernel fills them, and emptied by the clock.
  const { rx } = kernel.rings
  let expected = 0
  const round = (): number => {
    const count = kernel.receive()
    for (let i = 0; i < count; i++) {
      const word = ((rx.producer[0] - count + i) & (rx.size - 1)) << 2
      umem.bytes.set(packet, rx.entries[word])
    }
    expected += count
    const start = performance.now()
    while (path.receive(receiver.handle) > 0);
    const elapsed = performance.now() - start
    kernel.send()
    path.flush()
    path.refill()
    return (elapsed * 1e6) / count
  }
  for (let i = 0; i < WARM_UP; i++) round()
  const rounds = Array.from({ length: ROUNDS }, round).sort((a, b) => a - b)
  const replied = job === 'receive' ? 0 : expected
  const counts = { ...countsOf(counters), ...dropsOf(drops) }
  if (counts.received !== expected || counts.replied !== replied || counts.damaged + counts.unwanted > 0)
    throw new Error(`${job}: ${JSON.stringify({ expected, counts })}`)
  return { job, size, family, best: rounds[0], median: rounds[ROUNDS >> 1] }
}

const [, , job = 'receive', size = '60', family = '4'] = process.argv
console.log(JSON.stringify(run(job, Number(size), Number(family))))
