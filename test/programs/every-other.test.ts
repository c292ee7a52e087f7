// The tutorial's second assignment, judged by the system's ping, and by test runs.
import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import { BpfMap, attachXdp } from '../../src/bpf/index.js'
import { inNamespace } from '../../src/kernel/namespace.js'
import { EveryOtherProgram, defineEveryOther } from '../../src/programs/every-other.js'
import { createTestLab, needsRoot } from '../support/lab.js'
import { openAt } from '../support/xsk.js'

/** Pings an end that takes every other packet; gives the replies' numbers and how many packets the program counted. */
async function ping(t: TestContext): Promise<{ sequence: number[]; counted: number; text: string }> {
  const lab = createTestLab(t)
  const program = inNamespace(lab.a.namespace, () => EveryOtherProgram.load({ queues: 1 }))
  t.after(() => program.close())
  await openAt(t, lab.a, { xskMap: program.sockets })
  const attachment = attachXdp(program.program, { interface: lab.a.interface, namespace: lab.a.namespace })
  t.after(() => attachment.detach())
  const before = program.count
  const { stdout } = await lab.exec('b', 'ping', ['-n', '-c', '8', '-i', '0.2', '-W', '1', lab.a.ipv4])
  const sequence = [...stdout.matchAll(/icmp_seq=(\d+)/g)].map(([, number]) => Number(number))
  return { sequence, counted: before === 0 ? program.count : -1, text: stdout }
}

test('ping hears of icmp_seq 2, 4, 6 and 8', { skip: needsRoot }, async (t) => {
  // A fresh lab's report for its IPv6 address may come in between, which is a packet like any other: then once more.
  for (let tries = 0; tries < 5; tries++) {
    const { sequence, counted, text } = await ping(t)
    if (counted !== 8) continue
    assert.deepEqual(sequence, [2, 4, 6, 8], text)
    return
  }
  assert.fail('there was always a packet that ping did not send')
})

test('of the packets it counts, the first goes to the socket, the second passes, and so on; ARP always passes', () => {
  const devices = BpfMap.create({ type: 'devmap', name: 'xsks_map', maxEntries: 1 })
  const loaded = defineEveryOther(1).load({ maps: { xsks_map: devices } })
  try {
    devices.update(0, 1)
    const run = (type: number) => {
      const packet = new Uint8Array(60)
      packet.set([type >> 8, type & 0xff], 12)
      return loaded.program.testRun({ packet }).verdict
    }
    const verdicts = [0x800, 0x86dd, 0x806, 0x800, 0x806, 0x88b5, 0x800].map(run)
    assert.deepEqual(verdicts, ['redirect', 'pass', 'pass', 'redirect', 'pass', 'pass', 'redirect'])
  } finally {
    loaded.close()
    devices.close()
  }
})
