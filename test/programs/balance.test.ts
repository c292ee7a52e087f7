// Balancing: against its model, its twin in C, and real traffic.
import assert from 'node:assert/strict'
import { createInterface } from 'node:readline'
import { describe, test } from 'node:test'
import { type BpfMap, type Verdict, attachXdp } from '../../src/bpf/index.js'
import { type Xdp, defineXdp } from '../../src/bpf/builder/index.js'
import { inNamespace } from '../../src/kernel/index.js'
import {
  type BalanceOptions,
  BalanceProgram,
  defineBalance,
  flowNumber,
  shippedBalance,
} from '../../src/programs/balance.js'
import { type Random, random } from '../bpf/builder/random-program.js'
import { createTestLab, needsRoot } from '../support/lab.js'
import { flowOfPacket, walk } from './flow-model.js'
import { UDP, randomPacket } from './packets.js'
import { compareSpeed, devicesForSockets, prove, twinOf } from './proof.js'

const U64 = 0xffff_ffff_ffff_ffffn

/** The model: the number of a packet's flow; undefined for what passes. */
function numberOf(
  packet: Uint8Array,
  count: number,
  { by = 'ports', symmetric = false }: BalanceOptions,
): number | undefined {
  const flow = flowOfPacket(packet)
  if (typeof flow === 'string' || isDiscovery(packet)) return undefined
  const mix = (value: bigint): bigint => {
    const product = (value * 0x9e37_79b9_7f4a_7c15n) & U64
    return product ^ (product >> 32n)
  }
  const end = (address: string, port: number): bigint => {
    const bytes = Buffer.from(flow.version === 4 ? `${'0'.repeat(20)}ffff${address}` : address, 'hex')
    const mixed = mix(mix(bytes.readBigUInt64LE(0)) ^ bytes.readBigUInt64LE(8))
    return by === 'ports' ? mix(mixed ^ BigInt(port)) : mixed
  }
  const [src, dst] = [end(flow.src, flow.srcPort), end(flow.dst, flow.dstPort)]
  const hash = mix((src * (symmetric ? 1n : 3n) + dst) & U64)
  return Number(((hash >> 32n) * BigInt(count)) >> 32n)
}

/** Neighbour discovery directly behind the IPv6 header, or what is too short to tell. */
function isDiscovery(packet: Uint8Array): boolean {
  const walked = walk(packet)
  if (walked.kind !== 'ip' || walked.version !== 6 || walked.protocol !== 58) return false
  const { start } = walked
  if (packet[start + 6] !== 58 || packet[start + 7] !== 255) return false
  return walked.at + 8 > packet.length || (packet[walked.at] >= 133 && packet[walked.at] <= 136)
}

/** As `randomPacket`, with the hop limit of neighbour discovery in half of what could be it. */
function variedPacket(next: Random): Uint8Array {
  const packet = randomPacket(next, 8)
  const walked = walk(packet)
  if (walked.kind !== 'ip' || walked.version !== 6) return packet
  if (packet[walked.start + 6] === 58 && next(2) === 0) packet[walked.start + 7] = 255
  return packet
}

const optionsOf: readonly BalanceOptions[] = [
  {},
  { symmetric: true },
  { by: 'addresses' },
  { by: 'addresses', symmetric: true },
]

describe('the number of a flow', { skip: needsRoot }, () => {
  for (const options of optionsOf) {
    test(`is the model's on 25,000 packets: ${JSON.stringify(options)}`, (t) => {
      const count = 7
      const loaded = defineXdp('numbers', { otherwise: 'aborted' }, (x: Xdp) =>
        x.verdict(flowNumber(x, count, options).add(100)),
      ).load()
      t.after(() => loaded.close())
      const next = random(61)
      const seen = Array<number>(count).fill(0)
      for (let i = 0; i < 25_000; i++) {
        const packet = variedPacket(next)
        const number = numberOf(packet, count, options)
        const { returnValue } = loaded.program.testRun({ packet })
        if (number === undefined) {
          assert.ok(
            returnValue === 0 || returnValue === 2,
            `${returnValue} ${Buffer.from(packet).toString('hex')}`,
          )
        } else {
          assert.equal(returnValue, number + 100, Buffer.from(packet).toString('hex'))
          seen[number]++
        }
      }
      assert.ok(
        seen.every((times) => times > 0),
        seen.join(),
      )
    })
  }

  /** UDP between two ends of 2000, and the same the other way. */
  const flows = Array.from({ length: 2000 }, (_, index) => {
    const next = random(index)
    const packet = UDP.slice()
    for (let at = 26; at < 38; at++) packet[at] = next(256)
    const back = packet.slice()
    back.set(packet.subarray(26, 30), 30)
    back.set(packet.subarray(30, 34), 26)
    back.set(packet.subarray(34, 36), 36)
    back.set(packet.subarray(36, 38), 34)
    return { packet, back }
  })

  test('spreads evenly, also where only one port differs, and keeps both directions together when symmetric', () => {
    const count = 4
    for (const symmetric of [false, true]) {
      const shares = [Array<number>(count).fill(0), Array<number>(count).fill(0)]
      let together = 0
      flows.forEach(({ packet, back }, index) => {
        shares[0][numberOf(packet, count, { symmetric })!]++
        const near = UDP.slice()
        near.set([index >> 8, index & 0xff], 34)
        shares[1][numberOf(near, count, { symmetric })!]++
        if (numberOf(packet, count, { symmetric }) === numberOf(back, count, { symmetric })) together++
      })
      for (const share of shares) {
        for (const times of share) assert.ok(Math.abs(times - 500) < 100, `${shares.join(' | ')}`)
      }
      assert.ok(symmetric ? together === 2000 : together < 700, `${together}`)
    }
  })

  test('is one for all fragments of a flow, and with `addresses` for whole packets too', () => {
    for (const { packet } of flows.slice(0, 200)) {
      const [first, later] = [packet.slice(), packet.slice()]
      first[20] = 0x20
      later.set([0, 100], 20)
      later.fill(0x55, 34)
      assert.equal(numberOf(first, 16, {}), numberOf(later, 16, {}))
      const whole = numberOf(packet, 16, { by: 'addresses' })
      assert.deepEqual(
        [first, later].map((one) => numberOf(one, 16, { by: 'addresses' })),
        [whole, whole],
      )
    }
  })
})

describe('balance', { skip: needsRoot }, () => {
  test('redirects 100,000 packets to the target of their flow, or passes where there is none', (t) => {
    const count = 3
    const programs = [0, 1, 2].map((filled) => {
      const program = BalanceProgram.load({ to: 'devices', count })
      t.after(() => program.close())
      program.targets.update(filled, 1)
      return program.program
    })
    const next = random(62)
    programs.forEach((program, filled) =>
      prove(
        [program],
        34_000,
        () => variedPacket(next),
        (packet) => ({ verdict: numberOf(packet, count, {}) === filled ? 'redirect' : 'pass' }),
        ['redirect', 'pass'],
      ),
    )
  })

  test('has the verdicts of its twin in C', (t) => {
    const cases = [
      [{ to: 'sockets', count: 2, queues: 4 }, ['-DCOUNT=2', '-DQUEUES=4']],
      [{ to: 'devices', count: 3 }, ['-DCOUNT=3', '-DDEVICES']],
      [{ to: 'cpus', cpus: [1, 0, 0] }, ['-DCOUNT=3', '-DCPUS=2']],
    ] as const
    for (const [targets, flags] of cases) {
      const definition = defineBalance(targets, { symmetric: true })
      const given: Record<string, BpfMap<number, number>> = targets.to === 'sockets'
        ? { xsks_map: devicesForSockets(t) }
        : {}
      const loaded = definition.load({ maps: given })
      t.after(() => loaded.close())
      const made = [...definition.maps.values()].filter(({ name }) => !(name in given))
      const maps = { ...given }
      for (const map of made) maps[map.name] = loaded.map(map) as unknown as BpfMap<number, number>
      if (targets.to === 'devices') maps['devices'].update(1, 1)
      if (targets.to === 'cpus') {
        targets.cpus.forEach((cpu, number) => maps['chosen_cpus'].update(number, cpu))
        // None for processor 1.
        maps['cpus'].update(0, 64)
      }
      const twin = twinOf(t, definition, 'balance', [...flags, '-DSYMMETRIC'], maps)
      if (!twin) continue
      const next = random(63)
      let redirected = 0
      for (let i = 0; i < 3000; i++) {
        const packet = variedPacket(next)
        const verdict: Verdict | undefined = loaded.program.testRun({ packet }).verdict
        assert.equal(verdict, twin.testRun({ packet }).verdict)
        if (verdict === 'redirect') redirected++
      }
      assert.ok(redirected > 200 && redirected < 1900, `${targets.to}: ${redirected}`)
      compareSpeed(t, `balance over ${targets.to}`, [loaded.program, twin], UDP)
    }
  })

  test('refuses numbers of targets that cannot be', () => {
    for (const count of [0, 1.5, 1025]) {
      assert.throws(() => defineBalance({ to: 'devices', count }), {
        code: 'XDP_BAD_OPTION',
        option: 'devices',
      })
    }
    assert.throws(() => defineBalance({ to: 'cpus', cpus: [] }), { option: 'cpus' })
  })

  test('by name: over sockets unless told otherwise, over processors, and not over two kinds', () => {
    const shape = { queues: 3 }
    assert.equal(shippedBalance.define({}, shape).definition.maps.get('xsks_map')?.maxEntries, 6)
    const { definition, fill } = shippedBalance.define({ cpus: ['0-1'], symmetric: ['yes'] }, shape)
    const loaded = definition.load()
    try {
      fill?.(loaded)
      assert.equal(loaded.program.testRun({ packet: UDP }).verdict, 'redirect')
    } finally {
      loaded.close()
    }
    assert.throws(() => shippedBalance.define({ cpus: ['0'], sockets: ['2'] }, shape), { option: 'sockets' })
    assert.throws(() => shippedBalance.define({ cpus: ['many'] }, shape), { option: 'cpus' })
  })

  test('live: every datagram arrives through the processors, and every ping is answered', async (t) => {
    const lab = createTestLab(t)
    const program = inNamespace(lab.a.namespace, () => BalanceProgram.load({ to: 'cpus', cpus: [0, 1] }))
    t.after(() => program.close())
    const attachment = attachXdp(program.program, { interface: lab.a.interface, namespace: lab.a.namespace })
    t.after(() => attachment.detach())
    const { stdout } = await lab.exec('b', 'ping', ['-n', '-c', '10', '-i', '0.01', '-W', '5', lab.a.ipv4])
    assert.match(stdout, /10 received/)
    const receiver = lab.spawn('a', process.execPath, ['-e', RECEIVER], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    t.after(() => receiver.kill('SIGKILL'))
    const lines = createInterface(receiver.stdout!)[Symbol.asyncIterator]()
    assert.equal((await lines.next()).value, 'ready')
    await lab.exec('b', process.execPath, ['-e', SENDER, lab.a.ipv4])
    assert.equal((await lines.next()).value, '100')
  })
})

/** Says how many different datagrams came once it has had a hundred. */
const RECEIVER = `
const socket = require('dgram').createSocket('udp4')
const seen = new Set()
socket.on('message', (message) => {
  seen.add(String(message))
  if (seen.size === 100) { console.log(seen.size); socket.close() }
})
socket.bind(7000, () => console.log('ready'))`

/** Sends a hundred datagrams, each from another port. */
const SENDER = `
for (let i = 0; i < 100; i++) {
  const socket = require('dgram').createSocket('udp4')
  socket.send(String(i), 7000, process.argv[1], () => socket.close())
}`
