// What a capture can be asked for, checked before anything is opened.
import { compileFilter, type Filter } from '../filter/index.js'
import { OptionError, type Namespace } from '../kernel/index.js'
import { MAX_CAPTURED_LENGTH } from '../packet/pcap-record.js'
import type { DivertSocketOptions } from './divert-source.js'
import { checkTypes } from './engine-types.js'
import { LATENCY_MS } from './pace.js'
import type { PacketSource } from './source.js'

/** The ways to an interface's packets. */
export type LiveMode = 'divert' | 'mirror' | 'packet'

export interface CaptureOptions {
  interface: string
  /** Where the interface is, if not in the caller's network namespace. */
  namespace?: Namespace | undefined
  /**
   * `mirror`: an XDP program copies what arrives, which passes on; `packet`: AF_PACKET, what arrives and leaves;
   * `divert`: AF_XDP sockets take what arrives away from the host. `auto`, the default, is mirror, and packet where that
   * cannot be; `fallbacks` says why. It is never divert. A list is tried in its order.
   */
  mode?: 'auto' | LiveMode | readonly LiveMode[] | undefined
  /** In tcpdump's filter language. Default: every packet. */
  filter?: string | Filter | undefined
  /** The most bytes of a packet that are kept: 1 to 262144, the default. */
  snapLength?: number | undefined
  /** Consents to `divert` on loopback, or an interface that carries a default route or an SSH connection. */
  takeTraffic?: boolean | undefined
  /** Have the interface take what is not addressed to it, while the capture is open. Default true. */
  promiscuous?: boolean | undefined
  /** Packets that may wait between the source and the consumer. Default 10000. */
  buffer?: number | undefined
  /** Bytes that may wait there. Default 2048 a packet. */
  bufferBytes?: number | undefined
  /** Packets that `forEachBatch` hands on at most. Default 64. */
  batch?: number | undefined
  /**
   * How long a packet may wait for its batch to fill, in the kernel and in the queue: milliseconds. Default: 0 in the queue, and
   * `latency` in the kernel. 0: as soon as it can be had; `packet` still waits 20.
   */
  timeout?: number | undefined
  /**
   * How long a packet may wait in the kernel while others come, or for a block of `packet` to fill: milliseconds, 0 to 100. Default:
   * half of `timeout`, and 20 at most; without `timeout` too, but up to 250 in `packet`, where each such wait takes a block of
   * the ring, and for 100 up to 1000.
   */
  latency?: number | undefined
  /** Bytes of the kernel's ring in `mirror` (a power of two) and `packet`: 65536 to 2^30, default 8 MiB. */
  ringBytes?: number | undefined
  /** The receive queues to capture, in `divert` and `mirror`: one that is not there is an error. Default `all`. */
  queues?: 'all' | readonly number[] | undefined
  /** Where XDP programs run. Default `auto`. */
  xdpMode?: 'auto' | 'native' | 'generic' | undefined
  /** The sockets of `divert`. */
  sockets?: Omit<DivertSocketOptions, 'queues'> | undefined
  /** Have what the device cannot honour (some of the queues, zero copy) be a warning, not an error. Default false. */
  lenient?: boolean | undefined
  /** Opens the source instead of what the engine has for each mode: for tests, and sources of your own. */
  openSource?: ((mode: LiveMode, options: CheckedCapture) => PacketSource | Promise<PacketSource>) | undefined
}

/** The options with what every source wants to know filled in. */
export interface CheckedCapture extends Omit<CaptureOptions, 'filter' | 'mode' | 'latency'> {
  modes: readonly LiveMode[]
  filter: Filter | undefined
  snapLength: number
  batch: number
  /** Milliseconds that a packet may wait in the queue. */
  timeout: number
  /** And in the kernel, if someone said so. */
  latency: number | undefined
}

const MAX_LATENCY_MS = 100
/** Bytes of a ring. */
const MIN_RING = 65_536
const MAX_RING = 2 ** 30
const MODES: readonly LiveMode[] = ['divert', 'mirror', 'packet']
const AUTO: readonly LiveMode[] = ['mirror', 'packet']

/** Throws `OptionError`, and `FilterError` for a filter that is none. */
export function checkCapture(options: CaptureOptions): CheckedCapture {
  checkTypes(options)
  const { mode = 'auto', snapLength = MAX_CAPTURED_LENGTH, batch = 64, timeout = 0, ringBytes } = options
  const modes = modesOf(mode)
  if (ringBytes !== undefined) checkRing(ringBytes, modes)
  inRange('snapLength', snapLength, 1, MAX_CAPTURED_LENGTH)
  inRange('batch', batch, 1, 65_536)
  inRange('timeout', timeout, 0, 60_000)
  const {
    latency = options.timeout === undefined ? undefined : Math.min(Math.ceil(timeout / 2), LATENCY_MS),
  } = options
  if (latency !== undefined) inRange('latency', latency, 0, MAX_LATENCY_MS)
  const { filter } = options
  return {
    ...options,
    modes,
    snapLength,
    batch,
    timeout: Math.max(0, timeout - (latency ?? 0)),
    latency,
    filter: typeof filter === 'string' ? compileUnlessEmpty(filter) : filter,
  }
}

/** The modes to try, in this order. Throws `OptionError` for what is none. */
export function modesOf(mode: NonNullable<CaptureOptions['mode']>): readonly LiveMode[] {
  const modes: readonly LiveMode[] = mode === 'auto' ? AUTO : Array.isArray(mode) ? mode : [mode]
  for (const mode of modes) {
    if (!MODES.includes(mode))
      throw new OptionError('mode', `"${String(mode)}" is no mode`, `Use auto, ${MODES.join(', ')}.`)
  }
  if (modes.length === 0) throw new OptionError('mode', 'No mode was named', `Use auto, ${MODES.join(', ')}.`)
  return modes
}

/** An expression without words takes every packet, and needs no program. */
function compileUnlessEmpty(expression: string): Filter | undefined {
  return expression.trim() === '' ? undefined : compileFilter(expression)
}

function checkRing(bytes: number, modes: readonly LiveMode[]): void {
  inRange('ringBytes', bytes, MIN_RING, MAX_RING)
  if (modes.includes('mirror') && !Number.isInteger(Math.log2(bytes)))
    throw new OptionError(
      'ringBytes',
      `ringBytes is ${bytes}`,
      'Use a power of two: the ring of mirror has to be one.',
    )
}

function inRange(option: string, value: number, least: number, most: number): void {
  if (Number.isInteger(value) && value >= least && value <= most) return
  throw new OptionError(option, `${option} is ${String(value)}`, `Use ${least} to ${most}.`)
}
