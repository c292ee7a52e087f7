// Packets of the ring buffer on a lab's cable: looked at when the ring fills, whatever the timer says; large ones that the kernel made.
import assert from 'node:assert/strict'
import { mock, suite, test, type TestContext } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { MirrorSource, type MirrorSourceOptions } from '../../src/capture/mirror-source.js'
import { PacketRing } from '../../src/capture/packet-ring.js'
import { compileFilter } from '../../src/filter/index.js'
import { isInstalled } from '../../src/kernel/index.js'
import type { PacketRecord } from '../../src/packet/pcap-record.js'
import type { Lab } from '../../src/lab/index.js'
import { iperfClient, iperfServer } from '../support/iperf.js'
import { createTestLab, needsRoot } from '../support/lab.js'
import { frameOf, isOurs, until } from '../support/xsk.js'
import { hexOf, Keeper, senderAt } from './support.js'

const ours = (packet: PacketRecord) => isOurs(packet as never)

const needsIperf = !isInstalled('iperf3') && 'iperf3 is not installed'
/** Local TCP crosses the cable in segments of up to 64 KiB, which no MTU bounds. */
const OFFLOADS = { checksums: 'offload' } as const

/** What arrives at end a, mirrored in generic mode and beside that by AF_PACKET. */
function bothWays(t: TestContext, lab: Lab, options: Partial<MirrorSourceOptions>) {
  const where = { interface: lab.a.interface, namespace: lab.a.namespace, filter: options.filter }
  const source = MirrorSource.open({ ...where, xdpMode: 'generic', ...options })
  t.after(() => source.close())
  const ring = PacketRing.open({ ...where, blocks: 32, blockSize: 1 << 20 })
  t.after(() => ring.close())
  const mirrored = new Keeper()
  const tapped = new Keeper(({ direction }) => direction === 'inbound')
  source.start(mirrored)
  ring.start(tapped)
  const packets = async () => {
    await ring.stop()
    assert.equal(ring.lost(), 0)
    return tapped.packets
  }
  return { source, mirrored, packets }
}

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

  for (const words of ['tcp and greater 5000', 'tcp and len > 20000', 'tcp and less 20000', 'tcp']) {
    test(
      `in generic mode ${words} judges large segments by all of their length`,
      { skip: needsIperf },
      async (t) => {
        const lab = createTestLab(t, OFFLOADS)
        await iperfServer(t, lab, 'a')
        const filter = compileFilter(words)
        const { mirrored, packets } = bothWays(t, lab, { filter })
        await iperfClient(lab, 'b', lab.a.ipv4, '-n', '2M')
        const seen = await packets()
        assert.ok(seen.some(({ wireLength }) => wireLength > (words.includes('less') ? 5000 : 20_000)))
        await until('the mirror has as many', () => mirrored.packets.length >= seen.length)
        assert.deepEqual(mirrored.packets.map(hexOf), seen.map(hexOf))
      },
    )
  }
})
