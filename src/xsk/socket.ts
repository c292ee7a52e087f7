// XdpSocket: the packets of one queue, received and sent over the rings of an AF_XDP socket.
import { ENETDOWN } from '../kernel/errno.js'
import { type KernelError, StateError, inNamespace, native, type Namespace } from '../kernel/index.js'
import type { XdpAttachment } from '../bpf/index.js'
import { RedirectProgram } from '../programs/redirect.js'
import * as binding from './binding.js'
import { DataPath } from './data-path.js'
import type { Fragments } from './fragments.js'
import { FramePool } from './frame-pool.js'
import { drain, runBusy, runOnEvents, type RunOptions } from './loop.js'
import {
  checkOptions,
  type CheckedOptions,
  type CopyMode,
  type Granted,
  type XdpMode,
  type XdpSocketOptions,
} from './options.js'
import type { PacketHandler } from './packet.js'
import type { PacketRows, RowsHandler } from './packet-rows.js'
import type { LocalLink } from './shared-frames.js'
import { takeSeat, type SharedQueue, type SharedQueueSeat } from './shared-queue.js'
import {
  openBoundSocket,
  type BoundSocket,
  type BoundSocketDescription,
  type FrameShare,
} from './shared-socket.js'
import { attachSteering } from './steering.js'
import { COUNTER, readKernelStatistics, type FrameCensus, type SocketStatistics } from './statistics.js'
import type { TxBatch } from './tx-batch.js'
import { Umem } from './umem.js'

/** What one thread needs to drive a bound socket. */
interface Parts {
  bound: BoundSocket
  rings: binding.MappedRings
  /** Other sockets of this thread with frames in the same UMEM. */
  link?: LocalLink | undefined
  /** Where another thread reads the counts. */
  counters?: Float64Array | undefined
  /** What is between `rings` and the kernel's, when other threads have sockets on the same queue. */
  shared?: SharedQueue | undefined
}

/**
 * An AF_XDP socket on one queue of an interface.
 *
 * Three ways to its packets, over one implementation: `receive(handler)` takes what is there, synchronously;
 * `run(handler)` is driven by the event loop, or busy-polls; `for await (const packet of socket)` yields copies.
 * A socket belongs to the thread that opened it. Kernel 4.18; with every feature 5.11. Needs CAP_NET_RAW, and
 * CAP_NET_ADMIN and CAP_BPF to attach the program.
 */
export class XdpSocket implements AsyncDisposable {
  readonly interface: string
  readonly queue: number
  readonly umem: Umem
  /** The whole UMEM. */
  readonly bytes: Uint8Array
  readonly needWakeup: boolean
  /** Whether packets may be in several frames. */
  readonly multiBuffer: boolean
  readonly busyPoll: boolean
  readonly copy: Granted<CopyMode, 'copy' | 'zero-copy'>
  readonly #parts: Parts
  readonly #path: DataPath
  #steering: { attachment: XdpAttachment; program: RedirectProgram } | undefined
  #stopRunning: (() => void) | undefined
  #closing: Promise<void> | undefined

  private constructor(parts: Parts) {
    const { bound, rings, link } = parts
    const { fd, umem, slice, options } = bound
    this.#parts = parts
    this.interface = options.interface
    this.queue = options.queue
    this.umem = umem
    this.bytes = umem.bytes
    this.needWakeup = options.needWakeup
    this.multiBuffer = options.multiBuffer
    this.busyPoll = options.busyPoll !== undefined
    this.copy = { asked: options.copy, got: bound.zeroCopy ? 'zero-copy' : 'copy' }
    this.#path = new DataPath({
      bytes: umem.bytes,
      view: umem.view,
      frameSize: umem.frameSize,
      pool: new FramePool(umem, { ...slice, range: bound.range, track: options.trackFrames }),
      rings,
      doorbell: {
        receive: native.bindReceive(fd),
        send: native.bindSend(fd),
      },
      batch: options.batch,
      needWakeup: options.needWakeup,
      multiBuffer: options.multiBuffer,
      interface: options.interface,
      queue: options.queue,
      counters: parts.counters,
      link,
      shared: parts.shared,
    })
    link?.join(slice, this.#path)
  }

  /**
   * Opens a socket and, unless told otherwise, attaches the program that redirects the queue's packets to it.
   *
   * Throws `OptionError` for what cannot be asked, `NotFoundError` for an unknown interface, `KernelError` with
   * the failing call and advice otherwise: nothing is left behind then.
   */
  static async open(options: XdpSocketOptions): Promise<XdpSocket> {
    return XdpSocket.openChecked(checkOptions(options))
  }

  /** As `open`, for `XdpGroup`: with the slice of a memory that other sockets share, and the link to them. */
  static async openChecked(
    options: CheckedOptions,
    share?: FrameShare & { link: LocalLink },
  ): Promise<XdpSocket> {
    const bound = await openBoundSocket(options, share)
    let socket: XdpSocket | undefined
    try {
      const rings = binding.mapRings(bound.fd, bound.options.rings)
      socket = new XdpSocket({ bound, rings, link: share?.link })
      socket.#path.refill()
      socket.#steer(bound.maxQueues)
      return socket
    } catch (error) {
      if (socket) await socket.close()
      else bound.close()
      throw error
    }
  }

  /**
   * Drives, in this thread, a socket that another thread has opened, has described, and closes: closing this one only
   * unmaps its memory. Counts go to `counters`. With `beside` it is one of several on its queue.
   */
  static adopt(
    description: BoundSocketDescription,
    counters?: Float64Array,
    beside?: SharedQueueSeat,
  ): XdpSocket {
    const { fd, interface: name, queue, rings: sizes, slice, range, zeroCopy, options } = description
    const umem = Umem.borrow(description.umem)
    try {
      const bound: BoundSocket = {
        fd,
        options: { ...checkOptions({ interface: name, queue, attach: 'none' }), ...options, rings: sizes },
        umem,
        slice,
        range,
        zeroCopy,
        maxQueues: 0,
        close: () => umem.close(),
      }
      const mapped = binding.mapRings(fd, sizes)
      const seat = beside && takeSeat(beside, mapped, sizes)
      const socket = new XdpSocket({ bound, rings: seat?.rings ?? mapped, counters, shared: seat?.shared })
      socket.#path.refill()
      return socket
    } catch (error) {
      umem.close()
      throw error
    }
  }

  #steer(maxQueues: number): void {
    const { options, fd } = this.#parts.bound
    if (options.xskMap) {
      options.xskMap.update(options.queue, fd)
      return
    }
    if (options.attach === 'none') return
    const program = inNamespace(options.namespace, () => RedirectProgram.load({ queues: maxQueues }))
    try {
      program.sockets.update(options.queue, fd)
      const attachment = attachSteering(program, {
        multiBuffer: options.multiBuffer,
        interface: options.interface,
        namespace: options.namespace,
        mode: this.copy.got === 'zero-copy' ? 'native' : options.mode,
        attach: options.attach,
      })
      this.#steering = { attachment, program }
    } catch (error) {
      program.close()
      throw error
    }
  }

  /** The mode of the program this socket attached; undefined when it attached none. */
  get mode(): Granted<XdpMode, 'native' | 'generic' | 'hardware'> | undefined {
    if (!this.#steering) return undefined
    const { mode, fallbackReason } = this.#steering.attachment
    return {
      asked: this.#parts.bound.options.mode,
      got: mode,
      ...(fallbackReason ? { why: fallbackReason } : {}),
    }
  }

  /** The attachment of the program this socket attached itself; undefined when it attached none. */
  get attachment(): XdpAttachment | undefined {
    return this.#steering?.attachment
  }

  get closed(): boolean {
    return this.#path.closed
  }

  /** The namespace it was opened in, as it was given. */
  get namespace(): Namespace | undefined {
    return this.#parts.bound.options.namespace
  }

  /** The socket's descriptor, for poll and for XSKMAPs. It stays the socket's. */
  get fd(): number {
    return this.#parts.bound.fd
  }

  // ---------------------------------------------------------------- receiving

  /**
   * Gives up to `budget` packets that are there to `handler` and answers how many: 0 when there were none.
   * Never waits. What handlers transmit has been handed to the kernel when it returns.
   */
  receive(handler: PacketHandler, budget?: number): number {
    return this.#path.receive(handler, budget)
  }

  /**
   * As `receive`, for whoever wants many packets at once and keeps none of their frames: writes where the packets are into `rows`,
   * as many as there is room for, and calls `handler` once. The frames are free when it returns, or throws. Answers how many
   * packets that were: 0 when there were none, and also when the next one is in several frames, which is for `receive` to take.
   */
  receiveBatch(rows: PacketRows, handler: RowsHandler): number {
    return this.#path.receiveBatch(rows, handler)
  }

  /**
   * Gives packets to `handler` as they come, until `signal` aborts, `stop()` or `close()` is called (resolves),
   * or the handler throws or the device goes away (rejects). Waits as `wait` says; with `busyPoll`, not at all.
   */
  async run(handler: PacketHandler, options: RunOptions = {}): Promise<void> {
    if (this.closed) throw new StateError('The socket is closed')
    if (this.#stopRunning) throw new StateError('The socket is running already')
    const control = new AbortController()
    const stop = () => control.abort()
    this.#stopRunning = stop
    options.signal?.addEventListener('abort', stop, { once: true })
    if (options.signal?.aborted) stop()
    const way = {
      path: this.#path,
      fd: this.#parts.bound.fd,
      takeError: () => this.#takeError(),
      handler,
      budget: options.budget,
      wait: options.wait ?? this.#parts.bound.options.wait,
      handles: options.handles,
      signal: control.signal,
    }
    try {
      await (this.busyPoll ? runBusy(way) : runOnEvents(way))
    } finally {
      options.signal?.removeEventListener('abort', stop)
      this.#stopRunning = undefined
    }
  }

  /** Ends `run`, after the batch it is at. */
  stop(): void {
    this.#stopRunning?.()
  }

  /** Packets as copies, one at a time. The socket is not read ahead: what nobody asks for waits in the ring. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array, void, void> {
    let next: Uint8Array | undefined
    const take: PacketHandler = (packet) => {
      next = packet.copy()
      this.stop()
    }
    while (!this.closed) {
      next = undefined
      // One at a time: a consumer that leaves the loop has lost nothing.
      if (this.receive(take, 1) === 0) await this.run(take, { budget: 1 })
      if (next !== undefined) yield next
    }
  }

  /** Makes one system call that lets the kernel receive: for busy-polling with `receive`. */
  wake(): void {
    this.#path.wake()
  }

  // ---------------------------------------------------------------- sending

  /**
   * Puts a copy of `packet` in the TX ring; with `multiBuffer` also one that is longer than a frame, in up to 18 of them. False when
   * there is no room now. Call `flush` after the last one.
   */
  send(packet: Uint8Array): boolean {
    return this.#path.send(packet)
  }

  /** Reserves up to `count` frames to write packets into. One reservation at a time: the object is reused. */
  reserve(count: number): TxBatch {
    return this.#path.reserve(count)
  }

  /** Takes a free frame to hold: its address in `bytes`, or -1 when there is none. */
  allocate(): number {
    return this.#path.allocate()
  }

  /** Frees a held frame: any address inside it will do. */
  release(address: number): void {
    this.#path.release(address)
  }

  /**
   * Puts a held frame in the TX ring: `length` bytes from `address`, all within one frame. The frame is the
   * kernel's from then on. In a group it may be a frame of another socket, whose own it is again once it has been
   * sent: so a handler forwards a packet without a copy, by `other.transmit(packet.offset, packet.length)`. False, with the frame freed, when the ring is full. Call `flush` after the last one.
   */
  transmit(address: number, length: number): boolean {
    return this.#path.transmit(address, length)
  }

  /**
   * As `transmit`, for a packet in several frames: the one in hand, also of another socket of the group, or what its `keep` answered.
   * All its frames leave, or when there is no room all are freed. Throws `OptionError` without `multiBuffer`.
   */
  transmitFragments(packet: Fragments): boolean {
    return this.#path.transmitFragments(packet)
  }

  /** Frees all frames of a held packet. */
  releaseFragments(packet: Fragments): void {
    this.#path.releaseFragments(packet)
  }

  /** Hands over what was put in the TX ring, wakes the kernel if it needs it, and takes back the frames it has sent. */
  flush(): void {
    this.#path.flush()
  }

  /** Packets (with `multiBuffer` frames) put in the TX ring that the kernel has not taken yet. */
  get txPending(): number {
    return this.#path.txWaiting
  }

  /** Waits until everything has been sent and its frames are back. Throws `KernelError` ETIMEDOUT when nothing moves for `timeoutMs`. */
  async drain(timeoutMs = 1000): Promise<void> {
    await drain(this.#path, timeoutMs)
  }

  // ---------------------------------------------------------------- the rest

  /** Everything this socket and the kernel count for it. */
  statistics(): SocketStatistics {
    if (this.closed) throw new StateError('The socket is closed')
    const { counters } = this.#path
    return {
      rx: { packets: counters[COUNTER.rxPackets], bytes: counters[COUNTER.rxBytes] },
      tx: { packets: counters[COUNTER.txPackets], bytes: counters[COUNTER.txBytes] },
      txDropped: counters[COUNTER.txDropped],
      batches: counters[COUNTER.batches],
      wakeups: { rx: counters[COUNTER.rxWakeups], tx: counters[COUNTER.txWakeups] },
      kernel: readKernelStatistics(this.#parts.bound.fd),
      levels: this.#path.levels(),
      frames: this.#path.frames(),
    }
  }

  /** Where the frames are now. */
  frames(): FrameCensus {
    return this.#path.frames()
  }

  // The error the kernel left on the socket: a device that went away leaves ENETDOWN.
  #takeError(): KernelError {
    return this.#path.failure('poll', binding.takeError(this.#parts.bound.fd) || ENETDOWN)
  }

  /**
   * Detaches the program this socket attached, closes the socket and gives its memory back. Packets not yet
   * read are lost; call `drain` first to be sure that what was put in the TX ring has left. Closing twice is harmless.
   */
  async close(): Promise<void> {
    this.#closing ??= this.#close()
    await this.#closing
  }

  async #close(): Promise<void> {
    this.#path.close()
    this.#stopRunning?.()
    // A turn of the event loop, so that `run` has closed its watcher before the descriptor goes.
    await new Promise((resolve) => setImmediate(resolve))
    const steering = this.#steering
    this.#steering = undefined
    try {
      steering?.attachment.detach()
    } finally {
      // Also when the program could not be detached, because its namespace is closed, say.
      steering?.attachment.close()
      steering?.program.close()
      this.#parts.rings.close()
      this.#parts.bound.close()
      this.#parts.link?.leave(this.#path)
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }
}
