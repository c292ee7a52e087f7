// The hot path leaves the heap as it was: millions of packets parsed and answered allocate nothing.
import assert from 'node:assert/strict'
import { performance, type PerformanceEntry, PerformanceObserver } from 'node:perf_hooks'
import { test } from 'node:test'
import { getHeapStatistics, setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import {
  buildPacket,
  Headers,
  type PacketDescription,
  parseHeaders,
  replyToEcho,
  swapMacs,
} from '../../src/packet/index.js'

setFlagsFromString('--expose-gc')
const gc = runInNewContext('gc') as () => void

const ipv4 = { src: '10.0.0.1', dst: '10.0.0.2' }
const ipv6 = { src: 'fd00::1', dst: 'fd00::2' }
const udp = { srcPort: 1000, dstPort: 2000 }
const packets: PacketDescription[] = [
  { ipv4, udp, payload: 'datagram' },
  { ipv4, icmp: { type: 8 }, payload: 'echo' },
  { ipv6, icmp6: { type: 128 }, payload: 'echo' },
  { vlans: [{ id: 1 }, { id: 2 }], ipv6, tcp: { srcPort: 1, dstPort: 2, flags: 2 } },
  { ipv6: { ...ipv6, extensions: [{ header: 0, body: new Uint8Array(6) }] }, udp },
  { ipv4: { ...ipv4, totalLength: 2000 }, udp },
]
const CHUNK = 256
const bytes = new Uint8Array(packets.length * CHUNK)
const lengths = packets.map((packet, i) => {
  const frame = buildPacket(packet)
  bytes.set(frame, i * CHUNK)
  return frame.length
})
const h = new Headers()

function work(rounds: number): number {
  let answered = 0
  for (let round = 0; round < rounds; round++) {
    for (let i = 0; i < lengths.length; i++) {
      const offset = i * CHUNK
      parseHeaders(bytes, offset, lengths[i], h)
      swapMacs(bytes, offset)
      if (replyToEcho(bytes, h) > 0) {
        answered++
        // Make it the request again, so that the next round answers too.
        bytes[h.l4Offset] = h.ipVersion === 4 ? 8 : 128
      }
    }
  }
  return answered
}

/** Runs `action` and says how many garbage collections fell into it. */
async function collectionsDuring(action: () => void): Promise<number> {
  const entries: PerformanceEntry[] = []
  const observer = new PerformanceObserver((list) => entries.push(...list.getEntries()))
  observer.observe({ entryTypes: ['gc'] })
  const start = performance.now()
  action()
  const end = performance.now()
  // The entries arrive on a later turn of the event loop.
  await new Promise((resolve) => setImmediate(resolve))
  entries.push(...observer.takeRecords())
  observer.disconnect()
  return entries.filter(({ startTime }) => startTime >= start && startTime <= end).length
}

test('three million packets leave no garbage, and no growth of the heap', async () => {
  const rounds = 500_000
  work(rounds / 10)
  gc()
  const before = getHeapStatistics().used_heap_size
  let answered = 0
  // Eight bytes a packet would be 24 MB, more than one collection of the young generation.
  const collections = await collectionsDuring(() => {
    answered = work(rounds)
  })
  const garbage = getHeapStatistics().used_heap_size - before
  gc()
  const growth = getHeapStatistics().used_heap_size - before
  assert.equal(answered, 2 * rounds)
  assert.equal(collections, 0)
  assert.ok(garbage < 1 << 20, `${garbage} bytes of garbage`)
  assert.ok(growth < 1 << 18, `${growth} bytes stayed`)
})

test('the measure above does see an allocation for each packet', async () => {
  const kept: { at: number }[] = []
  const collections = await collectionsDuring(() => {
    for (let i = 0; i < 3_000_000; i++) kept[i & 7] = { at: i }
  })
  assert.ok(collections > 0)
})
