// Sends packets to chosen queues of the far end, from AF_XDP sockets, in a process of its own: tell it how many.
//
// What leaves a queue of a veth arrives on the same queue of its peer (drivers/net/veth.c: veth_xmit). The kernel's own
// generator, which bench/generator.ts uses, reaches one queue only: the one of the processor that it runs on.
import { Namespace, getInterface } from '../src/kernel/index.js'
import { buildPacket } from '../src/packet/index.js'
import { XdpGroup } from '../src/xsk/index.js'
import type { GeneratorOrder, GeneratorReport } from './generator.js'

/** The packets go to the first `queues` queues by turns, `BURST` at a time. */
export interface QueuesOrder extends GeneratorOrder {
  queues: number
}

const BURST = 64
const [, , namespaceName, ifindex, mac, source, destination] = process.argv
const namespace = Namespace.open(namespaceName)
const group = await XdpGroup.open({
  interface: getInterface(Number(ifindex), { namespace }).name,
  namespace,
  attach: 'none',
  strict: true,
})

function fillFrames(size: number): void {
  const packet = buildPacket({
    ethernet: { dst: mac },
    ipv4: { src: source, dst: destination },
    udp: { srcPort: 9, dstPort: 9 },
    payload: new Uint8Array(size - 42),
  })
  const { umem } = group
  const [{ bytes }] = group.sockets
  for (let frame = 0; frame < bytes.length; frame += umem.frameSize) bytes.set(packet, frame)
}

async function send({ packets, size, rate, queues }: QueuesOrder): Promise<GeneratorReport> {
  fillFrames(size)
  const interval = rate === 0 ? 0 : (BURST * 1e3) / rate
  const start = performance.now()
  let sent = 0
  for (let burst = 0; sent < packets; burst++) {
    const due = start + burst * interval
    // Looks at the clock until it is time: a timer would be late.
    while (interval > 0 && performance.now() < due);
    const socket = group.sockets[burst % queues]
    for (let left = Math.min(BURST, packets - sent); left > 0;) {
      const frames = socket.reserve(left)
      for (let k = 0; k < frames.length; k++) frames.setLength(k, size)
      const count = frames.commit()
      left -= count
      sent += count
    }
  }
  await group.drain()
  return { packets: sent, seconds: (performance.now() - start) / 1e3 }
}

process.on('message', (order: QueuesOrder) => void send(order).then((report) => process.send?.(report)))
process.on('disconnect', () => process.exit())
process.send?.('ready')
