// What an XdpSocket can be asked for, checked before any call is made.
import { oneOf } from '../kernel/one-of.js'
import {
  OptionError,
  UnsupportedError,
  kernelAtLeast,
  requireKernel,
  type Namespace,
} from '../kernel/index.js'
import type { BpfMap } from '../bpf/index.js'
import type { RunOptions } from './loop.js'
import { presetValues, type Preset } from './presets.js'
import { Umem, isPowerOfTwo, type UmemOptions } from './umem.js'

/** What was asked for and what the kernel gave. */
export interface Granted<Asked, Got> {
  asked: Asked
  got: Got
  /** Why it is not the better one, where that is known. */
  why?: string
}

/** Where the XDP program runs: in the driver, or in the kernel's generic path; `auto` tries them in that order. */
export type XdpMode = 'auto' | 'native' | 'generic'

/** Whether packets are copied into the UMEM or arrive there by DMA; `auto` takes zero copy where the driver has it. */
export type CopyMode = 'auto' | 'copy' | 'zero-copy'

/** Let the socket's own thread drive the device instead of interrupts. Kernel 5.11. */
export interface BusyPollOptions {
  /** How long one call may spin for a packet, in microseconds (SO_BUSY_POLL). Default 20. */
  microseconds?: number
  /** Packets one call may process (SO_BUSY_POLL_BUDGET). Default 64. */
  budget?: number
}

/** Entries of the four rings: powers of two. Default 2048 each. */
export interface RingSizes {
  rx: number
  tx: number
  fill: number
  completion: number
}

export interface XdpSocketOptions {
  /** Name of the network interface. */
  interface: string
  /** Values for what is not given here: memory, rings, `batch`, `busyPoll`, how `run` waits. Default `default`. */
  preset?: Preset
  /** The queue to receive from and send on. Default 0. */
  queue?: number
  /** Where the interface is, if not in the caller's network namespace. */
  namespace?: Namespace | undefined
  /** Default `auto`. */
  mode?: XdpMode
  /** Default `auto`. */
  copy?: CopyMode
  /**
   * How the default program, which redirects everything that arrives on the queue to the socket, is attached:
   * `auto` is by link where the kernel has links (5.9). `none` attaches nothing: the socket only sends. Default `auto`.
   */
  attach?: 'auto' | 'link' | 'netlink' | 'none'
  /** Put the socket into this XSKMAP, at the index of its queue, instead of attaching the default program. */
  xskMap?: BpfMap
  /** The memory to use, or its shape. A UMEM given here stays the caller's to close, after the socket. */
  umem?: Umem | UmemOptions
  rings?: Partial<RingSizes>
  /** Packets that `receive` takes at a time when no budget is given. Default 64. */
  batch?: number
  /**
   * Take and send packets that are longer than a frame, in several of them (XDP_USE_SG). A program that is not the default one must
   * be loaded with `frags`. Kernel 6.6. Default false: the kernel drops such packets, `statistics().kernel.rxDropped` counts them.
   */
  multiBuffer?: boolean
  /** Spare system calls while the kernel is awake anyway (XDP_USE_NEED_WAKEUP). Default true, where the kernel has it (5.4). */
  needWakeup?: boolean
  /** Default false. */
  busyPoll?: boolean | BusyPollOptions
  /** Check at every step who owns a frame, at about 1 ns a packet. Default false. */
  trackFrames?: boolean
}

// Each entry is 8 or 16 bytes of kernel memory that is taken at once.
const LARGEST_RING = 2 ** 20

/** The options with every default filled in. */
export interface CheckedOptions {
  interface: string
  queue: number
  namespace: Namespace | undefined
  mode: XdpMode
  copy: CopyMode
  attach: 'auto' | 'link' | 'netlink' | 'none'
  xskMap: BpfMap | undefined
  umem: Umem | UmemOptions
  rings: RingSizes
  batch: number
  needWakeup: boolean
  multiBuffer: boolean
  busyPoll: Required<BusyPollOptions> | undefined
  trackFrames: boolean
  wait: NonNullable<RunOptions['wait']>
}

/** Fills in the defaults. Throws `OptionError` naming the option that cannot be. */
export function checkOptions(options: XdpSocketOptions): CheckedOptions {
  const preset = presetValues(options.preset)
  const { queue = 0, mode = 'auto', copy = 'auto', attach = 'auto', batch = preset.batch } = options
  if (typeof options.interface !== 'string' || options.interface === '') {
    throw new OptionError('interface', 'No interface was named')
  }
  checkQueue(queue)
  if ((mode as string) === 'hardware') {
    throw new UnsupportedError(
      'An AF_XDP socket cannot take packets from a program in hardware mode',
      'Use mode "native": the program then runs in the driver, beside the socket.',
    )
  }
  oneOf('mode', mode, ['auto', 'native', 'generic'])
  oneOf('copy', copy, ['auto', 'copy', 'zero-copy'])
  oneOf('attach', attach, ['auto', 'link', 'netlink', 'none'])
  if (mode === 'generic' && copy === 'zero-copy') {
    throw new OptionError(
      'copy',
      'Zero copy cannot be had in generic mode',
      'Use mode "native", or copy "auto".',
    )
  }
  if (!Number.isInteger(batch) || batch < 1)
    throw new OptionError('batch', `A batch of ${batch} packets cannot be`)
  const rings: RingSizes = { ...preset.rings, ...withoutUndefined(options.rings ?? {}) }
  if (options.xskMap && options.xskMap.type !== 'xskmap') {
    throw new OptionError(
      'xskMap',
      `The map ${options.xskMap.name} is no XSKMAP but of type ${options.xskMap.type}`,
    )
  }
  for (const name of ['rx', 'tx', 'fill', 'completion'] as const) {
    const size = rings[name]
    if (!isPowerOfTwo(size) || size > LARGEST_RING) {
      throw new OptionError(
        `rings.${name}`,
        `The ${name} ring cannot have ${size} entries`,
        `Use a power of two up to ${LARGEST_RING}, such as 2048.`,
      )
    }
  }
  return {
    interface: options.interface,
    queue,
    namespace: options.namespace,
    mode,
    copy,
    attach,
    xskMap: options.xskMap,
    umem:
      options.umem instanceof Umem
        ? options.umem
        : { ...preset.umem, ...withoutUndefined(options.umem ?? {}) },
    rings,
    batch,
    needWakeup: options.needWakeup ?? kernelAtLeast(5, 4),
    multiBuffer: options.multiBuffer ?? false,
    busyPoll: checkBusyPoll(options.busyPoll ?? preset.busyPoll),
    trackFrames: options.trackFrames ?? false,
    wait: preset.wait,
  }
}

/** Throws `OptionError` for what is no number of a queue. */
export function checkQueue(queue: number): void {
  if (!Number.isInteger(queue) || queue < 0) throw new OptionError('queue', `"${queue}" is no queue number`)
}

function withoutUndefined<T extends object>(given: T): Partial<T> {
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)) as Partial<T>
}

function checkBusyPoll(asked: boolean | BusyPollOptions | undefined): Required<BusyPollOptions> | undefined {
  if (asked === undefined || asked === false) return undefined
  requireKernel('Busy polling', 5, 11)
  const { microseconds = 20, budget = 64 } = asked === true ? {} : asked
  if (!Number.isInteger(microseconds) || microseconds < 1) {
    throw new OptionError(
      'busyPoll.microseconds',
      `"${microseconds}" is no number of microseconds to poll for`,
    )
  }
  if (!Number.isInteger(budget) || budget < 1 || budget > 65535) {
    throw new OptionError(
      'busyPoll.budget',
      `A busy-poll budget of ${budget} packets cannot be`,
      'Use 1 to 65535.',
    )
  }
  return { microseconds, budget }
}
