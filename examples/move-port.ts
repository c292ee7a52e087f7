// A program that rewrites packets: what comes to one UDP port goes on to another, and each source is counted.
//   node dist/examples/move-port.js veth0 5300 53
import { attachXdp, be32, counter, defineMap, defineXdp, updateChecksum } from 'node-xdp/bpf'
import { ETH_P_IP, IPPROTO_UDP, formatIp } from 'node-xdp/packet'

const [name = 'veth0', from = '5300', to = '53'] = process.argv.slice(2)

const sources = defineMap({
  type: 'lru_hash',
  name: 'sources',
  key: be32,
  value: counter,
  maxEntries: 10_000,
})

const movePort = defineXdp('move_port', (x) => {
  const eth = x.packet.ethernet({ vlans: 1 }) // behind a VLAN tag too
  x.require(eth.type.eq(ETH_P_IP))
  const ip = eth.ipv4({ fragments: false }) // a fragment passes as it is
  x.require(ip.protocol.eq(IPPROTO_UDP))
  const udp = ip.transport().udp()
  x.require(udp.dstPort.eq(Number(from)))
  x.ifPresent(x.lookup(sources, ip.src), (count) => count.atomicAdd(1)).else(() => {
    x.update(sources, ip.src, 1, 'create')
  })
  updateChecksum(udp.checksum, udp.dstPort, x.value('be16', Number(to)), { protocol: 'udp' })
  udp.dstPort.set(Number(to))
  return 'pass'
})

const loaded = movePort.load()
const attachment = attachXdp(loaded.program, { interface: name })
console.log(`UDP to port ${from} of ${name} goes to ${to}, in ${attachment.mode} mode`)

process.stdin.resume() // the link ends with the process: stay until told
process.once('SIGINT', () => {
  for (const [source, count] of loaded.map(sources)) {
    console.log(`${formatIp(Uint8Array.of(source >>> 24, source >>> 16, source >>> 8, source))}: ${count}`)
  }
  attachment.detach()
  process.exit()
})
