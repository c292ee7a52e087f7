// A server on its ports: what it gets by XDP and by the kernel's sockets, and what it sends by either.
import type { RemoteInfo } from 'node:dgram'
import { EHOSTUNREACH, EMSGSIZE } from '../kernel/errno.js'
import { KernelError, OptionError } from '../kernel/index.js'
import { parseIp } from '../packet/index.js'
import { UDP_COUNTER } from './udp-counters.js'
import { KernelSockets, type BoundPort } from './udp-kernel-sockets.js'
import type { UdpEndpoint } from './udp-listeners.js'
import { UdpMessage } from './udp-message.js'
import type { UdpHandler } from './udp-options.js'
import type { UdpSender } from './udp-sender.js'

// RFC 768 and 791: 65535 less the headers. Over IPv6 the same, jumbograms aside (RFC 8200 section 3).
const MAX_PAYLOAD = { 4: 65_507, 6: 65_527 } as const

/** What a server's endpoint is made of. */
export interface ServerEndpointParts {
  ports: readonly number[]
  /** The kernel's sockets on those ports, which are the endpoint's to close; none when it has to do without. */
  kernel: readonly BoundPort[]
  /** See `UdpEndpoint`. */
  addresses: UdpEndpoint['addresses']
  /** The addresses that were named, if any: the only one of a family is what datagrams are sent from. */
  listed: readonly Uint8Array[] | undefined
  verifiesChecksums: boolean
  counters: Float64Array
  handler: UdpHandler
  /** Sends by the interface. */
  sender: Pick<UdpSender, 'send' | 'reaches'>
  /** The interface's name. */
  zone: string
  /** The interface or a socket has failed, or the handler has thrown. */
  fail: (error: Error) => void
}

/** See `ServerEndpointParts`. */
export class ServerEndpoint implements UdpEndpoint {
  readonly ports: readonly number[]
  readonly addresses: UdpEndpoint['addresses']
  readonly verifiesChecksums: boolean
  readonly counters: Float64Array
  readonly deliver: UdpHandler
  readonly fail: (error: Error) => void
  readonly #sender: ServerEndpointParts['sender']
  readonly #kernel: readonly KernelSockets[]
  readonly #fromKernel: UdpMessage
  // Of each family, when it is the only one: what datagrams are sent from.
  readonly #source: { 4: Uint8Array | undefined; 6: Uint8Array | undefined }

  constructor(parts: ServerEndpointParts) {
    this.ports = parts.ports
    this.addresses = parts.addresses
    this.verifiesChecksums = parts.verifiesChecksums
    this.counters = parts.counters
    this.deliver = parts.handler
    this.fail = parts.fail
    this.#sender = parts.sender
    const only = (size: number) => {
      const fitting = (parts.listed ?? []).filter(({ length }) => length === size)
      return fitting.length === 1 ? fitting[0] : undefined
    }
    this.#source = { 4: only(4), 6: only(16) }
    this.#fromKernel = new UdpMessage(new Uint8Array(65_536), parts.zone)
    this.#kernel = parts.kernel.map(
      (bound) =>
        new KernelSockets(bound, {
          onMessage: (message, sender, localPort) => this.#deliverFromKernel(localPort, message, sender),
          onError: this.fail,
        }),
    )
  }

  /** See `UdpService.send`. */
  send(payload: Uint8Array | string, port: number, address: string, from: number = this.ports[0]): boolean {
    if (!(Number.isInteger(port) && port > 0 && port < 65_536))
      throw new OptionError('port', `"${port}" is no port to send to`)
    const bytes = typeof payload === 'string' ? Buffer.from(payload) : payload
    return this.#send(bytes, port, address, from, undefined)
  }

  /** Closes the kernel's sockets. */
  close(): void {
    for (const sockets of this.#kernel) sockets.close()
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
    const source = local ?? this.#source[address.includes(':') ? 6 : 4]
    const hasKernel = this.#kernel.length > 0
    const outcome = this.#sender.send(payload, port, address, { port: from, source, hasKernel })
    const { counters } = this
    if (outcome === 'dropped') {
      counters[UDP_COUNTER.dropped]++
      return false
    }
    if (outcome === 'kernel') this.#sendByKernel(payload, port, address, from, source)
    else counters[UDP_COUNTER.sent]++
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
      const errno = this.#sender.reaches(address) ? EMSGSIZE : EHOSTUNREACH
      throw new KernelError('send', errno, {
        about,
        hint: 'Only the kernel can send this: let the server have its kernel socket.',
      })
    }
    // Sent later: the caller may change the payload meanwhile.
    const copy = Buffer.from(payload)
    const done = (error: Error | null) => {
      this.counters[error ? UDP_COUNTER.dropped : UDP_COUNTER.sentByKernel]++
    }
    sockets.send(copy, port, address, done, local)
  }

  /** In a frame of its own, or by the kernel: from the address that the message was sent to, where that is one's own. */
  replyElsewhere(message: UdpMessage, payload: Uint8Array): boolean {
    if (message.port === 0) return false
    const local =
      message.localAddress === undefined ? undefined : parseIp(message.localAddress.replace(/%.*$/, ''))
    const isGroup = local && (local.length === 4 ? local[0] >= 224 : local[0] === 0xff)
    return this.#send(payload, message.port, message.address, message.localPort, isGroup ? undefined : local)
  }

  #deliverFromKernel(localPort: number, payload: Buffer, sender: RemoteInfo): void {
    const message = this.#fromKernel
    this.counters[UDP_COUNTER.receivedByKernel]++
    message.bytes.set(payload)
    message.offset = 0
    message.length = payload.length
    message.port = sender.port
    message.localPort = localPort
    message.family = sender.family === 'IPv4' ? 4 : 6
    message.via = 'kernel'
    message.room = -1
    message.begin(this, sender.address)
    try {
      this.deliver(message)
    } catch (error) {
      this.fail(error as Error)
    } finally {
      message.end()
    }
  }
}
