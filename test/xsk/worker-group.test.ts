// Groups of threads: a worker a queue over one memory, what it is given, and what happens when one ends by itself.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readFileSync, readdirSync } from 'node:fs'
import { describe, it, type TestContext } from 'node:test'
import { getAffinity, getInterface, setInterfaceUp } from '../../src/kernel/index.js'
import { createVeth, deleteLink } from '../../src/kernel/netlink/index.js'
import type { Lab } from '../../src/lab/index.js'
import { parseMac } from '../../src/packet/index.js'
import {
  PRESETS,
  XdpGroup,
  XdpSocket,
  type GroupWarning,
  type GroupWorker,
  type SocketStatistics,
  type XdpWorkerGroup,
  type XdpWorkerGroupOptions,
} from '../../src/xsk/index.js'
import { startFlood } from '../support/flood.js'
import { createQuietLab, needsRoot, openDescriptors } from '../support/lab.js'
import type { QueueWorkerData, QueueWorkerOrder, QueueWorkerReport } from '../support/queue-worker.js'
import { attachedAt, frameOf, linkPackets, until, watchPromise } from '../support/xsk.js'

const worker = new URL('../support/queue-worker.js', import.meta.url)
const small = {
  umem: { frames: 256 },
  rings: { rx: 128, tx: 128, fill: 128, completion: 128 },
  trackFrames: true,
} as const
// Soon again: tests do not wait for what a machine in trouble should be spared.
const soon = { delayMs: 1, maxDelayMs: 1 }

async function openWorkers(
  t: TestContext,
  lab: Lab,
  options: Partial<XdpWorkerGroupOptions> & { workerData?: QueueWorkerData } = {},
): Promise<XdpWorkerGroup> {
  const { interface: name, namespace } = lab.a
  const group = await XdpGroup.open({
    interface: name,
    namespace,
    worker,
    ...small,
    restart: soon,
    ...options,
  })
  t.after(() => group.close())
  return group
}

/** Sends numbered frames to chosen queues: what leaves a queue of a veth arrives on the same queue of its peer. */
async function openSenders(t: TestContext, lab: Lab) {
  const { interface: name, namespace } = lab.b
  const group = await XdpGroup.open({ interface: name, namespace, attach: 'none', ...small })
  t.after(() => group.close())
  const sent: number[][] = group.sockets.map(() => [])
  let next = 0
  return {
    /** The numbers sent to each queue. */
    sent,
    /** Sends `count` frames to each of the queues, and waits until they have left. */
    async send(count: number, queues: readonly number[] = sent.map((_, queue) => queue)) {
      for (let i = 0; i < count; i++) {
        for (const queue of queues) {
          const frame = frameOf(64)
          new DataView(frame.buffer).setUint32(14, next)
          assert.ok(group.sockets[queue].send(frame))
          sent[queue].push(next++)
        }
        if (i % 32 === 31) await group.drain()
      }
      await group.drain()
    },
    close: () => group.close(),
  }
}

async function ask(worker: GroupWorker, group: XdpWorkerGroup): Promise<QueueWorkerReport> {
  const answer = new Promise<QueueWorkerReport>((resolve) => {
    const hear = (message: unknown, from: GroupWorker) => {
      if (from !== worker) return
      group.off('message', hear)
      resolve(message as QueueWorkerReport)
    }
    group.on('message', hear)
  })
  assert.ok(worker.post('report' satisfies QueueWorkerOrder))
  return answer
}

const packetsOf = (group: XdpWorkerGroup) => group.workers.map((w) => w.statistics().rx.packets)

function assertWhole({ frames }: SocketStatistics): void {
  const { total, ...places } = frames
  assert.equal(
    Object.values(places).reduce((a, b) => a + b, 0),
    total,
    JSON.stringify(frames),
  )
  for (const count of Object.values(places)) assert.ok(count >= 0, JSON.stringify(frames))
}

/** Threads of this process. */
const threads = () => readdirSync('/proc/self/task').length

/** Mappings of UMEMs and of rings. */
const mappings = () =>
  readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .filter((line) => /memfd:umem|socket:/.test(line)).length

describe('a group of workers', { skip: needsRoot }, () => {
  it("gives each queue's packets to the thread of the queue, and counts them from outside", async (t) => {
    const lab = createQuietLab(t, { queues: 4 })
    const group = await openWorkers(t, lab)
    assert.deepEqual(
      group.workers.map(({ queue, state, restarts }) => ({ queue, state, restarts })),
      [0, 1, 2, 3].map((queue) => ({ queue, state: 'running', restarts: 0 })),
    )
    assert.deepEqual(group.warnings, [])
    assert.equal(attachedAt(lab.a).length, 1)
    const senders = await openSenders(t, lab)
    // As many at a time as the rings hold, whenever the threads get their turns.
    for (let sent = 100; sent <= 500; sent += 100) {
      await senders.send(100)
      await until('all are there', () => packetsOf(group).every((count) => count === sent))
    }
    const reports = await Promise.all(group.workers.map((w) => ask(w, group)))
    for (const [queue, report] of reports.entries()) {
      assert.deepEqual(report.numbers, senders.sent[queue])
      assert.deepEqual(report.queues, [queue])
      assert.deepEqual([report.queue, report.worker, report.workers], [queue, queue, 4])
    }
    assert.equal(new Set(reports.map(({ thread }) => thread)).size, 4)
    const total = group.statistics()
    assert.equal(total.rx.packets, 2000)
    assert.equal(total.rx.bytes, 2000 * 64)
    assert.equal(total.frames.total, 4 * 256)
    assertWhole(total)
    for (const w of group.workers) {
      const { frames } = w.statistics()
      assert.equal(frames.free + frames.fill, 256)
    }
  })

  it('sends back what its handlers transmit, and drains it before it stops', async (t) => {
    const lab = createQuietLab(t, { queues: 2 })
    const group = await openWorkers(t, lab, { workerData: { verdict: 'transmit' } })
    const senders = await openSenders(t, lab)
    await senders.send(100)
    await until('all are there', () => group.statistics().rx.packets === 200)
    await group.stop()
    assert.equal(group.statistics().tx.packets, 200)
    // The kernel may have something of its own to say.
    assert.ok(linkPackets(lab).aSent >= 200)
    assertWhole(group.statistics())
    assert.equal(group.statistics().frames.free, 2 * 256)
  })

  for (const how of ['throw', 'reject', 'exit', 'stop', 'terminate'] as const) {
    it(`starts another thread for one that ends by ${how}; the other queues lose nothing`, async (t) => {
      const lab = createQuietLab(t, { queues: 3 })
      const group = await openWorkers(t, lab)
      const senders = await openSenders(t, lab)
      const victim = group.workers[1]
      await senders.send(50)
      await until('all are there', () => packetsOf(group).every((count) => count === 50))
      // Held frames, too, come back.
      victim.post({ hold: 7 } satisfies QueueWorkerOrder)
      await ask(victim, group)
      await senders.send(7, [1])
      await until('seven are held', () => victim.statistics().frames.held === 7)
      const crashed = once(group, 'crash') as Promise<[Error, GroupWorker, number]>
      const restarted = once(group, 'restart')
      const firstThread = (await ask(victim, group)).thread
      if (how === 'terminate') await victim.terminate()
      else victim.post(how)
      // Traffic on all queues while one is without a thread.
      for (let i = 0; i < 10; i++) await senders.send(10)
      const [error, who, wait] = await crashed
      assert.equal(who, victim)
      assert.equal(wait, 1)
      assert.match(error.message, how === 'throw' || how === 'reject' ? /on purpose/ : /queue 1 of .* ended/)
      await restarted
      assert.deepEqual([victim.state, victim.restarts], ['running', 1])
      await until('the others have theirs', () =>
        [0, 2].every((queue) => packetsOf(group)[queue] === senders.sent[queue].length),
      )
      const before = victim.statistics().rx.packets
      const mark = senders.sent[1].length
      await senders.send(50)
      await until('the new one has them', () => victim.statistics().rx.packets === before + 50)
      const reports = await Promise.all(group.workers.map((w) => ask(w, group)))
      for (const queue of [0, 2]) assert.deepEqual(reports[queue].numbers, senders.sent[queue])
      assert.deepEqual(reports[1].numbers.slice(-50), senders.sent[1].slice(mark))
      assert.notEqual(reports[1].thread, firstThread)
      for (const w of group.workers) {
        const { frames } = w.statistics()
        assertWhole(w.statistics())
        assert.equal(frames.free + frames.fill, 256, JSON.stringify(frames))
      }
    })
  }

  it('keeps every frame when threads are ended in the middle of a flood', async (t) => {
    const lab = createQuietLab(t, { queues: 2 })
    const group = await openWorkers(t, lab, {
      workerData: { verdict: 'transmit', forget: true },
      restart: { ...soon, limit: 100 },
    })
    const floods = [startFlood(t, lab.b, frameOf(64)), startFlood(t, lab.b, frameOf(128))]
    for (let i = 0; i < 6; i++) {
      const before = group.statistics().rx.packets
      await until('packets flow', () => group.statistics().rx.packets > before + 1000)
      const restarted = once(group, 'restart')
      if (i % 2) void group.workers[i % 4 === 1 ? 0 : 1].terminate()
      else group.post(i % 4 === 0 ? 0 : 1, 'throw' satisfies QueueWorkerOrder)
      await restarted
    }
    const before = packetsOf(group)
    await until('packets flow', () => group.statistics().rx.packets > before[0] + before[1] + 1000)
    for (const flood of floods) await flood.stop()
    const isAtRest = () => {
      const { rx, tx, completion } = group.statistics().frames
      return rx + tx + completion === 0
    }
    await until('nothing is under way', isAtRest)
    for (const w of group.workers) {
      const { frames } = w.statistics()
      assert.equal(frames.free + frames.fill, 256, JSON.stringify(frames))
    }
    const sum = group.workers.map((w) => w.statistics().rx.packets).reduce((a, b) => a + b)
    assert.equal(group.statistics().rx.packets, sum)
  })

  it('leaves nothing behind, after many crashes too', async (t) => {
    const lab = createQuietLab(t, { queues: 2 })
    // The first worker of a process starts threads and opens descriptors that stay.
    await (await openWorkers(t, lab)).close()
    const before = { descriptors: openDescriptors(), threads: threads(), mappings: mappings() }
    const group = await openWorkers(t, lab, { restart: { ...soon, limit: 100 } })
    const open = { descriptors: openDescriptors().length, mappings: mappings() }
    for (let i = 0; i < 5; i++) {
      for (const w of group.workers) {
        const restarted = once(group, 'restart')
        if (i % 2) w.post('exit' satisfies QueueWorkerOrder)
        else void w.terminate()
        await restarted
      }
    }
    assert.deepEqual(
      group.workers.map(({ restarts }) => restarts),
      [5, 5],
    )
    assert.deepEqual({ descriptors: openDescriptors().length, mappings: mappings() }, open)
    await group.close()
    await group.close()
    await until('the threads are gone', () => threads() === before.threads)
    assert.deepEqual({ descriptors: openDescriptors(), threads: threads(), mappings: mappings() }, before)
    assert.deepEqual(attachedAt(lab.a), [])
  })

  it('gives a worker up that crashes again and again, and its queue to the kernel', async (t) => {
    const lab = createQuietLab(t, { queues: 2 })
    const group = await openWorkers(t, lab, { restart: { limit: 2, delayMs: 1, maxDelayMs: 3 } })
    const waits: number[] = []
    group.on('crash', (_error, _worker, ms) => waits.push(ms))
    group.on('restart', (w) => w.post('exit' satisfies QueueWorkerOrder))
    const failed = once(group, 'failed') as Promise<[Error, GroupWorker]>
    const running = group.run()
    group.workers[1].post('exit' satisfies QueueWorkerOrder)
    const [error, who] = await failed
    assert.match(error.message, /ended with status 3/)
    assert.equal(who, group.workers[1])
    assert.deepEqual(waits, [1, 2])
    assert.deepEqual(
      group.workers.map(({ state }) => state),
      ['running', 'failed'],
    )
    const [warning] = group.warnings
    assert.deepEqual([warning.code, warning.queue], ['queue', 1])
    assert.equal(group.workers[1].post('report'), false)
    // The last one that fails ends the run.
    const ended = assert.rejects(running, /ended with status 3/)
    group.workers[0].post('exit' satisfies QueueWorkerOrder)
    await ended
    group.removeAllListeners('restart')
    await group.start()
    assert.deepEqual(
      group.workers.map(({ state }) => state),
      ['running', 'running'],
    )
  })

  it('tells whoever listens once it is open what its workers have said before', async (t) => {
    const lab = createQuietLab(t, { queues: 2 })
    const group = await openWorkers(t, lab, { workerData: { greets: true } })
    const heard: unknown[] = []
    group.on('message', (message, { queue }) => heard.push(`${queue}: ${String(message)}`))
    await until('both were heard', () => heard.length >= 2)
    assert.deepEqual(heard.sort(), ['0: here', '1: here'])
  })

  it('refuses times and counts that cannot be', async (t) => {
    const lab = createQuietLab(t)
    for (const [options, option] of [
      [{ stopTimeoutMs: -1 }, 'stopTimeoutMs'],
      [{ restart: { limit: -1 } }, 'restart.limit'],
      [{ restart: { delayMs: NaN } }, 'restart.delayMs'],
    ] as const)
      await assert.rejects(openWorkers(t, lab, options), { code: 'XDP_BAD_OPTION', option })
    assert.deepEqual(attachedAt(lab.a), [])
  })

  it('stops and starts again on the same memory; meanwhile packets go to the kernel', async (t) => {
    const lab = createQuietLab(t, { queues: 2 })
    const group = await openWorkers(t, lab)
    const { umem } = group
    const farewells: unknown[] = []
    group.on('message', (message) => farewells.push(message))
    const running = group.run()
    await group.stop()
    await running
    assert.deepEqual(farewells, ['bye', 'bye'])
    const { stdout } = await lab.exec('b', 'ping', ['-c', '2', '-i', '0.01', '-W', '1', lab.a.ipv4])
    assert.match(stdout, / 2 received/)
    assert.equal(group.statistics().rx.packets, 0)
    await group.start()
    assert.equal(group.umem, umem)
    const senders = await openSenders(t, lab)
    await senders.send(20)
    await until('all are there', () => group.statistics().rx.packets === 40)
    const control = new AbortController()
    const again = group.run({ signal: control.signal })
    control.abort()
    await again
  })

  it('has workers on two devices, with one memory', async (t) => {
    const [left, right] = [createQuietLab(t, { queues: 2 }), createQuietLab(t)]
    const { interface: name, namespace } = right.a
    const group = await openWorkers(t, left, { others: [{ interface: name, namespace }] })
    assert.deepEqual(
      group.workers.map(({ queue }) => queue),
      [0, 1, 0],
    )
    assert.equal(group.attachments.length, 2)
    assert.equal(group.umem.frames, 3 * 256)
    const [first, second] = [await openSenders(t, left), await openSenders(t, right)]
    await first.send(20)
    await second.send(30)
    await until('all are there', () => packetsOf(group).join() === '20,20,30')
    const reports = await Promise.all(group.workers.map((w) => ask(w, group)))
    assert.deepEqual(
      reports.map(({ numbers }) => numbers),
      [...first.sent, ...second.sent],
    )
    // A message to a queue is one to that queue of either device.
    assert.ok(group.post(0, { hold: 1 } satisfies QueueWorkerOrder))
    await Promise.all(group.workers.map((w) => ask(w, group)))
    await first.send(1)
    await second.send(1)
    await until('one is held on each', () => group.statistics().frames.held === 2)
    assert.deepEqual(
      group.workers.map((w) => w.statistics().frames.held),
      [1, 0, 1],
    )
    await group.close()
    assert.deepEqual([...attachedAt(left.a), ...attachedAt(right.a)], [])
  })

  for (const preset of ['highThroughput', 'lowLatency'] as const) {
    it(`works with the preset ${preset}`, async (t) => {
      const lab = createQuietLab(t, { queues: 2 })
      const { interface: name, namespace } = lab.a
      const group = await XdpGroup.open({ interface: name, namespace, worker, preset })
      t.after(() => group.close())
      assert.equal(group.umem.frames, 2 * PRESETS[preset].umem.frames)
      assert.ok(group.workers.every(({ cpu }) => cpu !== undefined))
      const senders = await openSenders(t, lab)
      await senders.send(100)
      await until('all are there', () => group.statistics().rx.packets === 200)
      const busy = group.statistics().wakeups.rx > 100
      assert.equal(busy, preset === 'lowLatency')
      await group.stop()
      assertWhole(group.statistics())
    })
  }

  it('ends a thread that does not stop by itself', async (t) => {
    const lab = createQuietLab(t)
    const group = await openWorkers(t, lab, { stopTimeoutMs: 50 })
    group.post(0, 'hang' satisfies QueueWorkerOrder)
    await group.close()
    assert.equal(group.workers[0].state, 'stopped')
    assert.deepEqual(attachedAt(lab.a), [])
  })

  it('tells of a thread that loops for ever; ended, it is replaced', async (t) => {
    const lab = createQuietLab(t, { queues: 2 })
    const group = await openWorkers(t, lab, { stallMs: 400 })
    const senders = await openSenders(t, lab)
    const [first, second] = group.workers
    const stalls: GroupWorker[] = []
    group.on('stall', (_warning, worker) => stalls.push(worker))
    const warned = once(group, 'warning') as Promise<[GroupWarning]>
    const told = once(group, 'stall')
    second.post('hang' satisfies QueueWorkerOrder)
    await told
    const [{ code, queue, message }] = await warned
    assert.deepEqual([code, queue], ['stalled', 1])
    assert.match(message, /queue 1 of .* no progress for 400 ms/)
    assert.ok(second.stalledMs >= 300, String(second.stalledMs))
    assert.equal(second.state, 'running')
    const restarted = once(group, 'restart')
    await second.terminate()
    await restarted
    assert.equal(second.stalledMs, 0)
    await senders.send(20)
    await until('all are there', () => packetsOf(group).join() === '20,20')
    // On a busy machine the other one may have been told of too, but not while it did its work.
    assert.equal(stalls.filter((worker) => worker === second).length, 1)
    assert.equal(first.restarts, 0)
    await assert.rejects(openWorkers(t, lab, { stallMs: 0 }), { code: 'XDP_BAD_OPTION', option: 'stallMs' })
  })

  it('binds its threads to the processors it is told', async (t) => {
    const lab = createQuietLab(t, { queues: 3 })
    const allowed = getAffinity()
    const group = await openWorkers(t, lab, { cpus: [allowed[0]] })
    for (const w of group.workers) {
      assert.equal(w.cpu, allowed[0])
      assert.deepEqual((await ask(w, group)).cpus, [allowed[0]])
    }
    await group.close()
    const automatic = await openWorkers(t, lab, { cpus: 'auto' })
    for (const [i, w] of automatic.workers.entries()) {
      assert.deepEqual((await ask(w, automatic)).cpus, [allowed[i % allowed.length]])
    }
    await automatic.close()
    const free = await openWorkers(t, lab)
    for (const w of free.workers) assert.deepEqual((await ask(w, free)).cpus, allowed)
    assert.deepEqual(getAffinity(), allowed)
  })

  it('goes on without a queue that is taken, with a warning; fails when strict', async (t) => {
    const lab = createQuietLab(t, { queues: 3 })
    const { interface: name, namespace } = lab.a
    const other = await XdpSocket.open({ interface: name, namespace, queue: 0, attach: 'none', ...small })
    t.after(() => other.close())
    const before = { descriptors: openDescriptors(), mappings: mappings() }
    await assert.rejects(openWorkers(t, lab, { strict: true }), { code: 'EBUSY', message: /queue 0/ })
    assert.deepEqual({ descriptors: openDescriptors(), mappings: mappings() }, before)
    const group = await openWorkers(t, lab)
    assert.equal(group.warnings.length, 1)
    const [{ code, queue, error, interface: device }] = group.warnings
    assert.deepEqual([code, queue, device], ['queue', 0, name])
    assert.match(String(error?.message), /EBUSY/)
    assert.deepEqual(
      group.workers.map(({ state }) => state),
      ['stopped', 'running', 'running'],
    )
    const senders = await openSenders(t, lab)
    await senders.send(20, [1, 2])
    await until('all are there', () => group.statistics().rx.packets === 40)
  })

  for (const [what, options, expected] of [
    [
      'that is not there',
      { worker: new URL('./nothing.js', import.meta.url) },
      { code: 'ERR_MODULE_NOT_FOUND' },
    ],
    [
      'without a default export',
      { worker: new URL('../support/xsk.js', import.meta.url) },
      /no function as its default/,
    ],
    ['that throws', { workerData: { failOn: [1] } }, /not on this queue/],
    ['of no name', { worker: '' }, { code: 'XDP_BAD_OPTION', option: 'worker' }],
    ['on a processor that is not there', { cpus: [4095] }, { code: 'XDP_BAD_OPTION', option: 'cpus' }],
  ] as const) {
    it(`refuses a module ${what}, and leaves nothing`, async (t) => {
      const lab = createQuietLab(t, { queues: 2 })
      await (await openWorkers(t, lab)).close()
      const before = { descriptors: openDescriptors(), mappings: mappings() }
      await assert.rejects(openWorkers(t, lab, options as object), expected)
      assert.deepEqual({ descriptors: openDescriptors(), mappings: mappings() }, before)
      assert.deepEqual(attachedAt(lab.a), [])
    })
  }

  it('outlives its device being down', async (t) => {
    const lab = createQuietLab(t, { queues: 2 })
    const group = await openWorkers(t, lab)
    const senders = await openSenders(t, lab)
    await senders.send(20)
    await until('all are there', () => group.statistics().rx.packets === 40)
    const ip = (state: string) => lab.exec('a', 'ip', ['link', 'set', lab.a.interface, state])
    assert.equal((await ip('down')).status, 0)
    assert.equal((await ip('up')).status, 0)
    await until('the link is back', () => lab.interfaces().b.operState === 'up')
    await senders.send(20)
    // The kernel greets its neighbours when a link comes up, too.
    await until('all are there again', () => group.statistics().rx.packets >= 80)
    for (const [queue, w] of group.workers.entries()) {
      assert.deepEqual((await ask(w, group)).numbers, senders.sent[queue])
    }
    for (const w of group.workers) {
      const { frames } = w.statistics()
      assert.equal(frames.free + frames.fill, 256, JSON.stringify(frames))
      assert.equal(w.restarts, 0)
    }
  })

  it('tells when its device goes away', async (t) => {
    const lab = createQuietLab(t, { queues: 2 })
    const group = await openWorkers(t, lab, { restart: { limit: 2, delayMs: 1, maxDelayMs: 1 } })
    const ended = assert.rejects(group.run(), { code: /ENODEV|ENETDOWN|ENXIO|XDP_NOT_FOUND/ })
    assert.equal((await lab.exec('a', 'ip', ['link', 'delete', lab.a.interface])).status, 0)
    await ended
    assert.deepEqual(
      group.workers.map(({ state }) => state),
      ['failed', 'failed'],
    )
    assertWhole(group.statistics())
    assert.equal(group.statistics().frames.free, 2 * 256)
  })

  for (const number of ['the same', 'another'] as const) {
    it(`attaches its program to a device that was deleted and made anew, with ${number} number`, async (t) => {
      const lab = createQuietLab(t, { queues: 2 })
      const restart = { limit: 100_000, delayMs: 5, maxDelayMs: 5 }
      const group = await openWorkers(t, lab, { restart })
      const first = group.attachment
      const crashed = once(group, 'crash')
      deleteLink(lab.a.interface, { namespace: lab.a.namespace })
      await crashed
      const end = (which: 'a' | 'b') => {
        const { interface: name, namespace, mac } = lab[which]
        return { name, namespace, mac: parseMac(mac), mtu: 1200, queues: 2 }
      }
      const index = lab.a.ifindex + (number === 'another' ? 7 : 0)
      createVeth({ ...end('a'), index }, end('b'), { namespace: lab.a.namespace })
      for (const { interface: name, namespace } of [lab.b, lab.a]) setInterfaceUp(name, true, { namespace })
      const works = (w: GroupWorker) => w.state === 'running' && w.restarts > 0
      await until('all work again', () => group.workers.every(works))
      assert.deepEqual(
        attachedAt(lab.a).map(({ id }) => id),
        [group.attachment?.programId],
      )
      assert.notEqual(group.attachment, first)
      assert.equal(group.attachment?.ifindex, index)
      await until('the link is up', () => getInterface(lab.b.interface, lab.b).operState === 'up')
      const senders = await openSenders(t, lab)
      await senders.send(20)
      for (const [queue, w] of group.workers.entries()) {
        let numbers: number[] = []
        while (numbers.length < 20) ({ numbers } = await ask(w, group))
        assert.deepEqual(numbers, senders.sent[queue])
      }
      await group.close()
      assert.deepEqual(attachedAt(lab.a), [])
    })
  }

  it('does not wait for the end of what is stopped or closed', { timeout: 60_000 }, async (t) => {
    const lab = createQuietLab(t)
    const group = await openWorkers(t, lab)
    const stopping = group.stop()
    await group.run()
    assert.equal(group.workers[0].state, 'stopped')
    await stopping
    await group.run()
    await group.start()
    const running = watchPromise(group.run())
    await new Promise((resolve) => setImmediate(resolve))
    assert.ok(!running.settled(), 'it runs again')
    const closing = group.close()
    await running.promise
    await assert.rejects(group.run(), { code: 'XDP_STATE' })
    await closing
    await assert.rejects(group.run(), { code: 'XDP_STATE' })
  })
})
