// Sends from an AF_XDP socket, every packet stamped on its way into the TX ring.
import { setImmediate as turn, setTimeout as delay } from 'node:timers/promises'
import { setU16 } from '../packet/bytes.js'
import { type TxBatch, XdpSocket } from '../xsk/index.js'
import type { Order, Sent } from './order.js'
import { type Stamp, monotonicNow, writeStamp } from './stamp.js'

const BATCH = 64
// Batches in a turn of the event loop.
const BATCHES_A_TURN = 32

/** Sends as `generate` says. Binds the queue, whose packets it does not take: no program is attached. */
export async function sendFromSocket(order: Order): Promise<Sent> {
  const { rate, count, seconds, signal, onProgress } = order
  const socket = await XdpSocket.open({
    interface: order.interface,
    namespace: order.namespace,
    queue: order.queue ?? 0,
    attach: 'none',
  })
  const writer = new PacketWriter(socket.bytes, order)
  const start = performance.now()
  const elapsed = () => (performance.now() - start) / 1e3
  const sent = () => ({ packets: writer.packets, bytes: writer.bytes, seconds: elapsed() })
  try {
    while (signal?.aborted !== true && writer.packets < count && elapsed() < seconds) {
      for (let batch = 0; batch < BATCHES_A_TURN; batch++) {
        const due = rate === 0 ? BATCH : Math.ceil(elapsed() * rate) - writer.packets
        const wanted = Math.min(BATCH, due, count - writer.packets)
        if (wanted <= 0 || writer.fill(socket.reserve(wanted)) === 0) break
      }
      onProgress?.(sent())
      // The next packet is due in a while, or the device is busy.
      if (rate > 0 && rate < 1000) await delay(1)
      else await turn()
    }
    const { packets, bytes } = writer
    await socket.drain()
    return { ...sent(), packets, bytes }
  } finally {
    await socket.close()
  }
}

/** Writes packets into frames: the templates by turns, the flows by turns, one number after the other. */
class PacketWriter {
  packets = 0
  bytes = 0
  readonly #into: Uint8Array
  readonly #order: Order
  readonly #stamp: Stamp
  #next = 0

  constructor(into: Uint8Array, order: Order) {
    this.#into = into
    this.#order = order
    this.#stamp = { stream: order.stream, sequence: 0, time: 0 }
  }

  /** Fills the frames, sends them, and answers how many were taken. */
  fill(frames: TxBatch): number {
    const { templates, flows, firstPort } = this.#order
    const stamp = this.#stamp
    stamp.time = monotonicNow()
    for (let i = 0; i < frames.length; i++) {
      const { bytes, layout } = templates[this.#next]
      if (++this.#next === templates.length) this.#next = 0
      const at = frames.offset(i)
      this.#into.set(bytes, at)
      if (layout !== undefined) {
        const sequence = this.packets + i
        const flow = sequence % flows
        stamp.sequence = sequence >>> 0
        setU16(this.#into, at + layout.port, firstPort + flow)
        writeStamp(this.#into, at + layout.stamp, stamp, flow)
      }
      frames.setLength(i, bytes.length)
      this.bytes += bytes.length
    }
    const taken = frames.commit()
    this.packets += taken
    return taken
  }
}
