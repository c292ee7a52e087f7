// Who listens for UDP on an interface, and what is diverted for them while its addresses and VLANs come and go.
import { listAddresses, type Interface, type Namespace } from '../kernel/index.js'
import type { WatchNetwork } from './network-changes.js'
import { RouteCache } from './route-cache.js'
import { UdpListeners, type UdpEndpoint } from './udp-listeners.js'
import type { Diversion, UdpProgram, UdpProgramOptions } from './udp-program.js'

/** What a diversion is made of. */
export interface UdpDiversionParts {
  interface: string
  index: number
  namespace: Namespace | undefined
  /** Loaded. */
  program: UdpProgram
  vlans: UdpProgramOptions['vlans']
  /** Default: the kernel's announcements. */
  watch?: WatchNetwork
  /** Told the interface and the VLAN interfaces on it, as they are now, when something has changed. */
  onLinks?: (device: Interface, vlans: readonly Interface[]) => void
  fail: (error: Error) => void
}

/** Keeps the program of an interface in step with those who listen, and with the kernel. */
export class UdpDiversion {
  readonly listeners: UdpListeners
  readonly routes: RouteCache
  readonly #parts: UdpDiversionParts
  readonly #program: Diversion
  #vlans = new Set<number>()
  #isClosed = false

  constructor(parts: UdpDiversionParts) {
    const { index, namespace, program } = parts
    this.#parts = parts
    this.#program = program.told
    this.listeners = new UdpListeners(program.told, parts.interface)
    this.routes = new RouteCache(index, namespace, () => this.update(), parts.watch)
  }

  /** Diverts an endpoint's ports to it. Throws `KernelError` EADDRINUSE when another endpoint has one of them. */
  add(endpoint: UdpEndpoint): void {
    this.listeners.add(endpoint, this.#addresses)
  }

  /** Leaves an endpoint's ports to the kernel again; false when it was not there. */
  remove(endpoint: UdpEndpoint): boolean {
    return this.listeners.remove(endpoint, this.#isClosed)
  }

  /** Takes up that the interface, its VLANs or its addresses may have changed. */
  update(): void {
    if (this.#isClosed) return
    try {
      const { device, vlans } = this.routes.links
      if (!device) return // The sockets say so too.
      this.#parts.onLinks?.(device, vlans)
      const wanted = new Set(this.#parts.vlans ?? vlans.map(({ vlan }) => vlan?.id ?? 0))
      for (const id of wanted) if (!this.#vlans.has(id)) this.#program.addVlan(id)
      for (const id of this.#vlans) if (!wanted.has(id)) this.#program.removeVlan(id)
      this.#vlans = wanted
      const own = this.#addresses
      for (const endpoint of this.listeners.all) this.listeners.sync(endpoint, own)
    } catch (error) {
      this.#parts.fail(error as Error)
    }
  }

  /** Follows nothing any more. What is diverted ends with the program. */
  close(): void {
    this.#isClosed = true
    this.routes.close()
  }

  /** Those of the interface, its VLAN interfaces included. */
  get #addresses(): Uint8Array[] {
    const { index, namespace } = this.#parts
    const { vlans } = this.routes.links
    const isOurs = (ifindex: number) => ifindex === index || vlans.some((vlan) => vlan.index === ifindex)
    return listAddresses({ namespace })
      .filter(({ ifindex, tentative }) => !tentative && isOurs(ifindex))
      .map(({ address }) => address)
  }
}
