// Where captured packets go: lines of text or JSON on standard output, or a capture file.
import { arch, cpus, release, type } from 'node:os'
import {
  CaptureWriteError,
  CaptureWriter,
  PacketFormatter,
  loadServices,
  type CaptureWriterOptions,
  type FormatOptions,
  type RotateOptions,
} from '../capture/index.js'
import { TextBuffer } from '../capture/format/text.js'
import { addJson } from '../capture/json.js'
import { openTarget, type Target } from '../capture/target.js'
import type { PacketBatch } from '../packet/pcap-batch.js'
import type { PacketRecord } from '../packet/pcap-record.js'
import type { InterfaceInfo } from '../packet/pcapng-layout.js'

/** Takes packets, and says when it cannot keep up. */
export interface CaptureOutput {
  /** False when the packet was not taken; it is then lost. */
  packet(packet: PacketRecord): boolean
  batchEnd(): void
  /** Packets of an interface that came together, where they can be taken so; how many of the first had room. */
  batch?(batch: PacketBatch): number
  /** Whether the next packet will be taken. */
  readonly hasRoom: boolean
  /** Whether there may be too little room for many packets that come together, though there is some. */
  readonly isNearlyFull?: boolean
  /** Resolves when there is room for many again, or never will be because of `failure`. */
  ready(): Promise<unknown>
  readonly failure: Error | undefined
  /** Packets not taken, or taken and then not written. */
  readonly lost: number
  /** Of those the ones that `failure` kept from being written. */
  readonly failed: number
  /** Packets taken that are not, or not all of them, with whoever reads. */
  readonly unwritten: number
  /** Writes what waits. Throws what ended the writing. */
  close(): Promise<void>
}

export interface OutputOptions {
  format: 'text' | 'json' | 'pcapng' | 'pcap'
  /** `-` is standard output. */
  path: string
  /** How text looks. */
  text: FormatOptions
  /** Names for port numbers, in text. */
  names: boolean
  rotate: RotateOptions | undefined
  /** As soon as possible, in files too. */
  immediate: boolean
  interfaces: readonly InterfaceInfo[]
  statistics: NonNullable<CaptureWriterOptions['statistics']>
  version: string
  onFailure: () => void
}

export async function openOutput(options: OutputOptions): Promise<CaptureOutput> {
  const { format } = options
  if (format === 'pcapng' || format === 'pcap') return FileOutput.open(options, format)
  return new LineOutput(await openTarget('-'), lineOf(options), options.onFailure)
}

/** Adds the lines of a packet to a text, without a line feed at their end. */
type AddLine = (packet: PacketRecord, text: TextBuffer) => void

function lineOf({ format, text, names, interfaces }: OutputOptions): AddLine {
  if (format === 'json') {
    const json = { interfaces: interfaces.map(({ name }) => name) }
    return (packet, text) => addJson(packet, text, json)
  }
  const formatter = new PacketFormatter({ ...text, ...(names && { service: loadServices() }) })
  return (packet, text) => formatter.add(packet, text)
}

/** Bytes of text that may wait for whoever reads it, while others are being written, when more packets are asked for. */
const MOST_WAITING = 1 << 20
/** And in the middle of packets that came together: a source that is paused there has to copy those that are left. */
const MOST_AT_ALL = 1.75 * MOST_WAITING
/** So many are worth writing before those that came with them are printed. */
const WORTH_WRITING = MOST_WAITING / 4
/** Room for the packet that comes last: longer ones make it grow. */
const LAST_LINES = MOST_WAITING / 16
const LINE_FEED = 0x0a

/** Lines to standard output, written without ever blocking. */
class LineOutput implements CaptureOutput {
  readonly #target: Target
  readonly #addLine: AddLine
  readonly #onFailure: () => void
  /** What waits, and what is being written. They change places, so that no text is ever copied or becomes garbage. */
  #waiting = new TextBuffer(MOST_AT_ALL + LAST_LINES)
  #leaving = new TextBuffer(MOST_AT_ALL + LAST_LINES)
  /** Packets in them. */
  #inWaiting = 0
  #inLeaving = 0
  #pump: Promise<void> | undefined
  #wakers: (() => void)[] = []
  #failure: Error | undefined
  #lost = 0
  #failed = 0

  constructor(target: Target, addLine: AddLine, onFailure: () => void) {
    this.#target = target
    this.#addLine = addLine
    this.#onFailure = onFailure
  }

  packet(packet: PacketRecord): boolean {
    if (!this.hasRoom) {
      this.#lost++
      if (this.#failure) this.#failed++
      return false
    }
    const text = this.#waiting
    this.#addLine(packet, text)
    text.reserve(1)[text.length++] = LINE_FEED
    this.#inWaiting++
    if (text.length >= WORTH_WRITING) this.batchEnd()
    return true
  }

  batchEnd(): void {
    if (this.#waiting.length > 0 && !this.#failure) this.#pump ??= this.#write()
  }

  get hasRoom(): boolean {
    return this.#waiting.length < MOST_AT_ALL && !this.#failure
  }

  get isNearlyFull(): boolean {
    return this.#waiting.length >= MOST_WAITING
  }

  async ready(): Promise<void> {
    this.batchEnd()
    while (this.isNearlyFull && !this.#failure) await new Promise<void>((wake) => this.#wakers.push(wake))
  }

  get failure(): Error | undefined {
    return this.#failure
  }

  get lost(): number {
    return this.#lost
  }

  get failed(): number {
    return this.#failed
  }

  get unwritten(): number {
    return this.#inWaiting + this.#inLeaving
  }

  async close(): Promise<void> {
    this.batchEnd()
    while (this.#pump) await this.#pump
    await this.#target.close()
    if (this.#failure) throw this.#failure
  }

  async #write(): Promise<void> {
    try {
      while (this.#waiting.length > 0) {
        const text = this.#waiting
        this.#waiting = this.#leaving
        this.#leaving = text
        this.#inLeaving = this.#inWaiting
        this.#inWaiting = 0
        this.#wake()
        const { bytes, length } = text
        for (let at = 0; at < length;) at += await this.#target.write(bytes, at, length)
        text.clear()
        this.#inLeaving = 0
      }
    } catch (error) {
      this.#failure = new CaptureWriteError('-', error)
      this.#waiting.clear()
      this.#onFailure()
    }
    this.#pump = undefined
    this.#wake()
  }

  #wake(): void {
    const wakers = this.#wakers
    this.#wakers = []
    for (const wake of wakers) wake()
  }
}

class FileOutput implements CaptureOutput {
  readonly #writer: CaptureWriter
  readonly #interfaces: readonly InterfaceInfo[]

  private constructor(writer: CaptureWriter, interfaces: readonly InterfaceInfo[]) {
    this.#writer = writer
    this.#interfaces = interfaces
  }

  static async open(options: OutputOptions, format: 'pcapng' | 'pcap'): Promise<FileOutput> {
    const { path, rotate, interfaces, statistics, version, onFailure } = options
    const writer = await CaptureWriter.open({
      path,
      format,
      rotate,
      interfaces,
      statistics,
      flush: options.immediate ? 'immediate' : undefined,
      section: {
        hardware: `${cpus().at(0)?.model ?? 'unknown'} (${arch()})`,
        os: `${type()} ${release()}`,
        application: `xdp capture ${version}`,
      },
      onError: onFailure,
    })
    return new FileOutput(writer, interfaces)
  }

  packet(packet: PacketRecord): boolean {
    // A file that describes an interface after its first packet: taken for one of the same kind.
    if (packet.interfaceId >= this.#interfaces.length) {
      const alike = this.#interfaces.findIndex(({ linkType = 1 }) => linkType === packet.linkType)
      packet.interfaceId = Math.max(alike, 0)
    }
    return this.#writer.write(packet)
  }

  batchEnd(): void {
    // The writer flushes by itself.
  }

  batch(batch: PacketBatch): number {
    return this.#writer.takeBatch(batch)
  }

  get hasRoom(): boolean {
    return this.#writer.hasRoom
  }

  ready(): Promise<boolean> {
    return this.#writer.ready()
  }

  get failure(): Error | undefined {
    return this.#writer.failure
  }

  get lost(): number {
    return this.#writer.stats.lost
  }

  get failed(): number {
    return this.#writer.stats.failed
  }

  get unwritten(): number {
    const { given, written, lost } = this.#writer.stats
    return given - written - lost
  }

  close(): Promise<void> {
    return this.#writer.close()
  }
}
