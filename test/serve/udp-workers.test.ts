// A UDP server with a thread a queue: who answers what, whose counts add up, and what happens when a thread ends by itself.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { describe, it, type TestContext } from 'node:test'
import { getInterface, setInterfaceUp } from '../../src/kernel/index.js'
import { createVeth, deleteLink } from '../../src/kernel/netlink/index.js'
import type { Lab, LabOptions } from '../../src/lab/index.js'
import { parseMac } from '../../src/packet/index.js'
import { createUdpServer, type UdpWorkerServer, type UdpWorkerServerOptions } from '../../src/serve/index.js'
import type { GroupWorker } from '../../src/xsk/index.js'
import { createTestLab, descriptorsBeside, needsRoot, openDescriptors } from '../support/lab.js'
import { attachedAt, until } from '../support/xsk.js'
import { assertEchoes, dump, ipv6, run, script } from './udp-lab.js'
import type { UdpTestData } from './udp-worker.js'

type Options = Partial<UdpWorkerServerOptions> & { workerData?: UdpTestData }

/** Opens a server with workers at end `a`, closed with the test. */
async function openAt(t: TestContext, lab: Lab, options: Options = {}): Promise<UdpWorkerServer> {
  const { interface: name, namespace } = lab.a
  const server = await createUdpServer({
    interface: name,
    namespace,
    port: 0,
    trackFrames: true,
    worker: new URL('./udp-worker.js', import.meta.url),
    restart: { delayMs: 1, maxDelayMs: 1 },
    ...options,
  })
  server.closed.catch(() => undefined)
  t.after(() => server.close())
  return server
}

async function serve(t: TestContext, options: Options = {}, labOptions: LabOptions = { queues: 2 }) {
  const lab = createTestLab(t, labOptions)
  const server = await openAt(t, lab, options)
  return { lab, server, port: server.ports[0] }
}

/** Asks from so many sockets, `times` each, one after the other, and gives the answers by socket. */
const ask = (lab: Lab, host: string, port: number, sockets: number, times = 1, text = 'hello') =>
  script<string[][]>(
    lab,
    'b',
    `const answers = []
    for (let i = 0; i < ${sockets}; i++) {
      const socket = await open('${host}')
      const list = []
      for (let j = 0; j < ${times}; j++) list.push((await ask(socket, '${text}', ${port}, '${host}')).message.toString())
      answers.push(list)
      socket.close()
    }
    say(answers)`,
  )

/** Asks from so many sockets, again and again until an answer comes. */
const askAgain = (lab: Lab, host: string, port: number, sockets: number) =>
  script<string[]>(
    lab,
    'b',
    `const answers = []
    for (let i = 0; i < ${sockets}; i++) {
      const socket = await open('${host}')
      const again = setInterval(() => socket.send('hello', ${port}, '${host}'), 50)
      answers.push((await ask(socket, 'hello', ${port}, '${host}')).message.toString())
      clearInterval(again)
      socket.close()
    }
    say(answers)`,
  )

const receivedBy = (server: UdpWorkerServer) =>
  server.group.workers.map((worker) => server.countsOf(worker).received)

describe('a UDP server with workers', { skip: needsRoot }, () => {
  for (const mode of ['native', 'generic'] as const) {
    it(`answers every flow from the thread of its queue, and leaves the rest to the kernel (${mode} mode)`, async (t) => {
      const { lab, server, port } = await serve(t, { mode })
      const seen = await dump(lab, 'udp', 'and', 'src', 'port', String(port))
      const other = lab.spawn('a', 'socat', ['-T20', 'UDP4-RECVFROM:7777,fork', 'EXEC:cat'])
      for (const host of [lab.a.ipv4, ipv6(lab.a)]) {
        for (const [first, ...others] of await ask(lab, host, port, 20, 3)) {
          assert.match(first, /^[01] xdp hello$/)
          assert.deepEqual(others, [first, first])
        }
      }
      const { counts, drops, group } = server
      assert.deepEqual({ ...counts, ...drops }, { ...counts, received: 120, replied: 120, ...nothing })
      const received = receivedBy(server)
      // In generic mode a veth does not tell from which queue a packet comes.
      if (mode === 'native') assert.ok(Math.min(...received) > 0, String(received))
      assert.deepEqual(
        received,
        group.workers.map((worker) => worker.statistics().rx.packets),
      )
      assert.equal(received[0] + received[1], 120)
      assert.equal(group.statistics().tx.packets, 120)
      assert.equal(group.attachment?.mode, mode)
      await until('tcpdump has seen all', () => (seen.text().match(/UDP, length/g) ?? []).length === 120)
      assert.equal((seen.text().match(/\[udp sum ok\]/g) ?? []).length, 120)
      assert.doesNotMatch(seen.text(), /bad|wrong|incorrect|truncated|invalid/i)
      assert.match(
        await run(lab, 'b', 'ping', '-n', '-q', '-c', '3', '-i', '0.01', lab.a.ipv4),
        / 3 received/,
      )
      assert.deepEqual(await ask(lab, lab.a.ipv4, 7777, 1), [['hello']])
      other.kill('SIGKILL')
      seen.stop()
    })
  }

  it('has the other threads answer what the kernel gets while one is away', async (t) => {
    const { lab, server, port } = await serve(t, { restart: { delayMs: 3_600_000, maxDelayMs: 3_600_000 } })
    const [first, second] = server.group.workers
    const crashed = once(server.group, 'crash')
    await second.terminate()
    await crashed
    const answers = (await ask(lab, lab.a.ipv4, port, 20)).flat()
    assert.deepEqual([...new Set(answers)].sort(), ['0 kernel hello', '0 xdp hello'])
    const { received, receivedByKernel } = server.countsOf(first)
    assert.equal(received + receivedByKernel, 20)
    assert.deepEqual(server.counts, server.countsOf(first))
    assert.equal(second.state, 'restarting')
  })

  for (const how of ['throw', 'exit', 'terminate'] as const) {
    it(`replaces a thread that ends by ${how}, while the others answer`, async (t) => {
      const { lab, server, port } = await serve(t)
      const { group } = server
      await ask(lab, lab.a.ipv4, port, 20)
      assert.equal(server.counts.received, 20)
      const restarted = once(group, 'restart')
      // What the thread has in its hands or its ring is lost, and asked again.
      const load = askAgain(lab, lab.a.ipv4, port, 60)
      if (how === 'throw') {
        // Nobody answers that.
        await script(
          lab,
          'b',
          `const socket = await open('${lab.a.ipv4}')
          socket.send('throw', ${port}, '${lab.a.ipv4}', () => { socket.close(); say('sent') })`,
        )
      } else if (how === 'exit') group.workers[1].post('exit')
      else await group.workers[1].terminate()
      const [worker] = (await restarted) as [(typeof group.workers)[number]]
      if (how !== 'throw') assert.equal(worker, group.workers[1])
      assert.ok((await load).some((answer) => answer.startsWith(String(1 - worker.index))))
      const answers = (await ask(lab, lab.a.ipv4, port, 40)).flat()
      assert.deepEqual([...new Set(answers)].sort(), ['0 xdp hello', '1 xdp hello'])
      assert.equal(worker.restarts, 1)
    })
  }

  it('gives the workers what the kernel is left with: fragments, and longer answers', async (t) => {
    const { lab, server, port } = await serve(t, { workerData: { echo: true } })
    for (const host of [lab.a.ipv4, ipv6(lab.a)]) {
      await assertEchoes(lab, host, port, [1, 1400, 9000, 65_000])
    }
    const { received, receivedByKernel, replied, sentByKernel } = server.counts
    assert.deepEqual([received, receivedByKernel, replied, sentByKernel], [4, 4, 4, 4])
  })

  for (const version of [4, 6] as const) {
    it(`sends from its workers, by next hops that nobody knows yet and that move (IPv${version})`, async (t) => {
      const { lab, server, port } = await serve(t)
      const [host, own] = version === 4 ? [lab.b.ipv4, lab.a.ipv4] : [ipv6(lab.b), ipv6(lab.a)]
      const heard: string[] = []
      const child = lab.spawn(
        'b',
        process.execPath,
        [
          '-e',
          `const socket = require('dgram').createSocket('udp${version}')
          socket.on('message', (m, { address, port }) => console.log(address, port, String(m)))
          socket.bind(0, () => console.log('port', socket.address().port))`,
        ],
        { stdio: ['ignore', 'pipe', 'inherit'] },
      )
      child.stdout?.setEncoding('utf8').on('data', (text: string) => heard.push(...text.trim().split('\n')))
      await until('it listens', () => heard.length > 0)
      const to = /port (\d+)/.exec(heard.shift()!)![1]
      for (const end of ['a', 'b'] as const) await run(lab, end, 'ip', 'neigh', 'flush', 'all')
      const { group } = server
      for (let i = 0; i < 3; i++) group.broadcast(`${host} ${to}`)
      await until('all have arrived', () => heard.length === 6)
      const expected = [0, 1].flatMap((w) =>
        Array.from({ length: 3 }, () => `${own} ${port} from worker ${w} of ${lab.a.interface}`),
      )
      assert.deepEqual(heard.sort(), expected)
      const { sent, sentByKernel } = server.counts
      assert.equal(sent + sentByKernel, 6)
      // Announced by the kernel to the thread that opened the server, by that to the others.
      const seen = await dump(lab, 'udp', 'and', 'dst', 'port', to)
      const mac = '02:00:00:00:00:77'
      await run(lab, 'a', 'ip', 'neigh', 'replace', host, 'lladdr', mac, 'dev', lab.a.interface)
      for (const worker of group.workers) {
        const pattern = new RegExp(`> ${mac}, `, 'g')
        const before = (seen.text().match(pattern) ?? []).length
        await until(`worker ${worker.index} sends to ${mac}`, () => {
          worker.post(`${host} ${to}`)
          return (seen.text().match(pattern) ?? []).length > before + 2
        })
      }
      seen.stop()
      child.kill('SIGKILL')
    })
  }

  it('follows the interface to another hardware address', async (t) => {
    const { lab, port } = await serve(t)
    const mac = '02:00:00:00:00:42'
    await run(lab, 'a', 'ip', 'link', 'set', lab.a.interface, 'address', mac)
    await run(lab, 'b', 'ip', 'neigh', 'replace', lab.a.ipv4, 'lladdr', mac, 'dev', lab.b.interface)
    // What threads drop that do not know it yet is asked again.
    const answers = await askAgain(lab, lab.a.ipv4, port, 20)
    assert.deepEqual([...new Set(answers)].sort(), ['0 xdp hello', '1 xdp hello'])
  })

  it('goes on when its device is deleted and made anew', async (t) => {
    const restart = { limit: 100_000, delayMs: 5, maxDelayMs: 5 }
    const { lab, server, port } = await serve(t, { restart })
    const { group } = server
    const crashed = once(group, 'crash')
    deleteLink(lab.a.interface, { namespace: lab.a.namespace })
    await crashed
    const end = (which: 'a' | 'b') => {
      const { interface: name, namespace, mac } = lab[which]
      return { name, namespace, mac: parseMac(mac), mtu: 1500, queues: 2 }
    }
    createVeth({ ...end('a'), index: lab.a.ifindex + 7 }, end('b'), { namespace: lab.a.namespace })
    const works = ({ state, restarts }: GroupWorker) => state === 'running' && restarts > 0
    await until('all work again', () => group.workers.every(works))
    // Another address than before: it is followed again.
    const host = lab.a.ipv4.replace(/\d+$/, '99')
    for (const [which, address] of [
      ['a', host],
      ['b', lab.b.ipv4],
    ] as const) {
      const { interface: name, namespace } = lab[which]
      setInterfaceUp(name, true, { namespace })
      await run(lab, which, 'ip', 'address', 'add', `${address}/24`, 'dev', name)
    }
    await until('the link is up', () => getInterface(lab.b.interface, lab.b).operState === 'up')
    const before = server.counts.received
    const answers = await askAgain(lab, host, port, 20)
    assert.deepEqual([...new Set(answers.filter((answer) => answer.includes('xdp')))].sort(), [
      '0 xdp hello',
      '1 xdp hello',
    ])
    assert.ok(server.counts.received > before)
  })

  it('spreads the flows of one queue over several workers', async (t) => {
    const { lab, server, port } = await serve(t, { workersPerQueue: 3 }, {})
    for (const host of [lab.a.ipv4, ipv6(lab.a)]) {
      for (const [first, ...others] of await ask(lab, host, port, 30, 3)) {
        assert.match(first, /^[012] xdp hello$/)
        assert.deepEqual(others, [first, first])
      }
    }
    const received = receivedBy(server)
    assert.equal(received.length, 3)
    assert.ok(Math.min(...received) > 0, String(received))
    assert.equal(server.counts.received, 180)
    assert.equal(server.counts.replied, 180)
  })

  it('limits each source, whichever worker it comes to', async (t) => {
    const { lab, server, port } = await serve(t, { rateLimit: { perSecond: 1, burst: 5, banSeconds: 3600 } })
    await script(
      lab,
      'b',
      `const sent = []
      for (let i = 0; i < 10; i++) {
        const socket = await open('${lab.a.ipv4}')
        for (let j = 0; j < 5; j++) sent.push(new Promise((done) => socket.send('x', ${port}, '${lab.a.ipv4}', done)))
      }
      await Promise.all(sent)
      say(1)
      process.exit()`,
    )
    await until('all have been judged', () => server.counts.received + server.rateLimit!.limited === 50)
    assert.equal(server.counts.received, 5)
  })

  it('leaves nothing behind, after crashes too', async (t) => {
    const lab = createTestLab(t, { queues: 2 })
    // The first worker of a process starts threads and opens descriptors that stay.
    await (await openAt(t, lab)).close()
    const before = openDescriptors()
    const server = await openAt(t, lab, { restart: { delayMs: 1, maxDelayMs: 1, limit: 100 } })
    const { group } = server
    const heard: unknown[] = []
    group.on('message', (message) => heard.push(message))
    const open = openDescriptors().length
    for (let i = 0; i < 3; i++) {
      for (const worker of group.workers) {
        const restarted = once(group, 'restart')
        if (i % 2) worker.post('exit')
        else void worker.terminate()
        await restarted
      }
    }
    await until('descriptors are as many as before', () => openDescriptors().length === open)
    await server.close()
    await server.closed
    await server.close()
    assert.deepEqual(heard, ['bye', 'bye'])
    await until('nothing is open', () => descriptorsBeside(before).length === 0)
    assert.deepEqual(attachedAt(lab.a), [])
    // The port is free again.
    await (await openAt(t, lab, { port: server.ports[0] })).close()
  })

  it('says what is wrong with its options and modules, and leaves nothing then', async (t) => {
    const lab = createTestLab(t, { queues: 2 })
    await (await openAt(t, lab)).close()
    const before = openDescriptors()
    const module = (text: string) => new URL(`data:text/javascript,${encodeURIComponent(text)}`)
    for (const [options, message] of [
      [{ port: [] }, /No port was named/],
      [{ worker: '' }, /is no module for workers/],
      [{ workersPerQueue: -1 }, /cannot have -1 workers/],
      [{ worker: module('export const a = 1') }, /has no function as its default export/],
      [{ worker: module('export default () => 1') }, /returned no handler/],
      [{ workerData: { early: true } }, /The worker does not run yet/],
      [{ rateLimit: { perSecond: 1 }, program: () => assert.fail() }, /is for that to do/],
    ] as [Options, RegExp][])
      await assert.rejects(openAt(t, lab, options), { message })
    const server = await openAt(t, lab)
    await assert.rejects(openAt(t, lab, { port: server.ports }), { syscall: 'bind' })
    await server.close()
    await until('nothing is open', () => descriptorsBeside(before).length === 0)
    assert.deepEqual(attachedAt(lab.a), [])
  })

  it('rejects when its last worker has failed', async (t) => {
    const { server } = await serve(t, { restart: false })
    const closed = assert.rejects(server.closed, /ended with status 3/)
    server.group.broadcast('exit')
    await closed
  })
})

const nothing = {
  damaged: 0,
  unwanted: 0,
  unresolved: 0,
  receivedByKernel: 0,
  sent: 0,
  sentByKernel: 0,
  dropped: 0,
}
