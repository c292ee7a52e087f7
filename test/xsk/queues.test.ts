// Several queues: a socket a worker thread over one shared map, groups, and queues without a socket.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { describe, it } from 'node:test'
import { Worker } from 'node:worker_threads'
import { attachXdp } from '../../src/bpf/index.js'
import { inNamespace } from '../../src/kernel/index.js'
import { RedirectProgram } from '../../src/programs/redirect.js'
import { XdpGroup, XdpSocket } from '../../src/xsk/index.js'
import { createTestLab, needsRoot, openDescriptors } from '../support/lab.js'
import type { ReceiverData, ReceiverReport } from '../support/receiver.js'
import { attachedAt, frameOf, until } from '../support/xsk.js'

const numbered = (number: number) => {
  const frame = frameOf(64)
  new DataView(frame.buffer).setUint32(14, number)
  return frame
}

describe('queues', { skip: needsRoot }, () => {
  it('with a socket each, in two worker threads over one map, receive their own packets only', async (t) => {
    const lab = createTestLab(t, { queues: 2 })
    const { interface: name, namespace } = lab.a
    const steering = inNamespace(namespace, () => RedirectProgram.load({ queues: 2 }))
    t.after(() => steering.close())
    const attachment = attachXdp(steering.program, { interface: name, namespace })
    t.after(() => attachment.close())
    const file = new URL('../support/receiver.js', import.meta.url)
    const start = async (queue: number) => {
      const workerData: ReceiverData = {
        interface: name,
        namespace: namespace?.name as string,
        queue,
        map: steering.sockets.fd,
      }
      const worker = new Worker(file, { workerData })
      t.after(() => worker.terminate())
      const [message] = (await once(worker, 'message')) as [string]
      assert.equal(message, 'ready')
      return worker
    }
    const workers = await Promise.all([start(0), start(1)])
    // What leaves a queue of a veth arrives on the same queue of its peer.
    const senders = await XdpGroup.open({
      interface: lab.b.interface,
      namespace: lab.b.namespace,
      attach: 'none',
    })
    t.after(() => senders.close())
    const count = 2000
    for (let i = 0; i < count; i++) {
      const sender = senders.sockets[i % 2]
      assert.ok(sender.send(numbered(i)))
      if (i % 64 > 61) await sender.drain()
    }
    for (const sender of senders.sockets) await sender.drain()
    const reports = await Promise.all(
      workers.map(async (worker) => {
        const report = once(worker, 'message') as Promise<[ReceiverReport]>
        worker.postMessage({ until: count / 2 })
        return (await report)[0]
      }),
    )
    for (const [queue, report] of reports.entries()) {
      assert.equal(report.queue, queue)
      assert.deepEqual(report.queues, [queue])
      assert.deepEqual(
        report.numbers,
        Array.from({ length: count / 2 }, (_, i) => 2 * i + queue),
      )
      const { total, free, fill } = report.census
      assert.equal(free + fill, total)
    }
    assert.notEqual(reports[0].thread, reports[1].thread)
  })

  it('of a group are all opened behind one program; their statistics add up', async (t) => {
    const lab = createTestLab(t, { queues: 4 })
    const group = await XdpGroup.open({
      interface: lab.a.interface,
      namespace: lab.a.namespace,
      trackFrames: true,
    })
    t.after(() => group.close())
    assert.deepEqual(
      group.sockets.map(({ queue }) => queue),
      [0, 1, 2, 3],
    )
    assert.equal(attachedAt(lab.a).length, 1)
    const perQueue = [0, 0, 0, 0]
    const running = group.run((packet) => {
      perQueue[packet.queue]++
      return perQueue[packet.queue] % 2 ? 'transmit' : undefined
    })
    // Flows with different ports land on different queues of the sender, and so of the receiver.
    const { status, stderr } = await lab.exec('b', process.execPath, ['-e', datagrams(lab.a.ipv4, 64)])
    assert.equal(status, 0, stderr)
    await until('all are there', () => group.statistics().rx.packets === 64)
    const total = group.statistics()
    assert.deepEqual(
      group.sockets.map((socket) => socket.statistics().rx.packets),
      perQueue,
    )
    assert.ok(perQueue.filter((count) => count > 0).length > 1, perQueue.join())
    assert.equal(total.frames.total, 4 * 4096)
    assert.equal(
      total.rx.bytes,
      group.sockets.reduce((sum, socket) => sum + socket.statistics().rx.bytes, 0),
    )
    group.stop()
    await running
    await Promise.all(group.sockets.map((socket) => socket.drain()))
  })

  it('without a socket still reach the kernel: each datagram is with the one or the other', async (t) => {
    const lab = createTestLab(t, { queues: 2 })
    for (const queue of [0, 1]) {
      const group = await XdpGroup.open({
        interface: lab.a.interface,
        namespace: lab.a.namespace,
        queues: [queue],
      })
      // Datagrams of many flows: those on the other queue find the kernel's socket.
      const server = lab.spawn('a', process.execPath, ['-e', counter()], {
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      let said = ''
      server.stdout?.setEncoding('utf8').on('data', (text: string) => (said += text))
      await until('the server listens', () => said.includes('listening'))
      const count = 200
      const { status } = await lab.exec('b', process.execPath, ['-e', datagrams(lab.a.ipv4, count)])
      assert.equal(status, 0)
      let eaten = 0
      const answered = () => (said.match(/\./g) ?? []).length
      await until('each is with one of both', () => {
        group.sockets[0].receive((packet) => {
          assert.equal(packet.queue, queue)
          eaten++
        })
        return eaten + answered() === count
      })
      assert.ok(eaten > 0 && answered() > 0, `${eaten} eaten, ${answered()} passed`)
      server.kill('SIGKILL')
      await group.close()
    }
  })

  it('with one ping flow each: the kernel answers where no socket is', async (t) => {
    const lab = createTestLab(t, { queues: 2 })
    // ICMP of one pair of addresses is one flow; the group takes the queue it does not use.
    const counts: number[] = []
    for (const queue of [0, 1]) {
      const group = await XdpGroup.open({
        interface: lab.a.interface,
        namespace: lab.a.namespace,
        queues: [queue],
      })
      const { stdout } = await lab.exec('b', 'ping', ['-c', '3', '-i', '0.01', '-W', '1', lab.a.ipv4])
      counts.push(Number(/(\d+) received/.exec(stdout)?.[1]))
      assert.equal(
        group.sockets[0].receive(() => undefined, 100),
        3 - (counts.at(-1) as number),
      )
      await group.close()
    }
    assert.deepEqual(counts.sort(), [0, 3])
  })

  for (const [what, options, expected] of [
    ['no queue', { queues: [] }, { code: 'XDP_BAD_OPTION', option: 'queues' }],
    ['a queue that is not there', { queues: [0, 2] }, { code: 'XDP_BAD_OPTION', option: 'queue' }],
    ['a negative queue', { queues: [-1] }, { code: 'XDP_BAD_OPTION', option: 'queue' }],
    [
      'a word',
      { queues: 'some' as 'all' },
      { code: 'XDP_BAD_OPTION', option: 'queues', message: /^"some" names no queues/ },
    ],
  ] as const) {
    it(`a group of ${what} is refused, and nothing is left behind`, async (t) => {
      const lab = createTestLab(t, { queues: 2 })
      const before = openDescriptors()
      const { interface: name, namespace } = lab.a
      await assert.rejects(XdpGroup.open({ interface: name, namespace, ...options }), expected)
      assert.deepEqual(openDescriptors(), before)
      assert.deepEqual(attachedAt(lab.a), [])
      const group = await XdpGroup.open({ interface: name, namespace })
      await group.close()
    })
  }

  it('a group is closed whole even when its program cannot be detached', async (t) => {
    const lab = createTestLab(t, { queues: 2 })
    const before = openDescriptors()
    const { interface: name, namespace } = lab.a
    const group = await XdpGroup.open({ interface: name, namespace, attach: 'netlink' })
    lab.down()
    await assert.rejects(group.close(), { syscall: 'setns' })
    assert.ok(group.sockets.every(({ closed }) => closed))
    assert.deepEqual(
      openDescriptors().filter((target) => !before.includes(target)),
      [],
    )
  })

  it('taken by another socket fail a strict group by their number, and it leaves nothing of its own', async (t) => {
    const lab = createTestLab(t, { queues: 8 })
    const { interface: name, namespace } = lab.a
    const other = await XdpSocket.open({ interface: name, namespace, queue: 7, attach: 'none' })
    t.after(() => other.close())
    await assert.rejects(XdpGroup.open({ interface: name, namespace, strict: true }), {
      code: 'EBUSY',
      message: /queue 7/,
    })
    assert.deepEqual(attachedAt(lab.a), [])
    await other.close()
    const group = await XdpGroup.open({ interface: name, namespace })
    await group.close()
  })
})

/** Sends `count` datagrams, each from a socket of its own: a flow each. */
const datagrams = (address: string, count: number) => `
  const dgram = require('node:dgram')
  let i = 0
  const next = () => {
    if (i++ === ${count}) return
    const socket = dgram.createSocket('udp4')
    socket.send('x', 9, ${JSON.stringify(address)}, () => { socket.close(); next() })
  }
  next()`

/** Writes a dot for each datagram. */
const counter = () => `
  const socket = require('node:dgram').createSocket('udp4')
  socket.on('message', () => process.stdout.write('.'))
  socket.bind(9, () => process.stdout.write('listening\\n'))`
