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
  REJECT_ALL,
  attachClassicFilter,
  bindPacketSocket,
  classicProgram,
  makeRing,
  openPacketSocket,
  takeSocketError,
  takeStatistics,
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
  /** Default 4 MiB of them. The ring takes `blocks * blockSize` bytes of the kernel's memory. */
  blocks?: number | undefined
  /** Milliseconds after which a block is handed over with few packets in it, and between two looks at them. Default 20. */
  blockTimeout?: number | undefined
}

/** Packets handed on at a time: no more than a block has, nearly always. */
const BATCH = 1024
/** Fewer are worth being woken up for. */
const MANY = 8
/** Bytes of a ring unless its shape is told. */
const RING_BYTES = 4 << 20
/** A block timeout from which on blocks are large, in milliseconds, and what then is the most of a block; and else. */
const LONG_TIMEOUT = 80
const LARGE_BLOCK = 1 << 20
const SMALL_BLOCK = 1 << 18
/** The kernel counts in 32 bits and forgets when asked: it is asked every so many batches, whether anyone wants to know or not. */
const BATCHES_A_COUNT = 4096

/**
 * The blocks of a ring of about `bytes`, four at least. What wakes us up costs as much as hundreds of packets, so blocks are
 * large: the kernel does it when one is full. But those whose time is over go with few packets in them, and when nobody
 * reads, a ring of large blocks is soon full of nothing: they are small where the timeout is short.
 */
export function ringShape(bytes: number, blockTimeout: number): { blockSize: number; blocks: number } {
  const most = blockTimeout >= LONG_TIMEOUT ? LARGE_BLOCK : SMALL_BLOCK
  const blockSize = Math.min(most, 2 ** Math.floor(Math.log2(bytes / 4)))
  return { blockSize, blocks: Math.floor(bytes / blockSize) }
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
  readonly #blockTimeout: number
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
    const { blockTimeout = 20, snapLength = MAX_CAPTURED_LENGTH } = options
    const shape = ringShape(RING_BYTES, blockTimeout)
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
    this.#blockTimeout = blockTimeout
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
      // A large block that is full is worth being woken up for.
      blockSize >= LARGE_BLOCK ? 0 : boundedWait(blockTimeout, blocks * blockSize),
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
    attachClassicFilter(this.#fd, REJECT_ALL)
    this.#isStopped = true
    this.#pace.stop()
    await turn()
    // The block that the kernel is filling is ours when its time is over.
    for (let waits = 0; this.#isOpen && !this.#hasEnded && waits < 8;) {
      while (this.#serviceOrEnd() > 0);
      if (this.#handover.gate.isShut) await this.#handover.gate.opened()
      else if (!this.#ring.isFilling) break
      else waits += await delay(this.#blockTimeout, 1)
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

  #onReady(): void {
    const before = this.#stats.packets
    this.#serviceOrEnd()
    if (this.#stats.packets - before >= MANY) this.#pace.begin()
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
