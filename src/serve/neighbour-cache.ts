// The hardware addresses of next hops, as the kernel knows them: read once, then kept fresh by what it announces.
import {
  KernelError,
  getNeighbour,
  listAddresses,
  useNeighbour,
  type LinkAddress,
  type Namespace,
  type Neighbour,
  type NeighbourState,
} from '../kernel/index.js'
import { formatIp } from '../packet/index.js'

/** Something that waits for a next hop to be found: `ready` is called when it is, `failed` when the kernel gives it up. */
export interface Waiter {
  ready(): void
  failed(): void
}

/** A neighbour that packets are handed to. */
export class NextHop {
  readonly ifindex: number
  /** 4 or 16 bytes. */
  readonly address: Uint8Array
  /** Undefined while nobody knows it. */
  mac: Uint8Array | undefined
  state: NeighbourState = 'none'
  /** Set by whoever sends there, cleared by `tick`. */
  isUsed = false
  /** In order. */
  readonly waiters: Waiter[] = []
  /** Whom to tell when the hardware address has changed. */
  readonly onMac = new Set<() => void>()
  askedAt = -Infinity

  constructor(ifindex: number, address: Uint8Array) {
    this.ifindex = ifindex
    this.address = address
  }
}

/** A packet may go to a neighbour in one of these states: what is stale is used until it proves wrong (RFC 4861 7.3.3). */
const USABLE: ReadonlySet<NeighbourState> = new Set([
  'reachable',
  'stale',
  'delay',
  'probe',
  'noarp',
  'permanent',
])

/** How often the kernel is asked for a neighbour that it does not find: it tries for three seconds each time by default. */
const ASK_AGAIN_MS = 1000
/** How long something waits at the most, should the kernel never say that it has given up. */
const PATIENCE_MS = 5000
/** Bounds memory when somebody sends to ever new neighbours: the oldest is forgotten, and read again when it is needed. */
const MAX_HOPS = 4096

/** Next hops by interface and address. */
export class NeighbourCache {
  readonly #namespace: Namespace | undefined
  readonly #hops = new Map<string, NextHop>()

  constructor(namespace: Namespace | undefined) {
    this.#namespace = namespace
  }

  /** The neighbour at `address` (4 or 16 bytes), known or not. */
  get(ifindex: number, address: Uint8Array): NextHop {
    const key = keyOf(ifindex, address)
    let hop = this.#hops.get(key)
    if (hop) return hop
    hop = new NextHop(ifindex, address.slice())
    this.#hops.set(key, hop)
    this.#read(hop)
    if (this.#hops.size > MAX_HOPS) this.#forgetOldest()
    return hop
  }

  /**
   * Whether it is time to have the kernel look for a neighbour that is not known. Who is told so must send something there
   * through the kernel, or `wait`.
   */
  isDue(hop: NextHop): boolean {
    const now = performance.now()
    if (now - hop.askedAt < ASK_AGAIN_MS) return false
    hop.askedAt = now
    return true
  }

  /** Calls one of the waiter's functions in the end. `ask`: has the kernel look for the neighbour. */
  wait(hop: NextHop, waiter: Waiter, ask: boolean): void {
    hop.waiters.push(waiter)
    if (ask) this.#use(hop)
  }

  /** Takes up what the kernel has announced. */
  change(neighbour: Neighbour, gone: boolean): void {
    const hop = this.#hops.get(keyOf(neighbour.ifindex, neighbour.address))
    if (hop) this.#set(hop, gone ? undefined : neighbour)
  }

  /** Reads everything anew. */
  reload(): void {
    for (const hop of this.#hops.values()) this.#read(hop)
  }

  /**
   * To be called every second or so. Neighbours that packets went to are reported to the kernel, which does not see those
   * packets: it then checks whether a neighbour is still there, as it does for its own packets, and does not forget it.
   */
  tick(): void {
    const now = performance.now()
    for (const hop of this.#hops.values()) {
      if (hop.waiters.length > 0 && now - hop.askedAt > PATIENCE_MS) this.#giveUp(hop)
      if (!hop.isUsed) continue
      hop.isUsed = false
      if (hop.state === 'stale') this.#use(hop)
    }
  }

  /** Gives up everything that waits. */
  close(): void {
    for (const hop of this.#hops.values()) this.#giveUp(hop)
    this.#hops.clear()
  }

  #use(hop: NextHop): void {
    const { ifindex, address } = hop
    const namespace = this.#namespace
    try {
      // Asked like this the kernel solicits from its link-local address (net/ipv6/ndisc.c: ndisc_send_ns); without one it would
      // say nothing, hear nothing, and take the neighbour for dead.
      if (address.length === 16 && !listAddresses({ ifindex, namespace }).some(isLinkLocal)) return
      useNeighbour(ifindex, address, { namespace })
    } catch (error) {
      // The interface is down or gone (ENETDOWN, ENODEV), or its table full (ENOBUFS).
      if (!(error instanceof KernelError)) throw error
      this.#giveUp(hop)
    }
  }

  #read(hop: NextHop): void {
    this.#set(hop, getNeighbour(hop.ifindex, hop.address, { namespace: this.#namespace }))
  }

  #set(hop: NextHop, known: Neighbour | undefined): void {
    hop.state = known?.state ?? 'none'
    const mac = known?.mac?.length === 6 && USABLE.has(known.state) ? known.mac : undefined
    const isOther = mac !== undefined && !(hop.mac && Buffer.compare(mac, hop.mac) === 0)
    hop.mac = mac
    if (isOther) for (const tell of hop.onMac) tell()
    if (mac !== undefined) for (const waiter of hop.waiters.splice(0)) waiter.ready()
    else if (hop.state === 'failed') this.#giveUp(hop)
  }

  #giveUp(hop: NextHop): void {
    for (const waiter of hop.waiters.splice(0)) waiter.failed()
  }

  #forgetOldest(): void {
    for (const [key, hop] of this.#hops) {
      if (hop.waiters.length > 0 || hop.onMac.size > 0) continue
      this.#hops.delete(key)
      return
    }
  }
}

const isLinkLocal = ({ version, scope, tentative }: LinkAddress): boolean =>
  version === 6 && scope === 'link' && !tentative

function keyOf(ifindex: number, address: Uint8Array): string {
  return `${ifindex} ${formatIp(address)}`
}
