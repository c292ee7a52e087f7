// Forwards packets between two devices, or back out of one, without copying them.
import { EventEmitter } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { StateError, XdpError, makePromiscuous } from '../kernel/index.js'
import { XdpGroup, type PacketHandler, type RunOptions, type XdpSocket } from '../xsk/index.js'
import {
  checkForward,
  type CheckedForward,
  type CheckedWay,
  type ForwardWarning,
  type ForwarderOptions,
} from './options.js'
import { loadForward } from './program.js'
import { Pipeline } from './pipeline.js'
import type { ForwardWay, StageHandler } from './stage.js'
import type { StageThread } from './stage-thread.js'
import {
  functionStatistics,
  threadStatistics,
  wayStatistics,
  type ForwardStatistics,
  type StageStatistics,
} from './statistics.js'

/** The sockets at both ends of a way. */
interface Ends {
  readonly way: CheckedWay
  readonly receiving: readonly XdpSocket[]
  readonly sending: readonly XdpSocket[]
}

/** The way of one socket's packets. */
interface Path {
  readonly way: CheckedWay
  readonly socket: XdpSocket
  readonly out: XdpSocket
}

// How long packets that are with stages are waited for at the end, and then their threads.
const PATIENCE_MS = 2000
const NO_PATIENCE_MS = 100

/** What a forwarder tells of its stages that have threads. */
export interface ForwarderEvents {
  /** A stage has posted a message on its `port`. */
  message: [message: unknown, stage: StageThread]
  /** A stage's thread has ended by itself; packets wait until the next one starts in so many milliseconds. */
  crash: [error: Error, stage: StageThread, restartInMs: number]
  /** A new thread has taken its place. */
  restart: [stage: StageThread]
  /**
   * A stage's thread has stood still for `stallMs`; once, until it moves again. Packets wait before it meanwhile.
   * `stage.terminate()` has it replaced, without the packet that it was at.
   */
  stall: [warning: ForwardWarning, stage: StageThread]
}

/**
 * Two devices made one link, in both directions, or one whose packets go back out. The sockets of both have their frames
 * in one UMEM: a packet is received, looked at by the stages, and sent, in the same frame. What is received on queue q
 * leaves by queue q of the other device (modulo its number of sockets), so a flow keeps its order. One thread, and one
 * more for each stage that is a module.
 */
export class Forwarder extends EventEmitter<ForwarderEvents> implements AsyncDisposable {
  /** The sockets, those of `in` first, and their memory. */
  readonly group: XdpGroup
  /** The ways through it: from `in` to `out` and from `out` to `in`, or one. */
  readonly ways: readonly ForwardWay[]
  readonly warnings: readonly ForwardWarning[]
  readonly #ends: readonly Ends[]
  readonly #paths: readonly Path[]
  readonly #stages: readonly StageHandler[]
  readonly #pipeline: Pipeline | undefined
  readonly #letGo: (() => void)[]
  // Packets dropped by way: by stages, or lost with the thread of one. And by function and way.
  readonly #dropped = new Float64Array(2)
  readonly #droppedBy: Float64Array
  // What stages had to tell before anybody could listen.
  #untold: (() => void)[] | undefined = []
  #running: Promise<void> | undefined
  // Ends the run, also one that still waits for its threads.
  #control = new AbortController()

  private constructor(
    group: XdpGroup,
    ends: readonly Ends[],
    checked: CheckedForward,
    letGo: (() => void)[],
  ) {
    super()
    const { stages, threads } = checked
    this.group = group
    this.ways = ends.map(({ way: { index, from, to } }) => ({ index, from, to }))
    this.warnings = [...checked.warnings, ...group.warnings]
    this.#ends = ends
    this.#paths = ends.flatMap(({ way, receiving, sending }) =>
      receiving.map((socket): Path => ({ way, socket, out: sending[socket.queue % sending.length] })),
    )
    this.#stages = stages
    this.#droppedBy = new Float64Array(2 * stages.length)
    this.#letGo = letGo
    if (threads.modules.length === 0) return
    this.#pipeline = new Pipeline({
      ...threads,
      umem: group.umem,
      ways: this.ways,
      jobs: this.#paths.map(({ socket, way }) => ({ queue: socket.queue, way: way.index })),
      deliver: (job, address, length, isDropped) => this.#leave(job, address, length, isDropped),
      // Frames that were sent come back by the run of each socket.
      afterBatch: () => group.flush(),
      events: {
        onMessage: (thread, message) => this.#tell(() => this.emit('message', message, thread)),
        onCrash: (thread, error, ms) => this.#tell(() => this.emit('crash', error, thread, ms)),
        onRestart: (thread) => this.#tell(() => this.emit('restart', thread)),
        onFailed: () => this.stop(),
        onStall: (thread) => this.#tell(() => this.#onStall(thread, threads.stallMs)),
      },
    })
  }

  /**
   * Opens a socket on each queue of the devices, starts the threads of stages, then attaches a program to each, by link: when the
   * process ends, everything is as before. Until `run` is called, packets wait in the rings, and what stages tell waits, too. Throws
   * as `XdpGroup.open` does, when one of two devices has no socket at all, and `XdpError` `XDP_STAGE` when a module
   * is no stage; nothing is left behind then.
   */
  static async open(options: ForwarderOptions): Promise<Forwarder> {
    const checked = checkForward(options)
    const { devices, ways, discovery, promiscuous, umem } = checked
    const program =
      options.program ??
      (({ queues }: { queues: number }) => loadForward({ queues, filter: options.filter, discovery }))
    const [first, ...others] = devices.map((device) => ({ ...device, program }))
    const letGo: (() => void)[] = []
    const made: { forwarder?: Forwarder } = {}
    const prepare = async (group: XdpGroup) => {
      const sockets = devices.map((device) => socketsOf(group, device))
      const ends = ways.map((way, i): Ends => {
        return { way, receiving: sockets[i], sending: sockets[sockets.length - 1 - i] }
      })
      made.forwarder = new Forwarder(group, ends, checked, letGo)
      await made.forwarder.#startThreads()
    }
    try {
      const group = await XdpGroup.openPrepared({ ...options, ...first, umem, others }, prepare)
      try {
        if (promiscuous)
          for (const device of devices) letGo.push(makePromiscuous(device.interface, device.namespace))
        return made.forwarder as Forwarder
      } catch (error) {
        await group.close()
        throw error
      }
    } catch (error) {
      for (const undo of letGo.splice(0)) undo()
      if (made.forwarder) await made.forwarder.#endThreads()
      throw error
    }
  }

  async #startThreads(): Promise<void> {
    try {
      await this.#pipeline?.start(this.#control.signal)
    } catch (error) {
      // Before the memory goes that they map.
      await this.#endThreads()
      throw error
    }
  }

  async #endThreads(): Promise<void> {
    await this.#pipeline?.stop(NO_PATIENCE_MS)
  }

  /** The stages that have a thread, in their order. */
  get threads(): readonly StageThread[] {
    return this.#pipeline?.threads ?? []
  }

  /**
   * Forwards until `signal` aborts, or `stop()` or `close()` is called. Rejects when a stage that is a function throws,
   * when one with a thread has crashed too often (see `restart`), or a device goes away. A device that is only down is
   * waited for: what is to leave by it fills its TX rings, and the rest is dropped.
   */
  async run(options: RunOptions = {}): Promise<void> {
    if (this.#running) throw new StateError('The forwarder is running already')
    this.#control = new AbortController()
    for (const event of this.#untold?.splice(0) ?? []) event()
    this.#untold = undefined
    const { signal } = this.#control
    const running = this.#run({
      ...options,
      signal: options.signal ? AbortSignal.any([options.signal, signal]) : signal,
    })
    this.#running = running.catch(() => undefined) // the caller hears of it
    try {
      await running
    } finally {
      this.#running = undefined
    }
  }

  async #run(options: RunOptions & { signal: AbortSignal }): Promise<void> {
    const paths = this.#paths
    const pipeline = this.#pipeline
    // Sleeping in poll(2) would leave what stages' threads hand back waiting.
    const waiting: RunOptions = pipeline ? { ...options, wait: 'event-loop' } : options
    const forward = (handlers: readonly PacketHandler[]) =>
      Promise.all(paths.map(({ socket }, i) => socket.run(handlers[i], waiting)))
    try {
      if (pipeline) await this.#runThreads(pipeline, forward, options.signal)
      else await forward(paths.map((path) => this.#handler(path)))
    } finally {
      this.stop()
    }
  }

  /** As `run`, with stages that have threads. */
  async #runThreads(
    pipeline: Pipeline,
    forward: (handlers: readonly PacketHandler[]) => Promise<unknown>,
    signal: AbortSignal,
  ): Promise<void> {
    let isOver = false
    let isEmpty = false
    try {
      await pipeline.start(signal)
      const home = pipeline.run(() => isOver).then(() => (isEmpty = true))
      home.catch(() => this.stop())
      try {
        await forward(
          this.#paths.map((path, job) => {
            return this.#handler(path, ({ offset, length }) => {
              pipeline.push(offset, length, job)
              return 'hold'
            })
          }),
        )
      } finally {
        isOver = true
        pipeline.wake()
      }
      // What is with the stages still leaves, unless one of them hangs.
      await Promise.race([home, delay(PATIENCE_MS, undefined, { ref: false })])
    } finally {
      await pipeline.stop(isEmpty ? PATIENCE_MS : NO_PATIENCE_MS)
    }
  }

  /** Ends the way of a packet that has been through the threads: sent, or freed. */
  #leave(job: number, address: number, length: number, isDropped: boolean): void {
    const { socket, out, way } = this.#paths[job]
    if (socket.closed) return
    if (isDropped || out.closed) {
      this.#dropped[way.index]++
      socket.release(address)
      return
    }
    if (way.rewrite !== undefined) way.rewrite(socket.bytes, address, length)
    out.transmit(address, length)
  }

  /** Ends `run`. */
  stop(): void {
    this.#control.abort()
  }

  /** Counts by way: from `in` to `out`, and back. */
  statistics(): ForwardStatistics[] {
    return this.#ends.map(({ way, receiving, sending }) =>
      wayStatistics(way, this.#dropped[way.index], receiving, sending),
    )
  }

  /** Counts by stage, in their order, over all ways. */
  stageStatistics(): StageStatistics[] {
    const packets = this.statistics().reduce((sum, { rx }) => sum + rx.packets, 0)
    return [
      ...functionStatistics(this.#stages, packets, this.#droppedBy),
      ...this.threads.map((thread, i) => threadStatistics(this.#stages.length + i, thread)),
    ]
  }

  /** Waits until everything put in the TX rings has been sent. Throws `KernelError` ETIMEDOUT when nothing moves for `timeoutMs`. */
  async drain(timeoutMs = 1000): Promise<void> {
    await this.group.drain(timeoutMs)
  }

  /** Detaches the programs, closes the sockets and their memory: both devices are the kernel's again. Closing twice is harmless. */
  async close(): Promise<void> {
    for (const undo of this.#letGo.splice(0)) undo()
    this.stop()
    await this.#running
    await this.#endThreads()
    await this.group.close()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  #tell(event: () => void): void {
    if (this.#untold) this.#untold.push(event)
    else event()
  }

  #onStall(thread: StageThread, stallMs: number): void {
    const message = `The thread of stage ${thread.index} has made no progress for ${stallMs} ms`
    this.emit('stall', { code: 'stalled', message }, thread)
  }

  /** What is done with the packets of one socket: they go through the stages, and then on. */
  #handler({ way, out }: Path, then?: PacketHandler): PacketHandler {
    const { rewrite, index } = way
    const stages = this.#stages
    const about = this.ways[index]
    const dropped = this.#dropped
    const droppedBy = this.#droppedBy
    const leave: PacketHandler = (packet) => {
      if (rewrite !== undefined) rewrite(packet.bytes, packet.offset, packet.length)
      // A full ring drops the packet and counts it.
      out.transmit(packet.offset, packet.length)
    }
    const onward = then ?? leave
    return (packet) => {
      for (let i = 0; i < stages.length; i++) {
        if (stages[i](packet, about) === 'drop') {
          dropped[index]++
          droppedBy[2 * i + index]++
          return undefined
        }
      }
      return onward(packet)
    }
  }
}

/** The sockets of a device. Throws when it has none. */
function socketsOf(
  group: XdpGroup,
  { interface: name, namespace }: { interface: string; namespace?: XdpSocket['namespace'] },
): XdpSocket[] {
  const sockets = group.sockets.filter(
    (socket) => socket.interface === name && socket.namespace === namespace,
  )
  if (sockets.length > 0) return sockets
  const warning = group.warnings.find((warning) => warning.interface === name && warning.error !== undefined)
  throw warning?.error ?? new XdpError('XDP_NO_QUEUE', `No queue of ${name} could be opened`)
}
