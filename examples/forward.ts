// Joins two interfaces like a cable, but for every tenth UDP packet: to see what an application makes of loss.
//   node dist/examples/forward.js eth0 eth1
import { Forwarder } from 'node-xdp/forward'
import { Headers, parseHeaders } from 'node-xdp/packet'

const [left = 'veth0', right = 'veth1'] = process.argv.slice(2)
const headers = new Headers()
let udp = 0
const forwarder = await Forwarder.open({
  in: left,
  out: right,
  stages: [
    ({ bytes, offset, length }) => {
      parseHeaders(bytes, offset, length, headers)
      return headers.protocol === 17 && ++udp % 10 === 0 ? 'drop' : undefined
    },
  ],
})
console.log(`forwarding between ${left} and ${right}`)
process.once('SIGINT', () => forwarder.stop())
await forwarder.run()
for (const { from, to, tx, dropped } of forwarder.statistics())
  console.log(`${from} to ${to}: ${tx.packets} packets forwarded, ${dropped} dropped`)
await forwarder.close()
