// Who on an interface gets which datagrams: endpoints by port, and what the program is told of them.
import { EADDRINUSE } from '../kernel/errno.js'
import { KernelError } from '../kernel/index.js'
import { formatIp, parseIp } from '../packet/index.js'
import type { RedirectPortsProgram } from '../programs/redirect-ports.js'
import type { MessageOrigin, UdpMessage } from './udp-message.js'

/** Somebody who wants datagrams. */
export interface UdpEndpoint extends MessageOrigin {
  readonly ports: readonly number[]
  /** Which addresses, 4 or 16 bytes each, given those of the interface; undefined: any. */
  addresses(own: readonly Uint8Array[]): readonly Uint8Array[] | undefined
  /** Whether datagrams whose checksum is wrong are dropped, as the kernel does. */
  readonly verifiesChecksums: boolean
  /** Slots of `UDP_COUNTER`: what it was given, and answered by `reply`. */
  readonly counters: Float64Array
  deliver(message: UdpMessage): void
  /** The interface is gone, or the handler threw. */
  fail(error: Error): void
}

/** What the program in front of the sockets is told. */
export type Diversion = Pick<RedirectPortsProgram, 'add' | 'remove'>

/** The endpoints of one interface. */
export class UdpListeners {
  readonly #program: Diversion
  readonly #name: string
  // Each with what the program takes for it: address and port, a space between them.
  readonly #endpoints = new Map<UdpEndpoint, Set<string>>()
  // By port: the position in `#byPort`, 0 for nobody.
  readonly #slots = new Uint16Array(65_536)
  readonly #byPort: UdpEndpoint[][] = [[]]

  /**
   * The port that `find` was last asked for where somebody listens alone, and who: to be looked at first. A processor that guesses the
   * comparison right knows the endpoint before it has the packet, whose bytes are the slowest thing to come by.
   */
  lastPort = -1
  last: UdpEndpoint | undefined

  /** `name` is the interface's, for messages. */
  constructor(program: Diversion, name: string) {
    this.#program = program
    this.#name = name
  }

  get count(): number {
    return this.#endpoints.size
  }

  /** The endpoints now, as a list of its own. */
  get all(): UdpEndpoint[] {
    return [...this.#endpoints.keys()]
  }

  /** Diverts an endpoint's ports to it, given the interface's addresses. Throws `KernelError` EADDRINUSE when another endpoint has one of them. */
  add(endpoint: UdpEndpoint, own: readonly Uint8Array[]): void {
    const taken = keysOf(endpoint, own)
    for (const keys of this.#endpoints.values()) {
      for (const key of taken) {
        if (!keys.has(key)) continue
        throw new KernelError('bind', EADDRINUSE, { about: `UDP ${key.trim()} on ${this.#name}` })
      }
    }
    this.#endpoints.set(endpoint, new Set())
    this.#forgetLast()
    for (const port of endpoint.ports) {
      if (this.#slots[port] === 0) this.#slots[port] = this.#byPort.push([]) - 1
      this.#byPort[this.#slots[port]].push(endpoint)
    }
    try {
      this.sync(endpoint, own)
    } catch (error) {
      this.remove(endpoint)
      throw error
    }
  }

  /** Leaves an endpoint's ports to the kernel again; false when it was not there. `isGone`: the program is no more. */
  remove(endpoint: UdpEndpoint, isGone = false): boolean {
    const keys = this.#endpoints.get(endpoint)
    if (!keys) return false
    this.#endpoints.delete(endpoint)
    this.#forgetLast()
    if (!isGone) for (const key of keys) this.#program.remove(endpointOf(key))
    for (const port of endpoint.ports) {
      const listeners = this.#byPort[this.#slots[port]]
      listeners.splice(listeners.indexOf(endpoint), 1)
    }
    return true
  }

  #forgetLast(): void {
    this.lastPort = -1
    this.last = undefined
  }

  /** Tells the program what an endpoint wants, now that the interface has these addresses. */
  sync(endpoint: UdpEndpoint, own: readonly Uint8Array[]): void {
    const keys = this.#endpoints.get(endpoint)
    if (!keys) return
    const wanted = keysOf(endpoint, own)
    for (const key of wanted) {
      if (keys.has(key)) continue
      this.#program.add(endpointOf(key))
      keys.add(key)
    }
    for (const key of keys) {
      if (wanted.has(key)) continue
      this.#program.remove(endpointOf(key))
      keys.delete(key)
    }
  }

  /**
   * Who gets what goes to a port, at the address of `size` bytes at `at`: of several on the port who named the address before who takes
   * any. When there is one alone the next datagram to the same port is theirs too: see `lastPort`.
   */
  find(port: number, bytes: Uint8Array, at: number, size: 4 | 16): UdpEndpoint | undefined {
    const listeners = this.#byPort[this.#slots[port]]
    if (listeners.length === 1) {
      this.lastPort = port
      this.last = listeners[0]
      return listeners[0]
    }
    if (listeners.length === 0) return undefined
    const address = formatIp(bytes.subarray(at, at + size))
    const has = (one: UdpEndpoint, key: string) => this.#endpoints.get(one)?.has(key) === true
    return (
      listeners.find((one) => has(one, `${address} ${port}`)) ?? listeners.find((one) => has(one, ` ${port}`))
    )
  }
}

function keysOf(endpoint: UdpEndpoint, own: readonly Uint8Array[]): Set<string> {
  const addresses = endpoint.addresses(own)?.map((address) => formatIp(address)) ?? ['']
  return new Set(addresses.flatMap((address) => endpoint.ports.map((port) => `${address} ${port}`)))
}

function endpointOf(key: string) {
  const [address, port] = key.split(' ')
  const bytes = parseIp(address)
  return { port: Number(port), protocol: 'udp', ...(bytes && { address: bytes }) } as const
}
