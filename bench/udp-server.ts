// The benchmark's UDP servers: `udp-server.js xdp|workers|dgram receive|echo -i IF [-B] [-q QUEUES]`. Says `ready`, and what it did, as receiver.js.
import { createSocket } from 'node:dgram'
import { writeSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { createUdpServer, type UdpServerOptions } from '../src/serve/udp.js'

/** What a server prints at its end, about the time since the last mark. Times in seconds. */
export interface UdpServerResult {
  packets: number
  user: number
  system: number
}

/** The port that is served. */
export const PORT = 9

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    interface: { type: 'string', short: 'i', default: '' },
    busy: { type: 'boolean', short: 'B', default: false },
    queues: { type: 'string', short: 'q' },
    // Taken for the other receivers' sake.
    size: { type: 'string', short: 's' },
  },
})
const [library, job] = positionals
const isEcho = job === 'echo'
let packets = 0
let count = () => packets

function look() {
  const { userCPUTime, systemCPUTime } = process.resourceUsage()
  return { packets: count(), user: userCPUTime / 1e6, system: systemCPUTime / 1e6 }
}

let from = look()
process.on('SIGUSR2', () => (from = look()))

const options: UdpServerOptions = {
  interface: values.interface,
  port: PORT,
  mode: 'native',
  copy: 'copy',
  busyPoll: values.busy,
  wait: 'poll',
  ...(values.queues !== undefined && {
    queues: Array.from({ length: Number(values.queues) }, (_, queue) => queue),
  }),
}

async function serveXdp(): Promise<() => Promise<void>> {
  const server = await createUdpServer(options, (message) => {
    packets++
    if (isEcho) message.reply()
  })
  return () => server.close()
}

async function serveByWorkers(): Promise<() => Promise<void>> {
  const worker = new URL('./udp-worker.js', import.meta.url)
  const server = await createUdpServer({ ...options, worker, workerData: isEcho, strict: true })
  count = () => server.counts.received
  return () => server.close()
}

async function serveDgram(): Promise<() => Promise<void>> {
  const socket = createSocket('udp4')
  socket.on('message', (message, { port, address }) => {
    packets++
    if (isEcho) socket.send(message, port, address)
  })
  await new Promise<void>((resolve) => socket.bind(PORT, resolve))
  return () => new Promise((resolve) => void socket.close(resolve))
}

const LIBRARIES: Record<string, () => Promise<() => Promise<void>>> = {
  xdp: serveXdp,
  workers: serveByWorkers,
  dgram: serveDgram,
}
const close = await LIBRARIES[library]()
process.once('SIGTERM', () => {
  const to = look()
  const result: UdpServerResult = {
    packets: to.packets - from.packets,
    user: to.user - from.user,
    system: to.system - from.system,
  }
  writeSync(1, JSON.stringify(result) + '\n')
  void close()
})
writeSync(1, 'ready\n')
