// Sends every packet back to where it came from: the frame is rewritten in place and leaves without a copy.
//   node dist/examples/reflect.js veth0
import { XdpSocket } from 'node-xdp'
import { swapMacs } from 'node-xdp/packet'

const socket = await XdpSocket.open({ interface: process.argv[2] ?? 'veth0', queue: 0 })
console.log(`reflecting what arrives on ${socket.interface}`)
process.once('SIGINT', () => socket.stop())
await socket.run(({ bytes, offset }) => {
  swapMacs(bytes, offset)
  return 'transmit'
})
await socket.drain()
await socket.close()
