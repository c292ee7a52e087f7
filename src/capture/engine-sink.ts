// What an engine gives its source to call: packets are numbered, told what was lost before them, and handed on or queued.
import type { PacketBatch } from '../packet/pcap-batch.js'
import type { PacketRecord } from '../packet/pcap-record.js'
import type { PacketQueue } from './queue.js'
import type { PacketSink, PacketSource } from './source.js'

/**
 * A consumer that is called for each packet as it comes, or with `batch` for those that came together, without a queue. What it
 * throws ends the capture.
 */
export type PacketConsumer = Pick<PacketSink, 'packet' | 'batchEnd' | 'batch'>

/** The queue's source is paused above this. */
const FULL = 0.75
/** How often the kernel is asked at most how much was lost, to tell packets of it: milliseconds. */
const LOSS_MS = 200

/** The numbers of packets and of the lost ones, over all sources of an engine. */
export class PacketNumbers {
  /** Packets that the consumer was given. */
  processed = 0
  /** Packets that the queue had no room for. */
  consumerDrops = 0
  #nextId = 0
  #lastLook = 0
  #known = 0
  /** Packets lost that no packet was told of. */
  #untold = 0

  /** Writes its number into a packet, and how many were lost before it. */
  number(packet: PacketRecord): void {
    packet.packetId = this.#nextId++
    packet.dropCount = this.#untold > 0 ? this.#untold : -1
    this.#untold = 0
  }

  /** The same for all packets of a batch. */
  numberAll(batch: PacketBatch): void {
    batch.firstId = this.#nextId
    this.#nextId += batch.count
    batch.dropCount = this.#untold > 0 ? this.#untold : -1
    this.#untold = 0
  }

  /** The last packets of a batch that was numbered are to come again: all but the first `taken`. */
  takeBack(batch: PacketBatch, taken: number): void {
    const rest = batch.count - taken
    this.#nextId -= rest
    this.processed -= rest
    if (taken === 0) this.#untold += Math.max(0, batch.dropCount)
  }

  /** A packet that was numbered found no room. */
  drop(packet: PacketRecord): void {
    this.consumerDrops++
    this.#untold += 1 + Math.max(0, packet.dropCount)
  }

  /** Looks what was lost, for the next packet to say so. */
  look(source: PacketSource): void {
    const now = performance.now()
    if (now - this.#lastLook < LOSS_MS) return
    this.#lastLook = now
    const known = source.lost?.() ?? lostBy(source)
    this.#untold += Math.max(0, known - this.#known)
    this.#known = known
  }

  /** The next source begins to count at zero. */
  forget(): void {
    this.#known = 0
  }
}

function lostBy(source: PacketSource): number {
  const { dropped } = source.stats()
  return dropped.interface + dropped.kernel + dropped.ring
}

/** Hands each packet to the consumer, or all that came together if it takes them so. */
export function consumerSink(
  source: PacketSource,
  consumer: PacketConsumer,
  numbers: PacketNumbers,
): PacketConsumer {
  // Packets of a file have the numbers that it says.
  const isFile = source.mode === 'file'
  const { batch: takeAll } = consumer
  return {
    packet: (packet) => {
      if (!isFile) numbers.number(packet)
      numbers.processed++
      consumer.packet(packet)
    },
    batchEnd: () => {
      consumer.batchEnd?.()
      if (!isFile) numbers.look(source)
    },
    ...(takeAll && {
      batch: (batch: PacketBatch) => {
        numbers.numberAll(batch)
        numbers.processed += batch.count
        const taken = takeAll(batch) ?? batch.count
        if (taken < batch.count) numbers.takeBack(batch, taken)
        numbers.look(source)
        return taken
      },
    }),
  }
}

/** Copies each packet into the queue, and calls `onFull` when that is nearly full. */
export function queueSink(
  source: PacketSource,
  queue: PacketQueue,
  numbers: PacketNumbers,
  onFull: () => void,
): PacketConsumer {
  const isFile = source.mode === 'file'
  return {
    packet: (packet) => {
      if (!isFile) numbers.number(packet)
      if (!queue.push(packet)) numbers.drop(packet)
      if (queue.level >= FULL) onFull()
    },
    batchEnd: () => {
      queue.notify()
      if (!isFile) numbers.look(source)
    },
  }
}
