// Counting by protocol: against its model, its twin in C, two CPUs at once, and real traffic.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { attachXdp, probeFrags } from '../../src/bpf/index.js'
import { inNamespace } from '../../src/kernel/index.js'
import { ProtocolCounter, defineCountProtocols } from '../../src/programs/count-protocols.js'
import { MOST, compileTwin, speed } from '../bpf/builder/compile-twin.js'
import { random } from '../bpf/builder/random-program.js'
import { needsClang } from '../bpf/elf/compile.js'
import { createTestLab, needsRoot } from '../support/lab.js'
import { walk } from './flow-model.js'
import { runOnTwoCpus } from './two-cpus.js'
import { UDP, randomPacket } from './packets.js'

/** The model: under what a packet counts. */
function protocolOf(packet: Uint8Array): string {
  const walked = walk(packet)
  if (walked.kind === 'ip') return `ipv${walked.version} ${walked.protocol}`
  if (walked.kind === 'other') return walked.type === 0x0806 ? 'arp' : 'other'
  return 'malformed'
}

const read = (counter: ProtocolCounter): Map<string, { packets: number; bytes: number }> =>
  new Map(
    [...counter.counts()].map(({ kind, protocol, packets, bytes }) => [
      protocol === undefined ? kind : `${kind} ${protocol}`,
      { packets, bytes },
    ]),
  )

test('counts 100,000 packets as the model does, and passes each as it came', { skip: needsRoot }, (t) => {
  const counter = ProtocolCounter.load()
  t.after(() => counter.close())
  const expected = new Map<string, { packets: number; bytes: number }>()
  const next = random(31)
  for (let i = 0; i < 100_000; i++) {
    const packet = randomPacket(next, 8)
    const { verdict, packet: left } = counter.program.testRun({ packet })
    assert.equal(verdict, 'pass')
    assert.equal(Buffer.compare(left, packet), 0)
    const name = protocolOf(packet)
    const { packets, bytes } = expected.get(name) ?? { packets: 0, bytes: 0 }
    expected.set(name, { packets: packets + 1, bytes: bytes + packet.length })
  }
  const byName = (counts: typeof expected) =>
    Object.fromEntries([...counts].sort(([a], [b]) => (a < b ? -1 : 1)))
  assert.deepEqual(byName(read(counter)), byName(expected))
  for (const name of ['ipv4 17', 'ipv6 6', 'arp', 'other', 'malformed']) {
    assert.ok(expected.get(name)!.packets > 1000, `${name} came too seldom`)
  }
})

test(
  'has about as many instructions as its twin in C, and counts alike',
  { skip: needsRoot || needsClang },
  (t) => {
    const frags = probeFrags().available
    const object = compileTwin('test/programs/twins/count-protocols.c', frags ? ['-DFRAGS'] : [])
    const definition = defineCountProtocols({ frags })
    const [ours, clang] = [definition.assembled.bytes.length / 8, object.link('program').bytes.length / 8]
    t.diagnostic(`count-protocols: ${ours} instructions, clang -O2 ${clang}: ${(ours / clang).toFixed(2)}`)
    assert.ok(ours <= clang * MOST, `${ours} instructions, clang has ${clang}`)
    const counter = ProtocolCounter.load()
    t.after(() => counter.close())
    const compiled = object.load({ frags })
    t.after(() => compiled.close())
    const next = random(32)
    for (let i = 0; i < 5000; i++) {
      const packet = randomPacket(next, 8)
      assert.equal(
        counter.program.testRun({ packet }).verdict,
        compiled.program('program').testRun({ packet }).verdict,
      )
    }
    const theirs = [...compiled.map('protocols').entries()].map(([slot, values]) => [
      slot,
      (values as { packets: bigint; bytes: bigint }[]).reduce(
        (sum, { packets, bytes }) => sum + Number(packets) * 1e6 + Number(bytes),
        0,
      ),
    ])
    const slots = { ipv4: 0, ipv6: 256, arp: 512, other: 513, malformed: 514 }
    const mine = [...counter.counts()].map(({ kind, protocol = 0, packets, bytes }) => [
      slots[kind] + protocol,
      packets * 1e6 + bytes,
    ])
    assert.deepEqual(
      mine,
      theirs.filter(([, sum]) => sum !== 0),
    )
    const [built, twin] = [speed(counter.program, UDP), speed(compiled.program('program'), UDP)]
    t.diagnostic(`count-protocols: ${built} ns a packet, clang -O2 ${twin}: ${(built / twin).toFixed(2)}`)
  },
)

test('loses no count when two CPUs count at once', { skip: needsRoot }, async (t) => {
  const lab = createTestLab(t)
  const counter = ProtocolCounter.load()
  t.after(() => counter.close())
  const each = 100_000
  await runOnTwoCpus(counter.program.id, [UDP], each, lab.a)
  assert.deepEqual(read(counter).get('ipv4 17'), { packets: 2 * each, bytes: 2 * each * UDP.length })
})

test('counts the pings that arrive, and lets them be answered', { skip: needsRoot }, async (t) => {
  const lab = createTestLab(t)
  const counter = inNamespace(lab.a.namespace, () => ProtocolCounter.load())
  t.after(() => counter.close())
  const attachment = attachXdp(counter.program, { interface: lab.a.interface, namespace: lab.a.namespace })
  t.after(() => attachment.detach())
  for (const address of [lab.a.ipv4, lab.a.ipv6!]) {
    await lab.exec('b', 'ping', ['-n', '-c', '5', '-i', '0.02', '-s', '100', '-W', '2', address])
  }
  const counts = read(counter)
  assert.deepEqual(counts.get('ipv4 1'), { packets: 5, bytes: 5 * (14 + 20 + 8 + 100) })
  // Neighbour discovery may come in between.
  assert.ok(counts.get('ipv6 58')!.packets >= 5)
})
