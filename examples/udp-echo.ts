// Echoes UDP datagrams on port 7 of an interface, over AF_XDP. Everything else stays the kernel's.
//   node dist/examples/udp-echo.js veth0 7
import { createUdpServer } from 'node-xdp'

const [name, port = '7'] = process.argv.slice(2)

const server = await createUdpServer({ ...(name && { interface: name }), port: Number(port) }, (message) => {
  message.reply() // the payload as it is, in the same frame, back to the sender
})
console.log(`echoing port ${server.ports[0]} on ${server.interface}, ${server.group.attachment?.mode} mode`)

process.once('SIGINT', () => void server.close())
await server.closed
console.log(`${server.counts.replied} datagrams`)
