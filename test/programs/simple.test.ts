// The programs that hardly look at a packet: pass, drop, redirect and every-other, against their models and twins, and live.
import assert from 'node:assert/strict'
import { describe, test, type TestContext } from 'node:test'
import { attachXdp, type Verdict } from '../../src/bpf/index.js'
import type { XdpDefinition } from '../../src/bpf/builder/index.js'
import { ETH_P_ARP } from '../../src/packet/ethernet.js'
import { defineEveryOther } from '../../src/programs/every-other.js'
import { defineRedirect } from '../../src/programs/redirect.js'
import { defineDrop, definePass } from '../../src/programs/verdict.js'
import { random } from '../bpf/builder/random-program.js'
import { createTestLab, needsRoot } from '../support/lab.js'
import { randomPacket } from './packets.js'
import { compareSpeed, devicesForSockets, prove, twinOf } from './proof.js'

const PACKETS = 100_000
const BUILDER_TWINS = 'test/bpf/builder/twins'

const isArp = (packet: Uint8Array): boolean => ((packet[12] << 8) | packet[13]) === ETH_P_ARP

interface Case {
  definition: XdpDefinition
  twin: string
  flags?: string[]
  folder?: string
  /** The verdict on a packet, given how many that are not ARP came before it. */
  model: (packet: Uint8Array, before: number) => Verdict
  expected: Verdict[]
}

const cases: Record<string, Case> = {
  pass: {
    definition: definePass(),
    twin: 'verdict',
    flags: ['-DVERDICT=XDP_PASS'],
    model: () => 'pass',
    expected: ['pass'],
  },
  drop: {
    definition: defineDrop(),
    twin: 'verdict',
    flags: ['-DVERDICT=XDP_DROP'],
    model: () => 'drop',
    expected: ['drop'],
  },
  redirect: {
    definition: defineRedirect(1),
    twin: 'redirect',
    folder: BUILDER_TWINS,
    model: () => 'redirect',
    expected: ['redirect'],
  },
  'every-other': {
    definition: defineEveryOther(1),
    twin: 'every-other',
    folder: BUILDER_TWINS,
    model: (packet, before) => (isArp(packet) || before % 2 === 1 ? 'pass' : 'redirect'),
    expected: ['pass', 'redirect'],
  },
}

for (const [name, { definition, twin, flags = [], folder, model, expected }] of Object.entries(cases)) {
  test(`${name}: as its model and its twin have it`, { skip: needsRoot }, (t) => {
    const devices = devicesForSockets(t)
    const given = definition.maps.has('xsks_map') ? { xsks_map: devices } : {}
    const loaded = definition.load({ maps: given })
    t.after(() => loaded.close())
    // Each counts for itself, so that both see the same numbers.
    const other = twinOf(t, definition, twin, flags, given, folder)
    const programs = other ? [loaded.program, other] : [loaded.program]
    const next = random(7)
    let counted = 0
    const judge = (packet: Uint8Array) => {
      const verdict = model(packet, counted)
      if (!isArp(packet)) counted++
      return { verdict }
    }
    prove(programs, PACKETS, () => randomPacket(next), judge, expected)
    compareSpeed(t, name, programs, randomPacket(random(1)))
  })
}

describe('on a cable', { skip: needsRoot }, () => {
  const ping = async (t: TestContext, definition: XdpDefinition) => {
    const lab = createTestLab(t)
    const loaded = definition.load()
    t.after(() => loaded.close())
    const attachment = attachXdp(loaded.program, lab.a)
    t.after(() => attachment.detach())
    const before = lab.stats().a.rxPackets
    const { stdout } = await lab.exec('b', 'ping', ['-n', '-c', '3', '-i', '0.2', '-W', '1', lab.a.ipv4])
    return {
      received: Number(/(\d+) received/.exec(stdout)?.[1]),
      arrived: lab.stats().a.rxPackets - before,
      stdout,
    }
  }

  test('pass lets ping through', async (t) => {
    const { received, stdout } = await ping(t, definePass())
    assert.equal(received, 3, stdout)
  })

  test('drop lets nothing through, though it arrives', async (t) => {
    const { received, arrived, stdout } = await ping(t, defineDrop())
    assert.equal(received, 0, stdout)
    assert.ok(arrived >= 3)
  })

  test('redirect passes to the kernel what has no socket', async (t) => {
    const { received, stdout } = await ping(t, defineRedirect(1))
    assert.equal(received, 3, stdout)
  })
})
