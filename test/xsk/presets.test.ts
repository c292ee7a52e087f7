// Presets: what they set, and that options given beside them win; queues as drivers tell of them; processors for workers.
import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it, test } from 'node:test'
import { queuesOfChannels } from '../../src/nic/queues.js'
import { getAffinity, native } from '../../src/kernel/index.js'
import { PRESETS, type Preset } from '../../src/xsk/index.js'
import { checkOptions } from '../../src/xsk/options.js'
import { planCpus } from '../../src/xsk/worker-cpus.js'
import { createTestLab, needsRoot } from '../support/lab.js'
import { attachedAt, frameOf, isOurs, openAt, until } from '../support/xsk.js'

const names = Object.keys(PRESETS) as Preset[]

test('a preset fills in what is not given', () => {
  for (const preset of names) {
    const { umem, rings, batch, busyPoll, wait } = checkOptions({ interface: 'veth0', preset })
    const expected = PRESETS[preset]
    assert.deepEqual(
      { umem, rings, batch, wait },
      {
        umem: expected.umem,
        rings: expected.rings,
        batch: expected.batch,
        wait: expected.wait,
      },
    )
    assert.deepEqual(busyPoll, expected.busyPoll === false ? undefined : expected.busyPoll)
  }
  const { batch, rings, umem } = checkOptions({ interface: 'veth0' })
  assert.deepEqual([batch, rings.rx, umem], [64, 2048, { frames: 4096 }])
})

test('options beat the preset one by one, and undefined is not given', () => {
  const checked = checkOptions({
    interface: 'veth0',
    preset: 'lowLatency',
    rings: { rx: 64, ...({ tx: undefined } as object) },
    umem: { frameSize: 4096, ...({ frames: undefined } as object) },
    busyPoll: false,
  })
  assert.deepEqual(checked.rings, { ...PRESETS.lowLatency.rings, rx: 64 })
  assert.deepEqual(checked.umem, { ...PRESETS.lowLatency.umem, frameSize: 4096 })
  assert.equal(checked.busyPoll, undefined)
  assert.equal(checked.batch, PRESETS.lowLatency.batch)
})

test('an unknown preset is refused by name', () => {
  for (const preset of ['fast', 'toString']) {
    assert.throws(() => checkOptions({ interface: 'veth0', preset: preset as Preset }), {
      code: 'XDP_BAD_OPTION',
      option: 'preset',
      message: new RegExp(`"${preset}"`),
    })
  }
})

const none = { count: 0, max: 0 }
for (const [what, channels, expected] of [
  ['combined channels', { combined: { count: 4, max: 16 }, rx: none }, { rx: 4, maxRx: 16 }],
  ['separate ones', { combined: none, rx: { count: 2, max: 8 } }, { rx: 2, maxRx: 8 }],
  [
    'both, numbered through',
    { combined: { count: 2, max: 8 }, rx: { count: 1, max: 4 } },
    { rx: 3, maxRx: 12 },
  ],
  [
    'combined ones that could be separate',
    { combined: { count: 2, max: 4 }, rx: { count: 0, max: 8 } },
    { rx: 2, maxRx: 8 },
  ],
  ['no maximum (n/a)', { combined: { count: 3, max: 0 }, rx: none }, { rx: 3, maxRx: 3 }],
  ['a maximum below what is in use', { combined: { count: 8, max: 4 }, rx: none }, { rx: 8, maxRx: 8 }],
  ['none in use', { combined: { count: 0, max: 4 }, rx: none }, undefined],
] as const) {
  test(`queues of a driver that tells of ${what}`, () => {
    assert.deepEqual(queuesOfChannels(channels), expected && { ...expected, source: 'channels' })
  })
}

test('workers share the processors they are given in turn, and get none that they may not use', () => {
  const allowed = getAffinity()
  assert.deepEqual(planCpus('none', 2), [undefined, undefined])
  assert.deepEqual(
    planCpus('auto', 5),
    Array.from({ length: 5 }, (_, i) => allowed[i % allowed.length]),
  )
  // A device of no NUMA node is near every processor.
  assert.deepEqual(planCpus('auto', 1, 'lo'), [allowed[0]])
  assert.deepEqual(planCpus([allowed[0]], 3), [allowed[0], allowed[0], allowed[0]])
  for (const cpus of [[], [4095], 'all' as 'auto']) {
    assert.throws(() => planCpus(cpus, 1), { code: 'XDP_BAD_OPTION', option: 'cpus' })
  }
})

test('processors near the device: those of its NUMA node, as far as they may be used', (t) => {
  const [first, ...others] = getAffinity()
  const sysfs = mkdtempSync(join(tmpdir(), 'node-xdp-sys-'))
  t.after(() => rmSync(sysfs, { recursive: true }))
  const device = (name: string, node: number) => {
    mkdirSync(join(sysfs, `class/net/${name}/device`), { recursive: true })
    writeFileSync(join(sysfs, `class/net/${name}/device/numa_node`), `${node}\n`)
  }
  const node = (number: number, cpus: string) => {
    mkdirSync(join(sysfs, `devices/system/node/node${number}`), { recursive: true })
    writeFileSync(join(sysfs, `devices/system/node/node${number}/cpulist`), `${cpus}\n`)
  }
  device('near0', 0)
  device('near1', 1)
  device('far', 2)
  device('nowhere', -1)
  node(0, `${first},1000-1003`)
  node(1, others.length > 0 ? others.join(',') : '1004')
  node(2, '1005-1023')
  const all = [first, ...others]
  assert.deepEqual(planCpus('auto', 2, 'near0', sysfs), [first, first])
  const near1 = others.length > 0 ? others : all
  assert.deepEqual(planCpus('auto', 2, 'near1', sysfs), [near1[0], near1[1 % near1.length]])
  for (const name of ['far', 'nowhere', 'unknown']) {
    assert.deepEqual(planCpus('auto', all.length, name, sysfs), all, name)
  }
})

describe('every preset', { skip: needsRoot }, () => {
  for (const preset of names) {
    it(`${preset} takes packets and lets go`, async (t) => {
      const lab = createTestLab(t)
      const sender = await openAt(t, lab.b, { attach: 'none' })
      const receiver = await openAt(t, lab.a, { preset })
      const polls = t.mock.method(native, 'bindWait')
      assert.equal(receiver.umem.frames, PRESETS[preset].umem.frames)
      assert.equal(receiver.busyPoll, preset === 'lowLatency')
      let got = 0
      const running = receiver.run((packet) => void (isOurs(packet) && got++))
      for (let i = 0; i < 100; i++) assert.ok(sender.send(frameOf(64)))
      await sender.drain()
      await until('all are there', () => got === 100)
      receiver.stop()
      await running
      // poll(2) for the one that takes many at a time; the others wait on the event loop, or poll the device.
      assert.equal(polls.mock.callCount() > 0, preset === 'highThroughput')
      await receiver.close()
      assert.deepEqual(attachedAt(lab.a), [])
    })
  }
})
