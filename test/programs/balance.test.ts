// Balancing: against its model, its twin in C, and real traffic.
import assert from 'node:assert/strict'
import { createInterface } from 'node:readline'
import { type TestContext, describe, test } from 'node:test'
import { type BpfMap, type BpfProgram, type Verdict, attachXdp } from '../../src/bpf/index.js'
import { type Xdp, defineXdp } from '../../src/bpf/builder/index.js'
import { MappedRegion, getInterface, inNamespace, native } from '../../src/kernel/index.js'
import type { LabEnd } from '../../src/lab/index.js'
import {
  type BalanceOptions,
  BalanceProgram,
  defineBalance,
  flowNumber,
  shippedBalance,
} from '../../src/programs/balance.js'
import { FlowCounter } from '../../src/programs/count-flows.js'
import type { XdpSocket } from '../../src/xsk/index.js'
import { DESCRIPTOR_WORDS, ringBytes, ringOver } from '../../src/xsk/ring-memory.js'
import * as uapi from '../../src/xsk/uapi.js'
import { type Random, random } from '../bpf/builder/random-program.js'
import { createTestLab, needsRoot } from '../support/lab.js'
import { openAt, until } from '../support/xsk.js'
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
    assert.throws(() => BalanceProgram.load({ to: 'cpus', cpus: [0, 4000] }), {
      code: 'XDP_BAD_OPTION',
      option: 'cpus',
      message: /^There is no processor 4000; there (is|are) 0/,
    })
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
    assert.throws(() => shippedBalance.define({ cpus: ['0-4000'] }, shape), { option: 'cpus' })
  })

  test('live: every datagram arrives through the processors, and every ping is answered', async (t) => {
    const lab = createTestLab(t)
    const program = inNamespace(lab.a.namespace, () => BalanceProgram.load({ to: 'cpus', cpus: [0, 1] }))
    t.after(() => program.close())
    const attachment = attachXdp(program.program, { interface: lab.a.interface, namespace: lab.a.namespace })
    t.after(() => attachment.detach())
    const { stdout } = await lab.exec('b', 'ping', ['-n', '-c', '10', '-l', '10', '-i', '10', lab.a.ipv4])
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

test(
  'live: two sockets of one queue get the flows between them, each flow one of them',
  { skip: needsRoot },
  async (t) => {
    const lab = createTestLab(t)
    const program = inNamespace(lab.a.namespace, () =>
      BalanceProgram.load({ to: 'sockets', count: 2, queues: 1 }),
    )
    t.after(() => program.close())
    const first = await openAt(t, lab.a, { xskMap: program.targets })
    const second = openSecondSocket(t, lab.a, first)
    program.targets.update(1, second.fd)
    const attachment = attachXdp(program.program, { interface: lab.a.interface, namespace: lab.a.namespace })
    t.after(() => attachment.detach())
    await lab.exec('b', process.execPath, ['-e', SENDER, lab.a.ipv4, '3'])
    const ports = [new Map<number, number>(), new Map<number, number>()]
    let total = 0
    const note = (socket: number, bytes: Uint8Array, offset: number): void => {
      // UDP over IPv4 to port 7000; the lab may send other things.
      if (bytes[offset + 23] !== 17 || ((bytes[offset + 36] << 8) | bytes[offset + 37]) !== 7000) return
      const port = (bytes[offset + 34] << 8) | bytes[offset + 35]
      ports[socket].set(port, (ports[socket].get(port) ?? 0) + 1)
      total++
    }
    await until('all have come', () => {
      first.receive(({ bytes, offset }) => note(0, bytes, offset))
      for (const offset of second.take()) note(1, first.umem.bytes, offset)
      return total >= 300
    })
    const seen = [...ports[0], ...ports[1]]
    assert.deepEqual(
      seen.map(([, times]) => times),
      Array<number>(100).fill(3),
    )
    assert.equal(new Set(seen.map(([port]) => port)).size, 100)
    for (const { size } of ports) assert.ok(size > 20, `${ports[0].size} and ${ports[1].size}`)
  },
)

test(
  'live: two devices get the flows between them, each flow one of them',
  { skip: needsRoot },
  async (t) => {
    const lab = createTestLab(t)
    const { namespace } = lab.a
    // In a namespace of the lab's own, with which they go.
    const ends = ['one', 'two'].map((name) => ({ near: `${name}0`, far: `${name}1` }))
    const attach = (program: BpfProgram, device: string): void => {
      const attachment = attachXdp(program, { interface: device, namespace })
      t.after(() => attachment.detach())
    }
    const program = inNamespace(namespace, () => BalanceProgram.load({ to: 'devices', count: 2 }))
    t.after(() => program.close())
    const counters: FlowCounter[] = []
    for (const { near, far } of ends) {
      await lab.exec('a', 'ip', ['link', 'add', near, 'up', 'type', 'veth', 'peer', 'name', far])
      await lab.exec('a', 'ip', ['link', 'set', far, 'up'])
      const counter = inNamespace(namespace, () => FlowCounter.load({ maxFlows: 1000 }))
      t.after(() => counter.close())
      attach(counter.program, far)
      inNamespace(namespace, () => program.targets.update(counters.length, getInterface(near).index))
      counters.push(counter)
    }
    attach(program.program, lab.a.interface)
    await lab.exec('b', process.execPath, ['-e', SENDER, lab.a.ipv4, '3'])
    const flowsOf = (counter: FlowCounter) => [...counter.flows()].filter(({ dstPort }) => dstPort === 7000)
    await until('all have come', () => {
      const all = counters.flatMap((counter) => flowsOf(counter))
      return all.reduce((sum, { packets }) => sum + packets, 0) >= 300
    })
    const shares = counters.map((counter) => flowsOf(counter))
    for (const { packets } of shares.flat()) assert.equal(packets, 3)
    assert.equal(new Set(shares.flat().map(({ srcPort }) => srcPort)).size, 100)
    for (const { length } of shares) assert.ok(length > 20, shares.map((share) => share.length).join(' and '))
  },
)

/**
 * A socket that shares UMEM and queue with another, which is why it has neither fill nor completion ring: as little of one as
 * can receive. `take` gives where in the UMEM the packets are that came; their frames are not used again.
 */
function openSecondSocket(
  t: TestContext,
  end: LabEnd,
  first: XdpSocket,
): { fd: number; take: () => number[] } {
  const size = 1024
  const fd = inNamespace(end.namespace, () => native.socket(uapi.AF_XDP, uapi.SOCK_RAW, 0))
  assert.ok(fd >= 0)
  t.after(() => native.close(fd))
  assert.equal(
    native.setsockopt(fd, uapi.SOL_XDP, uapi.XDP_RX_RING, new Uint8Array(Uint32Array.of(size).buffer)),
    0,
  )
  const offsets = new BigUint64Array(16)
  assert.equal(
    native.getsockopt(fd, uapi.SOL_XDP, uapi.XDP_MMAP_OFFSETS, new Uint8Array(offsets.buffer)),
    128,
  )
  const [producer, consumer, desc] = [...offsets].map(Number)
  const layout = { producer, consumer, desc, flags: undefined }
  const length = ringBytes(layout, size, DESCRIPTOR_WORDS)
  const region = MappedRegion.map({
    fd,
    length,
    offset: uapi.XDP_PGOFF_RX_RING,
    context: { about: 'RX ring' },
  })
  t.after(() => region.close())
  const ring = ringOver(region.buffer, layout, size, DESCRIPTOR_WORDS)
  const address = new DataView(new ArrayBuffer(16))
  address.setUint16(0, uapi.AF_XDP, true)
  address.setUint16(2, uapi.XDP_SHARED_UMEM, true)
  address.setUint32(4, end.ifindex, true)
  address.setUint32(12, first.fd, true)
  assert.equal(native.bind(fd, address), 0)
  return {
    fd,
    take: () => {
      const from = ring.consumer[0]
      const to = Atomics.load(ring.producer, 0)
      const taken = Array.from({ length: to - from }, (_, index) => ring.entries[((from + index) % size) * 4])
      Atomics.store(ring.consumer, 0, to)
      return taken
    },
  }
}

/** Says how many different datagrams came once it has had a hundred. */
const RECEIVER = `
const socket = require('dgram').createSocket('udp4')
const seen = new Set()
socket.on('message', (message) => {
  seen.add(String(message))
  if (seen.size === 100) { console.log(seen.size); socket.close() }
})
socket.bind(7000, () => console.log('ready'))`

/** Sends a hundred datagrams, each from another port; each as often as the second argument says. */
const SENDER = `
const [, address, times = 1] = process.argv
for (let i = 0; i < 100; i++) {
  const socket = require('dgram').createSocket('udp4')
  const send = (left) => left > 0 ? socket.send(String(i), 7000, address, () => send(left - 1)) : socket.close()
  send(Number(times))
}`
