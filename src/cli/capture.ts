// xdp capture (sniff): sees packets, prints or writes them, from an interface or a file.
import { readFileSync, statSync } from 'node:fs'
import { Command } from 'commander'
import {
  configOptions,
  idleKeys,
  mergeConfig,
  parseConfig,
  printConfig,
  wholeConfig,
  type CaptureConfig,
} from '../capture/config.js'
import { CaptureEngine } from '../capture/engine.js'
import type { CaptureOptions } from '../capture/engine-options.js'
import { FileSource } from '../capture/index.js'
import { FilterError, compileFilter } from '../filter/index.js'
import { NotFoundError, OptionError } from '../kernel/index.js'
import { addCaptureFlags, type CaptureFlags } from './capture-flags.js'
import { Capture, checkOutput } from './capture-run.js'
import { waitForReader } from '../capture/target.js'
import { untilInterrupted } from './interrupt.js'

export function captureCommand(): Command {
  return addCaptureFlags(new Command('capture').alias('sniff'))
    .summary('see packets, print them, write them to files')
    .description(
      "Captures an interface's packets, or reads those of a file, and prints them or writes them. " +
        "The filter is in tcpdump's language. Packets go to standard output, everything else to standard error.",
    )
    .argument('[words...]', 'the interface, then the filter; only the filter with -i or -r')
    .addHelpText(
      'after',
      '\nExamples:\n  xdp capture eth0 udp port 53\n  xdp capture eth0 -w - | wireshark -k -i -\n' +
        '  xdp capture -r file.pcapng -v tcp',
    )
    .action((words: string[], flags: CaptureFlags) => run(words, flags))
}

async function run(words: readonly string[], flags: CaptureFlags): Promise<void> {
  checkOutput(flags)
  requireTwoFiles(flags)
  const file = flags.config === undefined ? { capture: {}, xdp: {} } : readConfig(flags.config)
  const config = mergeConfig(file, flagConfig(words, flags, file))
  const whole = wholeConfig(config)
  if (flags.printConfig) {
    compileFilter(config.capture.filter ?? '')
    process.stdout.write(printConfig(whole))
    return
  }
  const { options, warnings } = configOptions(config)
  if (options.interface === '' && flags.read === undefined) {
    const hint = 'Name an interface, or a file with -r.'
    throw new OptionError('interface', 'Nothing says where packets are to come from', hint)
  }
  const program = await chooseProgram(flags, options)
  const { capture, xdp } = config
  const settings = {
    filter: capture.filter ?? '',
    snapLength: capture.snap_length,
    isQueued: [capture.buffer_size, capture.batch_size, capture.timeout].some((value) => value !== undefined),
    statistics: whole.capture.enable_stats ?? true,
    interval: capture.stats_interval,
    xdpStatistics: xdp.enable_stats ?? false,
  }
  await untilInterrupted(async (signal, lastWords) => {
    // Before anything is attached.
    const release = await waitForReader(flags.write ?? '-', signal, () =>
      console.error(`xdp: waiting for a reader of ${flags.write}`),
    )
    if (signal.aborted) return
    const begin = Date.now()
    const engine =
      flags.read === undefined
        ? await CaptureEngine.open({
            ...options,
            ...(isUnwatched(flags) && !settings.isQueued && { latency: FILE_WAIT_MS }),
            ...program,
            promiscuous: flags.promiscuous,
            // A file is for many hosts; what was typed is for this one.
            lenient: flags.config !== undefined && flags.queue === undefined,
          })
        : await openFile(flags.read, options)
    try {
      for (const { message } of [...warnings, ...idleKeys(config, engine.mode)]) warn(message)
      await new Capture(engine, flags, { ...settings, begin }).run(signal, lastWords)
    } finally {
      release()
      await engine.close()
    }
  })
}

/** How long packets on their way to a file may wait while others come, where the ring has room for it: milliseconds. */
const FILE_WAIT_MS = 100

function isUnwatched({ write = '-', immediate }: CaptureFlags): boolean {
  return write !== '-' && immediate !== true
}

function warn(message: string): void {
  console.error(`xdp: warning: ${message}`)
}

function readConfig(path: string): CaptureConfig {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    throw new NotFoundError(`The configuration ${path} cannot be read: ${(error as Error).message}`)
  }
  const config = parseConfig(text, path)
  try {
    compileFilter(config.capture.filter ?? '')
  } catch (error) {
    if (error instanceof FilterError) error.message = `${path}: capture.filter: ${error.message}`
    throw error
  }
  return config
}

/** What the command line says, under the keys of the configuration. */
function flagConfig(words: readonly string[], flags: CaptureFlags, file: CaptureConfig): CaptureConfig {
  // The first word is the interface unless something else says where packets are to come from.
  const isAllFilter =
    flags.read !== undefined || flags.interface !== undefined || file.capture.interface !== undefined
  const filter = (isAllFilter ? words : words.slice(1)).join(' ')
  const name = flags.interface ?? (isAllFilter ? undefined : words.at(0))
  return {
    capture: {
      interface: name,
      mode: flags.mode,
      take_traffic: flags.takeTraffic,
      filter: filter === '' ? undefined : filter,
      // As tcpdump has it, 0 is everything.
      snap_length: flags.snapLength === 0 ? 262_144 : flags.snapLength,
      xdp_queue_id: flags.queue,
      ring_bytes: flags.ring === undefined ? undefined : flags.ring * 1024,
      buffer_size: flags.buffer,
      ...(flags.interval !== undefined && { enable_stats: true, stats_interval: flags.interval * 1000 }),
    },
    xdp: {},
  }
}

/** What another program than our own changes of the options: it has the filter in front of it. */
async function chooseProgram(flags: CaptureFlags, options: CaptureOptions): Promise<Partial<CaptureOptions>> {
  const { filter, mode, sockets } = options
  if (flags.program !== undefined && (mode !== 'divert' || flags.read !== undefined))
    throw new OptionError('program', 'A program chooses only what mode divert takes', 'Add -m divert.')
  const { chooseSteering } = await import('./steering.js')
  const isInFront = flags.program !== undefined && typeof filter === 'string'
  const program = await chooseSteering({ ...flags, ...(isInFront && { filter }) })
  return program === undefined ? {} : { filter: undefined, sockets: { ...sockets, program } }
}

async function openFile(
  path: string,
  { filter, snapLength, ...queue }: CaptureOptions,
): Promise<CaptureEngine> {
  const compiled = typeof filter === 'string' ? compileFilter(filter) : undefined
  return CaptureEngine.over(await FileSource.open(path, { filter: compiled, snapLength }), queue)
}

/** Opening the output would empty what is to be read. */
function requireTwoFiles({ read, write }: CaptureFlags): void {
  const [from, to] = [read, write].map((path) => {
    return path === undefined || path === '-' ? undefined : statSync(path, { throwIfNoEntry: false })
  })
  if (!from?.isFile() || from.dev !== to?.dev || from.ino !== to.ino) return
  throw new OptionError('write', `${write} is read and written at once`, 'Write to another file.')
}
