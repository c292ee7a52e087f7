// Several workers on one queue: flows are spread over them, their frames go through one fill and one completion ring.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { describe, it, type TestContext } from 'node:test'
import type { Lab } from '../../src/lab/index.js'
import { buildPacket } from '../../src/packet/build.js'
import {
  XdpGroup,
  type GroupWorker,
  type XdpWorkerGroup,
  type XdpWorkerGroupOptions,
} from '../../src/xsk/index.js'
import type { FlowWorkerData, FlowWorkerOrder, FlowWorkerReport } from '../support/flow-worker.js'
import { startFlood } from '../support/flood.js'
import { createQuietLab, needsRoot, openDescriptors } from '../support/lab.js'
import { attachedAt, openAt, until } from '../support/xsk.js'

const worker = new URL('../support/flow-worker.js', import.meta.url)
const FRAMES = 128
const small = {
  umem: { frames: FRAMES },
  rings: { rx: 128, tx: 64, fill: 64, completion: 64 },
  trackFrames: true,
} as const

async function openTeam(
  t: TestContext,
  lab: Lab,
  options: Partial<XdpWorkerGroupOptions> & { workerData?: FlowWorkerData } = {},
): Promise<XdpWorkerGroup> {
  const { interface: name, namespace } = lab.a
  const restart = { delayMs: 1, maxDelayMs: 1 }
  const group = await XdpGroup.open({
    interface: name,
    namespace,
    worker,
    workersPerQueue: 3,
    ...small,
    restart,
    ...options,
  })
  t.after(() => group.close())
  return group
}

const FLOWS = 24
const FIRST_PORT = 5000

/** Sends numbered datagrams of several flows; those that come back are counted. */
async function openFlows(t: TestContext, lab: Lab) {
  const socket = await openAt(t, lab.b, { umem: { frames: 1024 } })
  const frames = Array.from({ length: FLOWS }, (_, flow) =>
    buildPacket({
      ipv4: { src: Uint8Array.of(10, 0, 0, 1), dst: Uint8Array.of(10, 0, 0, 2) },
      udp: { srcPort: FIRST_PORT + flow, dstPort: 9 },
      payload: new Uint8Array(8),
    }),
  )
  const sent = new Map<number, number[]>(frames.map((_, flow) => [FIRST_PORT + flow, []]))
  let next = 0
  let returned = 0
  return {
    sent,
    /** One datagram of each flow, `rounds` times; waits until `isTaken` after each. */
    async send(rounds: number, isTaken: (count: number) => boolean) {
      for (let round = 0; round < rounds; round++) {
        for (const [flow, frame] of frames.entries()) {
          new DataView(frame.buffer).setUint32(42, next)
          sent.get(FIRST_PORT + flow)?.push(next++)
          assert.ok(socket.send(frame))
        }
        await socket.drain()
        await until('they were taken', () => isTaken(next))
      }
    },
    get returned() {
      socket.receive(({ bytes, offset }) => void (bytes[offset + 23] === 17 && returned++), 1000)
      return returned
    },
  }
}

async function ask(group: XdpWorkerGroup, who: GroupWorker): Promise<FlowWorkerReport> {
  const answer = new Promise<FlowWorkerReport>((resolve) => {
    const hear = (message: unknown, from: GroupWorker) => {
      if (from !== who) return
      group.off('message', hear)
      resolve(message as FlowWorkerReport)
    }
    group.on('message', hear)
  })
  assert.ok(who.post('report' satisfies FlowWorkerOrder))
  return answer
}

const taken = (group: XdpWorkerGroup) => group.workers.reduce((sum, w) => sum + w.statistics().rx.packets, 0)

/** Once nothing is under way, each frame is free or lent for receiving. */
function assertAllHome(group: XdpWorkerGroup, workers: number): void {
  const { total, free, fill, ...elsewhere } = group.statistics().frames
  assert.equal(total, workers * FRAMES)
  assert.equal(free + fill, total, JSON.stringify({ free, fill, ...elsewhere }))
}

describe('several workers on one queue', { skip: needsRoot }, () => {
  it('share its flows: each flow has one worker, which gets all of it in order', async (t) => {
    const lab = createQuietLab(t)
    const group = await openTeam(t, lab)
    assert.deepEqual(
      group.workers.map(({ queue, state }) => ({ queue, state })),
      [0, 1, 2].map(() => ({ queue: 0, state: 'running' })),
    )
    const flows = await openFlows(t, lab)
    // More packets than the queue has frames, several times.
    await flows.send(60, (count) => taken(group) === count)
    const reports = await Promise.all(group.workers.map((w) => ask(group, w)))
    const seen = reports.flatMap((report) => [...report])
    assert.deepEqual(
      seen.sort(([a], [b]) => a - b),
      [...flows.sent],
    )
    for (const report of reports) assert.ok(report.size > 0 && report.size < FLOWS, `${report.size} flows`)
    for (const [i, w] of group.workers.entries()) {
      assert.equal(w.statistics().rx.packets, reports[i].size * 60)
    }
    await until('the frames are home', () => group.statistics().frames.rx === 0)
    assertAllHome(group, 3)
  })

  it('send what they transmit, and have the frames back', async (t) => {
    const lab = createQuietLab(t)
    const group = await openTeam(t, lab, { workerData: { verdict: 'transmit' } })
    const flows = await openFlows(t, lab)
    await flows.send(60, (count) => flows.returned === count)
    assert.equal(group.statistics().tx.packets, 60 * FLOWS)
    assert.equal(group.statistics().txDropped, 0)
    await group.stop()
    assertAllHome(group, 3)
  })

  it('work on every queue of a device', async (t) => {
    const lab = createQuietLab(t, { queues: 2 })
    const group = await openTeam(t, lab, { workersPerQueue: 2 })
    assert.deepEqual(
      group.workers.map(({ queue }) => queue),
      [0, 0, 1, 1],
    )
    const flows = await openFlows(t, lab) // by queue 0 alone
    await flows.send(10, (count) => taken(group) === count)
    const packets = group.workers.map((w) => w.statistics().rx.packets)
    assert.ok(packets[0] > 0 && packets[1] > 0)
    assert.deepEqual(packets.slice(2), [0, 0])
  })

  it('begin anew together when one of them ends by itself, with all frames', async (t) => {
    const lab = createQuietLab(t)
    const group = await openTeam(t, lab, { workerData: { verdict: 'transmit' } })
    const flows = await openFlows(t, lab)
    await flows.send(5, (count) => flows.returned === count)
    for (let i = 0; i < 3; i++) {
      const victim = group.workers[i]
      const restarted = once(group, 'restart') as Promise<[GroupWorker]>
      victim.post('exit' satisfies FlowWorkerOrder)
      assert.equal((await restarted)[0], victim)
      assert.deepEqual(
        group.workers.map(({ state }) => state),
        ['running', 'running', 'running'],
      )
      const before = { returned: flows.returned, sent: [...flows.sent.values()].flat().length }
      await flows.send(20, (count) => flows.returned - before.returned === count - before.sent)
    }
    assert.deepEqual(
      group.workers.map(({ restarts }) => restarts),
      [1, 1, 1],
    )
    // A worker without packets does not look for those it has sent; stopping waits for them.
    await group.stop()
    assertAllHome(group, 3)
  })

  it('keep every frame when they are ended in the middle of a flood', async (t) => {
    const lab = createQuietLab(t)
    const group = await openTeam(t, lab, {
      workerData: { verdict: 'transmit', forget: true },
      restart: { delayMs: 1, maxDelayMs: 1, limit: 100 },
    })
    // One flow: one worker has all the packets, the others lend it their frames.
    const flood = startFlood(
      t,
      lab.b,
      buildPacket({
        ipv4: { src: Uint8Array.of(10, 0, 0, 1), dst: Uint8Array.of(10, 0, 0, 2) },
        udp: { srcPort: 1, dstPort: 9 },
        payload: new Uint8Array(8),
      }),
    )
    for (let i = 0; i < 4; i++) {
      const before = taken(group)
      await until('packets flow', () => taken(group) > before + 1000)
      const restarted = once(group, 'restart')
      void group.workers[i % 3].terminate()
      await restarted
    }
    const before = taken(group)
    await until('packets flow', () => taken(group) > before + 1000)
    await flood.stop()
    await until('nothing is under way', () => {
      const { rx, tx, completion } = group.statistics().frames
      return rx + tx + completion === 0
    })
    assertAllHome(group, 3)
  })

  it('go on without one that is given up: its flows go to the kernel', async (t) => {
    const lab = createQuietLab(t)
    const group = await openTeam(t, lab, { restart: false })
    const flows = await openFlows(t, lab)
    await flows.send(1, (count) => taken(group) === count)
    const lost = group.workers[1]
    const gone = lost.statistics().rx.packets
    const failed = once(group, 'failed')
    lost.post('exit' satisfies FlowWorkerOrder)
    await failed
    await until('the others are back', () => [0, 2].every((i) => group.workers[i].state === 'running'))
    assert.equal(lost.state, 'failed')
    await flows.send(10, (count) => taken(group) === FLOWS + (count / FLOWS - 1) * (FLOWS - gone))
  })

  it('leave nothing behind', async (t) => {
    const lab = createQuietLab(t)
    await (await openTeam(t, lab)).close()
    const before = openDescriptors()
    const group = await openTeam(t, lab)
    const restarted = once(group, 'restart')
    void group.workers[2].terminate()
    await restarted
    await group.stop()
    await group.start()
    await group.close()
    assert.deepEqual(openDescriptors(), before)
    assert.deepEqual(attachedAt(lab.a), [])
  })

  for (const workersPerQueue of [0, 1.5, 65]) {
    it(`cannot be ${workersPerQueue}`, async (t) => {
      const lab = createQuietLab(t)
      const expected = { code: 'XDP_BAD_OPTION', option: 'workersPerQueue' }
      await assert.rejects(openTeam(t, lab, { workersPerQueue }), expected)
    })
  }
})
