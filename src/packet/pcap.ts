// Classic pcap files (draft-ietf-opsawg-pcap; libpcap sf-pcap.c): both byte orders, micro- and nanoseconds, and Kuznetzov's variant.
import { ROW, ROW_LENGTH, ROW_NANOSECONDS, ROW_SECONDS, type PacketBatch } from './pcap-batch.js'
import { copyRange } from './pcap-copy.js'
import { CaptureInput } from './pcap-input.js'
import { type CaptureProblem, MAX_CAPTURED_LENGTH, type PacketRecord } from './pcap-record.js'
import { viewOf } from './bytes.js'

/** The magic number says the byte order and the unit of the time stamps. */
export const PCAP_MAGIC = 0xa1b2c3d4
export const PCAP_MAGIC_NANOSECONDS = 0xa1b23c4d
/** Of files with longer headers of records (A. Kuznetzov's patches of libpcap, 1999): read, never written. */
export const PCAP_MAGIC_MODIFIED = 0xa1b2cd34
export const PCAP_HEADER_LENGTH = 24
export const PCAP_RECORD_HEADER_LENGTH = 16
/** In those an interface's index, a protocol and the packet's type follow, and a byte of padding (struct pcap_sf_patched_pkthdr). */
const MODIFIED_RECORD_HEADER_LENGTH = 24
const VERSION_MAJOR = 2
const VERSION_MINOR = 4

/** What the header of a pcap file says. */
export interface PcapHeader {
  readonly littleEndian: boolean
  readonly resolution: 'microseconds' | 'nanoseconds'
  /** The most bytes of a packet that were to be captured. */
  readonly snapLength: number
  readonly linkType: number
}

/** Whether these 4 bytes begin a pcap file. */
export function isPcap(bytes: Uint8Array, offset: number): boolean {
  return byteOrder(viewOf(bytes), offset) !== undefined
}

/** Which of them it is, and the byte order in which it is. */
function byteOrder(view: DataView, offset: number): { little: boolean; magic: number } | undefined {
  for (const little of [true, false]) {
    const magic = view.getUint32(offset, little)
    if (magic === PCAP_MAGIC || magic === PCAP_MAGIC_NANOSECONDS || magic === PCAP_MAGIC_MODIFIED)
      return { little, magic }
  }
  return undefined
}

/** What `next` of a reader found: a packet, the need for more input, or a problem, which is final. */
export type ReadStep = 'packet' | 'more' | 'problem'

/**
 * Reads pcap from chunks of any size. Feed `input`, then take packets with `next` until it says `more`. Holds one
 * record and one chunk at most. Never throws for what the file says.
 */
export class PcapReader {
  readonly input: CaptureInput
  header: PcapHeader | undefined
  problem: CaptureProblem | undefined
  #recordHeader = PCAP_RECORD_HEADER_LENGTH

  constructor(input: CaptureInput = new CaptureInput()) {
    this.input = input
  }

  /** The next packet, into `into`; its bytes are valid until more input is fed. */
  next(into: PacketRecord): ReadStep {
    if (this.problem) return 'problem'
    const input = this.input
    const header = this.header ?? this.#readHeader()
    if (!header) return this.problem ? 'problem' : 'more'
    const before = this.#recordHeader
    if (input.length < before) return 'more'
    const view = viewOf(input.bytes)
    const at = input.start
    const little = header.littleEndian
    const length = view.getUint32(at + 8, little)
    if (length > MAX_CAPTURED_LENGTH) {
      return this.#fail(
        'bad-length',
        `A packet of ${length} captured bytes; ${MAX_CAPTURED_LENGTH} is the most`,
      )
    }
    if (input.length < before + length) return 'more'
    const fraction = view.getUint32(at + 4, little) * (header.resolution === 'nanoseconds' ? 1 : 1000)
    // Some writers let the fraction run over a second.
    const carry = fraction < 1e9 ? 0 : Math.floor(fraction / 1e9)
    into.reset()
    into.bytes = input.bytes
    into.offset = at + before
    into.length = length
    into.wireLength = Math.max(length, view.getUint32(at + 12, little))
    into.seconds = view.getUint32(at, little) + carry
    into.nanoseconds = fraction - carry * 1e9
    into.linkType = header.linkType
    input.skip(before + length)
    return 'packet'
  }

  /** No more input comes: undefined when the file ended where a record ends. */
  finish(): CaptureProblem | undefined {
    if (this.problem) return this.problem
    if (!this.header || this.input.length > 0) {
      this.#fail('truncated', `The file ends ${this.input.length} bytes into a record`)
    }
    return this.problem
  }

  #readHeader(): PcapHeader | undefined {
    const { input } = this
    if (input.length < PCAP_HEADER_LENGTH) return undefined
    const view = viewOf(input.bytes)
    const at = input.start
    const order = byteOrder(view, at)
    if (!order) {
      const magic = view.getUint32(at).toString(16).padStart(8, '0')
      this.#fail('unknown-format', `The file begins with ${magic}, which is no magic number of pcap`)
      return undefined
    }
    const major = view.getUint16(at + 4, order.little)
    const minor = view.getUint16(at + 6, order.little)
    // Before 2.4 the two lengths of a record were written in either order.
    if (major !== VERSION_MAJOR || minor < VERSION_MINOR) {
      this.#fail('bad-version', `The file is of pcap version ${major}.${minor}; 2.4 is the one that is read`)
      return undefined
    }
    if (order.magic === PCAP_MAGIC_MODIFIED) this.#recordHeader = MODIFIED_RECORD_HEADER_LENGTH
    this.header = {
      littleEndian: order.little,
      resolution: order.magic === PCAP_MAGIC_NANOSECONDS ? 'nanoseconds' : 'microseconds',
      snapLength: view.getUint32(at + 16, order.little),
      // The upper bits say whether packets end with a frame check sequence.
      linkType: view.getUint32(at + 20, order.little) & 0xffff,
    }
    input.skip(PCAP_HEADER_LENGTH)
    return this.header
  }

  #fail(problem: CaptureProblem['problem'], detail: string): 'problem' {
    this.problem = { problem, offset: this.input.position, detail }
    return 'problem'
  }
}

/** What to write into a header; little-endian, nanoseconds, Ethernet and 262144 bytes unless said otherwise. */
export type PcapHeaderInput = Partial<PcapHeader>

/** Writes the 24 bytes that begin a file; returns the offset after them, -1 when there is no room. */
export function writePcapHeader(bytes: Uint8Array, offset: number, header: PcapHeaderInput = {}): number {
  if (offset + PCAP_HEADER_LENGTH > bytes.length) return -1
  const view = viewOf(bytes)
  const little = header.littleEndian ?? true
  const micro = header.resolution === 'microseconds'
  view.setUint32(offset, micro ? PCAP_MAGIC : PCAP_MAGIC_NANOSECONDS, little)
  view.setUint16(offset + 4, VERSION_MAJOR, little)
  view.setUint16(offset + 6, VERSION_MINOR, little)
  view.setUint32(offset + 8, 0)
  view.setUint32(offset + 12, 0)
  view.setUint32(offset + 16, header.snapLength ?? MAX_CAPTURED_LENGTH, little)
  view.setUint32(offset + 20, header.linkType ?? 1, little)
  return offset + PCAP_HEADER_LENGTH
}

/** In 2106: later ones than that are written as it, for they would come out as some other year. */
const LAST_SECOND = 0xffffffff

/** Writes one packet; returns the offset after it, -1 (and nothing written) when there is no room. Allocates nothing. */
export function writePcapRecord(
  bytes: Uint8Array,
  offset: number,
  packet: PacketRecord,
  resolution: PcapHeader['resolution'] = 'nanoseconds',
  littleEndian = true,
): number {
  const { length } = packet
  const end = offset + PCAP_RECORD_HEADER_LENGTH + length
  if (end > bytes.length) return -1
  const view = viewOf(bytes)
  const { nanoseconds } = packet
  const fraction = resolution === 'nanoseconds' ? nanoseconds : Math.floor(nanoseconds / 1000)
  view.setUint32(offset, Math.min(Math.max(packet.seconds, 0), LAST_SECOND), littleEndian)
  view.setUint32(offset + 4, fraction, littleEndian)
  view.setUint32(offset + 8, length, littleEndian)
  view.setUint32(offset + 12, packet.wireLength, littleEndian)
  copyRange(bytes, offset + PCAP_RECORD_HEADER_LENGTH, packet.bytes, packet.offset, length)
  return end
}

/** Where rows have the header of a record with nanoseconds, and the length of the packet behind it: for `native.gatherRows`. */
export const PCAP_ROWS = Uint32Array.of(ROW, ROW_SECONDS, PCAP_RECORD_HEADER_LENGTH / 4, ROW_LENGTH)

/** The rows of a batch from number `first` on with microseconds, as files of that resolution have them: `into`, or a larger array in its place. */
export function microsecondRows({ rows, count }: PacketBatch, first: number, into: Uint32Array): Uint32Array {
  const length = count * ROW
  const copy = into.length < length ? new Uint32Array(rows.length) : into
  const start = first * ROW
  copy.set(rows.subarray(start, length), start)
  for (let at = start + ROW_NANOSECONDS; at < length; at += ROW) copy[at] = copy[at] / 1000
  return copy
}
