// Counting by flow: against its model, its twin in C, two CPUs at once, and real traffic.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { attachXdp, probeFrags } from '../../src/bpf/index.js'
import { inNamespace } from '../../src/kernel/index.js'
import { type Flow, FlowCounter, defineCountFlows } from '../../src/programs/count-flows.js'
import { MOST, compileTwin, speed } from '../bpf/builder/compile-twin.js'
import { type Random, random } from '../bpf/builder/random-program.js'
import { needsClang } from '../bpf/elf/compile.js'
import { createTestLab, needsRoot } from '../support/lab.js'
import { flowOfPacket } from './flow-model.js'
import { UDP, randomPacket } from './packets.js'
import { runOnTwoCpus } from './two-cpus.js'

const nothing = { packets: 0, bytes: 0 }
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')
const nameOf = ({ version, vlan, protocol, src, dst, srcPort, dstPort }: Flow): string =>
  [version, vlan, protocol, hex(src), hex(dst), srcPort, dstPort].join(' ')

/** The model: a table of so many flows, and what belongs to none. */
class Model {
  readonly flows = new Map<string, { packets: number; bytes: number; dropped: number }>()
  readonly rest = { overflow: { ...nothing }, notIp: { ...nothing }, malformed: { ...nothing } }
  readonly #maxFlows: number

  constructor(maxFlows: number) {
    this.#maxFlows = maxFlows
  }

  count(packet: Uint8Array, isDropped: boolean): void {
    const found = flowOfPacket(packet)
    if (typeof found === 'string') return add(this.rest[found], packet)
    const { version, vlan, protocol, src, dst, srcPort, dstPort } = found
    const name = [version, vlan, protocol, src, dst, srcPort, dstPort].join(' ')
    let flow = this.flows.get(name)
    if (!flow) {
      if (this.flows.size === this.#maxFlows) return add(this.rest.overflow, packet)
      flow = { ...nothing, dropped: 0 }
      this.flows.set(name, flow)
    }
    add(flow, packet)
    if (isDropped) flow.dropped++
  }
}

function add(count: { packets: number; bytes: number }, packet: Uint8Array): void {
  count.packets++
  count.bytes += packet.length
}

/** A packet whose first tag, if any, is of one of three VLANs: with random ones no flow would come twice. */
function taggedPacket(next: Random): Uint8Array {
  const packet = randomPacket(next, 8)
  if (packet.length >= 16 && (packet[12] === 0x81 || packet[12] === 0x88)) packet.set([0, next(3)], 14)
  return packet
}

test(
  'counts 100,000 packets as the model does, the overflow too, and passes each as it came',
  { skip: needsRoot },
  (t) => {
    const maxFlows = 3000
    const counter = FlowCounter.load({ maxFlows })
    t.after(() => counter.close())
    const model = new Model(maxFlows)
    const next = random(41)
    for (let i = 0; i < 100_000; i++) {
      const packet = taggedPacket(next)
      const { verdict, packet: left } = counter.program.testRun({ packet })
      assert.equal(verdict, 'pass')
      assert.equal(Buffer.compare(left, packet), 0)
      model.count(packet, false)
    }
    const counted = new Map(
      [...counter.flows()].map((flow) => {
        assert.ok(flow.firstSeen > 0 && flow.firstSeen <= flow.lastSeen)
        assert.equal(flow.firstSeen === flow.lastSeen, flow.packets === 1)
        return [nameOf(flow), { packets: flow.packets, bytes: flow.bytes, dropped: flow.dropped }]
      }),
    )
    assert.equal(counted.size, maxFlows)
    for (const [name, flow] of model.flows) assert.deepEqual(counted.get(name), flow, name)
    assert.deepEqual(counter.rest, model.rest)
    t.diagnostic(`${JSON.stringify(model.rest)}`)
    for (const { packets } of Object.values(model.rest)) assert.ok(packets > 1000)
    for (const version of [4, 6]) {
      const many = [...model.flows].filter(
        ([name, { packets }]) => name.startsWith(`${version} `) && packets > 5,
      )
      assert.ok(many.length > 30, `IPv${version}: ${many.length}`)
    }
  },
)

test('drops what it is told to, and counts it', { skip: needsRoot }, (t) => {
  const drop = (packet: Uint8Array): boolean => packet.length > 23 && packet[23] === 17
  const counter = FlowCounter.load({ maxFlows: 500, drop: (x) => x.packet.field(23, 'u8').eq(17) })
  t.after(() => counter.close())
  const model = new Model(500)
  const next = random(42)
  for (let i = 0; i < 10_000; i++) {
    const packet = taggedPacket(next)
    assert.equal(counter.program.testRun({ packet }).verdict, drop(packet) ? 'drop' : 'pass')
    model.count(packet, drop(packet))
  }
  const counted = [...counter.flows()].map((flow) => [
    nameOf(flow),
    { packets: flow.packets, bytes: flow.bytes, dropped: flow.dropped },
  ])
  assert.deepEqual(Object.fromEntries(counted), Object.fromEntries(model.flows))
  assert.deepEqual(counter.rest, model.rest)
})

test('takes out idle flows and has room for others', { skip: needsRoot }, (t) => {
  const counter = FlowCounter.load({ maxFlows: 2 })
  t.after(() => counter.close())
  const run = (port: number): void => {
    const packet = UDP.slice()
    packet[35] = port
    counter.program.testRun({ packet })
  }
  for (const port of [1, 2, 3]) run(port)
  const [first, second] = [...counter.flows()].sort((a, b) => a.srcPort - b.srcPort)
  assert.equal(counter.rest.overflow.packets, 1)
  assert.deepEqual(counter.removeIdle(second.lastSeen), [first])
  run(3)
  const ports = [...counter.flows()].map(({ srcPort }) => srcPort)
  assert.deepEqual(ports.sort(), [2, 3])
  assert.equal(counter.rest.overflow.packets, 1)
})

test('refuses tables of no or too many flows', () => {
  for (const maxFlows of [0, 1.5, 2 ** 24 + 1]) {
    assert.throws(() => defineCountFlows({ maxFlows }), { code: 'XDP_BAD_OPTION', option: 'maxFlows' })
  }
})

test(
  'has about as many instructions as its twin in C, and counts alike',
  { skip: needsRoot || needsClang },
  (t) => {
    const frags = probeFrags().available
    const flags = ['-DENTRIES=1000', ...(frags ? ['-DFRAGS'] : [])]
    const object = compileTwin('test/programs/twins/count-flows.c', flags)
    const definition = defineCountFlows({ maxFlows: 1000, frags })
    const [ours, clang] = [definition.assembled.bytes.length / 8, object.link('program').bytes.length / 8]
    t.diagnostic(`count-flows: ${ours} instructions, clang -O2 ${clang}: ${(ours / clang).toFixed(2)}`)
    assert.ok(ours <= clang * MOST, `${ours} instructions, clang has ${clang}`)
    const counter = FlowCounter.load({ maxFlows: 1000 })
    t.after(() => counter.close())
    const compiled = object.load({ frags })
    t.after(() => compiled.close())
    const twin = compiled.program('program')
    const next = random(43)
    for (let i = 0; i < 5000; i++) {
      const packet = taggedPacket(next)
      assert.equal(counter.program.testRun({ packet }).verdict, twin.testRun({ packet }).verdict)
    }
    type Key = { src: Uint8Array; dst: Uint8Array; src_port: number; vlan: number; protocol: number }
    const theirs = [...compiled.map('flows').entries()] as [Key, { packets: bigint; bytes: bigint }][]
    const list = (flows: [bytes: string, counts: string][]) => flows.map((flow) => flow.join(' ')).sort()
    assert.deepEqual(
      list(
        [...counter.flows()].map((flow) => [
          `${flow.vlan} ${flow.protocol}`,
          `${flow.packets} ${flow.bytes}`,
        ]),
      ),
      list(theirs.map(([key, { packets, bytes }]) => [`${key.vlan} ${key.protocol}`, `${packets} ${bytes}`])),
    )
    const [built, c] = [speed(counter.program, UDP), speed(twin, UDP)]
    t.diagnostic(`count-flows: ${built} ns a packet, clang -O2 ${c}: ${(built / c).toFixed(2)}`)
  },
)

test('loses no count when two CPUs enter the same flows at once', { skip: needsRoot }, async (t) => {
  const [flows, room, each] = [10_000, 8000, 4]
  const counter = FlowCounter.load({ maxFlows: room })
  t.after(() => counter.close())
  const packets = Array.from({ length: flows }, (_, index) => {
    const packet = UDP.slice()
    packet.set([index >> 8, index & 0xff], 34)
    return packet
  })
  await runOnTwoCpus(counter.program.id, packets, each)
  const counted = [...counter.flows()]
  assert.equal(counted.length, room)
  for (const { packets, bytes } of counted) {
    assert.deepEqual({ packets, bytes }, { packets: 2 * each, bytes: 2 * each * UDP.length })
  }
  const over = 2 * each * (flows - room)
  assert.deepEqual(counter.rest.overflow, { packets: over, bytes: over * UDP.length })
})

test('counts the datagrams and pings that arrive, and lets them pass', { skip: needsRoot }, async (t) => {
  const lab = createTestLab(t)
  const counter = inNamespace(lab.a.namespace, () => FlowCounter.load())
  t.after(() => counter.close())
  const attachment = attachXdp(counter.program, { interface: lab.a.interface, namespace: lab.a.namespace })
  t.after(() => attachment.detach())
  await lab.exec('b', 'ping', ['-n', '-c', '5', '-i', '0.02', '-W', '2', lab.a.ipv4])
  const text = 'x'.repeat(100)
  const script = `const s=require('dgram').createSocket('udp4');let n=0;const go=()=>n++<20?s.send('${text}',7000+n%2,'${lab.a.ipv4}',go):s.close();go()`
  await lab.exec('b', process.execPath, ['-e', script])
  const flows = [...counter.flows()].filter(({ version }) => version === 4)
  const ping = flows.find(({ protocol }) => protocol === 1)
  assert.deepEqual([ping?.packets, ping?.bytes], [5, 5 * 98])
  const udp = flows.filter(({ protocol }) => protocol === 17).sort((a, b) => a.dstPort - b.dstPort)
  assert.deepEqual(
    udp.map(({ dstPort, packets, bytes }) => [dstPort, packets, bytes]),
    [
      [7000, 10, 10 * 142],
      [7001, 10, 10 * 142],
    ],
  )
})
