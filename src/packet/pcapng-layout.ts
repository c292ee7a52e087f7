// The numbers and shapes of pcapng (draft-ietf-opsawg-pcapng): block types, option codes, what an interface is.
import type { TickScale, Time } from './pcap-time.js'

export const BLOCK_SECTION = 0x0a0d0d0a
export const BLOCK_INTERFACE = 1
export const BLOCK_PACKET = 2 // obsolete: read, never written
export const BLOCK_SIMPLE_PACKET = 3
export const BLOCK_STATISTICS = 5
export const BLOCK_ENHANCED_PACKET = 6
export const BYTE_ORDER_MAGIC = 0x1a2b3c4d

/** Type and length before the body, the length again after it. */
export const BLOCK_OVERHEAD = 12

export const OPT_END = 0
export const OPT_COMMENT = 1
export const SHB_HARDWARE = 2
export const SHB_OS = 3
export const SHB_USERAPPL = 4
export const IF_NAME = 2
export const IF_DESCRIPTION = 3
export const IF_MACADDR = 6
export const IF_SPEED = 8
export const IF_TSRESOL = 9
export const IF_FILTER = 11
export const IF_OS = 12
export const IF_TSOFFSET = 14
export const IF_HARDWARE = 15
export const EPB_FLAGS = 2
export const EPB_DROPCOUNT = 4
export const EPB_PACKETID = 5
export const EPB_QUEUE = 6
export const EPB_VERDICT = 7
/** The first byte of an epb_verdict: what gave it. */
export const VERDICT_EBPF_XDP = 2
export const ISB_STARTTIME = 2
export const ISB_ENDTIME = 3
export const ISB_IFRECV = 4
export const ISB_IFDROP = 5
export const ISB_FILTERACCEPT = 6
export const ISB_OSDROP = 7
export const ISB_USRDELIV = 8

/** The program that wrote a section, and the machine it ran on. */
export interface SectionInfo {
  hardware?: string
  os?: string
  application?: string
  comment?: string
}

/** An interface, as far as a file describes it. */
export interface InterfaceInfo {
  /** Default: Ethernet. */
  linkType?: number
  /** The most bytes of a packet that were to be captured; 0 for no limit. Default 262144. */
  snapLength?: number
  name?: string
  description?: string
  /** The capture filter, as text. */
  filter?: string
  os?: string
  hardware?: string
  comment?: string
  /** Bits a second, exact to 2^53. */
  speed?: number
  /** 6 bytes. */
  mac?: Uint8Array
}

/** What was counted on an interface up to a moment; exact to 2^53. */
export interface InterfaceStatistics {
  /** When this was counted. */
  seconds: number
  nanoseconds: number
  /** When the capture began (isb_starttime), and when it ended or this was counted (isb_endtime). */
  start?: Time
  end?: Time
  /** Packets received (isb_ifrecv). */
  received?: number
  /** Lost by the interface (isb_ifdrop). */
  interfaceDropped?: number
  /** Taken by the filter (isb_filteraccept). */
  accepted?: number
  /** Lost by the operating system for lack of room (isb_osdrop). */
  systemDropped?: number
  /** Handed to the program (isb_usrdeliv). */
  delivered?: number
  comment?: string
}

/** An interface as read. */
export interface CaptureInterface extends InterfaceInfo {
  readonly linkType: number
  readonly snapLength: number
  readonly scale: TickScale
  /** The last statistics that the file gave so far. */
  statistics?: InterfaceStatistics
}
