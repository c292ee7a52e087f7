// The blocks of a TPACKET_V3 ring as the kernel hands them over (net/packet/af_packet.c), and the packets in them.
import { LINKTYPE_ETHERNET, PacketRecord } from '../packet/pcap-record.js'

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

/** Takes a packet, a view that is valid during the call; `tagged` says that its VLAN tag was put back. False: no more. */
export type BlockHandler = (packet: PacketRecord, tagged: boolean) => boolean

/** The consuming side of a ring of blocks. The memory stays the caller's, who says with `isOpen` whether it is there. */
export class PacketBlocks {
  readonly #bytes: Uint8Array
  readonly #words: Int32Array
  readonly #blockWords: number
  readonly #blocks: number
  readonly #linkType: number
  readonly #packet = new PacketRecord()
  #next = 0

  constructor(memory: ArrayBuffer, blockSize: number, blocks: number, linkType: number) {
    this.#bytes = new Uint8Array(memory)
    this.#words = new Int32Array(memory)
    this.#blockWords = blockSize >>> 2
    this.#blocks = blocks
    this.#linkType = linkType
  }

  /** The memory is still mapped. */
  get isOpen(): boolean {
    return this.#words.length > 0
  }

  /** Whether the kernel has packets in a block that it has not handed over. */
  get isFilling(): boolean {
    return this.isOpen && this.#words[this.#next * this.#blockWords + BLOCK_PACKETS] > 0
  }

  /** Hands on the packets of the next block, if the kernel is done with it, and gives the block back. */
  take(handler: BlockHandler): boolean {
    if (!this.isOpen) return false
    const block = this.#next * this.#blockWords
    if ((Atomics.load(this.#words, block + BLOCK_STATUS) & TP_STATUS_USER) === 0) return false
    this.#next = this.#next + 1 === this.#blocks ? 0 : this.#next + 1
    try {
      this.#handOn(block, handler)
    } finally {
      // Even when the handler throws: the packets of this block are over.
      if (this.isOpen) Atomics.store(this.#words, block + BLOCK_STATUS, TP_STATUS_KERNEL)
    }
    return true
  }

  #handOn(block: number, handler: BlockHandler): void {
    const words = this.#words
    const packet = this.#packet
    packet.bytes = this.#bytes
    packet.linkType = this.#linkType
    const count = words[block + BLOCK_PACKETS]
    let head = block + (words[block + BLOCK_FIRST] >>> 2)
    for (let i = 0; i < count; i++) {
      const at = head << 2
      packet.seconds = words[head + SECONDS] >>> 0
      packet.nanoseconds = words[head + NANOSECONDS]
      packet.offset = at + (words[head + MAC_NET] & 0xffff)
      packet.length = words[head + SNAP_LENGTH]
      packet.wireLength = words[head + WIRE_LENGTH]
      packet.direction = this.#bytes[at + PACKET_TYPE_AT] === PACKET_OUTGOING ? 'outbound' : 'inbound'
      const status = words[head + STATUS]
      const tagged = (status & TP_STATUS_VLAN_VALID) !== 0 && this.#linkType === LINKTYPE_ETHERNET
      if (tagged) this.#restoreTag(head, status)
      const next = words[head + NEXT] >>> 2
      if (!handler(packet, tagged)) return
      head += next
    }
  }

  /** Puts back the VLAN tag that the kernel or the device took out: the addresses move to make room. */
  #restoreTag(head: number, status: number): void {
    const packet = this.#packet
    const from = packet.offset
    // There are 14 free bytes before an Ethernet packet (tpacket_rcv aligns what follows its header to 16).
    if (packet.length < 12 || from - 4 < (head << 2) + PACKET_HEAD) return
    const bytes = this.#bytes
    const to = from - 4
    for (let i = 0; i < 12; i++) bytes[to + i] = bytes[from + i]
    const tpid = status & TP_STATUS_VLAN_TPID_VALID ? this.#words[head + VLAN_TPID] & 0xffff : ETH_P_8021Q
    const tci = this.#words[head + VLAN_TCI]
    bytes[to + 12] = tpid >>> 8
    bytes[to + 13] = tpid
    bytes[to + 14] = tci >>> 8
    bytes[to + 15] = tci
    packet.offset = to
    packet.length += 4
    packet.wireLength += 4
  }
}
