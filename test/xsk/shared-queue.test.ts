// Several data paths over one fill and one completion ring, the kernel played in user space: whose frames come back, and that none is lost or had twice.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { test } from 'node:test'
import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads'
import fc from 'fast-check'
import { DataPath } from '../../src/xsk/data-path.js'
import { FramePool, Umem, type PacketHandler } from '../../src/xsk/index.js'
import { ADDRESS_WORDS, DESCRIPTOR_WORDS, ringOver, type RingMemory } from '../../src/xsk/ring-memory.js'
import {
  SharedQueue,
  createSharedQueue,
  memberRings,
  type SharedQueueDescription,
} from '../../src/xsk/shared-queue.js'

const FRAMES = 32
const RING = 16
const FRAME_SIZE = 2048
const LENGTH = 60

/** The kernel's rings for `members` sockets on one queue, in memory that threads can share. */
function kernelRings(memory: SharedArrayBuffer, members: number) {
  const span = 192 + RING * 4 * DESCRIPTOR_WORDS
  const ring = (number: number, words: number): RingMemory => {
    const at = number * span
    return ringOver(memory, { producer: at, consumer: at + 64, flags: at + 128, desc: at + 192 }, RING, words)
  }
  return {
    fill: ring(0, ADDRESS_WORDS),
    completion: ring(1, ADDRESS_WORDS),
    rx: Array.from({ length: members }, (_, i) => ring(2 + 2 * i, DESCRIPTOR_WORDS)),
    tx: Array.from({ length: members }, (_, i) => ring(3 + 2 * i, DESCRIPTOR_WORDS)),
  }
}
const kernelMemory = (members: number) =>
  new SharedArrayBuffer((2 + 2 * members) * (192 + RING * 4 * DESCRIPTOR_WORDS))

const level = ({ producer, consumer }: RingMemory) =>
  (Atomics.load(producer, 0) - Atomics.load(consumer, 0)) >>> 0

/** Moves up to `count` entries as the kernel does, as far as there is room. */
function carry(from: RingMemory, to: RingMemory, words: { from: number; to: number }, count: number): number {
  const some = Math.min(count, level(from), to.size - level(to))
  const [start, at] = [from.consumer[0], to.producer[0]]
  for (let i = 0; i < some; i++) {
    const target = ((at + i) & (to.size - 1)) * words.to
    to.entries[target] = from.entries[((start + i) & (from.size - 1)) * words.from]
    if (words.to === DESCRIPTOR_WORDS) {
      to.entries[target] += 256 // XDP_PACKET_HEADROOM
      to.entries[target + 2] = LENGTH
    }
  }
  // A completion may be there before the TX ring says that its frame was taken.
  Atomics.store(to.producer, 0, (at + some) >>> 0)
  Atomics.store(from.consumer, 0, (start + some) >>> 0)
  return some
}

function member(umem: Umem, queue: SharedQueueDescription, memory: SharedArrayBuffer, index: number) {
  const { members } = queue
  const kernel = kernelRings(memory, members)
  const shared = new SharedQueue(queue, index, kernel)
  const range = { first: 0, count: members * FRAMES }
  const path = new DataPath({
    bytes: umem.bytes,
    view: umem.view,
    frameSize: FRAME_SIZE,
    pool: new FramePool(umem, { first: index * FRAMES, count: FRAMES, range, track: true }),
    rings: { ...memberRings(queue, index), rx: kernel.rx[index], tx: kernel.tx[index] },
    doorbell: { receive: () => 0, send: () => 0 },
    batch: 8,
    needWakeup: false,
    interface: 'simulated',
    queue: 0,
    shared,
  })
  return path
}

/** Every frame of the queue, wherever it is, read from the rings; the pools are emptied. */
function findFrames(
  paths: readonly DataPath[],
  queue: SharedQueueDescription,
  memory: SharedArrayBuffer,
): number[] {
  const { fill, completion, rx, tx } = kernelRings(memory, queue.members)
  const found: number[] = []
  const look = (ring: RingMemory, words: number) => {
    for (let i = 0; i < level(ring); i++) {
      found.push(ring.entries[((ring.consumer[0] + i) & (ring.size - 1)) * words])
    }
  }
  for (const ring of [fill, completion]) look(ring, ADDRESS_WORDS)
  for (const ring of [...rx, ...tx]) look(ring, DESCRIPTOR_WORDS)
  for (let i = 0; i < queue.members; i++) {
    const own = memberRings(queue, i)
    look(own.fill, ADDRESS_WORDS)
    look(own.completion, ADDRESS_WORDS)
  }
  for (const { pool } of paths) while (pool.available > 0) found.push(pool.take())
  return found.map((address) => Math.floor(address / FRAME_SIZE)).sort((a, b) => a - b)
}

const every = (members: number) => Array.from({ length: members * FRAMES }, (_, i) => i)

if (isMainThread) {
  test('no frame is lost or had twice, in whatever order members and kernel get their turns', () => {
    const MEMBERS = 3
    const umem = Umem.create({ frames: MEMBERS * FRAMES })
    const step = fc.record({
      what: fc.constantFrom('receive', 'handle', 'take', 'send', 'release'),
      who: fc.nat(MEMBERS - 1),
      count: fc.integer({ min: 1, max: 20 }),
      verdict: fc.constantFrom('transmit', 'hold', undefined),
    })
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
        const queue = createSharedQueue(MEMBERS, MEMBERS * FRAMES)
        const memory = kernelMemory(MEMBERS)
        const kernel = kernelRings(memory, MEMBERS)
        const paths = Array.from({ length: MEMBERS }, (_, i) => member(umem, queue, memory, i))
        const held: number[][] = paths.map(() => [])
        for (const path of paths) path.refill()
        for (const { what, who, count, verdict } of steps) {
          const path = paths[who]
          if (what === 'receive') {
            carry(kernel.fill, kernel.rx[who], { from: ADDRESS_WORDS, to: DESCRIPTOR_WORDS }, count)
          } else if (what === 'take') {
            carry(kernel.tx[who], kernel.completion, { from: DESCRIPTOR_WORDS, to: ADDRESS_WORDS }, count)
          } else if (what === 'handle') {
            const handler: PacketHandler = (packet) => {
              if (verdict === 'hold') held[who].push(packet.frame)
              return verdict
            }
            path.receive(handler, count)
          } else if (what === 'send') {
            for (let i = 0; i < count; i++) path.send(new Uint8Array(LENGTH))
            path.flush()
          } else {
            for (const frame of held[who].splice(0, count)) path.release(frame)
          }
          for (const each of paths) {
            const { total, free, fill, rx, held, tx, completion } = each.frames()
            assert.equal(free + fill + rx + held + tx + completion, total)
          }
        }
        paths.forEach((path, i) => {
          for (const frame of held[i]) path.release(frame)
          path.flush()
        })
        assert.deepEqual(findFrames(paths, queue, memory), every(MEMBERS))
      }),
      { seed: 4, numRuns: 150 },
    )
    umem.close()
  })

  test('frames come back to a member that takes all packets: the others lend, and it returns them', () => {
    const umem = Umem.create({ frames: 2 * FRAMES })
    const queue = createSharedQueue(2, 2 * FRAMES)
    const memory = kernelMemory(2)
    const kernel = kernelRings(memory, 2)
    const paths = [0, 1].map((i) => member(umem, queue, memory, i))
    for (const path of paths) path.refill()
    let received = 0
    for (let round = 0; round < 100; round++) {
      const count = carry(kernel.fill, kernel.rx[1], { from: ADDRESS_WORDS, to: DESCRIPTOR_WORDS }, RING)
      assert.equal(count, RING, `the fill ring has been filled in round ${round}`)
      while (paths[1].receive(() => void received++) > 0);
    }
    assert.equal(received, 100 * RING)
    assert.deepEqual(findFrames(paths, queue, memory), every(2))
    umem.close()
  })

  test('threads that move entries at the same time lose none', async (t) => {
    const MEMBERS = 3
    const PACKETS = 20_000
    const umem = Umem.create({ frames: MEMBERS * FRAMES, shared: true })
    t.after(() => umem.close())
    const queue = createSharedQueue(MEMBERS, MEMBERS * FRAMES)
    const memory = kernelMemory(MEMBERS)
    const kernel = kernelRings(memory, MEMBERS)
    const stop = new Int32Array(new SharedArrayBuffer(4))
    const workers = Array.from({ length: MEMBERS }, (_, index) => {
      const data: MemberData = { umem: umem.describe(), queue, memory, index, stop }
      return new Worker(new URL(import.meta.url), { workerData: { member: data } })
    })
    t.after(() => Promise.all(workers.map((worker) => worker.terminate())))
    const reports = workers.map((worker) => once(worker, 'message') as Promise<[MemberReport]>)
    let carried = 0
    let turn = 0
    while (carried < PACKETS) {
      for (let i = 0; i < 1000; i++) {
        const who = turn++ % MEMBERS
        // Uneven shares.
        const count = 1 + ((turn * 7) % (4 * (who + 1)))
        carried += carry(kernel.fill, kernel.rx[who], { from: ADDRESS_WORDS, to: DESCRIPTOR_WORDS }, count)
        carry(kernel.tx[who], kernel.completion, { from: DESCRIPTOR_WORDS, to: ADDRESS_WORDS }, count)
      }
      await new Promise((resolve) => setImmediate(resolve))
    }
    // Until the last packet has been handled, and what was sent is back.
    Atomics.store(stop, 0, 1)
    const kernelGoesOn = setInterval(() => {
      for (const tx of kernel.tx)
        carry(tx, kernel.completion, { from: DESCRIPTOR_WORDS, to: ADDRESS_WORDS }, RING)
    }, 1)
    const all = (await Promise.all(reports)).map(([report]) => report)
    clearInterval(kernelGoesOn)
    assert.equal(
      all.reduce((sum, { received }) => sum + received, 0),
      carried,
    )
    const { fill, completion, rx, tx } = kernel
    assert.deepEqual(
      [completion, ...rx, ...tx].map(level),
      Array.from({ length: 1 + 2 * MEMBERS }, () => 0),
    )
    const rest = findFrames([], queue, memory)
    assert.ok(level(fill) > 0)
    const found = [...rest, ...all.flatMap(({ free }) => free.map((address) => address / FRAME_SIZE))]
    assert.deepEqual(
      found.sort((a, b) => a - b),
      every(MEMBERS),
    )
  })
}

interface MemberData {
  umem: ReturnType<Umem['describe']>
  queue: SharedQueueDescription
  memory: SharedArrayBuffer
  index: number
  stop: Int32Array
}

interface MemberReport {
  received: number
  /** Addresses of the frames in the pool. */
  free: number[]
}

/** A member's thread: sends back every other packet, until told to stop and nothing is under way. */
function serve({ umem: description, queue, memory, index, stop }: MemberData): void {
  const umem = Umem.borrow(description)
  const path = member(umem, queue, memory, index)
  path.refill()
  let received = 0
  const handler: PacketHandler = () => (received++ % 2 ? 'transmit' : undefined)
  const turn = () => {
    for (let i = 0; i < 100; i++) path.receive(handler)
    const { rx, tx, completion } = path.frames()
    if (Atomics.load(stop, 0) === 1 && rx + tx + completion === 0) {
      const free: number[] = []
      while (path.pool.available > 0) free.push(path.pool.take())
      parentPort?.postMessage({ received, free } satisfies MemberReport)
      return
    }
    setImmediate(turn)
  }
  turn()
}

const { member: given } = (isMainThread ? {} : ((workerData as object | null) ?? {})) as {
  member?: MemberData
}
if (given) serve(given)
