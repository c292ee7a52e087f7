// Reading capture files and pipes, pcap or pcapng, one packet after the other.
import { open, type FileHandle } from 'node:fs/promises'
import { NotFoundError, XdpError } from '../kernel/errors.js'
import { CaptureDecoder } from '../packet/pcap-decoder.js'
import { PacketRecord } from '../packet/pcap-record.js'
import type { InterfaceInfo } from '../packet/pcapng-layout.js'
import { CaptureFileError } from './errors.js'

const CHUNK = 262144
const STDIN = 'standard input'

/** Where the bytes come from: puts some at the end of the input, false at the end. */
type Fill = () => Promise<boolean>

/**
 * A capture file being read, once, from its beginning to its end. Reads no faster than packets are taken, and keeps
 * one record and one chunk of 256 KiB in memory. Needs `close()`, unless it was read to its end.
 */
export class CaptureReader implements AsyncDisposable {
  /** The path; `standard input` for `-`. */
  readonly name: string
  readonly #decoder = new CaptureDecoder()
  readonly #fill: Fill
  readonly #file: FileHandle | undefined
  readonly #packet = new PacketRecord()
  /** Stepped to by `open`, not yet handed on. */
  #isAhead = false
  #isClosed = false
  #isFilling = false
  #onClose = (): void => {}
  readonly #iterator: AsyncIterator<Uint8Array> | undefined

  private constructor(
    name: string,
    file: FileHandle | undefined,
    chunks: AsyncIterable<Uint8Array> | undefined,
  ) {
    this.name = name
    this.#file = file
    const { input } = this.#decoder
    const iterator = chunks?.[Symbol.asyncIterator]()
    const fill = async () => {
      if (file) {
        const room = input.room(CHUNK)
        const { bytesRead } = await file.read(room, 0, CHUNK)
        input.filled(bytesRead)
        return bytesRead > 0
      }
      const next = await iterator?.next()
      if (!next || next.done || this.#isClosed) return false
      input.push(next.value)
      return true
    }
    // A pipe may stay silent for ever: closing does not wait for it.
    const closed = new Promise<false>((resolve) => (this.#onClose = () => resolve(false)))
    this.#fill = async () => {
      if (this.#isClosed) return false
      this.#isFilling = true
      try {
        return await Promise.race([fill(), closed])
      } finally {
        this.#isFilling = false
      }
    }
    this.#iterator = iterator
  }

  /**
   * Opens a file by path, standard input as `-`, or whatever gives bytes. Resolves once the first packet is there (or
   * the end), so that format and interfaces are known. Throws `CaptureFileError` for what is no capture file,
   * `NotFoundError`, and `XdpError` with the name of the errno for what cannot be read.
   */
  static async open(source: string | AsyncIterable<Uint8Array>): Promise<CaptureReader> {
    let reader: CaptureReader | undefined
    try {
      if (typeof source !== 'string') reader = new CaptureReader('the input', undefined, source)
      else if (source === '-') reader = new CaptureReader(STDIN, undefined, process.stdin)
      else reader = new CaptureReader(source, await open(source), undefined)
      reader.#isAhead = await reader.#step(true)
      return reader
    } catch (error) {
      await reader?.close()
      throw typeof source === 'string' ? unreadable(source, error) : error
    }
  }

  get format(): 'pcap' | 'pcapng' {
    return this.#decoder.format ?? 'pcap'
  }

  /** The interfaces that the file has described so far, with the statistics it gave for them. */
  get interfaces(): readonly InterfaceInfo[] {
    return this.#decoder.interfaces
  }

  /**
   * Calls `handler` for each packet, in order: a reused record, valid until the handler returns or the promise it
   * returns settles, which is waited for. `false` ends the reading. Throws `CaptureFileError` where the file is
   * damaged, after the packets before.
   */
  async read(handler: (packet: PacketRecord) => unknown): Promise<void> {
    while (await this.#take()) {
      // Packets at hand go without waiting for a promise each.
      do {
        let answer = handler(this.#packet)
        if (answer instanceof Promise) answer = await answer
        if (answer === false) return
      } while (!this.#isClosed && this.#decoder.next(this.#packet) === 'packet')
    }
  }

  /** Each packet with bytes of its own. */
  async *[Symbol.asyncIterator](): AsyncGenerator<PacketRecord, void, void> {
    try {
      while (await this.#take()) {
        do yield this.#packet.copy()
        while (!this.#isClosed && this.#decoder.next(this.#packet) === 'packet')
      }
    } finally {
      await this.close()
    }
  }

  /** Ends a reading under way too. Closing twice is harmless. */
  async close(): Promise<void> {
    if (this.#isClosed) return
    this.#isClosed = true
    const wasFilling = this.#isFilling
    this.#onClose()
    if (this.name === STDIN && wasFilling) process.stdin.destroy()
    const closing = this.#file ? this.#file.close() : this.#iterator?.return?.()
    // What is being read holds the file open until it comes.
    if (wasFilling) void Promise.resolve(closing).catch(() => undefined)
    else await closing
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  async #take(): Promise<boolean> {
    if (this.#isAhead) {
      this.#isAhead = false
      return true
    }
    return this.#step(false)
  }

  /** To the next packet; false at the end. */
  async #step(isFirst: boolean): Promise<boolean> {
    const decoder = this.#decoder
    for (;;) {
      const step = decoder.next(this.#packet)
      if (step === 'packet') return true
      if (step === 'more' && (await this.#fill())) continue
      if (this.#isClosed) return false
      const problem = step === 'problem' ? decoder.problem : decoder.finish()
      // A file whose damage is at its first packet opens all the same: the damage is found again when it is read.
      if (problem && isFirst && decoder.interfaces.length > 0) return false
      // Nothing more will be read, whatever comes of it.
      await this.close()
      if (problem) throw new CaptureFileError(this.name, problem)
      return false
    }
  }
}

/** What the file system says of a file, as an error of ours. */
function unreadable(path: string, error: unknown): unknown {
  const { code, message } = error as NodeJS.ErrnoException
  if (error instanceof XdpError || code === undefined) return error
  if (code === 'ENOENT') return new NotFoundError(`There is no file ${path}`)
  return new XdpError(code, `${path} cannot be read: ${message}`, undefined, { cause: error })
}
