// Many packets where they lie in memory: a table of numbers over one array of bytes, and no object for any of them.
import { LINKTYPE_ETHERNET, type PacketDirection, type PacketRecord } from './pcap-record.js'

/**
 * Words of a packet's row, and which is which: encoders read the table without a call for each number. The four from the seconds on
 * are what a pcap file has before each packet.
 */
export const ROW = 8
export const ROW_OFFSET = 0
/** The queue; `| 0` makes -1, for unknown, of it. */
export const ROW_QUEUE = 1
export const ROW_SECONDS = 2
export const ROW_NANOSECONDS = 3
export const ROW_LENGTH = 4
export const ROW_WIRE_LENGTH = 5
/** 0 for unknown, `INBOUND` or `OUTBOUND`: the numbers of epb_flags. */
export const ROW_DIRECTION = 6
export const INBOUND = 1
export const OUTBOUND = 2
const DIRECTIONS: readonly PacketDirection[] = ['unknown', 'inbound', 'outbound']
const NOTHING = new Uint8Array(0)

/**
 * Packets that came together from one interface. Whoever hands it on owns its bytes and uses it again: both are valid during
 * the call only. A consumer may make `count` less, and then sees the packets behind it no more.
 */
export class PacketBatch {
  /** What the offsets of packets count in. Empty when the memory is gone. */
  bytes: Uint8Array = NOTHING
  /** A row of `ROW` words for each packet. */
  readonly rows: Uint32Array
  count = 0
  /** Bytes of all packets: captured, and on the wire. */
  captured = 0
  wire = 0
  /** As those of `PacketRecord`, for all packets. */
  interfaceId = 0
  linkType = LINKTYPE_ETHERNET
  verdict = -1
  /** The number of the first packet, which those behind it count on from; -1 for none. */
  firstId = -1
  /** Packets lost before the first one; -1 for none. */
  dropCount = -1

  /** `capacity`: packets that it has room for. */
  constructor(capacity: number) {
    this.rows = new Uint32Array(capacity * ROW)
  }

  get capacity(): number {
    return this.rows.length / ROW
  }

  /** No packets, and those that `add` will bring are in `bytes`. */
  begin(bytes: Uint8Array): void {
    this.bytes = bytes
    this.count = this.captured = this.wire = 0
  }

  /** The memory is gone: whoever is in the middle of the batch finds its end. */
  clear(): void {
    this.begin(NOTHING)
  }

  /** One more packet; the caller sees to `capacity`. */
  add(
    offset: number,
    length: number,
    wireLength: number,
    seconds: number,
    nanoseconds: number,
    queue: number,
    direction: number,
  ): void {
    const { rows } = this
    const at = this.count * ROW
    rows[at + ROW_OFFSET] = offset
    rows[at + ROW_LENGTH] = length
    rows[at + ROW_WIRE_LENGTH] = wireLength
    rows[at + ROW_SECONDS] = seconds
    rows[at + ROW_NANOSECONDS] = nanoseconds
    rows[at + ROW_QUEUE] = queue
    rows[at + ROW_DIRECTION] = direction
    this.count++
    this.captured += length
    this.wire += wireLength
  }

  /** Forgets the first `packets` of them, the others move up. What was lost before the first one was told to that. */
  skip(packets: number): void {
    const { rows } = this
    const end = this.count * ROW
    for (let at = 0; at < packets * ROW; at += ROW) {
      this.captured -= rows[at + ROW_LENGTH]
      this.wire -= rows[at + ROW_WIRE_LENGTH]
    }
    rows.copyWithin(0, packets * ROW, end)
    this.count -= packets
    if (this.firstId >= 0) this.firstId += packets
    if (packets > 0) this.dropCount = -1
  }

  /** Packet number `index` as a record, written over `into`; its bytes stay where they are. */
  read(index: number, into: PacketRecord): void {
    const { rows } = this
    const at = index * ROW
    into.bytes = this.bytes
    into.offset = rows[at + ROW_OFFSET]
    into.length = rows[at + ROW_LENGTH]
    into.wireLength = rows[at + ROW_WIRE_LENGTH]
    into.seconds = rows[at + ROW_SECONDS]
    into.nanoseconds = rows[at + ROW_NANOSECONDS]
    into.queue = rows[at + ROW_QUEUE] | 0
    into.direction = DIRECTIONS[rows[at + ROW_DIRECTION]]
    into.interfaceId = this.interfaceId
    into.linkType = this.linkType
    into.verdict = this.verdict
    into.packetId = this.firstId < 0 ? -1 : this.firstId + index
    into.dropCount = index === 0 ? this.dropCount : -1
  }
}

/**
 * What an encoder of batches leaves to be done: it writes what is around the packets, and notes where their bytes go.
 * Copying them all at once is one native call, where one at a time is a view for each.
 */
export class BatchMoves {
  /** Three words for each packet: to, from, length. */
  table = new Uint32Array(0)
  /** Packets encoded. */
  count = 0
  /** Where the target ends behind them. */
  end = 0

  /** Nothing encoded yet, from `end` on; room for `packets`. */
  begin(end: number, packets: number): void {
    if (this.table.length < 3 * packets) this.table = new Uint32Array(3 * packets)
    this.count = 0
    this.end = end
  }
}
