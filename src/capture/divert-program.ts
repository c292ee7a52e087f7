// The program of a diverting capture: what matches goes to the queue's socket, everything else stays the kernel's.
import { counter, u32, type BpfMap, type BpfProgram } from '../bpf/index.js'
import {
  defineFunction,
  defineMap,
  defineXdp,
  type LoadedXdp,
  type XdpDefinition,
} from '../bpf/builder/index.js'
import { requireMatch, type Filter } from '../filter/index.js'
import type { MappedRegion } from '../kernel/index.js'
import { Bell, bellMap, ringBell } from '../programs/bell.js'
import { socketMap } from '../programs/sockets.js'

const tooLongMap = defineMap({ type: 'percpu_array', name: 'too_long', value: counter, maxEntries: 1 })

/** By queue: packets that may come until the bell is rung; 0 for never. */
const untilBellMap = (queues: number) =>
  defineMap({ type: 'array', name: 'until_bell', value: u32, maxEntries: queues, mmapable: true })
/** Words between two values of an array that is mapped: `BpfMap.mmap`. */
const MAPPED_WORDS = 2

/** What CLOCK_MONOTONIC is to be added to for the time of day: nanoseconds. */
const wallClockMap = defineMap({
  type: 'array',
  name: 'wall_clock',
  value: counter,
  maxEntries: 1,
  mmapable: true,
})

/** Bytes in front of a packet with the time of day that it came: seconds, and nanoseconds of the second. */
export const STAMP_BYTES = 8
const SECOND = 1_000_000_000n

/** Writes that time, on devices that have room for metadata; on others the packet goes without. */
const stamp = defineFunction({ name: 'stamp', parameters: {}, result: 'u32' }, (x) => {
  const time = x.time().add(x.lookup(wallClockMap, 0).orReturn())
  const seconds = time.div(SECOND)
  x.adjustMeta(-STAMP_BYTES)
  const room = x.metadata(STAMP_BYTES)
  room.field(0, 'u32').set(seconds.as('u32'))
  room.field(4, 'u32').set(time.sub(seconds.mul(SECOND)).as('u32'))
  return 1
})

/** What is to be taken. */
export interface DivertProgramOptions {
  /** The most queues the device can ever have. */
  queues: number
  /** Default: everything. */
  filter?: Filter | undefined
  /** Bytes of the longest packet that the sockets can take. */
  longest: number
}

/**
 * ```
 * packet ─┬─ does not match the filter, or is too short for it ─────┐
 *         ├─ matches, too long for them ── counted ────────────────┼─→ pass to the kernel
 *         └─ matches ── a socket in `sockets` at its queue? ── no ──┘
 *                                                        └── yes ──→ redirect to it
 * ```
 *
 * What is to be redirected counts down to the bell of its queue. AF_XDP tells no time of arrival, so what goes to a socket has it in front, as metadata, where the driver has that.
 *
 * Kernel 5.18, for xdp_get_buff_len.
 */
export function defineDivert({ queues, filter, longest }: DivertProgramOptions): XdpDefinition {
  const sockets = socketMap(queues)
  return defineXdp('xdp_divert', (x) => {
    // Whatever the MTU: in generic mode, packets that the kernel put together (GRO) are in several buffers on every interface.
    requireMatch(x, filter, 'pass', 'packet')
    x.if(x.packet.fullLength.gt(longest), () => {
      x.lookup(tooLongMap, 0).orReturn('pass').increment()
      return 'pass'
    })
    const left = x.lookup(untilBellMap(queues), x.queue).orReturn('pass')
    x.if(left.ne(0), () => {
      left.set(left.sub(1))
      x.if(left.eq(1), () => ringBell(x))
    })
    x.call(stamp, {})
    return x.redirectTo(sockets, x.queue)
  })
}

/** The same, loaded, for `XdpGroup`. */
export class DivertProgram {
  readonly program: BpfProgram
  readonly sockets: BpfMap<number, number>
  /** Rung when a queue has had as many packets as `ringAfter` said. */
  readonly bell: Bell
  readonly #tooLong: BpfMap<number, number[]>
  readonly #untilBell: Uint32Array
  readonly #wallClock: BigInt64Array
  readonly #regions: MappedRegion[] = []
  readonly #loaded: LoadedXdp

  constructor(options: DivertProgramOptions) {
    // Jumbo packets reach the program only so: without it the device refuses it, or runs it in the slow path.
    this.#loaded = defineDivert(options).load({ frags: true })
    this.program = this.#loaded.program
    this.sockets = this.#loaded.map(socketMap(0))
    this.#tooLong = this.#loaded.map(tooLongMap)
    try {
      this.#untilBell = new Uint32Array(this.#mapped(untilBellMap(0)))
      this.#wallClock = new BigInt64Array(this.#mapped(wallClockMap))
      this.bell = new Bell(this.#loaded.map(bellMap))
    } catch (error) {
      this.#letGo()
      throw error
    }
  }

  /** The bell is to ring when so many more packets have come to the queue. A store into memory: no call of the kernel. */
  ringAfter(queue: number, packets: number): void {
    this.#untilBell[queue * MAPPED_WORDS] = packets
  }

  /** The time of day is CLOCK_MONOTONIC and so much, in nanoseconds. */
  setClock(offset: bigint): void {
    Atomics.store(this.#wallClock, 0, offset)
  }

  /** Packets that matched, and passed for being too long. */
  get tooLong(): number {
    return (this.#tooLong.lookup(0) ?? []).reduce((sum, count) => sum + count, 0)
  }

  close(): void {
    this.bell.close()
    this.#letGo()
  }

  #mapped(map: Parameters<LoadedXdp['map']>[0]): ArrayBuffer {
    const region = this.#loaded.map(map).mmap()
    this.#regions.push(region)
    return region.buffer
  }

  #letGo(): void {
    for (const region of this.#regions) region.close()
    this.#loaded.close()
  }
}
