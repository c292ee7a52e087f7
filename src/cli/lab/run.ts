// xdp lab exec, enter, ping, tcpdump: other people's commands at an end of a lab.
import type { ChildProcess } from 'node:child_process'
import { constants } from 'node:os'
import { closeSync, openSync } from 'node:fs'
import { Option, type Command } from 'commander'
import { OptionError, UnsupportedError, isInstalled } from '../../kernel/index.js'
import type { EndId, Lab } from '../../lab/index.js'
import { requireCommand } from '../external.js'
import { DEFAULT_LAB, endOption, labArgument, whereIs, withLab } from './common.js'

interface EndFlags {
  end: EndId
}

// As shells say it.
const CANNOT_START = 126
const NOT_FOUND = 127
const BY_SIGNAL = 128

export function addRunCommands(parent: Command): void {
  withRest(parent.command('exec'), '<command...>')
    .summary('run a command at an end')
    .description('Runs a command at an end of a lab; ends with its exit status.')
    .addOption(endOption('b'))
    .addHelpText('after', '\nExample: xdp lab exec -- ip -6 route')
    .action(async (first: string | undefined, others: string[], { end }: EndFlags) => {
      const { name, rest } = splitAtDashes(first, others)
      const [command, ...args] = rest
      if (command === undefined) {
        throw new OptionError(
          'command',
          'There is no command to run',
          'Write it behind two dashes: `xdp lab exec -- ip link`.',
        )
      }
      await withLab(name, (lab) => run(lab, end, command, args))
    })

  parent
    .command('enter')
    .summary('open a shell at an end')
    .description(
      'Opens your shell ($SHELL) at an end of a lab. The variable XDP_LAB has the name of the lab.',
    )
    .argument(...labArgument)
    .addOption(endOption('b'))
    .action((name: string, { end }: EndFlags) =>
      withLab(name, async (lab) => {
        const { interface: link, ipv4, ipv6 } = lab[end]
        console.error(
          `xdp: end ${end} of the lab ${name}: ${link}, ${ipv4}${ipv6 ? `, ${ipv6}` : ''}, in ${whereIs(lab, end)}. ` +
            'Leave with `exit`.',
        )
        await run(lab, end, process.env['SHELL'] ?? '/bin/sh', [], { XDP_LAB: name })
      }),
    )

  withRest(parent.command('ping'), '[options of ping...]')
    .summary('ping the other end')
    .description(
      "Runs the system's ping at an end of a lab, towards the other end; ends with its exit status.",
    )
    .addOption(endOption('b'))
    .addOption(new Option('-4, --ipv4', 'by IPv4').conflicts('ipv6'))
    .option('-6, --ipv6', 'by IPv6 (the default where the lab has it)')
    .addHelpText('after', '\nExample: xdp lab ping -4 -- -c 5 -i 0.2')
    .action(
      async (
        first: string | undefined,
        others: string[],
        flags: EndFlags & { ipv4?: boolean; ipv6?: boolean },
      ) => {
        const { name, rest } = splitAtDashes(first, others)
        await withLab(name, (lab) => {
          const other = lab[flags.end === 'a' ? 'b' : 'a']
          const address = flags.ipv4 ? other.ipv4 : (other.ipv6 ?? (flags.ipv6 ? undefined : other.ipv4))
          if (address === undefined) throw new UnsupportedError(`The lab ${name} has no IPv6`, 'Use -4.')
          requireCommand('ping', 'iputils-ping')
          return run(lab, flags.end, 'ping', [...rest, address])
        })
      },
    )

  withRest(parent.command('tcpdump'), '[options of tcpdump...]')
    .summary('watch the packets at an end')
    .description('Runs tcpdump on the interface at an end of a lab, showing each packet as it comes.')
    .addOption(endOption('b'))
    .addHelpText('after', '\nExample: xdp lab tcpdump -- -c 10 icmp6')
    .action(async (first: string | undefined, others: string[], { end }: EndFlags) => {
      const { name, rest } = splitAtDashes(first, others)
      await withLab(name, (lab) => {
        requireCommand('tcpdump', 'tcpdump')
        return run(lab, end, 'tcpdump', ['-i', lab[end].interface, '-n', '-l', ...rest])
      })
    })
}

// Two arguments for commander, which does not tell what stood behind the dashes.
function withRest(command: Command, rest: string): Command {
  return command
    .usage(`[options] [name] -- ${rest}`)
    .argument('[name]', `the lab (default: "${DEFAULT_LAB}")`)
    .argument('[rest...]', `behind two dashes: ${rest.replace(/[<[\].>]/g, '')}`)
}

/** Which words are the lab's name, and which the command's own. */
function splitAtDashes(
  first: string | undefined,
  others: readonly string[],
): { name: string; rest: string[] } {
  const words = first === undefined ? [] : [first, ...others]
  const dashes = process.argv.indexOf('--')
  const count = dashes < 0 ? Math.max(0, words.length - 1) : process.argv.length - dashes - 1
  const [name = DEFAULT_LAB, ...more] = words.slice(0, words.length - count)
  if (more.length > 0) {
    throw new OptionError(
      'name',
      `"${more[0]}" is one word too many`,
      'What belongs to the command goes behind two dashes.',
    )
  }
  return { name, rest: words.slice(words.length - count) }
}

/** Runs a command on this terminal to its end; our exit status becomes its own. */
async function run(
  lab: Lab,
  end: EndId,
  command: string,
  args: readonly string[],
  env: Record<string, string> = {},
): Promise<void> {
  // Where the lab wraps it in a shell, the shell would say so in its own words.
  if (!command.includes('/') && !isInstalled(command)) {
    console.error(`xdp: there is no command ${command} to run at end ${end}`)
    process.exitCode = NOT_FOUND
    return
  }
  let child: ChildProcess | undefined
  const pass = (signal: NodeJS.Signals) => void child?.kill(signal)
  // A terminal sends Ctrl-C and Ctrl-\ to the command too: passing them on would send them twice.
  const ofTerminal: NodeJS.Signals[] = ['SIGINT', 'SIGQUIT']
  const fromTerminal = hasTerminal() ? () => undefined : pass
  const others: NodeJS.Signals[] = ['SIGTERM', 'SIGHUP']
  // Before the command starts: it may be interrupted before we run again, and we outlive it.
  for (const signal of ofTerminal) process.on(signal, fromTerminal)
  for (const signal of others) process.on(signal, pass)
  try {
    const running = lab.spawn(end, command, args, { stdio: 'inherit', env: { ...process.env, ...env } })
    child = running
    process.exitCode = await new Promise<number>((resolve) => {
      running.once('error', (error: NodeJS.ErrnoException) => {
        console.error(`xdp: cannot run ${command}: ${error.message}`)
        resolve(error.code === 'ENOENT' ? NOT_FOUND : CANNOT_START)
      })
      running.once('exit', (status, signal) => resolve(status ?? BY_SIGNAL + constants.signals[signal!]))
    })
  } finally {
    for (const signal of ofTerminal) process.off(signal, fromTerminal)
    for (const signal of others) process.off(signal, pass)
  }
}

/** Whether this process belongs to a terminal, whose signals go to its commands as well. */
function hasTerminal(): boolean {
  try {
    closeSync(openSync('/dev/tty', 'r'))
    return true
  } catch {
    return false
  }
}
