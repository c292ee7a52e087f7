// Asks an echo server from end b of a lab, and prints how long the answers took: `udp-client.js IF SRCMAC DSTMAC SRC DST RATE COUNT`.
import { setImmediate as turn } from 'node:timers/promises'
import { Histogram, buildTemplates, monotonicNow, readStamp, writeStamp } from '../src/generate/index.js'
import { Headers, parseHeaders } from '../src/packet/headers.js'
import { XdpSocket } from '../src/xsk/index.js'

/** Nanoseconds from before sending to having the answer; and how many came. */
export interface LatencyResult {
  sent: number
  received: number
  p50: number
  p99: number
  p999: number
}

const [, , name, srcMac, dstMac, src, dst, rate, count] = process.argv
// Answers that take longer count as lost.
const PATIENCE_MS = 500

const [{ bytes, layout }] = buildTemplates({ srcMac, dstMac, src, dst })
const socket = await XdpSocket.open({ interface: name, mode: 'native', copy: 'copy' })
const histogram = new Histogram()
const headers = new Headers()
const stamp = { stream: 0, sequence: 0, time: 0 }
const wanted = Number(count)
const interval = 1e9 / Number(rate)

function receive(): void {
  socket.receive((packet) => {
    const now = monotonicNow()
    const { payloadOffset, payloadEnd } = parseHeaders(packet.bytes, packet.offset, packet.length, headers)
    if (payloadOffset >= 0 && readStamp(packet.bytes, payloadOffset, payloadEnd - payloadOffset, stamp)) {
      histogram.record(now - stamp.time)
    }
    return undefined
  })
}

let sent = 0
const start = monotonicNow()
while (sent < wanted) {
  receive()
  if (monotonicNow() - start < sent * interval) continue
  const frames = socket.reserve(1)
  if (frames.length === 0) continue
  const at = frames.offset(0)
  socket.bytes.set(bytes, at)
  writeStamp(socket.bytes, at + layout.stamp, { stream: 0, sequence: sent, time: monotonicNow() })
  frames.setLength(0, bytes.length)
  sent += frames.commit()
}
for (const end = performance.now() + PATIENCE_MS; histogram.count < sent && performance.now() < end;) {
  receive()
  await turn()
}
const [p50, p99, p999] = [50, 99, 99.9].map((percent) => histogram.percentile(percent))
const result: LatencyResult = { sent, received: histogram.count, p50, p99, p999 }
console.log(JSON.stringify(result))
await socket.close()
