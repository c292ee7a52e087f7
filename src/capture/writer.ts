// Writing capture files: buffered, rotated, and whole to the last record whatever happens to the disk or the pipe.
import { unlinkSync } from 'node:fs'
import { unlink } from 'node:fs/promises'
import { OptionError, StateError, check } from '../kernel/errors.js'
import { native } from '../kernel/native.js'
import { BatchMoves, ROW, ROW_SECONDS, type PacketBatch } from '../packet/pcap-batch.js'
import { LINKTYPE_ETHERNET, MAX_CAPTURED_LENGTH, PacketRecord } from '../packet/pcap-record.js'
import {
  PCAP_HEADER_LENGTH,
  PCAP_RECORD_HEADER_LENGTH,
  PCAP_ROWS,
  microsecondRows,
  writePcapHeader,
  writePcapRecord,
} from '../packet/pcap.js'
import type { InterfaceInfo } from '../packet/pcapng-layout.js'
import {
  encodeInterface,
  encodeSection,
  encodeStatistics,
  packetBlockLength,
  writePacketBlock,
  writePacketBlocks,
} from '../packet/pcapng-write.js'
import { type CaptureFormat, type Chunk, wholeRecords } from './chunk.js'
import { CaptureWriteError } from './errors.js'
import { openFileNow, openTarget, type Target } from './target.js'
import { checkOptions, numbered, type CaptureWriterOptions, type WriterStatistics } from './writer-options.js'

export type { CaptureWriterOptions, RotateOptions, WriterStatistics } from './writer-options.js'

// Holds the longest packet with everything around it.
const CHUNK = 512 * 1024
// What is written at a time while the disk keeps up: far more than a page, since ext4 pays for each call, and no more than that,
// for the kernel takes larger pieces into larger runs of memory, which a virtual machine's host may have to find first.
const PIECE = 128 * 1024
// Leaves room for what begins a file; more than any packet takes.
const MAX_RECORD = CHUNK - 65536
const FLUSH_MS = 200
/** A chunk took longer to be written, in milliseconds: for so long the event loop shall not wait for others, and twice as long the next time. */
const SLOW_MS = 50
const WARY_MS = 1000
const MOST_WARY_MS = 64_000

/** Bytes of a block of statistics with every counter and no comment. */
const STATISTICS_LENGTH = encodeStatistics(0, {
  seconds: 0,
  nanoseconds: 0,
  start: { seconds: 0, nanoseconds: 0 },
  end: { seconds: 0, nanoseconds: 0 },
  received: 0,
  interfaceDropped: 0,
  accepted: 0,
  systemDropped: 0,
  delivered: 0,
}).length

/** Writes packets to a file, a ring of files, or standard output. Needs `close()`. */
export class CaptureWriter implements AsyncDisposable {
  readonly #options: CaptureWriterOptions
  readonly #format: CaptureFormat
  /** The interfaces, and for pcapng their blocks. */
  readonly #interfaces: InterfaceInfo[]
  readonly #blocks: Uint8Array[]
  readonly #isImmediate: boolean
  readonly #isPcap: boolean
  readonly #isRotated: boolean
  readonly #resolution: 'microseconds' | 'nanoseconds'
  /** Of a pcap file. */
  readonly #linkType: number
  readonly #stats: WriterStatistics = { given: 0, written: 0, bytes: 0, lost: 0, failed: 0, files: 0 }
  readonly #free: Chunk[] = []
  readonly #queue: Chunk[] = []
  #current: Chunk | undefined
  /** Of the file that `write` writes into. */
  #fileBytes = 0
  #fileStart = -1
  /** How many interfaces it describes. */
  #described = 0
  #target: Target | undefined
  #path = ''
  readonly #kept: string[] = []
  #pump: Promise<void> | undefined
  /** Nothing is written in the turn that it came in: `performance.now()`. */
  #waryUntil = 0
  /** For how long the next time: milliseconds. */
  #wariness = WARY_MS
  #timer: NodeJS.Timeout | undefined
  #immediate: NodeJS.Immediate | undefined
  #waiting: (() => void)[] = []
  #failure: CaptureWriteError | undefined
  #isClosed = false
  readonly #moves = new BatchMoves()
  /** Packets of the last `gatherRows`, and where they ended. */
  readonly #done = new Uint32Array(2)
  /** Rows with microseconds. */
  #heads: Uint32Array = new Uint32Array(0)
  readonly #record = new PacketRecord()

  private constructor(options: CaptureWriterOptions) {
    this.#options = options
    this.#format = options.format ?? 'pcapng'
    this.#interfaces = [...(options.interfaces ?? [{}])]
    this.#blocks = this.#format === 'pcapng' ? this.#interfaces.map(encodeInterface) : []
    this.#isPcap = this.#format === 'pcap'
    this.#isRotated = options.rotate !== undefined
    this.#resolution = options.resolution ?? 'nanoseconds'
    this.#linkType = this.#interfaces[0].linkType ?? LINKTYPE_ETHERNET
    this.#isImmediate = (options.flush ?? (options.path === '-' ? 'immediate' : 'buffered')) === 'immediate'
    const chunks = Math.max(3, Math.floor((options.bufferSize ?? 4 << 20) / CHUNK))
    for (let i = 0; i < chunks; i++) {
      this.#free.push({
        bytes: new Uint8Array(CHUNK),
        length: 0,
        packets: 0,
        written: 0,
        begins: false,
        ends: false,
      })
    }
  }

  /** Opens the (first) file and writes its head. Throws `OptionError`, and `CaptureWriteError` when it cannot be opened. */
  static async open(options: CaptureWriterOptions): Promise<CaptureWriter> {
    checkOptions(options)
    const writer = new CaptureWriter(options)
    try {
      await writer.#openFile()
    } catch (error) {
      throw new CaptureWriteError(writer.#path, error)
    }
    writer.#begin(true)
    if (writer.#isImmediate) await writer.flush()
    return writer
  }

  /** Describes one more interface, for packets from now on; returns its id. Throws `OptionError` for pcap, which has one. */
  addInterface(info: InterfaceInfo): number {
    if (this.#format === 'pcap')
      throw new OptionError('format', 'A pcap file has one interface', 'Use pcapng.')
    this.#blocks.push(encodeInterface(info))
    return this.#interfaces.push(info) - 1
  }

  /**
   * Takes a packet, which is copied at once. False when it was not taken, because there is no room (see `ready`) or
   * writing has failed; it is then counted as lost. Throws `OptionError` for a packet of an interface that was not
   * described, or (pcap) of another link type than the file's.
   */
  write(packet: PacketRecord): boolean {
    const isPcap = this.#isPcap
    const size = isPcap ? PCAP_RECORD_HEADER_LENGTH + packet.length : packetBlockLength(packet)
    const isKnown = isPcap ? packet.linkType === this.#linkType : packet.interfaceId < this.#described
    // Nearly always: room in the chunk at hand, which is there only while nothing has failed.
    let chunk = this.#current
    if (chunk === undefined || !isKnown || this.#isRotated || chunk.length + size > CHUNK) {
      chunk = this.#place(packet, size)
      if (chunk === undefined) {
        this.#stats.given++
        this.#stats.lost++
        return false
      }
    }
    this.#stats.given++
    chunk.length = isPcap
      ? writePcapRecord(chunk.bytes, chunk.length, packet, this.#resolution)
      : writePacketBlock(chunk.bytes, chunk.length, packet)
    chunk.packets++
    this.#fileBytes += size
    if (this.#timer === undefined) this.#schedule()
    return true
  }

  /** As `write` for each packet of a batch, and far cheaper. Those that are not taken are counted as lost. */
  writeBatch(batch: PacketBatch): void {
    this.#writeAll(batch, false)
  }

  /**
   * As `writeBatch`, but only the first packets of the batch, those that there is room for; how many. The rest is not lost, and
   * may come when there is room again (see `ready`): it is what a `PacketConsumer` answers that pauses the capture until then.
   * When writing has failed, all are taken, and lost.
   */
  takeBatch(batch: PacketBatch): number {
    return this.#writeAll(batch, true)
  }

  #writeAll(batch: PacketBatch, isInPart: boolean): number {
    for (let done = 0; done < batch.count;) {
      const chunk = this.#current
      const taken = chunk === undefined ? 0 : this.#writeRest(chunk, batch, done)
      done += taken
      if (taken > 0 || done === batch.count) continue
      if (isInPart && !this.#failure && !this.#isClosed && !this.#hasChunks()) return done
      // The first of a chunk, a file, an interface: by itself.
      batch.read(done++, this.#record)
      this.write(this.#record)
    }
    return batch.count
  }

  /** Writes the packets of a batch from number `first` on that simply go behind the last one; how many. */
  #writeRest(chunk: Chunk, batch: PacketBatch, first: number): number {
    const { interfaceId, linkType, rows, count } = batch
    const isKnown = this.#isPcap ? linkType === this.#linkType : interfaceId < this.#described
    if (!isKnown) return 0
    const isPiece = chunk.length >= PIECE
    if (isPiece && this.#canWriteNow) {
      this.#seal()
      return 0
    }
    let limit = isPiece ? CHUNK : PIECE
    const { rotate } = this.#options
    if (rotate) {
      const age = rows[(count - 1) * ROW + ROW_SECONDS] - this.#fileStart
      if (this.#fileStart < 0 || age >= (rotate.seconds ?? Infinity)) return 0
      limit = Math.max(0, Math.min(limit, chunk.length + this.#fileLimit() - this.#fileBytes))
    }
    const start = chunk.length
    const taken = this.#isPcap
      ? this.#appendRecords(chunk, limit, batch, first)
      : this.#appendBlocks(chunk, limit, batch, first)
    if (taken === 0) return 0
    this.#stats.given += taken
    this.#fileBytes += chunk.length - start
    chunk.packets += taken
    if (this.#timer === undefined) this.#schedule()
    return taken
  }

  /** The packets of a batch from number `first` on as records of pcap, as many as have room below `limit`; how many. */
  #appendRecords(chunk: Chunk, limit: number, batch: PacketBatch, first: number): number {
    const { bytes, rows, count } = batch
    const isNano = this.#resolution === 'nanoseconds'
    const heads = isNano ? rows : (this.#heads = microsecondRows(batch, first, this.#heads))
    const done = this.#done
    const { length } = chunk
    check(
      native.gatherRows(chunk.bytes, length, limit, bytes, heads, PCAP_ROWS, first, count, done),
      'gather',
    )
    chunk.length = done[1]
    return done[0]
  }

  /** The same as blocks of pcapng. */
  #appendBlocks(chunk: Chunk, limit: number, batch: PacketBatch, first: number): number {
    const moves = this.#moves
    writePacketBlocks(chunk.bytes, chunk.length, limit, batch, first, moves)
    check(native.gather(chunk.bytes, batch.bytes, moves.table, moves.count), 'gather')
    chunk.length = moves.end
    return moves.count
  }

  /** Where a packet goes that is not simply the next one: the first of a chunk, a file, an interface. */
  #place(packet: PacketRecord, own: number): Chunk | undefined {
    if (this.#isClosed) throw new StateError('The capture writer is closed')
    this.#checkInterface(packet)
    const isDescribed = this.#isPcap || packet.interfaceId < this.#described
    const size = isDescribed ? own : own + this.#undescribed()
    const chunk = this.#failure || size > MAX_RECORD ? undefined : this.#chunkFor(size, packet.seconds)
    if (!chunk) {
      if (this.#failure) this.#stats.failed++
      return undefined
    }
    // A file that has just begun has described all of them.
    if (!this.#isPcap && packet.interfaceId >= this.#described) this.#describe(chunk)
    if (this.#fileStart < 0) this.#fileStart = packet.seconds
    return chunk
  }

  /** Whether the next packet, however long, will be taken. */
  get hasRoom(): boolean {
    return !this.#failure && !this.#isClosed && this.#hasChunks()
  }

  /** Resolves when there is room again, or never will be because writing failed: true, false. */
  async ready(): Promise<boolean> {
    while (!this.hasRoom && !this.#failure && !this.#isClosed) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve))
    }
    return this.hasRoom
  }

  /** What ended the writing, if anything. */
  get failure(): CaptureWriteError | undefined {
    return this.#failure
  }

  get stats(): Readonly<WriterStatistics> {
    return this.#stats
  }

  /** Resolves when all that was taken is with the kernel, or writing has failed. */
  async flush(): Promise<void> {
    this.#seal()
    await this.#pump
  }

  /** Writes what waits and the statistics, and closes the file. Throws the `CaptureWriteError` that ended the writing, each time. */
  async close(): Promise<void> {
    if (!this.#isClosed) {
      this.#isClosed = true
      if (!this.#failure) this.#finishFile()
      clearTimeout(this.#timer)
      if (this.#immediate) clearImmediate(this.#immediate)
    }
    while (this.#pump) await this.#pump
    if (this.#failure) throw this.#failure
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  /** The chunk to write a record of `size` bytes into: the current one, or the first of the next file, or a fresh one. */
  #chunkFor(size: number, seconds: number): Chunk | undefined {
    const { rotate } = this.#options
    const isFirst = this.#fileStart < 0
    const isFull =
      !isFirst &&
      (this.#fileBytes + size > this.#fileLimit() ||
        seconds - this.#fileStart >= (rotate?.seconds ?? Infinity))
    if (isFull) {
      // The next file needs a chunk; without one this file goes on no further, and the packet is lost.
      if (!this.#hasChunks()) return undefined
      this.#finishFile()
      return this.#begin(true)
    }
    const current = this.#current
    if (current && current.length + size <= CHUNK) return current
    if (this.#free.length === 0) return undefined
    this.#seal()
    return this.#begin(false)
  }

  /** The most bytes of a file before its end, where the statistics of its interfaces have to fit in too. */
  #fileLimit(): number {
    const { rotate, statistics } = this.#options
    const end = statistics && !this.#isPcap ? this.#interfaces.length * STATISTICS_LENGTH : 0
    return (rotate?.bytes ?? Infinity) - end
  }

  /** Enough to go on in the next file, whose end may take one more than its successor's beginning. */
  #hasChunks(): boolean {
    return this.#free.length >= (this.#current ? 1 : 2)
  }

  #begin(isFile: boolean): Chunk | undefined {
    const chunk = this.#free.pop()
    if (!chunk) return undefined
    chunk.length = 0
    chunk.packets = 0
    chunk.written = 0
    chunk.begins = isFile
    chunk.ends = false
    this.#current = chunk
    if (isFile) {
      const head = this.#format === 'pcapng' ? encodeSection(this.#options.section) : this.#pcapHeader()
      chunk.bytes.set(head)
      chunk.length = this.#fileBytes = head.length
      this.#fileStart = -1
      this.#described = 0
      this.#describe(chunk)
    }
    return chunk
  }

  #pcapHeader(): Uint8Array {
    const { snapLength = MAX_CAPTURED_LENGTH } = this.#interfaces[0]
    const head = new Uint8Array(PCAP_HEADER_LENGTH)
    writePcapHeader(head, 0, { linkType: this.#linkType, snapLength, resolution: this.#resolution })
    return head
  }

  /** Bytes of the descriptions that the current file lacks. */
  #undescribed(): number {
    return this.#blocks.slice(this.#described).reduce((sum, { length }) => sum + length, 0)
  }

  #describe(chunk: Chunk): void {
    for (const block of this.#blocks.slice(this.#described)) {
      chunk.bytes.set(block, chunk.length)
      chunk.length += block.length
      this.#fileBytes += block.length
    }
    this.#described = this.#blocks.length
  }

  #checkInterface({ interfaceId, linkType }: PacketRecord): void {
    if (this.#format === 'pcap') {
      if (linkType === this.#linkType) return
      const message = `A packet of link type ${linkType} in a pcap file of another`
      throw new OptionError('linkType', message, 'Use pcapng, which takes several.')
    }
    if (interfaceId < this.#interfaces.length) return
    throw new OptionError('interfaceId', `Interface ${interfaceId} was not described`, 'Use `addInterface`.')
  }

  /** The current file gets its statistics and no more. */
  #finishFile(): void {
    const chunk = this.#current ?? this.#begin(false) ?? this.#queue.at(-1)
    if (!chunk) return
    if (this.#format === 'pcapng') {
      for (const [id, statistics] of (this.#options.statistics?.(this.#stats) ?? []).entries()) {
        const block = statistics && encodeStatistics(id, statistics)
        if (!block || chunk.length + block.length > CHUNK) continue
        chunk.bytes.set(block, chunk.length)
        chunk.length += block.length
      }
    }
    chunk.ends = true
    this.#seal()
  }

  /** The current chunk is to be written. */
  #seal(): void {
    const chunk = this.#current
    if (!chunk || (chunk.length === 0 && !chunk.ends)) return
    this.#current = undefined
    if (!this.#pump && this.#writeNow(chunk)) return
    this.#queue.push(chunk)
    this.#pump ??= this.#writeQueue()
  }

  /**
   * Writes a chunk in this turn, with the file's beginning and end, if that can be had: handing it to the thread pool, and being
   * told, costs as much as much of the writing. False where there is something left to do, which may be an error to find again.
   */
  #writeNow(chunk: Chunk): boolean {
    const start = performance.now()
    if (start < this.#waryUntil) return false
    let target: Target | undefined
    try {
      target = this.#target ?? (chunk.begins ? this.#openNow() : undefined)
      if (!target?.writeNow) return false
      while (chunk.written < chunk.length)
        chunk.written += target.writeNow(chunk.bytes, chunk.written, chunk.length)
    } catch {
      return false
    }
    this.#countWritten(chunk)
    this.#free.push(chunk)
    if (chunk.ends) this.#closeNow(target)
    const end = performance.now()
    if (end - start > SLOW_MS) {
      this.#waryUntil = end + this.#wariness
      this.#wariness = Math.min(2 * this.#wariness, MOST_WARY_MS)
    }
    return true
  }

  /** Whether a piece would be written in this turn: one that waits takes the room of a whole chunk. */
  get #canWriteNow(): boolean {
    return !this.#pump && this.#target?.writeNow !== undefined && performance.now() >= this.#waryUntil
  }

  #countWritten(chunk: Chunk): void {
    this.#stats.written += chunk.packets
    this.#stats.bytes += chunk.length
    chunk.packets = 0
  }

  #schedule(): void {
    if (this.#isImmediate) {
      if (!this.#pump) this.#immediate ??= setImmediate(this.#onFlush)
    } else {
      this.#timer ??= setTimeout(this.#onFlush, FLUSH_MS)
    }
  }

  readonly #onFlush = (): void => {
    this.#timer = undefined
    this.#immediate = undefined
    this.#seal()
  }

  async #writeQueue(): Promise<void> {
    for (let chunk = this.#queue.at(0); chunk; chunk = this.#queue.at(0)) {
      const error = await this.#writeChunk(chunk)
      if (error) {
        this.#fail(error)
        break
      }
      this.#queue.shift()
      this.#free.push(chunk)
      this.#wake()
      // Packets that came meanwhile go at once, all together.
      if (this.#queue.length === 0 && this.#isImmediate && (this.#current?.packets ?? 0) > 0) this.#seal()
    }
    this.#pump = undefined
  }

  async #writeChunk(chunk: Chunk): Promise<unknown> {
    try {
      if (chunk.begins && !this.#target) await this.#openFile()
      const target = this.#target
      while (target && chunk.written < chunk.length)
        chunk.written += await target.write(chunk.bytes, chunk.written, chunk.length)
      this.#countWritten(chunk)
      if (chunk.ends) await this.#closeFile()
      return undefined
    } catch (error) {
      if (chunk.written < chunk.length) await this.#takeBackHalf(chunk)
      await this.#target?.close().catch(() => undefined)
      this.#target = undefined
      return error
    }
  }

  /** Leaves no half record at the end of a file. */
  async #takeBackHalf(chunk: Chunk): Promise<void> {
    const { written } = chunk
    const whole = wholeRecords(chunk, written, this.#format)
    const wasTaken = await this.#target?.takeBack(written - whole.bytes).catch(() => false)
    this.#stats.bytes += wasTaken ? whole.bytes : written
    this.#stats.written += whole.packets
    chunk.packets -= whole.packets
  }

  #fail(cause: unknown): void {
    if (this.#failure) return
    this.#failure = new CaptureWriteError(this.#path, cause)
    const waiting = this.#queue.reduce((sum, { packets }) => sum + packets, this.#current?.packets ?? 0)
    this.#stats.lost += waiting
    this.#stats.failed += waiting
    this.#queue.length = 0
    this.#current = undefined
    clearTimeout(this.#timer)
    this.#wake()
    this.#options.onError?.(this.#failure)
  }

  #wake(): void {
    const waiting = this.#waiting
    if (waiting.length === 0) return
    this.#waiting = []
    for (const resolve of waiting) resolve()
  }

  #nextPath(): string {
    const { path, rotate } = this.#options
    return (this.#path = rotate ? numbered(path, this.#stats.files + 1, new Date()) : path)
  }

  async #openFile(): Promise<void> {
    for (const path of this.#opened(await openTarget(this.#nextPath())))
      await unlink(path).catch(() => undefined)
  }

  #openNow(): Target | undefined {
    const target = openFileNow(this.#nextPath())
    for (const path of target ? this.#opened(target) : []) {
      try {
        unlinkSync(path)
      } catch {
        // Whoever has moved it away wants it.
      }
    }
    return target
  }

  /** The file that is written from now on; the paths of those that go for it. */
  #opened(target: Target): string[] {
    const { rotate } = this.#options
    this.#target = target
    target.watchEnd(() => {
      // While something is written, that fails by itself.
      if (this.#pump || this.#target !== target) return
      this.#target = undefined
      this.#fail(Object.assign(new Error('broken pipe, write'), { code: 'EPIPE' }))
      void target.close()
    })
    this.#stats.files++
    if (!rotate?.files) return []
    this.#kept.push(this.#path)
    return this.#kept.splice(0, this.#kept.length - rotate.files)
  }

  #closeNow(target: Target): void {
    this.#target = undefined
    try {
      target.closeNow?.()
    } catch (error) {
      this.#fail(error)
    }
  }

  async #closeFile(): Promise<void> {
    const target = this.#target
    this.#target = undefined
    await target?.close()
  }
}
