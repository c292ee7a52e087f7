// Sends stamped packets: by live-frame runs in the kernel, or from an AF_XDP socket.
import { OptionError, type Namespace, getInterface } from '../kernel/index.js'
import type { TemplateLayout } from './program.js'
import { sendFromKernel } from './kernel-sender.js'
import { sendFromSocket } from './socket-sender.js'
import { FIRST_PORT } from './templates.js'

/** A packet to send copies of; without a place for a stamp it is sent as it is. */
export interface GeneratorTemplate {
  readonly bytes: Uint8Array
  readonly layout?: TemplateLayout | undefined
}

export interface GenerateOptions {
  /** The interface that the packets leave by: name or index. */
  interface: string | number
  /** Where it is. Default: where this thread is. */
  namespace?: Namespace | undefined
  /** Sent by turns. */
  templates: readonly GeneratorTemplate[]
  /**
   * Who sends. `kernel` (the default): live-frame runs, the fastest, on a thread of their own, from 10,000 packets a second on;
   * several templates change every second or quarter million packets. `socket`: an AF_XDP socket on `queue`.
   */
  by?: 'kernel' | 'socket'
  /** Packets a second, 0 for as fast as it goes. Default 0. */
  rate?: number
  /** Ends after so many packets. */
  count?: number
  /** Ends after so many seconds. One of the two, or `signal`, must be given. */
  seconds?: number
  /** Flows, told apart by the UDP source port: 1 to 16384. Default 1. */
  flows?: number
  /** Source port of the first flow, as in the templates. Default 49152. */
  firstPort?: number
  /** The stream in the templates' stamps. Default 0. */
  stream?: number
  /** For `socket`. Default 0. */
  queue?: number
  signal?: AbortSignal
  /** Called with what has been sent so far, some times a second. */
  onProgress?: (sent: Sent) => void
}

/** What was sent. */
export interface Sent {
  packets: number
  /** Without the frames' checksums. */
  bytes: number
  /** How long that took. */
  seconds: number
}

/** What both ways of sending are given. */
export interface Order extends Omit<GenerateOptions, 'interface' | 'by' | 'templates'> {
  interface: string
  ifindex: number
  templates: readonly [GeneratorTemplate, ...GeneratorTemplate[]]
  rate: number
  flows: number
  firstPort: number
  stream: number
  count: number
  seconds: number
}

const MAX_FLOWS = 16_384

/**
 * Sends until `count`, `seconds` or `signal` ends it, and says how much. Throws `OptionError`, `NotFoundError` for the interface,
 * `KernelError`; `kernel` needs Linux 5.18.
 */
export async function generate(options: GenerateOptions): Promise<Sent> {
  const { templates, by = 'kernel', count = Infinity, seconds = Infinity, rate = 0, flows = 1 } = options
  const [first, ...others] = templates
  if (first === undefined) throw new OptionError('templates', 'There is no packet to send')
  if (count === Infinity && seconds === Infinity && !options.signal) {
    throw new OptionError('count', 'Nothing says when to stop', 'Give count, seconds or signal.')
  }
  check('count', count, 1, Infinity)
  check('seconds', seconds, 0, Infinity)
  check('rate', rate, 0, 1e9)
  check('flows', flows, 1, MAX_FLOWS)
  const { name, index } = getInterface(options.interface, { namespace: options.namespace })
  const order: Order = {
    ...options,
    interface: name,
    ifindex: index,
    templates: [first, ...others],
    rate,
    flows,
    count,
    seconds,
    firstPort: options.firstPort ?? FIRST_PORT,
    stream: options.stream ?? 0,
  }
  return by === 'kernel' ? sendFromKernel(order) : sendFromSocket(order)
}

function check(option: string, value: number, min: number, max: number): void {
  if (value >= min && value <= max) return
  throw new OptionError(option, `${value} is no ${option}`, `Use ${min} to ${max}.`)
}
