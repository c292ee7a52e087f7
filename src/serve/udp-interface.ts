// UDP on one interface, shared by all servers of a thread: opened once, kept in step with the kernel, closed by the last one.
import { isDeepStrictEqual } from 'node:util'
import { OptionError, StateError, getInterface, type Namespace } from '../kernel/index.js'
import type { RateLimit } from '../programs/rate-limit.js'
import { XdpGroup, type RunOptions, type XdpGroupOptions } from '../xsk/index.js'
import type { LoopHandle } from '../xsk/loop.js'
import { makeCounters } from './udp-counters.js'
import { UdpDiversion } from './udp-diversion.js'
import type { UdpEndpoint } from './udp-listeners.js'
import { UdpProgram, memoryFor, type UdpProgramOptions } from './udp-program.js'
import { UdpReceiver } from './udp-receiver.js'
import { UdpSender, type DatagramSource, type SendOutcome } from './udp-sender.js'

/** How an interface is opened for UDP. */
export interface UdpInterfaceOptions
  extends
    Omit<XdpGroupOptions, 'program' | 'others' | 'interface' | 'namespace'>,
    Pick<RunOptions, 'wait' | 'budget'>,
    UdpProgramOptions {
  interface: string
  namespace?: Namespace | undefined
}

const interfaces = new Map<string, Promise<UdpInterface>>()

/** What the first server of an interface chooses for all. */
const SHARED = ['vlans', 'queues', 'preset', 'wait'] as const

/** An interface's UDP, shared by all servers of this thread on it. */
export class UdpInterface {
  readonly name: string
  readonly index: number
  readonly group: XdpGroup
  /** What was taken and given to nobody: slots of `UDP_COUNTER`. */
  readonly counters: Float64Array = makeCounters()
  /** Undefined without one. */
  readonly rateLimit: RateLimit | undefined
  readonly #key: string
  readonly #options: UdpInterfaceOptions
  readonly #diversion: UdpDiversion
  readonly #receiver: UdpReceiver
  readonly #sender: UdpSender
  readonly #running: Promise<void>
  #finished: Promise<void> | undefined
  // What keeps the event loop alive, and who wants it to.
  readonly #handles = new Set<LoopHandle>()
  readonly #holders = new Set<UdpEndpoint>()
  #users = 0
  #isClosed = false

  private constructor(key: string, group: XdpGroup, program: UdpProgram, options: UdpInterfaceOptions) {
    const { interface: name, namespace } = options
    const { counters } = this
    const { umem, sockets } = group
    this.#key = key
    this.#options = options
    this.name = name
    this.index = getInterface(name, { namespace }).index
    this.group = group
    this.rateLimit = program.limit
    const fail = (error: Error) => this.#fail(error)
    const diversion = new UdpDiversion({
      interface: name,
      index: this.index,
      namespace,
      program,
      vlans: options.vlans,
      onLinks: (device, vlans) => this.#receiver.setLinks(device, vlans),
      fail,
    })
    this.#diversion = diversion
    this.#sender = new UdpSender({ sockets, routes: diversion.routes, counters, fail })
    this.#receiver = new UdpReceiver({
      bytes: umem.bytes,
      frameSize: umem.frameSize,
      zone: name,
      listeners: diversion.listeners,
      counters,
      sender: this.#sender,
      failed: (endpoint, error) => {
        this.remove(endpoint)
        endpoint.fail(error)
      },
    })
    diversion.update()
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
    const umem = memoryFor(mtu, options)
    const program = new UdpProgram(options)
    const group = await XdpGroup.open({ ...options, umem, program: program.load })
    try {
      return new UdpInterface(key, group, program, options)
    } catch (error) {
      await group.close()
      throw error
    }
  }

  // Who shares an interface gets it as it is; what was demanded must hold.
  #requireGranted(given: UdpInterfaceOptions): void {
    const { mode, copy, rateLimit, program } = given
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
    for (const name of SHARED) {
      const wanted = given[name]
      if (wanted === undefined || isDeepStrictEqual(wanted, this.#options[name])) continue
      throw new OptionError(
        name,
        `${this.name} is in use by a server of this thread already, and its ${name} cannot be changed`,
        `Give ${name} to the first server.`,
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
    this.#diversion.add(endpoint)
    this.keepAlive(endpoint, true)
  }

  /** Leaves an endpoint's ports to the kernel again. */
  remove(endpoint: UdpEndpoint): void {
    if (!this.#diversion.remove(endpoint)) return
    // Whoever closes wants to see the end of it.
    if (this.#diversion.listeners.count > 0) this.keepAlive(endpoint, false)
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

  /** Whether the way to an address is over the interface. */
  reaches(address: string): boolean {
    return this.#sender.reaches(address)
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
      this.#diversion.close()
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
    for (const endpoint of this.#diversion.listeners.all) endpoint.fail(error)
  }
}
