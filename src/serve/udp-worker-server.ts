// A UDP server with a thread a queue, seen from the thread that opens it: it holds program, ports and sockets, and no datagram passes it.
import { randomUUID } from 'node:crypto'
import { NotFoundError, getInterface, type Namespace } from '../kernel/index.js'
import type { RateLimit } from '../programs/rate-limit.js'
import { XdpGroup, type GroupWorker, type XdpWorkerGroup, type XdpWorkerGroupOptions } from '../xsk/index.js'
import { moduleAddress } from '../xsk/worker-group.js'
import { watchForAll } from './network-changes.js'
import {
  countsOf,
  dropsOf,
  makeCounters,
  shareCounters,
  sharedCounters,
  type UdpCounts,
  type UdpDropCounts,
} from './udp-counters.js'
import { UdpDiversion } from './udp-diversion.js'
import { bindPorts, closePort, type BoundPort } from './udp-kernel-sockets.js'
import { checkUdpOptions, type UdpServerOptions } from './udp-options.js'
import { UdpProgram, memoryFor } from './udp-program.js'
import type { UdpWorkerSetup } from './udp-worker-contract.js'

/** A server's options, and those of its threads: see `XdpWorkerGroupOptions`. */
export interface UdpWorkerServerOptions
  extends
    UdpServerOptions,
    Pick<
      XdpWorkerGroupOptions,
      'workerData' | 'cpus' | 'workersPerQueue' | 'restart' | 'stopTimeoutMs' | 'stallMs'
    > {
  /** The module that each thread runs: its default export is a `UdpWorkerModule`. A path is taken from the working directory. */
  worker: URL | string
}

/** What an open server is made of. */
interface Parts {
  name: string
  namespace: Namespace | undefined
  ports: readonly number[]
  bound: readonly BoundPort[]
  group: XdpWorkerGroup
  /** Diverts the ports of the interface as it is now. */
  divert: () => { index: number; diversion: UdpDiversion }
  /** Rejects when the program cannot be told something: by `fail`. */
  failed: Promise<never>
  fail: (error: Error) => void
  rateLimit: RateLimit | undefined
  counters: readonly Float64Array[]
}

const MAIN = new URL('./udp-worker-main.js', import.meta.url)

/**
 * A UDP server whose queues have a thread each, which runs the user's module. The threads share nothing while datagrams flow.
 * The kernel's sockets on the ports are open in all of them, so that what the kernel is left with is handled as ever, the
 * datagrams of a queue whose thread is being replaced among it. Made by `createUdpServer`; it has the interface to itself.
 */
export class UdpWorkerServer implements AsyncDisposable {
  /** The ports, those that the kernel chose included. */
  readonly ports: readonly number[]
  /** The interface's name. */
  readonly interface: string
  /** Of all workers since the server was opened, whatever happened to their threads: from shared memory, at any time. */
  readonly counts: Readonly<UdpCounts>
  /** Likewise: what was taken and given to nobody. */
  readonly drops: Readonly<UdpDropCounts>
  /** The workers and the program: what they tell, how they were got, their statistics, messages to them. */
  readonly group: XdpWorkerGroup
  /** The limit on each source, which counts what it drops; undefined without one. */
  readonly rateLimit: RateLimit | undefined
  /** Resolves when the server is closed; rejects when no worker is left that works, or with `strict` when one has failed. */
  readonly closed: Promise<void>
  readonly #parts: Parts
  #diverted: ReturnType<Parts['divert']>
  #closing: Promise<void> | undefined

  private constructor(parts: Parts) {
    const { group, counters } = parts
    this.ports = parts.ports
    this.interface = parts.name
    this.counts = countsOf(...counters)
    this.drops = dropsOf(...counters)
    this.group = group
    this.rateLimit = parts.rateLimit
    this.#parts = parts
    this.#diverted = parts.divert()
    group.on('restart', () => this.#followDevice())
    this.closed = Promise.race([group.run(), parts.failed]).then(
      () => this.close(),
      async (error: Error) => {
        await this.close().catch(() => undefined)
        throw error
      },
    )
  }

  /** See `createUdpServer`. */
  static async open(options: UdpWorkerServerOptions): Promise<UdpWorkerServer> {
    const { namespace, wait, budget, workerData } = options
    const checked = checkUdpOptions(options)
    const { interface: name, listed, takesAny, verifyChecksums } = checked
    const module = moduleAddress(options.worker)
    const device = getInterface(name, { namespace })
    const umem = memoryFor(device.mtu, { ...options, interface: name })
    const program = new UdpProgram(options)
    const { ports, bound } = bindPorts(checked, { namespace, ifindex: device.index })
    let group: XdpWorkerGroup | undefined
    try {
      const channel = `xdp ${randomUUID()}`
      const setup: UdpWorkerSetup = {
        module,
        workerData,
        namespace: namespace?.path,
        channel,
        ports,
        bound,
        listed,
        verifyChecksums,
        counters: shareCounters(0),
      }
      group = await XdpGroup.open({
        ...options,
        interface: name,
        umem,
        program: (shape) => {
          // Now it is known how many workers there may be.
          setup.counters = shareCounters(shape.queues * shape.workersPerQueue)
          return program.load(shape)
        },
        worker: MAIN,
        workerData: setup,
        run: { ...(wait && { wait }), ...(budget !== undefined && { budget }) },
      })
      let fail: (error: Error) => void = () => undefined
      const failed = new Promise<never>((_, reject) => (fail = reject))
      const divert = () => {
        const { index } = getInterface(name, { namespace })
        const watch = watchForAll(namespace, channel)
        const { vlans } = options
        const diversion = new UdpDiversion({ interface: name, index, namespace, program, vlans, watch, fail })
        diversion.update()
        try {
          diversion.add({
            ports,
            addresses: (own) => (takesAny ? undefined : (listed ?? own)),
            verifiesChecksums: verifyChecksums,
            counters: makeCounters(),
            // The workers have what is diverted.
            deliver: () => undefined,
            replyElsewhere: () => false,
            fail,
          })
        } catch (error) {
          diversion.close()
          throw error
        }
        return { index, diversion }
      }
      const counters = group.workers.map(({ index }) => sharedCounters(setup.counters, index))
      const rateLimit = program.limit
      return new UdpWorkerServer({
        name,
        namespace,
        ports,
        bound,
        group,
        divert,
        failed,
        fail,
        rateLimit,
        counters,
      })
    } catch (error) {
      await group?.close()
      bound.forEach(closePort)
      throw error
    }
  }

  /** The counts of one worker of `group.workers`. */
  countsOf({ index }: GroupWorker): Readonly<UdpCounts> {
    return countsOf(this.#parts.counters[index])
  }

  // Workers that start again may do so on another device of the same name.
  #followDevice(): void {
    const { divert, fail, name, namespace } = this.#parts
    try {
      if (this.#closing || getInterface(name, { namespace }).index === this.#diverted.index) return
      this.#leave()
      this.#diverted = divert()
    } catch (error) {
      // Gone once more: so are the workers, which start again, or give up.
      if (!(error instanceof NotFoundError)) fail(error as Error)
    }
  }

  #leave(): void {
    const { diversion } = this.#diverted
    for (const endpoint of diversion.listeners.all) diversion.remove(endpoint)
    diversion.close()
  }

  /**
   * Leaves the ports to the kernel again, has each worker handle what it has and send what it has to, and closes. Closing
   * twice is harmless.
   */
  async close(): Promise<void> {
    this.#closing ??= this.#close()
    await this.#closing
  }

  async #close(): Promise<void> {
    const { group, bound } = this.#parts
    this.#leave()
    try {
      await group.close()
    } finally {
      bound.forEach(closePort)
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }
}
