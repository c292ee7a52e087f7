// Receives everything that arrives on a queue, counts it and drops it.
//   node dist/examples/drop.js veth0
import { XdpSocket } from 'node-xdp'

const socket = await XdpSocket.open({ interface: process.argv[2] ?? 'veth0', queue: 0 })
console.log(
  `${socket.interface} queue ${socket.queue}: ${socket.mode?.got} mode, packets by ${socket.copy.got}`,
)

let bytes = 0
process.once('SIGINT', () => socket.stop())
await socket.run((packet) => {
  bytes += packet.length // packet.bytes from packet.offset on: nothing is copied
})

console.log(`${socket.statistics().rx.packets} packets, ${bytes} bytes`)
await socket.close()
