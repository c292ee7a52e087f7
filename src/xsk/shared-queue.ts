// Several sockets on one queue: the kernel has one fill and one completion ring for all of them, each thread its own.
import { mapTxRing, type MappedRings } from './binding.js'
import type { RingSizes } from './options.js'
import { ADDRESS_WORDS, ringOver, type RingMemory } from './ring-memory.js'

/**
 * What the threads of one queue have in common: structured-cloneable, over shared memory. Frames are of no thread in
 * particular there: what one lends may be received by any. Each lends and gets back as many as it should, and that is
 * what is counted.
 */
export interface SharedQueueDescription {
  memory: SharedArrayBuffer
  /** Threads. */
  members: number
  /** Entries of each ring: a power of two, and no fewer than the queue has frames, so that none is ever full. */
  size: number
}

/** A thread's own ends: frames it gives to the kernel for receiving, and frames that it has back from sending. */
export interface MemberRings {
  fill: RingMemory
  completion: RingMemory
}

// At the front of the memory, in 32-bit words: who moves entries at the moment, then the frames each member had back.
const STATE = 0
const RETURNED = 1
// Who moves entries, plus this when somebody came by meanwhile.
const AGAIN = 1 << 16

const LINE = 64
const ringSpan = (size: number) => 2 * LINE + size * ADDRESS_WORDS * 4
const headSpan = (members: number) => Math.ceil(((RETURNED + members) * 4) / LINE) * LINE

/** Makes the memory for `members` threads over `frames` frames. */
export function createSharedQueue(members: number, frames: number): SharedQueueDescription {
  const size = 2 ** Math.ceil(Math.log2(frames))
  const memory = new SharedArrayBuffer(headSpan(members) + 2 * members * ringSpan(size))
  return { memory, members, size }
}

/** The rings of member number `index`. The flags of its fill ring are `flags`: the kernel's, for need_wakeup. */
export function memberRings(
  queue: SharedQueueDescription,
  index: number,
  flags: RingMemory['flags'] = new Uint32Array(1),
): MemberRings {
  const { memory, members, size } = queue
  const ring = (number: number): RingMemory => {
    const start = headSpan(members) + number * ringSpan(size)
    const offsets = { producer: start, consumer: start + LINE, flags: undefined, desc: start + 2 * LINE }
    return { ...ringOver(memory, offsets, size, ADDRESS_WORDS), flags }
  }
  return { fill: ring(2 * index), completion: ring(2 * index + 1) }
}

/**
 * Moves entries between the members' rings and the kernel's. Any member may, one at a time: who finds another one at it
 * leaves a note and goes its way, and the other one looks again before it goes. So nobody ever waits, no frame lies
 * about, and there is no thread that all depend on.
 */
export class SharedQueue {
  readonly #state: Int32Array
  readonly #me: number
  readonly #members: readonly MemberRings[]
  readonly #fill: RingMemory
  readonly #completion: RingMemory
  readonly #tx: readonly (RingMemory | undefined)[]

  /**
   * For member number `index`. `kernel` has the queue's two rings, and every member's TX ring, whose consumer tells how
   * many frames the kernel took from it; undefined for a member that there is not.
   */
  constructor(
    queue: SharedQueueDescription,
    index: number,
    kernel: { fill: RingMemory; completion: RingMemory; tx: readonly (RingMemory | undefined)[] },
  ) {
    this.#state = new Int32Array(queue.memory, 0, RETURNED + queue.members)
    this.#me = index + 1
    this.#members = Array.from({ length: queue.members }, (_, i) => memberRings(queue, i))
    this.#fill = kernel.fill
    this.#completion = kernel.completion
    this.#tx = kernel.tx
  }

  /** Moves what is there to move, or sees to it that who is at it does. */
  move(): void {
    const state = this.#state
    const me = this.#me
    for (;;) {
      const seen = Atomics.load(state, STATE)
      if (seen === 0) {
        if (Atomics.compareExchange(state, STATE, 0, me) === 0) break
      } else {
        if ((seen & AGAIN) !== 0) return
        if (Atomics.compareExchange(state, STATE, seen, seen | AGAIN) === seen) return
      }
    }
    do {
      Atomics.store(state, STATE, me)
      this.#lend()
      this.#giveBack()
    } while (Atomics.compareExchange(state, STATE, me, 0) !== me)
  }

  // Into the kernel's fill ring, as far as it has room.
  #lend(): void {
    const to = this.#fill
    let producer = Atomics.load(to.producer, 0)
    let room = to.size - ((producer - Atomics.load(to.consumer, 0)) >>> 0)
    for (const { fill: from } of this.#members) {
      const consumer = Atomics.load(from.consumer, 0)
      const count = Math.min((Atomics.load(from.producer, 0) - consumer) >>> 0, room)
      if (count === 0) continue
      copy(from, consumer, to, producer, count)
      producer = (producer + count) >>> 0
      room -= count
      Atomics.store(to.producer, 0, producer)
      Atomics.store(from.consumer, 0, (consumer + count) >>> 0)
    }
  }

  // Out of the kernel's completion ring, to each member no more than the kernel took from it.
  #giveBack(): void {
    const from = this.#completion
    let consumer = Atomics.load(from.consumer, 0)
    let left = (Atomics.load(from.producer, 0) - consumer) >>> 0
    if (left === 0) return
    const state = this.#state
    for (let i = 0; i < this.#members.length && left > 0; i++) {
      const tx = this.#tx[i]
      if (tx === undefined) continue
      const returned = state[RETURNED + i]
      const count = Math.min((Atomics.load(tx.consumer, 0) - returned) >>> 0, left)
      if (count === 0) continue
      const to = this.#members[i].completion
      const producer = Atomics.load(to.producer, 0)
      copy(from, consumer, to, producer, count)
      consumer = (consumer + count) >>> 0
      left -= count
      state[RETURNED + i] = returned + count
      Atomics.store(to.producer, 0, (producer + count) >>> 0)
    }
    // What is left belongs to a member whose system call has not told yet: it comes by when that returns.
    Atomics.store(from.consumer, 0, consumer)
  }
}

function copy(from: RingMemory, start: number, to: RingMemory, at: number, count: number): void {
  const [source, target] = [from.entries, to.entries]
  const [sourceMask, targetMask] = [from.size - 1, to.size - 1]
  for (let i = 0; i < count; i++)
    target[((at + i) & targetMask) << 1] = source[((start + i) & sourceMask) << 1]
}

/** A member's place at a shared queue: structured-cloneable. */
export interface SharedQueueSeat {
  queue: SharedQueueDescription
  index: number
  /** The members' sockets; undefined for a member that there is not. */
  sockets: readonly (number | undefined)[]
}

/** Puts the member's rings in the place of the kernel's fill and completion ring, and what moves entries between them. */
export function takeSeat(
  { queue, index, sockets }: SharedQueueSeat,
  kernel: MappedRings,
  sizes: RingSizes,
): { rings: MappedRings; shared: SharedQueue } {
  const others = sockets.map((fd, i) =>
    fd === undefined || i === index ? undefined : mapTxRing(fd, sizes.tx),
  )
  const tx = others.map((other, i) => (i === index ? kernel.tx : other?.tx))
  const shared = new SharedQueue(queue, index, { ...kernel, tx })
  const close = () => {
    kernel.close()
    others.forEach((other) => other?.close())
  }
  const own = memberRings(queue, index, kernel.fill.flags)
  return { rings: { ...own, rx: kernel.rx, tx: kernel.tx, close }, shared }
}
