// Programs with a filter in front: who gets which packet, and changing the filter while packets come.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, test, type TestContext } from 'node:test'
import { attachXdp, counter, type XdpAttachment } from '../../src/bpf/index.js'
import { defineMap, defineXdp } from '../../src/bpf/builder/index.js'
import { compileFilter, FilterError } from '../../src/filter/index.js'
import { inNamespace, OptionError } from '../../src/kernel/index.js'
import {
  AclProgram,
  FilteredProgram,
  defineAcl,
  defineDrop,
  defineFiltered,
  defineRedirect,
  shippedPrograms,
} from '../../src/programs/index.js'
import { XdpGroup } from '../../src/xsk/index.js'
import { random } from '../bpf/builder/random-program.js'
import { startFlood } from '../support/flood.js'
import { createQuietLab, createTestLab, needsRoot } from '../support/lab.js'
import { frameOf, generatorAt, until } from '../support/xsk.js'
import { randomPacket } from './packets.js'
import { prove } from './proof.js'

/** What the packet made by `frameOf` is, in two ways. */
const [OLD, NEW] = ['ether proto 0x88b5', 'ether[12:2] = 0x88b5 and len = 60'].map((it) => compileFilter(it))
const NOT_OURS = compileFilter('not ether proto 0x88b5')

const packets = defineMap({ type: 'percpu_array', name: 'packets', value: counter, maxEntries: 1 })
/** Counts what gets to it, and drops that. */
const counting = defineXdp('counting', (x) => {
  x.lookup(packets, 0).orReturn('aborted').increment()
  return 'drop'
})

function load(t: TestContext, filter = OLD): { program: FilteredProgram; counted: () => number } {
  const program = FilteredProgram.load(counting, filter)
  t.after(() => program.close())
  const map = program.loaded.map(packets)
  return { program, counted: () => (map.lookup(0) ?? []).reduce((a, b) => a + b, 0) }
}

describe('a shipped program with a filter', { skip: needsRoot }, () => {
  /** What has to be said of a program so that it can be at all. */
  const needed: Record<string, Record<string, string[]>> = {
    'redirect-ports': { port: ['53'] },
    balance: { cpus: ['0'] },
    acl: { default: ['drop'], allow: ['tcp'] },
  }
  const expression = 'udp or src net 10.0.0.1 or (ip6 and ether[6] & 1 = 0)'

  for (const [name, shipped] of shippedPrograms) {
    if (name === 'pass' || name === 'every-other' || name === 'sample') continue // Two answer to the n-th packet.
    test(`${name} does with what matches as it does without, and the others pass`, (t) => {
      const filter = compileFilter(expression)
      const set = needed[name] ?? {}
      const [bare, behind] = [set, { ...set, filter: [expression] }].map((given) => {
        const { definition, fill } = shipped.define(given, { queues: 1 })
        const loaded = definition.load()
        t.after(() => loaded.close())
        fill?.(loaded)
        return loaded.program
      })
      const next = random(7)
      let matched = 0
      const makePacket = () => randomPacket(next)
      prove(
        [behind],
        400,
        makePacket,
        (packet) => {
          if (!filter.matches(packet)) return { verdict: 'pass' }
          matched++
          const { verdict, packet: left } = bare.testRun({ packet })
          return { verdict: verdict!, packet: left }
        },
        ['pass'],
      )
      assert.ok(matched > 50 && matched < 350, `${matched} of 400 match`)
    })
  }

  test('pass has no such setting, and a wrong filter is pointed at', () => {
    assert.ok(!Object.hasOwn(shippedPrograms.get('pass')!.settings ?? {}, 'filter'))
    assert.throws(
      () => shippedPrograms.get('drop')!.define({ filter: ['tcp prot 80'] }, { queues: 1 }),
      (error) => error instanceof FilterError && error.position === 4 && error.suggestion === 'port',
    )
    assert.throws(
      () => shippedPrograms.get('drop')!.define({ filter: ['tcp', 'udp'] }, { queues: 1 }),
      OptionError,
    )
  })

  test('can answer otherwise, and without a filter is what it was', (t) => {
    const loaded = defineFiltered(defineDrop(), OLD, 'tx').load()
    t.after(() => loaded.close())
    assert.equal(loaded.program.testRun({ packet: frameOf(60) }).verdict, 'drop')
    assert.equal(loaded.program.testRun({ packet: new Uint8Array(60) }).verdict, 'tx')
    const bare = defineDrop()
    assert.equal(defineFiltered(bare, undefined), bare)
  })
})

describe('changing the filter', { skip: needsRoot }, () => {
  test('keeps what the program has learnt', (t) => {
    const filtered = FilteredProgram.load(defineAcl(), compileFilter('ip'))
    t.after(() => filtered.close())
    const acl = new AclProgram(filtered.loaded)
    const next = random(3)
    const answers = (expression: string) => {
      const filter = compileFilter(expression)
      filtered.change(filter, [])
      assert.equal(filtered.filter, filter)
      let dropped = 0
      for (let i = 0; i < 200; i++) {
        const packet = randomPacket(next)
        const { verdict } = filtered.program.testRun({ packet })
        if (verdict === 'drop') dropped++
        if (!filter.matches(packet)) assert.equal(verdict, 'pass')
      }
      return dropped
    }
    acl.deny('from:0.0.0.0/0')
    assert.ok(answers('ip and udp') > 5)
    assert.ok(answers('ip and icmp') > 5)
  })

  test('changes nothing when it fails, also where it had been changed already', (t) => {
    const lab = createTestLab(t)
    const { program } = load(t)
    const attachments = [lab.a, lab.b].map((end) => attachXdp(program.program, end))
    t.after(() => attachments.forEach((attachment) => attachment.close()))
    const before = program.program.id
    attachments[1].detach()
    assert.throws(() => program.change(NEW, attachments), /is closed/)
    assert.deepEqual([program.program.id, attachments[0].programId, program.filter], [before, before, OLD])
    program.change(NEW, attachments[0])
    assert.notEqual(program.program.id, before)
    assert.equal(attachments[0].programId, program.program.id)
  })

  for (const attach of ['link', 'netlink'] as const) {
    test(`by ${attach} lets no packet past both filters`, async (t) => {
      const lab = createTestLab(t)
      const { program, counted } = load(t)
      const { interface: link, namespace } = lab.a
      const attachment = attachXdp(program.program, { interface: link, namespace, mode: 'native', attach })
      t.after(() => attachment.close())
      const flood = startFlood(t, lab.b, frameOf(60))
      await until('the flood has begun', () => counted() > 0)
      const met = await change(program, attachment, [NEW, OLD], counted)
      await flood.stop()
      await until('all packets have been seen', () => counted() >= flood.sent)
      t.diagnostic(`${flood.sent} packets, ${CHANGES} changes, ${met} of them between packets`)
      assert.equal(counted(), flood.sent)
      assert.ok(met > CHANGES / 10, `only ${met} changes met packets`)
    })
  }

  test('judges every packet by one filter or the other', async (t) => {
    const lab = createQuietLab(t)
    const frame = frameOf(60)
    frame.set(lab.a.mac.split(':').map((byte) => parseInt(byte, 16)))
    // IPv4 with a header too short to be one: the kernel counts it as received, and it goes no further.
    frame.set([8, 0, 0x41], 12)
    const [takes, leaves] = ['ether[14] = 0x41', 'ether[14] = 0x42'].map((it) => compileFilter(it))
    const { program, counted } = load(t, takes)
    const attachment = attachXdp(program.program, {
      interface: lab.a.interface,
      namespace: lab.a.namespace,
      mode: 'native',
    })
    t.after(() => attachment.close())
    const before = received(lab.a.namespace)
    const passed = () => received(lab.a.namespace) - before
    const judged = () => counted() + passed()
    const flood = startFlood(t, lab.b, frame)
    await until('the flood has begun', () => judged() > 0)
    await change(program, attachment, [leaves, takes], judged)
    await flood.stop()
    await until('all packets have been seen', () => judged() >= flood.sent)
    t.diagnostic(`${flood.sent} packets: ${counted()} match, ${passed()} pass`)
    assert.equal(judged(), flood.sent)
    assert.ok(counted() > 0 && passed() > 0)
  })

  test('of a group leaves its sockets where they are', async (t) => {
    const lab = createTestLab(t)
    let program: FilteredProgram | undefined
    const group = await XdpGroup.open({
      interface: lab.a.interface,
      namespace: lab.a.namespace,
      program: ({ queues }) => (program = FilteredProgram.load(defineRedirect(queues), NOT_OURS)),
    })
    t.after(() => group.close())
    const generator = generatorAt(t, lab.b)
    let ours = 0
    const take = () => {
      group.receive(({ bytes, offset, length }) => {
        if (length === 60 && bytes[offset + 12] === 0x88 && bytes[offset + 13] === 0xb5) ours++
      })
      return ours
    }
    const arrived = () => lab.stats().a.rxPackets
    const start = arrived()
    generator.send(frameOf(60), 64)
    await until('they have arrived', () => arrived() >= start + 64)
    assert.equal(take(), 0)
    program!.change(OLD, group.attachments)
    generator.send(frameOf(60), 64)
    await until('all are at the sockets', () => take() >= 64)
    assert.equal(ours, 64)
  })

  test('has sockets to speak of only where packets go to some', (t) => {
    const { program } = load(t)
    assert.throws(() => program.sockets, OptionError)
  })
})

/** Each waits until no processor runs the old program any more (synchronize_rcu): some 20 ms. */
const CHANGES = 60

/** Changes to and fro while packets come, and answers how many changes found that packets had come since the one before. */
async function change(
  program: FilteredProgram,
  attachment: XdpAttachment,
  filters: readonly (typeof OLD)[],
  counted: () => number,
): Promise<number> {
  let met = 0
  let last = counted()
  for (let i = 0; i < CHANGES; i++) {
    program.change(filters[i % 2], attachment)
    const now = counted()
    if (now > last) met++
    last = now
    // Lets the thread of the flood be started and stopped.
    await new Promise((resolve) => setImmediate(resolve))
  }
  return met
}

/** IPv4 packets that got to a namespace's network stack (InReceives, RFC 4293). */
function received(namespace: Parameters<typeof inNamespace>[0]): number {
  const text = inNamespace(namespace, () => readFileSync('/proc/thread-self/net/snmp', 'utf8'))
  const [names, values] = text.split('\n').filter((line) => line.startsWith('Ip: '))
  return Number(values.split(' ')[names.split(' ').indexOf('InReceives')])
}
