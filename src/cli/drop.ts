// xdp drop: eats every packet, the XDP tutorial's first assignment; or those that a program gives to it, the second.
import { Command } from 'commander'
import { XdpGroup } from '../xsk/index.js'
import { chooseProgram, programHelp, requireForInterface } from './choose-program.js'
import { untilInterrupted } from './interrupt.js'
import { addProgramOptions, type ProgramFlags } from './program-options.js'
import { requireUp } from './require-up.js'
import { describeGroup, runGroup } from './run-group.js'
import { addSocketOptions, groupOptions, type SocketFlags } from './socket-options.js'
import { loadSteering } from './steering.js'
import { requireConsent } from './take-traffic.js'

interface DropFlags extends SocketFlags, ProgramFlags {
  takeTraffic?: boolean
  program: string
}

export function dropCommand(): Command {
  return addProgramOptions(addSocketOptions(new Command('drop')))
    .summary('eat all packets of an interface and count them')
    .description(
      'Takes every packet that arrives on the interface into an AF_XDP socket and drops it there. ' +
        'The host receives nothing on that interface meanwhile, but for what another --program passes to it.',
    )
    .argument('<interface>', 'the interface to take packets from')
    .option('--take-traffic', 'also on loopback, and on the interface that carries the default route')
    .option(
      '-p, --program <program>',
      'which program gives packets to the socket: a name, or an object file whose map of sockets is "xsks_map"',
      'redirect',
    )
    .addHelpText('after', programHelp())
    .action(async (name: string, flags: DropFlags) => {
      const chosen = chooseProgram(flags.program, flags)
      requireForInterface(chosen)
      requireConsent(name, flags.takeTraffic ?? false)
      requireUp(name)
      const what = flags.program === 'redirect' ? 'everything that arrives' : `what ${chosen.title} takes`
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
