// xdp capture (sniff): sees packets, prints or writes them, from an interface or a file.
import { readFileSync } from 'node:fs'
import { Command } from 'commander'
import { CaptureEngine } from '../capture/engine.js'
import type { CaptureOptions } from '../capture/engine-options.js'
import { FileSource } from '../capture/index.js'
import { compileFilter } from '../filter/index.js'
import { OptionError, XdpError, getInterface } from '../kernel/index.js'
import type { PacketRecord } from '../packet/pcap-record.js'
import type { InterfaceInfo, InterfaceStatistics } from '../packet/pcapng-layout.js'
import { addCaptureFlags, textOptions, type CaptureFlags } from './capture-flags.js'
import { openOutput, type CaptureOutput } from './capture-output.js'
import { Progress, lossSentence, statisticsLine, type Counts } from './capture-report.js'
import { untilInterrupted } from './interrupt.js'

const { version } = JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8')) as {
  version: string
}

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
  const isFile = flags.read !== undefined
  const hasName = isFile || flags.interface !== undefined
  const name = flags.interface ?? (isFile ? undefined : words.at(0))
  const expression = (hasName ? words : words.slice(1)).join(' ')
  if (!isFile && name === undefined)
    throw new OptionError(
      'interface',
      'Nothing says where packets are to come from',
      'Name an interface, or a file with -r.',
    )
  const options: CaptureOptions = {
    interface: name ?? '',
    filter: expression,
    mode: flags.mode,
    takeTraffic: flags.takeTraffic,
    promiscuous: flags.promiscuous,
    ...(flags.snapLength && { snapLength: flags.snapLength }),
    ...(flags.buffer !== undefined && { buffer: flags.buffer }),
    ...(flags.queue !== undefined && { sockets: { queues: flags.queue } }),
  }
  await untilInterrupted(async (signal) => {
    const engine =
      flags.read === undefined ? await CaptureEngine.open(options) : await openFile(flags.read, options)
    try {
      await new Capture(engine, flags, expression, options.snapLength).run(signal)
    } finally {
      await engine.close()
    }
  })
}

async function openFile(path: string, { filter, snapLength }: CaptureOptions): Promise<CaptureEngine> {
  const compiled = typeof filter === 'string' && filter.trim() !== '' ? compileFilter(filter) : undefined
  return CaptureEngine.over(await FileSource.open(path, { filter: compiled, snapLength }))
}

/** One run: an engine, an output, and what is said about them. */
class Capture {
  readonly #engine: CaptureEngine
  readonly #flags: CaptureFlags
  readonly #expression: string
  readonly #snapLength: number | undefined
  readonly #format: 'text' | 'json' | 'pcapng' | 'pcap'
  #progress: Progress | undefined
  #output: CaptureOutput | undefined
  #left: number
  #isPaused = false
  #finish: () => void = () => undefined

  constructor(
    engine: CaptureEngine,
    flags: CaptureFlags,
    expression: string,
    snapLength: number | undefined,
  ) {
    this.#engine = engine
    this.#flags = flags
    this.#expression = expression
    this.#snapLength = snapLength
    this.#format = formatOf(flags)
    this.#left = flags.count ?? Infinity
  }

  async run(signal: AbortSignal): Promise<void> {
    const engine = this.#engine
    let failure: Error | undefined
    const finished = new Promise<void>((resolve) => (this.#finish = resolve))
    signal.addEventListener('abort', this.#finish)
    engine.on('end', (error) => {
      failure = error
      this.#finish()
    })
    engine.on('link', (isUp) => this.#say(`${engine.source.name} is ${isUp ? 'up again' : 'down'}`))
    const output = (this.#output = await this.#openOutput())
    const tell = () => this.#tell()
    process.on('SIGUSR1', tell)
    const timer =
      this.#flags.interval === undefined ? undefined : setInterval(tell, this.#flags.interval * 1000)
    this.#progress = new Progress(
      () => this.#counts(),
      process.stderr.isTTY && this.#flags.write !== undefined,
    )
    try {
      this.#announce()
      if (signal.aborted) this.#finish()
      engine.start({ packet: (packet) => this.#onPacket(packet), batchEnd: () => this.#onBatchEnd() })
      await finished
      if (engine.state === 'running') await engine.stop()
    } finally {
      clearInterval(timer)
      process.off('SIGUSR1', tell)
      this.#progress.close()
      try {
        await this.#closeOutput(output)
      } finally {
        if (this.#engine.mode !== 'file') this.#tell()
      }
    }
    if (failure) throw failure
  }

  #onPacket(packet: PacketRecord): void {
    const output = this.#output
    if (!output || this.#left <= 0) return
    output.packet(packet)
    if (--this.#left <= 0) this.#finish()
    if (!output.hasRoom) this.#wait(output)
  }

  #onBatchEnd(): void {
    this.#output?.batchEnd()
  }

  /** No packets until the output has room again. */
  #wait(output: CaptureOutput): void {
    if (this.#isPaused || output.failure) return
    this.#isPaused = true
    this.#engine.pause()
    void output.ready().then(() => {
      this.#isPaused = false
      this.#engine.resume()
    })
  }

  #openOutput(): Promise<CaptureOutput> {
    const { rotateSize, rotateSeconds, rotateFiles, write = '-', immediate } = this.#flags
    const isRotated = rotateSize !== undefined || rotateSeconds !== undefined
    if (rotateFiles !== undefined && !isRotated)
      throw new OptionError('rotate-files', 'Nothing says when to begin the next file', 'Add -C or -G.')
    return openOutput({
      format: this.#format,
      path: write,
      text: textOptions(this.#flags),
      names: !this.#flags.numeric,
      rotate: isRotated ? { bytes: rotateSize, seconds: rotateSeconds, files: rotateFiles } : undefined,
      immediate: immediate ?? false,
      interfaces: this.#interfaces(),
      statistics: () => this.#statistics(),
      version,
      onFailure: () => this.#finish(),
    })
  }

  /** A reader that went away has what it wanted: that is no failure. */
  async #closeOutput(output: CaptureOutput): Promise<void> {
    try {
      await output.close()
    } catch (error) {
      if (!(error instanceof XdpError && error.code === 'EPIPE')) throw error
    }
  }

  #interfaces(): InterfaceInfo[] {
    const { source } = this.#engine
    if (source instanceof FileSource) {
      const { interfaces } = source.reader
      return interfaces.length > 0 ? [...interfaces] : [{ linkType: source.linkType }]
    }
    const { mac } = getInterface(source.name)
    return [
      {
        name: source.name,
        linkType: source.linkType,
        ...(mac && { mac }),
        ...(this.#snapLength !== undefined && { snapLength: this.#snapLength }),
        ...(this.#expression !== '' && { filter: this.#expression }),
      },
    ]
  }

  #statistics(): (InterfaceStatistics | undefined)[] {
    if (this.#engine.mode === 'file') return []
    const { packets, dropped } = this.#engine.stats()
    const now = Date.now()
    const lost = dropped.kernel + dropped.ring
    return [
      {
        seconds: Math.floor(now / 1000),
        nanoseconds: (now % 1000) * 1e6,
        received: packets + lost,
        interfaceDropped: dropped.interface,
        systemDropped: lost,
        delivered: packets,
      },
    ]
  }

  #announce(): void {
    const { source, mode } = this.#engine
    for (const { mode, reason } of this.#engine.fallbacks)
      this.#say(`cannot have mode ${mode}: ${reason}`)
    if (mode === 'file') this.#say(`reading ${source.name}`)
    else this.#say(`capturing on ${source.name} in mode ${mode}: ${WHAT[mode]}`)
  }

  #counts(): Counts {
    return { ...this.#engine.stats(), outputLost: this.#output?.lost ?? 0 }
  }

  #tell(): void {
    const counts = this.#counts()
    this.#progress?.clear()
    console.error(statisticsLine(counts))
    const losses = lossSentence(counts)
    if (losses !== undefined) this.#say(losses)
  }

  #say(sentence: string): void {
    this.#progress?.clear()
    console.error(`xdp: ${sentence}`)
  }
}

const WHAT = {
  divert: 'what arrives is taken away from the host',
  mirror: 'what arrives, copied by an XDP program; what leaves is seen with --mode packet',
  packet: 'what arrives and leaves, by AF_PACKET',
} as const

function formatOf(flags: CaptureFlags): 'text' | 'json' | 'pcapng' | 'pcap' {
  const { write, json } = flags
  const format = flags.format ?? (json ? 'json' : undefined)
  if (write === undefined) return format ?? 'text'
  if (format === 'text' || format === 'json')
    throw new OptionError(
      'format',
      `Files are not written as ${format}`,
      'Leave -w out and redirect standard output.',
    )
  return format ?? (/\.(pcap|cap|dmp)$/.test(write) ? 'pcap' : 'pcapng')
}
