// xdp forward: makes two interfaces one link through AF_XDP sockets, or sends packets back out of one.
import { existsSync } from 'node:fs'
import { basename, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { Command, InvalidArgumentError, Option } from 'commander'
import { compileFilter } from '../filter/index.js'
import { Forwarder, type ForwarderOptions, type Rewrite, type StageStatistics } from '../forward/index.js'
import { OptionError, XdpError } from '../kernel/index.js'
import { hostMac } from './arguments.js'
import { chooseProgram, programHelp, requireForInterface } from './choose-program.js'
import { untilInterrupted } from './interrupt.js'
import { addProgramParts, requireProgram, type ProgramFlags } from './program-options.js'
import { requireUp } from './require-up.js'
import { addSocketOptions, groupOptions, type SocketFlags } from './socket-options.js'
import { loadSteering } from './steering.js'
import { requireConsent } from './take-traffic.js'
import { TrafficPrinter } from './traffic.js'

interface ForwardFlags extends SocketFlags, ProgramFlags {
  rewrite?: 'none' | 'swap' | 'source'
  to?: string
  backTo?: string
  program?: string
  discovery?: 'forward' | 'kernel'
  stage?: URL[]
  promiscuous: boolean
  preset: 'default' | 'highThroughput' | 'lowLatency'
  takeTraffic?: boolean
}

export function forwardCommand(): Command {
  return addProgramParts(addSocketOptions(new Command('forward')))
    .summary('forward packets between two interfaces, or back out of one')
    .description(
      'Joins two interfaces like a cable: what arrives on one leaves by the other, both ways, without a copy in user ' +
        'space. The host receives nothing on them meanwhile, but for what --filter leaves to it. With one interface, ' +
        'packets go back out with their hardware addresses exchanged; ARP, neighbour discovery and what is sent to a ' +
        'group stay with the host.',
    )
    .argument('<in>', 'an interface')
    .argument('[out]', 'the other one; without it packets leave the way they came')
    .addOption(
      new Option(
        '-r, --rewrite <what>',
        'hardware addresses: leave them, exchange them, or make the source that of the outgoing interface ' +
          '(default: none between two interfaces, swap for one)',
      ).choices(['none', 'swap', 'source']),
    )
    .option('--to <mac>', 'what leaves by <out>: this destination, and the source that of <out>', hostMac)
    .option('--back-to <mac>', 'what leaves by <in>, likewise', hostMac)
    .option('-f, --filter <expression>', 'forward only what matches; the kernel gets the rest')
    .option(
      '-p, --program <program>',
      'forward what this program gives to the sockets: a name, or an object file whose map of sockets is "xsks_map"',
    )
    .addOption(
      new Option(
        '--discovery <whose>',
        'forward ARP, neighbour discovery and groups too, or leave them to the kernel ' +
          '(default: forward between two interfaces, kernel for one)',
      ).choices(['forward', 'kernel']),
    )
    .option(
      '--stage <module>',
      'hand each packet to this module, which has a thread of its own; several stages follow one another (repeatable)',
      addModule,
    )
    .option('--no-promiscuous', 'between two: forward only what a device takes for its own')
    .addOption(
      new Option('--preset <preset>', 'what to tune for')
        .choices(['default', 'highThroughput', 'lowLatency'])
        .default('default'),
    )
    .option('--take-traffic', 'also on loopback, and on the interface that carries the default route')
    .addHelpText('after', programHelp())
    .action(forward)
}

async function forward(from: string, to: string | undefined, flags: ForwardFlags): Promise<void> {
  const names = to === undefined ? [from] : [from, to]
  const rewrite = rewriteOf(flags, to)
  const steering = steeringOf(flags)
  for (const name of names) {
    requireConsent(name, flags.takeTraffic ?? false)
    requireUp(name)
  }
  await untilInterrupted(async (signal) => {
    const { queues = 'all', busyPoll, ...options } = groupOptions(from, flags)
    const [first, second] = names.map((name) => ({ interface: name, queues }))
    const forwarder = await Forwarder.open({
      ...options,
      attach: flags.attach,
      // What was not asked for is the preset's to say.
      ...(busyPoll === true && { busyPoll }),
      preset: flags.preset,
      in: first,
      out: second,
      rewrite,
      ...steering,
      discovery: flags.discovery,
      stages: flags.stage ?? [],
      ...(!flags.promiscuous && { promiscuous: false }),
    })
    try {
      for (const { message } of forwarder.warnings) console.error(`xdp: warning: ${message}`)
      console.error(`xdp: ${describe(forwarder, flags)}`)
      await runForwarder(forwarder, flags, signal)
    } finally {
      await forwarder.close()
    }
  })
}

/** Runs until `signal` aborts, printing the counters of each way every interval, and once more at the end. */
async function runForwarder(forwarder: Forwarder, flags: ForwardFlags, signal: AbortSignal): Promise<void> {
  const printers = forwarder.ways.map(({ index, from, to }) => {
    const printer = new TrafficPrinter(() => forwarder.statistics()[index], flags)
    return () => {
      if (!flags.json) console.log(`${from} -> ${to}`)
      printer.print()
    }
  })
  const print = () => {
    printers.forEach((one) => one())
    printStages(forwarder.stageStatistics(), flags)
  }
  forwarder.on('crash', (error, { module }, ms) => {
    console.error(
      `xdp: warning: ${basename(module)} has crashed and starts again in ${ms} ms: ${error.message}`,
    )
  })
  forwarder.on('stall', ({ message }, { module }) => {
    console.error(`xdp: warning: ${basename(module)}: ${message}; its packets wait`)
  })
  let failure: unknown
  const timer = setInterval(() => {
    try {
      print()
    } catch (error) {
      // An exception in a timer would end the process with everything attached.
      failure = error
      forwarder.stop()
    }
  }, flags.interval * 1000)
  try {
    // This thread has nothing else to do that could not wait.
    await forwarder.run({ signal, wait: 'poll' }).catch((error: unknown) => {
      throw flags.stage !== undefined ? asStageError(error) : error
    })
    if (failure !== undefined) throw failure as Error
    print()
    for (const { from, to, tx, dropped, txDropped } of forwarder.statistics())
      console.error(
        `xdp: forwarded ${tx.packets} packets from ${from} to ${to}, dropped ${dropped + txDropped}`,
      )
  } finally {
    clearInterval(timer)
  }
}

/** What a module has thrown is not ours, and has lost its class on the way from its thread. */
function asStageError(error: unknown): unknown {
  if (error instanceof XdpError || !(error instanceof Error)) return error
  const hint = 'hint' in error && typeof error.hint === 'string' ? error.hint : 'With --debug, see where.'
  const message = `A stage ended with ${error.name}: ${error.message}`
  return new XdpError('XDP_STAGE', message, hint, { cause: error })
}

/** A line for each stage, or a JSON object. */
function printStages(stages: readonly StageStatistics[], { json }: ForwardFlags): void {
  if (json) {
    for (const stage of stages) console.log(JSON.stringify(stage))
    return
  }
  for (const { name, packets, dropped, thread } of stages) {
    const { waiting = 0, lost = 0 } = thread ?? {}
    const counts = { packets, dropped, lost, waiting }
    const words = Object.entries(counts).map(([what, count]) => `${count.toLocaleString('en-US')} ${what}`)
    console.log(`${basename(name)}: ${words.join(', ')}`)
  }
  if (stages.length > 0) console.log('')
}

/** One line that says what was got. */
function describe({ ways, group }: Forwarder, { program, filter }: ForwardFlags): string {
  const [{ from, to }] = ways
  const matching = filter === undefined ? '' : `matches "${filter}"`
  const parts = [program === undefined ? '' : `"${program}" takes`, matching].filter((part) => part !== '')
  const taken = parts.length === 0 ? '' : ` what ${parts.join(' and ')}`
  const what =
    ways.length > 1
      ? `forwarding between ${from} and ${to}${taken}`
      : `sending back${taken || ' what arrives'} on ${from}`
  const devices = [...new Set(ways.map(({ from }) => from))].map((name, i) => {
    const attachment = group.attachments.at(i)
    const sockets = group.sockets.filter((socket) => socket.interface === name)
    const queues = sockets.map(({ queue }) => queue).join(', ')
    const copies = [...new Set(sockets.map(({ copy }) => copy.got))].join(' and ')
    const why = attachment?.fallbackReason === undefined ? '' : ` (${attachment.fallbackReason})`
    return (
      `${name} ${sockets.length === 1 ? 'queue' : 'queues'} ${queues} in ${attachment?.mode} mode ` +
      `by ${attachment?.kind}${why}, packets by ${copies}`
    )
  })
  return `${what}: ${devices.join('; ')}`
}

/** What says which packets are forwarded: a filter, or a program with a filter in front of it. */
function steeringOf(flags: ForwardFlags): Pick<ForwarderOptions, 'filter' | 'program'> {
  const { program, filter } = flags
  if (program !== undefined) {
    const chosen = chooseProgram(program, flags)
    requireForInterface(chosen)
    return { program: (shape) => loadSteering(chosen, shape) }
  }
  requireProgram(flags, ['section', 'set'])
  return filter === undefined ? {} : { filter: compileFilter(filter) }
}

function rewriteOf(flags: ForwardFlags, out: string | undefined): readonly [Rewrite, Rewrite] | undefined {
  const { rewrite, to, backTo } = flags
  if (rewrite === undefined && to === undefined && backTo === undefined) return undefined
  if (rewrite !== undefined && rewrite !== 'source' && (to ?? backTo) !== undefined) {
    throw new OptionError(
      'rewrite',
      `--rewrite ${rewrite} and a new destination contradict each other`,
      'Leave one of them out.',
    )
  }
  if (backTo !== undefined && out === undefined) {
    throw new OptionError('backTo', '--back-to is for two interfaces, and one was named', 'Use --to.')
  }
  const rest = rewrite ?? (out === undefined ? 'swap' : 'none')
  const one = (destination: string | undefined): Rewrite =>
    destination === undefined ? rest : { destination }
  return [one(to), one(backTo)]
}

function addModule(path: string, before: readonly URL[] = []): URL[] {
  if (!existsSync(path)) throw new InvalidArgumentError('There is no such file.')
  return [...before, pathToFileURL(resolve(path))]
}
