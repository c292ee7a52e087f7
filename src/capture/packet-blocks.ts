// The blocks of a TPACKET_V3 ring as the kernel hands them over (net/packet/af_packet.c), and the packets in them.
import { INBOUND, OUTBOUND, type PacketBatch } from '../packet/pcap-batch.js'
import { LINKTYPE_ETHERNET } from '../packet/pcap-record.js'
import { BATCH_BYTES } from './live-source.js'
import type { PacketFilter } from './source.js'

// Where the fields lie. Of a block (struct tpacket_block_desc), in words:
const BLOCK_STATUS = 2
const BLOCK_PACKETS = 3
const BLOCK_FIRST = 4
// Of a packet (struct tpacket3_hdr), in words:
const NEXT = 0
const SECONDS = 1
const NANOSECONDS = 2
const SNAP_LENGTH = 3
const WIRE_LENGTH = 4
const STATUS = 5
const MAC_NET = 6
const VLAN_TCI = 8
const VLAN_TPID = 9
/** And in bytes: sll_pkttype of the struct sockaddr_ll behind the header, and the end of that. */
const PACKET_TYPE_AT = 48 + 10
const PACKET_HEAD = 48 + 20

const TP_STATUS_KERNEL = 0
const TP_STATUS_USER = 1
const TP_STATUS_VLAN_VALID = 0x10
const TP_STATUS_VLAN_TPID_VALID = 0x40
const PACKET_OUTGOING = 4
const ETH_P_8021Q = 0x8100

/** A ring of blocks, and what is wanted of its packets. */
export interface PacketBlocksOptions {
  /** The ring, which stays the caller's. */
  memory: ArrayBuffer
  blockSize: number
  blocks: number
  linkType: number
  /** The most bytes of a packet that are handed on. */
  snapLength: number
  /** Leave out what the interface sends. */
  inboundOnly: boolean
  /** Judges packets whose tag was put back, or all of them. */
  filter: PacketFilter | undefined
  judgesAll: boolean
}

/** The consuming side of a ring of blocks. */
export class PacketBlocks {
  readonly #options: PacketBlocksOptions
  readonly #bytes: Uint8Array
  readonly #words: Int32Array
  readonly #blockWords: number
  /** The block at hand, or the next one to come: its number, packets that were not read yet, and the first of them. */
  #block = 0
  #left = 0
  #head = 0
  #isOurs = false
  #hasEnded = false

  constructor(options: PacketBlocksOptions) {
    this.#options = options
    this.#bytes = new Uint8Array(options.memory)
    this.#words = new Int32Array(options.memory)
    this.#blockWords = options.blockSize >>> 2
  }

  /** The memory is still mapped. */
  get isOpen(): boolean {
    return this.#words.length > 0
  }

  /** The kernel puts no more packets in: the block that it was filling is as good as handed over. */
  end(): void {
    this.#hasEnded = true
  }

  /** Puts packets of the block at hand into `batch`, as many as it has room for. False when the kernel has handed over none. */
  take(batch: PacketBatch): boolean {
    if (!this.isOpen || !this.#begin()) return false
    batch.begin(this.#bytes)
    this.#read(batch)
    return true
  }

  /** The packets of the last `take` were looked at: gives the kernel their block back, and says so, if they were its last. */
  release(): boolean {
    if (this.#left > 0) return false
    if (!this.isOpen) return true
    const block = this.#block * this.#blockWords
    // The kernel does that too when it begins to fill the block (prb_open_block), which may be later.
    this.#words[block + BLOCK_PACKETS] = 0
    Atomics.store(this.#words, block + BLOCK_STATUS, TP_STATUS_KERNEL)
    this.#isOurs = false
    this.#block = this.#block + 1 === this.#options.blocks ? 0 : this.#block + 1
    return true
  }

  /** Whether there is a block at hand. */
  #begin(): boolean {
    if (this.#isOurs) return true
    const words = this.#words
    const block = this.#block * this.#blockWords
    const isHandedOver = (Atomics.load(words, block + BLOCK_STATUS) & TP_STATUS_USER) !== 0
    if (!isHandedOver && !(this.#hasEnded && words[block + BLOCK_PACKETS] > 0)) return false
    this.#isOurs = true
    this.#left = words[block + BLOCK_PACKETS]
    this.#head = block + (words[block + BLOCK_FIRST] >>> 2)
    return true
  }

  #read(batch: PacketBatch): void {
    const words = this.#words
    const bytes = this.#bytes
    const { linkType, snapLength, inboundOnly, filter, judgesAll } = this.#options
    const taggedStatus = linkType === LINKTYPE_ETHERNET ? TP_STATUS_VLAN_VALID : 0
    let room = batch.capacity
    let left = this.#left
    let head = this.#head
    for (; left > 0 && room > 0 && batch.captured < BATCH_BYTES; left--) {
      const at = head << 2
      let offset = at + (words[head + MAC_NET] & 0xffff)
      let length = words[head + SNAP_LENGTH]
      let wireLength = words[head + WIRE_LENGTH]
      const isOutbound = bytes[at + PACKET_TYPE_AT] === PACKET_OUTGOING
      const isTagged = (words[head + STATUS] & taggedStatus) !== 0
      if (isTagged && this.#restoreTag(head, offset, length)) {
        offset -= 4
        length += 4
        wireLength += 4
      }
      const isJudged = judgesAll || isTagged
      if (
        !(inboundOnly && isOutbound) &&
        (!isJudged || filter === undefined || filter.matches(bytes, offset, length, wireLength))
      ) {
        const direction = isOutbound ? OUTBOUND : INBOUND
        const kept = length < snapLength ? length : snapLength
        batch.add(offset, kept, wireLength, words[head + SECONDS], words[head + NANOSECONDS], -1, direction)
        room--
      }
      head += words[head + NEXT] >>> 2
    }
    this.#left = left
    this.#head = head
  }

  /** Puts back the VLAN tag that the kernel or the device took out: the addresses move to make room, which there may not be. */
  #restoreTag(head: number, from: number, length: number): boolean {
    // There are 14 free bytes before an Ethernet packet (tpacket_rcv aligns what follows its header to 16).
    if (length < 12 || from - 4 < (head << 2) + PACKET_HEAD) return false
    const bytes = this.#bytes
    const to = from - 4
    for (let i = 0; i < 12; i++) bytes[to + i] = bytes[from + i]
    const isKnown = (this.#words[head + STATUS] & TP_STATUS_VLAN_TPID_VALID) !== 0
    const tpid = isKnown ? this.#words[head + VLAN_TPID] & 0xffff : ETH_P_8021Q
    const tci = this.#words[head + VLAN_TCI]
    bytes[to + 12] = tpid >>> 8
    bytes[to + 13] = tpid
    bytes[to + 14] = tci >>> 8
    bytes[to + 15] = tci
    return true
  }
}
