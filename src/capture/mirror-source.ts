// Packets copied by an XDP program into a ring buffer, while the originals pass on: disturbs nothing, sees what arrives.
import { setImmediate as turn } from 'node:timers/promises'
import { RecordBatch, attachXdp, type XdpAttachment } from '../bpf/index.js'
import type { Condition, Xdp } from '../bpf/builder/index.js'
import { matchFilter, type Filter } from '../filter/index.js'
import { inNamespace, type Namespace } from '../kernel/index.js'
import { INBOUND } from '../packet/pcap-batch.js'
import { LINKTYPE_ETHERNET, MAX_CAPTURED_LENGTH } from '../packet/pcap-record.js'
import { DEFAULT_RING_BYTES, Mirror, mirrorHeader } from '../programs/mirror.js'
import { BATCH, BATCH_BYTES, LiveSource, xdpInterface } from './live-source.js'
import { LATENCY_MS, MANY, Pace } from './pace.js'
import type { PacketSink, PacketSource, SourceStatistics } from './source.js'

export interface MirrorSourceOptions {
  interface: string
  namespace?: Namespace | undefined
  /** Only what matches is copied. */
  filter?: Filter | undefined
  /** Only what arrives on these queues is copied. Default `all`. */
  queues?: 'all' | readonly number[] | undefined
  /** The most bytes of a packet that are copied. Default 262144: all. */
  snapLength?: number | undefined
  /** Bytes of the ring: a power of two, at least a page. Default 8 MiB. */
  ringBytes?: number | undefined
  /** Where the program runs. Default `auto`: in the driver, in the generic path where that cannot be. */
  xdpMode?: 'auto' | 'native' | 'generic' | undefined
  /** Milliseconds that a packet may wait in the ring while others come; 0 to be woken up for each. Default 20. */
  latency?: number | undefined
}

/** Packets handed on before other work of the event loop has its turn. */
const BUDGET = 65_536
/** How full the ring is when it is looked at earlier than the timer says. */
const FILLED = 1 / 4
// include/uapi/linux/bpf.h: enum xdp_action
const XDP_PASS = 2

/** What arrives at an interface, mirrored. Kernel 5.18. Needs CAP_NET_ADMIN and CAP_BPF, and `close()`. */
export class MirrorSource implements PacketSource {
  readonly mode = 'mirror'
  readonly name: string
  readonly linkType = LINKTYPE_ETHERNET
  /** How the program is attached. */
  readonly attachment: XdpAttachment
  readonly #mirror: Mirror
  readonly #live: LiveSource
  readonly #pace: Pace
  readonly #records = new RecordBatch(BATCH)
  #isOpen = true
  #isStopped = false

  /**
   * Loads and attaches the program; packets wait in the ring until `start`. Throws `NotFoundError`, `OptionError`,
   * `UnsupportedError`, `XdpBusyError` when another program is attached, `VerifierError`, `KernelError`.
   */
  static open(options: MirrorSourceOptions): MirrorSource {
    return new MirrorSource(options)
  }

  private constructor(options: MirrorSourceOptions) {
    const { namespace, xdpMode = 'auto' } = options
    const { ringBytes = DEFAULT_RING_BYTES, snapLength = MAX_CAPTURED_LENGTH } = options
    const device = xdpInterface(options.interface, namespace)
    this.name = device.name
    const wanted = conditionOf(options)
    this.#mirror = inNamespace(namespace, () =>
      Mirror.load({ snapLength, ringBytes, bellAt: ringBytes * FILLED, ...(wanted && { filter: wanted }) }),
    )
    try {
      this.#live = new LiveSource(device, namespace, snapLength, XDP_PASS)
      this.attachment = attachXdp(this.#mirror.program, { interface: device.name, mode: xdpMode, namespace })
    } catch (error) {
      this.#mirror.close()
      throw error
    }
    const { ring } = this.#mirror
    this.#pace = new Pace(
      {
        take: () => this.#take(),
        watch: () => ring.watchReady(() => this.#onReady()),
        ignore: () => ring.unwatch(),
        failed: (error) => this.#live.end(error),
      },
      options.latency ?? LATENCY_MS,
      true,
    )
  }

  /** See `LiveSource.makePromiscuous`. */
  makePromiscuous(): void {
    this.#live.makePromiscuous()
  }

  start(sink: PacketSink): void {
    this.#live.start(sink)
    this.#watch()
  }

  pause(): void {
    this.#live.pause()
    this.#rest()
  }

  resume(): void {
    if (!this.#live.isPaused) return
    this.#live.resume()
    this.#watch()
  }

  async stop(): Promise<void> {
    if (!this.#isOpen) return
    this.attachment.detach()
    this.#isStopped = true
    this.#rest()
    await turn()
    const live = this.#live
    if (!live.isStarted) return
    // A program that is running on another processor may still be about to commit its record.
    while (this.#isOpen && !live.hasEnded && (live.isKeeping || this.#mirror.ring.pending > 0)) {
      live.goOn()
      this.#drain()
      await turn()
      await live.opened()
    }
  }

  lost(): number {
    return this.#isOpen ? this.#mirror.lost : this.#live.stats.dropped.ring
  }

  stats(): SourceStatistics {
    this.#count()
    const { stats } = this.#live
    return { ...stats, dropped: { ...stats.dropped } }
  }

  close(): Promise<void> {
    if (this.#isOpen) {
      this.#count()
      this.#isOpen = false
      this.#rest()
      this.#live.close()
      try {
        this.attachment.detach()
      } finally {
        this.attachment.close()
        this.#mirror.close()
      }
    }
    return Promise.resolve()
  }

  #count(): void {
    if (!this.#isOpen) return
    this.#live.countInterface()
    this.#live.stats.dropped.ring = this.#mirror.lost
  }

  /** Packets came while nobody looked. */
  #onReady(): void {
    if (this.#drain() > 0) this.#pace.begin()
  }

  /** Hands on what is there, and says how much of the ring that was. */
  #take(): number {
    const { pending, size } = this.#mirror.ring
    return this.#drain() < MANY ? 0 : pending / size
  }

  /** Hands on what is there; how many packets that was. */
  #drain(): number {
    const { ring } = this.#mirror
    let taken = 0
    while (!this.#live.isPaused && this.#isOpen && !this.#live.hasEnded && taken < BUDGET) {
      if (ring.take(this.#records, BATCH_BYTES) === 0) break
      taken += this.#records.count
      this.#read(this.#records)
      this.#live.handOn()
      ring.release()
    }
    return taken
  }

  #watch(): void {
    const { isPaused, isStarted, hasEnded } = this.#live
    if (isPaused || !isStarted || hasEnded || !this.#isOpen || this.#isStopped) return
    this.#mirror.bell?.watch(this.#onBell)
    this.#pace.start()
  }

  /** No looks until `#watch`. */
  #rest(): void {
    this.#mirror.bell?.unwatch()
    this.#pace.stop()
  }

  /** The ring fills. */
  readonly #onBell = (): void => {
    if (this.#live.hasEnded) {
      this.#rest()
      return
    }
    this.#pace.hurry()
  }

  /** Puts what the program recorded into the batch: the numbers are those of `mirrorHeader`. */
  #read({ bytes, words, offsets, count }: RecordBatch): void {
    const { batch, clock } = this.#live
    batch.begin(bytes)
    for (let i = 0; i < count; i++) {
      const at = offsets[i]
      const word = at >>> 2
      const wireLength = words[word + 2]
      const captured = words[word + 3]
      const offset = at + mirrorHeader.size
      clock.read(words[word + 1] * 0x1_0000_0000 + words[word])
      batch.add(offset, captured, wireLength, clock.seconds, clock.nanoseconds, words[word + 5], INBOUND)
    }
  }
}

/** What the program is to ask of a packet; undefined for nothing. Whatever the MTU: see `defineDivert`. */
function conditionOf({ filter, queues = 'all' }: MirrorSourceOptions): ((x: Xdp) => Condition) | undefined {
  if (queues === 'all') return filter && ((x) => matchFilter(x, filter, 'packet'))
  return (x) => {
    const isOfQueue = x.queue.in([...queues])
    if (!filter) return isOfQueue
    x.require(isOfQueue)
    return matchFilter(x, filter, 'packet')
  }
}
