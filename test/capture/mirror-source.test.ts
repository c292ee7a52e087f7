// Packets of the ring buffer on a lab's cable: looked at when the ring fills, whatever the timer says.
import assert from 'node:assert/strict'
import { mock, suite, test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { MirrorSource } from '../../src/capture/mirror-source.js'
import type { PacketRecord } from '../../src/packet/pcap-record.js'
import { createTestLab, needsRoot } from '../support/lab.js'
import { frameOf, isOurs } from '../support/xsk.js'
import { hexOf, Keeper, senderAt } from './support.js'

const ours = (packet: PacketRecord) => isOurs(packet as never)

suite('mirror source', { skip: needsRoot }, () => {
  test('looks at a ring that fills without waiting for the timer, before anything is lost, also after a pause', async (t) => {
    const lab = createTestLab(t)
    const send = senderAt(t, lab.b)
    const { interface: name, namespace } = lab.a
    const source = MirrorSource.open({ interface: name, namespace, ringBytes: 65_536, latency: 60_000 })
    t.after(() => source.close())
    const keeper = new Keeper(ours)
    // The timers between looks are never over.
    mock.timers.enable({ apis: ['setTimeout'] })
    t.after(() => mock.timers.reset())
    source.start(keeper)
    const sent: string[] = []
    for (let round = 0; round < 50; round++) {
      if (round === 25) source.pause()
      // Half of what the ring has room for: more than a quarter, where the bell is.
      for (let i = 0; i < 20; i++) {
        const frame = frameOf(1400, sent.length)
        sent.push(Buffer.from(frame).toString('hex'))
        send(frame)
      }
      if (round === 25) source.resume()
      // A bound for what would otherwise never come.
      for (let turns = 0; keeper.packets.length < sent.length && turns < 200_000; turns++) await turn()
      assert.equal(keeper.packets.length, sent.length)
    }
    assert.deepEqual(keeper.packets.map(hexOf), sent)
    assert.equal(source.lost(), 0)
  })
})
