// Sending to any destination: next hops from the kernel's tables, which start empty and change, and what only the kernel can send.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Lab } from '../../src/lab/index.js'
import { createTestLab, needsRoot } from '../support/lab.js'
import { until } from '../support/xsk.js'
import { dump, ipv6, run, script, serve, serverAt } from './udp-lab.js'

/** Makes an end forget all neighbours, the lab's permanent ones included. */
async function forgetNeighbours(lab: Lab, end: 'a' | 'b' = 'a'): Promise<void> {
  for (const version of ['-4', '-6'])
    await run(lab, end, 'ip', version, 'neigh', 'flush', 'dev', lab[end].interface, 'nud', 'all')
}

/** Gathers datagrams at end `b`, on a port of its own; `got()` is what came so far. */
async function listener(
  lab: Lab,
  host: string,
): Promise<{ port: number; got: () => string[]; stop: () => void }> {
  const child = lab.spawn(
    'b',
    process.execPath,
    [
      '-e',
      `const socket = require('node:dgram').createSocket('${host.includes(':') ? 'udp6' : 'udp4'}')
      socket.on('message', (message, { address, port }) =>
        console.log(JSON.stringify(\`\${address} \${port} \${message.length > 40 ? message.length : message}\`)))
      socket.bind(0, '${host}', () => console.log(socket.address().port))`,
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  )
  let text = ''
  child.stdout?.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
  await until('the listener listens', () => text.includes('\n'))
  const lines = () => text.split('\n').slice(0, -1)
  return {
    port: Number(lines()[0]),
    got: () =>
      lines()
        .slice(1)
        .map((line) => JSON.parse(line) as string),
    stop: () => void child.kill('SIGKILL'),
  }
}

describe('sending from a UDP server', { skip: needsRoot }, () => {
  for (const version of [4, 6] as const) {
    it(`finds its next hop from empty tables, and keeps the order (IPv${version})`, async (t) => {
      const { lab, server, port } = await serve(t)
      await forgetNeighbours(lab)
      const [host, own] = version === 4 ? [lab.b.ipv4, lab.a.ipv4] : [ipv6(lab.b), ipv6(lab.a)]
      const there = await listener(lab, host)
      for (let i = 0; i < 8; i++) assert.equal(server.send(`number ${i}`, there.port, host), true)
      await until('all have arrived', () => there.got().length === 8)
      assert.deepEqual(
        there.got(),
        Array.from({ length: 8 }, (_, i) => `${own} ${port} number ${i}`),
      )
      // The first one made the kernel look.
      assert.deepEqual([server.counts.sent, server.counts.sentByKernel], [7, 1])
      assert.equal(server.group.statistics().tx.packets, 7)
      there.stop()
    })
  }

  it('has the kernel find its next hop without a socket of the kernel too', async (t) => {
    const lab = createTestLab(t)
    const server = await serverAt(t, lab, { port: 4321, kernelSocket: false })
    await forgetNeighbours(lab)
    const there = await listener(lab, lab.b.ipv4)
    for (let i = 0; i < 3; i++) server.send(`number ${i}`, there.port, lab.b.ipv4)
    await until('all have arrived', () => there.got().length === 3)
    assert.deepEqual(
      there.got(),
      [0, 1, 2].map((i) => `${lab.a.ipv4} 4321 number ${i}`),
    )
    there.stop()
  })

  it("has the kernel send to everybody, and what is longer than a route's MTU", async (t) => {
    const { lab, server } = await serve(t)
    const seen = await dump(lab, 'udp', 'or', 'ip[6:2]', '&', '0x3fff', '!=', '0')
    const everybody = lab.b.ipv4.replace(/\d+$/, '255')
    assert.equal(server.send('to all', 9, everybody), true)
    await until('it comes', () => seen.text().includes(`> ${everybody}.9: [udp sum ok] UDP, length 6`))
    await run(lab, 'a', 'ip', 'route', 'add', '192.0.2.0/24', 'via', lab.b.ipv4, 'mtu', '600')
    await until(
      'the route is known',
      () => server.send('x'.repeat(572), 9, '192.0.2.9') && server.counts.sent > 0,
    )
    const before = server.counts.sentByKernel
    server.send('x'.repeat(573), 9, '192.0.2.9')
    await until('the kernel has it', () => server.counts.sentByKernel === before + 1)
    await until('it comes in two', () => /flags \[\+\].*192\.0\.2\.9/s.test(seen.text()))
    seen.stop()
  })

  it("gives the kernel's sockets room for large datagrams that come at once", async (t) => {
    const { lab, port } = await serve(t)
    const text = await run(lab, 'a', 'ss', '-uamnH', 'sport', '=', `:${port}`)
    const rooms = [...text.matchAll(/rb(\d+)/g)].map(([, room]) => Number(room))
    assert.deepEqual(rooms, [8 << 20, 8 << 20])
  })

  it('gives up a neighbour that is not there, and keeps no more than 1024 waiting', async (t) => {
    const { lab, server } = await serve(t)
    const nobody = lab.b.ipv4.replace(/\d+$/, '200')
    for (let i = 0; i < 1025; i++) assert.equal(server.send('hello', 9, nobody), true)
    assert.equal(server.send('hello', 9, nobody), false)
    assert.equal(server.counts.dropped, 1)
    await until('the kernel gives up', () => server.drops.unresolved === 1025)
    assert.equal(server.group.statistics().tx.packets, 0)
  })

  it('follows a neighbour to another hardware address, and a route to another gateway', async (t) => {
    const { lab, server } = await serve(t)
    const seen = await dump(lab, 'udp', 'and', 'dst', 'port', '9')
    const dev = ['dev', lab.a.interface]
    const gateways = ['77', '88'].map((end) => lab.b.ipv4.replace(/\d+$/, end))
    const macs = ['02:00:00:00:00:77', '02:00:00:00:00:88', '02:00:00:00:00:99']
    for (const [i, gateway] of gateways.entries())
      await run(lab, 'a', 'ip', 'neigh', 'add', gateway, 'lladdr', macs[i], ...dev)
    const steps: [mac: string, ...change: string[]][] = [
      [macs[0], 'route', 'add', '192.0.2.0/24', 'via', gateways[0]],
      [macs[1], 'route', 'replace', '192.0.2.0/24', 'via', gateways[1]],
      [macs[2], 'neigh', 'replace', gateways[1], 'lladdr', macs[2], ...dev],
      [macs[0], 'route', 'add', '192.0.2.9/32', 'via', gateways[0]],
    ]
    for (const [step, [mac, ...change]] of steps.entries()) {
      await run(lab, 'a', 'ip', ...change)
      const pattern = new RegExp(`> ${mac}, .*UDP, length ${step + 1}\\b`, 's')
      // The announcement is on its way: what is sent meanwhile may go the old way.
      await until(`step ${step} goes to ${mac}`, () => {
        server.send('x'.repeat(step + 1), 9, '192.0.2.9')
        return pattern.test(seen.text())
      })
    }
    assert.match(seen.text(), /\[udp sum ok\]/)
    assert.doesNotMatch(seen.text(), /bad|wrong|incorrect/i)
    assert.equal(server.counts.sentByKernel, 0)
    seen.stop()
  })

  it('has the kernel check a neighbour that it sends to', async (t) => {
    const { lab, server } = await serve(t)
    const { ipv4, interface: name } = lab.a
    const there = await listener(lab, lab.b.ipv4)
    await run(
      lab,
      'a',
      'ip',
      'neigh',
      'replace',
      lab.b.ipv4,
      'lladdr',
      lab.b.mac,
      'dev',
      name,
      'nud',
      'stale',
    )
    const state = async () => (await run(lab, 'a', 'ip', 'neigh', 'show', lab.b.ipv4)).trim()
    assert.match(await state(), /STALE$/)
    server.send('hello', there.port, lab.b.ipv4)
    await until('it has arrived', () => there.got().length === 1)
    assert.match(there.got()[0], new RegExp(`^${ipv4} `))
    for (let tries = 0; !/(DELAY|PROBE|REACHABLE)$/.test(await state()); tries++) {
      assert.ok(tries < 500, await state())
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
    there.stop()
  })

  it('sends through the kernel what is longer than the MTU, or leaves by another way', async (t) => {
    const { lab, server, port } = await serve(t)
    const there = await listener(lab, lab.b.ipv4)
    server.send(Buffer.alloc(1472, 1), there.port, lab.b.ipv4)
    server.send(Buffer.alloc(1473, 1), there.port, lab.b.ipv4)
    server.send(Buffer.alloc(20_000, 1), there.port, lab.b.ipv4)
    await until('all have arrived', () => there.got().length === 3)
    assert.deepEqual(
      there.got().sort(),
      [1472, 1473, 20_000].map((size) => `${lab.a.ipv4} ${port} ${size}`),
    )
    assert.deepEqual([server.counts.sent, server.counts.sentByKernel], [1, 2])
    assert.throws(() => server.send(Buffer.alloc(65_508), 9, lab.b.ipv4), { code: 'EMSGSIZE' })
    assert.throws(() => server.send('x', 9, 'example.org'), { code: 'XDP_BAD_OPTION' })
    assert.throws(() => server.send('x', 0, lab.b.ipv4), { code: 'XDP_BAD_OPTION' })
    // To itself.
    const answered = script<string>(
      lab,
      'a',
      `const socket = await open('127.0.0.1')
      console.error(socket.address().port)
      const { message } = await ask(socket, 'from loopback', ${port}, '127.0.0.1')
      say(message.toString())
      socket.close()`,
    )
    assert.equal(await answered, 'from loopback')
    assert.equal(server.counts.receivedByKernel, 1)
    there.stop()
  })

  it('refuses without the kernel socket what only that could send', async (t) => {
    const lab = createTestLab(t)
    const server = await serverAt(t, lab, { port: 4321, kernelSocket: false })
    assert.equal(server.send(Buffer.alloc(1472), 9, lab.b.ipv4), true)
    assert.throws(() => server.send(Buffer.alloc(1473), 9, lab.b.ipv4), { code: 'EMSGSIZE' })
    assert.throws(() => server.send('x', 9, '127.0.0.1'), { code: 'EHOSTUNREACH' })
    assert.throws(() => server.send('x', 9, '203.0.113.1'), { code: 'EHOSTUNREACH' })
  })

  it('answers and sends on VLANs, and leaves those that are not its own to the kernel', async (t) => {
    const lab = createTestLab(t)
    const link = ['link', lab.a.interface, 'name', 'v1', 'type', 'vlan', 'id', '1']
    const tried = await lab.exec('a', 'ip', ['link', 'add', ...link])
    if (tried.status !== 0) {
      t.skip('this kernel has no VLAN interfaces (CONFIG_VLAN_8021Q)')
      return
    }
    for (const [end, host] of [
      ['a', 1],
      ['b', 2],
    ] as const) {
      for (const id of [100, 200]) {
        const name = `v${id}`
        await run(
          lab,
          end,
          'ip',
          'link',
          'add',
          'link',
          lab[end].interface,
          'name',
          name,
          'type',
          'vlan',
          'id',
          String(id),
        )
        await run(lab, end, 'ip', 'link', 'set', name, 'up')
        await run(lab, end, 'ip', 'addr', 'add', `10.99.${id}.${host}/24`, 'dev', name)
        await run(lab, end, 'ip', '-6', 'addr', 'add', `fd99:${id}::${host}/64`, 'dev', name, 'nodad')
      }
    }
    const seen: unknown[] = []
    const server = await serverAt(t, lab, { vlans: [100] }, (message) => {
      seen.push([message.via, message.vlan, message.address])
      message.reply()
    })
    const [port] = server.ports
    for (const host of ['10.99.100.1', 'fd99:100::1', '10.99.200.1']) {
      const answer = await script<string>(
        lab,
        'b',
        `const socket = await open('${host}')
        const { message, sender } = await ask(socket, 'over the VLAN', ${port}, '${host}')
        say(message + ' from ' + sender.address)
        socket.close()`,
      )
      assert.equal(answer, `over the VLAN from ${host}`)
    }
    assert.deepEqual(seen, [
      ['xdp', 100, '10.99.100.2'],
      ['xdp', 100, 'fd99:100::2'],
      ['kernel', -1, '10.99.200.2'],
    ])
    const there = await listener(lab, '10.99.100.2')
    server.send('tagged', there.port, '10.99.100.2')
    await until('it has arrived', () => there.got().length === 1)
    assert.deepEqual(there.got(), [`10.99.100.1 ${port} tagged`])
    assert.equal(server.counts.sent, 1)
    there.stop()
  })

  it('is told when the interface goes away', async (t) => {
    const { lab, server } = await serve(t)
    const failed = assert.rejects(server.closed)
    await run(lab, 'b', 'ip', 'link', 'del', lab.b.interface)
    await failed
    assert.throws(() => server.send('x', 9, lab.b.ipv4), { code: 'XDP_STATE' })
    await server.close()
  })
})
