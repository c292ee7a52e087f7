// The options of every command that opens AF_XDP sockets, and what they mean.
import { InvalidArgumentError, Option, type Command } from 'commander'
import type { XdpGroupOptions } from '../xsk/index.js'
import { seconds } from './arguments.js'

/** What commander makes of the options that `addSocketOptions` declares. */
export interface SocketFlags {
  queue: 'all' | number[]
  mode: 'auto' | 'native' | 'generic'
  copy?: boolean
  zeroCopy?: boolean
  busyPoll?: boolean
  attach: 'auto' | 'link' | 'netlink'
  interval: number
  json?: boolean
}

/** Declares `--queue`, `--mode` and the rest on a command. */
export function addSocketOptions(command: Command): Command {
  return command
    .option('-q, --queue <queues>', 'queues to take: all, one, or several as in 0,2-3', parseQueues, 'all')
    .addOption(
      new Option('-m, --mode <mode>', 'where the XDP program runs')
        .choices(['auto', 'native', 'generic'])
        .default('auto'),
    )
    .addOption(new Option('--copy', 'copy packets into the UMEM').conflicts('zeroCopy'))
    .addOption(new Option('--zero-copy', 'refuse to run without zero copy'))
    .option('--busy-poll', 'poll the device from this process instead of waiting for interrupts')
    .addOption(
      new Option('--attach <kind>', 'a link ends with the process, netlink outlives it')
        .choices(['auto', 'link', 'netlink'])
        .default('auto'),
    )
    .option('-i, --interval <seconds>', 'how often to print the counters', seconds, 2)
    .option('--json', 'print the counters as JSON, one object a line')
}

/** The options for the sockets that the flags ask for. */
export function groupOptions(name: string, flags: SocketFlags): XdpGroupOptions {
  return {
    interface: name,
    queues: flags.queue,
    mode: flags.mode,
    copy: flags.zeroCopy ? 'zero-copy' : flags.copy ? 'copy' : 'auto',
    busyPoll: flags.busyPoll ?? false,
    attach: flags.attach,
  }
}

function parseQueues(text: string): 'all' | number[] {
  if (text === 'all') return 'all'
  return text.split(',').flatMap((part) => {
    const match = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(part)
    const first = Number(match?.[1])
    const last = Number(match?.[2] ?? first)
    if (!match || last < first) throw new InvalidArgumentError('Use all, a number, or a list such as 0,2-3.')
    return Array.from({ length: last - first + 1 }, (_, i) => first + i)
  })
}
