// xdp generate: numbered, time-stamped packets into a network that is there for it.
import { randomInt } from 'node:crypto'
import { Command, InvalidArgumentError, Option } from 'commander'
import { CaptureReader } from '../capture/reader.js'
import { type GeneratorTemplate, type Sent, buildTemplates, generate } from '../generate/index.js'
import { KernelError, OptionError, XdpError, getInterface, lookUpRoute } from '../kernel/index.js'
import { listAddresses } from '../kernel/netlink/address.js'
import { listNeighbours } from '../kernel/netlink/neighbour.js'
import { isLabAlias } from '../lab/plan.js'
import { formatIp, formatMac, parseIp } from '../packet/address.js'
import { hostMac, ipAddress, mac, seconds, wholeNumber, wholeNumbers } from './arguments.js'
import { untilInterrupted } from './interrupt.js'
import { requireUp } from './require-up.js'

interface GenerateFlags {
  to?: string
  from?: string
  toMac?: string
  fromMac?: string
  port?: number
  size?: number[]
  vlan?: number[]
  flows: number
  rate?: number
  count?: number
  time?: number
  pcap?: string
  by?: 'kernel' | 'socket'
  queue?: number
  interval: number
  json?: boolean
  iOwnThisNetwork?: boolean
}

// A slow rate cannot be made by the kernel.
const SLOW = 10_000
const MOST_FROM_FILE = 65_536

export function generateCommand(): Command {
  return new Command('generate')
    .summary('send numbered, time-stamped packets, for `xdp measure` to receive')
    .description(
      'Sends UDP packets that carry a number and the time, or those of a capture file as they are. ' +
        'Ends after --count packets, --time seconds, or at Ctrl-C.',
    )
    .argument(
      '<interface>',
      'the interface they leave by: the end of a lab, or with --i-own-this-network any',
    )
    .option('--to <address>', 'where to: an IPv4 or IPv6 address', ipAddress)
    .option(
      '--to-mac <mac>',
      'the next hop (default: what the kernel has for --to in its neighbour table)',
      mac,
    )
    .option('--from <address>', "where from (default: the interface's address)", ipAddress)
    .option('--from-mac <mac>', "the sender's (default: the interface's)", hostMac)
    .option('-p, --port <port>', 'the UDP port (default: 9, discard)', wholeNumber(1, 65_535))
    .option(
      '-s, --size <bytes>',
      'bytes of a frame without its checksum, one or several as in 60,512',
      wholeNumbers(1, 65_535),
    )
    .option('--vlan <ids>', 'VLAN tags, the outermost first', wholeNumbers(0, 4095))
    .option('-f, --flows <n>', 'flows, told apart by their source port', wholeNumber(1, 16_384), 1)
    .option('-r, --rate <packets>', 'packets a second, as in 250k or 1.5M (default: all there is)', parseRate)
    .option('-c, --count <n>', 'packets to send', wholeNumber(1, Number.MAX_SAFE_INTEGER))
    .option('-t, --time <seconds>', 'seconds to send for', seconds)
    .addOption(
      new Option(
        '--pcap <file>',
        `send the packets of a capture file instead as they are, the first ${MOST_FROM_FILE} of them`,
      ).conflicts(['to', 'toMac', 'from', 'fromMac', 'port', 'size', 'vlan', 'flows']),
    )
    .addOption(
      new Option(
        '--by <sender>',
        'who makes the packets (default: the kernel; a socket below 10,000 a second, and for several sizes or a file)',
      ).choices(['kernel', 'socket']),
    )
    .option('-q, --queue <n>', 'the queue that a socket sends by (default: 0)', wholeNumber(0, 65_535))
    .option('-i, --interval <seconds>', 'how often to print how much was sent', seconds, 2)
    .option('--json', 'print that as JSON, one object a line')
    .option('--i-own-this-network', 'send into a network that is no lab')
    .addHelpText('after', '\nExample: xdp lab exec -e b -- xdp generate veth-b --to 10.11.1.1 --time 3')
    .action(run)
}

async function run(name: string, flags: GenerateFlags): Promise<void> {
  const { index, alias, loopback } = getInterface(name)
  if (!isLabAlias(alias) && !flags.iOwnThisNetwork) {
    throw new XdpError(
      'XDP_NOT_A_LAB',
      `${name} is no end of a lab, and a flood disturbs whoever is there`,
      'Try it in a lab (`xdp lab up`), or add --i-own-this-network.',
    )
  }
  if (loopback)
    throw new OptionError(
      'interface',
      'Nothing can be sent into loopback this way',
      'Use a lab: `xdp lab up`.',
    )
  requireUp(name)
  const { rate = 0 } = flags
  const stream = randomInt(0x10000)
  const templates = flags.pcap === undefined ? describe(index, name, flags, stream) : await read(flags.pcap)
  let printed = performance.now()
  let last: Sent = { packets: 0, bytes: 0, seconds: 0 }
  const print = (sent: Sent, isEnd = false) => {
    if (!isEnd && performance.now() - printed < flags.interval * 1000) return
    const since = isEnd ? { packets: 0, bytes: 0, seconds: 0 } : last
    const seconds = sent.seconds - since.seconds
    const perSecond = (count: number) => (seconds > 0 ? count / seconds : 0)
    const rates = {
      packetsPerSecond: perSecond(sent.packets - since.packets),
      bitsPerSecond: perSecond((sent.bytes - since.bytes) * 8),
    }
    printed = performance.now()
    last = sent
    console.log(flags.json ? JSON.stringify({ ...sent, ...rates, stream }) : sentence(sent, rates, isEnd))
  }
  const by = flags.by ?? ((rate > 0 && rate < SLOW) || templates.length > 1 ? 'socket' : 'kernel')
  if (flags.queue !== undefined && by !== 'socket')
    throw new OptionError('queue', 'The kernel sends by no queue in particular', 'Add --by socket.')
  await untilInterrupted(async (signal) => {
    const sent = await generate({
      interface: name,
      templates,
      by,
      rate,
      flows: flags.flows,
      queue: flags.queue ?? 0,
      stream,
      signal,
      onProgress: print,
      ...(flags.count === undefined ? {} : { count: flags.count }),
      ...(flags.time === undefined ? {} : { seconds: flags.time }),
    })
    print(sent, true)
  })
}

function sentence(
  sent: Sent,
  rates: { packetsPerSecond: number; bitsPerSecond: number },
  isEnd: boolean,
): string {
  const whole = (value: number) => Math.round(value).toLocaleString('en-US')
  const rate = `${whole(rates.packetsPerSecond)} packets/s, ${whole(rates.bitsPerSecond / 1e6)} Mbits/s`
  return isEnd
    ? `sent ${whole(sent.packets)} packets, ${whole(sent.bytes)} bytes in ${sent.seconds.toFixed(2)} s: ${rate}`
    : `${whole(sent.packets)} packets, ${rate}`
}

/** The templates that the flags describe. */
function describe(ifindex: number, name: string, flags: GenerateFlags, stream: number): GeneratorTemplate[] {
  const { to } = flags
  if (to === undefined) {
    throw new OptionError(
      'to',
      'Nothing says where to send',
      'Give --to an address, or --pcap a capture file.',
    )
  }
  const destination = parseIp(to)!
  const source = flags.from ?? ownAddress(ifindex, name, destination.length)
  if (parseIp(source)?.length !== destination.length)
    throw new OptionError('from', `${source} and ${to} are of two versions of IP`, 'Use one for both.')
  return buildTemplates({
    srcMac: flags.fromMac ?? formatMac(getInterface(name).mac ?? new Uint8Array(6)),
    dstMac: flags.toMac ?? nextHop(ifindex, name, destination),
    src: source,
    dst: to,
    stream,
    vlans: flags.vlan ?? [],
    ...(flags.port === undefined ? {} : { dstPort: flags.port }),
    ...(flags.size === undefined ? {} : { sizes: flags.size }),
  })
}

function nextHop(ifindex: number, name: string, destination: Uint8Array): string {
  const hop = gatewayTo(ifindex, destination) ?? destination
  const known = listNeighbours({ ifindex }).find(({ address }) => Buffer.compare(address, hop) === 0)
  if (known?.mac) return formatMac(known.mac)
  throw new OptionError(
    'to-mac',
    `The kernel knows no neighbour ${formatIp(hop)} on ${name}`,
    'Ping it once, or give --to-mac the address of the next hop.',
  )
}

/** Whom the kernel hands packets to on this interface; undefined when the destination is on the link, for all it knows. */
function gatewayTo(ifindex: number, destination: Uint8Array): Uint8Array | undefined {
  try {
    return lookUpRoute(destination, { ifindex }).gateway
  } catch (error) {
    if (error instanceof KernelError) return undefined
    throw error
  }
}

function ownAddress(ifindex: number, name: string, length: number): string {
  const own = listAddresses({ ifindex }).find(
    ({ address, scope }) => address.length === length && scope !== 'link',
  )
  if (own) return formatIp(own.address)
  throw new OptionError(
    'from',
    `${name} has no IPv${length === 4 ? 4 : 6} address`,
    'Give --from one to send from.',
  )
}

async function read(path: string): Promise<GeneratorTemplate[]> {
  const templates: GeneratorTemplate[] = []
  await using file = await CaptureReader.open(path)
  await file.read((packet) => {
    templates.push({ bytes: packet.copy().bytes })
    return templates.length < MOST_FROM_FILE
  })
  if (templates.length === 0) throw new OptionError('pcap', `${path} has no packets`)
  return templates
}

function parseRate(text: string): number {
  const [, number, unit = ''] = /^(\d+(?:\.\d+)?)([kM]?)$/.exec(text) ?? []
  const rate = Number(number) * { '': 1, k: 1e3, M: 1e6 }[unit as '' | 'k' | 'M']
  if (!(rate > 0 && rate <= 1e9))
    throw new InvalidArgumentError('Use packets a second, as in 5000, 250k or 1.5M.')
  return rate
}
