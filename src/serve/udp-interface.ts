// UDP on one interface: the sockets of its queues, the program in front of them, and who gets which datagram.
import { EADDRINUSE } from '../kernel/errno.js'
import {
  KernelError,
  OptionError,
  StateError,
  UnsupportedError,
  getInterface,
  listAddresses,
  type Namespace,
} from '../kernel/index.js'
import {
  Headers,
  IPPROTO_UDP,
  IPV4_AT,
  IPV4_HLEN,
  IPV6_AT,
  IPV6_HLEN,
  formatIp,
  parseHeaders,
  parseIp,
} from '../packet/index.js'
import { RateLimit, defineRateLimit, type RateLimitOptions } from '../programs/rate-limit.js'
import { RedirectPortsProgram, defineRedirectPorts } from '../programs/redirect-ports.js'
import {
  XdpGroup,
  type RunOptions,
  type Verdict,
  type XdpGroupOptions,
  type XdpPacket,
  type XdpSocket,
} from '../xsk/index.js'
import type { LoopHandle } from '../xsk/loop.js'
import { RouteCache, type Destination } from './route-cache.js'
import { checksumsValid, headersOf, turnAround } from './udp-frame.js'
import { UdpMessage, type MessageOrigin } from './udp-message.js'

/** How an interface is opened for UDP. */
export interface UdpInterfaceOptions
  extends
    Omit<XdpGroupOptions, 'program' | 'others' | 'interface' | 'namespace'>,
    Pick<RunOptions, 'wait' | 'budget'> {
  interface: string
  namespace?: Namespace | undefined
  /** VLANs to take tagged packets of. Default: those that VLAN interfaces on the interface are for. */
  vlans?: readonly number[] | undefined
  /** What each source address may send to all servers on the interface: the program drops the rest. Default: no limit. */
  rateLimit?: RateLimitOptions | undefined
}

/** Somebody who wants datagrams. */
export interface UdpEndpoint extends MessageOrigin {
  readonly ports: readonly number[]
  /** Which addresses, 4 or 16 bytes each, given those of the interface; undefined: any. */
  addresses(own: readonly Uint8Array[]): readonly Uint8Array[] | undefined
  /** Whether datagrams whose checksum is wrong are dropped, as the kernel does. */
  readonly verifiesChecksums: boolean
  deliver(message: UdpMessage): void
  /** The interface is gone, or the handler threw. */
  fail(error: Error): void
}

/** What was taken by the program and given to nobody. */
export interface UdpDropCounts {
  /** Header or checksum wrong. */
  damaged: number
  /** To another hardware address, or to nobody here any more. */
  unwanted: number
  /** Waited for their next hop in vain, or found too many waiting. */
  unresolved: number
}

/** What became of a datagram: on its way, waiting for its next hop, dropped for want of room, or the kernel's to send. */
export type SendOutcome = 'sent' | 'waiting' | 'dropped' | 'kernel'

/** Datagrams that wait for their next hops: the kernel's own bound is 212992 bytes for each neighbour. */
const MAX_WAITING = 1024
// 256 bytes of every frame are the kernel's, and two VLAN tags may come with a packet.
const FRAME_OVERHEAD = 256 + 14 + 8

const interfaces = new Map<string, Promise<UdpInterface>>()

/** An interface's UDP, shared by all servers of this thread on it. */
export class UdpInterface {
  readonly name: string
  readonly index: number
  readonly group: XdpGroup
  readonly routes: RouteCache
  readonly drops: UdpDropCounts = { damaged: 0, unwanted: 0, unresolved: 0 }
  /** Undefined without one. */
  readonly rateLimit: RateLimit | undefined
  readonly #key: string
  readonly #options: UdpInterfaceOptions
  readonly #program: RedirectPortsProgram
  readonly #endpoints = new Map<UdpEndpoint, Set<string>>()
  // By port: the position in `#listeners`, 0 for nobody.
  readonly #slots = new Uint16Array(65_536)
  readonly #listeners: UdpEndpoint[][] = [[]]
  readonly #headers = new Headers()
  readonly #message: UdpMessage
  readonly #byQueue: XdpSocket[] = []
  readonly #frameSize: number
  readonly #running: Promise<void>
  #vlans = new Set<number>()
  // Hardware addresses that are ours, each as its first two and its last four bytes.
  #macs: { high: number; low: number; mtu: number; vlan: number }[] = []
  #current: XdpSocket | undefined
  #deliveringTo: UdpEndpoint | undefined
  // What keeps the event loop alive, and who wants it to.
  readonly #handles = new Set<LoopHandle>()
  readonly #holders = new Set<UdpEndpoint>()
  #isFlushPlanned = false
  #waiting = 0
  #users = 0
  #isClosed = false

  private constructor(
    key: string,
    group: XdpGroup,
    { program, limit }: { program: RedirectPortsProgram; limit: RateLimit | undefined },
    options: UdpInterfaceOptions,
  ) {
    const { namespace } = options
    this.#key = key
    this.#options = options
    this.name = options.interface
    this.index = getInterface(options.interface, { namespace }).index
    this.group = group
    this.#program = program
    this.rateLimit = limit
    this.#frameSize = group.umem.frameSize
    for (const socket of group.sockets) this.#byQueue[socket.queue] = socket
    this.#message = new UdpMessage(group.umem.bytes, {
      replyElsewhere: (message, payload) => this.#deliveringTo?.replyElsewhere(message, payload) ?? false,
    })
    this.routes = new RouteCache(this.index, namespace, () => this.#update())
    this.#update()
    this.#running = group.run(this.#handle, {
      handles: this.#handles,
      ...(options.wait && { wait: options.wait }),
      ...(options.budget !== undefined && { budget: options.budget }),
    })
    this.#running.catch((error: unknown) => this.#fail(error as Error))
  }

  /** Opens an interface, or shares one that this thread has open. Give it back with `release`. Throws as `XdpGroup.open` does. */
  static async acquire(options: UdpInterfaceOptions): Promise<UdpInterface> {
    const { namespace } = options
    const device = getInterface(options.interface, { namespace })
    const key = `${namespace?.inode ?? ''}/${device.index}`
    for (;;) {
      const known = interfaces.get(key)
      const opening = known ?? UdpInterface.#open(key, options, device.mtu)
      if (known === undefined) interfaces.set(key, opening)
      try {
        const found = await opening
        if (found.#isClosed) {
          await found.#running.catch(() => undefined)
          await found.#finished
          continue
        }
        found.#requireGranted(options)
        found.#users++
        return found
      } catch (error) {
        if (known === undefined) interfaces.delete(key)
        throw error
      }
    }
  }

  static async #open(key: string, options: UdpInterfaceOptions, mtu: number): Promise<UdpInterface> {
    const given = options.umem && 'frameSize' in options.umem ? options.umem.frameSize : undefined
    const frameSize = given ?? (mtu + FRAME_OVERHEAD > 2048 ? 4096 : 2048)
    if (mtu + FRAME_OVERHEAD > frameSize) {
      throw new UnsupportedError(
        `${options.interface} has an MTU of ${mtu}, and a datagram has to fit in a frame of ${frameSize} bytes`,
        `Set an MTU of at most ${frameSize - FRAME_OVERHEAD}${given === undefined ? '' : ', or use larger frames'}.`,
      )
    }
    const guard = options.rateLimit && defineRateLimit(options.rateLimit)
    const parts: { program: RedirectPortsProgram; limit: RateLimit | undefined }[] = []
    const load = ({ queues }: { queues: number }) => {
      const vlans = true
      const loaded = defineRedirectPorts(queues, { vlans, ...(guard && { guard }) }).load()
      const program = new RedirectPortsProgram(loaded, { vlans })
      parts.push({ program, limit: guard && new RateLimit(loaded) })
      return program
    }
    const group = await XdpGroup.open({
      ...options,
      umem: options.umem && 'bytes' in options.umem ? options.umem : { ...options.umem, frameSize },
      program: load,
    })
    try {
      return new UdpInterface(key, group, parts[0], options)
    } catch (error) {
      await group.close()
      throw error
    }
  }

  // Who shares an interface gets it as it is; what was demanded must hold.
  #requireGranted({ mode, copy, rateLimit }: UdpInterfaceOptions): void {
    if (rateLimit && rateLimit !== this.#options.rateLimit) {
      throw new OptionError(
        'rateLimit',
        `${this.name} is in use by a server of this thread already, and its limit cannot be changed`,
        'Give the limit to the first server, or this very object to all.',
      )
    }
    const got = this.group.attachment?.mode
    const copies = this.group.sockets.map((socket) => socket.copy.got)
    if ((mode ?? 'auto') !== 'auto' && mode !== got) {
      throw new OptionError(
        'mode',
        `${this.name} is in use by a server of this thread already, in ${got} mode`,
      )
    }
    if ((copy ?? 'auto') !== 'auto' && copies.some((one) => one !== copy)) {
      throw new OptionError(
        'copy',
        `${this.name} is in use by a server of this thread already, with ${copies[0]}`,
      )
    }
  }

  // ---------------------------------------------------------------- who gets what

  /** Diverts an endpoint's ports to it. Throws `KernelError` EADDRINUSE when another endpoint has one of them. */
  add(endpoint: UdpEndpoint): void {
    if (this.#isClosed) throw new StateError('The interface is closed')
    const taken = this.#wanted(endpoint)
    for (const keys of this.#endpoints.values()) {
      for (const key of taken) {
        if (!keys.has(key)) continue
        throw new KernelError('bind', EADDRINUSE, { about: `UDP ${key.trim()} on ${this.name}` })
      }
    }
    this.#endpoints.set(endpoint, new Set())
    this.keepAlive(endpoint, true)
    for (const port of endpoint.ports) {
      if (this.#slots[port] === 0) this.#slots[port] = this.#listeners.push([]) - 1
      this.#listeners[this.#slots[port]].push(endpoint)
    }
    try {
      this.#sync(endpoint)
    } catch (error) {
      this.remove(endpoint)
      throw error
    }
  }

  /** Leaves an endpoint's ports to the kernel again. */
  remove(endpoint: UdpEndpoint): void {
    const keys = this.#endpoints.get(endpoint)
    if (!keys) return
    this.#endpoints.delete(endpoint)
    // Whoever closes wants to see the end of it.
    if (this.#endpoints.size > 0) this.keepAlive(endpoint, false)
    if (!this.#isClosed) for (const key of keys) this.#program.remove(endpointOf(key))
    for (const port of endpoint.ports) {
      const listeners = this.#listeners[this.#slots[port]]
      listeners.splice(listeners.indexOf(endpoint), 1)
    }
  }

  /** Whether the event loop is to stay alive for an endpoint; it does by default, as long as there is one that wants it. */
  keepAlive(endpoint: UdpEndpoint, wanted: boolean): void {
    if (wanted) this.#holders.add(endpoint)
    else this.#holders.delete(endpoint)
    for (const handle of this.#handles) {
      if (this.#holders.size > 0) handle.ref()
      else handle.unref()
    }
  }

  // Keys of the program's map: address and port, a space between them.
  #wanted(endpoint: UdpEndpoint): Set<string> {
    const own = listAddresses({ namespace: this.#options.namespace })
      .filter(({ ifindex, tentative }) => !tentative && this.#isOurs(ifindex))
      .map(({ address }) => address)
    const addresses = endpoint.addresses(own)?.map((address) => formatIp(address)) ?? ['']
    return new Set(addresses.flatMap((address) => endpoint.ports.map((port) => `${address} ${port}`)))
  }

  #isOurs(ifindex: number): boolean {
    return ifindex === this.index || this.routes.links.vlans.some(({ index }) => index === ifindex)
  }

  #sync(endpoint: UdpEndpoint): void {
    const keys = this.#endpoints.get(endpoint)
    if (!keys) return
    const wanted = this.#wanted(endpoint)
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

  // The interface, its VLANs or its addresses may have changed.
  #update(): void {
    if (this.#isClosed) return
    try {
      const { device, vlans } = this.routes.links
      if (!device) return // The sockets say so too.
      this.#macs = [device, ...vlans].map(({ index, mac, mtu, vlan }) => ({
        high: (mac[0] << 8) | mac[1],
        low: (mac[2] << 24) | (mac[3] << 16) | (mac[4] << 8) | mac[5],
        mtu,
        vlan: index === this.index ? -1 : (vlan?.id ?? -1),
      }))
      const wanted = new Set(this.#options.vlans ?? vlans.map(({ vlan }) => vlan?.id ?? 0))
      for (const id of wanted) if (!this.#vlans.has(id)) this.#program.addVlan(id)
      for (const id of this.#vlans) if (!wanted.has(id)) this.#program.removeVlan(id)
      this.#vlans = wanted
      for (const endpoint of this.#endpoints.keys()) this.#sync(endpoint)
    } catch (error) {
      this.#fail(error as Error)
    }
  }

  // ---------------------------------------------------------------- receiving

  readonly #handle = (packet: XdpPacket): Verdict => {
    const { bytes, offset } = packet
    const h = parseHeaders(bytes, offset, packet.length, this.#headers)
    const l3 = h.l3Offset
    const l4 = h.l4Offset
    if (
      h.problem !== 'none' ||
      h.protocol !== IPPROTO_UDP ||
      h.fragment !== 'none' ||
      l4 - l3 !== (h.ipVersion === 4 ? IPV4_HLEN : IPV6_HLEN)
    ) {
      this.drops.damaged++
      return undefined
    }
    const listeners = this.#listeners[this.#slots[h.dstPort]]
    const endpoint = listeners.length === 1 ? listeners[0] : this.#choose(listeners, bytes, h)
    const mtu = this.#mtuFor(packet, h.outerVlan)
    if (endpoint === undefined || mtu < 0) {
      this.drops.unwanted++
      return undefined
    }
    if (endpoint.verifiesChecksums && !checksumsValid(bytes, h)) {
      this.drops.damaged++
      return undefined
    }
    const message = this.#message
    message.offset = h.payloadOffset
    message.length = h.payloadEnd - h.payloadOffset
    message.port = h.srcPort
    message.localPort = h.dstPort
    message.family = h.ipVersion === 4 ? 4 : 6
    message.vlan = h.outerVlan
    message.addressAt = l3 + (h.ipVersion === 4 ? IPV4_AT.src : IPV6_AT.src)
    message.room = this.#room(packet, mtu)
    message.begin(this.name)
    this.#current = this.#byQueue[packet.queue]
    this.#deliveringTo = endpoint
    try {
      endpoint.deliver(message)
    } catch (error) {
      message.end()
      this.remove(endpoint)
      endpoint.fail(error as Error)
      return undefined
    } finally {
      this.#current = undefined
      this.#deliveringTo = undefined
    }
    const reply = message.end()
    if (reply < 0 || packet.frame < 0) return undefined
    packet.length = turnAround(bytes, h, reply)
    return 'transmit'
  }

  // How much a reply in place may hold; nothing when it would come from a group's address, or go to port 0.
  #room(packet: XdpPacket, mtu: number): number {
    const h = this.#headers
    const { bytes } = packet
    const destination = bytes[h.l3Offset + (h.ipVersion === 4 ? IPV4_AT.dst : IPV6_AT.dst)]
    const isGroup = h.ipVersion === 4 ? destination >= 224 : destination === 0xff
    if (isGroup || (bytes[h.offset] & 1) === 1 || h.srcPort === 0) return -1
    const inFrame = packet.frame + this.#frameSize - h.payloadOffset
    const inPacket = mtu - (h.payloadOffset - h.l3Offset)
    return inFrame < inPacket ? inFrame : inPacket
  }

  #choose(listeners: readonly UdpEndpoint[], bytes: Uint8Array, h: Headers): UdpEndpoint | undefined {
    if (listeners.length === 0) return undefined
    const at = h.l3Offset + (h.ipVersion === 4 ? IPV4_AT.dst : IPV6_AT.dst)
    const address = formatIp(bytes.subarray(at, at + (h.ipVersion === 4 ? 4 : 16)))
    const has = (one: UdpEndpoint, key: string) => this.#endpoints.get(one)?.has(key) === true
    return (
      listeners.find((one) => has(one, `${address} ${h.dstPort}`)) ??
      listeners.find((one) => has(one, ` ${h.dstPort}`))
    )
  }

  // The MTU of the link that the frame came by; -1 for a frame to another machine, as a switch or a mirror port may flood
  // them (the kernel's PACKET_OTHERHOST).
  #mtuFor({ view, offset }: XdpPacket, vlan: number): number {
    const high = view.getUint16(offset)
    const low = view.getInt32(offset + 2)
    const macs = this.#macs
    for (let i = 0; i < macs.length; i++) {
      const mac = macs[i]
      if (mac.vlan === vlan || macs.length === 1)
        return (high & 0x100) !== 0 || (mac.low === low && mac.high === high) ? mac.mtu : -1
    }
    // A VLAN that has no interface here.
    const mac = macs[0]
    return mac !== undefined && mac.low === low && mac.high === high ? mac.mtu : -1
  }

  // ---------------------------------------------------------------- sending

  /** Sends a datagram, or says that the kernel has to: see `SendOutcome`. `source` beats the address that the kernel would choose. */
  send(
    payload: Uint8Array,
    port: number,
    address: string,
    from: { port: number; source: Uint8Array | undefined; hasKernel: boolean },
  ): SendOutcome {
    const destination = this.routes.to(address)
    const hop = destination?.hop
    const source = from.source ?? destination?.source
    if (!destination || !hop || !source || source.length !== destination.address.length) return 'kernel'
    if (payload.length + headersOf(destination.link.version) > destination.mtu) return 'kernel'
    hop.isUsed = true
    if (hop.mac !== undefined && hop.waiters.length === 0) {
      return this.#transmit(destination, source, from.port, port, payload) ? 'sent' : 'dropped'
    }
    // The kernel looks for the neighbour when it is to send there; what comes after waits until it has found it.
    const isDue = this.routes.neighbours.isDue(hop)
    if (isDue && from.hasKernel) return 'kernel'
    if (this.#waiting >= MAX_WAITING) {
      this.drops.unresolved++
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
        this.drops.unresolved++
      },
    }
    this.routes.neighbours.wait(hop, waiter, isDue)
    return 'waiting'
  }

  #transmit(
    to: Destination,
    source: Uint8Array,
    srcPort: number,
    dstPort: number,
    payload: Uint8Array,
  ): boolean {
    const { sockets } = this.group
    // Datagrams to one port go by one queue, which keeps their order.
    const socket = this.#current ?? sockets[dstPort % sockets.length]
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
    if (this.#current === undefined) this.#planFlush()
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
        this.group.flush()
      } catch (error) {
        this.#fail(error as Error)
      }
    })
  }

  // ---------------------------------------------------------------- the end

  /** Waits until what was sent has left, as long as it moves. */
  async drain(): Promise<void> {
    // Down or gone: nothing will leave any more.
    await this.group.drain().catch(() => undefined)
  }

  #finished: Promise<void> | undefined

  /** Gives the interface back; the last one closes it. */
  async release(): Promise<void> {
    if (--this.#users > 0) return
    await this.#close()
  }

  #close(): Promise<void> {
    this.#finished ??= (async () => {
      this.#isClosed = true
      this.routes.close()
      this.group.stop()
      await this.#running.catch(() => undefined)
      await this.drain()
      try {
        await this.group.close()
      } finally {
        interfaces.delete(this.#key)
      }
    })()
    return this.#finished
  }

  #fail(error: Error): void {
    if (this.#isClosed) return
    for (const endpoint of [...this.#endpoints.keys()]) endpoint.fail(error)
  }
}

function endpointOf(key: string) {
  const [address, port] = key.split(' ')
  const bytes = parseIp(address)
  return { port: Number(port), protocol: 'udp', ...(bytes && { address: bytes }) } as const
}
