// Groups of one thread: one UMEM for all sockets, sending and receiving over all queues, forwarding without a copy.
import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { describe, it, type TestContext } from 'node:test'
import { native } from '../../src/kernel/index.js'
import type { LabEnd } from '../../src/lab/index.js'
import type { XdpSocket } from '../../src/xsk/index.js'
import { Umem, XdpGroup, type XdpGroupOptions } from '../../src/xsk/index.js'
import { checkOptions } from '../../src/xsk/options.js'
import { openBoundSocket } from '../../src/xsk/shared-socket.js'
import { createQuietLab, needsRoot, openDescriptors } from '../support/lab.js'
import { assertConserved, attachedAt, frameOf, generatorAt, isOurs, openAt, until } from '../support/xsk.js'

const small = {
  umem: { frames: 128 },
  rings: { rx: 64, tx: 64, fill: 64, completion: 64 },
  trackFrames: true,
} as const

async function openGroup(
  t: TestContext,
  end: LabEnd,
  options: Partial<XdpGroupOptions> = {},
): Promise<XdpGroup> {
  const { interface: name, namespace } = end
  const group = await XdpGroup.open({ interface: name, namespace, ...small, ...options })
  t.after(() => group.close())
  return group
}

const numbered = (number: number) => {
  const frame = frameOf(64)
  new DataView(frame.buffer).setUint32(14, number)
  return frame
}

/** Every frame of every socket is its own again. */
async function assertAllHome(group: XdpGroup): Promise<void> {
  await group.drain()
  // Those that others have sent come home when they are looked after once more.
  group.flush()
  for (const socket of group.sockets) {
    while (socket.receive(() => undefined) > 0);
    const { total, free, fill } = assertConserved(socket)
    assert.equal(free + fill, total, JSON.stringify(socket.frames()))
  }
}

/** Counts how often a memory is registered with the kernel, until the test ends. */
function countRegistrations(t: TestContext): () => number {
  const { mock } = t.mock.method(Umem.prototype, 'register')
  return () => mock.callCount()
}

describe('a group', { skip: needsRoot }, () => {
  it('registers one UMEM for all queues, and gives each socket its slice', async (t) => {
    const lab = createQuietLab(t, { queues: 4 })
    const registrations = countRegistrations(t)
    const group = await openGroup(t, lab.a)
    // The others could not be bound without a UMEM: they share this one.
    assert.equal(registrations(), 1)
    assert.equal(group.umem.frames, 4 * 128)
    for (const socket of group.sockets) assert.equal(socket.umem, group.umem)
    // Each socket receives into its own slice, and allocates from it.
    const sender = await openGroup(t, lab.b, { attach: 'none' })
    for (const [queue, socket] of sender.sockets.entries()) {
      for (let i = 0; i < 20; i++) assert.ok(socket.send(numbered(queue)))
    }
    await sender.drain()
    const seen = [0, 0, 0, 0]
    await until('all are there', () => {
      group.receive((packet) => {
        assert.equal(packet.view.getUint32(packet.offset + 14), packet.queue)
        assert.equal(Math.floor(packet.frame / (128 * 2048)), packet.queue)
        seen[packet.queue]++
      })
      return seen.every((count) => count === 20)
    })
    for (const [queue, socket] of group.sockets.entries()) {
      const frame = socket.allocate()
      assert.equal(Math.floor(frame / (128 * 2048)), queue)
      socket.release(frame)
    }
    assert.equal(group.statistics().frames.total, 4 * 128)
    await assertAllHome(group)
  })

  it('uses a UMEM it is given, and leaves it to its owner', async (t) => {
    const lab = createQuietLab(t, { queues: 2 })
    const umem = Umem.create({ frames: 100 })
    const group = await openGroup(t, lab.a, { umem })
    assert.equal(group.umem, umem)
    assert.deepEqual(
      group.sockets.map((socket) => socket.frames().total),
      [50, 50],
    )
    assert.throws(() => umem.close(), { code: 'XDP_STATE' })
    await group.close()
    umem.close()
    const tiny = Umem.create({ frames: 1 })
    t.after(() => tiny.close())
    await assert.rejects(openGroup(t, lab.a, { umem: tiny }), { code: 'XDP_BAD_OPTION', option: 'umem' })
  })

  it('opens a queue again on the memory that the others still use', async (t) => {
    const lab = createQuietLab(t, { queues: 2 })
    const umem = Umem.create({ frames: 128 })
    t.after(() => umem.close())
    const share = (queue: number) => {
      const { interface: name, namespace } = lab.a
      const options = checkOptions({ interface: name, namespace, queue, attach: 'none', ...small })
      return openBoundSocket(options, { umem, slice: { first: 64 * queue, count: 64 } })
    }
    const registrations = countRegistrations(t)
    const [first, second] = [await share(0), await share(1)]
    // Also when the one that has registered it is closed.
    first.close()
    const again = await share(0)
    assert.equal(registrations(), 1)
    await assert.rejects(share(0), { code: 'XDP_STATE' })
    again.close()
    second.close()
    ;(await share(1)).close()
    assert.equal(registrations(), 2)
  })

  it('receives a bounded number, from another queue first each time, and gives every queue its turn', async (t) => {
    const lab = createQuietLab(t, { queues: 3 })
    const group = await openGroup(t, lab.a, { batch: 8 })
    const sender = await openGroup(t, lab.b, { attach: 'none' })
    for (const socket of sender.sockets) for (let i = 0; i < 30; i++) assert.ok(socket.send(numbered(i)))
    await sender.drain()
    await until('all wait', () => group.sockets.every((socket) => socket.frames().rx === 30))
    const firsts: number[] = []
    let left = 90
    const take = (budget?: number) => {
      const queues: number[] = []
      left -= group.receive((packet) => void queues.push(packet.queue), budget)
      return queues
    }
    for (let i = 0; i < 3; i++) {
      const queues = take(5)
      assert.equal(queues.length, 5)
      firsts.push(queues[0])
    }
    assert.deepEqual([...firsts].sort(), [0, 1, 2])
    // Without a budget: a batch of each.
    const queues = take()
    for (const queue of [0, 1, 2]) assert.equal(queues.filter((q) => q === queue).length, 8)
    while (left > 0) assert.ok(take().length > 0)
    assert.deepEqual(take(), [])
  })

  it('spreads what it sends over its queues, and keeps a flow on one', async (t) => {
    const lab = createQuietLab(t, { queues: 3 })
    const receiver = await openGroup(t, lab.a, { umem: { frames: 512 } })
    const sender = await openGroup(t, lab.b, { attach: 'none', batch: 10 })
    const sendAll = async (count: number, flow?: number) => {
      for (let i = 0; i < count; i++) assert.ok(sender.send(numbered(i), flow))
      sender.flush()
      await sender.drain()
    }
    const counts = [0, 0, 0]
    const collect = async (count: number) => {
      let got = 0
      await until('all are there', () => {
        receiver.receive((packet) => {
          if (!isOurs(packet)) return
          counts[packet.queue]++
          got++
        })
        return got === count
      })
    }
    await sendAll(60)
    await collect(60)
    assert.deepEqual(counts, [20, 20, 20])
    counts.fill(0)
    await sendAll(30, 7)
    await collect(30)
    assert.deepEqual(counts, [0, 30, 0])
    // A hash is often a signed number.
    counts.fill(0)
    await sendAll(30, 4 - 2 ** 31)
    await collect(30)
    assert.equal(Math.max(...counts), 30, counts.join())
    // More than one ring holds: the others take the rest.
    let taken = 0
    while (taken < 1000 && sender.send(numbered(taken))) taken++
    assert.ok(taken > 64 * 2 && taken < 1000, `${taken}`)
    await sender.drain()
    await assertAllHome(sender)
  })

  it('goes on when one of its sockets is closed, and says so when none is left', async (t) => {
    const lab = createQuietLab(t, { queues: 2 })
    const group = await openGroup(t, lab.a)
    const sender = await openGroup(t, lab.b, { attach: 'none' })
    const got: number[] = []
    const running = group.run((packet) => void got.push(packet.queue))
    await group.sockets[0].close()
    for (const socket of sender.sockets) assert.ok(socket.send(numbered(0)))
    await sender.drain()
    await until('the other has its packet', () => got.length > 0)
    assert.deepEqual(got, [1])
    assert.equal(group.statistics().rx.packets, 1)
    // What is sent goes by the queue that is left.
    assert.ok(group.send(numbered(1)))
    await group.drain()
    assertConserved(group.sockets[1])
    await group.sockets[1].close()
    await running
    assert.throws(() => group.statistics(), { code: 'XDP_STATE' })
    await assert.rejects(
      group.run(() => undefined),
      { code: 'XDP_STATE' },
    )
    assert.equal(
      group.receive(() => undefined),
      0,
    )
    assert.equal(group.send(numbered(2)), false)
  })

  it('goes on without a queue that is taken, with a warning', async (t) => {
    const lab = createQuietLab(t, { queues: 3 })
    const { interface: name, namespace } = lab.a
    const taken = await openAt(t, lab.a, { queue: 0, attach: 'none', ...small })
    const group = await openGroup(t, lab.a)
    assert.deepEqual(
      group.sockets.map(({ queue }) => queue),
      [1, 2],
    )
    const [warning] = group.warnings
    assert.deepEqual([group.warnings.length, warning.code, warning.queue], [1, 'queue', 0])
    assert.match(warning.message, new RegExp(`Queue 0 of ${name} has no socket: bind .*EBUSY`))
    await group.close()
    await assert.rejects(openGroup(t, lab.a, { queues: [0] }), { code: 'EBUSY' })
    await taken.close()
    await XdpGroup.open({ interface: name, namespace, strict: true, ...small }).then((g) => g.close())
  })

  it('waits once for a device that is busy, not once for each queue', async (t) => {
    const lab = createQuietLab(t, { queues: 4 })
    const { interface: name, namespace } = lab.a
    await openGroup(t, lab.a, { attach: 'none' })
    const binds = t.mock.method(native, 'bind')
    await assert.rejects(XdpGroup.open({ interface: name, namespace, ...small }), { code: 'EBUSY' })
    // Netlink sockets are bound, too, by addresses of another kind.
    const queues = binds.mock.calls.flatMap(({ arguments: [, address] }) =>
      address instanceof DataView ? address.getUint32(8, true) : [],
    )
    const attempts = [0, 1, 2, 3].map((queue) => queues.filter((q) => q === queue).length)
    assert.ok(attempts[0] > 1, attempts.join())
    assert.deepEqual(attempts.slice(1), [1, 1, 1])
  })

  it('says that its memory has ordinary pages when there are no huge ones', async (t) => {
    const lab = createQuietLab(t)
    const free = '/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages'
    if (existsSync(free) && Number(readFileSync(free, 'utf8')) > 0)
      return t.skip('this machine has free huge pages')
    const group = await openGroup(t, lab.a, { umem: { frames: 128, hugePages: 'auto' } })
    assert.deepEqual(
      group.warnings.map(({ code }) => code),
      ['huge-pages'],
    )
    assert.match(group.warnings[0].message, /^The memory has ordinary pages: 1 pages? of 2 MiB/)
    assert.equal(group.umem.pages.got, 'ordinary')
  })

  for (const [option, options] of [
    ['others', { others: [{}] }],
    ['queues', { queues: 'some' }],
    ['queues', { others: [{ interface: 'lo', queues: 1 }] }],
    ['queue', { queue: 1 }],
    ['workersPerQueue', { workersPerQueue: 2 }],
  ] as const) {
    it(`refuses ${JSON.stringify(options)}`, async (t) => {
      const lab = createQuietLab(t)
      const { interface: name, namespace } = lab.a
      const given = { interface: name, namespace, ...options } as unknown as XdpGroupOptions
      await assert.rejects(XdpGroup.open(given as XdpGroupOptions & { worker?: undefined }), {
        code: 'XDP_BAD_OPTION',
        option,
      })
    })
  }

  it('refuses to send a frame that is of no socket of its own', async (t) => {
    const lab = createQuietLab(t, { queues: 2 })
    const group = await openGroup(t, lab.a)
    const alone = await openAt(t, lab.b, { attach: 'none', ...small })
    const [first, second] = group.sockets
    const frame = first.allocate()
    assert.throws(() => alone.transmit(300 * 2048, 60), { code: 'XDP_BAD_OPTION', option: 'address' })
    assert.throws(() => second.transmit(256 * 2048, 60), { code: 'XDP_BAD_OPTION', option: 'address' })
    assert.ok(second.transmit(frame, 60))
    assert.throws(() => second.transmit(frame, 60), { code: 'XDP_STATE', message: /sent already/ })
    await group.drain()
    await assertAllHome(group)
    // Freed by way of another socket, a frame is its owner's again.
    second.release(first.allocate())
    await assertAllHome(group)
  })
})

describe('two devices of one group', { skip: needsRoot }, () => {
  /** A sender and a receiver beyond the two devices of the group, each in a lab of its own. */
  async function between(t: TestContext, options: Partial<XdpGroupOptions> = {}) {
    const [left, right] = [createQuietLab(t, { queues: 2 }), createQuietLab(t, { queues: 2 })]
    const { interface: name, namespace } = right.a
    const group = await openGroup(t, left.a, { others: [{ interface: name, namespace }], ...options })
    const [l0, l1, r0, r1] = group.sockets
    return { left, right, group, toRight: [r0, r1], toLeft: [l0, l1] }
  }

  it('share one UMEM, each with its own program', async (t) => {
    const registrations = countRegistrations(t)
    const { left, right, group } = await between(t)
    assert.equal(registrations(), 1)
    assert.equal(group.attachments.length, 2)
    assert.equal(attachedAt(left.a).length, 1)
    assert.equal(attachedAt(right.a).length, 1)
    await group.close()
    assert.deepEqual([...attachedAt(left.a), ...attachedAt(right.a)], [])
  })

  for (const how of ['in the handler', 'held and sent later'] as const) {
    it(`hand packets from one to the other without a copy, ${how}`, async (t) => {
      const { left, right, group, toRight } = await between(t)
      const receiver = await openGroup(t, right.b, { umem: { frames: 512 } })
      const packets = generatorAt(t, left.b)
      const addresses = new Set<number>()
      const held: { queue: number; offset: number; length: number }[] = []
      const got: number[] = []
      for (let round = 0; round < 20; round++) {
        const count = 40
        packets.send(numbered(round), count)
        let forwarded = 0
        await until('all were taken', () => {
          for (const socket of group.sockets.slice(0, 2)) {
            socket.receive((packet) => {
              if (!isOurs(packet)) return
              addresses.add(packet.frame)
              forwarded++
              if (how === 'in the handler') {
                assert.ok(toRight[packet.queue].transmit(packet.offset, packet.length))
                return // forgotten 'hold': the frame is not the handler's to free any more
              }
              const { queue, offset, length } = packet
              held.push({ queue, offset, length })
              return 'hold'
            })
          }
          return forwarded === count
        })
        for (const { queue, offset, length } of held.splice(0)) {
          assert.ok(toRight[queue].transmit(offset, length))
        }
        group.flush()
        let arrived = 0
        await until('all have arrived', () => {
          receiver.receive((packet) => {
            if (!isOurs(packet)) return
            got.push(packet.view.getUint32(packet.offset + 14))
            arrived++
          })
          return arrived === count
        })
      }
      assert.deepEqual(
        got,
        Array.from({ length: 800 }, (_, i) => Math.floor(i / 40)),
      )
      // The frames that left on the right are of the slices on the left.
      for (const address of addresses) assert.ok(address < 2 * 128 * 2048)
      await assertAllHome(group)
    })
  }

  it('register the memory each where the kernel cannot share it, and hand packets over all the same', async (t) => {
    // As before kernel 5.10, or when only one of the devices has zero copy.
    t.mock.getter(Umem.prototype, 'boundSocket', () => undefined)
    const registrations = countRegistrations(t)
    const { left, right, group, toRight } = await between(t)
    assert.equal(registrations(), 4)
    const receiver = await openGroup(t, right.b)
    generatorAt(t, left.b).send(numbered(42), 30)
    let forwarded = 0
    await until('all were taken', () => {
      for (const socket of group.sockets.slice(0, 2)) {
        socket.receive((packet) => {
          if (isOurs(packet) && toRight[packet.queue].transmit(packet.offset, packet.length)) forwarded++
        })
      }
      return forwarded === 30
    })
    const got: number[] = []
    await until('all have arrived', () => {
      receiver.receive((packet) => {
        if (isOurs(packet)) got.push(packet.view.getUint32(packet.offset + 14))
      })
      return got.length === 30
    })
    assert.ok(got.every((number) => number === 42))
    await assertAllHome(group)
  })

  it('do not depend on each other: one that is gone leaves the memory to the other', async (t) => {
    const [left, right] = [createQuietLab(t), createQuietLab(t)]
    const umem = Umem.create({ frames: 128 })
    t.after(() => umem.close())
    const share = ({ interface: name, namespace }: LabEnd, first: number) => {
      const options = checkOptions({ interface: name, namespace, attach: 'none', ...small })
      return openBoundSocket(options, { umem, slice: { first, count: 64 } })
    }
    const registrations = countRegistrations(t)
    const gone = await share(left.a, 0)
    assert.equal((await left.exec('a', 'ip', ['link', 'delete', left.a.interface])).status, 0)
    // The first socket is bound to nothing any more (EBADF): there is nothing of it to share.
    const other = await share(right.a, 64)
    assert.equal(registrations(), 2)
    gone.close()
    other.close()
  })

  it('run in both directions at once', async (t) => {
    const { left, right, group, toLeft, toRight } = await between(t)
    const runs = group.sockets.map((socket, i) => {
      const out = (i < 2 ? toRight : toLeft)[socket.queue]
      return socket.run((packet) => {
        if (!isOurs(packet)) return
        out.transmit(packet.offset, packet.length)
        return 'hold'
      })
    })
    const ends = [
      { from: generatorAt(t, left.b), to: await openGroup(t, right.b), got: 0 },
      { from: generatorAt(t, right.b), to: await openGroup(t, left.b), got: 0 },
    ]
    for (let round = 0; round < 20; round++) {
      for (const { from } of ends) from.send(numbered(round), 30)
      await until('both have arrived', () => {
        for (const end of ends) end.to.receive((packet) => void (isOurs(packet) && end.got++))
        return ends.every(({ got }) => got === 30 * (round + 1))
      })
    }
    group.stop()
    await Promise.all(runs)
    await assertAllHome(group)
  })

  it('lose no frame when the way out is closed, or full', async (t) => {
    const { left, group, toRight } = await between(t)
    const [source] = group.sockets
    const packets = generatorAt(t, left.b)
    const receive = async (out: XdpSocket, count: number) => {
      packets.send(numbered(0), count)
      let taken = 0
      await until('all were taken', () => {
        for (const socket of group.sockets.slice(0, 2)) {
          socket.receive((packet) => {
            if (!isOurs(packet)) return
            taken++
            out.transmit(packet.offset, packet.length)
            return 'hold'
          })
        }
        return taken === count
      })
    }
    await receive(toRight[0], 60)
    await assertAllHome(group)
    // Frames that are in its ring, sent or not, when the way out goes.
    const frame = source.allocate()
    assert.ok(toRight[1].transmit(frame, 60))
    assert.equal(source.frames().held, 1)
    await toRight[1].close()
    assert.equal(source.frames().held, 0)
    await assert.rejects(receive(toRight[1], 1), { code: 'XDP_STATE' })
    group.stop()
    for (const socket of group.sockets.filter(({ closed }) => !closed)) {
      while (socket.receive(() => undefined) > 0);
      assertConserved(socket)
    }
  })

  it('leave nothing behind when the second cannot be had', async (t) => {
    const left = createQuietLab(t)
    const before = openDescriptors()
    const { interface: name, namespace } = left.a
    const open = (other: { interface: string; queues?: number[] }) =>
      XdpGroup.open({ interface: name, namespace, ...small, others: [{ namespace, ...other }] })
    await assert.rejects(open({ interface: 'nothing' }), { code: 'XDP_NOT_FOUND' })
    await assert.rejects(open({ interface: name, queues: [3] }), { code: 'XDP_BAD_OPTION', option: 'queue' })
    assert.deepEqual(openDescriptors(), before)
    assert.deepEqual(attachedAt(left.a), [])
  })
})
