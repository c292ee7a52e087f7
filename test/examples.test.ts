// The examples do what their first line says.
import assert from 'node:assert/strict'
import type { ChildProcess } from 'node:child_process'
import { createInterface } from 'node:readline'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { Lab } from '../src/lab/index.js'
import { createTestLab } from './support/lab.js'
import { until } from './support/xsk.js'

/** Starts an example at end a of a lab; `ready` is its first line, `done` everything it printed and its status. */
function start(lab: Lab, name: string, ...args: string[]) {
  const script = fileURLToPath(new URL(`../examples/${name}.js`, import.meta.url))
  const child: ChildProcess = lab.spawn('a', process.execPath, ['--enable-source-maps', script, ...args], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const lines: string[] = []
  const reader = createInterface({ input: child.stdout! })
  const ready = new Promise<string>((resolve) => reader.once('line', resolve))
  reader.on('line', (line) => lines.push(line))
  const done = new Promise<{ lines: string[]; status: number | null }>((resolve) =>
    child.once('close', (status) => resolve({ lines, status })),
  )
  return { child, ready, done }
}

test('drop counts what it eats', async (t) => {
  const lab = createTestLab(t)
  const { child, ready, done } = start(lab, 'drop', lab.a.interface)
  assert.equal(await ready, 'veth-a queue 0: native mode, packets by copy')
  const ping = await lab.exec('b', 'ping', ['-c', '3', '-i', '0.01', '-W', '3', lab.a.ipv4])
  assert.match(ping.stdout, /3 packets transmitted, 0 received/)
  child.kill('SIGINT')
  const { lines, status } = await done
  assert.equal(status, 0)
  assert.equal(lines.at(-1), `3 packets, ${3 * 98} bytes`)
})

test('reflect sends every packet back as it came', async (t) => {
  const lab = createTestLab(t)
  const { child, ready, done } = start(lab, 'reflect', lab.a.interface)
  await ready
  const before = lab.stats().b.rxPackets
  await lab.exec('b', 'ping', ['-c', '4', '-i', '0.01', '-W', '1', lab.a.ipv4])
  await until('they are back', () => lab.stats().b.rxPackets - before === 4)
  child.kill('SIGINT')
  assert.equal((await done).status, 0)
})

test('print shows packets one by one and ends', async (t) => {
  const lab = createTestLab(t)
  const { ready, done } = start(lab, 'print', lab.a.interface, '2')
  await ready
  await lab.exec('b', 'ping', ['-c', '2', '-i', '0.01', '-W', '1', lab.a.ipv4])
  const { lines, status } = await done
  assert.equal(status, 0)
  const line = `${lab.b.mac} > ${lab.a.mac} type 0x800 protocol 1, 98 bytes`
  assert.deepEqual(lines.slice(1), [line, line])
})

test('block-port drops what goes to its port, and nothing else', async (t) => {
  const lab = createTestLab(t)
  const { child, ready, done } = start(lab, 'block-port', lab.a.interface, '9999')
  assert.equal(await ready, 'dropping UDP to port 9999 on veth-a in native mode')
  const script = `
    const socket = require('node:dgram').createSocket('udp4')
    const send = (port) => new Promise((done) => socket.send('x', port, '${lab.a.ipv4}', done))
    Promise.all([9999, 9998, 9999, 9999].map(send)).then(() => socket.close())`
  assert.equal((await lab.exec('b', process.execPath, ['-e', script])).status, 0)
  const ping = await lab.exec('b', 'ping', ['-c', '1', '-W', '5', lab.a.ipv4])
  assert.match(ping.stdout, / 1 received/)
  child.kill('SIGINT')
  const { lines, status } = await done
  assert.equal(status, 0)
  assert.equal(lines.at(-1), '3 packets dropped')
})

test('move-port hands datagrams on to another port, with checksums that the kernel takes', async (t) => {
  const lab = createTestLab(t)
  const { child, ready, done } = start(lab, 'move-port', lab.a.interface, '5300', '5301')
  assert.equal(await ready, 'UDP to port 5300 of veth-a goes to 5301, in native mode')
  // Checksums that nobody has computed nobody checks.
  assert.equal((await lab.exec('b', 'ethtool', ['-K', lab.b.interface, 'tx', 'off'])).status, 0)
  const listen = `
    const socket = require('node:dgram').createSocket('udp4')
    let count = 0
    socket.on('message', (text) => { console.log(String(text)); if (++count === 3) socket.close() })
    socket.bind(5301, () => console.log('listening'))`
  const listener = lab.spawn('a', process.execPath, ['-e', listen], { stdio: ['ignore', 'pipe', 'inherit'] })
  let heard = ''
  listener.stdout!.setEncoding('utf8').on('data', (text: string) => (heard += text))
  await until('somebody listens', () => heard.includes('listening'))
  const send = `
    const socket = require('node:dgram').createSocket('udp4')
    const send = (text) => new Promise((done) => socket.send(text, 5300, '${lab.a.ipv4}', done))
    Promise.all(['one', 'two', 'three'].map(send)).then(() => socket.close())`
  assert.equal((await lab.exec('b', process.execPath, ['-e', send])).status, 0)
  await until('all have come', () => heard.trim().split('\n').length === 4)
  assert.deepEqual(heard.trim().split('\n').slice(1).sort(), ['one', 'three', 'two'])
  child.kill('SIGINT')
  const { lines, status } = await done
  assert.equal(status, 0)
  assert.equal(lines.at(-1), `${lab.b.ipv4}: 3`)
})

test('forward joins two interfaces, but for every tenth UDP packet', async (t) => {
  const [left, right] = [createTestLab(t, { isolated: false }), createTestLab(t, { isolated: false })]
  const { child, ready, done } = start(left, 'forward', left.a.interface, right.a.interface)
  assert.equal(await ready, `forwarding between ${left.a.interface} and ${right.a.interface}`)
  const script = `
    const socket = require('node:dgram').createSocket('udp4')
    const send = () => new Promise((done) => socket.send('x', 9, '${left.a.ipv4}', done))
    Promise.all(Array.from({ length: 20 }, send)).then(() => socket.close())`
  const before = right.stats().b.rxPackets
  assert.equal((await left.exec('b', process.execPath, ['-e', script])).status, 0)
  await until('18 have come through', () => right.stats().b.rxPackets - before >= 18)
  child.kill('SIGINT')
  const { lines, status } = await done
  assert.equal(status, 0)
  assert.equal(lines.at(-2), `${left.a.interface} to ${right.a.interface}: 18 packets forwarded, 2 dropped`)
  assert.equal(right.stats().b.rxPackets - before, 18)
})
