// One socket a queue behind one program, driven by one thread.
import { OptionError, inNamespace } from '../kernel/index.js'
import { attachXdp, type BpfMap, type BpfProgram, type XdpAttachment } from '../bpf/index.js'
import { countQueues } from '../nic/queues.js'
import { RedirectProgram } from '../programs/redirect.js'
import type { RunOptions } from './loop.js'
import type { XdpSocketOptions } from './options.js'
import type { PacketHandler } from './packet.js'
import { XdpSocket } from './socket.js'
import type { SocketStatistics } from './statistics.js'
import { Umem, type UmemOptions } from './umem.js'

/** A program that gives packets to sockets, and the map it finds them in by queue. */
export interface SteeringProgram {
  readonly program: BpfProgram
  readonly sockets: BpfMap<number, number>
  close(): void
}

export interface XdpGroupOptions extends Omit<XdpSocketOptions, 'queue' | 'xskMap' | 'umem'> {
  /** Default `all`: a packet that arrives on a queue without a socket passes to the kernel. */
  queues?: 'all' | readonly number[]
  /** Shape of each socket's memory: every socket has its own. */
  umem?: UmemOptions
  /**
   * Makes the program to attach, given the most queues the device can ever have. Default: the one that
   * redirects everything. It is made inside `namespace`, and closed with the group.
   */
  program?: (shape: { queues: number }) => SteeringProgram
}

const defaultProgram = (shape: { queues: number }): SteeringProgram => RedirectProgram.load(shape)

/** The sockets of an interface's queues. The program is attached by link: when the process ends, nothing is left of it. */
export class XdpGroup implements AsyncDisposable {
  readonly interface: string
  readonly sockets: readonly XdpSocket[]
  /** How the program is attached; undefined with `attach: 'none'`. */
  readonly attachment: XdpAttachment | undefined
  readonly #program: SteeringProgram

  private constructor(
    name: string,
    sockets: XdpSocket[],
    program: SteeringProgram,
    attachment: XdpAttachment | undefined,
  ) {
    this.interface = name
    this.sockets = sockets
    this.#program = program
    this.attachment = attachment
  }

  /** Opens a socket on each queue, then attaches the program. Throws as `XdpSocket.open` does; nothing is left behind then. */
  static async open(options: XdpGroupOptions): Promise<XdpGroup> {
    const { queues = 'all', program: load = defaultProgram, attach = 'auto', ...rest } = options
    const { namespace } = options
    const count = countQueues(options.interface, { namespace })
    const wanted =
      queues === 'all' ? Array.from({ length: count.rx }, (_, queue) => queue) : [...new Set(queues)]
    if (options.umem instanceof Umem) {
      throw new OptionError('umem', 'The sockets of a group cannot share one UMEM', 'Give its shape instead.')
    }
    if (wanted.length === 0)
      throw new OptionError('queues', 'No queue was named', 'Use "all", or at least one number.')
    const program = inNamespace(namespace, () => load({ queues: count.maxRx }))
    const sockets: XdpSocket[] = []
    try {
      for (const queue of wanted) {
        sockets.push(await XdpSocket.open({ ...rest, attach: 'none', queue, xskMap: program.sockets }))
      }
      const attachment =
        attach === 'none'
          ? undefined
          : attachXdp(program.program, {
              interface: options.interface,
              namespace,
              mode: sockets.some((socket) => socket.copy.got === 'zero-copy')
                ? 'native'
                : (options.mode ?? 'auto'),
              attach,
            })
      return new XdpGroup(options.interface, sockets, program, attachment)
    } catch (error) {
      for (const socket of sockets) await socket.close()
      program.close()
      throw error
    }
  }

  /** Gives every socket's packets to `handler` until stopped. Rejects when a handler throws or the device goes away. */
  async run(handler: PacketHandler, options: RunOptions = {}): Promise<void> {
    try {
      await Promise.all(this.sockets.map((socket) => socket.run(handler, options)))
    } finally {
      this.stop()
    }
  }

  /** Ends `run`. */
  stop(): void {
    for (const socket of this.sockets) socket.stop()
  }

  /** The statistics of all sockets, added up. */
  statistics(): SocketStatistics {
    return this.sockets.map((socket) => socket.statistics()).reduce(addUp)
  }

  /** Detaches the program, closes the sockets and their memory. Closing twice is harmless. */
  async close(): Promise<void> {
    try {
      this.attachment?.detach()
    } finally {
      // Also when the program could not be detached, because its namespace is closed, say.
      this.attachment?.close()
      for (const socket of this.sockets) await socket.close()
      this.#program.close()
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }
}

// Adds two trees of numbers of one shape.
function addUp<T extends object>(a: T, b: T): T {
  const sum = Object.entries(a).map(([key, value]: [string, number | object]) => {
    const other = b[key as keyof T] as number | object
    return [key, typeof value === 'number' ? value + (other as number) : addUp(value, other as object)]
  })
  return Object.fromEntries(sum) as T
}
