// One run of `xdp capture`: an engine, an output, and what is said about them.
import { readFileSync } from 'node:fs'
import type { CaptureEngine } from '../capture/engine.js'
import { FileSource, type WriterStatistics } from '../capture/index.js'
import { DivertSource } from '../capture/divert-source.js'
import { OptionError, XdpError, getInterface } from '../kernel/index.js'
import type { PacketBatch } from '../packet/pcap-batch.js'
import type { PacketRecord } from '../packet/pcap-record.js'
import type { InterfaceInfo, InterfaceStatistics } from '../packet/pcapng-layout.js'
import { textOptions, type CaptureFlags } from './capture-flags.js'
import { openOutput, type CaptureOutput } from './capture-output.js'
import { SAME_MS } from './interrupt.js'
import {
  Progress,
  fileStatistics,
  lossSentence,
  statisticsLine,
  xdpStatisticsLine,
  type Counts,
} from './capture-report.js'

const { version } = JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8')) as {
  version: string
}

/** How it is run, beside what the flags say of the output. */
export interface RunSettings {
  /** The filter, to be noted in files. */
  filter: string
  snapLength: number | undefined
  /** Packets wait in the engine's queue and come in batches; else each goes to the output as it comes. */
  isQueued: boolean
  /** Whether statistics are printed, and how often: milliseconds. */
  statistics: boolean
  interval: number | undefined
  /** The kernel's statistics of the sockets too. */
  xdpStatistics: boolean
  /** When packets began to be caught: `Date.now()`. */
  begin: number
}

/** One run: an engine, an output, and what is said about them. */
export class Capture {
  readonly #engine: CaptureEngine
  readonly #flags: CaptureFlags
  readonly #settings: RunSettings
  readonly #format: 'text' | 'json' | 'pcapng' | 'pcap'
  #progress: Progress | undefined
  #output: CaptureOutput | undefined
  #left: number
  #taken = 0
  #isPaused = false
  #isGivenUp = false
  #finish: () => void = () => undefined

  constructor(engine: CaptureEngine, flags: CaptureFlags, settings: RunSettings) {
    this.#engine = engine
    this.#flags = flags
    this.#settings = settings
    this.#format = formatOf(flags)
    this.#left = flags.count ?? Infinity
  }

  /** Until `signal` aborts, or all is done. When `lastWords` aborts the process is about to end where it is. */
  async run(signal: AbortSignal, lastWords: AbortSignal): Promise<void> {
    const engine = this.#engine
    let failure: Error | undefined
    const finished = new Promise<void>((resolve) => (this.#finish = resolve))
    signal.addEventListener('abort', this.#finish)
    engine.on('end', (error) => {
      failure = error
      this.#finish()
    })
    engine.on('link', (isUp) =>
      this.#say(`${engine.source.name} is ${isUp ? 'up again' : 'down; waiting until it is up'}`),
    )
    const output = (this.#output = await this.#openOutput())
    const isOver = this.#sayWhatHoldsUp(output, signal, lastWords)
    const tell = () => this.#tell()
    const { interval, statistics } = this.#settings
    process.on('SIGUSR1', tell)
    const timer = interval === undefined || !statistics ? undefined : setInterval(tell, interval)
    const showsProgress = process.stderr.isTTY && this.#flags.write !== undefined
    this.#progress = new Progress(() => this.#counts(), showsProgress)
    try {
      this.#announce()
      const consumed = this.#start(output)
      if (signal.aborted) this.#finish()
      await finished
      if (engine.state === 'running') await engine.stop()
      await consumed
    } finally {
      clearInterval(timer)
      process.off('SIGUSR1', tell)
      this.#progress.close()
      try {
        await this.#closeOutput(output)
      } finally {
        isOver()
        if (statistics && engine.mode !== 'file') this.#tell()
      }
    }
    if (failure) throw failure
  }

  /** Says of an end that is held up who does that, and of one that is then cut short what is missing. */
  #sayWhatHoldsUp(output: CaptureOutput, signal: AbortSignal, lastWords: AbortSignal): () => void {
    let timer: NodeJS.Timeout | undefined
    const { write = '-' } = this.#flags
    const reader = write === '-' ? 'whoever reads standard output' : write
    const look = () => {
      if (output.unwritten === 0) return
      clearInterval(timer)
      this.#say(`waiting for ${reader} to take the rest; interrupt once more to give it up`)
    }
    // From then on another signal is not the first one again.
    const wait = () => (timer = setInterval(look, SAME_MS))
    const giveUp = () => {
      this.#isGivenUp = true
      if (this.#settings.statistics && this.#engine.mode !== 'file') this.#tell()
    }
    signal.addEventListener('abort', wait)
    lastWords.addEventListener('abort', giveUp)
    if (signal.aborted) wait()
    return () => {
      clearInterval(timer)
      signal.removeEventListener('abort', wait)
      lastWords.removeEventListener('abort', giveUp)
    }
  }

  /** Resolves when the last packet is with the output; what ends the capture is told by the engine. */
  async #start(output: CaptureOutput): Promise<void> {
    const engine = this.#engine
    if (!this.#settings.isQueued) {
      engine.start({
        packet: (packet) => this.#onPacket(packet, output),
        batchEnd: () => {
          output.batchEnd()
          if (output.isNearlyFull) this.#wait(output)
        },
        ...(output.batch && { batch: (batch) => this.#onBatch(batch, output) }),
      })
      return
    }
    engine.start()
    const done = engine.forEachBatch(async (packets) => {
      for (const packet of packets) {
        if (this.#left <= 0) return
        if (!output.hasRoom) await output.ready()
        this.#put(packet, output)
      }
      output.batchEnd()
    })
    await done.catch(() => this.#finish())
  }

  #onPacket(packet: PacketRecord, output: CaptureOutput): void {
    if (this.#left <= 0) return
    this.#put(packet, output)
    if (!output.hasRoom) this.#wait(output)
  }

  #onBatch(batch: PacketBatch, output: CaptureOutput): number {
    if (this.#left <= 0) return batch.count
    batch.count = Math.min(batch.count, this.#left)
    const taken = output.batch?.(batch) ?? 0
    this.#taken += taken
    this.#left -= taken
    if (this.#left <= 0) this.#finish()
    if (!output.hasRoom) this.#wait(output)
    return taken
  }

  #put(packet: PacketRecord, output: CaptureOutput): void {
    output.packet(packet)
    this.#taken++
    if (--this.#left <= 0) this.#finish()
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
    return openOutput({
      format: this.#format,
      path: write,
      text: textOptions(this.#flags),
      names: !this.#flags.numeric,
      rotate: isRotated ? { bytes: rotateSize, seconds: rotateSeconds, files: rotateFiles } : undefined,
      immediate: immediate ?? false,
      interfaces: this.#interfaces(),
      statistics: (written) => this.#statistics(written),
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
        ...(this.#settings.snapLength !== undefined && { snapLength: this.#settings.snapLength }),
        ...(this.#settings.filter !== '' && { filter: this.#settings.filter }),
      },
    ]
  }

  #statistics(written: Readonly<WriterStatistics>): InterfaceStatistics[] {
    if (this.#engine.mode === 'file') return []
    return [fileStatistics(this.#engine.stats(), written, this.#settings.begin)]
  }

  #announce(): void {
    const { source, mode } = this.#engine
    for (const { mode, reason } of this.#engine.fallbacks) this.#say(`cannot have mode ${mode}: ${reason}`)
    if (mode === 'file') this.#say(`reading ${source.name}`)
    else this.#say(`capturing on ${source.name} in mode ${mode}: ${WHAT[mode]}`)
    for (const sentence of this.#engine.warnings) this.#say(`warning: ${sentence}`)
  }

  #counts(): Counts {
    const { lost = 0, failed = 0, failure, unwritten = 0 } = this.#output ?? {}
    const counts = this.#engine.stats()
    // What came after the last packet that was asked for is nobody's.
    const untaken = this.#isGivenUp
      ? Math.max(0, Math.min(this.#left, counts.packets - counts.dropped.consumer - this.#taken))
      : 0
    const givenUp = this.#isGivenUp ? unwritten + untaken : 0
    return {
      ...counts,
      processed: this.#taken + untaken,
      outputLost: lost + givenUp,
      outputFailed: failed,
      failure,
      givenUp,
    }
  }

  #tell(): void {
    const counts = this.#counts()
    this.#progress?.clear()
    console.error(statisticsLine(counts))
    const { source } = this.#engine
    if (this.#settings.xdpStatistics && source instanceof DivertSource)
      console.error(xdpStatisticsLine(source.kernel))
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

/** Throws `OptionError` for an output that cannot be, before anything is opened. */
export function checkOutput(flags: CaptureFlags): void {
  const isFile = ['pcapng', 'pcap'].includes(formatOf(flags))
  const { rotateSize, rotateSeconds, rotateFiles, write = '-' } = flags
  const isRotated = rotateSize !== undefined || rotateSeconds !== undefined
  if (rotateFiles !== undefined && !isRotated)
    throw new OptionError('rotate-files', 'Nothing says when to begin the next file', 'Add -C or -G.')
  if (isRotated && write === '-')
    throw new OptionError('rotate', 'Standard output cannot be rotated', 'Name a file with -w.')
  if (isFile && write === '-' && process.stdout.isTTY && !flags.printConfig)
    throw new OptionError(
      'write',
      'Standard output is a terminal, and a capture file is no text',
      'Pipe it on, name a file with -w, or leave -w out for text.',
    )
}

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
