// Where packets come from: the one interface that every way of capturing implements, and a test's fake one.
import type { PacketBatch } from '../packet/pcap-batch.js'
import type { PacketRecord } from '../packet/pcap-record.js'

/** Decides which packets are wanted; what the filter floor compiles has this shape. */
export interface PacketFilter {
  /** Whether this packet is wanted. `length` bytes are there, of `wireLength`. */
  matches(bytes: Uint8Array, offset: number, length: number, wireLength: number): boolean
  /** The same as a classic BPF program: an array of `struct sock_filter`. */
  toClassicBpf(): Uint8Array
}

/**
 * What a source calls, always from the event loop and never inside `start`. What `packet`, `batchEnd` and `batch` throw ends
 * the source.
 */
export interface PacketSink {
  /** One packet: a view that is valid during the call only. */
  packet(packet: PacketRecord): void
  /** After the packets that came together, and when the source was paused in the middle of them. */
  batchEnd?(): void
  /**
   * Packets that came together, all at once, in the place of `packet` and `batchEnd`: 1024 at most. Answers how many of the
   * first it has taken, or nothing for all; the rest comes again when the source, which it has to pause for that, goes on. Where
   * it is not paused they come one by one, through `packet`.
   */
  batch?(batch: PacketBatch): number | void
  /** The interface went down, or came back. Packets come again by themselves. */
  linkChanged?(isUp: boolean): void
  /** The source ended by itself and gives no more packets: a file's end, or (with an error) a device that is gone, what the sink threw. */
  ended?(error?: Error): void
}

/** Where packets can be lost before the sink sees them. */
export interface SourceDrops {
  /** The interface's own count since the start: no descriptor, a full ring of the device. */
  interface: number
  /** The kernel had no room for it in what we gave it: the socket's ring, the UMEM. */
  kernel: number
  /** The BPF ring buffer had no room. */
  ring: number
}

/** What a source counts since it was opened. */
export interface SourceStatistics {
  /** Packets and bytes (on the wire) handed to the sink. */
  packets: number
  bytes: number
  /** Times that packets came together: calls of `batchEnd` or `batch`. */
  batches: number
  dropped: SourceDrops
}

/** How packets are had: see the three ways to capture. `file` is a file read back. */
export type SourceMode = 'divert' | 'mirror' | 'packet' | 'file'

/**
 * Packets of one interface. Made open; `start` once, `pause` and `resume` as often as wanted, `close` once more often
 * than never. A source holds no packet that it does not count: what it had to let go is in `stats().dropped`.
 */
export interface PacketSource {
  readonly mode: SourceMode
  /** The interface, or the file. */
  readonly name: string
  /** `LINKTYPE_*`: what packets begin with. */
  readonly linkType: number
  /** Gives packets to `sink` from the next turn of the event loop on. Throws `StateError` the second time. */
  start(sink: PacketSink): void
  /**
   * No packets until `resume`, though it be called from `packet` in the middle of many: they wait where the kernel keeps
   * them, and are lost and counted there when it is full.
   */
  pause(): void
  resume(): void
  /** Takes no more packets; resolves once those that arrived before are with the sink, which waits for `resume` if it is paused. */
  stop(): Promise<void>
  /** Packets lost in the kernel so far, of what `stats` tells as much as can be had quickly: for several times a second. */
  lost?(): number
  /** Cheap enough to be called every second. Works until `close`, and gives the last counts after it. */
  stats(): SourceStatistics
  /** Lets go of everything at once; what waits is not handed on. Closing twice is harmless. */
  close(): Promise<void>
}
