// The module of a UDP server's workers in tests: says in each answer who it is, and does what it is told.
import type { UdpWorkerModule } from '../../src/serve/index.js'

/** Given as `workerData`. */
export interface UdpTestData {
  /** Answer with the bytes of the question instead. */
  echo?: boolean
  /** Send before the module has answered, which cannot be. */
  early?: boolean
}

const start: UdpWorkerModule<UdpTestData | undefined> = ({
  server,
  worker,
  workerData,
  port,
  interface: name,
}) => {
  if (workerData?.early) server.send('too early', 9, '192.0.2.1')
  // `HOST PORT`, or `exit`.
  port.on('message', (order: string) => {
    if (order === 'exit') process.exit(3)
    const [host, to] = order.split(' ')
    port.postMessage(server.send(`from worker ${worker} of ${name}`, Number(to), host))
  })
  return {
    handler: (message) => {
      if (workerData?.echo) {
        message.reply()
        return
      }
      const text = message.toString()
      if (text === 'throw') throw new Error('on purpose')
      message.reply(`${worker} ${message.via} ${text.slice(0, 20)}`)
    },
    stop: () => port.postMessage('bye'),
  }
}
export default start
