// Copies packets into a ring buffer, cut at a snap length, and lets the originals pass.
import { type BpfMap, type BpfProgram, RingBuffer, counter, struct, u32 } from '../bpf/index.js'
import {
  type Bytes,
  type Condition,
  type LoadedXdp,
  type Xdp,
  type XdpDefinition,
  defineMap,
  defineXdp,
} from '../bpf/builder/index.js'
import { OptionError } from '../kernel/index.js'
import { Bell, bellMap, ringBell } from './bell.js'
import { type ShippedProgram, oneNumber } from './shipped.js'

/** What a mirrored packet begins with in the ring: 24 bytes, then `captured` bytes of packet, then whatever fills up its room. */
export const mirrorHeader = struct({
  /** Nanoseconds since the machine started (CLOCK_MONOTONIC). */
  time: counter,
  /** Bytes of the packet as it arrived. */
  length: u32,
  /** Bytes of it that follow. */
  captured: u32,
  ifindex: u32,
  queue: u32,
})

/** The longest a packet can be cut at: more than any interface's MTU with its headers. */
export const MAX_SNAP_LENGTH = 1 << 18
/** The ring's size unless it is told otherwise: 8 MiB. */
export const DEFAULT_RING_BYTES = 8 << 20

/**
 * How much room packets take in the ring: the least of these that they fit in, since the kernel wants sizes known beforehand. Jumbo
 * packets have up to 9 KB; those that the kernel puts together (GRO, GSO) 64 KiB and a header, seldom more (BIG TCP).
 */
const ROOMS = [64, 128, 256, 512, 1024, 1536, 4096, 9216, 16_384, 32_768, 65_600]

/** What a record takes in the ring beside the packet: the kernel's header, ours, and eight bytes that the ring never gives away. */
const RECORD_BYTES = 8 + mirrorHeader.size + 8

/** xdp_load_bytes takes neither an offset nor a length above this (net/core/filter.c: bpf_xdp_pointer). */
const MOST_LOADED = 0xffff

const ringMap = (ringBytes: number) =>
  defineMap({ type: 'ringbuf', name: 'mirrored', value: mirrorHeader, maxEntries: ringBytes })
const lostMap = defineMap({ type: 'percpu_array', name: 'lost', value: counter, maxEntries: 1 })

/** What is mirrored, and into what. */
export interface MirrorOptions {
  /**
   * How many bytes of a packet are kept at most: 1 to 2^18, the default, which is all of them, or 131070 if it has more (BIG TCP in generic
   * mode). A small ring keeps fewer.
   */
  snapLength?: number
  /** The ring's size in bytes: a power of two, at least a page. Default 8 MiB. Packets that are longer than it are cut. */
  ringBytes?: number
  /** Bytes in the ring from which on the program rings a bell, for a consumer that looks seldom. Default: it has none. */
  bellAt?: number
  /** Which packets are copied. Default all. */
  filter?: (x: Xdp) => Condition
}

/**
 * ```
 * packet ─┬─ does not match the filter, or is too short for it ─┐
 *         ├─ matches, the ring has room ─ copied ───────────────┼─→ pass to the kernel
 *         └─ matches, the ring is full ── counted as lost ──────┘
 * ```
 *
 * Takes packets in several buffers (jumbo frames) too. Kernel 5.18, for xdp_load_bytes.
 */
export function defineMirror(options: MirrorOptions = {}): XdpDefinition {
  const { snapLength = MAX_SNAP_LENGTH, ringBytes = DEFAULT_RING_BYTES, bellAt, filter } = options
  if (!(Number.isInteger(snapLength) && snapLength >= 1 && snapLength <= MAX_SNAP_LENGTH)) {
    throw new OptionError(
      'snapLength',
      `Packets cannot be cut at ${snapLength} bytes`,
      `Use 1 to ${MAX_SNAP_LENGTH}.`,
    )
  }
  const ring = ringMap(ringBytes)
  // The kernel says whether a ring can be as small as this.
  const most = Math.max(1, Math.min(snapLength, 2 * MOST_LOADED, ringBytes - RECORD_BYTES))
  return defineXdp('xdp_mirror', { frags: true }, (x) => {
    if (filter) x.require(filter(x))
    const length = x.packet.fullLength
    // The verifier wants to see that there is something to copy.
    x.require(length.ne(0))
    const captured = x.select(length.le(most), length, most)
    const room = x.let(x.u32(most))
    const choose = ([size, ...larger]: readonly number[]): void => {
      if (size === undefined) return
      x.if(captured.le(size), () => room.set(size)).else(() => choose(larger))
    }
    choose(ROOMS.filter((size) => size < most))
    const header = { time: x.time(), length, captured, ifindex: x.ifindex, queue: x.queue }
    const copy = (data: Bytes): void => {
      if (most <= MOST_LOADED) return void x.loadBytes(0, data, captured)
      x.if(captured.le(MOST_LOADED), () => void x.loadBytes(0, data, captured)).else(() => {
        x.loadBytes(0, data, MOST_LOADED)
        x.loadBytes(MOST_LOADED, data.from(MOST_LOADED), captured.sub(MOST_LOADED))
      })
    }
    x.record(ring, header, (_, data) => copy(data), { tail: room.value }).else(() =>
      x.lookup(lostMap, 0).orReturn().increment(),
    )
    if (bellAt === undefined) return
    x.if(x.waiting(ring).ge(bellAt), () => ringBell(x))
  })
}

/** A packet in the ring. The mirror reuses it: what is kept is for you to copy. */
export class MirroredPacket {
  /** Memory of the ring, the packet's bytes from `offset` to `offset + captured`; valid until the handler returns. */
  bytes: Uint8Array = new Uint8Array(0)
  offset = 0
  captured = 0
  /** Bytes of the packet as it arrived. */
  length = 0
  /** Nanoseconds since the machine started: exact for 104 days, then to two. */
  time = 0
  ifindex = 0
  queue = 0
}

/** Mirroring, loaded, and the consuming side of its ring. */
export class Mirror {
  readonly program: BpfProgram
  /** Where records wait; see `mirrorHeader`. */
  readonly ring: RingBuffer
  /** With `bellAt`: rung when so much waits in the ring. */
  readonly bell: Bell | undefined
  readonly #lost: BpfMap<number, number[]>
  readonly #packet = new MirroredPacket()
  readonly #loaded: LoadedXdp
  #words: DataView = new DataView(new ArrayBuffer(0))

  private constructor(loaded: LoadedXdp, ring: RingBuffer, bell: Bell | undefined) {
    this.#loaded = loaded
    this.program = loaded.program
    this.ring = ring
    this.bell = bell
    this.#lost = loaded.map(lostMap)
  }

  /** Loads the program. Throws `OptionError` for sizes that cannot be. */
  static load(options: MirrorOptions = {}): Mirror {
    const loaded = defineMirror(options).load()
    let ring: RingBuffer | undefined
    try {
      ring = new RingBuffer(loaded.map(ringMap(0)))
      const bell = options.bellAt === undefined ? undefined : new Bell(loaded.map(bellMap))
      return new Mirror(loaded, ring, bell)
    } catch (error) {
      ring?.close()
      loaded.close()
      throw error
    }
  }

  /** How many packets found no room in the ring so far. */
  get lost(): number {
    return (this.#lost.lookup(0) ?? []).reduce((sum, count) => sum + count, 0)
  }

  /** Hands on the packets that are there, in order, at most `budget`; gives how many. See `RingBuffer.consume`. */
  consume(handler: (packet: MirroredPacket) => void, budget = Infinity): number {
    return this.ring.consume((bytes, offset) => handler(this.#read(bytes, offset)), budget)
  }

  /** Hands on packets on the event loop as they come, until `close` or `ring.unwatch()`. See `RingBuffer.watch`. */
  watch(handler: (packet: MirroredPacket) => void, options: { budget?: number } = {}): void {
    this.ring.watch((bytes, offset) => handler(this.#read(bytes, offset)), options)
  }

  #read(bytes: Uint8Array, offset: number): MirroredPacket {
    if (this.#words.buffer !== bytes.buffer) this.#words = new DataView(bytes.buffer, bytes.byteOffset)
    const [packet, words] = [this.#packet, this.#words]
    // The numbers are mirrorHeader's offsets.
    packet.time = words.getUint32(offset + 4, true) * 0x1_0000_0000 + words.getUint32(offset, true)
    packet.length = words.getUint32(offset + 8, true)
    packet.captured = words.getUint32(offset + 12, true)
    packet.ifindex = words.getUint32(offset + 16, true)
    packet.queue = words.getUint32(offset + 20, true)
    packet.bytes = bytes
    packet.offset = offset + 24
    return packet
  }

  /** Unmaps the ring, and lets go of the program and its maps: they live on while attached, and what is lost is counted. */
  close(): void {
    this.ring.close()
    this.bell?.close()
    this.#loaded.close()
  }
}

/** `mirror` by name. */
export const shippedMirror: ShippedProgram = {
  summary: 'copies packets into a ring buffer, and passes them all',
  settings: {
    snap: { summary: 'bytes of a packet that are kept at most (default: all)', example: '128' },
  },
  define: (given) => ({
    definition: defineMirror({
      snapLength: oneNumber(given, 'snap', { min: 1, max: MAX_SNAP_LENGTH }) ?? MAX_SNAP_LENGTH,
    }),
  }),
}
