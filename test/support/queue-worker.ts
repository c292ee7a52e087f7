// The module of a group's workers in tests: keeps the numbers in the packets, answers messages, and dies when told to.
import { getAffinity, threadId } from '../../src/kernel/index.js'
import type { WorkerModule } from '../../src/xsk/index.js'
import { isOurs } from './xsk.js'

/** Given as `workerData`. */
export interface QueueWorkerData {
  /** What to do with a packet once its number is kept. Default: nothing. */
  verdict?: 'transmit'
  /** Keep no numbers: for more packets than memory should hold. */
  forget?: boolean
  /** Post `here` before anything else. */
  greets?: boolean
  /** Fail before the first packet, on the queues named. */
  failOn?: number[]
}

/** What a worker can be told. */
export type QueueWorkerOrder = 'report' | 'throw' | 'reject' | 'exit' | 'stop' | 'hang' | { hold: number }

/** The answer to `report`. */
export interface QueueWorkerReport {
  queue: number
  worker: number
  workers: number
  thread: number
  cpus: number[]
  /** Of each packet, in order: the number in its bytes 14 to 17. */
  numbers: number[]
  /** Queues that the packets said they came from. */
  queues: number[]
}

const start: WorkerModule<QueueWorkerData | undefined> = ({
  port,
  socket,
  workerData,
  queue,
  worker,
  workers,
}) => {
  const numbers: number[] = []
  const queues = new Set<number>()
  let toHold = 0
  let doomed: QueueWorkerOrder | undefined
  const report = (): QueueWorkerReport => ({
    queue,
    worker,
    workers,
    thread: threadId(),
    cpus: getAffinity(),
    numbers,
    queues: [...queues],
  })
  port.on('message', (order: QueueWorkerOrder) => {
    if (order === 'report') port.postMessage(report())
    else if (order === 'reject') void Promise.reject(new Error('on purpose'))
    else if (order === 'exit') process.exit(3)
    else if (order === 'stop') socket.stop()
    else if (order === 'hang') for (;;);
    else if (order === 'throw') doomed = order
    else toHold = order.hold
  })
  if (workerData?.greets) port.postMessage('here')
  if (workerData?.failOn?.includes(queue)) throw new Error('not on this queue')
  return {
    handler: (packet) => {
      if (!isOurs(packet)) return
      if (doomed === 'throw') throw new Error('on purpose')
      if (workerData?.forget) return workerData.verdict
      numbers.push(packet.view.getUint32(packet.offset + 14))
      queues.add(packet.queue)
      if (toHold-- > 0) return 'hold'
      return workerData?.verdict
    },
    stop: () => port.postMessage('bye'),
  }
}
export default start
