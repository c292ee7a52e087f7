// Sends stamped packets: by live-frame runs in the kernel, or from an AF_XDP socket.
import { OptionError, getInterface } from '../kernel/index.js'
import { sendFromKernel } from './kernel-sender.js'
import type { GenerateOptions, Order, Sent } from './order.js'
import { sendFromSocket } from './socket-sender.js'
import { FIRST_PORT } from './templates.js'

const MAX_FLOWS = 16_384
// The Ethernet header, and a VLAN tag (net/core/dev.c: is_skb_forwardable).
const ABOVE_MTU = 14 + 4

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
  const { name, index, mtu } = getInterface(options.interface, { namespace: options.namespace })
  const longest = templates.find(({ bytes }) => bytes.length > mtu + ABOVE_MTU)
  if (longest !== undefined) {
    throw new OptionError(
      'size',
      `A frame of ${longest.bytes.length} bytes is too long for ${name}, whose MTU is ${mtu}`,
      `Use at most ${mtu + ABOVE_MTU}.`,
    )
  }
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
