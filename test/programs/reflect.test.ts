// The reflector against a plain exchange of bytes, its twin in C, and live: a UDP sender hears itself.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { attachXdp } from '../../src/bpf/index.js'
import { inNamespace } from '../../src/kernel/namespace.js'
import { parseIp, parseMac } from '../../src/packet/address.js'
import { shippedPrograms } from '../../src/programs/index.js'
import { type ReflectSwap, defineReflect } from '../../src/programs/reflect.js'
import { definePass } from '../../src/programs/verdict.js'
import { random } from '../bpf/builder/random-program.js'
import { createTestLab, needsRoot } from '../support/lab.js'
import { discoveryOf, ipOf, payloadOf, portsOf } from './plain-packet.js'
import { type Answer, compareSpeed, prove, twinOf } from './proof.js'
import { type TrafficPools, randomTraffic } from './traffic.js'

const POOLS: TrafficPools = {
  macs: ['02:00:00:00:00:01', '00:01:02:03:04:05'].map((text) => parseMac(text)!),
  ipv4: ['10.0.0.1', '192.0.2.77'].map((text) => parseIp(text)!),
  ipv6: ['fd00::1', '2001:db8:1:2:3:4:5:6'].map((text) => parseIp(text)!),
  ports: [53, 80, 12345],
}

function modelOf(swap: ReflectSwap): (bytes: Uint8Array) => Answer {
  return (bytes) => {
    const payload = payloadOf(bytes, 2)
    if (!payload || (bytes[0] & 1) === 1 || discoveryOf(bytes, payload) !== false) return { verdict: 'pass' }
    const packet = Uint8Array.from(bytes)
    const exchange = (first: number, second: number, length: number): void => {
      packet.set(bytes.subarray(first, first + length), second)
      packet.set(bytes.subarray(second, second + length), first)
    }
    exchange(0, 6, 6)
    if (swap === 'macs') return { verdict: 'tx', packet }
    // Only ports are behind extension headers.
    const ip = ipOf(bytes, payload, swap === 'ports' ? 8 : Infinity)
    const { type, at } = payload
    const isCut = type === 0x0800 ? bytes.length < at + 20 : type !== 0x86dd || bytes.length < at + 40
    if (isCut) return { verdict: 'pass' }
    if (type === 0x0800 && !ip) return { verdict: 'pass' }
    if (type === 0x86dd && bytes[at] >> 4 !== 6) return { verdict: 'pass' }
    if (type === 0x0800) exchange(at + 12, at + 16, 4)
    else exchange(at + 8, at + 24, 16)
    if (swap === 'addresses') return { verdict: 'tx', packet }
    const ports = ip && portsOf(bytes, ip)
    if (!ip || !ports || ports === 'none') return { verdict: 'pass' }
    exchange(ip.transportAt!, ip.transportAt! + 2, 2)
    return { verdict: 'tx', packet }
  }
}

const PACKET = Uint8Array.of(
  ...[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0],
  ...[0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1],
  ...[0, 9, 0, 53, 0, 26, 0, 0, ...Array<number>(18).fill(0)],
)

for (const [index, swap] of (['macs', 'addresses', 'ports'] as const).entries()) {
  test(`what is reflected has its ${swap} exchanged, the rest is as it was`, { skip: needsRoot }, (t) => {
    const definition = defineReflect(swap)
    const loaded = definition.load()
    t.after(() => loaded.close())
    const twin = twinOf(t, definition, 'reflect', [`-DSWAP=${index}`], {})
    const programs = twin ? [loaded.program, twin] : [loaded.program]
    const next = random(13 + index)
    prove(programs, 35_000, () => randomTraffic(next, POOLS), modelOf(swap), ['pass', 'tx'])
    compareSpeed(t, swap, programs, PACKET)
  })
}

test('its setting says what is exchanged', () => {
  const { define } = shippedPrograms.get('reflect')!
  const size = (given: Record<string, string[]>) =>
    define(given, { queues: 1 }).definition.assembled.bytes.length
  assert.equal(size({}), size({ swap: ['macs'] }))
  assert.ok(size({ swap: ['ports'] }) > size({ swap: ['addresses'] }))
  assert.throws(() => define({ swap: ['everything'] }, { queues: 1 }), {
    code: 'XDP_BAD_OPTION',
    option: 'swap',
  })
})

/** Sends datagrams from a connected socket, which takes answers only from where it sent to, and prints what comes back. */
const HEAR = (type: 'udp4' | 'udp6', address: string): string => `
import { createSocket } from 'node:dgram'
const socket = createSocket('${type}')
const heard = []
socket.on('message', (message) => {
  heard.push(message.toString())
  if (heard.length === 3) { console.log(heard.sort().join()); clearTimeout(timer); socket.close() }
})
const timer = setTimeout(() => { console.log('silence'); socket.close() }, 60_000)
socket.connect(4321, '${address}', () => { for (const text of ['one', 'three', 'two']) socket.send(text) })
`

test(
  'live: a sender of UDP hears itself, with right checksums, and still finds its neighbour',
  { skip: needsRoot },
  async (t) => {
    const lab = createTestLab(t)
    const { a, b } = lab
    const loaded = inNamespace(a.namespace, () => defineReflect('ports').load())
    t.after(() => loaded.close())
    const attachment = attachXdp(loaded.program, { interface: a.interface, namespace: a.namespace })
    t.after(() => attachment.detach())
    // A veth takes what is sent by XDP only where its peer runs a program too (drivers/net/veth.c: veth_xdp_xmit).
    const pass = inNamespace(b.namespace, () => definePass().load())
    t.after(() => pass.close())
    const other = attachXdp(pass.program, { interface: b.interface, namespace: b.namespace })
    t.after(() => other.detach())
    const run = async (script: string) =>
      (await lab.exec('b', process.execPath, ['--input-type=module', '-e', script])).stdout.trim()
    assert.equal(await run(HEAR('udp4', a.ipv4)), 'one,three,two')
    if (a.ipv6 !== undefined) assert.equal(await run(HEAR('udp6', a.ipv6)), 'one,three,two')
    const { stdout } = await lab.exec('b', 'ping', ['-n', '-c', '2', '-i', '0.05', '-W', '10', a.ipv4])
    assert.match(stdout, /2 received/)
  },
)
