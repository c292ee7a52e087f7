// The module of docs/forward.md: drops UDP packets to a port.
import type { StageModule } from '../../src/forward/index.js'
import { Headers, parseHeaders } from '../../src/packet/index.js'

const start: StageModule<{ port: number }> = ({ workerData, port }) => {
  let blocked = workerData.port
  port.on('message', (message: number) => (blocked = message))
  const headers = new Headers()
  return (packet) => {
    const { protocol, dstPort } = parseHeaders(packet.bytes, packet.offset, packet.length, headers)
    return protocol === 17 && dstPort === blocked ? 'drop' : undefined
  }
}
export default start
