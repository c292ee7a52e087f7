// What a forwarder can be asked for, checked before anything is opened.
import type { Filter } from '../filter/index.js'
import { OptionError, getInterface, type Interface, type Namespace } from '../kernel/index.js'
import { ETH_HLEN, VLAN_HLEN } from '../packet/index.js'
import {
  Umem,
  type GroupDevice,
  type GroupWarning,
  type ProgramShape,
  type RestartPolicy,
  type SteeringProgram,
  type UmemOptions,
  type WorkerCpus,
  type XdpGroupOptions,
} from '../xsk/index.js'
import { STALL_MS, START_TIMEOUT_MS, checkStallMs, checkStartTimeout } from '../xsk/controlled-thread.js'
import { XDP_PACKET_HEADROOM } from '../xsk/uapi.js'
import { planCpus } from '../xsk/worker-cpus.js'
import type { PipelineOptions } from './pipeline.js'
import { rewriter, type Rewrite, type Rewriter } from './rewrite.js'
import type { StageHandler } from './stage.js'

/** A device to forward from and to: its name, or more. */
export type ForwardDevice = string | Omit<GroupDevice, 'program'>

/** Two devices, or one that gets its packets back; sockets and memory as for `XdpGroup`. */
export interface ForwarderOptions extends Omit<
  XdpGroupOptions,
  'interface' | 'namespace' | 'queues' | 'program' | 'others' | 'attach' | 'multiBuffer'
> {
  in: ForwardDevice
  /** The other device. Without it, packets leave by the device they came from. */
  out?: ForwardDevice | undefined
  /**
   * What is done to hardware addresses, or to those of packets that leave by `out` and of those that leave by `in`.
   * Default: nothing between two devices, as in a cable; `swap` without `out`.
   */
  rewrite?: Rewrite | readonly [toOut: Rewrite, toIn: Rewrite] | undefined
  /**
   * What each packet goes through, one after the other: functions, called in this thread, and behind them modules (see
   * `StageModule`), which get a thread each.
   */
  stages?: readonly (StageHandler | URL)[] | undefined
  /** Given to each module, as a copy. */
  workerData?: unknown
  /** Which processor the thread of each module runs on. Default `none`: the scheduler's choice. */
  cpus?: WorkerCpus | undefined
  /**
   * How the thread of a module that ends by itself is replaced: packets wait meanwhile. After too many crashes in a row
   * `run` rejects; with false, after the first.
   */
  restart?: RestartPolicy | false | undefined
  /**
   * How long the thread of a module may make no progress, neither with packets nor on its event loop, before it counts as
   * stalled: event `stall`. Infinity: nobody looks. Default 2000.
   */
  stallMs?: number | undefined
  /** How long a module may take to be loaded and to answer with its stage; then `open` rejects. Default 30000. */
  startTimeoutMs?: number | undefined
  /**
   * A program of your own on each device, in place of the one that `filter` and `discovery` make: what it redirects to its map of
   * sockets is forwarded.
   */
  program?: ((shape: ProgramShape) => SteeringProgram) | undefined
  /** Forward only what matches; the kernel gets the rest. */
  filter?: Filter | undefined
  /**
   * Who gets ARP, neighbour discovery, and whatever is addressed to a group. Default: it is forwarded between two
   * devices, which makes them one link; `kernel` without `out`, so that the device can still be found.
   */
  discovery?: 'forward' | 'kernel' | undefined
  /** Receive what is addressed to others too, on a real device. Default: between two devices. */
  promiscuous?: boolean | undefined
  attach?: 'auto' | 'link' | 'netlink'
}

/** Something that is less than what was asked for, or may surprise, while the forwarder works. */
export type ForwardWarning =
  | GroupWarning
  | {
      /**
       * `frame-size`: the device may receive packets that are longer than a frame, which are dropped. `mtu`: the devices
       * differ. `stalled`: the thread of a stage stands still; never in the list of `warnings`.
       */
      code: 'frame-size' | 'mtu' | 'stalled'
      message: string
      interface?: string
    }

/** One way, with what it needs to know of its devices. */
export interface CheckedWay {
  readonly index: number
  readonly from: string
  readonly to: string
  readonly rewrite: Rewriter | undefined
}

/** The options with every default filled in. */
export interface CheckedForward {
  readonly devices: readonly Omit<GroupDevice, 'program'>[]
  readonly ways: readonly CheckedWay[]
  readonly stages: readonly StageHandler[]
  /** Stages with a thread. */
  readonly threads: Pick<
    PipelineOptions,
    'modules' | 'cpus' | 'restart' | 'stallMs' | 'startTimeoutMs' | 'workerData'
  >
  readonly discovery: 'forward' | 'kernel'
  readonly promiscuous: boolean
  readonly umem: Umem | UmemOptions
  readonly warnings: readonly ForwardWarning[]
}

// A packet may have two VLAN tags on top of the MTU.
const AROUND_MTU = ETH_HLEN + 2 * VLAN_HLEN
const LARGEST_FRAME = 4096

/** Fills in the defaults. Throws `OptionError` naming the option that cannot be, `NotFoundError` for a device that is not there. */
export function checkForward(options: ForwarderOptions): CheckedForward {
  const { discovery = options.out === undefined ? 'kernel' : 'forward' } = options
  const devices = [options.in, options.out]
    .filter((device) => device !== undefined)
    .map((device) => (typeof device === 'string' ? { interface: device } : device))
  const found = devices.map(({ interface: name, namespace }) => getInterface(name, { namespace }))
  if (devices.length > 1 && isSame(devices[0].namespace, devices[1].namespace, found)) {
    throw new OptionError(
      'out',
      `${devices[0].interface} cannot be forwarded to itself`,
      'To send packets back out of the device they came from, name it once.',
    )
  }
  if (discovery !== 'forward' && discovery !== 'kernel') {
    throw new OptionError(
      'discovery',
      `"${String(discovery)}" is nobody who gets packets`,
      'Use forward or kernel.',
    )
  }
  const contradiction = (['filter', 'discovery'] as const).find((name) => options[name] !== undefined)
  if (options.program !== undefined && contradiction !== undefined) {
    throw new OptionError(
      contradiction,
      `The program decides what is forwarded, and so does ${contradiction}`,
      'Leave one of them out.',
    )
  }
  if ('multiBuffer' in options && options.multiBuffer === true) {
    throw new OptionError(
      'multiBuffer',
      'Packets in several frames are not forwarded',
      'Leave it out, and make frames as large as the packets: umem.frameSize.',
    )
  }
  const { umem, warnings } = chooseFrames(options.umem ?? {}, found)
  const { stages, modules } = splitStages(options.stages ?? [])
  const near = devices[0].namespace ? undefined : devices[0].interface
  const cpus = planCpus(options.cpus ?? 'none', modules.length, near)
  return {
    devices,
    ways: waysOf(found, options.rewrite),
    stages,
    threads: {
      ...{ modules, cpus, workerData: options.workerData },
      restart: options.restart ?? {},
      stallMs: checkStallMs(options.stallMs ?? STALL_MS),
      startTimeoutMs: checkStartTimeout(options.startTimeoutMs ?? START_TIMEOUT_MS),
    },
    discovery,
    promiscuous: options.promiscuous ?? devices.length > 1,
    umem: umem instanceof Umem || modules.length === 0 ? umem : { ...umem, shared: true },
    warnings,
  }
}

function splitStages(given: readonly (StageHandler | URL)[]): { stages: StageHandler[]; modules: URL[] } {
  const stages = given.filter((stage) => typeof stage === 'function')
  const modules = given.filter((stage) => stage instanceof URL)
  if (
    modules.length + stages.length < given.length ||
    given.slice(stages.length).some((s) => !(s instanceof URL))
  ) {
    throw new OptionError(
      'stages',
      'Stages are functions, and behind them URLs of modules',
      'Put a function that is to come later into a module.',
    )
  }
  return { stages, modules }
}

function isSame(a: Namespace | undefined, b: Namespace | undefined, [first, second]: Interface[]): boolean {
  return a?.inode === b?.inode && first.index === second.index
}

function waysOf(devices: readonly Interface[], given: ForwarderOptions['rewrite']): CheckedWay[] {
  const [first, second = first] = devices
  const both = given ?? (devices.length > 1 ? 'none' : 'swap')
  const [toOut, toIn] = isPair(both) ? both : [both, both]
  const way = (index: number, from: Interface, to: Interface, rewrite: Rewrite): CheckedWay => ({
    index,
    from: from.name,
    to: to.name,
    rewrite: rewriter(rewrite, to.mac),
  })
  const forth = way(0, first, second, toOut)
  return devices.length > 1 ? [forth, way(1, second, first, toIn)] : [forth]
}

function isPair(rewrite: Rewrite | readonly [Rewrite, Rewrite]): rewrite is readonly [Rewrite, Rewrite] {
  return Array.isArray(rewrite)
}

/** Frames that hold what the devices may receive, unless told otherwise, and what to say about those that do not. */
function chooseFrames(
  given: Umem | UmemOptions,
  devices: readonly Interface[],
): Pick<CheckedForward, 'umem' | 'warnings'> {
  const longest = Math.max(...devices.map(({ mtu }) => mtu)) + AROUND_MTU
  const { headroom = 0 } = given
  const room = (frameSize: number) => frameSize - headroom - XDP_PACKET_HEADROOM
  const { frameSize = longest <= room(2048) ? 2048 : LARGEST_FRAME } = given
  const warnings: ForwardWarning[] = []
  for (const { name, mtu } of devices) {
    if (mtu + AROUND_MTU <= room(frameSize)) continue
    const message = `${name} may receive packets of ${mtu + AROUND_MTU} bytes; those above ${room(frameSize)} are dropped`
    warnings.push({ code: 'frame-size', message, interface: name })
  }
  const [first, second = first] = devices
  if (first.mtu !== second.mtu) {
    const [less, more] = [first, second].sort((a, b) => a.mtu - b.mtu)
    const message = `${less.name} has an MTU of ${less.mtu} and ${more.name} one of ${more.mtu}: what is longer may not pass`
    warnings.push({ code: 'mtu', message, interface: less.name })
  }
  return { umem: given instanceof Umem ? given : { ...given, frameSize }, warnings }
}
