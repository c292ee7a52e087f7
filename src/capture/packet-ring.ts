// AF_PACKET with a ring of blocks in mapped memory (TPACKET_V3): sees what arrives and leaves, disturbs nothing.
import { setImmediate as turn, setTimeout as delay } from 'node:timers/promises'
import {
  MappedRegion,
  OptionError,
  PAGE_SIZE,
  READABLE,
  StateError,
  getInterface,
  native,
  setPromiscuous,
  watchDescriptor,
  type Interface,
  type Namespace,
  type NativeWatcher,
} from '../kernel/index.js'
import { PacketBatch } from '../packet/pcap-batch.js'
import { MAX_CAPTURED_LENGTH } from '../packet/pcap-record.js'
import { InterfaceGoneError } from './errors.js'
import { Handover } from './handover.js'
import { requireEthernet } from './link-type.js'
import { Pace, boundedWait } from './pace.js'
import { PacketBlocks } from './packet-blocks.js'
import {
  attachClassicFilter,
  bindPacketSocket,
  classicProgram,
  makeRing,
  openPacketSocket,
  takeSocketError,
  takeStatistics,
  unbindPacketSocket,
} from './packet-socket.js'
import type { PacketFilter, PacketSink, PacketSource, SourceStatistics } from './source.js'

export interface PacketRingOptions {
  interface: string
  namespace?: Namespace | undefined
  filter?: PacketFilter | undefined
  /** The most bytes of a packet that are kept. Default 262144: all. */
  snapLength?: number | undefined
  /** Have the interface take what is not addressed to it. Default true, as tcpdump. */
  promiscuous?: boolean | undefined
  /** Bytes of a block: a power of two, at least a page. A packet longer than a block is cut. Default: see `ringShape`. */
  blockSize?: number | undefined
  /** Default 8 MiB of them. The ring takes `blocks * blockSize` bytes of the kernel's memory. */
  blocks?: number | undefined
  /**
   * Milliseconds after which a block is handed over with few packets in it, and the most between two looks at them. Without
   * a look, a ring is full after `blocks` of those times, however few packets come. Default: see `ringShape`.
   */
  blockTimeout?: number | undefined
}

/** Packets handed on at a time: no more than a block has, nearly always. */
const BATCH = 1024
/** Bytes of a ring unless its size is told: as in `mirror`. A burst may come before V8 has compiled what takes packets out, too. */
const RING_BYTES = 8 << 20
/** Of a block: room for the largest packet that offloads make of many. What a block that goes early has left is lost to the ring. */
const BLOCK = 1 << 17
/** Milliseconds that a ring is to last without a look when packets come slowly, as far as the longest block timeout makes it. */
const LASTS = 16_000
const LONGEST_TIMEOUT = 250
/** And the block timeout where the ring is large enough. */
const TIMEOUT = 20
/** From this latency on, in milliseconds, nobody waits for packets: the two above are so many times as long. */
const UNHURRIED = 100
const UNHURRIED_TIMES = 4
/** The kernel counts in 32 bits and forgets when asked: it is asked every so many batches, whether anyone wants to know or not. */
const BATCHES_A_COUNT = 4096

/**
 * The blocks of a ring of about `bytes`, four at least, and their timeout. A block whose time is over goes with what is in it, be it one
 * packet (prb_retire_rx_blk_timer_expired): with a short timeout, a trickle fills a ring with next to nothing while nobody
 * looks. So the timeout is as long as makes the ring last, unless a `latency` below 100 ms is asked for.
 */
export function ringShape(
  bytes = RING_BYTES,
  latency?: number,
): { blockSize: number; blocks: number; blockTimeout: number } {
  const blockSize = Math.min(BLOCK, 2 ** Math.floor(Math.log2(bytes / 4)))
  const blocks = Math.floor(bytes / blockSize)
  if (latency !== undefined && latency < UNHURRIED) {
    return { blockSize, blocks, blockTimeout: latency || TIMEOUT }
  }
  // Longer is better: each timeout leaves the rest of one block empty, half a block on average.
  const times = latency === undefined ? 1 : UNHURRIED_TIMES
  const lasting = times * Math.min(Math.ceil(LASTS / blocks), LONGEST_TIMEOUT)
  return { blockSize, blocks, blockTimeout: Math.max(lasting, latency ?? TIMEOUT) }
}

/** Packets of an interface from AF_PACKET. Kernel 3.2. Needs CAP_NET_RAW, and `close()`. */
export class PacketRing implements PacketSource {
  readonly mode = 'packet'
  readonly name: string
  readonly linkType: number
  readonly #fd: number
  readonly #device: Interface
  readonly #namespace: Namespace | undefined
  readonly #region: MappedRegion
  readonly #ring: PacketBlocks
  readonly #batch = new PacketBatch(BATCH)
  readonly #blocks: number
  /** Milliseconds between two looks, and between two wakings up that are better done by looking. */
  readonly #wait: number
  #wokenAt = 0
  readonly #stats: SourceStatistics = {
    packets: 0,
    bytes: 0,
    batches: 0,
    dropped: { interface: 0, kernel: 0, ring: 0 },
  }
  readonly #interfaceDropsBefore: number
  #interfaceDrops = 0
  readonly #pace: Pace
  #watcher: NativeWatcher | undefined
  #sink: PacketSink | undefined
  readonly #handover = new Handover()
  #isOpen = true
  #isStopped = false
  #hasEnded = false
  #isUp = true
  #waits = false

  /**
   * Opens the socket; packets wait in the ring until `start`. Throws `NotFoundError`, `OptionError`, `UnsupportedError`,
   * `KernelError` (EPERM; ENOMEM for a ring that is too large). An interface that is down is waited for: see `linkChanged`.
   */
  static open(options: PacketRingOptions): PacketRing {
    return new PacketRing(options)
  }

  private constructor(options: PacketRingOptions) {
    const shape = ringShape()
    const { blockTimeout = shape.blockTimeout, snapLength = MAX_CAPTURED_LENGTH } = options
    const { blockSize = shape.blockSize, blocks = Math.ceil(RING_BYTES / blockSize) } = options
    checkRange('snapLength', snapLength, 1, MAX_CAPTURED_LENGTH)
    checkRange('blocks', blocks, 1, 65536)
    checkRange('blockTimeout', blockTimeout, 1, 60_000)
    checkRange('blockSize', blockSize, PAGE_SIZE, 1 << 26)
    if ((blockSize & (blockSize - 1)) !== 0) {
      throw new OptionError('blockSize', `A block of ${blockSize} bytes is no power of two`)
    }
    const { namespace } = options
    this.#device = getInterface(options.interface, { namespace })
    this.name = this.#device.name
    this.#namespace = namespace
    this.#blocks = blocks
    this.#wait = boundedWait(blockTimeout, blocks * blockSize)
    this.#interfaceDropsBefore = interfaceDrops(this.#device)
    const fd = openPacketSocket(namespace)
    this.#fd = fd
    const { filter } = options
    const program = classicProgram(filter?.toClassicBpf(), snapLength)
    let region: MappedRegion | undefined
    try {
      makeRing(fd, blockSize, blocks, blockTimeout)
      const context = { about: `packet ring of ${this.name}` }
      region = MappedRegion.map({ fd, length: blocks * blockSize, context })
      // Before the socket is bound, so that nothing unwanted arrives.
      if (program) attachClassicFilter(fd, program)
      this.linkType = bindPacketSocket(fd, this.#device.index, this.name)
      if (filter) requireEthernet(this.linkType, this.name)
      if (options.promiscuous ?? true) setPromiscuous(fd, this.#device.index, this.name)
    } catch (error) {
      region?.close()
      native.close(fd)
      throw error
    }
    this.#region = region
    this.#batch.linkType = this.linkType
    this.#ring = new PacketBlocks({
      memory: region.buffer,
      blockSize,
      blocks,
      linkType: this.linkType,
      snapLength,
      // On loopback each packet is seen leaving and arriving: once is enough.
      inboundOnly: this.#device.loopback,
      filter,
      judgesAll: program === undefined,
    })
    this.#pace = new Pace(
      {
        // One block is the least there can be, however large the ring.
        take: () => Math.max(0, this.#service() - 1 / 2) / blocks,
        watch: () => this.#watcher?.start(READABLE),
        ignore: () => this.#watcher?.stop(),
        failed: (error) => this.#end(error),
      },
      this.#wait,
    )
  }

  start(sink: PacketSink): void {
    this.#assertOpen()
    if (this.#sink) throw new StateError(`The packet ring of ${this.name} was started already`)
    this.#sink = sink
    this.#watcher = watchDescriptor(this.#fd, (status) => {
      if (status < 0) this.#lookAfterError()
      else this.#onReady()
    })
    if (!this.#handover.gate.isShut) this.#pace.start()
  }

  pause(): void {
    this.#handover.gate.shut()
    this.#pace.stop()
  }

  resume(): void {
    if (!this.#handover.gate.isShut) return
    this.#handover.gate.open()
    if (this.#handover.isKeeping) setImmediate(() => this.#serviceOrEnd())
    if (this.#watcher && !this.#isStopped && !this.#hasEnded) this.#pace.start()
  }

  async stop(): Promise<void> {
    if (!this.#isOpen || !this.#sink) return
    unbindPacketSocket(this.#fd, this.#device.index)
    this.#ring.end()
    this.#isStopped = true
    this.#pace.stop()
    await turn()
    while (this.#isOpen && !this.#hasEnded) {
      while (this.#serviceOrEnd() > 0);
      if (!this.#handover.gate.isShut) break
      await this.#handover.gate.opened()
    }
  }

  lost(): number {
    this.#countKernel()
    return this.#stats.dropped.kernel
  }

  stats(): SourceStatistics {
    this.#count()
    return { ...this.#stats, dropped: { ...this.#stats.dropped, interface: this.#interfaceDrops } }
  }

  close(): Promise<void> {
    if (this.#isOpen) {
      this.#count()
      this.#isOpen = false
      this.#pace.stop()
      this.#watcher?.close()
      this.#batch.clear()
      this.#handover.close()
      this.#region.close()
      native.close(this.#fd)
    }
    return Promise.resolve()
  }

  /** A block is there. One in a while is worth being woken up for; when they come one after the other, they are looked at by the clock. */
  #onReady(): void {
    const before = this.#wokenAt
    this.#wokenAt = performance.now()
    if (this.#serviceOrEnd() > 1 || this.#wokenAt - before < this.#wait) this.#pace.begin()
  }

  /** As `#service`. What the sink throws ends the source. */
  #serviceOrEnd(): number {
    try {
      return this.#service()
    } catch (error) {
      this.#end(error as Error)
      return 0
    }
  }

  #end(error: Error): void {
    if (this.#hasEnded) return
    this.#hasEnded = true
    this.#pace.stop()
    this.#handover.close()
    this.#sink?.ended?.(error)
  }

  /** Hands on the blocks that the kernel is done with, a ring of them at most; how many. */
  #service(): number {
    const sink = this.#sink
    let done = 0
    if (!sink || this.#hasEnded) return 0
    const { gate } = this.#handover
    this.#handover.goOn(sink)
    while (done < this.#blocks && !gate.isShut && this.#ring.take(this.#batch)) {
      try {
        this.#handOn(sink)
      } finally {
        if (this.#ring.release()) done++
      }
    }
    return done
  }

  #handOn(sink: PacketSink): void {
    const stats = this.#stats
    // A filter may have left nothing of a block.
    if (this.#batch.count === 0) return
    stats.packets += this.#batch.count
    stats.bytes += this.#batch.wire
    if (++stats.batches % BATCHES_A_COUNT === 0) this.#countKernel()
    this.#handover.give(this.#batch, sink)
  }

  #countKernel(): void {
    if (this.#isOpen) this.#stats.dropped.kernel += takeStatistics(this.#fd).drops
  }

  /** Both the kernel's counters. */
  #count(): void {
    if (!this.#isOpen) return
    this.#countKernel()
    try {
      const device = getInterface(this.#device.index, { namespace: this.#namespace })
      this.#interfaceDrops = Math.max(0, interfaceDrops(device) - this.#interfaceDropsBefore)
    } catch {
      // The device is gone: its last count stands.
    }
  }

  /** The socket reports that the interface went down; whether it is still there, it does not say. */
  #lookAfterError(): void {
    takeSocketError(this.#fd)
    try {
      getInterface(this.#device.index, { namespace: this.#namespace })
    } catch (error) {
      this.#serviceOrEnd()
      this.#end(new InterfaceGoneError(this.name, error))
      return
    }
    this.#watcher?.start(READABLE)
    this.#setUp(false)
    void this.#waitForLink()
  }

  /** The socket works again by itself when the interface comes back, and says nothing. */
  async #waitForLink(): Promise<void> {
    if (this.#waits) return
    this.#waits = true
    while (this.#isOpen && !this.#isUp) {
      await delay(LOOK_MS, undefined, { ref: false })
      if (!this.#isOpen) return
      try {
        if (getInterface(this.#device.index, { namespace: this.#namespace }).up) this.#setUp(true)
      } catch {
        break // Gone: the socket reports that too.
      }
    }
    this.#waits = false
  }

  #setUp(isUp: boolean): void {
    if (isUp === this.#isUp) return
    this.#isUp = isUp
    this.#sink?.linkChanged?.(isUp)
  }

  #assertOpen(): void {
    if (!this.#isOpen) throw new StateError(`The packet ring of ${this.name} is closed`)
  }
}

const LOOK_MS = 100

function interfaceDrops({ stats }: Interface): number {
  return stats.rxMissed
}

function checkRange(option: string, value: number, least: number, most: number): void {
  if (Number.isInteger(value) && value >= least && value <= most) return
  throw new OptionError(option, `${option} is ${value}; it must be ${least} to ${most}`)
}
