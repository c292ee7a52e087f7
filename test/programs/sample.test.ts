// Sampling: exact on each processor when it counts, right on average when it leaves it to chance.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { attachXdp, type BpfMap } from '../../src/bpf/index.js'
import { inNamespace } from '../../src/kernel/namespace.js'
import { parseIp, parseMac } from '../../src/packet/address.js'
import { shippedPrograms } from '../../src/programs/index.js'
import { SampleProgram, defineSample } from '../../src/programs/sample.js'
import { random } from '../bpf/builder/random-program.js'
import { createTestLab, needsRoot } from '../support/lab.js'
import { collect, frameOf, generatorAt, openAt, until } from '../support/xsk.js'
import { discoveryOf, payloadOf } from './plain-packet.js'
import { compareSpeed, devicesForSockets, twinOf } from './proof.js'
import { type TrafficPools, randomTraffic } from './traffic.js'

const POOLS: TrafficPools = {
  macs: [parseMac('02:00:00:00:00:01')!],
  ipv4: [parseIp('10.0.0.1')!],
  ipv6: [parseIp('fd00::1')!],
  ports: [53],
}

const isCounted = (packet: Uint8Array): boolean => discoveryOf(packet, payloadOf(packet, 0)!) === false

for (const every of [1, 2, 7, 1000]) {
  test(
    `counted: exactly one of ${every} on each processor, and its twin does the same`,
    { skip: needsRoot },
    (t) => {
      const devices = devicesForSockets(t)
      const definition = defineSample(1, { every })
      const loaded = definition.load({ maps: { xsks_map: devices } })
      t.after(() => loaded.close())
      const since = loaded.map(definition.maps.get('since_sample')!) as BpfMap<number, number[]>
      const maps = { xsks_map: devices, since_sample: since as BpfMap }
      const twin = twinOf(t, definition, 'sample', [`-DEVERY=${every}`], maps)
      const programs = twin ? [loaded.program, twin] : [loaded.program]
      const next = random(every)
      const counts = since.lookup(0)!.map(() => 0)
      let [counted, taken] = [0, 0]
      for (let i = 0; i < 30_000; i++) {
        const packet = randomTraffic(next, POOLS)
        // The two count together, and take turns.
        const { verdict, packet: after } = programs[next(programs.length)].testRun({ packet })
        assert.ok(Buffer.compare(packet, after) === 0)
        const now = since.lookup(0)!
        const cpu = now.findIndex((count, index) => count !== counts[index])
        if (!isCounted(packet)) {
          assert.deepEqual([verdict, cpu], ['pass', -1], Buffer.from(packet).toString('hex'))
          continue
        }
        counted++
        if (every > 1) {
          assert.ok(cpu >= 0, Buffer.from(packet).toString('hex'))
          const count = counts[cpu] + 1
          assert.equal(verdict, count === every ? 'redirect' : 'pass')
          counts[cpu] = count % every
        } else assert.equal(verdict, 'redirect')
        assert.deepEqual(now, counts)
        if (verdict === 'redirect') taken++
      }
      const left = counts.reduce((sum, count) => sum + count, 0)
      assert.equal(taken * every + left, counted)
      compareSpeed(t, `one of ${every}`, programs, frameOf(60))
    },
  )
}

for (const every of [1, 3, 50]) {
  test(`random: one of ${every} on average`, { skip: needsRoot }, (t) => {
    const devices = devicesForSockets(t)
    const definition = defineSample(1, { every, choice: 'random' })
    const loaded = definition.load({ maps: { xsks_map: devices } })
    t.after(() => loaded.close())
    const flags = [`-DEVERY=${every}`, '-DRANDOM']
    // C has no shorter way to take everything.
    const twin = every === 1 ? undefined : twinOf(t, definition, 'sample', flags, { xsks_map: devices })
    const programs = twin ? [loaded.program, twin] : [loaded.program]
    for (const program of programs) {
      const next = random(every)
      let [counted, taken] = [0, 0]
      for (let i = 0; i < 15_000; i++) {
        const packet = randomTraffic(next, POOLS)
        const { verdict } = program.testRun({ packet })
        assert.ok(verdict === 'pass' || (verdict === 'redirect' && isCounted(packet)), verdict)
        if (isCounted(packet)) counted++
        if (verdict === 'redirect') taken++
      }
      // Seven standard deviations of the binomial distribution: once in 10^11 runs.
      const spread = Math.sqrt((counted / every) * (1 - 1 / every))
      assert.ok(Math.abs(taken - counted / every) <= 7 * spread, `${taken} of ${counted}`)
    }
    compareSpeed(t, `chance of 1 in ${every}`, programs, frameOf(60))
  })
}

test('what cannot be sampled is refused', () => {
  const { define } = shippedPrograms.get('sample')!
  assert.equal(define({ every: ['10'], choice: ['random'] }, { queues: 1 }).definition.name, 'xdp_sample')
  for (const every of [0, -1, 1.5, 2 ** 32, NaN]) {
    assert.throws(() => defineSample(1, { every }), { code: 'XDP_BAD_OPTION', option: 'every' })
    assert.throws(() => define({ every: [String(every)] }, { queues: 1 }), {
      code: 'XDP_BAD_OPTION',
      option: 'every',
    })
  }
  assert.throws(() => define({ choice: ['often'] }, { queues: 1 }), {
    code: 'XDP_BAD_OPTION',
    option: 'choice',
  })
})

test(
  'live: the socket gets one packet of four, and ping every answer to the rest',
  { skip: needsRoot },
  async (t) => {
    const lab = createTestLab(t)
    const { a, b } = lab
    const program = inNamespace(a.namespace, () => SampleProgram.load({ queues: a.queues, every: 4 }))
    t.after(() => program.close())
    const socket = await openAt(t, a, { xskMap: program.sockets })
    const attachment = attachXdp(program.program, { interface: a.interface, namespace: a.namespace })
    t.after(() => attachment.detach())
    const generator = generatorAt(t, b)
    const got: Uint8Array[] = []
    generator.send(frameOf(200), 400)
    // Packets of the lab's own may be counted in between, and each processor may keep up to three.
    await until('the samples have come', () => {
      collect(socket, got)
      return got.length >= 97
    })
    assert.ok(got.length <= 101, `${got.length}`)
    for (const frame of got) assert.deepEqual(Buffer.from(frame), Buffer.from(frameOf(200)))
    const { stdout } = await lab.exec('b', 'ping', ['-n', '-c', '12', '-i', '0.02', '-W', '10', a.ipv4])
    const received = Number(/(\d+) received/.exec(stdout)?.[1])
    assert.ok(received >= 6 && received < 12, stdout)
  },
)
