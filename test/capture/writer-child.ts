// A process that writes packets where it is told, as fast as they are taken, and says on standard error what became of them.
import { CaptureWriter, type CaptureWriterOptions } from '../../src/capture/writer.js'
import type { CaptureWriteError } from '../../src/capture/errors.js'
import { PacketRecord } from '../../src/packet/pcap-record.js'

export interface ChildOrder extends CaptureWriterOptions {
  packets: number
  length: number
  /** Wait for room; otherwise what is not taken is lost. */
  patient: boolean
  /** When all is written, wait until writing fails. */
  lingers?: boolean
}

const order = JSON.parse(process.argv[2]) as ChildOrder
const packet = new PacketRecord()
packet.bytes = new Uint8Array(order.length).fill(0x55)
packet.length = packet.wireLength = order.length
let failure: CaptureWriteError | undefined
let stats: CaptureWriter['stats'] | undefined
try {
  const writer = await CaptureWriter.open(order)
  stats = writer.stats
  for (let i = 0; i < order.packets && !writer.failure; i++) {
    packet.packetId = i
    packet.seconds = i
    if (order.patient) await writer.ready()
    // Others have their turn too, or nothing would ever be written.
    else if (i % 1000 === 0) await new Promise((resolve) => setImmediate(resolve))
    writer.write(packet)
  }
  await writer.flush()
  const alive = setInterval(() => {}, 1000)
  while (order.lingers && !writer.failure) await new Promise((resolve) => setTimeout(resolve, 5))
  clearInterval(alive)
  await writer.close()
} catch (error) {
  failure = error as CaptureWriteError
}
process.stderr.write(JSON.stringify({ stats, code: failure?.code, message: failure?.message }) + '\n')
