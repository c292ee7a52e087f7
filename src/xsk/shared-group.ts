// What every kind of group is made of: devices, their queues, one memory cut into slices, a program a device.
import { KernelError, OptionError, getInterface, inNamespace, type Namespace } from '../kernel/index.js'
import { queryXdp, type XdpAttachment } from '../bpf/index.js'
import { countQueues } from '../nic/queues.js'
import { BalanceProgram } from '../programs/balance.js'
import { RedirectProgram } from '../programs/redirect.js'
import { BusyPatience } from './binding.js'
import { checkOptions, checkQueue, type CheckedOptions, type XdpSocketOptions } from './options.js'
import type { FrameShare } from './shared-socket.js'
import { attachSteering, type SteeringProgram } from './steering.js'
import { Umem, type FrameSlice, type UmemOptions } from './umem.js'

/** A device of a group. */
export interface GroupDevice {
  /** Name of the network interface. */
  interface: string
  /** Where the interface is, if not in the caller's network namespace. */
  namespace?: Namespace | undefined
  /** Default `all`: a packet that arrives on a queue without a socket passes to the kernel. */
  queues?: 'all' | readonly number[]
  /**
   * Makes the program to attach, given what it is for.
   * Default: the one that redirects everything; for several workers the one that spreads flows over them. It is made
   * inside `namespace`, and closed with the group. Worker number w of queue q is at w * queues + q of its map.
   */
  program?: (shape: ProgramShape) => SteeringProgram
}

/** What a group's program is for. */
export interface ProgramShape {
  /** The most queues the device can ever have. */
  queues: number
  workersPerQueue: number
  /** Packets longer than a frame are wanted too: the program is to be loaded with `frags`. */
  multiBuffer: boolean
}

export interface XdpGroupOptions extends Omit<XdpSocketOptions, 'queue' | 'xskMap' | 'umem'>, GroupDevice {
  interface: string
  namespace?: Namespace | undefined
  /** Further devices, whose sockets have their frames in the same memory: to forward packets between them. */
  others?: readonly GroupDevice[]
  /**
   * The memory that all sockets share, an equal slice each, or its shape: `frames` is then what each socket gets. A
   * UMEM given here stays the caller's to close, after the group.
   */
  umem?: Umem | UmemOptions
  /** Fail when a queue cannot be opened, rather than go on with the others and a warning. Default false. */
  strict?: boolean
}

/** Something that is less than what was asked for, while the group works. */
export interface GroupWarning {
  /**
   * `queue`: this queue has no socket, and its packets go to the kernel. `queue-count`: nobody says how many queues the
   * device has, so the group took one. `huge-pages`: the memory has ordinary pages. `stalled`: the thread of a worker stands
   * still; never in the list of `warnings`.
   */
  code: 'queue' | 'queue-count' | 'huge-pages' | 'stalled'
  message: string
  interface?: string
  queue?: number
  error?: Error
}

/** A device of an open group. */
export class OpenDevice {
  readonly interface: string
  readonly namespace: Namespace | undefined
  readonly queues: readonly number[]
  readonly program: SteeringProgram
  #attachment: XdpAttachment | undefined
  #attachProgram: (() => XdpAttachment) | undefined

  constructor(device: GroupDevice, queues: readonly number[], shape: ProgramShape) {
    const load =
      device.program ?? (shape.workersPerQueue > 1 ? loadBalance : RedirectProgram.load.bind(RedirectProgram))
    this.interface = device.interface
    this.namespace = device.namespace
    this.queues = queues
    this.program = inNamespace(device.namespace, () => load(shape))
  }

  /** How the program is attached; undefined with `attach: 'none'`. */
  get attachment(): XdpAttachment | undefined {
    return this.#attachment
  }

  /** Attaches the program, as `attachProgram` does. */
  attach(attachProgram: () => XdpAttachment): void {
    this.#attachProgram = attachProgram
    this.#attachment = attachProgram()
  }

  /** Attaches the program again when the device is another one by now, made anew under its name. Throws as the first time. */
  attachAnew(): void {
    const { interface: name, namespace } = this
    if (this.#attachment === undefined || this.#attachProgram === undefined) return
    const { index } = getInterface(name, { namespace })
    // The index may be the same; what has a program is the one, or somebody has put another in the place of ours.
    if (index === this.#attachment.ifindex && queryXdp(index, { namespace }).length > 0) return
    this.#attachment.close()
    this.#attachment = this.#attachProgram()
  }

  close(): void {
    try {
      this.#attachment?.detach()
    } finally {
      // Also when the program could not be detached, because its namespace is closed, say.
      this.#attachment?.close()
      this.program.close()
    }
  }
}

function loadBalance({
  queues,
  workersPerQueue,
}: {
  queues: number
  workersPerQueue: number
}): SteeringProgram {
  const balance = BalanceProgram.load({ to: 'sockets', count: workersPerQueue, queues })
  return { program: balance.program, sockets: balance.targets, close: () => balance.close() }
}

/** A place for a socket: a queue, and the slice of the memory that is its own. */
export interface Seat {
  device: OpenDevice
  queue: number
  /** Number of the socket among those of the queue. */
  member: number
  /** Where the program looks for the socket in its map. */
  mapIndex: number
  share: FrameShare & { slice: FrameSlice }
  options: CheckedOptions
}

/** Devices with their programs loaded, and the memory: everything but sockets and attachments. */
export class GroupParts {
  readonly devices: readonly OpenDevice[]
  readonly umem: Umem
  readonly seats: readonly Seat[]
  readonly warnings: GroupWarning[] = []
  /** Frames of a slice. */
  readonly sliceFrames: number
  readonly #options: XdpGroupOptions
  readonly #ownsUmem: boolean
  readonly #patience = new BusyPatience()

  /** Throws `OptionError`, `NotFoundError`, `KernelError`; nothing is left behind then. */
  constructor(options: XdpGroupOptions, perQueue = 1) {
    if (!Number.isInteger(perQueue) || perQueue < 1 || perQueue > MOST_PER_QUEUE) {
      throw new OptionError(
        'workersPerQueue',
        `A queue cannot have ${perQueue} workers`,
        `Use 1 to ${MOST_PER_QUEUE}.`,
      )
    }
    this.#options = options
    const { interface: name, namespace, queues, program } = options
    const given: GroupDevice[] = [
      { interface: name, namespace, ...(queues && { queues }), ...(program && { program }) },
    ]
    given.push(...(options.others ?? []))
    checkDevices(options, given)
    const wanted = given.map((device) => this.#queuesOf(device))
    const checked = checkOptions({ ...options, umem: options.umem ?? {} })
    const slices = wanted.reduce((sum, { queues }) => sum + queues.length, 0) * perQueue
    const devices: OpenDevice[] = []
    let umem: Umem | undefined
    this.#ownsUmem = !(checked.umem instanceof Umem)
    try {
      given.forEach((device, i) => {
        const shape = {
          queues: wanted[i].maxQueues,
          workersPerQueue: perQueue,
          multiBuffer: checked.multiBuffer,
        }
        devices.push(new OpenDevice(device, wanted[i].queues, shape))
      })
      this.umem = umem = checked.umem instanceof Umem ? checked.umem : createFor(checked.umem, slices)
    } catch (error) {
      devices.forEach((device) => device.close())
      throw error
    }
    this.devices = devices
    const count = (this.sliceFrames = Math.floor(umem.frames / slices))
    if (count < 1) {
      this.closeRest()
      throw new OptionError('umem', `A UMEM of ${umem.frames} frames is too small for ${slices} sockets`)
    }
    // What several sockets share must have room for all of them.
    const shared = (size: number) => 2 ** Math.ceil(Math.log2(size * perQueue))
    const { fill, completion } = checked.rings
    const rings = { ...checked.rings, fill: shared(fill), completion: shared(completion) }
    let next = 0
    this.seats = devices.flatMap((device, i) =>
      device.queues.flatMap((queue) => {
        const range = perQueue > 1 ? { first: next, count: count * perQueue } : undefined
        const own = {
          interface: device.interface,
          namespace: device.namespace,
          queue,
          attach: 'none',
        } as const
        return Array.from({ length: perQueue }, (_, member): Seat => {
          const slice = { first: next, count }
          next += count
          const mapIndex = member * wanted[i].maxQueues + queue
          return {
            device,
            queue,
            member,
            mapIndex,
            share: { umem, slice, range, patience: this.#patience },
            options: { ...checked, ...own, rings },
          }
        })
      }),
    )
    if (umem.pages.why !== undefined) {
      this.warnings.push({ code: 'huge-pages', message: `The memory has ordinary pages: ${umem.pages.why}` })
    }
  }

  #queuesOf({ interface: name, namespace, queues = 'all' }: GroupDevice): {
    queues: readonly number[]
    maxQueues: number
  } {
    const count = countQueues(name, { namespace })
    const isKnown = count.source !== 'default' && (count.source !== 'link' || count.rx === 1)
    if (queues === 'all' && !isKnown) {
      const most = count.rx > 1 ? `, ${count.rx} at the most` : ''
      const message = `Nobody says how many queues ${name} has${most}: the group takes queue 0 alone`
      this.warnings.push({ code: 'queue-count', message, interface: name })
    }
    const wanted =
      queues === 'all'
        ? Array.from({ length: isKnown ? count.rx : 1 }, (_, queue) => queue)
        : [...new Set(queues)]
    if (wanted.length === 0)
      throw new OptionError('queues', 'No queue was named', 'Use "all", or at least one number.')
    for (const queue of wanted) checkQueue(queue)
    return { queues: wanted, maxQueues: count.maxRx }
  }

  /**
   * Opens seats: one first, whose registration of the memory the others share, then the others at the same time.
   * A busy queue is waited for about a second, the whole group no longer. The answer has `undefined` where that failed, with a warning; when all failed, or one with `strict`, it throws.
   */
  async openAll<T>(
    seats: readonly Seat[],
    open: (seat: Seat) => Promise<T>,
    close: (opened: T) => Promise<void>,
  ): Promise<(T | undefined)[]> {
    const opened: (T | undefined)[] = []
    let failure: Error | undefined
    const attempt = async (seat: Seat, index: number) => {
      try {
        opened[index] = await open(seat)
      } catch (error) {
        opened[index] = undefined
        failure ??= error as Error
        // What cannot be meant fails the group; so does a crash of our own.
        if (this.#options.strict || !(error instanceof KernelError)) throw error
        this.warnQueue(seat, error)
      }
    }
    this.#patience.begin()
    try {
      let index = 0
      do await attempt(seats[index], index)
      while (opened[index++] === undefined && index < seats.length)
      const rest = seats.slice(index).map((seat, i) => attempt(seat, index + i))
      for (const result of await Promise.allSettled(rest))
        if (result.status === 'rejected') throw result.reason
      if (failure && opened.every((socket) => socket === undefined)) throw failure
      return opened
    } catch (error) {
      for (const socket of opened) if (socket !== undefined) await close(socket)
      throw error
    } finally {
      this.#patience.end()
    }
  }

  /** Notes that a queue has no socket, and returns the warning. */
  warnQueue(seat: Seat, error: Error): GroupWarning {
    const { device, queue } = seat
    const message = `Queue ${queue} of ${device.interface} has no socket: ${error.message}`
    const warning: GroupWarning = { code: 'queue', message, interface: device.interface, queue, error }
    this.warnings.push(warning)
    return warning
  }

  /** Attaches every device's program. `zeroCopy` says whether a device has a zero-copy socket. */
  attach(zeroCopy: (device: OpenDevice) => boolean): void {
    const { attach = 'auto', mode = 'auto', multiBuffer = false } = this.#options
    if (attach === 'none') return
    for (const device of this.devices) {
      device.attach(() =>
        attachSteering(device.program, {
          multiBuffer,
          interface: device.interface,
          namespace: device.namespace,
          // Only a program in the driver can give packets to a zero-copy socket.
          mode: zeroCopy(device) ? 'native' : mode,
          attach,
        }),
      )
    }
  }

  /** Detaches the programs, each even if another one could not be; throws the first failure. */
  closeDevices(): void {
    const failures: unknown[] = []
    for (const device of this.devices) {
      try {
        device.close()
      } catch (error) {
        failures.push(error)
      }
    }
    if (failures.length > 0) throw failures[0]
  }

  /** Frees the memory, once the sockets are closed. */
  closeUmem(): void {
    if (this.#ownsUmem) this.umem.close()
  }

  /** Both. */
  closeRest(): void {
    try {
      this.closeDevices()
    } finally {
      this.closeUmem()
    }
  }
}

const MOST_PER_QUEUE = 64

// What XdpSocket and other groups know, and what a caller without types may write.
function checkDevices(options: XdpGroupOptions, devices: readonly GroupDevice[]): void {
  if ('queue' in options && options.queue !== undefined) {
    throw new OptionError(
      'queue',
      'A group has `queues`, not `queue`',
      'Use queues: "all", or a list of numbers.',
    )
  }
  devices.forEach(({ interface: name, queues = 'all' }, i) => {
    if (typeof name !== 'string' || name === '') {
      throw new OptionError(i === 0 ? 'interface' : 'others', 'No interface was named')
    }
    // A word would be taken for a list of its letters.
    if (queues !== 'all' && !Array.isArray(queues)) {
      throw new OptionError(
        'queues',
        `"${String(queues)}" names no queues`,
        'Use "all", or a list of numbers.',
      )
    }
  })
}

function createFor(shape: UmemOptions, slices: number): Umem {
  const { frames = 4096 } = shape
  // A number that cannot be is refused as what the caller wrote.
  return Umem.create({ ...shape, frames: Number.isInteger(frames) && frames > 0 ? frames * slices : frames })
}

/** Adds two trees of numbers of one shape. */
export function addUp<T extends object>(a: T, b: T): T {
  const sum = Object.entries(a).map(([key, value]: [string, number | object]) => {
    const other = b[key as keyof T] as number | object
    return [key, typeof value === 'number' ? value + (other as number) : addUp(value, other as object)]
  })
  return Object.fromEntries(sum) as T
}
