// The program in front of the sockets of an interface: what it is loaded with, what it is told, and the frames that it fills.
import { OptionError, UnsupportedError } from '../kernel/index.js'
import { RateLimit, defineRateLimit, type RateLimitOptions } from '../programs/rate-limit.js'
import { RedirectPortsProgram, defineRedirectPorts } from '../programs/redirect-ports.js'
import type { ProgramShape, SteeringProgram, XdpGroupOptions } from '../xsk/index.js'

/** What is asked of the program. */
export interface UdpProgramOptions {
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

/** What the program is told. */
export type Diversion = Pick<RedirectPortsProgram, 'add' | 'remove' | 'addVlan' | 'removeVlan'>

/** A program of somebody else's is told nothing. */
export const UNTOLD: Diversion = {
  add: () => undefined,
  remove: () => false,
  addVlan: () => undefined,
  removeVlan: () => false,
}

/** The program of an interface, to be loaded by whoever opens its sockets. */
export class UdpProgram {
  /** To be told who listens, once it is loaded. */
  told: Diversion = UNTOLD
  /** Undefined without one. */
  limit: RateLimit | undefined
  readonly #options: UdpProgramOptions

  /** Throws `OptionError` for what only the program of ours does, when there is another. */
  constructor(options: UdpProgramOptions) {
    this.#options = options
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

  /** Loads it: the `program` of a group's options. */
  readonly load = (shape: ProgramShape): SteeringProgram => {
    const { program, rateLimit } = this.#options
    if (program) return program(shape)
    const guard = rateLimit && defineRateLimit(rateLimit)
    const { queues, workersPerQueue } = shape
    const vlans = true
    const loaded = defineRedirectPorts(queues, {
      vlans,
      socketsPerQueue: workersPerQueue,
      ...(guard && { guard }),
    }).load()
    const own = new RedirectPortsProgram(loaded, { vlans })
    this.told = own
    this.limit = guard && new RateLimit(loaded)
    return own
  }
}

// 256 bytes of every frame are the kernel's, and two VLAN tags may come with a packet.
const FRAME_OVERHEAD = 256 + 14 + 8

/** The memory for a device with this MTU: a datagram has to fit in a frame. Throws `UnsupportedError` when it cannot. */
export function memoryFor(
  mtu: number,
  { interface: name, umem }: Pick<XdpGroupOptions, 'interface' | 'umem'>,
): NonNullable<XdpGroupOptions['umem']> {
  const given = umem && 'frameSize' in umem ? umem.frameSize : undefined
  const frameSize = given ?? (mtu + FRAME_OVERHEAD > 2048 ? 4096 : 2048)
  if (mtu + FRAME_OVERHEAD > frameSize) {
    throw new UnsupportedError(
      `${name} has an MTU of ${mtu}, and a datagram has to fit in a frame of ${frameSize} bytes`,
      `Set an MTU of at most ${frameSize - FRAME_OVERHEAD}${given === undefined ? '' : ', or use larger frames'}.`,
    )
  }
  return umem && 'bytes' in umem ? umem : { ...umem, frameSize }
}
