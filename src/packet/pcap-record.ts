// The packet as capture files and packet sources hand it on: one reused view, with what is known about its capture.

/** Which way a packet went, seen from the interface it was captured on. */
export type PacketDirection = 'inbound' | 'outbound' | 'unknown'

/** LINKTYPE_ETHERNET of the registry at tcpdump.org/linktypes.html: what nearly every capture holds. */
export const LINKTYPE_ETHERNET = 1
/** LINKTYPE_RAW: begins with the IPv4 or IPv6 header. */
export const LINKTYPE_RAW = 101

/**
 * A captured packet. Whoever hands it on reuses the object for the next packet, and owns `bytes`: both are valid
 * during the call only, unless it says otherwise; `copy()` outlives it. Numbers that are not known are -1.
 */
export class PacketRecord {
  /** The packet is in `bytes[offset .. offset + length)`. */
  bytes: Uint8Array = NOTHING
  offset = 0
  /** Bytes captured. */
  length = 0
  /** Bytes the packet had on the wire: at least `length`. */
  wireLength = 0
  /** Time of capture since 1970, UTC: whole seconds, and the nanoseconds after them. */
  seconds = 0
  nanoseconds = 0
  /** Index of the interface it was captured on, in a file or an engine with several. */
  interfaceId = 0
  /** `LINKTYPE_*`: what the bytes begin with. */
  linkType = LINKTYPE_ETHERNET
  direction: PacketDirection = 'unknown'
  /** The receive queue. */
  queue = -1
  /** The XDP verdict (uapi/linux/bpf.h: enum xdp_action). */
  verdict = -1
  /** A number that is the packet's own within its file, exact to 2^53. */
  packetId = -1
  /** Packets lost on this interface since the packet before, exact to 2^53. */
  dropCount = -1

  /** All fields as in a new record. */
  reset(): void {
    this.bytes = NOTHING
    this.offset = 0
    this.length = 0
    this.wireLength = 0
    this.seconds = 0
    this.nanoseconds = 0
    this.interfaceId = 0
    this.linkType = LINKTYPE_ETHERNET
    this.direction = 'unknown'
    this.queue = -1
    this.verdict = -1
    this.packetId = -1
    this.dropCount = -1
  }

  /** A record with bytes of its own. */
  copy(): PacketRecord {
    const copy = Object.assign(new PacketRecord(), this)
    // Not the `slice` of a Buffer, which shares its bytes.
    copy.bytes = new Uint8Array(this.bytes.subarray(this.offset, this.offset + this.length))
    copy.offset = 0
    return copy
  }
}

const NOTHING = new Uint8Array(0)

/** What can be wrong with a capture file. */
export const CAPTURE_PROBLEMS = {
  'unknown-format': 'it is neither a pcap nor a pcapng file',
  'bad-version': 'the version of the format is not one that is known',
  truncated: 'the file ends inside a record',
  'bad-length': 'a length cannot be',
  'length-mismatch': 'the length at the end of a block is not the one at its beginning',
  'bad-byte-order': 'the byte-order magic of a section is not one',
  'unknown-interface': 'a packet is of an interface that was not described',
  'bad-option': 'an option does not fit into its block',
  'bad-resolution': 'the resolution of time stamps is too fine',
} as const

export interface CaptureProblem {
  readonly problem: keyof typeof CAPTURE_PROBLEMS
  /** Where in the file the record or block at fault begins, in bytes. */
  readonly offset: number
  /** One sentence with the values found. */
  readonly detail: string
}

/** The longest packet that is read: MAXIMUM_SNAPLEN of libpcap, which takes more for damage too. */
export const MAX_CAPTURED_LENGTH = 262144
