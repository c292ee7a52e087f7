// Packets taken by AF_XDP sockets on the interface's queues: the fastest way, and the host never sees what is taken.
import { setImmediate as turn } from 'node:timers/promises'
import type { Filter } from '../filter/index.js'
import { OptionError, UnsupportedError, type Interface, type Namespace } from '../kernel/index.js'
import { getDeviceFeatures } from '../kernel/netlink/index.js'
import { LINKTYPE_ETHERNET, MAX_CAPTURED_LENGTH } from '../packet/pcap-record.js'
import { XdpGroup, type GroupWarning, type KernelStatistics, type XdpGroupOptions } from '../xsk/index.js'
import { DivertProgram } from './divert-program.js'
import { DivertQueue } from './divert-queue.js'
import { LiveSource, xdpInterface } from './live-source.js'
import { LATENCY_MS, MANY, Pace, boundedWait } from './pace.js'
import type { PacketSink, PacketSource, SourceStatistics } from './source.js'

/** How the sockets are to be: see `XdpGroupOptions`. A `program` of its own takes what it gives to them, whatever the filter. */
export type DivertSocketOptions = Pick<
  XdpGroupOptions,
  | 'queues'
  | 'strict'
  | 'copy'
  | 'attach'
  | 'rings'
  | 'umem'
  | 'batch'
  | 'busyPoll'
  | 'needWakeup'
  | 'preset'
  | 'program'
>

export interface DivertSourceOptions extends DivertSocketOptions {
  interface: string
  namespace?: Namespace | undefined
  /** Only what matches is taken; the rest passes to the host. */
  filter?: Filter | undefined
  /** The most bytes of a packet that are handed on. Default 262144: all. */
  snapLength?: number | undefined
  /** Where the program runs. Default `auto`. */
  xdpMode?: 'auto' | 'native' | 'generic' | undefined
  /** Milliseconds that a packet may wait in the rings while many come; 0 to be woken up for each. Default 20. */
  latency?: number | undefined
}

/** How much of a queue's frames is in use when it is looked at earlier than the timer says. */
const FILLED = 1 / 2
/** The memory of a queue unless it is described otherwise: 16 MiB. */
const FRAMES = { frames: 8192, frameSize: 2048 }
/** The same for devices whose packets, by their MTU, have no room in such a frame. */
const LARGE_FRAMES = { frames: 4096, frameSize: 4096 }
/** Nothing is ever sent. */
const SEND_RING = 64
/** In front of what the MTU counts: an Ethernet header with two VLAN tags. */
const LINK_HEADER = 22
/** What the kernel keeps of a frame for itself (XDP_PACKET_HEADROOM). */
const KERNEL_HEADROOM = 256
/** What a packet in a frame is taken for, when it is about how long the frames last. */
const PACKET_BYTES = 500
// include/uapi/linux/bpf.h: enum xdp_action
const XDP_REDIRECT = 4

/**
 * What arrives at an interface, taken away from the host. Where packets cannot be in several frames (before kernel 6.6, or in
 * zero copy on a driver that has not learnt it) those longer than a frame stay the host's and count as lost in the kernel.
 * Kernel 5.18. Needs CAP_NET_ADMIN, CAP_NET_RAW and CAP_BPF, and `close()`.
 */
export class DivertSource implements PacketSource {
  readonly mode = 'divert'
  readonly name: string
  readonly linkType = LINKTYPE_ETHERNET
  readonly group: XdpGroup
  readonly #program: DivertProgram | undefined
  readonly #live: LiveSource
  readonly #queues: readonly DivertQueue[]
  readonly #pace: Pace
  /** Packets that the kernel has frames for. */
  readonly #room: number
  #isOpen = true
  #isStopped = false
  #isWatching = false
  #control = new AbortController()
  #run: Promise<void> | undefined
  #kernel: KernelStatistics

  /**
   * Opens the sockets and attaches the program; packets wait in the rings until `start`. Throws what `XdpGroup.open`
   * throws, `UnsupportedError` for a link without Ethernet headers.
   */
  static async open(options: DivertSourceOptions): Promise<DivertSource> {
    const {
      filter,
      snapLength = MAX_CAPTURED_LENGTH,
      xdpMode = 'auto',
      umem,
      latency,
      program: given,
      ...others
    } = options
    const device = xdpInterface(options.interface, options.namespace)
    const { frames, frameSize, ...place } = (umem ?? {}) as Partial<typeof FRAMES> & { headroom?: number }
    const usual = device.mtu + LINK_HEADER <= FRAMES.frameSize - KERNEL_HEADROOM ? FRAMES : LARGE_FRAMES
    // A preset has frames and rings of its own.
    const isOurs = options.preset === undefined
    const shape = {
      ...place,
      ...((frames !== undefined || isOurs) && { frames: frames ?? usual.frames }),
      frameSize: frameSize ?? usual.frameSize,
    }
    const rings = {
      rx: usual.frames,
      fill: usual.frames,
      tx: SEND_RING,
      completion: SEND_RING,
      ...options.rings,
    }
    const rest = isOurs ? { ...others, rings } : others
    const longest = shape.frameSize - KERNEL_HEADROOM - (shape.headroom ?? 0)
    if (!(longest > 0))
      throw new OptionError('umem.frameSize', `Frames of ${shape.frameSize} bytes hold no packet`)
    let program: DivertProgram | undefined
    const open = (multiBuffer: boolean) =>
      XdpGroup.open({
        ...rest,
        umem: shape,
        mode: xdpMode,
        multiBuffer,
        program:
          given ??
          (({ queues }) =>
            (program = new DivertProgram({
              queues,
              filter,
              longest: multiBuffer ? MAX_CAPTURED_LENGTH : longest,
            }))),
      })
    const group = hasMultiBuffer(device, rest.copy, options.namespace)
      ? await open(true).catch((error: unknown) => {
          if (error instanceof UnsupportedError) return open(false)
          throw error
        })
      : await open(false)
    return new DivertSource(
      group,
      program,
      new LiveSource(device, options.namespace, snapLength, XDP_REDIRECT),
      latency ?? LATENCY_MS,
      options.batch,
    )
  }

  private constructor(
    group: XdpGroup,
    program: DivertProgram | undefined,
    live: LiveSource,
    latency: number,
    batch: number | undefined,
  ) {
    this.group = group
    this.name = group.interface
    this.#program = program
    this.#live = live
    this.#kernel = group.statistics().kernel
    const setClock = () => program?.setClock(live.clock.offset)
    setClock()
    live.clock.onSet = setClock
    this.#queues = group.sockets.map((socket) => new DivertQueue(socket, live, batch))
    this.#room = this.#queues.reduce((sum, { room }) => sum + room, 0)
    this.#pace = new Pace(
      {
        take: () => this.#take(),
        watch: () => {
          this.#armBell()
          this.#isWatching = true
          this.#drive()
        },
        ignore: () => {
          this.#isWatching = false
          this.#control.abort()
        },
        failed: (error) => live.end(error),
      },
      program ? latency : boundedWait(latency, this.#room * PACKET_BYTES),
      program !== undefined,
    )
  }

  /** What is less than was asked for. */
  get warnings(): readonly GroupWarning[] {
    return this.group.warnings
  }

  /** The kernel's counters of the sockets, as of the last `stats()`. */
  get kernel(): KernelStatistics {
    return this.#kernel
  }

  /** See `LiveSource.makePromiscuous`. */
  makePromiscuous(): void {
    this.#live.makePromiscuous()
  }

  start(sink: PacketSink): void {
    this.#live.start(sink)
    if (!this.#live.isPaused) this.#look()
  }

  pause(): void {
    this.#live.pause()
    this.#rest()
  }

  resume(): void {
    this.#live.resume()
    if (this.#isOpen && !this.#isStopped && this.#live.isStarted) this.#look()
  }

  async stop(): Promise<void> {
    if (!this.#isOpen || this.#isStopped) return
    this.#isStopped = true
    this.group.attachment?.detach()
    this.#rest()
    await turn()
    await this.#run
    const live = this.#live
    if (!live.isStarted) return
    try {
      while (!live.hasEnded && this.#isOpen) {
        live.goOn()
        if (this.#receive() === 0 && !live.isPaused) break
        await turn()
        await live.opened()
      }
    } catch (error) {
      live.end(error as Error)
    }
  }

  lost(): number {
    this.#countKernel()
    return this.#live.stats.dropped.kernel
  }

  stats(): SourceStatistics {
    this.#count()
    const { stats } = this.#live
    return { ...stats, dropped: { ...stats.dropped } }
  }

  async close(): Promise<void> {
    if (!this.#isOpen) return
    this.#count()
    this.#isOpen = false
    this.#live.close()
    this.#rest()
    await this.#run
    await this.group.close()
  }

  #count(): void {
    if (this.#isOpen) this.#live.countInterface()
    this.#countKernel()
  }

  #countKernel(): void {
    if (!this.#isOpen) return
    const { dropped } = this.#live.stats
    try {
      this.#kernel = this.group.statistics().kernel
      // fillRingEmpty counts attempts to find a frame; the packet that found none is in rxDropped (__xsk_rcv).
      dropped.kernel = this.#kernel.rxDropped + this.#kernel.rxRingFull + (this.#program?.tooLong ?? 0)
    } catch {
      // The sockets are closed: the last counts stand.
    }
  }

  #look(): void {
    this.#program?.bell.watch(this.#onBell)
    this.#pace.start()
  }

  /** No looks until `#look`. */
  #rest(): void {
    this.#program?.bell.unwatch()
    this.#pace.stop()
  }

  /** It rings when frames run out, from what is used now. */
  #armBell(): void {
    for (const { queue, room } of this.#queues) this.#program?.ringAfter(queue, Math.ceil(room * FILLED))
  }

  /** Frames run out. */
  readonly #onBell = (): void => {
    this.#armBell()
    this.#pace.hurry()
  }

  /** Hands on what is there, and says how much of the room that was. */
  #take(): number {
    this.#armBell()
    let taken = 0
    while (!this.#live.isPaused && taken < this.#room) {
      const count = this.#receive()
      if (count === 0) break
      taken += count
    }
    return taken < MANY ? 0 : taken / this.#room
  }

  /** Hands on a batch of each queue; how many packets that was. */
  #receive(): number {
    let taken = 0
    const live = this.#live
    for (const queue of this.#queues)
      if (this.#isOpen && !live.hasEnded && !live.isPaused) taken += queue.receive()
    return taken
  }

  #drive(): void {
    if (this.#run || !this.#isWatching || this.#isStopped || this.#live.hasEnded) return
    this.#run = this.#runGroup().finally(() => {
      this.#run = undefined
      // Watched again while the last packets before were being handed on.
      if (this.#isOpen) this.#drive()
    })
  }

  async #runGroup(): Promise<void> {
    this.#control = new AbortController()
    const { signal } = this.#control
    await turn()
    try {
      const handedOn = () => this.#pace.begin()
      if (!signal.aborted) await Promise.all(this.#queues.map((queue) => queue.run(handedOn, { signal })))
    } catch (error) {
      this.#live.end(error as Error)
    } finally {
      this.group.stop()
    }
  }
}

/** Whether packets may be in several frames without giving up zero copy for it, as far as the driver tells. */
function hasMultiBuffer(
  { index }: Interface,
  copy: XdpGroupOptions['copy'],
  namespace: Namespace | undefined,
): boolean {
  return copy === 'copy' || getDeviceFeatures(index, { namespace })?.zeroCopyMaxSegments !== 1
}
