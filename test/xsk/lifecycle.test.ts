// Opening and closing, again and again, under load, by force: nothing stays attached, and the queue is free at once.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { describe, it } from 'node:test'
import { Worker } from 'node:worker_threads'
import { detachXdp, objectIds } from '../../src/bpf/index.js'
import { setInterfaceUp } from '../../src/kernel/interfaces.js'
import { Umem, XdpGroup, XdpSocket } from '../../src/xsk/index.js'
import { startChild } from '../support/child.js'
import { startFlood } from '../support/flood.js'
import { createTestLab, needsRoot, openDescriptors } from '../support/lab.js'
import { assertAllHome, attachedAt, frameOf, isOurs, openAt, until } from '../support/xsk.js'

const small = { umem: { frames: 64 }, rings: { rx: 32, tx: 32, fill: 32, completion: 32 } }

describe('opening and closing', { skip: needsRoot }, () => {
  it('200 times without a wait leaves the queue free, no program and no descriptor', async (t) => {
    const lab = createTestLab(t)
    const open = () => XdpSocket.open({ interface: lab.a.interface, namespace: lab.a.namespace, ...small })
    await (await open()).close()
    const descriptors = openDescriptors()
    for (let round = 0; round < 200; round++) {
      const socket = await open()
      assert.equal(attachedAt(lab.a).length, 1)
      await socket.close()
      assert.equal(attachedAt(lab.a).length, 0)
    }
    assert.deepEqual(openDescriptors(), descriptors)
  })

  it('20 times under load, at any moment of a run, keeps working', async (t) => {
    const lab = createTestLab(t)
    const flood = startFlood(t, lab.b, frameOf(64))
    for (let round = 0; round < 20; round++) {
      const socket = await openAt(t, lab.a, { trackFrames: true, busyPoll: round % 4 === 3 })
      let reflected = 0
      const running = socket.run(() => {
        reflected++
        return 'transmit'
      })
      await until('packets are reflected', () => reflected > 0)
      const sent = flood.sent
      if (round % 2 === 0) await until('more come', () => flood.sent > sent)
      await Promise.all([socket.close(), running, socket.close()])
      const last = reflected
      await new Promise((resolve) => setImmediate(resolve))
      assert.equal(reflected, last, 'a handler was called after close')
    }
    await flood.stop()
    assert.deepEqual(attachedAt(lab.a), [])
    await assertAllHome(await openAt(t, lab.a))
  })

  it('from within a handler ends the run; the rest of the batch is not handled', async (t) => {
    const lab = createTestLab(t)
    const flood = startFlood(t, lab.b, frameOf(64))
    for (const verdict of [undefined, 'transmit', 'hold'] as const) {
      const socket = await openAt(t, lab.a, { trackFrames: true })
      let calls = 0
      let closing: Promise<void> | undefined
      await socket.run(() => {
        calls++
        closing = socket.close()
        return verdict
      })
      await closing
      assert.equal(calls, 1)
      assert.equal(socket.closed, true)
    }
    await flood.stop()
  })

  it('on an interface that is down: the kernel binds there, and packets come once it is up', async (t) => {
    const lab = createTestLab(t)
    setInterfaceUp(lab.a.interface, false, { namespace: lab.a.namespace })
    const socket = await openAt(t, lab.a, { trackFrames: true })
    let got = 0
    const running = socket.run((packet) => {
      if (isOurs(packet)) got++
    })
    setInterfaceUp(lab.a.interface, true, { namespace: lab.a.namespace })
    const sender = await openAt(t, lab.b, { attach: 'none' })
    await until('the link is up', () => lab.interfaces().b.operState === 'up')
    assert.ok(sender.send(frameOf(60)))
    await sender.drain(10_000)
    await until('it is there', () => got === 1)
    socket.stop()
    await running
    await assertAllHome(socket)
  })

  it('of a UMEM given by the caller leaves it to the caller, for the next socket', async (t) => {
    const lab = createTestLab(t)
    const umem = Umem.create({ frames: 32 })
    t.after(() => umem.close())
    const sender = await openAt(t, lab.b, { attach: 'none' })
    for (let round = 0; round < 5; round++) {
      const socket = await openAt(t, lab.a, { umem })
      assert.equal(socket.umem, umem)
      sender.send(frameOf(80 + round))
      sender.flush()
      let got: Uint8Array | undefined
      await until('it is there', () => {
        socket.receive((packet) => void (got = packet.copy()))
        return got !== undefined
      })
      assert.deepEqual(got, frameOf(80 + round))
      await socket.close()
      assert.equal(umem.closed, false)
    }
  })

  it('closes everything else even when its program cannot be detached, and says so', async (t) => {
    const lab = createTestLab(t)
    const descriptors = openDescriptors()
    const { interface: name, namespace } = lab.a
    const socket = await XdpSocket.open({ interface: name, namespace, attach: 'netlink', ...small })
    lab.down() // closes the namespace it would be detached in
    const left = openDescriptors().length
    await assert.rejects(socket.close(), { syscall: 'setns' })
    assert.ok(openDescriptors().length < left)
    assert.equal(socket.umem.closed, true)
    await assert.rejects(socket.close(), { syscall: 'setns' })
    assert.deepEqual(
      openDescriptors().filter((target) => !descriptors.includes(target)),
      [],
    )
  })

  it('with await using closes at the end of the block, also by an exception', async (t) => {
    const lab = createTestLab(t)
    const fail = async () => {
      await using socket = await XdpSocket.open({ interface: lab.a.interface, namespace: lab.a.namespace })
      assert.equal(attachedAt(lab.a).length, 1)
      throw new Error(`out of the block of ${socket.interface}`)
    }
    await assert.rejects(fail(), /out of the block/)
    assert.deepEqual(attachedAt(lab.a), [])
  })

  it('a closed socket answers every use with XDP_STATE', async (t) => {
    const lab = createTestLab(t)
    const socket = await openAt(t, lab.a, small)
    const frame = socket.allocate()
    const batch = socket.reserve(2)
    batch.setLength(0, 60)
    batch.setLength(1, 60)
    await socket.close()
    const closed = { name: 'StateError', code: 'XDP_STATE', message: 'The socket is closed' }
    const uses: Record<string, () => unknown> = {
      receive: () => socket.receive(() => undefined),
      wake: () => socket.wake(),
      send: () => socket.send(frameOf(60)),
      reserve: () => socket.reserve(1),
      commit: () => batch.commit(),
      cancel: () => batch.cancel(),
      allocate: () => socket.allocate(),
      release: () => socket.release(frame),
      transmit: () => socket.transmit(frame, 60),
      flush: () => socket.flush(),
      txPending: () => socket.txPending,
      statistics: () => socket.statistics(),
      frames: () => socket.frames(),
    }
    for (const [name, use] of Object.entries(uses)) assert.throws(use, closed, name)
    await assert.rejects(
      socket.run(() => undefined),
      closed,
    )
    await assert.rejects(socket.drain(), closed)
    for await (const packet of socket) assert.fail(`a packet of ${packet.length} bytes from a closed socket`)
    socket.stop()
    await socket.close()
    assert.equal(socket.bytes.length, 0)
    assert.equal(socket.mode, undefined)
  })

  it('by SIGKILL with a link leaves nothing attached, and the queue is free at once', async (t) => {
    const lab = createTestLab(t)
    for (let round = 0; round < 3; round++) {
      const child = startChild(
        lab,
        'a',
        `const socket = await XdpSocket.open({ interface: ${JSON.stringify(lab.a.interface)}, attach: 'link' })
         await say('open')
         await socket.run(() => 'transmit')`,
      )
      await child.hasSaid(1)
      assert.equal(attachedAt(lab.a)[0].kind, 'link')
      child.process.kill('SIGKILL')
      assert.equal(await child.ended(), 'SIGKILL')
      // The process is gone, its descriptors with it: nothing to wait for.
      assert.deepEqual(attachedAt(lab.a), [])
      const socket = await openAt(t, lab.a)
      await socket.close()
    }
  })

  it('by SIGKILL with netlink leaves the program: the next one is told, and can take it off', async (t) => {
    const lab = createTestLab(t)
    const child = startChild(
      lab,
      'a',
      `const socket = await XdpSocket.open({ interface: ${JSON.stringify(lab.a.interface)}, attach: 'netlink' })
       await say(socket.attachment.programId)
       await socket.run(() => 'transmit')`,
    )
    await child.hasSaid(1)
    child.process.kill('SIGKILL')
    assert.equal(await child.ended(), 'SIGKILL')
    const [left] = attachedAt(lab.a)
    assert.equal(left.kind, 'netlink')
    assert.equal(left.id, child.said[0])
    for (const attach of ['link', 'netlink'] as const) {
      await assert.rejects(openAt(t, lab.a, { attach }), (error: Error & { code: string; hint: string }) => {
        assert.equal(error.code, 'XDP_BUSY')
        assert.match(error.message, new RegExp(`${lab.a.interface} has .*${left.id} "xdp_redirect"`))
        assert.match(error.hint, /ip link set dev veth-a xdp\w* off/)
        return true
      })
    }
    assert.equal(detachXdp(lab.a.interface, { namespace: lab.a.namespace }).length, 1)
    await openAt(t, lab.a)
  })

  for (const how of [
    'an uncaught exception',
    'SIGINT',
    'SIGTERM',
    'process.exit',
    'the end of the script',
  ] as const) {
    it(`by ${how} leaves nothing attached`, async (t) => {
      const lab = createTestLab(t)
      const child = startChild(
        lab,
        'a',
        `const socket = await XdpSocket.open({ interface: ${JSON.stringify(lab.a.interface)} })
         await say('open')
         const how = ${JSON.stringify(how)}
         if (how === 'an uncaught exception') throw new Error('on purpose')
         if (how === 'process.exit') process.exit(3)
         if (how.startsWith('SIG')) await socket.run(() => undefined)`,
      )
      await child.hasSaid(1)
      if (how.startsWith('SIG')) child.process.kill(how as NodeJS.Signals)
      const status = await child.ended()
      const expected = { 'an uncaught exception': 1, 'process.exit': 3, 'the end of the script': 0 }[
        how as 'process.exit'
      ]
      assert.equal(status, expected ?? how, child.stderr())
      assert.deepEqual(attachedAt(lab.a), [])
    })
  }

  it('leaves no program and no map in the kernel', async (t) => {
    const lab = createTestLab(t, { queues: 2 })
    const mine = (kind: 'program' | 'map') => [...objectIds(kind)]
    // Other tests load programs at the same time: look for those that appear with ours and stay.
    const before = { program: new Set(mine('program')), map: new Set(mine('map')) }
    const socket = await openAt(t, lab.a)
    const id = socket.attachment?.programId as number
    assert.ok(!before.program.has(id) && mine('program').includes(id))
    await socket.close()
    await until('the program is gone', () => !mine('program').includes(id))
    const group = await XdpGroup.open({ interface: lab.a.interface, namespace: lab.a.namespace })
    const second = group.attachment?.programId as number
    await group.close()
    await group.close()
    await until('the program is gone', () => !mine('program').includes(second))
  })
})

describe('the end of a thread that has a socket open', { skip: needsRoot }, () => {
  for (const how of ['an exception', 'terminate'] as const) {
    it(`by ${how} leaves nothing attached, and its queue free`, async (t) => {
      const lab = createTestLab(t)
      const before = openDescriptors()
      const worker = new Worker(
        `const { workerData, parentPort } = require('node:worker_threads')
         const open = async () => {
           const { Namespace } = await import(workerData.kernel)
           const { XdpSocket } = await import(workerData.xsk)
           const namespace = Namespace.open(workerData.namespace)
           const socket = await XdpSocket.open({ interface: workerData.interface, namespace })
           void socket.run(() => undefined)
           parentPort.postMessage('open')
           parentPort.once('message', () => { throw new Error('on purpose') })
         }
         open()`,
        {
          eval: true,
          workerData: {
            kernel: new URL('../../src/kernel/index.js', import.meta.url).href,
            xsk: new URL('../../src/xsk/index.js', import.meta.url).href,
            interface: lab.a.interface,
            namespace: lab.a.namespace?.name,
          },
        },
      )
      worker.on('error', () => undefined)
      const ended = new Promise((resolve) => worker.once('exit', resolve))
      await once(worker, 'message')
      assert.equal(attachedAt(lab.a).length, 1)
      if (how === 'terminate') await worker.terminate()
      else worker.postMessage('now')
      await ended
      assert.deepEqual(attachedAt(lab.a), [])
      const kinds = /bpf|socket|memfd/
      assert.deepEqual(
        openDescriptors().filter((what) => kinds.test(what)),
        before.filter((what) => kinds.test(what)),
      )
      // As long as a busy queue is waited for, no longer.
      const socket = await openAt(t, lab.a)
      assert.equal(attachedAt(lab.a).length, 1)
      await assertAllHome(socket)
    })
  }
})
