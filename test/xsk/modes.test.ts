// Every combination of modes that a veth offers: what was asked, what was got, and that packets flow both ways.
import assert from 'node:assert/strict'
import { describe, it, type TestContext } from 'node:test'
import { defineXdp } from '../../src/bpf/builder/index.js'
import type { Lab } from '../../src/lab/index.js'
import { socketMap } from '../../src/programs/sockets.js'
import { XdpGroup, type XdpSocketOptions } from '../../src/xsk/index.js'
import { createTestLab, needsRoot } from '../support/lab.js'
import { assertAllHome, attachedAt, collect, frameOf, isOurs, openAt, until } from '../support/xsk.js'

/** A packet to the socket at end `a`, and its reflection back to one at end `b`. */
async function reflectOne(t: TestContext, lab: Lab, options: Partial<XdpSocketOptions>) {
  const a = await openAt(t, lab.a, { trackFrames: true, umem: { frames: 32 }, ...options })
  const b = await openAt(t, lab.b, {
    umem: { frames: 32 },
    mode: options.mode === 'generic' ? 'generic' : 'auto',
  })
  const running = a.run(() => 'transmit')
  const sent = frameOf(200)
  const back: Uint8Array[] = []
  assert.ok(b.send(sent))
  b.flush()
  await until('the packet is back', () => {
    collect(b, back)
    return back.length > 0
  })
  assert.deepEqual(back, [sent])
  a.stop()
  await running
  await assertAllHome(a)
  return a
}

describe('modes on a veth', { skip: needsRoot }, () => {
  for (const mode of ['auto', 'native', 'generic'] as const) {
    for (const copy of ['auto', 'copy'] as const) {
      it(`mode ${mode}, copy ${copy}: packets flow, and what was got is reported`, async (t) => {
        const lab = createTestLab(t)
        const socket = await reflectOne(t, lab, { mode, copy })
        const got = mode === 'generic' ? 'generic' : 'native'
        assert.deepEqual(socket.mode, { asked: mode, got })
        assert.deepEqual(socket.copy, { asked: copy, got: 'copy' })
        const [program] = attachedAt(lab.a)
        assert.equal(program.mode, got)
        assert.equal(program.kind, 'link')
        assert.equal(program.linkId, socket.attachment?.linkId)
        await socket.close()
        assert.deepEqual(attachedAt(lab.a), [])
        assert.equal(socket.mode, undefined)
      })
    }
  }

  for (const mode of ['auto', 'native'] as const) {
    it(`mode ${mode} with zero copy forced is refused with advice, and leaves the queue free`, async (t) => {
      const lab = createTestLab(t)
      await assert.rejects(
        openAt(t, lab.a, { mode, copy: 'zero-copy' }),
        (error: Error & { code: string }) => {
          assert.equal(error.name, 'KernelError')
          assert.match(error.code, /^E(OP)?NOTSUPP?$/)
          assert.match(error.message, /bind.*veth-a queue 0, zero-copy/)
          assert.match((error as unknown as { hint: string }).hint, /zero copy.*"auto"/)
          return true
        },
      )
      assert.deepEqual(attachedAt(lab.a), [])
      await reflectOne(t, lab, { mode, copy: 'copy' })
    })
  }

  it('mode generic with zero copy is refused before any call', async (t) => {
    const lab = createTestLab(t)
    const options = { mode: 'generic', copy: 'zero-copy' } as const
    await assert.rejects(openAt(t, lab.a, options), { code: 'XDP_BAD_OPTION', option: 'copy' })
  })

  it('mode hardware is refused by name', async (t) => {
    const lab = createTestLab(t)
    await assert.rejects(openAt(t, lab.a, { mode: 'hardware' as 'native' }), {
      code: 'XDP_UNSUPPORTED',
      message: /hardware/,
    })
  })

  it('mode auto takes generic where the driver refuses, and says why', async (t) => {
    // A veth whose peer's MTU does not fit a page takes no native program that was not made for several buffers.
    const lab = createTestLab(t, { mtu: 9000 })
    const program = ({ queues }: { queues: number }) => {
      const loaded = defineXdp('no_frags', (x) => x.redirectTo(socketMap(queues), x.queue)).load()
      return { program: loaded.program, sockets: loaded.map(socketMap(queues)), close: () => loaded.close() }
    }
    const options = { interface: lab.a.interface, namespace: lab.a.namespace, program }
    const group = await XdpGroup.open({ ...options, mode: 'auto' })
    t.after(() => group.close())
    assert.equal(group.attachment?.mode, 'generic')
    assert.match(group.attachment?.fallbackReason ?? '', /MTU/)
    await group.close()
    await assert.rejects(XdpGroup.open({ ...options, mode: 'native' }), { code: 'ERANGE', hint: /generic/i })
    assert.deepEqual(attachedAt(lab.a), [])
  })

  for (const attach of ['auto', 'link', 'netlink'] as const) {
    for (const mode of ['native', 'generic'] as const) {
      it(`attached by ${attach} in ${mode} mode, and gone after close`, async (t) => {
        const lab = createTestLab(t)
        const socket = await reflectOne(t, lab, { attach, mode })
        const kind = attach === 'netlink' ? 'netlink' : 'link'
        assert.equal(socket.attachment?.kind, kind)
        const attached = attachedAt(lab.a)
        assert.deepEqual(
          attached.map(({ kind, mode, id }) => ({ kind, mode, id })),
          [{ kind, mode, id: socket.attachment?.programId }],
        )
        await socket.close()
        assert.deepEqual(attachedAt(lab.a), [])
      })
    }
  }

  it('attached to nothing only sends', async (t) => {
    const lab = createTestLab(t)
    const sender = await openAt(t, lab.a, { attach: 'none' })
    assert.equal(sender.mode, undefined)
    assert.equal(sender.attachment, undefined)
    assert.deepEqual(attachedAt(lab.a), [])
    const receiver = await openAt(t, lab.b)
    assert.ok(sender.send(frameOf(100)))
    sender.flush()
    await until('it is there', () => receiver.receive(() => undefined) === 1)
  })

  for (const needWakeup of [true, false]) {
    for (const busyPoll of [false, true, { microseconds: 5, budget: 8 }] as const) {
      it(`needWakeup ${needWakeup}, busyPoll ${JSON.stringify(busyPoll)}: 500 packets are reflected, in order`, async (t) => {
        const lab = createTestLab(t)
        const a = await openAt(t, lab.a, { needWakeup, busyPoll, trackFrames: true })
        const b = await openAt(t, lab.b, { needWakeup })
        assert.equal(a.busyPoll, busyPoll !== false)
        const running = a.run(() => 'transmit')
        const back: number[] = []
        for (let i = 0; i < 500; i++) {
          const frame = frameOf(64)
          new DataView(frame.buffer).setUint32(14, i)
          // A veth's ring holds 256: no more than that are under way.
          await until('the others are back', () => {
            b.receive(
              (packet) => void (isOurs(packet) && back.push(packet.view.getUint32(packet.offset + 14))),
            )
            return i - back.length < 64
          })
          assert.ok(b.send(frame))
          b.flush()
        }
        await until('all are back', () => {
          b.receive((packet) => void (isOurs(packet) && back.push(packet.view.getUint32(packet.offset + 14))))
          return back.length === 500
        })
        assert.deepEqual(
          back,
          Array.from({ length: 500 }, (_, i) => i),
        )
        a.stop()
        await running
        await assertAllHome(a)
        await assertAllHome(b)
      })
    }
  }

  it('busy polling ends on stop, abort and close while nothing comes', async (t) => {
    const lab = createTestLab(t)
    for (const end of ['stop', 'abort', 'close'] as const) {
      const socket = await openAt(t, lab.a, { busyPoll: true })
      const control = new AbortController()
      const running = socket.run(() => undefined, { signal: control.signal })
      await until('it polls', () => socket.statistics().wakeups.rx > 0)
      if (end === 'stop') socket.stop()
      if (end === 'abort') control.abort()
      if (end === 'close') await socket.close()
      await running
      await socket.close()
    }
  })
})
