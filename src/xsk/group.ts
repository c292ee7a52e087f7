// One socket a queue over one memory, behind one program a device: driven by one thread, or by a worker each.
import { OptionError, StateError } from '../kernel/index.js'
import type { XdpAttachment } from '../bpf/index.js'
import type { RunOptions } from './loop.js'
import type { PacketHandler } from './packet.js'
import { LocalLink } from './shared-frames.js'
import { GroupParts, addUp, type GroupWarning, type XdpGroupOptions } from './shared-group.js'
import { XdpSocket } from './socket.js'
import type { SocketStatistics } from './statistics.js'
import type { Umem } from './umem.js'
import { XdpWorkerGroup, type XdpWorkerGroupOptions } from './worker-group.js'

export type { GroupDevice, GroupWarning, ProgramShape, XdpGroupOptions } from './shared-group.js'
export type { SteeringProgram } from './steering.js'

/**
 * The sockets of an interface's queues, and of further interfaces' when asked. All have their frames in one UMEM, a
 * slice each, so that a packet received on one may leave by another without a copy (`XdpSocket.transmit`). The programs
 * are attached by link: when the process ends, nothing is left of them. One thread.
 */
export class XdpGroup implements AsyncDisposable {
  /** The first interface. */
  readonly interface: string
  /** The sockets of all devices, those of one behind those of the other. A queue that could not be opened has none: see `warnings`. */
  readonly sockets: readonly XdpSocket[]
  /** The memory of all sockets. */
  readonly umem: Umem
  /** What is less than was asked for. */
  readonly warnings: readonly GroupWarning[]
  readonly #parts: GroupParts
  readonly #batch: number
  // Sockets of the first device: they come first.
  readonly #senders: number
  // Where `receive` and `send` go on.
  #nextReceive = 0
  #nextSend = 0
  #sentHere = 0

  private constructor(parts: GroupParts, sockets: readonly XdpSocket[]) {
    this.interface = parts.devices[0].interface
    this.sockets = sockets
    this.umem = parts.umem
    this.warnings = parts.warnings
    this.#parts = parts
    this.#batch = parts.seats[0].options.batch
    const { interface: name, namespace } = parts.devices[0]
    this.#senders = sockets.filter((s) => s.interface === name && s.namespace === namespace).length
  }

  /**
   * Opens a socket on each queue, then attaches the program. A queue that cannot be opened is left to the kernel, with
   * a warning; throws as `XdpSocket.open` does when none can, or when one cannot and `strict` is set: nothing is left
   * behind then. With a `worker`, the group is one of threads: see `XdpWorkerGroup`.
   */
  static open(options: XdpWorkerGroupOptions): Promise<XdpWorkerGroup>
  static open(options: XdpGroupOptions & { worker?: undefined }): Promise<XdpGroup>
  static async open(options: XdpGroupOptions | XdpWorkerGroupOptions): Promise<XdpGroup | XdpWorkerGroup> {
    if ('worker' in options && options.worker !== undefined) return XdpWorkerGroup.open(options)
    return XdpGroup.openPrepared(options, () => Promise.resolve())
  }

  /** @internal As `open`, for one thread; `prepare` is called once the sockets are open, and no packet comes before it has resolved. */
  static async openPrepared(
    options: XdpGroupOptions,
    prepare: (group: XdpGroup) => Promise<void>,
  ): Promise<XdpGroup> {
    if ('workersPerQueue' in options && options.workersPerQueue !== undefined) {
      throw new OptionError(
        'workersPerQueue',
        'A group without `worker` has no workers',
        'Give it a module to run.',
      )
    }
    const parts = new GroupParts(options)
    const { umem, sliceFrames, seats } = parts
    const link = new LocalLink(seats.length, sliceFrames, umem.frameSize)
    let sockets: (XdpSocket | undefined)[] = []
    try {
      sockets = await parts.openAll(
        seats,
        ({ options, device, share }) =>
          XdpSocket.openChecked({ ...options, xskMap: device.program.sockets }, { ...share, link }),
        (socket) => socket.close(),
      )
      const group = new XdpGroup(
        parts,
        sockets.filter((socket) => socket !== undefined),
      )
      await prepare(group)
      parts.attach((device) =>
        seats.some((seat, i) => seat.device === device && sockets[i]?.copy.got === 'zero-copy'),
      )
      return group
    } catch (error) {
      for (const socket of sockets) await socket?.close()
      parts.closeRest()
      throw error
    }
  }

  /** How the first device's program is attached; undefined with `attach: 'none'`. */
  get attachment(): XdpAttachment | undefined {
    return this.#parts.devices[0].attachment
  }

  /** How the programs are attached, one a device; empty with `attach: 'none'`. */
  get attachments(): readonly XdpAttachment[] {
    return this.#parts.devices.flatMap(({ attachment }) => attachment ?? [])
  }

  /** The sockets that are not closed. */
  get #open(): XdpSocket[] {
    const open = this.sockets.filter((socket) => !socket.closed)
    if (open.length === 0) throw new StateError('The group is closed')
    return open
  }

  /** Gives every socket's packets to `handler` until stopped. Rejects when a handler throws or the device goes away. */
  async run(handler: PacketHandler, options: RunOptions = {}): Promise<void> {
    try {
      await Promise.all(this.#open.map((socket) => socket.run(handler, options)))
    } finally {
      this.stop()
    }
  }

  /** Ends `run`. */
  stop(): void {
    for (const socket of this.sockets) socket.stop()
  }

  /**
   * Gives up to `budget` packets that are there to `handler` and answers how many: 0 when there were none. Never waits.
   * Each call begins with another socket. Default: a batch from each.
   */
  receive(handler: PacketHandler, budget?: number): number {
    const { sockets } = this
    let left = budget ?? Infinity
    let taken = 0
    for (let i = 0; i < sockets.length && left > 0; i++) {
      const socket = sockets[this.#nextReceive++ % sockets.length]
      if (socket.closed) continue
      const count = socket.receive(handler, Math.min(left, this.#batch))
      taken += count
      left -= count
    }
    return taken
  }

  /**
   * Puts a copy of `packet` in a TX ring: packets of one `flow` (any integer; its lowest 32 bits count) in the ring of one queue, which
   * keeps their order; the others a batch at a time in each queue of the first device. False when there is no room now.
   * Call `flush` after the last one.
   */
  send(packet: Uint8Array, flow?: number): boolean {
    const { sockets } = this
    const queues = this.#senders
    if (flow !== undefined) return queues > 0 && sockets[(flow >>> 0) % queues].send(packet)
    if (++this.#sentHere > this.#batch) this.#turn()
    // A full ring, or a closed socket, is another one's turn.
    for (let i = 0; i < queues; i++, this.#turn()) {
      const socket = sockets[this.#nextSend]
      if (!socket.closed && socket.send(packet)) return true
    }
    return false
  }

  #turn(): void {
    this.#nextSend = (this.#nextSend + 1) % this.#senders
    this.#sentHere = 1
  }

  /** Hands over what was put in the TX rings, wakes the kernel if it needs it, and takes back the frames it has sent. */
  flush(): void {
    for (const socket of this.sockets) if (!socket.closed) socket.flush()
  }

  /** Waits until everything has been sent and its frames are back. Throws `KernelError` ETIMEDOUT when nothing moves for `timeoutMs`. */
  async drain(timeoutMs = 1000): Promise<void> {
    await Promise.all(this.#open.map((socket) => socket.drain(timeoutMs)))
  }

  /** The statistics of all sockets that are not closed, added up. */
  statistics(): SocketStatistics {
    return this.#open.map((socket) => socket.statistics()).reduce(addUp)
  }

  /** Detaches the programs, closes the sockets and their memory. Closing twice is harmless. */
  async close(): Promise<void> {
    try {
      this.#parts.closeDevices()
    } finally {
      for (const socket of this.sockets) await socket.close()
      this.#parts.closeUmem()
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }
}
