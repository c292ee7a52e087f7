// Datagrams sent to anybody by one interface: in frames of our own, once the next hop is known.
import type { XdpSocket } from '../xsk/index.js'
import type { Destination, RouteCache } from './route-cache.js'
import { UDP_COUNTER } from './udp-counters.js'
import { headersOf } from './udp-frame.js'

/** What became of a datagram: on its way, waiting for its next hop, dropped for want of room, or the kernel's to send. */
export type SendOutcome = 'sent' | 'waiting' | 'dropped' | 'kernel'

/** Where a datagram comes from. */
export interface DatagramSource {
  port: number
  /** Beats the address that the kernel would choose. */
  source: Uint8Array | undefined
  /** Whether the caller has the kernel's socket to send it by. */
  hasKernel: boolean
}

/** Datagrams that wait for their next hops: the kernel's own bound is 212992 bytes for each neighbour. */
const MAX_WAITING = 1024

/** What a sender is made of. */
export interface UdpSenderParts {
  /** One a queue. */
  sockets: readonly XdpSocket[]
  routes: RouteCache
  /** Slots of `UDP_COUNTER`: counts what waited in vain. */
  counters: Float64Array
  /** A TX ring could not be handed over: the interface is gone. */
  fail: (error: Error) => void
}

/** Sends by the queues of one interface. */
export class UdpSender {
  /** The queue whose batch is being received, which hands over what is sent meanwhile; -1 between batches. */
  batchOf = -1
  readonly #sockets: readonly XdpSocket[]
  readonly #byQueue: XdpSocket[] = []
  readonly #routes: RouteCache
  readonly #counters: Float64Array
  readonly #fail: (error: Error) => void
  #isFlushPlanned = false
  #isClosed = false
  #waiting = 0

  constructor({ sockets, routes, counters, fail }: UdpSenderParts) {
    this.#sockets = sockets
    for (const socket of sockets) this.#byQueue[socket.queue] = socket
    this.#routes = routes
    this.#counters = counters
    this.#fail = fail
  }

  /** Sends a datagram, or says that the kernel has to: see `SendOutcome`. */
  send(payload: Uint8Array, port: number, address: string, from: DatagramSource): SendOutcome {
    const destination = this.#routes.to(address)
    const hop = destination?.hop
    const source = from.source ?? destination?.source
    if (!destination || !hop || !source || source.length !== destination.address.length) return 'kernel'
    if (payload.length + headersOf(destination.link.version) > destination.mtu) return 'kernel'
    hop.isUsed = true
    if (hop.mac !== undefined && hop.waiters.length === 0) {
      return this.#transmit(destination, source, from.port, port, payload) ? 'sent' : 'dropped'
    }
    // The kernel looks for the neighbour when it is to send there; what comes after waits until it has found it.
    const isDue = this.#routes.neighbours.isDue(hop)
    if (isDue && from.hasKernel) return 'kernel'
    if (this.#waiting >= MAX_WAITING) {
      this.#counters[UDP_COUNTER.unresolved]++
      return 'dropped'
    }
    const copy = payload.slice()
    this.#waiting++
    const waiter = {
      ready: () => {
        this.#waiting--
        if (!this.#isClosed) this.#transmit(destination, source, from.port, port, copy)
      },
      failed: () => {
        this.#waiting--
        this.#counters[UDP_COUNTER.unresolved]++
      },
    }
    this.#routes.neighbours.wait(hop, waiter, isDue)
    return 'waiting'
  }

  /** Whether the way to an address is over the interface. */
  reaches(address: string): boolean {
    return this.#routes.to(address)?.hop !== undefined
  }

  /** From now on nothing is sent. */
  close(): void {
    this.#isClosed = true
  }

  #transmit(
    to: Destination,
    source: Uint8Array,
    srcPort: number,
    dstPort: number,
    payload: Uint8Array,
  ): boolean {
    const isInBatch = this.batchOf >= 0
    // Datagrams to one port go by one queue, which keeps their order.
    const socket = isInBatch ? this.#byQueue[this.batchOf] : this.#sockets[dstPort % this.#sockets.length]
    let frame = socket.allocate()
    if (frame < 0) {
      socket.flush()
      frame = socket.allocate()
      if (frame < 0) return false
    }
    const { bytes } = socket
    const at = frame + to.link.headers
    const { length } = payload
    if (length > 48) bytes.set(payload, at)
    else for (let i = 0; i < length; i++) bytes[at + i] = payload[i]
    const whole = to.link.write(bytes, frame, source, srcPort, to.address, dstPort, length)
    const isSent = socket.transmit(frame, whole)
    if (!isInBatch) this.#planFlush()
    return isSent
  }

  // Once for all that is sent until the present job of the event loop is over.
  #planFlush(): void {
    if (this.#isFlushPlanned) return
    this.#isFlushPlanned = true
    queueMicrotask(() => {
      this.#isFlushPlanned = false
      if (this.#isClosed) return
      try {
        for (const socket of this.#sockets) if (!socket.closed) socket.flush()
      } catch (error) {
        this.#fail(error as Error)
      }
    })
  }
}
