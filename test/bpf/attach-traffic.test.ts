// Updating an attached program while packets arrive: every packet is counted by the old program or the new one.
import assert from 'node:assert/strict'
import { describe, test, type TestContext } from 'node:test'
import { defineMap, defineXdp, type LoadedXdp } from '../../src/bpf/builder/index.js'
import { attachXdp, counter, type XdpAttachment } from '../../src/bpf/index.js'
import { startFlood } from '../support/flood.js'
import { createTestLab, needsRoot } from '../support/lab.js'
import { frameOf, until } from '../support/xsk.js'

const packets = defineMap({ type: 'percpu_array', name: 'packets', value: counter, maxEntries: 1 })

/** A program that counts every packet and drops it, with a counter of its own. */
function counting(t: TestContext, name: string): { loaded: LoadedXdp; count: () => number } {
  const loaded = defineXdp(name, (x) => {
    x.lookup(packets, 0).orReturn('aborted').increment()
    return 'drop'
  }).load()
  t.after(() => loaded.close())
  return { loaded, count: () => (loaded.map(packets).lookup(0) ?? []).reduce((a, b) => a + b, 0) }
}

/** Each waits until no processor runs the old program any more (synchronize_rcu): some 20 ms, and some 8000 packets. */
const UPDATES = 100

describe('an update under traffic', { skip: needsRoot }, () => {
  for (const attach of ['link', 'netlink'] as const) {
    test(`by ${attach} loses no packet: what was sent is what the two programs counted`, async (t) => {
      const lab = createTestLab(t)
      const programs = [counting(t, 'old'), counting(t, 'new')]
      const counted = () => programs.reduce((sum, program) => sum + program.count(), 0)
      const attachment = attachXdp(programs[0].loaded.program, {
        interface: lab.a.interface,
        namespace: lab.a.namespace,
        mode: 'native',
        attach,
      })
      t.after(() => attachment.close()) // It goes with the lab.
      const flood = startFlood(t, lab.b, frameOf(60))
      await until('the flood has begun', () => counted() > 0)
      const met = await update(attachment, programs, counted)
      await flood.stop()
      await until('all packets have been seen', () => counted() >= flood.sent)
      t.diagnostic(`${flood.sent} packets, ${UPDATES} updates, ${met} of them between packets`)
      assert.equal(counted(), flood.sent)
      // Both had their share, and the updates were not all done before the packets came.
      for (const { count } of programs) assert.ok(count() > 0)
      assert.ok(met > UPDATES / 10, `only ${met} updates met packets`)
    })
  }
})

/** Updates to and fro while packets come, and answers how many updates found that packets had come since the one before. */
async function update(
  attachment: XdpAttachment,
  programs: readonly { loaded: LoadedXdp }[],
  counted: () => number,
): Promise<number> {
  let met = 0
  let last = counted()
  for (let i = 1; i <= UPDATES; i++) {
    attachment.update(programs[i % 2].loaded.program)
    const now = counted()
    if (now > last) met++
    last = now
    // Lets the thread of the flood be started and stopped.
    await new Promise((resolve) => setImmediate(resolve))
  }
  return met
}
