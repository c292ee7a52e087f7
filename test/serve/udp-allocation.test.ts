// The hot path of a UDP server leaves the heap as it was: a flood is received and answered without an object a packet.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { getHeapStatistics, setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { buildPacket } from '../../src/packet/index.js'
import { startFlood } from '../support/flood.js'
import { needsRoot } from '../support/lab.js'
import { serve } from './udp-lab.js'

setFlagsFromString('--expose-gc')
const gc = runInNewContext('gc') as () => void

/** Datagrams until everything is compiled, and those that are counted. */
const WARM = 50_000
const COUNTED = 100_000

describe('the hot path of a UDP server', { skip: needsRoot }, () => {
  for (const [what, reply] of [
    ['received', undefined],
    ['answered in place', ''],
    ['answered with other bytes', new Uint8Array(100)],
  ] as const) {
    it(`allocates nothing for a datagram that is ${what}`, async (t) => {
      // Waited for without timers, which allocate more than everything else.
      let left = WARM
      let reached: () => void = () => undefined
      const enough = async (packets: number) => {
        left = packets
        await new Promise<void>((resolve) => (reached = resolve))
      }
      const { lab, server, port } = await serve(t, { trackFrames: false }, (message) => {
        if (--left === 0) reached()
        if (reply === '') message.reply()
        else if (reply) message.reply(reply)
      })
      const packet = buildPacket({
        ethernet: { dst: lab.a.mac, src: lab.b.mac },
        ipv4: { src: lab.b.ipv4, dst: lab.a.ipv4 },
        udp: { srcPort: 9, dstPort: port },
        payload: 'twenty-two bytes of it',
      })
      const flood = startFlood(t, lab.b, packet)
      await enough(WARM)
      gc()
      const before = getHeapStatistics().used_heap_size
      await enough(COUNTED)
      const bytes = getHeapStatistics().used_heap_size - before
      await flood.stop()
      // The least object has 12 bytes. Turns of the event loop allocate some, but each takes many packets.
      assert.ok(bytes < COUNTED * 8, `${bytes} bytes for ${COUNTED} packets`)
      assert.equal(server.drops.damaged, 0)
    })
  }
})
