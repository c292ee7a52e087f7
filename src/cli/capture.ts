// xdp capture (sniff): sees packets, prints or writes them, from an interface or a file.
import { readFileSync } from 'node:fs'
import { Command } from 'commander'
import {
  DEFAULT_CONFIG,
  configOptions,
  idleKeys,
  mergeConfig,
  parseConfig,
  printConfig,
  type CaptureConfig,
} from '../capture/config.js'
import { CaptureEngine } from '../capture/engine.js'
import type { CaptureOptions } from '../capture/engine-options.js'
import { FileSource } from '../capture/index.js'
import { compileFilter } from '../filter/index.js'
import { NotFoundError, OptionError, XdpError } from '../kernel/index.js'
import { addCaptureFlags, type CaptureFlags } from './capture-flags.js'
import { Capture, checkOutput } from './capture-run.js'
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
  const file = flags.config === undefined ? { capture: {}, xdp: {} } : readConfig(flags.config)
  const config = mergeConfig(file, flagConfig(words, flags, file))
  const whole = mergeConfig(DEFAULT_CONFIG, config)
  if (flags.printConfig) {
    process.stdout.write(printConfig(whole))
    return
  }
  const { options, warnings } = configOptions(config)
  if (options.interface === '' && flags.read === undefined) {
    const hint = 'Name an interface, or a file with -r.'
    throw new OptionError('interface', 'Nothing says where packets are to come from', hint)
  }
  const { capture, xdp } = config
  const settings = {
    filter: capture.filter ?? '',
    snapLength: capture.snap_length,
    isQueued: [capture.buffer_size, capture.batch_size, capture.timeout].some((value) => value !== undefined),
    statistics: whole.capture.enable_stats ?? true,
    interval: capture.stats_interval,
    xdpStatistics: xdp.enable_stats ?? false,
  }
  await untilInterrupted(async (signal) => {
    const engine =
      flags.read === undefined
        ? await CaptureEngine.open({
            ...options,
            promiscuous: flags.promiscuous,
            // A file is for many hosts; what was typed is for this one.
            lenient: flags.config !== undefined,
          })
        : await openFile(flags.read, options)
    try {
      for (const { message } of [...warnings, ...idleKeys(config, engine.mode)]) warn(message)
      await new Capture(engine, flags, settings).run(signal)
    } finally {
      await engine.close()
    }
  })
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
  return parseConfig(text, path)
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
      buffer_size: flags.buffer,
      stats_interval: flags.interval === undefined ? undefined : flags.interval * 1000,
    },
    xdp: {},
  }
}

async function openFile(
  path: string,
  { filter, snapLength, ...queue }: CaptureOptions,
): Promise<CaptureEngine> {
  const compiled = typeof filter === 'string' ? compileFilter(filter) : undefined
  let source: FileSource
  try {
    source = await FileSource.open(path, { filter: compiled, snapLength })
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    if (error instanceof XdpError || code === undefined) throw error
    throw new XdpError(code, `The file ${path} cannot be read: ${message}`, undefined, { cause: error })
  }
  return CaptureEngine.over(source, queue)
}
