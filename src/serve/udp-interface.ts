// UDP on one interface, shared by all servers of a thread: opened once, kept in step with the kernel, closed by the last one.
import {
  OptionError,
  StateError,
  UnsupportedError,
  getInterface,
  listAddresses,
  type Namespace,
} from '../kernel/index.js'
import { RateLimit, defineRateLimit, type RateLimitOptions } from '../programs/rate-limit.js'
import { RedirectPortsProgram, defineRedirectPorts } from '../programs/redirect-ports.js'
import { XdpGroup, type RunOptions, type XdpGroupOptions } from '../xsk/index.js'
import type { LoopHandle } from '../xsk/loop.js'
import { RouteCache } from './route-cache.js'
import { UdpListeners, type UdpEndpoint } from './udp-listeners.js'
import { UdpReceiver, type UdpDropCounts } from './udp-receiver.js'
import { UdpSender, type DatagramSource, type SendOutcome } from './udp-sender.js'

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
  /**
   * A program that gives packets to the sockets, in the place of the one that takes what goes to the servers. It says which
   * addresses and VLANs, so that neither `vlans` nor `rateLimit` goes with it; of what it gives, datagrams to the ports of a server
   * are delivered, and everything else is dropped.
   */
  program?: NonNullable<XdpGroupOptions['program']> | undefined
}

/** What is told to the program in front of the sockets. */
type Diversion = Pick<RedirectPortsProgram, 'add' | 'remove' | 'addVlan' | 'removeVlan'>

/** A program of somebody else's is told nothing. */
const UNTOLD: Diversion = {
  add: () => undefined,
  remove: () => false,
  addVlan: () => undefined,
  removeVlan: () => false,
}

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
  readonly #program: Diversion
  readonly #listeners: UdpListeners
  readonly #receiver: UdpReceiver
  readonly #sender: UdpSender
  readonly #running: Promise<void>
  #finished: Promise<void> | undefined
  #vlans = new Set<number>()
  // What keeps the event loop alive, and who wants it to.
  readonly #handles = new Set<LoopHandle>()
  readonly #holders = new Set<UdpEndpoint>()
  #users = 0
  #isClosed = false

  private constructor(
    key: string,
    group: XdpGroup,
    { program, limit }: { program: Diversion; limit: RateLimit | undefined },
    options: UdpInterfaceOptions,
  ) {
    const { namespace } = options
    const { drops } = this
    const { umem, sockets } = group
    this.#key = key
    this.#options = options
    this.name = options.interface
    this.index = getInterface(options.interface, { namespace }).index
    this.group = group
    this.#program = program
    this.rateLimit = limit
    this.routes = new RouteCache(this.index, namespace, () => this.#update())
    const fail = (error: Error) => this.#fail(error)
    this.#listeners = new UdpListeners(program, this.name)
    this.#sender = new UdpSender({ sockets, routes: this.routes, drops, fail })
    this.#receiver = new UdpReceiver({
      bytes: umem.bytes,
      frameSize: umem.frameSize,
      zone: this.name,
      listeners: this.#listeners,
      drops,
      sender: this.#sender,
      failed: (endpoint, error) => {
        this.remove(endpoint)
        endpoint.fail(error)
      },
    })
    this.#update()
    this.#running = group.run(this.#receiver.handle, {
      handles: this.#handles,
      ...(options.wait && { wait: options.wait }),
      ...(options.budget !== undefined && { budget: options.budget }),
    })
    this.#running.catch(fail)
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
    requireFitting(options)
    const guard = options.rateLimit && defineRateLimit(options.rateLimit)
    const parts: { program: Diversion; limit: RateLimit | undefined }[] = []
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
      program: options.program ?? load,
    })
    try {
      const [own = { program: UNTOLD, limit: undefined }] = parts
      return new UdpInterface(key, group, own, options)
    } catch (error) {
      await group.close()
      throw error
    }
  }

  // Who shares an interface gets it as it is; what was demanded must hold.
  #requireGranted({ mode, copy, rateLimit, program }: UdpInterfaceOptions): void {
    if (program && program !== this.#options.program) {
      throw new OptionError(
        'program',
        `${this.name} is in use by a server of this thread already, and its program cannot be changed`,
        'Give the program to the first server, or this very function to all.',
      )
    }
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

  /** Diverts an endpoint's ports to it. Throws `KernelError` EADDRINUSE when another endpoint has one of them. */
  add(endpoint: UdpEndpoint): void {
    if (this.#isClosed) throw new StateError('The interface is closed')
    this.#listeners.add(endpoint, this.#addresses)
    this.keepAlive(endpoint, true)
  }

  /** Leaves an endpoint's ports to the kernel again. */
  remove(endpoint: UdpEndpoint): void {
    if (!this.#listeners.remove(endpoint, this.#isClosed)) return
    // Whoever closes wants to see the end of it.
    if (this.#listeners.count > 0) this.keepAlive(endpoint, false)
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

  /** Sends a datagram, or says that the kernel has to: see `SendOutcome`. */
  send(payload: Uint8Array, port: number, address: string, from: DatagramSource): SendOutcome {
    return this.#sender.send(payload, port, address, from)
  }

  /** Those of the interface, its VLAN interfaces included. */
  get #addresses(): Uint8Array[] {
    const { vlans } = this.routes.links
    const isOurs = (ifindex: number) => ifindex === this.index || vlans.some(({ index }) => index === ifindex)
    return listAddresses({ namespace: this.#options.namespace })
      .filter(({ ifindex, tentative }) => !tentative && isOurs(ifindex))
      .map(({ address }) => address)
  }

  // The interface, its VLANs or its addresses may have changed.
  #update(): void {
    if (this.#isClosed) return
    try {
      const { device, vlans } = this.routes.links
      if (!device) return // The sockets say so too.
      this.#receiver.setLinks(device, vlans)
      const wanted = new Set(this.#options.vlans ?? vlans.map(({ vlan }) => vlan?.id ?? 0))
      for (const id of wanted) if (!this.#vlans.has(id)) this.#program.addVlan(id)
      for (const id of this.#vlans) if (!wanted.has(id)) this.#program.removeVlan(id)
      this.#vlans = wanted
      const own = this.#addresses
      for (const endpoint of this.#listeners.all) this.#listeners.sync(endpoint, own)
    } catch (error) {
      this.#fail(error as Error)
    }
  }

  /** Waits until what was sent has left, as long as it moves. */
  async drain(): Promise<void> {
    // Down or gone: nothing will leave any more.
    await this.group.drain().catch(() => undefined)
  }

  /** Gives the interface back; the last one closes it. */
  async release(): Promise<void> {
    if (--this.#users > 0) return
    await this.#close()
  }

  #close(): Promise<void> {
    this.#finished ??= (async () => {
      this.#isClosed = true
      this.#sender.close()
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
    for (const endpoint of this.#listeners.all) endpoint.fail(error)
  }
}

/** Throws `OptionError` for what only the program of ours does, when there is another. */
function requireFitting(options: UdpInterfaceOptions): void {
  if (options.program === undefined) return
  for (const option of ['vlans', 'rateLimit'] as const) {
    if (options[option] === undefined) continue
    throw new OptionError(
      option,
      `With a program of your own, ${option} is for that to do`,
      `Leave ${option} out, or the program.`,
    )
  }
}
