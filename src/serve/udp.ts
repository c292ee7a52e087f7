// A UDP server over AF_XDP: its port's datagrams never meet the kernel's network stack, everything else does as before.
import { OptionError, StateError } from '../kernel/index.js'
import type { RateLimit } from '../programs/rate-limit.js'
import type { XdpGroup } from '../xsk/index.js'
import { countsOf, dropsOf, makeCounters, type UdpCounts, type UdpDropCounts } from './udp-counters.js'
import { ServerEndpoint } from './udp-endpoint.js'
import { UdpInterface } from './udp-interface.js'
import { bindPorts } from './udp-kernel-sockets.js'
import {
  checkUdpOptions,
  type CheckedUdpOptions,
  type UdpHandler,
  type UdpServerOptions,
} from './udp-options.js'
import type { UdpService } from './udp-worker-contract.js'
import { UdpWorkerServer, type UdpWorkerServerOptions } from './udp-worker-server.js'

export type { UdpCounts, UdpDropCounts } from './udp-counters.js'
export { UdpMessage } from './udp-message.js'
export { defaultInterface, type UdpHandler, type UdpServerOptions } from './udp-options.js'
export type { UdpService, UdpTask, UdpWorkerContext, UdpWorkerModule } from './udp-worker-contract.js'
export { UdpWorkerServer, type UdpWorkerServerOptions } from './udp-worker-server.js'
export type { RateLimit, RateLimitOptions } from '../programs/rate-limit.js'

/**
 * Opens a UDP server. Only what goes to its ports and addresses is diverted to AF_XDP sockets; fragments and packets with IP
 * options or extension headers go to the kernel, and come back through the kernel's socket. Several servers of a thread may share an
 * interface. Throws `OptionError`, `NotFoundError`, `KernelError` (EADDRINUSE, EPERM ...) as `XdpGroup.open` does; nothing is left
 * behind then. Kernel 5.3; needs CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF.
 *
 * With a `worker` in the place of the handler each queue has a thread of its own, which runs that module: see `UdpWorkerServer`.
 */
export function createUdpServer(options: UdpWorkerServerOptions): Promise<UdpWorkerServer>
export function createUdpServer(
  options: UdpServerOptions & { worker?: undefined },
  handler: UdpHandler,
): Promise<UdpServer>
export async function createUdpServer(
  options: UdpServerOptions | UdpWorkerServerOptions,
  handler?: UdpHandler,
): Promise<UdpServer | UdpWorkerServer> {
  if ('worker' in options && options.worker !== undefined) return UdpWorkerServer.open(options)
  if (typeof handler !== 'function') {
    throw new OptionError(
      'handler',
      'Nothing says what becomes of a datagram',
      'Hand in a function, or a worker.',
    )
  }
  return UdpServer.open(options, handler)
}

/** See `createUdpServer`. */
export class UdpServer implements UdpService, AsyncDisposable {
  /** The ports, those that the kernel chose included. */
  readonly ports: readonly number[]
  readonly counts: Readonly<UdpCounts>
  /** What the interface has taken and given to nobody. Shared by all servers of this thread on the interface. */
  readonly drops: Readonly<UdpDropCounts>
  /** Resolves when the server is closed; rejects when its handler throws or the interface goes away. */
  readonly closed: Promise<void>
  readonly #interface: UdpInterface
  readonly #endpoint: ServerEndpoint
  readonly #settle: { resolve: () => void; reject: (error: Error) => void }
  #closing: Promise<void> | undefined

  private constructor(
    shared: UdpInterface,
    options: CheckedUdpOptions,
    { namespace }: UdpServerOptions,
    handler: UdpHandler,
  ) {
    const { listed, takesAny } = options
    this.#interface = shared
    this.drops = dropsOf(shared.counters)
    const counters = makeCounters()
    this.counts = countsOf(counters)
    this.#settle = { resolve: () => undefined, reject: () => undefined }
    this.closed = new Promise((resolve, reject) => {
      this.#settle.resolve = resolve
      this.#settle.reject = reject
    })
    const { ports, bound } = bindPorts(options, { namespace, ifindex: shared.index })
    this.ports = ports
    const endpoint = new ServerEndpoint({
      ports,
      kernel: bound,
      listed,
      addresses: (own) => (takesAny ? undefined : (listed ?? own)),
      verifiesChecksums: options.verifyChecksums,
      counters,
      handler,
      sender: shared,
      zone: shared.name,
      fail: (error) => this.#fail(error),
    })
    this.#endpoint = endpoint
    try {
      shared.add(endpoint)
    } catch (error) {
      endpoint.close()
      throw error
    }
  }

  /** See `createUdpServer`. */
  static async open(options: UdpServerOptions, handler: UdpHandler): Promise<UdpServer> {
    const checked = checkUdpOptions(options)
    const shared = await UdpInterface.acquire({ ...options, interface: checked.interface })
    try {
      return new UdpServer(shared, checked, options, handler)
    } catch (error) {
      await shared.release()
      throw error
    }
  }

  /** The sockets and the program: how they were got, and their statistics. Shared by all servers of this thread on the interface. */
  get group(): XdpGroup {
    return this.#interface.group
  }

  /** The limit on each source, which counts what it drops; undefined without one. Shared likewise. */
  get rateLimit(): RateLimit | undefined {
    return this.#interface.rateLimit
  }

  /** The interface's name. */
  get interface(): string {
    return this.#interface.name
  }

  /** See `UdpService.send`. */
  send(payload: Uint8Array | string, port: number, address: string, from?: number): boolean {
    if (this.#closing) throw new StateError('The server is closed')
    return this.#endpoint.send(payload, port, address, from)
  }

  #fail(error: Error): void {
    if (this.#closing) return
    this.#settle.reject(error)
    void this.close().catch(() => undefined)
  }

  /**
   * Leaves the ports to the kernel again, and closes. What was sent has left when it resolves, what waits for its next hop
   * has not. Closing twice is harmless.
   */
  async close(): Promise<void> {
    this.#closing ??= this.#close()
    await this.#closing
  }

  async #close(): Promise<void> {
    this.#interface.remove(this.#endpoint)
    this.#endpoint.close()
    try {
      await this.#interface.release()
    } finally {
      this.#settle.resolve()
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }
}
