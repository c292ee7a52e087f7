// The way to each destination: by a frame of ours with these headers, or through the kernel. Kept fresh with the kernel's tables.
import {
  KernelError,
  listInterfaces,
  lookUpRoute,
  type Interface,
  type Namespace,
  type Route,
} from '../kernel/index.js'
import { parseIp } from '../packet/index.js'
import { NeighbourCache, type NextHop } from './neighbour-cache.js'
import { watchKernel, type WatchNetwork } from './network-changes.js'
import { LinkHeader } from './udp-frame.js'

/** Where datagrams may go to. */
export class Destination {
  /** 4 or 16 bytes. */
  readonly address: Uint8Array
  /** By a frame of ours, to this neighbour; undefined: the way is not over our interface, so the kernel has to send it. */
  hop: NextHop | undefined
  /** What a frame begins with. */
  readonly link = new LinkHeader()
  /** The address that the kernel would send from. */
  source: Uint8Array | undefined
  /** Bytes of the longest IP packet on the way, as far as it is known. */
  mtu = 0
  /** The cache's when it was looked up. */
  generation = -1

  constructor(address: Uint8Array) {
    this.address = address
  }

  /** Writes the neighbour's hardware address into the header. */
  readonly takeMac = (): void => {
    if (this.hop?.mac) this.link.destination = this.hop.mac
  }
}

/** Bounds memory: the destination that was looked up first is forgotten, and looked up again when it is needed. */
const MAX_DESTINATIONS = 16_384
/** What the kernel learns of a path's MTU it announces to nobody. */
const LOOK_AGAIN_TICKS = 60
const TICK_MS = 1000

/** Of one interface: destinations by address. */
export class RouteCache {
  readonly neighbours: NeighbourCache
  readonly #namespace: Namespace | undefined
  readonly #ifindex: number
  readonly #destinations = new Map<string, Destination>()
  readonly #watch: { close(): void }
  readonly #timer: NodeJS.Timeout
  readonly #onChange: () => void
  // Ours by index, and the VLAN interfaces on it.
  #links = new Map<number, Interface>()
  #generation = 0
  #ticks = 0
  #isStale = true

  /** `onChange` is called, soon, when links, addresses or routes have changed. `watch`: whom to hear it from. */
  constructor(
    ifindex: number,
    namespace: Namespace | undefined,
    onChange: () => void,
    watch: WatchNetwork = watchKernel(namespace),
  ) {
    this.#ifindex = ifindex
    this.#namespace = namespace
    this.#onChange = onChange
    this.neighbours = new NeighbourCache(namespace)
    const routes = () => {
      if (this.#isStale) return
      this.#isStale = true
      // A change seldom comes alone.
      setImmediate(() => this.#onChange())
    }
    this.#watch = watch({
      neighbour: (neighbour, gone) => this.neighbours.change(neighbour, gone),
      routes,
      lost: () => {
        routes()
        this.neighbours.reload()
      },
    })
    this.#timer = setInterval(() => this.#tick(), TICK_MS).unref()
  }

  /** The interface, and the VLAN interfaces that stand on it, as they are now. Undefined when it is gone. */
  get links(): { device: Interface | undefined; vlans: Interface[] } {
    this.#refresh()
    const vlans = [...this.#links.values()].filter((link) => link.index !== this.#ifindex)
    return { device: this.#links.get(this.#ifindex), vlans }
  }

  /**
   * The way to an address, as text; undefined for what is none. `%zone` is understood for our own interface. Looks at the kernel's
   * tables when it has not been asked before, or something has changed since.
   */
  to(text: string): Destination | undefined {
    let destination = this.#destinations.get(text)
    if (destination === undefined) {
      const address = this.#parse(text)
      if (address === undefined) return undefined
      destination = new Destination(address)
      this.#destinations.set(text, destination)
      if (this.#destinations.size > MAX_DESTINATIONS) this.#forgetOldest()
    }
    if (this.#isStale) this.#refresh()
    if (destination.generation !== this.#generation) this.#lookUp(destination)
    return destination
  }

  close(): void {
    clearInterval(this.#timer)
    this.#watch.close()
    this.neighbours.close()
    this.#destinations.clear()
  }

  #parse(text: string): Uint8Array | undefined {
    const percent = text.indexOf('%')
    if (percent < 0) return parseIp(text)
    this.#refresh()
    const zone = text.slice(percent + 1)
    const isOurs = zone === this.#links.get(this.#ifindex)?.name || zone === String(this.#ifindex)
    return isOurs ? parseIp(text.slice(0, percent)) : undefined
  }

  #refresh(): void {
    if (!this.#isStale) return
    this.#isStale = false
    this.#generation++
    const all = listInterfaces({ namespace: this.#namespace })
    const ours = all.filter(
      ({ index, vlan, peerIndex, peerNamespaceId }) =>
        index === this.#ifindex || (vlan && peerIndex === this.#ifindex && peerNamespaceId === undefined),
    )
    this.#links = new Map(ours.map((link) => [link.index, link]))
  }

  #lookUp(destination: Destination): void {
    destination.generation = this.#generation
    const route = this.#route(destination.address)
    const link = route?.ifindex === undefined ? undefined : this.#links.get(route.ifindex)
    destination.hop?.onMac.delete(destination.takeMac)
    destination.hop = undefined
    // An IPv4 packet to an IPv6 gateway needs that neighbour's entry, and IPv4 headers: nothing special.
    if (!route || !link || route.type !== 'unicast' || link.mac.length !== 6) return
    destination.mtu = Math.min(link.mtu, route.mtu ?? link.mtu)
    destination.source = route.source
    destination.link.set(link.mac, link.vlan, destination.address.length === 4 ? 4 : 6)
    const hop = this.neighbours.get(link.index, route.gateway ?? destination.address)
    destination.hop = hop
    hop.onMac.add(destination.takeMac)
    destination.takeMac()
  }

  // Undefined when there is none: the kernel says it again, and why, to whoever sends through it.
  #route(address: Uint8Array): Route | undefined {
    const isLinkLocal = address.length === 16 && address[0] === 0xfe && (address[1] & 0xc0) === 0x80
    const scope = isLinkLocal ? { ifindex: this.#ifindex } : {}
    try {
      return lookUpRoute(address, { namespace: this.#namespace, ...scope })
    } catch (error) {
      if (error instanceof KernelError) return undefined
      throw error
    }
  }

  #tick(): void {
    this.neighbours.tick()
    if (++this.#ticks % LOOK_AGAIN_TICKS === 0) this.#generation++
  }

  #forgetOldest(): void {
    for (const [text, destination] of this.#destinations) {
      destination.hop?.onMac.delete(destination.takeMac)
      this.#destinations.delete(text)
      return
    }
  }
}
