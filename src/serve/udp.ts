// A UDP server over AF_XDP: its port's datagrams never meet the kernel's network stack, everything else does as before.
import type { RemoteInfo } from 'node:dgram'
import { EHOSTUNREACH, EMSGSIZE } from '../kernel/errno.js'
import {
  KernelError,
  NotFoundError,
  OptionError,
  StateError,
  getInterface,
  listDefaultRoutes,
} from '../kernel/index.js'
import type { NetlinkOptions } from '../kernel/index.js'
import { formatIp, parseIp } from '../packet/index.js'
import type { RateLimit } from '../programs/rate-limit.js'
import type { XdpGroup } from '../xsk/index.js'
import { UdpInterface, type UdpInterfaceOptions } from './udp-interface.js'
import { KernelSockets } from './udp-kernel-sockets.js'
import type { UdpEndpoint } from './udp-listeners.js'
import { UdpMessage } from './udp-message.js'
import type { UdpDropCounts } from './udp-receiver.js'

export { UdpMessage } from './udp-message.js'
export type { UdpDropCounts } from './udp-receiver.js'
export type { RateLimit, RateLimitOptions } from '../programs/rate-limit.js'

/** What a server takes, and how. The options of `XdpGroup` apply to the first server of a thread on an interface. */
export interface UdpServerOptions extends Omit<UdpInterfaceOptions, 'interface'> {
  /** Default: the one of the default route. */
  interface?: string
  /** The ports to take. 0 is a free one, which needs the kernel's socket. */
  port: number | readonly number[]
  /**
   * The addresses to take, as text or 4 or 16 bytes. Default `own`: the interface's, those of its VLAN interfaces
   * included, as they come and go. `any` takes what goes to other hosts, groups and everybody too.
   */
  addresses?: 'own' | 'any' | readonly (string | Uint8Array)[]
  /**
   * Bind the kernel's sockets too. They keep the ports from other programs, have the kernel answer for them what ICMP has to
   * say, and receive what is left to the kernel: fragments, packets with IP options, what comes by other interfaces. They send
   * what leaves by other interfaces, and what is longer than the MTU. Default true.
   */
  kernelSocket?: boolean
  /** Drop datagrams whose checksums are wrong, as the kernel does. Default true. */
  verifyChecksums?: boolean
}

/** What a server has done so far, in datagrams. */
export interface UdpCounts {
  /** Delivered from XDP, and from the kernel's sockets. */
  received: number
  receivedByKernel: number
  /** Replies in place. */
  replied: number
  /** Sent in frames of their own; those that still wait for their next hop included. */
  sent: number
  /** Given to the kernel to send. */
  sentByKernel: number
  /** Not sent: no room in the TX ring, or too many waiting. */
  dropped: number
}

/** Gets each datagram. What it throws closes the server: `closed` rejects with it. */
export type UdpHandler = (message: UdpMessage) => void

// RFC 768 and 791: 65535 less the headers. Over IPv6 the same, jumbograms aside (RFC 8200 section 3).
const MAX_PAYLOAD = { 4: 65_507, 6: 65_527 } as const

const ANY = [new Uint8Array(4), new Uint8Array(16)]

/**
 * Opens a UDP server. Only what goes to its ports and addresses is diverted to AF_XDP sockets; fragments and packets with IP
 * options or extension headers go to the kernel, and come back through the kernel's socket. Several servers of a thread may share an
 * interface. Throws `OptionError`, `NotFoundError`, `KernelError` (EADDRINUSE, EPERM ...) as `XdpGroup.open` does; nothing is left
 * behind then. Kernel 5.3; needs CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF.
 */
export async function createUdpServer(options: UdpServerOptions, handler: UdpHandler): Promise<UdpServer> {
  return UdpServer.open(options, handler)
}

/** See `createUdpServer`. */
export class UdpServer implements AsyncDisposable {
  /** The ports, those that the kernel chose included. */
  readonly ports: readonly number[]
  readonly counts: Readonly<UdpCounts>
  /** Resolves when the server is closed; rejects when its handler throws or the interface goes away. */
  readonly closed: Promise<void>
  readonly #interface: UdpInterface
  readonly #endpoint: UdpEndpoint
  readonly #kernel: KernelSockets[]
  readonly #counts: UdpCounts
  // Of each family, when it is the only one: what datagrams are sent from.
  readonly #source: { 4: Uint8Array | undefined; 6: Uint8Array | undefined }
  readonly #settle: { resolve: () => void; reject: (error: Error) => void }
  #closing: Promise<void> | undefined

  private constructor(
    shared: UdpInterface,
    options: UdpServerOptions,
    given: readonly Uint8Array[] | undefined,
    handler: UdpHandler,
  ) {
    this.#interface = shared
    const counts: UdpCounts = {
      received: 0,
      receivedByKernel: 0,
      replied: 0,
      sent: 0,
      sentByKernel: 0,
      dropped: 0,
    }
    this.counts = this.#counts = counts
    this.#settle = { resolve: () => undefined, reject: () => undefined }
    this.closed = new Promise((resolve, reject) => {
      this.#settle.resolve = resolve
      this.#settle.reject = reject
    })
    const only = (size: number) => {
      const fitting = (given ?? []).filter(({ length }) => length === size)
      return fitting.length === 1 ? fitting[0] : undefined
    }
    this.#source = { 4: only(4), 6: only(16) }
    this.#kernel = []
    const { port, addresses = 'own', kernelSocket = true, namespace } = options
    const fromKernel = new UdpMessage(new Uint8Array(65_536), shared.name)
    const wanted = typeof port === 'number' ? [port] : port
    try {
      if (kernelSocket) {
        for (const one of wanted) {
          const sockets: KernelSockets = new KernelSockets({
            namespace,
            port: one,
            addresses: given ?? ANY,
            ifindex: shared.index,
            onMessage: (message, sender) =>
              this.#deliverFromKernel(fromKernel, sockets.port, message, sender, handler),
            onError: (error) => this.#fail(error),
          })
          this.#kernel.push(sockets)
        }
      }
      this.ports = kernelSocket ? this.#kernel.map((sockets) => sockets.port) : wanted
      this.#endpoint = {
        ports: this.ports,
        verifiesChecksums: options.verifyChecksums ?? true,
        addresses: (own) => (addresses === 'any' ? undefined : (given ?? own)),
        counts,
        deliver: handler,
        fail: (error) => this.#fail(error),
        replyElsewhere: (message, payload) => this.#replyElsewhere(message, payload),
      }
      shared.add(this.#endpoint)
    } catch (error) {
      for (const sockets of this.#kernel) sockets.close()
      throw error
    }
  }

  /** See `createUdpServer`. */
  static async open(options: UdpServerOptions, handler: UdpHandler): Promise<UdpServer> {
    const given = checkAddresses(options.addresses)
    checkPorts(options)
    const name = options.interface ?? defaultInterface(options)
    const shared = await UdpInterface.acquire({ ...options, interface: name })
    try {
      return new UdpServer(shared, options, given, handler)
    } catch (error) {
      await shared.release()
      throw error
    }
  }

  /** The sockets and the program: how they were got, and their statistics. Shared by all servers of this thread on the interface. */
  get group(): XdpGroup {
    return this.#interface.group
  }

  /** What the interface has taken and given to nobody. Shared likewise. */
  get drops(): Readonly<UdpDropCounts> {
    return this.#interface.drops
  }

  /** The limit on each source, which counts what it drops; undefined without one. Shared likewise. */
  get rateLimit(): RateLimit | undefined {
    return this.#interface.rateLimit
  }

  /** The interface's name. */
  get interface(): string {
    return this.#interface.name
  }

  /**
   * Sends a datagram to any address, from the first port or `from`: in a frame of ours when the way there is over the
   * interface and it fits, through the kernel's socket otherwise. Where the next hop is not known the kernel is given the first
   * datagram, which makes it look for it; further ones wait meanwhile, up to 1024. The payload is copied. False when there was no room for it; what happens
   * on the way nobody hears of.
   *
   * Throws `KernelError` EMSGSIZE for what UDP has no room for, or is longer than the MTU when there is no kernel socket;
   * EHOSTUNREACH when only the kernel could send it and there is none; `OptionError` for what is no payload, address or port.
   */
  send(payload: Uint8Array | string, port: number, address: string, from: number = this.ports[0]): boolean {
    if (this.#closing) throw new StateError('The server is closed')
    if (!(Number.isInteger(port) && port > 0 && port < 65_536))
      throw new OptionError('port', `"${port}" is no port to send to`)
    return this.#send(
      typeof payload === 'string' ? Buffer.from(payload) : payload,
      port,
      address,
      from,
      undefined,
    )
  }

  #send(
    payload: Uint8Array,
    port: number,
    address: string,
    from: number,
    local: Uint8Array | undefined,
  ): boolean {
    if (!(payload instanceof Uint8Array))
      throw new OptionError('payload', `"${String(payload)}" is no payload`, 'Use a Uint8Array or a string.')
    const version = address.includes(':') ? 6 : 4
    const source = local ?? this.#source[version]
    const outcome = this.#interface.send(payload, port, address, {
      port: from,
      source,
      hasKernel: this.#kernel.length > 0,
    })
    const counts = this.#counts
    if (outcome === 'dropped') {
      counts.dropped++
      return false
    }
    if (outcome !== 'kernel') {
      counts.sent++
      return true
    }
    this.#sendByKernel(payload, port, address, from, source)
    return true
  }

  #sendByKernel(
    payload: Uint8Array,
    port: number,
    address: string,
    from: number,
    local: Uint8Array | undefined,
  ): void {
    const about = `${payload.length} bytes to ${address}`
    if (payload.length > MAX_PAYLOAD[address.includes(':') ? 6 : 4])
      throw new KernelError('send', EMSGSIZE, {
        about,
        hint: 'A UDP datagram holds 65507 bytes; 65527 over IPv6.',
      })
    if (parseIp(address.replace(/%.*$/, '')) === undefined)
      throw new OptionError('address', `"${address}" is no IP address`, 'Look names up first: dns.lookup.')
    const sockets = this.#kernel[this.ports.indexOf(from)] as KernelSockets | undefined
    if (sockets === undefined) {
      const destination = this.#interface.routes.to(address)
      const errno = destination?.hop ? EMSGSIZE : EHOSTUNREACH
      throw new KernelError('send', errno, {
        about,
        hint: 'Only the kernel can send this: let the server have its kernel socket.',
      })
    }
    // Sent later: the caller may change the payload meanwhile.
    const copy = Buffer.from(payload)
    const done = (error: Error | null) => {
      if (error) this.#counts.dropped++
      else this.#counts.sentByKernel++
    }
    sockets.send(copy, port, address, done, local)
  }

  // In a frame of its own, or by the kernel: from the address that the message was sent to, where that is one's own.
  #replyElsewhere(message: UdpMessage, payload: Uint8Array): boolean {
    if (message.port === 0) return false
    const local =
      message.localAddress === undefined ? undefined : parseIp(message.localAddress.replace(/%.*$/, ''))
    const isGroup = local && (local.length === 4 ? local[0] >= 224 : local[0] === 0xff)
    return this.#send(payload, message.port, message.address, message.localPort, isGroup ? undefined : local)
  }

  #deliverFromKernel(
    message: UdpMessage,
    localPort: number,
    payload: Buffer,
    sender: RemoteInfo,
    handler: UdpHandler,
  ): void {
    this.#counts.receivedByKernel++
    message.bytes.set(payload)
    message.offset = 0
    message.length = payload.length
    message.port = sender.port
    message.localPort = localPort
    message.family = sender.family === 'IPv4' ? 4 : 6
    message.via = 'kernel'
    message.room = -1
    message.begin(this.#endpoint, sender.address)
    try {
      handler(message)
    } catch (error) {
      this.#fail(error as Error)
    } finally {
      message.end()
    }
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
    for (const sockets of this.#kernel) sockets.close()
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

/** The interface of the default route, IPv4's before IPv6's. Throws `NotFoundError` when there is none. */
export function defaultInterface(options: NetlinkOptions = {}): string {
  const index = listDefaultRoutes(options).find(({ ifindex }) => ifindex !== undefined)?.ifindex
  if (index === undefined) {
    throw new NotFoundError('There is no default route to take the interface from', 'Name the interface.')
  }
  return getInterface(index, options).name
}

function checkPorts({ port, kernelSocket = true }: UdpServerOptions): void {
  const ports = typeof port === 'number' ? [port] : port
  if (ports.length === 0)
    throw new OptionError('port', 'No port was named', 'Name at least one, or 0 for a free one.')
  for (const one of ports) {
    if (!(Number.isInteger(one) && one >= 0 && one < 65_536))
      throw new OptionError('port', `"${one}" is no port`)
    if (one === 0 && !kernelSocket) {
      throw new OptionError(
        'port',
        'Only the kernel can choose a port',
        'Name one, or let the server have its kernel socket.',
      )
    }
  }
  if (new Set(ports.filter((one) => one !== 0)).size < ports.filter((one) => one !== 0).length)
    throw new OptionError('port', 'A port was named twice', 'Name it once.')
}

function checkAddresses(given: UdpServerOptions['addresses'] = 'own'): readonly Uint8Array[] | undefined {
  if (given === 'own' || given === 'any') return undefined
  if (typeof given === 'string' || given.length === 0) {
    throw new OptionError(
      'addresses',
      `"${String(given)}" is no list of addresses`,
      'Use own, any, or a list.',
    )
  }
  return given.map((one) => {
    const address = typeof one === 'string' ? parseIp(one) : one
    if (address?.length === 4 || address?.length === 16) return address
    const text = typeof one === 'string' ? one : formatIp(one)
    throw new OptionError('addresses', `"${text}" is no IP address`)
  })
}
