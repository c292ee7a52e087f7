// One set of behaviours, two implementations: node:dgram and ours, each in a process at end `a`, with the same peer at `b`.
import assert from 'node:assert/strict'
import { describe, it, before, after } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Lab } from '../../src/lab/index.js'
import { needsRoot, uniqueName } from '../support/lab.js'
import { startTcpdump } from '../support/tcpdump.js'
import { until } from '../support/xsk.js'
import { behaviours, type Peer } from './dgram-behaviours.js'

const OURS = new URL('../../src/serve/dgram.js', import.meta.url).href
const PROGRAM = fileURLToPath(new URL('dgram-behaviours.js', import.meta.url))

describe('a dgram socket over AF_XDP does what node:dgram does', { skip: needsRoot }, () => {
  let lab: Lab
  let peer: Peer

  before(async () => {
    lab = Lab.create({ name: uniqueName() })
    const echo = lab.spawn(
      'b',
      process.execPath,
      [
        '-e',
        `const { createSocket } = require('node:dgram')
        const [socket, stranger] = [createSocket('udp6'), createSocket('udp6')]
        socket.on('message', (message, { port, address }) => {
          // Somebody else on this host says something first.
          if (String(message) === 'by two') stranger.send('a stranger', port, address, () => socket.send(message, port, address))
          else socket.send(message, port, address)
        })
        socket.bind(0, () => console.log(socket.address().port))`,
      ],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    )
    let said = ''
    echo.stdout?.setEncoding('utf8').on('data', (text: string) => (said += text))
    await until('the peer listens', () => said.includes('\n'))
    const [own6, peer6] = [lab.a.ipv6 as string, lab.b.ipv6 as string]
    peer = { own4: lab.a.ipv4, own6, peer4: lab.b.ipv4, peer6, port: Number(said) }
  })

  after(() => lab.down())

  const run = async (specifier: string, name: string): Promise<unknown> => {
    const { stdout, stderr, status } = await lab.exec(
      'a',
      process.execPath,
      [PROGRAM, specifier, name, JSON.stringify(peer)],
      {
        env: { ...process.env, NODE_XDP_INTERFACE: lab.a.interface },
      },
    )
    assert.equal(status, 0, `${specifier}: ${stderr}`)
    return JSON.parse(stdout)
  }

  for (const name of Object.keys(behaviours)) {
    it(name, async () => {
      const theirs = await run('node:dgram', name)
      const ours = await run(OURS, name)
      assert.deepEqual(ours, theirs)
      assert.equal(lab.interfaces().a.xdp.mode, 'none')
    })
  }

  it('whose datagrams the kernel never sees', async () => {
    const script = `
      import { createSocket } from ${JSON.stringify(OURS)}
      import { readFileSync } from 'node:fs'
      import { once } from 'node:events'
      const counters = () => {
        const lines = readFileSync('/proc/net/snmp', 'utf8').match(/^Udp: .*$/gm).map((line) => line.split(' '))
        return ['InDatagrams', 'OutDatagrams'].map((name) => Number(lines[1][lines[0].indexOf(name)]))
      }
      const socket = createSocket('udp4')
      socket.bind(0)
      await once(socket, 'listening')
      const before = counters()
      for (let i = 0; i < 100; i++) {
        socket.send('hello', ${peer.port}, '${peer.peer4}')
        await once(socket, 'message')
      }
      const after = counters()
      console.log(JSON.stringify({ xdp: socket.xdp, kernel: after.map((count, i) => count - before[i]) }))
      socket.close()`
    const { stdout, stderr } = await lab.exec('a', process.execPath, ['--input-type=module', '-e', script], {
      env: { ...process.env, NODE_XDP_INTERFACE: lab.a.interface },
    })
    const { xdp, kernel } = JSON.parse(stdout || 'null') as { xdp: unknown; kernel: unknown }
    assert.deepEqual(xdp, { interface: lab.a.interface, mode: 'native', copy: 'copy' }, stderr)
    assert.deepEqual(kernel, [0, 0])
  })

  it('has the kernel send with a time to live', async () => {
    const tcpdump = await startTcpdump(lab, 'b', [
      '-n',
      '-v',
      '-l',
      '-c',
      '2',
      'udp',
      'and',
      'src',
      peer.own4,
    ])
    const script = `
      import { createSocket } from ${JSON.stringify(OURS)}
      import { once } from 'node:events'
      const socket = createSocket('udp4')
      socket.bind(0)
      await once(socket, 'listening')
      for (const ttl of [64, 7]) {
        if (ttl !== 64) socket.setTTL(ttl)
        socket.send('hello', ${peer.port}, '${peer.peer4}')
        await once(socket, 'message')
      }
      socket.close()`
    await lab.exec('a', process.execPath, ['--input-type=module', '-e', script], {
      env: { ...process.env, NODE_XDP_INTERFACE: lab.a.interface },
    })
    await tcpdump.ended
    assert.deepEqual(
      [...tcpdump.text.matchAll(/ttl (\d+)/g)].map(([, ttl]) => ttl),
      ['64', '7'],
    )
  })

  it('holds no process when it cannot have XDP', async () => {
    const script = `
      import { createSocket } from ${JSON.stringify(OURS)}
      const socket = createSocket({ type: 'udp4', xdp: { interface: 'nothere0' } })
      socket.on('error', ({ code }) => console.log(code))
      socket.bind(0)`
    const { stdout, status } = await lab.exec('a', process.execPath, ['--input-type=module', '-e', script])
    assert.deepEqual([stdout, status], ['XDP_NOT_FOUND\n', 0])
  })

  it('drops what comes from a blocked address, also as it is written in IPv6', async () => {
    // The peer answers both, one after the other: when the second is there, the first has been.
    const script = `
      import { createSocket } from ${JSON.stringify(OURS)}
      import { BlockList } from 'node:net'
      import { once } from 'node:events'
      const blocked = new BlockList()
      blocked.addAddress('${peer.peer4}')
      const socket = createSocket({ type: 'udp6', receiveBlockList: blocked })
      const senders = []
      socket.on('message', (_, { address }) => senders.push(address))
      socket.bind(0)
      await once(socket, 'listening')
      await new Promise((resolve) => socket.send('hello', ${peer.port}, '::ffff:${peer.peer4}', resolve))
      socket.send('hello', ${peer.port}, '${peer.peer6}')
      await once(socket, 'message')
      console.log(JSON.stringify(senders))
      socket.close()`
    const { stdout, stderr } = await lab.exec('a', process.execPath, ['--input-type=module', '-e', script], {
      env: { ...process.env, NODE_XDP_INTERFACE: lab.a.interface },
    })
    assert.equal(stdout, `["${peer.peer6}"]\n`, stderr)
  })

  it('says why it cannot have XDP, or goes on without when told to', async () => {
    const script = (optional: boolean) => `
      import { createSocket } from ${JSON.stringify(OURS)}
      const socket = createSocket({ type: 'udp4', xdp: { interface: 'nothere0', optional: ${optional} } })
      socket.on('error', (error) => { console.log(error.code); socket.close() })
      process.on('warning', ({ code, message }) => console.log(code, message.replace(/\\d+/, 'N').slice(0, 40)))
      socket.bind(0, () => { console.log('listening', socket.xdp); setTimeout(() => socket.close(), 10) })`
    const run = async (optional: boolean) =>
      (
        await lab.exec('a', process.execPath, [
          '--no-warnings',
          '--input-type=module',
          '-e',
          script(optional),
        ])
      ).stdout
    assert.equal(await run(false), 'XDP_NOT_FOUND\n')
    assert.equal(
      (await run(true)).split('\n').sort().join('\n'),
      '\nXDP_NOT_FOUND UDP port N is served by the kernel alone\nlistening undefined',
    )
  })
})
