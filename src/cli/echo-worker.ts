// The module of the threads of xdp echo --workers: answers each datagram with its own bytes.
import type { UdpWorkerModule } from '../serve/index.js'

const start: UdpWorkerModule = () => (message) => void message.reply()
export default start
