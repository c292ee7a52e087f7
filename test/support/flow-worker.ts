// The module of workers that share a queue, in tests: sorts the numbers in UDP datagrams by the port they come from.
import type { WorkerModule } from '../../src/xsk/index.js'

export interface FlowWorkerData {
  verdict?: 'transmit'
  /** Keep no numbers: for more packets than memory should hold. */
  forget?: boolean
}

export type FlowWorkerOrder = 'report' | 'exit'

/** The answer to `report`: the numbers of each flow, by source port, in order. */
export type FlowWorkerReport = Map<number, number[]>

// Ethernet, IPv4 without options, UDP.
const SOURCE_PORT_AT = 34
const PAYLOAD_AT = 42

const start: WorkerModule<FlowWorkerData | undefined> = ({ port, workerData }) => {
  const flows: FlowWorkerReport = new Map()
  port.on('message', (order: FlowWorkerOrder) => {
    if (order === 'exit') process.exit(3)
    port.postMessage(flows)
  })
  return ({ view, offset }) => {
    if (workerData?.forget) return workerData.verdict
    const source = view.getUint16(offset + SOURCE_PORT_AT)
    const numbers = flows.get(source)
    const number = view.getUint32(offset + PAYLOAD_AT)
    if (numbers) numbers.push(number)
    else flows.set(source, [number])
    return workerData?.verdict
  }
}
export default start
