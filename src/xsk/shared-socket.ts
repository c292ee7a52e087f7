// The kernel's side of a socket: a descriptor with rings, bound to a queue, on a UMEM that other sockets may use too.
import { OptionError, getInterface, native } from '../kernel/index.js'
import { countQueues } from '../nic/queues.js'
import * as binding from './binding.js'
import type { CheckedOptions, RingSizes } from './options.js'
import { Umem, type FrameSlice, type UmemDescription } from './umem.js'

/** A socket that is bound and driven by nobody yet. It belongs to the thread that opened it; another one may drive it. */
export interface BoundSocket {
  readonly fd: number
  readonly options: CheckedOptions
  readonly umem: Umem
  /** The frames that are this socket's. */
  readonly slice: FrameSlice
  readonly range: FrameSlice | undefined
  readonly zeroCopy: boolean
  /** The most receive queues the device can ever have. */
  readonly maxQueues: number
  /** Closes the descriptor and gives the frames back. Whoever has its rings mapped must have unmapped them. */
  close(): void
}

/** What another thread needs to drive a bound socket: structured-cloneable. */
export interface BoundSocketDescription {
  fd: number
  interface: string
  queue: number
  umem: UmemDescription
  slice: FrameSlice
  range: FrameSlice | undefined
  rings: RingSizes
  zeroCopy: boolean
  options: Pick<
    CheckedOptions,
    'copy' | 'batch' | 'needWakeup' | 'multiBuffer' | 'busyPoll' | 'trackFrames' | 'wait'
  >
}

/** Which frames of which memory a socket gets, when it shares it with others. */
export interface FrameShare {
  umem: Umem
  slice: FrameSlice
  /** The frames of all sockets of the queue, when there are several: theirs change places. Default: `slice`. */
  range?: FrameSlice | undefined
  /** A socket that is bound to the same queue, whose fill and completion ring this one shares. */
  partner?: BoundSocket | undefined
  /** How long it is waited for queues that are busy, with all sockets that are opened at the same time. */
  patience?: binding.BusyPatience | undefined
}

/**
 * Opens a socket and binds it. With a `share` it takes its frames from there, otherwise all of `options.umem`, which
 * it makes when it is only a shape. Throws as `XdpSocket.open` does; nothing is left behind then.
 */
export async function openBoundSocket(options: CheckedOptions, share?: FrameShare): Promise<BoundSocket> {
  const { namespace, queue } = options
  const device = getInterface(options.interface, { namespace })
  const queues = countQueues(options.interface, { namespace })
  if (queue >= queues.rx) {
    throw new OptionError(
      'queue',
      `${options.interface} has no queue ${queue}; it has ${queues.rx}, numbered from 0`,
      `Use ${queues.rx === 1 ? 'queue 0' : `a queue from 0 to ${queues.rx - 1}`}, or add queues with \`ethtool -L\`.`,
    )
  }
  const key = binding.queueKey(namespace, device.index, queue)
  const fd = binding.openSocket(namespace)
  const given = share?.umem ?? (options.umem instanceof Umem ? options.umem : undefined)
  let umem = given
  let release: (() => void) | undefined
  const letGo = () => {
    release?.()
    if (umem !== given) umem?.close()
  }
  try {
    umem ??= Umem.create(options.umem instanceof Umem ? {} : options.umem)
    const memory = umem
    const slice = share?.slice ?? { first: 0, count: memory.frames }
    release = memory.claim(`${options.interface} queue ${queue}`, slice)
    const partner = share?.partner
    binding.createRings(fd, options.rings, partner && ['rx', 'tx'])
    if (options.busyPoll) binding.setBusyPoll(fd, options.busyPoll)
    binding.raiseTxBudget(fd, options.rings.tx)
    const request: binding.BindRequest = {
      interface: options.interface,
      ifindex: device.index,
      queue,
      namespace,
      key,
      // A zero-copy socket hears nothing from a generic program, so the kernel must not choose zero copy there.
      copy: options.mode === 'generic' ? 'copy' : options.copy,
      needWakeup: options.needWakeup,
      multiBuffer: options.multiBuffer,
      patience: share?.patience,
    }
    if (partner) binding.bindBeside(fd, partner.fd, request)
    else await binding.bindSocket(fd, memory, request)
    const close = () => {
      memory.removeBound(fd)
      binding.closeSocket(fd, key)
      letGo()
    }
    const zeroCopy = binding.isZeroCopy(fd)
    return { fd, options, umem, slice, range: share?.range, zeroCopy, maxQueues: queues.maxRx, close }
  } catch (error) {
    umem?.removeBound(fd)
    native.close(fd)
    letGo()
    throw error
  }
}

/** Describes a bound socket for the thread that is to drive it. */
export function describeBoundSocket(bound: BoundSocket): BoundSocketDescription {
  const { fd, umem, slice, range, zeroCopy } = bound
  const {
    interface: name,
    queue,
    rings,
    copy,
    batch,
    needWakeup,
    multiBuffer,
    busyPoll,
    trackFrames,
    wait,
  } = bound.options
  return {
    fd,
    interface: name,
    queue,
    umem: umem.describe(),
    slice,
    range,
    rings,
    zeroCopy,
    options: { copy, batch, needWakeup, multiBuffer, busyPoll, trackFrames, wait },
  }
}
