// The ping responder on an interface: program, sockets and answers, kept to the interface's own addresses.
import { OptionError, getInterface, kernelAtLeast, listAddresses, type Interface } from '../kernel/index.js'
import { ETH_HLEN } from '../packet/index.js'
import { ResponderProgram } from '../programs/responder.js'
import { XdpGroup, type PacketHandler, type XdpGroupOptions } from '../xsk/index.js'
import { XDP_PACKET_HEADROOM } from '../xsk/uapi.js'
import { Responder, type ResponderCounts } from './responder.js'

export interface PingServerOptions extends Omit<XdpGroupOptions, 'program'> {
  /** Addresses to answer for besides the interface's own: 4 or 16 bytes each. */
  addresses?: readonly Uint8Array[]
}

/**
 * Answers IPv4 and IPv6 ping, ARP and neighbour solicitations for an interface's addresses from AF_XDP sockets.
 * Everything else reaches the kernel as before.
 *
 * `multiBuffer` is the default where the interface's MTU, when it is opened, is more than a frame has room for and the kernel can
 * (6.6): without it the kernel drops what a frame has no room for, and that ping is not answered.
 */
export class PingServer implements AsyncDisposable {
  readonly group: XdpGroup
  /** Answers a packet: give it to `group.run`. */
  readonly handle: PacketHandler
  /** What was answered so far. */
  readonly counts: Readonly<ResponderCounts>
  readonly #program: ResponderProgram
  readonly #device: Interface
  readonly #options: PingServerOptions

  private constructor(
    group: XdpGroup,
    program: ResponderProgram,
    device: Interface,
    options: PingServerOptions,
  ) {
    const responder = new Responder({ mac: device.mac, frameSize: group.sockets[0].umem.frameSize })
    this.group = group
    this.handle = responder.handle
    this.counts = responder.counts
    this.#program = program
    this.#device = device
    this.#options = options
  }

  /** Opens the sockets and attaches the program. Throws as `XdpSocket.open` does. */
  static async open(options: PingServerOptions): Promise<PingServer> {
    for (const { length } of options.addresses ?? []) {
      if (length !== 4 && length !== 16) {
        throw new OptionError('addresses', `An address of ${length} bytes cannot be`, 'Use 4 bytes, or 16.')
      }
    }
    const device = getInterface(options.interface, { namespace: options.namespace })
    const multiBuffer = options.multiBuffer ?? exceedsFrame(device, options)
    const programs: ResponderProgram[] = []
    const load = (shape: { queues: number }) => (programs[0] = ResponderProgram.load(shape))
    const group = await XdpGroup.open({ ...options, multiBuffer, program: load })
    try {
      const server = new PingServer(group, programs[0], device, options)
      server.refreshAddresses()
      return server
    } catch (error) {
      await group.close()
      throw error
    }
  }

  /** Reads the interface's addresses again and answers for those from now on. Returns them. */
  refreshAddresses(): Uint8Array[] {
    const { namespace, addresses = [] } = this.#options
    const own = listAddresses({ namespace, ifindex: this.#device.index }).map(({ address }) => address)
    const all = [...own, ...addresses]
    this.#program.setAddresses(all)
    return all
  }

  async close(): Promise<void> {
    await this.group.close()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }
}

/** Whether a packet of the interface can be longer than what a frame has room for, on a kernel that then uses several. */
function exceedsFrame({ mtu }: Interface, { umem = {} }: PingServerOptions): boolean {
  const { frameSize = 2048, headroom = 0 } = umem
  return kernelAtLeast(6, 6) && ETH_HLEN + mtu > frameSize - headroom - XDP_PACKET_HEADROOM
}
