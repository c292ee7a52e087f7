// xdp echo: a UDP server that answers with what it was sent (RFC 862), and an example of how a service starts and stops.
import { Command, InvalidArgumentError, Option } from 'commander'
import { OptionError, XdpError, getInterface } from '../kernel/index.js'
import { parsePort } from '../programs/settings.js'
import {
  createUdpServer,
  defaultInterface,
  notifyManager,
  type UdpServer,
  type UdpServerOptions,
  type UdpWorkerServer,
} from '../serve/index.js'
import { XdpGroup, type XdpWorkerGroup } from '../xsk/index.js'
import { ipAddress } from './arguments.js'
import { untilInterrupted } from './interrupt.js'
import { addSteeringOptions, type SteeringFlags } from './program-options.js'
import { requireUp } from './require-up.js'
import { describeGroup, type GroupSummary } from './run-group.js'
import { addSocketOptions, groupOptions, type SocketFlags } from './socket-options.js'
import { chooseSteering } from './steering.js'
import { TrafficPrinter } from './traffic.js'

const WORKER = new URL('./echo-worker.js', import.meta.url)

interface EchoFlags extends SocketFlags, SteeringFlags {
  port: number[]
  address?: string[]
  vlan?: number[]
  kernelSocket: boolean
  rateLimit?: number
  ban?: number
  requireNative?: boolean
  requireZeroCopy?: boolean
  wait?: 'event-loop' | 'poll'
  workers?: number
}

type EchoServer = UdpServer | UdpWorkerServer

export function echoCommand(): Command {
  return addSteeringOptions(addSocketOptions(new Command('echo')), {
    letter: '',
    own: 'one that gives only what is answered',
    rest: 'what it gives and is not for the port is dropped',
  })
    .summary('answer UDP datagrams with what is in them')
    .description(
      'Answers every UDP datagram to a port with its own bytes, from AF_XDP sockets. Everything else passes to the kernel ' +
        'as before. Runs until SIGINT or SIGTERM, and tells systemd when it is ready.',
    )
    .argument('[interface]', 'the interface to answer on (default: the one of the default route)')
    .option('-p, --port <port>', 'the port to answer on (repeatable; default: 7)', addPort)
    .addOption(
      ownOption(
        '-a, --address <address>',
        'answer at this address only (repeatable; default: all of the interface)',
        addAddress,
      ),
    )
    .addOption(
      ownOption(
        '--vlan <id>',
        'answer on this VLAN too (repeatable; default: those with an interface)',
        addVlan,
      ),
    )
    .option('--no-kernel-socket', "do without the kernel's socket, and so without fragments")
    .addOption(
      ownOption(
        '--rate-limit <packets>',
        'packets a second that each source may send (default: no limit)',
        aboveZero,
      ),
    )
    .option(
      '--ban <seconds>',
      'with --rate-limit: drop all datagrams of who exceeds it for so long',
      aboveZero,
    )
    .option('--take-traffic', 'with --program: also on loopback, and on the interface of the default route')
    .addOption(
      new Option(
        '--wait <how>',
        'how to wait while datagrams flow: poll sleeps for one queue alone, and costs less (default: event-loop; with --workers poll)',
      ).choices(['event-loop', 'poll']),
    )
    .option(
      '--workers <threads>',
      'serve by threads: auto gives each queue one, a number each queue so many, over which its flows are spread',
      threadsPerQueue,
    )
    .option('--require-native', 'fail unless the program runs in the driver')
    .addOption(
      new Option('--require-zero-copy', 'fail unless the device writes into our memory itself').conflicts(
        'copy',
      ),
    )
    .action((given: string | undefined, flags: EchoFlags) =>
      untilInterrupted((signal) => echo(given, flags, signal)),
    )
}

async function echo(given: string | undefined, flags: EchoFlags, signal: AbortSignal): Promise<void> {
  if (flags.ban !== undefined && flags.rateLimit === undefined)
    throw new OptionError('ban', 'Nobody is banned without a limit', 'Give --rate-limit too.')
  const name = given ?? chooseInterface()
  const program = await chooseSteering(flags, name)
  requireUp(name)
  const { port = [7], address, vlan, kernelSocket, rateLimit: perSecond, ban: banSeconds = 0 } = flags
  const { workers: workersPerQueue, wait = workersPerQueue === undefined ? 'event-loop' : 'poll' } = flags
  const options: UdpServerOptions = {
    ...groupOptions(name, flags),
    port,
    kernelSocket,
    wait,
    ...(program && { program }),
    ...(address && { addresses: address }),
    ...(vlan && { vlans: vlan }),
    ...(perSecond !== undefined && { rateLimit: { perSecond, banSeconds } }),
  }
  const server: EchoServer =
    workersPerQueue === undefined
      ? await createUdpServer(options, (message) => void message.reply())
      : await createUdpServer({ ...options, worker: WORKER, workersPerQueue, cpus: 'auto' })
  let limited: number | undefined
  try {
    requireGranted(server, flags)
    await run(server, flags, signal)
    limited = server.rateLimit?.limited
  } finally {
    await server.close()
  }
  const { received, receivedByKernel, replied } = server.counts
  const { damaged, unwanted } = server.drops
  console.error(
    `xdp: answered ${replied} of ${received} datagrams; ${receivedByKernel} more came by the kernel, ` +
      `${damaged} were damaged, ${unwanted} for nobody here` +
      (limited === undefined ? '' : `, ${limited} more than their source may send`),
  )
}

/** What the command says of the server's sockets, whoever drives them. */
function summaryOf({ group }: EchoServer): GroupSummary {
  if (group instanceof XdpGroup) return group
  const { interface: name, attachment, workers } = group
  const sockets = workers.flatMap(({ queue, copy }) =>
    copy === undefined ? [] : { queue, copy: { asked: copy, got: copy } },
  )
  return { interface: name, attachment, sockets }
}

/** An option that is about the command's own program. */
function ownOption<T>(flags: string, description: string, read: (text: string, before: T) => T): Option {
  return new Option(flags, description).argParser(read).conflicts('program')
}

function chooseInterface(): string {
  const name = defaultInterface()
  console.error(`xdp: taking ${name}, the interface of the default route`)
  return name
}

/** Throws `XDP_REQUIRED` with the reason when the kernel gave less than the user cannot do without. */
function requireGranted(server: EchoServer, flags: EchoFlags): void {
  const { interface: name, attachment, sockets } = summaryOf(server)
  if (flags.requireNative && attachment?.mode !== 'native') {
    throw new XdpError(
      'XDP_REQUIRED',
      `${name} runs the program in ${attachment?.mode} mode, and native mode is required` +
        (attachment?.fallbackReason === undefined ? '' : `: ${attachment.fallbackReason}`),
      'Leave --require-native out to run all the same.',
    )
  }
  const copying = sockets.filter(({ copy }) => copy.got !== 'zero-copy')
  if (flags.requireZeroCopy && copying.length > 0) {
    const queues = [...new Set(copying.map(({ queue }) => queue))].join(', ')
    throw new XdpError(
      'XDP_REQUIRED',
      `${name} copies the packets of queue ${queues}, and zero copy is required: its driver has none, or not now`,
      'Leave --require-zero-copy out to run all the same.',
    )
  }
}

async function run(server: EchoServer, flags: EchoFlags, signal: AbortSignal): Promise<void> {
  const { group } = server
  const summary = summaryOf(server)
  const status =
    `echoing UDP port ${server.ports.join(', ')} on ${describeGroup(summary)}` +
    (group instanceof XdpGroup ? '' : `, by ${group.workers.length} threads`)
  if (!(group instanceof XdpGroup)) reportWorkers(group)
  const traffic = new TrafficPrinter(() => group.statistics(), flags)
  let fail: (error: Error) => void = () => undefined
  const stopped = new Promise<void>((resolve, reject) => {
    fail = reject
    signal.addEventListener('abort', () => resolve())
    if (signal.aborted) resolve()
  })
  const timer = setInterval(() => {
    try {
      traffic.print()
    } catch (error) {
      fail(error as Error) // the interface is gone, say
    }
  }, flags.interval * 1000)
  try {
    for (const { message } of group.warnings) console.error(`xdp: warning: ${message}`)
    const { interface: name, sockets } = summary
    const { index } = getInterface(name)
    for (const { queue, copy } of sockets) {
      console.error(`INFO Binding socket to interface index ${index} queue ${queue}...`)
      console.error(`INFO Bound in ${copy.got} mode`)
      console.error(`INFO AF_XDP socket ready on ${name}:${queue}`)
    }
    console.error(`xdp: ${status}`)
    notifyManager('ready', status)
    await Promise.race([stopped, server.closed])
    notifyManager('stopping')
    traffic.print()
  } finally {
    clearInterval(timer)
  }
}

/** Says what becomes of threads that end by themselves. */
function reportWorkers(group: XdpWorkerGroup): void {
  group.on('crash', ({ message }, { queue }, ms) =>
    console.error(`xdp: warning: the thread of queue ${queue} is replaced in ${ms} ms: ${message}`),
  )
  group.on('warning', ({ message }) => console.error(`xdp: warning: ${message}`))
}

function threadsPerQueue(text: string): number {
  const count = text === 'auto' ? 1 : Number(text)
  if (!(/^\d+$|^auto$/.test(text) && count >= 1))
    throw new InvalidArgumentError('Use auto, or a number from 1.')
  return count
}

function addPort(text: string, list: number[] = []): number[] {
  const port = parsePort(text)
  if (port === undefined) throw new InvalidArgumentError('Use a port from 0 to 65535.')
  return [...list, port]
}

function aboveZero(text: string): number {
  const value = /^\d+(?:\.\d+)?$/.test(text) ? Number(text) : NaN
  if (!(value > 0)) throw new InvalidArgumentError('Use a number above 0.')
  return value
}

function addVlan(text: string, list: number[] = []): number[] {
  if (!/^\d{1,4}$/.test(text) || Number(text) > 4094)
    throw new InvalidArgumentError('Use an id from 0 to 4094.')
  return [...list, Number(text)]
}

function addAddress(text: string, list: string[] = []): string[] {
  return [...list, ipAddress(text)]
}
