// A program written in TypeScript: drops UDP packets to one port, counts them, passes everything else.
//   node dist/examples/block-port.js veth0 9999
import { attachXdp, counter, defineMap, defineXdp } from 'node-xdp/bpf'
import { ETH_P_IP, IPPROTO_UDP } from 'node-xdp/packet'

const [name = 'veth0', port = '9999'] = process.argv.slice(2)

const drops = defineMap({ type: 'array', name: 'drops', value: counter, maxEntries: 1 })

const blockPort = defineXdp('block_port', (x) => {
  const eth = x.packet.ethernet() // a packet too short for a header passes
  x.require(eth.type.eq(ETH_P_IP)) // what does not hold passes
  const ip = eth.ipv4()
  x.require(ip.protocol.eq(IPPROTO_UDP))
  x.require(ip.transport().udp().dstPort.eq(Number(port)))
  x.lookup(drops, 0).orReturn('pass').atomicAdd(1)
  return 'drop'
})

const loaded = blockPort.load()
const attachment = attachXdp(loaded.program, { interface: name })
console.log(`dropping UDP to port ${port} on ${name} in ${attachment.mode} mode`)

process.stdin.resume() // the link ends with the process: stay until told
process.once('SIGINT', () => {
  console.log(`${loaded.map(drops).lookup(0)} packets dropped`)
  attachment.detach()
  process.exit()
})
