// The convenient way: packets as copies, one at a time.
//   node dist/examples/print.js veth0 5
import { XdpSocket } from 'node-xdp'
import { Headers, formatMac, parseHeaders } from 'node-xdp/packet'

const [name = 'veth0', count = '5'] = process.argv.slice(2)
const socket = await XdpSocket.open({ interface: name, queue: 0 })
console.log(`printing ${count} packets of ${name}`)

const headers = new Headers()
let left = Number(count)
for await (const packet of socket) {
  const { etherType, protocol } = parseHeaders(packet, 0, packet.length, headers)
  console.log(
    `${formatMac(packet, 6)} > ${formatMac(packet, 0)} type 0x${etherType.toString(16)} protocol ${protocol}, ${packet.length} bytes`,
  )
  if (--left === 0) break
}
await socket.close()
