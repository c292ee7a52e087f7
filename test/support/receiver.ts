// A worker thread with a socket of its own, which finds the shared XSKMAP by descriptor and counts what it receives.
import { parentPort, workerData } from 'node:worker_threads'
import { BpfMap, u32 } from '../../src/bpf/index.js'
import { Namespace, threadId } from '../../src/kernel/index.js'
import { XdpSocket, type FrameCensus } from '../../src/xsk/index.js'

export interface ReceiverData {
  interface: string
  namespace: string
  queue: number
  /** Descriptor of the XSKMAP: descriptors belong to the process, so every thread may use it. */
  map: number
}

export interface ReceiverReport {
  thread: number
  queue: number
  /** Of each packet, in order: the number in its bytes 14 to 17. */
  numbers: number[]
  /** Queues that the packets said they came from. */
  queues: number[]
  census: FrameCensus
}

const data = workerData as ReceiverData
const namespace = Namespace.open(data.namespace)
const socket = await XdpSocket.open({
  interface: data.interface,
  namespace,
  queue: data.queue,
  // The map is the opener's to close.
  xskMap: BpfMap.fromFd(data.map, { key: u32, value: u32 }),
  trackFrames: true,
})
namespace.close()
const numbers: number[] = []
const queues = new Set<number>()
const running = socket.run((packet) => {
  numbers.push(packet.view.getUint32(packet.offset + 14))
  queues.add(packet.queue)
})
parentPort?.postMessage('ready')
parentPort?.on('message', (message: { until: number }) => {
  const report = () => {
    if (numbers.length < message.until) return void setTimeout(report, 1)
    socket.stop()
    void running.then(async () => {
      const { queue } = data
      const census = socket.frames()
      const result: ReceiverReport = { thread: threadId(), queue, numbers, queues: [...queues], census }
      await socket.close()
      parentPort?.postMessage(result)
      parentPort?.close()
    })
  }
  report()
})
