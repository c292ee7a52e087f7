// xdp drop: eats every packet, the XDP tutorial's first assignment; or those that a filter or a program gives to it, the second.
import { Command } from 'commander'
import { OptionError } from '../kernel/index.js'
import { XdpGroup } from '../xsk/index.js'
import { chooseProgram, programHelp, requireForInterface } from './choose-program.js'
import { untilInterrupted } from './interrupt.js'
import { addProgramOptions, type ProgramFlags } from './program-options.js'
import { requireUp } from './require-up.js'
import { describeGroup, runGroup } from './run-group.js'
import { addSocketOptions, groupOptions, type SocketFlags } from './socket-options.js'
import { loadSteering, requireSockets } from './steering.js'
import { requireConsent } from './take-traffic.js'

interface DropFlags extends SocketFlags, ProgramFlags {
  takeTraffic?: boolean
  program: string
}

export function dropCommand(): Command {
  return addProgramOptions(addSocketOptions(new Command('drop')))
    .summary('eat packets of an interface and count them')
    .description(
      'Takes every packet that arrives on the interface into an AF_XDP socket and drops it there, or only those that match ' +
        "a filter in tcpdump's language. The host receives nothing on that interface meanwhile, but for what does not match " +
        'and what another --program passes to it.',
    )
    .argument('<interface>', 'the interface to take packets from')
    .argument('[filter...]', 'which packets: the words of a filter, `tcp port 80` (default: all)')
    .option('--take-traffic', 'also on loopback, and on the interface that carries the default route')
    .option(
      '-p, --program <program>',
      'which program gives packets to the socket: a name, or an object file whose map of sockets is "xsks_map"',
      'redirect',
    )
    .addHelpText('after', programHelp())
    .action(async (name: string, words: readonly string[], flags: DropFlags) => {
      const filter = chooseFilter(words, flags.filter)
      const chosen = chooseProgram(flags.program, {
        ...flags,
        ...(filter !== undefined && { filter }),
      })
      requireForInterface(chosen)
      requireSockets(chosen)
      requireConsent(name, flags.takeTraffic ?? false)
      requireUp(name)
      const taken = flags.program === 'redirect' ? 'everything that arrives' : `what ${chosen.title} takes`
      const what = filter === undefined ? taken : `${taken} and matches "${filter}"`
      await untilInterrupted(async (signal) => {
        const group = await XdpGroup.open({
          ...groupOptions(name, flags),
          program: (shape) => loadSteering(chosen, shape),
        })
        console.error(`xdp: dropping ${what} on ${describeGroup(group)}`)
        await runGroup(group, () => undefined, flags, signal)
      })
    })
}

/** The filter's words, wherever they stand. */
function chooseFilter(words: readonly string[], option: string | undefined): string | undefined {
  if (words.length === 0) return option
  if (option === undefined) return words.join(' ')
  throw new OptionError(
    'filter',
    'The filter was given twice',
    'Put it behind the interface or behind --filter.',
  )
}
