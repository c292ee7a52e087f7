// Counts the packets that arrive at an interface, by protocol, and disturbs none of them.
//   node dist/examples/packet-counter.js eth0 'udp port 53'
import { CaptureEngine } from 'node-xdp'

const [name, filter] = process.argv.slice(2)
const engine = await CaptureEngine.open({ interface: name, filter, snapLength: 64 })
const counts = new Map<string, number>()
process.once('SIGINT', () => void engine.stop())

engine.start()
console.log(`counting on ${name} in mode ${engine.mode}`)
await engine.forEachBatch((packets) => {
  for (const { bytes, offset, length } of packets) {
    const etherType = length < 14 ? 0 : (bytes[offset + 12] << 8) | bytes[offset + 13]
    const kind = { 0x0800: 'IPv4', 0x86dd: 'IPv6', 0x0806: 'ARP' }[etherType] ?? 'other'
    counts.set(kind, (counts.get(kind) ?? 0) + 1)
  }
})

const { packets, bytes, dropped } = engine.stats()
for (const [kind, count] of counts) console.log(`${kind}: ${count}`)
console.log(`${packets} packets, ${bytes} bytes, ${dropped.ring + dropped.kernel + dropped.consumer} lost`)
await engine.close()
