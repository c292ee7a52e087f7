// The command line of `xdp capture`: what is tcpdump's has tcpdump's letter.
import { InvalidArgumentError, Option, type Command } from 'commander'
import type { LiveMode } from '../capture/engine-options.js'
import type { FormatOptions } from '../capture/index.js'
import { seconds, wholeNumber, wholeNumbers } from './arguments.js'
import { addProgramParts, type SteeringFlags } from './program-options.js'

/** What commander makes of it. */
export interface CaptureFlags extends Omit<SteeringFlags, 'filter'> {
  interface?: string
  mode?: 'auto' | LiveMode
  config?: string
  printConfig?: boolean
  read?: string
  write?: string
  format?: 'text' | 'json' | 'pcapng' | 'pcap'
  json?: boolean
  count?: number
  snapLength?: number
  verbose: number
  hex: number
  hexAscii: number
  ascii?: boolean
  time: number
  nano?: boolean
  /** `-n` given. */
  numeric?: boolean
  linkHeader?: boolean
  quiet?: boolean
  absoluteSequence?: boolean
  /** False with `-p`. */
  promiscuous: boolean
  immediate?: boolean
  rotateSize?: number
  rotateSeconds?: number
  rotateFiles?: number
  interval?: number
  queue?: number[] | 'all'
  /** KiB. */
  ring?: number
  buffer?: number
}

const repeated = (_: unknown, before: number): number => before + 1

export function addCaptureFlags(command: Command): Command {
  return addProgramParts(addOwnFlags(command), '')
}

function addOwnFlags(command: Command): Command {
  return command
    .option('-i, --interface <name>', 'the interface; all other words are then the filter')
    .addOption(
      new Option(
        '-m, --mode <mode>',
        'mirror: copies what arrives; packet: AF_PACKET, what arrives and leaves; divert: takes what arrives ' +
          'away from the host; auto: mirror, or packet where that cannot be',
      ).choices(['auto', 'mirror', 'packet', 'divert']),
    )
    .option(
      '--take-traffic',
      'divert on loopback, or on what carries the default route or an SSH connection, too',
    )
    .option(
      '--program <program>',
      'with -m divert: take what this program gives to the sockets, a name or an object file whose map of sockets is ' +
        '"xsks_map"; the filter is in front of it (default: one that gives what matches the filter)',
    )
    .option('-r, --read <file>', 'read packets from a capture file, - for standard input')
    .option('-w, --write <file>', 'write them to a file, - for standard output: pcap for .pcap, else pcapng')
    .addOption(new Option('--format <format>', 'of the output').choices(['text', 'json', 'pcapng', 'pcap']))
    .option('--json', 'print JSON, one object a line')
    .option('-c, --count <n>', 'end after so many packets', wholeNumber(1, Number.MAX_SAFE_INTEGER))
    .option('-s, --snap-length <bytes>', 'keep so many bytes of a packet, 0 for all', wholeNumber(0, 262_144))
    .option('-v, --verbose', 'more of what headers say; twice for more', repeated, 0)
    .option('-x, --hex', 'the bytes in hexadecimal; twice with the link header', repeated, 0)
    .option('-X, --hex-ascii', 'the bytes in hexadecimal and ASCII; twice with the link header', repeated, 0)
    .option('-A, --ascii', 'the bytes in ASCII')
    .option(
      '-t, --time',
      'no time; -tt since 1970, -ttt since the packet before, -tttt the date, -ttttt since the first',
      repeated,
      0,
    )
    .option('--nano', 'nine digits of a second')
    .option('-n, --numeric', 'numbers for ports')
    .option('-e, --link-header', 'the link header')
    .option('-q, --quiet', 'less of what headers say')
    .option('-S, --absolute-sequence', 'TCP sequence numbers as they are')
    .option('-p, --no-promiscuous', 'leave the interface as it is, not promiscuous')
    .addOption(
      new Option('-l, --line-buffered', 'as in tcpdump: lines are printed as they come anyway').hideHelp(),
    )
    .option('-U, --immediate', 'write packets to the file as they come')
    .option(
      '-C, --rotate-size <size>',
      'begin the next file at this size: 100M, or a number of millions of bytes as in tcpdump',
      parseSize,
    )
    .option('-G, --rotate-seconds <seconds>', 'begin the next file after so many', wholeNumber(1, 31_536_000))
    .option('-W, --rotate-files <n>', 'keep so many files', wholeNumber(1, 1_000_000))
    .option('--config <file>', 'read the configuration; what the command line says goes before')
    .option('--print-config', 'show the configuration that results, and end')
    .option(
      '--interval <seconds>',
      'print statistics on standard error so often; SIGUSR1 prints them at once',
      seconds,
    )
    .option(
      '-Q, --queue <queues>',
      'queues that divert and mirror take packets of: all, one, or several as in 0,2',
      parseQueueList,
    )
    .option(
      '-B, --ring <KiB>',
      "the kernel's ring, in the modes packet and mirror: 8192 unless said",
      wholeNumber(64, 1 << 20),
    )
    .option('--buffer <packets>', 'packets that may wait to be processed', wholeNumber(1, 1 << 24))
}

/** How packets are to look as text. */
export function textOptions(flags: CaptureFlags): FormatOptions {
  const dumps = { hex: ['none', 'hex', 'hex-link'], both: ['none', 'both', 'both-link'] } as const
  const dump =
    flags.hexAscii > 0
      ? dumps.both[Math.min(flags.hexAscii, 2)]
      : flags.hex > 0
        ? dumps.hex[Math.min(flags.hex, 2)]
        : flags.ascii
          ? 'ascii'
          : 'none'
  const times = ['clock', 'none', 'epoch', 'delta', 'date', 'since-first'] as const
  return {
    time: times[Math.min(flags.time, 5)],
    precision: flags.nano ? 'nanoseconds' : 'microseconds',
    verbosity: Math.min(flags.verbose, 2) as 0 | 1 | 2,
    quiet: flags.quiet ?? false,
    linkHeader: flags.linkHeader ?? false,
    absoluteSequence: flags.absoluteSequence ?? false,
    dump,
  }
}

// A number alone is in tcpdump's unit.
const UNITS: Record<string, number> = { '': 1e6, k: 1e3, K: 1e3, M: 1e6, G: 1e9 }
/** A file costs an open, a close and a buffer of its own. */
const LEAST_FILE = 4096

function parseSize(text: string): number {
  const [, number, unit = ''] = /^(\d+(?:\.\d+)?)([kKMG]?)$/.exec(text) ?? []
  const bytes = Number(number) * UNITS[unit]
  if (bytes >= LEAST_FILE) return Math.floor(bytes)
  throw new InvalidArgumentError(`Use 500k, 100M or 2G, and ${LEAST_FILE} bytes at least.`)
}

function parseQueueList(text: string): number[] | 'all' {
  if (text === 'all') return 'all'
  return wholeNumbers(0, 65_535)(text)
}
