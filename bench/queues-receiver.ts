// The benchmark's receivers on many queues, forwarders, and receivers by preset. Says `ready`, and what it did, as receiver.js.
//
//   queues-receiver.js workers|group|forward|preset|echo -i IF [-o IF] [-q QUEUES] [-p PRESET] [--stages COUNT]
//
// workers: a thread a queue; group: one thread for all queues; forward: between two interfaces, through COUNT stages that have
// a thread each and do nothing; preset: one socket; echo: a UDP server. The first three have the reference's memory, rings and
// batches, which are those of the preset `default`.
import { writeSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { Forwarder } from '../src/forward/index.js'
import { createUdpServer } from '../src/serve/udp.js'
import { XdpGroup, XdpSocket, type PacketHandler, type Preset } from '../src/xsk/index.js'
import type { UdpServerResult } from './udp-server.js'

/** What was received since the mark, and what the process has used for it. */
export type QueuesResult = UdpServerResult

/** What a job says of itself. */
interface Job {
  packets: () => number
  close: () => Promise<void>
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    interface: { type: 'string', short: 'i', default: '' },
    other: { type: 'string', short: 'o', default: '' },
    queues: { type: 'string', short: 'q', default: '1' },
    preset: { type: 'string', short: 'p', default: 'default' },
    stages: { type: 'string', default: '0' },
  },
})
const shared = { interface: values.interface, mode: 'native', copy: 'copy' } as const
const queues = Array.from({ length: Number(values.queues) }, (_, queue) => queue)
const preset = values.preset as Preset
// The port that the benchmark's client asks.
const PORT = 9
const drop: PacketHandler = () => undefined

const JOBS: Record<string, () => Promise<Job>> = {
  async workers() {
    const group = await XdpGroup.open({
      ...shared,
      queues,
      strict: true,
      worker: new URL('./queues-worker.js', import.meta.url),
      // The process has its processor already.
      cpus: 'none',
      run: { wait: 'poll' },
    })
    return { packets: () => group.statistics().rx.packets, close: () => group.close() }
  },
  async group() {
    const group = await XdpGroup.open({ ...shared, queues, strict: true })
    const running = group.run(drop)
    const close = async () => {
      group.stop()
      await running
      await group.close()
    }
    return { packets: () => group.statistics().rx.packets, close }
  },
  async forward() {
    const forwarder = await Forwarder.open({
      in: values.interface,
      out: values.other,
      mode: 'native',
      copy: 'copy',
      strict: true,
      stages: Array.from(
        { length: Number(values.stages) },
        () => new URL('./queues-stage.js', import.meta.url),
      ),
    })
    // As the command, and as C's.
    const running = forwarder.run({ wait: 'poll' })
    const close = async () => {
      forwarder.stop()
      await running
      await forwarder.close()
    }
    return { packets: () => forwarder.group.statistics().rx.packets, close }
  },
  async preset() {
    const socket = await XdpSocket.open({ ...shared, preset })
    const running = socket.run(drop)
    const close = async () => {
      socket.stop()
      await running
      await socket.close()
    }
    return { packets: () => socket.statistics().rx.packets, close }
  },
  async echo() {
    let packets = 0
    const server = await createUdpServer({ ...shared, port: PORT, preset }, (message) => {
      packets++
      message.reply()
    })
    return { packets: () => packets, close: () => server.close() }
  },
}

const job = await JOBS[positionals[0]]()

function look(): QueuesResult {
  const { userCPUTime, systemCPUTime } = process.resourceUsage()
  return { packets: job.packets(), user: userCPUTime / 1e6, system: systemCPUTime / 1e6 }
}

let from = look()
process.on('SIGUSR2', () => (from = look()))
process.once('SIGTERM', () => {
  const to = look()
  const result: QueuesResult = {
    packets: to.packets - from.packets,
    user: to.user - from.user,
    system: to.system - from.system,
  }
  writeSync(1, JSON.stringify(result) + '\n')
  void job.close()
})
writeSync(1, 'ready\n')
