// Takes packets out of an engine's queue in batches.
import type { PacketRecord } from '../packet/pcap-record.js'
import type { PacketQueue } from './queue.js'

/** Views of `batch` packets at most, with fewer when `timeout` milliseconds are over; valid until `handler` has settled. */
export async function takeBatches(
  queue: PacketQueue,
  { batch, timeout }: { batch: number; timeout: number },
  handler: (packets: readonly PacketRecord[]) => unknown,
  taken: (count: number) => void,
): Promise<void> {
  const packets: PacketRecord[] = []
  for (;;) {
    await queue.wait(batch, timeout)
    packets.length = 0
    for (let packet = queue.peek(0); packet && packets.length < batch; packet = queue.peek(packets.length))
      packets.push(packet)
    if (packets.length > 0) {
      await handler(packets)
      taken(packets.length)
    } else if (queue.ended) break
  }
  if (queue.error) throw queue.error
}
