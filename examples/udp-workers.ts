// A key-value store over UDP with a thread a queue: `set KEY VALUE` and `get KEY`, each thread with what it was told and what others pass on.
//   node dist/examples/udp-workers.js veth0 7
//   echo -n 'set name xdp' | socat - UDP4:10.11.1.1:7
import { createUdpServer, type UdpWorkerModule } from 'node-xdp'
import { isMainThread } from 'node:worker_threads'

/** What each thread runs: the same module. */
const start: UdpWorkerModule = ({ worker, port }) => {
  const values = new Map<string, string>()
  // What another thread was told.
  port.on('message', ([key, value]: [string, string]) => values.set(key, value))
  return (message) => {
    const [verb, key = '', value = ''] = message.toString().trim().split(' ')
    if (verb === 'set') {
      values.set(key, value)
      port.postMessage([key, value])
      message.reply(`kept by thread ${worker}\n`)
    } else if (verb === 'get') message.reply(`${values.get(key) ?? 'nothing'}, says thread ${worker}\n`)
  }
}
export default start

if (isMainThread) {
  const [name, port = '7'] = process.argv.slice(2)
  const server = await createUdpServer({
    ...(name && { interface: name }),
    port: Number(port),
    worker: new URL(import.meta.url),
    wait: 'poll',
  })
  const { group, ports } = server
  group.on('message', (message, from) => {
    for (const worker of group.workers) if (worker !== from) worker.post(message)
  })
  console.log(`port ${ports[0]} on ${server.interface}, ${group.workers.length} threads`)
  process.once('SIGINT', () => void server.close())
  await server.closed
  console.log(`${server.counts.replied} datagrams`)
}
