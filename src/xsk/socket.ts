// XdpSocket: the packets of one queue, received and sent over the rings of an AF_XDP socket.
import { KernelError, OptionError, StateError, inNamespace, native } from '../kernel/index.js'
import { getInterface } from '../kernel/interfaces.js'
import { attachXdp, type XdpAttachment } from '../bpf/index.js'
import { countQueues } from '../nic/queues.js'
import { RedirectProgram } from '../programs/redirect.js'
import * as binding from './binding.js'
import { CompletionRing } from './completion-ring.js'
import { FillRing } from './fill-ring.js'
import { FramePool } from './frame-pool.js'
import { drainSocket, runBusy, runOnEvents, type RunOptions } from './loop.js'
import {
  checkOptions,
  type CheckedOptions,
  type CopyMode,
  type XdpMode,
  type XdpSocketOptions,
} from './options.js'
import { XdpPacket, type PacketHandler } from './packet.js'
import { RxRing } from './rx-ring.js'
import {
  COUNTER,
  COUNTERS,
  readKernelStatistics,
  type FrameCensus,
  type SocketStatistics,
} from './statistics.js'
import { TxBatch } from './tx-batch.js'
import { TxRing } from './tx-ring.js'
import { MSG_DONTWAIT } from './uapi.js'
import { Umem } from './umem.js'

// Errors of a wake-up that mean "later": the kernel's batch budget is used up, the device's queue is full,
// no memory now, the device is down (net/xdp/xsk.c: __xsk_generic_xmit).
const EAGAIN = 11
const EBUSY = 16
const ENETDOWN = 100
const ENOBUFS = 105
const LATER = new Set([EAGAIN, EBUSY, ENETDOWN, ENOBUFS])

/** What was asked for and what the kernel gave. */
export interface Granted<Asked, Got> {
  asked: Asked
  got: Got
  /** Why it is not the better one, where that is known. */
  why?: string
}

/** Everything `XdpSocket.open` has made, for the constructor. */
interface Parts {
  fd: number
  umem: Umem
  ownsUmem: boolean
  rings: binding.MappedRings
  options: CheckedOptions
  zeroCopy: boolean
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
  /** Frames that nobody uses at the moment. */
  readonly pool: FramePool
  /** The whole UMEM. */
  readonly bytes: Uint8Array
  readonly needWakeup: boolean
  readonly busyPoll: boolean
  readonly copy: Granted<CopyMode, 'copy' | 'zero-copy'>

  readonly #parts: Parts
  readonly #fill: FillRing
  readonly #completion: CompletionRing
  readonly #rx: RxRing
  readonly #tx: TxRing
  readonly #packet: XdpPacket
  readonly #batch: number
  readonly #frameMask: number
  readonly #fillTarget: number
  readonly #counters = new Float64Array(COUNTERS)
  readonly #txBatch: TxBatch
  // Frames on loan: to the kernel for receiving (or in the RX ring), to the caller, to the kernel for sending.
  #lentRx = 0
  #held = 0
  #lentTx = 0
  // TX slots reserved, and of those written but not committed yet.
  #txReserved = 0
  #txPending = 0
  #receiving = false
  #closed = false
  #steering: { attachment: XdpAttachment; program: RedirectProgram } | undefined
  #stopRunning: (() => void) | undefined

  private constructor(parts: Parts) {
    const { umem, rings, options } = parts
    this.#parts = parts
    this.interface = options.interface
    this.queue = options.queue
    this.umem = umem
    this.bytes = umem.bytes
    this.pool = new FramePool(umem, { track: options.trackFrames })
    this.needWakeup = options.needWakeup
    this.busyPoll = options.busyPoll !== undefined
    this.copy = { asked: options.copy, got: parts.zeroCopy ? 'zero-copy' : 'copy' }
    this.#fill = new FillRing(rings.fill)
    this.#completion = new CompletionRing(rings.completion)
    this.#rx = new RxRing(rings.rx)
    this.#tx = new TxRing(rings.tx)
    this.#packet = new XdpPacket(umem.bytes, umem.view, options.queue)
    this.#batch = options.batch
    this.#frameMask = ~(umem.frameSize - 1)
    // Half the frames stay out of the fill ring, so that there is always something to send with.
    const spare = Math.min(options.rings.tx, umem.frames >> 1)
    this.#fillTarget = Math.min(options.rings.fill, umem.frames - spare)
    this.#txBatch = new TxBatch(this)
  }

  /**
   * Opens a socket and, unless told otherwise, attaches the program that redirects the queue's packets to it.
   *
   * Throws `OptionError` for what cannot be asked, `NotFoundError` for an unknown interface, `KernelError` with
   * the failing call and advice otherwise: nothing is left behind then.
   */
  static async open(options: XdpSocketOptions): Promise<XdpSocket> {
    const checked = checkOptions(options)
    const device = getInterface(checked.interface, { namespace: checked.namespace })
    const queues = countQueues(checked.interface, { namespace: checked.namespace })
    if (checked.queue >= queues.rx) {
      throw new OptionError(
        'queue',
        `${checked.interface} has no queue ${checked.queue}; it has ${queues.rx}, numbered from 0`,
        `Use a queue from 0 to ${queues.rx - 1}, or add queues with \`ethtool -L\`.`,
      )
    }
    const fd = binding.openSocket(checked.namespace)
    const ownsUmem = !(checked.umem instanceof Umem)
    let umem: Umem | undefined
    let rings: binding.MappedRings | undefined
    let socket: XdpSocket | undefined
    try {
      umem = checked.umem instanceof Umem ? checked.umem : Umem.create(checked.umem)
      umem.register(fd)
      rings = binding.createRings(fd, checked.rings)
      if (checked.busyPoll) binding.setBusyPoll(fd, checked.busyPoll)
      binding.raiseTxBudget(fd, checked.rings.tx)
      const parts = { fd, umem, ownsUmem, rings, options: checked, zeroCopy: false }
      await binding.bindSocket(fd, {
        interface: checked.interface,
        ifindex: device.index,
        queue: checked.queue,
        // A zero-copy socket hears nothing from a generic program, so the kernel must not choose zero copy there.
        copy: checked.mode === 'generic' ? 'copy' : checked.copy,
        needWakeup: checked.needWakeup,
      })
      parts.zeroCopy = binding.isZeroCopy(fd)
      socket = new XdpSocket(parts)
      socket.#refill()
      socket.#steer(queues.maxRx)
      return socket
    } catch (error) {
      if (socket) await socket.close()
      else {
        native.close(fd)
        rings?.close()
        if (ownsUmem) umem?.close()
      }
      throw error
    }
  }

  /** The mode of the program this socket attached; undefined when it attached none. */
  get mode(): Granted<XdpMode, 'native' | 'generic' | 'hardware'> | undefined {
    if (!this.#steering) return undefined
    const { mode, fallbackReason } = this.#steering.attachment
    return { asked: this.#parts.options.mode, got: mode, ...(fallbackReason ? { why: fallbackReason } : {}) }
  }

  /** The attachment of the program this socket attached itself; undefined when it attached none. */
  get attachment(): XdpAttachment | undefined {
    return this.#steering?.attachment
  }

  get closed(): boolean {
    return this.#closed
  }

  /** The socket's descriptor, for poll and for XSKMAPs. It stays the socket's. */
  get fd(): number {
    return this.#parts.fd
  }

  // ---------------------------------------------------------------- receiving

  /**
   * Gives up to `budget` packets that are there to `handler` and answers how many: 0 when there were none.
   * Never waits. What handlers transmit has been handed to the kernel when it returns.
   */
  receive(handler: PacketHandler, budget: number = this.#batch): number {
    if (this.#closed) throw new StateError('The socket is closed')
    if (this.#receiving) throw new StateError('receive was called from within a packet handler')
    const rx = this.#rx
    const count = rx.peek(budget)
    if (count === 0) {
      if (this.#lentTx > 0 || this.#txPending > 0) this.flush()
      this.#refill()
      return 0
    }
    const packet = this.#packet
    const pool = this.pool
    let taken = 0
    let bytes = 0
    this.#receiving = true
    try {
      while (taken < count) {
        const address = rx.address(taken)
        const length = rx.length(taken)
        taken++
        bytes += length
        packet.offset = address
        packet.length = length
        packet.frame = (address & this.#frameMask) >>> 0
        this.#lentRx--
        this.#held++
        const verdict = handler(packet)
        if (verdict === undefined) {
          this.#held--
          pool.put(address)
        } else if (verdict === 'transmit') {
          this.transmit(packet.offset, packet.length)
        }
      }
    } catch (error) {
      // Whether the handler threw or returned a packet that cannot be sent, its frame is still held.
      this.#held--
      pool.put(packet.frame)
      throw error
    } finally {
      this.#receiving = false
      rx.release(taken)
      const counters = this.#counters
      counters[COUNTER.rxPackets] += taken
      counters[COUNTER.rxBytes] += bytes
      counters[COUNTER.batches]++
      if (!this.#closed) {
        if (this.#lentTx > 0) this.flush()
        this.#refill()
      }
    }
    return count
  }

  /**
   * Gives packets to `handler` as they come, until `signal` aborts, `stop()` or `close()` is called (resolves),
   * or the handler throws or the device goes away (rejects). Waits on the event loop; with `busyPoll`, polls.
   */
  async run(handler: PacketHandler, options: RunOptions = {}): Promise<void> {
    if (this.#closed) throw new StateError('The socket is closed')
    if (this.#stopRunning) throw new StateError('The socket is running already')
    const control = new AbortController()
    const stop = () => control.abort()
    this.#stopRunning = stop
    options.signal?.addEventListener('abort', stop, { once: true })
    if (options.signal?.aborted) stop()
    try {
      await (this.busyPoll ? runBusy : runOnEvents)(this, handler, control.signal, options)
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
    let batch: Uint8Array[] = []
    const control = new AbortController()
    while (!this.#closed) {
      if (this.receive((packet) => void batch.push(packet.copy())) === 0) {
        // Wait for the first packet only: the loop above takes what came with it.
        await this.run(
          (packet) => {
            batch.push(packet.copy())
            this.stop()
          },
          { signal: control.signal, budget: 1 },
        )
      }
      yield* batch
      batch = []
    }
  }

  /** Makes one system call that lets the kernel receive: needed when `needsWakeup`, and to busy-poll. */
  wake(): void {
    this.#counters[COUNTER.rxWakeups]++
    const result = native.recv(this.#parts.fd, null, MSG_DONTWAIT)
    if (result < 0 && !LATER.has(-result)) throw this.#gone('recvfrom', -result)
  }

  /** The kernel has stopped receiving until the next `wake()`. */
  get needsWakeup(): boolean {
    return this.#fill.needsWakeup
  }

  // ---------------------------------------------------------------- sending

  /** Puts a copy of `packet` in the TX ring. False when there is no room now. Call `flush` after the last one. */
  send(packet: Uint8Array): boolean {
    if (packet.length > this.umem.frameSize) {
      throw new OptionError(
        'packet',
        `A packet of ${packet.length} bytes does not fit a frame of ${this.umem.frameSize}`,
      )
    }
    const frame = this.allocate()
    if (frame < 0) return false
    this.bytes.set(packet, frame)
    return this.transmit(frame, packet.length)
  }

  /** Reserves up to `count` frames to write packets into. One reservation at a time: the object is reused. */
  reserve(count: number): TxBatch {
    if (this.#closed) throw new StateError('The socket is closed')
    return this.#txBatch.take(count)
  }

  /** Takes a free frame to hold: its address, or -1 when there is none. */
  allocate(): number {
    if (this.#closed) throw new StateError('The socket is closed')
    if (this.pool.available === 0) this.#reap()
    const frame = this.pool.take()
    if (frame >= 0) this.#held++
    return frame
  }

  /** Frees a held frame: any address inside it will do. */
  release(address: number): void {
    this.#held--
    this.pool.put(address)
    if (!this.#receiving) this.#refill()
  }

  /**
   * Puts a held frame in the TX ring: `length` bytes from `address`, all within one frame. The frame is the
   * kernel's from then on. False, with the frame freed, when the ring is full. Call `flush` after the last one.
   */
  transmit(address: number, length: number): boolean {
    const frame = (address & this.#frameMask) >>> 0
    // The kernel would refuse the descriptor, count it as invalid and never give the frame back.
    if (!(length > 0) || address + length > frame + this.umem.frameSize || frame >= this.bytes.length) {
      throw new OptionError('length', `${length} bytes from ${address} are not a packet within one frame`)
    }
    const room = this.#txPending < this.#txReserved || this.#reserveTx()
    this.#held--
    if (!room) {
      this.#counters[COUNTER.txDropped]++
      this.pool.put(address)
      return false
    }
    this.#tx.set(this.#txPending++, address, length)
    this.#lentTx++
    this.#counters[COUNTER.txPackets]++
    this.#counters[COUNTER.txBytes] += length
    return true
  }

  /** Hands over what was put in the TX ring, wakes the kernel if it needs it, and takes back the frames it has sent. */
  flush(): void {
    if (this.#closed) throw new StateError('The socket is closed')
    this.#commitTx()
    if (this.#lentTx === 0) return
    let before = this.#tx.level
    this.#reap()
    while (before > 0 && (!this.needWakeup || this.#tx.needsWakeup)) {
      this.#counters[COUNTER.txWakeups]++
      const result = native.send(this.#parts.fd, null, MSG_DONTWAIT)
      if (result < 0 && !LATER.has(-result)) throw this.#gone('sendto', -result)
      this.#reap()
      // A result says nothing about how much was sent; the ring does. No progress means: later.
      const after = this.#tx.level
      if (after >= before) break
      before = after
    }
  }

  /** Packets put in the TX ring that the kernel has not taken yet. */
  get txPending(): number {
    return this.#txPending + this.#tx.level
  }

  /** Frames that the kernel has not given back from sending. */
  get txOutstanding(): number {
    return this.#lentTx
  }

  /** Nothing can be received until frames come back from sending. */
  get starved(): boolean {
    return this.#lentRx === 0 && this.#lentTx > 0
  }

  /** Waits until everything has been sent and its frames are back. Throws `KernelError` ETIMEDOUT when nothing moves for `timeoutMs`. */
  async drain(timeoutMs = 1000): Promise<void> {
    await drainSocket(this, timeoutMs)
  }

  #reserveTx(): boolean {
    this.#commitTx()
    this.#txReserved = this.#tx.reserve(this.#batch)
    if (this.#txReserved > 0) return true
    this.flush()
    this.#txReserved = this.#tx.reserve(this.#batch)
    return this.#txReserved > 0
  }

  #commitTx(): void {
    if (this.#txPending > 0) this.#tx.commit(this.#txPending)
    this.#txPending = 0
    this.#txReserved = 0
  }

  // Takes sent frames back.
  #reap(): void {
    const completion = this.#completion
    const count = completion.peek(completion.size)
    if (count === 0) return
    for (let i = 0; i < count; i++) this.pool.put(completion.address(i))
    completion.release(count)
    this.#lentTx -= count
  }

  // Lends the kernel frames to receive into, as many as it should have.
  #refill(): void {
    const wanted = Math.min(this.#fillTarget - this.#lentRx, this.pool.available)
    if (wanted > 0) {
      const fill = this.#fill
      const count = fill.reserve(wanted)
      for (let i = 0; i < count; i++) fill.set(i, this.pool.take())
      fill.commit(count)
      this.#lentRx += count
    }
    if (this.#fill.needsWakeup) this.wake()
  }

  // ---------------------------------------------------------------- the rest

  #steer(maxQueues: number): void {
    const { options, fd } = this.#parts
    if (options.xskMap) {
      options.xskMap.update(options.queue, fd)
      return
    }
    if (options.attach === 'none') return
    const program = inNamespace(options.namespace, () => RedirectProgram.load({ queues: maxQueues }))
    try {
      program.sockets.update(options.queue, fd)
      const attachment = attachXdp(program.program, {
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

  /** Everything this socket and the kernel count for it. */
  statistics(): SocketStatistics {
    if (this.#closed) throw new StateError('The socket is closed')
    const counters = this.#counters
    return {
      rx: { packets: counters[COUNTER.rxPackets], bytes: counters[COUNTER.rxBytes] },
      tx: { packets: counters[COUNTER.txPackets], bytes: counters[COUNTER.txBytes] },
      txDropped: counters[COUNTER.txDropped],
      batches: counters[COUNTER.batches],
      wakeups: { rx: counters[COUNTER.rxWakeups], tx: counters[COUNTER.txWakeups] },
      kernel: readKernelStatistics(this.#parts.fd),
      levels: {
        fill: this.#fill.level,
        rx: this.#rx.level,
        tx: this.#tx.level,
        completion: this.#completion.level,
      },
      frames: this.frames(),
    }
  }

  /** Where the frames are now. */
  frames(): FrameCensus {
    const rx = this.#rx.level
    const completion = this.#completion.level
    return {
      total: this.pool.total,
      free: this.pool.available,
      fill: this.#lentRx - rx,
      rx,
      held: this.#held,
      tx: this.#lentTx - completion,
      completion,
    }
  }

  #gone(syscall: string, errno: number): KernelError {
    return new KernelError(syscall, errno, {
      about: `${this.interface} queue ${this.queue}`,
      hint:
        errno === 6
          ? `The interface ${this.interface} is gone; open the socket again when it is back.`
          : undefined, // ENXIO
    })
  }

  /** The error the kernel left on the socket, as one to throw. */
  takeError(): KernelError {
    return this.#gone('poll', binding.takeError(this.#parts.fd) || ENETDOWN)
  }

  /**
   * Detaches the program this socket attached, closes the socket and gives its memory back. Packets not yet
   * read are lost; call `drain` first to be sure that what was put in the TX ring has left. Closing twice is harmless.
   */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    this.#stopRunning?.()
    // A turn of the event loop, so that `run` has closed its watcher before the descriptor goes.
    await new Promise((resolve) => setImmediate(resolve))
    this.#steering?.attachment.detach()
    this.#steering?.program.close()
    this.#steering = undefined
    native.close(this.#parts.fd)
    this.#parts.rings.close()
    if (this.#parts.ownsUmem) this.umem.close()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }
}
