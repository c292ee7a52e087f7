// Reading a capture file of either format: the first four bytes say which.
import { CaptureInput } from './pcap-input.js'
import { type CaptureProblem, type PacketRecord } from './pcap-record.js'
import { isPcap, PcapReader, type ReadStep } from './pcap.js'
import type { CaptureInterface, InterfaceInfo } from './pcapng-layout.js'
import { isPcapng, PcapngReader } from './pcapng.js'

/** Reads pcap or pcapng from chunks of any size: feed `input`, take packets with `next`, end with `finish`. */
export class CaptureDecoder {
  readonly input = new CaptureInput()
  #reader: PcapReader | PcapngReader | undefined
  #problem: CaptureProblem | undefined

  /** Undefined until four bytes were seen. */
  get format(): 'pcap' | 'pcapng' | undefined {
    if (!this.#reader) return undefined
    return this.#reader instanceof PcapReader ? 'pcap' : 'pcapng'
  }

  /** What is wrong with the file; nothing is read after it. */
  get problem(): CaptureProblem | undefined {
    return this.#problem ?? this.#reader?.problem
  }

  /** The interfaces described so far (in the current section); one for pcap once its header is read. */
  get interfaces(): readonly (InterfaceInfo | CaptureInterface)[] {
    const reader = this.#reader
    if (reader instanceof PcapngReader) return reader.interfaces
    return reader?.header ? [reader.header] : []
  }

  /** The next packet, into `into`; its bytes are valid until more input is fed. */
  next(into: PacketRecord): ReadStep {
    if (!this.#reader && !this.#choose()) return this.#problem ? 'problem' : 'more'
    return this.#reader?.next(into) ?? 'more'
  }

  /** No more input comes: undefined when the file ended where a record ends. */
  finish(): CaptureProblem | undefined {
    if (!this.#reader && !this.#problem) {
      const detail = `The file has ${this.input.length} bytes, fewer than the header of a capture file`
      this.#problem = { problem: 'truncated', offset: 0, detail }
    }
    return this.#problem ?? this.#reader?.finish()
  }

  #choose(): boolean {
    const { input } = this
    if (this.#problem || input.length < 4) return false
    if (isPcapng(input.bytes, input.start)) this.#reader = new PcapngReader(input)
    else if (isPcap(input.bytes, input.start)) this.#reader = new PcapReader(input)
    else {
      const first = Array.from(input.bytes.subarray(input.start, input.start + 4), hex).join(' ')
      this.#problem = {
        problem: 'unknown-format',
        offset: 0,
        detail: `The file begins with the bytes ${first}`,
      }
      return false
    }
    return true
  }
}

function hex(byte: number): string {
  return byte.toString(16).padStart(2, '0')
}
