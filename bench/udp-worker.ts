// The module of the benchmark's UDP workers: takes datagrams, and answers with them when its data says so.
import type { UdpWorkerModule } from '../src/serve/index.js'

const start: UdpWorkerModule<boolean> = ({ workerData: isEcho }) =>
  isEcho ? (message) => void message.reply() : () => undefined
export default start
