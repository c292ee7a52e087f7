// Redirect of ports against a plain list of endpoints, its twin in C, and a socket that gets just its ports' packets.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { attachXdp } from '../../src/bpf/index.js'
import { inNamespace } from '../../src/kernel/namespace.js'
import { formatIp, parseIp, parseMac } from '../../src/packet/address.js'
import { shippedPrograms } from '../../src/programs/index.js'
import { RedirectPortsProgram, defineRedirectPorts } from '../../src/programs/redirect-ports.js'
import { type Endpoint, parseEndpoints } from '../../src/programs/settings.js'
import { random } from '../bpf/builder/random-program.js'
import { createTestLab, needsRoot } from '../support/lab.js'
import { openAt, until } from '../support/xsk.js'
import { ipOf, portsOf } from './plain-packet.js'
import { type Answer, compareSpeed, devicesForSockets, prove, twinOf } from './proof.js'
import { type TrafficPools, randomTraffic } from './traffic.js'

// Mostly what is listed: what nothing can come from stands here once each.
const POOLS: TrafficPools = {
  macs: [parseMac('02:00:00:00:00:01')!],
  ipv4: [
    ...Array<string[]>(12).fill(['10.0.0.1', '10.0.0.2']).flat(),
    ...['223.255.255.255', '0.0.0.0', '127.0.0.1', '224.0.0.5', '255.255.255.255'],
  ].map((text) => parseIp(text)!),
  ipv6: [
    ...Array<string[]>(12).fill(['fd00::1', 'fd00::2']).flat(),
    ...['0:0:0:1::', '::', '::1', '::ffff:10.0.0.1', 'ff02::1'],
  ].map((text) => parseIp(text)!),
  ports: [53, 80, 443, 9999, 0, 65535],
}

const LISTS = [
  [],
  ['53/udp', '80/tcp'],
  ['10.0.0.1:53', '[fd00::1]:443/udp', '10.0.0.2:80-81/udp', '9999/tcp', '65535'],
  ['0.0.0.0:53', '10.0.0.1:80', '10.0.0.2:0-500/udp', '[fd00::2]:0-1000', '[fd00::1]:9999'],
].map((list) => list.flatMap((text) => parseEndpoints(text)!))

/** IPv4 as IPv6 has it: an endpoint at one is an endpoint at the other. */
const plain = (address: Uint8Array): string => formatIp(address).replace(/^::ffff:(?=\d+\.)/, '')

/** What the kernel takes from nobody. */
const isImpossible = (source: Uint8Array): boolean =>
  source.length === 4
    ? source[0] === 0 || source[0] === 127 || source[0] >= 224
    : source[0] === 0xff || source.subarray(0, 8).every((byte) => byte === 0)

function modelOf(endpoints: readonly Endpoint[]): (bytes: Uint8Array) => Answer {
  const listed = new Set(
    endpoints.map(({ address, port, protocol }) => `${address ? plain(address) : 'any'} ${port} ${protocol}`),
  )
  return (bytes) => {
    const ip = ipOf(bytes, { type: (bytes[12] << 8) | bytes[13], at: 14 }, 0)
    if (!ip || ip.isFragment || ip.hasExtras || isImpossible(ip.src)) return { verdict: 'pass' }
    const ports = portsOf(bytes, ip)
    if (!ports || ports === 'none') return { verdict: 'pass' }
    const where = `${ports.dst} ${ip.protocol === 17 ? 'udp' : 'tcp'}`
    return {
      verdict: listed.has(`any ${where}`) || listed.has(`${plain(ip.dst)} ${where}`) ? 'redirect' : 'pass',
    }
  }
}

test('what goes to a listed endpoint is redirected, and nothing else', { skip: needsRoot }, (t) => {
  const devices = devicesForSockets(t)
  const definition = defineRedirectPorts(1)
  const loaded = definition.load({ maps: { xsks_map: devices } })
  const program = new RedirectPortsProgram(loaded)
  t.after(() => program.close())
  const endpointMap = loaded.map(definition.maps.get('endpoints')!)
  const twin = twinOf(t, definition, 'redirect-ports', [], { xsks_map: devices, endpoints: endpointMap })
  const programs = twin ? [program.program, twin] : [program.program]
  const next = random(5)
  for (const list of LISTS) {
    for (const endpoint of list) program.add(endpoint)
    prove(
      programs,
      25_000,
      () => randomTraffic(next, POOLS),
      modelOf(list),
      list.length > 0 ? ['pass', 'redirect'] : [],
    )
    for (const endpoint of list) assert.equal(program.remove(endpoint), true)
    assert.equal(program.remove({ port: 53, protocol: 'udp' }), false)
  }
  const packet = Uint8Array.of(
    ...[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0],
    ...[0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1],
    ...[0, 9, 0, 53, 0, 26, 0, 0, ...Array<number>(18).fill(0)],
  )
  compareSpeed(t, 'a port that nobody listens on', programs, packet)
  program.add({ port: 53, protocol: 'udp', address: Uint8Array.of(10, 0, 0, 1) })
  compareSpeed(t, 'an endpoint', programs, packet)
})

test('its settings are endpoints', () => {
  const { define } = shippedPrograms.get('redirect-ports')!
  assert.ok(define({ port: ['53/udp', '10.0.0.1:80', '[fd00::1]:8000-8010/tcp'] }, { queues: 4 }).fill)
  for (const text of [
    '',
    '65536',
    'udp',
    '53/icmp',
    '10.0.0.1',
    'fd00::1:53',
    '[10.0.0.1',
    '10.0.0.256:53',
    '[fe80::1%lo]:5',
  ]) {
    assert.throws(
      () => define({ port: [text] }, { queues: 1 }),
      { code: 'XDP_BAD_OPTION', option: 'port' },
      text,
    )
  }
})

const SEND = (address: string, ports: readonly number[]): string => `
import { createSocket } from 'node:dgram'
const socket = createSocket('udp4')
let left = ${ports.length}
for (const port of ${JSON.stringify(ports)}) {
  socket.send('to ' + port, port, '${address}', () => { if (--left === 0) socket.close() })
}
`

test(
  'live: the socket gets the packets of its ports, and the ports can change',
  { skip: needsRoot },
  async (t) => {
    const lab = createTestLab(t)
    const { a } = lab
    const program = inNamespace(a.namespace, () => RedirectPortsProgram.load({ queues: a.queues }))
    t.after(() => program.close())
    const socket = await openAt(t, a, { xskMap: program.sockets })
    const attachment = attachXdp(program.program, { interface: a.interface, namespace: a.namespace })
    t.after(() => attachment.detach())
    const got: string[] = []
    const send = async (ports: readonly number[]) => {
      got.length = 0
      await lab.exec('b', process.execPath, ['--input-type=module', '-e', SEND(a.ipv4, ports)])
      const wanted = 'to 7003'
      await until('the last packet has come', () => {
        socket.receive(({ bytes, offset, length }) => {
          got.push(Buffer.from(bytes.subarray(offset + 42, offset + length)).toString())
        })
        return got.includes(wanted)
      })
      return got
    }
    program.add({ port: 7001, protocol: 'udp' })
    program.add({ port: 7002, protocol: 'udp', address: parseIp(a.ipv4)! })
    program.add({ port: 7003, protocol: 'udp' })
    program.add({ port: 7004, protocol: 'tcp' })
    program.add({ port: 7005, protocol: 'udp', address: Uint8Array.of(192, 0, 2, 1) })
    assert.deepEqual(await send([7000, 7001, 7002, 7004, 7005, 7003]), ['to 7001', 'to 7002', 'to 7003'])
    const { stdout } = await lab.exec('b', 'ping', ['-n', '-c', '1', '-W', '10', a.ipv4])
    assert.match(stdout, /1 received/)
    assert.equal(program.remove({ port: 7001, protocol: 'udp' }), true)
    program.add({ port: 7000, protocol: 'udp' })
    assert.deepEqual(await send([7000, 7001, 7002, 7003]), ['to 7000', 'to 7002', 'to 7003'])
  },
)
