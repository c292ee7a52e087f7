// Writing pcapng (draft-ietf-opsawg-pcapng): one little-endian section, nanoseconds, what is known about each packet.
import { viewOf } from './bytes.js'
import {
  INBOUND,
  OUTBOUND,
  ROW,
  ROW_DIRECTION,
  ROW_LENGTH,
  ROW_NANOSECONDS,
  ROW_OFFSET,
  ROW_QUEUE,
  ROW_SECONDS,
  ROW_WIRE_LENGTH,
  type BatchMoves,
  type PacketBatch,
} from './pcap-batch.js'
import { copyRange } from './pcap-copy.js'
import { LINKTYPE_ETHERNET, MAX_CAPTURED_LENGTH, type PacketRecord } from './pcap-record.js'
import { nanosecondsHigh, nanosecondsLow, type Time } from './pcap-time.js'
import * as layout from './pcapng-layout.js'
import type { InterfaceInfo, InterfaceStatistics, SectionInfo } from './pcapng-layout.js'

const utf8 = new TextEncoder()

/** A block with options, built at leisure. */
class Block {
  readonly #type: number
  readonly #parts: Uint8Array[] = []
  #hasOptions = false

  constructor(type: number) {
    this.#type = type
  }

  u16(...values: number[]): this {
    this.#parts.push(new Uint8Array(Uint16Array.from(values).buffer))
    return this
  }

  u32(...values: number[]): this {
    this.#parts.push(new Uint8Array(Uint32Array.from(values).buffer))
    return this
  }

  option(code: number, value: Uint8Array | string | number | undefined): this {
    if (value === undefined) return this
    const bytes =
      typeof value === 'string' ? clip(utf8.encode(value)) : typeof value === 'number' ? u64(value) : value
    this.u16(code, bytes.length)
    const padded = new Uint8Array((bytes.length + 3) & ~3)
    padded.set(bytes)
    this.#parts.push(padded)
    this.#hasOptions = true
    return this
  }

  done(): Uint8Array {
    if (this.#hasOptions) this.u16(layout.OPT_END, 0)
    const length = this.#parts.reduce((sum, part) => sum + part.length, layout.BLOCK_OVERHEAD)
    const bytes = new Uint8Array(length)
    const view = new DataView(bytes.buffer)
    view.setUint32(0, this.#type, true)
    view.setUint32(4, length, true)
    let at = 8
    for (const part of this.#parts) {
      bytes.set(part, at)
      at += part.length
    }
    view.setUint32(at, length, true)
    return bytes
  }
}

/** An option holds 65535 bytes at most. */
function clip(bytes: Uint8Array): Uint8Array {
  return bytes.subarray(0, 65535)
}

function u64(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value % 4294967296, Math.floor(value / 4294967296)).buffer)
}

/** As the times of blocks are: the upper word first, in nanoseconds. */
function timestamp({ seconds, nanoseconds }: Time): Uint8Array {
  const words = Uint32Array.of(nanosecondsHigh(seconds, nanoseconds), nanosecondsLow(seconds, nanoseconds))
  return new Uint8Array(words.buffer)
}

/** The block that begins a section: a file, or another part of one. */
export function encodeSection(info: SectionInfo = {}): Uint8Array {
  return new Block(layout.BLOCK_SECTION)
    .u32(layout.BYTE_ORDER_MAGIC)
    .u16(1, 0)
    .u32(0xffffffff, 0xffffffff) // The section's length is not known.
    .option(layout.OPT_COMMENT, info.comment)
    .option(layout.SHB_HARDWARE, info.hardware)
    .option(layout.SHB_OS, info.os)
    .option(layout.SHB_USERAPPL, info.application)
    .done()
}

/** The block that describes an interface; the first one of a section has the id 0, and so on. */
export function encodeInterface(info: InterfaceInfo = {}): Uint8Array {
  const filter = info.filter === undefined ? undefined : utf8.encode(`\0${info.filter}`)
  return new Block(layout.BLOCK_INTERFACE)
    .u16(info.linkType ?? LINKTYPE_ETHERNET, 0)
    .u32(info.snapLength ?? MAX_CAPTURED_LENGTH)
    .option(layout.OPT_COMMENT, info.comment)
    .option(layout.IF_NAME, info.name)
    .option(layout.IF_DESCRIPTION, info.description)
    .option(layout.IF_MACADDR, info.mac)
    .option(layout.IF_SPEED, info.speed)
    .option(layout.IF_TSRESOL, Uint8Array.of(9))
    .option(layout.IF_FILTER, filter && clip(filter))
    .option(layout.IF_OS, info.os)
    .option(layout.IF_HARDWARE, info.hardware)
    .done()
}

/** The block that says what was counted on an interface. */
export function encodeStatistics(interfaceId: number, statistics: InterfaceStatistics): Uint8Array {
  const { seconds, nanoseconds } = statistics
  return new Block(layout.BLOCK_STATISTICS)
    .u32(interfaceId, nanosecondsHigh(seconds, nanoseconds), nanosecondsLow(seconds, nanoseconds))
    .option(layout.OPT_COMMENT, statistics.comment)
    .option(layout.ISB_STARTTIME, statistics.start && timestamp(statistics.start))
    .option(layout.ISB_ENDTIME, statistics.end && timestamp(statistics.end))
    .option(layout.ISB_IFRECV, statistics.received)
    .option(layout.ISB_IFDROP, statistics.interfaceDropped)
    .option(layout.ISB_FILTERACCEPT, statistics.accepted)
    .option(layout.ISB_OSDROP, statistics.systemDropped)
    .option(layout.ISB_USRDELIV, statistics.delivered)
    .done()
}

const PACKET_FIXED = 28 // Type, length, interface, time, both packet lengths.
const FLAGS_ROOM = 8
const COUNT_ROOM = 12
const QUEUE_ROOM = 8
const VERDICT_ROOM = 16
/** The most that `writePacketBlock` adds to the bytes of a packet. */
export const PACKET_BLOCK_OVERHEAD =
  PACKET_FIXED + 3 + FLAGS_ROOM + 2 * COUNT_ROOM + QUEUE_ROOM + VERDICT_ROOM + 8

/** The bytes that `writePacketBlock` takes for this packet. */
export function packetBlockLength(packet: PacketRecord): number {
  const { dropCount, packetId, queue, verdict } = packet
  const options = optionsLength(directionFlag(packet), dropCount, packetId, queue, verdict)
  return PACKET_FIXED + ((packet.length + 3) & ~3) + options + 4
}

/** The two bits of epb_flags that say which way a packet went. */
function directionFlag({ direction }: PacketRecord): number {
  return direction === 'unknown' ? 0 : direction === 'inbound' ? INBOUND : OUTBOUND
}

/** Bytes of the options, their end included. Unknown: a direction of 0, the others below 0. */
function optionsLength(
  direction: number,
  dropCount: number,
  packetId: number,
  queue: number,
  verdict: number,
): number {
  const options =
    (direction === 0 ? 0 : FLAGS_ROOM) +
    (dropCount < 0 ? 0 : COUNT_ROOM) +
    (packetId < 0 ? 0 : COUNT_ROOM) +
    (queue < 0 ? 0 : QUEUE_ROOM) +
    (verdict < 0 ? 0 : VERDICT_ROOM)
  return options > 0 ? options + 4 : 0
}

/**
 * Writes one packet as an enhanced packet block with the options epb_flags, epb_dropcount, epb_packetid, epb_queue
 * and epb_verdict for what is known of it; returns the offset after it, -1 (and nothing written) when there is no room.
 */
export function writePacketBlock(bytes: Uint8Array, offset: number, packet: PacketRecord): number {
  const total = packetBlockLength(packet)
  if (offset + total > bytes.length) return -1
  const view = viewOf(bytes)
  const { length, seconds, nanoseconds } = packet
  view.setUint32(offset, layout.BLOCK_ENHANCED_PACKET, true)
  view.setUint32(offset + 4, total, true)
  view.setUint32(offset + 8, packet.interfaceId, true)
  view.setUint32(offset + 12, nanosecondsHigh(seconds, nanoseconds), true)
  view.setUint32(offset + 16, nanosecondsLow(seconds, nanoseconds), true)
  view.setUint32(offset + 20, length, true)
  view.setUint32(offset + 24, packet.wireLength, true)
  let at = offset + PACKET_FIXED
  copyRange(bytes, at, packet.bytes, packet.offset, length)
  at += length
  while ((at - offset) & 3) bytes[at++] = 0
  const { dropCount, packetId, queue, verdict } = packet
  at = writeOptions(view, at, directionFlag(packet), dropCount, packetId, queue, verdict)
  view.setUint32(at, total, true)
  return at + 4
}

// The heads of options: code and length in one little-endian word.
const FLAGS_HEAD = layout.EPB_FLAGS | (4 << 16)
const DROP_COUNT_HEAD = layout.EPB_DROPCOUNT | (8 << 16)
const PACKET_ID_HEAD = layout.EPB_PACKETID | (8 << 16)
const QUEUE_HEAD = layout.EPB_QUEUE | (4 << 16)
const VERDICT_HEAD = layout.EPB_VERDICT | (9 << 16)

function writeOptions(
  view: DataView,
  first: number,
  direction: number,
  dropCount: number,
  packetId: number,
  queue: number,
  verdict: number,
): number {
  let at = first
  if (direction !== 0) {
    view.setInt32(at, FLAGS_HEAD, true)
    view.setInt32(at + 4, direction, true)
    at += FLAGS_ROOM
  }
  if (dropCount >= 0) at = writeCount(view, at, DROP_COUNT_HEAD, dropCount)
  if (packetId >= 0) at = writeCount(view, at, PACKET_ID_HEAD, packetId)
  if (queue >= 0) {
    view.setInt32(at, QUEUE_HEAD, true)
    view.setInt32(at + 4, queue, true)
    at += QUEUE_ROOM
  }
  if (verdict >= 0) {
    // As xdpdump has it: what gave the verdict, then the verdict in 64 bits, unaligned.
    view.setInt32(at, VERDICT_HEAD, true)
    view.setInt32(at + 4, layout.VERDICT_EBPF_XDP | (verdict << 8), true)
    view.setInt32(at + 8, verdict >>> 24, true)
    view.setInt32(at + 12, 0, true)
    at += VERDICT_ROOM
  }
  if (at === first) return at
  view.setInt32(at, 0, true)
  return at + 4
}

function writeCount(view: DataView, at: number, head: number, value: number): number {
  const high = value < 4294967296 ? 0 : Math.floor(value / 4294967296)
  view.setInt32(at, head, true)
  view.setUint32(at + 4, high === 0 ? value : value - high * 4294967296, true)
  view.setUint32(at + 8, high, true)
  return at + COUNT_ROOM
}

/**
 * Writes all but the bytes of the packets of `batch` from number `first` on, as the blocks that `writePacketBlock` writes, as many as
 * have room below `limit`. `moves` then says how many, and where their bytes go. Allocates nothing.
 */
export function writePacketBlocks(
  bytes: Uint8Array,
  offset: number,
  limit: number,
  batch: PacketBatch,
  first: number,
  moves: BatchMoves,
): void {
  const view = viewOf(bytes)
  const { rows, count, interfaceId, firstId, verdict } = batch
  moves.begin(offset, count - first)
  const { table } = moves
  let at = offset
  let move = 0
  for (let i = first; i < count; i++) {
    const row = i * ROW
    const length = rows[row + ROW_LENGTH]
    const padded = (length + 3) & ~3
    const dropCount = i === 0 ? batch.dropCount : -1
    const packetId = firstId < 0 ? -1 : firstId + i
    const queue = rows[row + ROW_QUEUE] | 0
    const direction = rows[row + ROW_DIRECTION]
    const options = optionsLength(direction, dropCount, packetId, queue, verdict)
    const total = PACKET_FIXED + padded + options + 4
    if (at + total > limit) break
    const seconds = rows[row + ROW_SECONDS]
    const nanoseconds = rows[row + ROW_NANOSECONDS]
    view.setInt32(at, layout.BLOCK_ENHANCED_PACKET, true)
    view.setInt32(at + 4, total, true)
    view.setInt32(at + 8, interfaceId, true)
    view.setUint32(at + 12, nanosecondsHigh(seconds, nanoseconds), true)
    view.setUint32(at + 16, nanosecondsLow(seconds, nanoseconds), true)
    view.setInt32(at + 20, length, true)
    view.setUint32(at + 24, rows[row + ROW_WIRE_LENGTH], true)
    const data = at + PACKET_FIXED
    // What fills up the last word: the packet's bytes come over it.
    if (padded > length) view.setInt32(data + padded - 4, 0, true)
    table[move] = data
    table[move + 1] = rows[row + ROW_OFFSET]
    table[move + 2] = length
    move += 3
    writeOptions(view, data + padded, direction, dropCount, packetId, queue, verdict)
    at += total
    view.setInt32(at - 4, total, true)
  }
  moves.count = move / 3
  moves.end = at
}
