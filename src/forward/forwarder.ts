// Forwards packets between two devices, or back out of one, without copying them.
import { setTimeout as delay } from 'node:timers/promises'
import { StateError, XdpError } from '../kernel/index.js'
import { XdpGroup, type PacketHandler, type RunOptions, type XdpSocket } from '../xsk/index.js'
import { Completions } from './completions.js'
import { checkForward, type CheckedWay, type ForwardWarning, type ForwarderOptions } from './options.js'
import { loadForward } from './program.js'
import { Pipeline } from './pipeline.js'
import { makePromiscuous } from './promiscuous.js'
import type { ForwardWay, StageHandler } from './stage.js'
import { wayStatistics, type ForwardStatistics } from './statistics.js'

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

// How long packets that are with stages are waited for at the end.
const PATIENCE_MS = 2000

/**
 * Two devices made one link, in both directions, or one whose packets go back out. The sockets of both have their frames
 * in one UMEM: a packet is received, looked at by the stages, and sent, in the same frame. What is received on queue q
 * leaves by queue q of the other device (modulo its number of sockets), so a flow keeps its order. One thread, and one
 * more for each stage that is a module.
 */
export class Forwarder implements AsyncDisposable {
  /** The sockets, those of `in` first, and their memory. */
  readonly group: XdpGroup
  /** The ways through it: from `in` to `out` and from `out` to `in`, or one. */
  readonly ways: readonly ForwardWay[]
  readonly warnings: readonly ForwardWarning[]
  readonly #ends: readonly Ends[]
  readonly #stages: readonly StageHandler[]
  readonly #modules: readonly URL[]
  readonly #workerData: unknown
  readonly #letGo: (() => void)[]
  // Packets that stages have dropped, by way.
  readonly #dropped = new Float64Array(2)
  #running: Promise<void> | undefined
  // Ends the run, also one that still waits for its threads.
  #control = new AbortController()

  private constructor(
    group: XdpGroup,
    ends: readonly Ends[],
    rest: {
      stages: readonly StageHandler[]
      modules: readonly URL[]
      workerData: unknown
      letGo: (() => void)[]
      warnings: readonly ForwardWarning[]
    },
  ) {
    this.group = group
    this.ways = ends.map(({ way: { index, from, to } }) => ({ index, from, to }))
    this.warnings = [...rest.warnings, ...group.warnings]
    this.#ends = ends
    this.#stages = rest.stages
    this.#modules = rest.modules
    this.#workerData = rest.workerData
    this.#letGo = rest.letGo
  }

  /**
   * Opens a socket on each queue of the devices, then attaches a program to each, by link: when the process ends,
   * everything is as before. Until `run` is called, packets wait in the rings. Throws as
   * `XdpGroup.open` does, and when one of two devices has no socket at all; nothing is left behind then.
   */
  static async open(options: ForwarderOptions): Promise<Forwarder> {
    const { devices, ways, discovery, promiscuous, umem, warnings, stages, modules } = checkForward(options)
    const program = ({ queues }: { queues: number }) =>
      loadForward({ queues, filter: options.filter, discovery })
    const [first, ...others] = devices.map((device) => ({ ...device, program }))
    const group = await XdpGroup.open({ ...options, ...first, umem, others })
    const letGo: (() => void)[] = []
    try {
      const sockets = devices.map((device) => socketsOf(group, device))
      const ends = ways.map((way, i): Ends => {
        return { way, receiving: sockets[i], sending: sockets[sockets.length - 1 - i] }
      })
      if (promiscuous)
        for (const device of devices) letGo.push(makePromiscuous(device.interface, device.namespace))
      return new Forwarder(group, ends, { stages, modules, workerData: options.workerData, letGo, warnings })
    } catch (error) {
      for (const undo of letGo) undo()
      await group.close()
      throw error
    }
  }

  /**
   * Forwards until `signal` aborts, or `stop()` or `close()` is called. Rejects when a stage throws or a device goes away.
   * A device that is only down is waited for: what is to leave by it fills its TX rings, and the rest is dropped.
   */
  async run(options: RunOptions = {}): Promise<void> {
    if (this.#running) throw new StateError('The forwarder is running already')
    this.#control = new AbortController()
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

  async #run(options: RunOptions): Promise<void> {
    const paths = this.#ends.flatMap(({ way, receiving, sending }) =>
      receiving.map((socket): Path => ({ way, socket, out: sending[socket.queue % sending.length] })),
    )
    // Sleeping in poll(2) for one socket would leave the others, and what stages' threads hand back, waiting.
    const isAlone = paths.length === 1 && this.#modules.length === 0
    const waiting = isAlone ? options : { ...options, wait: options.wait ?? 'event-loop' }
    const forward = (handlers: readonly PacketHandler[]) =>
      Promise.all(paths.map(({ socket }, i) => socket.run(handlers[i], waiting)))
    try {
      if (this.#modules.length === 0) await forward(paths.map((path) => this.#handler(path)))
      else await this.#runStages(paths, forward)
    } finally {
      this.stop()
    }
  }

  /** As `run`, with stages that have threads. */
  async #runStages(
    paths: readonly Path[],
    forward: (handlers: readonly PacketHandler[]) => Promise<unknown>,
  ): Promise<void> {
    const { group } = this
    const pipeline = new Pipeline({
      modules: this.#modules,
      workerData: this.#workerData,
      umem: group.umem,
      ways: this.ways,
      jobs: paths.map(({ socket, way }) => ({ queue: socket.queue, way: way.index })),
      deliver: (job, address, length, isDropped) => {
        const { socket, out, way } = paths[job]
        if (socket.closed) return
        if (isDropped || out.closed) {
          this.#dropped[way.index]++
          socket.release(address)
        } else {
          if (way.rewrite !== undefined) way.rewrite(socket.bytes, address, length)
          out.transmit(address, length)
        }
      },
      afterBatch: () => completions.collect(),
    })
    const completions = new Completions(group, () => pipeline.count)
    let isOver = false
    try {
      await pipeline.start(() => this.stop())
      const home = pipeline.run(() => isOver)
      home.catch(() => this.stop())
      try {
        await forward(
          paths.map((path, job) => {
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
      await pipeline.close()
      completions.stop()
    }
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

  /** Waits until everything put in the TX rings has been sent. Throws `KernelError` ETIMEDOUT when nothing moves for `timeoutMs`. */
  async drain(timeoutMs = 1000): Promise<void> {
    await this.group.drain(timeoutMs)
  }

  /** Detaches the programs, closes the sockets and their memory: both devices are the kernel's again. Closing twice is harmless. */
  async close(): Promise<void> {
    for (const undo of this.#letGo.splice(0)) undo()
    this.stop()
    await this.#running
    await this.group.close()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  /** What is done with the packets of one socket: they go through the stages, and then on. */
  #handler({ way, out }: Path, then?: PacketHandler): PacketHandler {
    const { rewrite, index } = way
    const stages = this.#stages
    const about = this.ways[index]
    const dropped = this.#dropped
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
