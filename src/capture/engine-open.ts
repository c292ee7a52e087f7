// Opens the source of a mode, and for `auto` the best one that works, with the reasons for every one that did not.
import {
  EOPNOTSUPP,
  ENOTSUPP,
  KernelError,
  NotFoundError,
  OptionError,
  UnsupportedError,
  XdpError,
  getFeatures,
  getInterface,
  listInterfaces,
} from '../kernel/index.js'
import { countQueues } from '../nic/queues.js'
import { FilterError } from '../filter/index.js'
import { requireSpare } from './divert-safety.js'
import { DivertSource, type DivertSourceOptions } from './divert-source.js'
import type { CheckedCapture, LiveMode } from './engine-options.js'
import { MirrorSource } from './mirror-source.js'
import { PacketRing, ringShape } from './packet-ring.js'
import type { PacketSource } from './source.js'

/** A mode that was tried and could not be had. */
export interface Fallback {
  mode: LiveMode
  /** One sentence. */
  reason: string
  error: Error
}

/** Who hears what became of the options. */
export interface Report {
  fallback: (fallback: Fallback) => void
  /** Something is less than what was asked for. */
  warning: (sentence: string) => void
}

/** Opens the first of the modes that can be had. Fallbacks are reported as they happen; throws what the last mode threw. */
export async function openSource(
  modes: readonly LiveMode[],
  options: CheckedCapture,
  report: Report,
): Promise<PacketSource> {
  if (options.interface === 'any') requireNamed(options)
  for (const mode of modes.slice(0, -1)) {
    try {
      return await openMode(mode, options, report)
    } catch (error) {
      if (!canFallBack(error)) throw error
      report.fallback({ mode, reason: error.message, error })
    }
  }
  return openMode(modes[modes.length - 1], options, report)
}

/** libpcap's name for all interfaces at once, unless one is called so. */
function requireNamed({ interface: name, namespace }: CheckedCapture): void {
  if (listInterfaces({ namespace }).some((device) => device.name === name)) return
  throw new UnsupportedError(
    'A capture is of one interface, and "any" is none',
    'Capture each by itself with -m packet -w NAME.pcapng, and merge the files: mergecap -w all.pcapng *.pcapng.',
  )
}

/** What was asked for wrongly is as wrong in every mode. */
function canFallBack(error: unknown): error is XdpError {
  if (!(error instanceof XdpError)) return false
  return !(error instanceof OptionError || error instanceof NotFoundError || error instanceof FilterError)
}

async function openMode(mode: LiveMode, options: CheckedCapture, report: Report): Promise<PacketSource> {
  const { interface: name, namespace, filter, snapLength, ringBytes, xdpMode, latency } = options
  if (mode === 'divert') requireSpare(name, options.takeTraffic ?? false, namespace)
  if (options.openSource) return options.openSource(mode, options)
  const common = { interface: name, namespace, filter, snapLength }
  switch (mode) {
    case 'divert': {
      const queues = queuesOf(options, report)
      const sockets = {
        ...options.sockets,
        ...common,
        queues,
        xdpMode,
        latency,
      }
      const source = await openDivert(sockets, options.lenient ?? false, report)
      for (const { message } of source.warnings) report.warning(message)
      return promiscuous(source, options, report)
    }
    case 'mirror': {
      const queues = queuesOf(options, report)
      const cutsSegments = isVethWithSegmentation(options)
      const source = MirrorSource.open({ ...common, queues, ringBytes, xdpMode, latency })
      if (cutsSegments && source.attachment.mode === 'native') {
        report.warning(
          `${name} is a veth, whose other end cuts what it sends to the MTU while this lasts, and TCP is slower: generic mode (xdp.flags: 2) and mode packet leave it alone`,
        )
      }
      return promiscuous(source, options, report)
    }
    case 'packet':
      return PacketRing.open({
        ...common,
        promiscuous: options.promiscuous,
        ...ringShape(ringBytes, latency),
      })
  }
}

/**
 * Whether it is a veth whose other end leaves it to nobody to cut TCP up, unless a program is in the driver here: the kernel cuts in
 * front of it then (drivers/net/veth.c: veth_xdp_set). The other end cannot be asked where it is in another namespace; it is made like this one.
 */
function isVethWithSegmentation({ interface: name, namespace }: CheckedCapture): boolean {
  const { kind, index } = getInterface(name, { namespace })
  return kind === 'veth' && getFeatures(index, { namespace })?.get('tx-tcp-segmentation')?.on === true
}

/** The source, with its interface taking what is not addressed to it if that is wanted: a capture without that is better than none. */
function promiscuous<Source extends MirrorSource | DivertSource>(
  source: Source,
  options: CheckedCapture,
  report: Report,
): Source {
  if (options.promiscuous === false) return source
  try {
    source.makePromiscuous()
  } catch (error) {
    report.warning(`${source.name} takes only what is addressed to it: ${(error as Error).message}`)
  }
  return source
}

/** The queues to take. Those that are not there are left out where that may be; where none is there, that is an error. */
function queuesOf(
  { queues = 'all', lenient, interface: name, namespace }: CheckedCapture,
  report: Report,
): 'all' | readonly number[] {
  if (queues === 'all') return queues
  if (queues.length === 0) throw new OptionError('queues', 'No queue was named', 'Use "all", or some.')
  const { rx } = countQueues(name, { namespace })
  const there = queues.filter((queue) => Number.isInteger(queue) && queue >= 0 && queue < rx)
  if (there.length === queues.length) return queues
  const missing = queues.filter((queue) => !there.includes(queue)).join(', ')
  if (!lenient || there.length === 0)
    throw new OptionError('queues', `${name} has no queue ${missing}; it has ${rx}, numbered from 0`)
  report.warning(
    `${name} has ${rx} ${rx === 1 ? 'queue' : 'queues'} and no queue ${missing}: ${there.join(', ')} will be captured`,
  )
  return there
}

/** Without zero copy where the device has none, if that may be. */
async function openDivert(
  options: DivertSourceOptions,
  lenient: boolean,
  report: Report,
): Promise<DivertSource> {
  try {
    return await DivertSource.open(options)
  } catch (error) {
    const hasNone = error instanceof KernelError && (error.errno === EOPNOTSUPP || error.errno === ENOTSUPP)
    if (!lenient || options.copy !== 'zero-copy' || !hasNone) throw error
    report.warning(`${options.interface} has no zero copy: packets are copied`)
    return DivertSource.open({ ...options, copy: 'copy' })
  }
}
