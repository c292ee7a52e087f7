// The UMEM: the memory that packets live in, cut into frames of one size, shared with the kernel.
import { readFileSync } from 'node:fs'
import { ENOBUFS } from '../kernel/errno.js'
import {
  KernelError,
  MappedRegion,
  OptionError,
  PAGE_SIZE,
  StateError,
  check,
  createMemoryFile,
  native,
  raiseMemoryLockLimit,
  type HugePageSize,
} from '../kernel/index.js'
import type { Granted } from './options.js'
import { SOL_XDP, XDP_PACKET_HEADROOM, XDP_UMEM_REG } from './uapi.js'

/** The shape of a UMEM. */
export interface UmemOptions {
  /** Number of frames. Default 4096. */
  frames?: number
  /** Bytes of a frame: a power of two from 2048 to the page size. Default 2048. */
  frameSize?: number
  /** Bytes to leave free before a received packet, besides the 256 the kernel keeps for itself. Default 0. */
  headroom?: number
  /**
   * Back it with huge pages. A size fails when not enough of them are free (see /proc/meminfo); `auto` takes pages of
   * 2 MiB when there are and ordinary ones otherwise: `umem.pages` says which, and why. Default: ordinary pages.
   */
  hugePages?: HugePageSize | 'auto' | undefined
  /**
   * Other threads may map it, by `describe`. It is a memory file then, whose pages are ordinary ones on most systems; memory of one
   * thread gets transparent huge pages where there are any, which makes every packet cheaper. Default false.
   */
  shared?: boolean | undefined
}

/** A part of a UMEM: `count` frames from frame number `first` on. */
export interface FrameSlice {
  first: number
  count: number
}

/** What another thread or process needs to map the same UMEM: structured-cloneable, but for the descriptor's process. */
export interface UmemDescription {
  fd: number
  frames: number
  frameSize: number
  headroom: number
  /** Bytes of the memory file: the UMEM, rounded up to whole pages. */
  length: number
}

type Shape = Required<Pick<UmemOptions, 'frames' | 'frameSize' | 'headroom'>>

/** A memory file, and its bytes. */
type MemoryFile = Pick<UmemDescription, 'fd' | 'length'>

const MIN_FRAME_SIZE = 2048 // XDP_UMEM_MIN_CHUNK_SIZE
const HUGE_BYTES: Record<HugePageSize, number> = { '2MiB': 2 ** 21, '1GiB': 2 ** 30 }

/**
 * Memory for packets, of one thread, or with `shared` backed by a memory file, so that workers and other processes can map the
 * same bytes by descriptor. Addresses are byte offsets from its start and fit in 32 bits: a UMEM is below 4 GiB.
 * The sockets on it must be closed before it is. Kernel 4.18.
 */
export class Umem {
  readonly frames: number
  readonly frameSize: number
  readonly headroom: number
  /** The whole memory. Length 0 once closed. */
  readonly bytes: Uint8Array
  /** The same memory, to read and write numbers. */
  readonly view: DataView
  /** The pages it is made of. */
  readonly pages: Granted<HugePageSize | 'auto' | 'ordinary', HugePageSize | 'ordinary'>
  readonly #region: MappedRegion
  #fd: number
  readonly #claims = new Set<FrameSlice & { user: string }>()
  // Sockets that are bound on this memory, to share the kernel's registration of it.
  readonly #bound = new Set<number>()

  /** `file`: what it is a mapping of; without one it is memory of its own. */
  private constructor(file: MemoryFile | undefined, shape: Shape, pages: Umem['pages']) {
    this.#fd = file?.fd ?? -1
    this.pages = pages
    this.frames = shape.frames
    this.frameSize = shape.frameSize
    this.headroom = shape.headroom
    const context = {
      about: `UMEM of ${shape.frames} frames`,
      hint: pages.got === 'ordinary' ? 'Ask for fewer or smaller frames.' : undefined,
    }
    this.#region = file
      ? MappedRegion.map({
          ...file,
          populate: true,
          context:
            pages.got === 'ordinary' ? context : { ...context, hint: hugePagesHint(file.length, pages.got) },
        })
      : MappedRegion.allocate(lengthOf(shape, PAGE_SIZE), context)
    this.bytes = new Uint8Array(this.#region.buffer, 0, shape.frames * shape.frameSize)
    this.view = new DataView(this.#region.buffer, 0, shape.frames * shape.frameSize)
  }

  /** Allocates a UMEM. Throws `OptionError` for a size that cannot be, `KernelError` when there is not enough memory. */
  static create(options: UmemOptions = {}): Umem {
    const shape = checkShape(options)
    const asked = options.hugePages ?? 'ordinary'
    if (asked !== 'ordinary' && asked !== 'auto' && !Object.hasOwn(HUGE_BYTES, asked)) {
      throw new OptionError(
        'hugePages',
        `"${String(asked)}" is no size of huge pages`,
        `Use ${Object.keys(HUGE_BYTES).join(', ')} or auto.`,
      )
    }
    const { shared = false } = options
    if (asked !== 'auto') return Umem.#create(shape, { asked, got: asked }, shared)
    try {
      return Umem.#create(shape, { asked, got: '2MiB' }, shared)
    } catch (error) {
      if (!(error instanceof KernelError)) throw error
      const why = `${Math.ceil((shape.frames * shape.frameSize) / HUGE_BYTES['2MiB'])} pages of 2 MiB are not free: ${error.message}`
      return Umem.#create(shape, { asked, got: 'ordinary', why }, shared)
    }
  }

  static #create(shape: Shape, pages: Umem['pages'], shared: boolean): Umem {
    const hugePages = pages.got === 'ordinary' ? undefined : pages.got
    if (!shared && hugePages === undefined) return new Umem(undefined, shape, pages)
    const length = lengthOf(shape, hugePages ? HUGE_BYTES[hugePages] : PAGE_SIZE)
    return Umem.#map({ fd: createMemoryFile('umem', length, hugePages), length }, shape, pages)
  }

  /** Maps the UMEM that another thread described. The descriptor is duplicated, so each side closes its own. */
  static open(description: UmemDescription): Umem {
    const shape = checkShape(description)
    const fd = check(native.dup(description.fd), 'dup', { about: 'the descriptor of a UMEM' })
    return Umem.#map({ fd, length: description.length }, shape, { asked: 'ordinary', got: 'ordinary' })
  }

  /**
   * As `open`, for a thread that may end at any moment: the mapping ends with it, and the descriptor stays that of
   * whoever described it, so nothing is left.
   */
  static borrow(description: UmemDescription): Umem {
    const umem = new Umem(description, checkShape(description), { asked: 'ordinary', got: 'ordinary' })
    umem.#fd = -1
    return umem
  }

  static #map(file: MemoryFile, shape: Shape, pages: Umem['pages']): Umem {
    try {
      return new Umem(file, shape, pages)
    } catch (error) {
      native.close(file.fd)
      throw error
    }
  }

  /** Bytes of the whole UMEM. */
  get size(): number {
    return this.frames * this.frameSize
  }

  /** The longest packet that a frame can receive. */
  get maxReceive(): number {
    return this.frameSize - this.headroom - XDP_PACKET_HEADROOM
  }

  get closed(): boolean {
    return this.#region.closed
  }

  /**
   * Takes the memory, or a slice of it, for one socket, named for messages; the function it returns gives it back.
   * Throws `StateError` while another one has any of it: each would take the other's frames for free.
   */
  claim(user: string, slice: FrameSlice = { first: 0, count: this.frames }): () => void {
    this.#region.assertOpen('The UMEM')
    for (const other of this.#claims) {
      if (slice.first < other.first + other.count && other.first < slice.first + slice.count) {
        throw new StateError(`The UMEM is in use by the socket on ${other.user}`, 'Make one for each socket.')
      }
    }
    const claim = { ...slice, user }
    this.#claims.add(claim)
    return () => this.#claims.delete(claim)
  }

  /** A socket that is bound on this memory, for others to share its registration (XDP_SHARED_UMEM); undefined when there is none. */
  get boundSocket(): number | undefined {
    const [first] = this.#bound
    return first
  }

  /** Notes that a socket is bound on this memory, until it is closed. */
  addBound(socket: number): void {
    this.#bound.add(socket)
  }

  removeBound(socket: number): void {
    this.#bound.delete(socket)
  }

  /** For `Umem.open` in another thread of this process. Throws `StateError` for memory that was not made with `shared`. */
  describe(): UmemDescription {
    this.#region.assertOpen('The UMEM')
    if (this.#fd < 0)
      throw new StateError('The UMEM is memory of one thread, or borrowed', 'Make it with `shared: true`.')
    return {
      fd: this.#fd,
      frames: this.frames,
      frameSize: this.frameSize,
      headroom: this.headroom,
      length: this.#region.buffer.byteLength,
    }
  }

  /** Makes this memory the UMEM of an AF_XDP socket (XDP_UMEM_REG). The kernel pins its pages until the socket is closed. */
  register(socket: number): void {
    this.#region.assertOpen('The UMEM')
    const registration = new DataView(new ArrayBuffer(32)) // struct xdp_umem_reg, zeroed to its end
    registration.setBigUint64(8, BigInt(this.size), true)
    registration.setUint32(16, this.frameSize, true)
    registration.setUint32(20, this.headroom, true)
    const attempt = () =>
      native.setsockopt(socket, SOL_XDP, XDP_UMEM_REG, registration, [0, this.#region.buffer])
    let result = attempt()
    // Pinned pages count against RLIMIT_MEMLOCK for whoever lacks CAP_IPC_LOCK, and the kernel says ENOBUFS.
    if (result === -ENOBUFS && raiseMemoryLockLimit()) result = attempt()
    if (result < 0) {
      throw new KernelError('setsockopt(XDP_UMEM_REG)', -result, {
        about: `${this.frames} frames of ${this.frameSize} bytes`,
        hint:
          result === -ENOBUFS
            ? `Raise the limit on locked memory above ${this.size} bytes (\`ulimit -l\`), or grant CAP_IPC_LOCK.`
            : undefined,
      })
    }
  }

  /** Detaches `bytes` and `view`, then frees the memory. Closing twice is harmless; `StateError` while a socket uses it. */
  close(): void {
    if (this.closed) return
    const [claim] = this.#claims
    if (claim !== undefined) throw new StateError(`The UMEM is in use by the socket on ${claim.user}`)
    this.#region.close()
    if (this.#fd >= 0) native.close(this.#fd)
    this.#fd = -1
  }
}

/** Bytes of memory in pages of `unit` bytes. */
function lengthOf({ frames, frameSize }: Shape, unit: number): number {
  return Math.ceil((frames * frameSize) / unit) * unit
}

// See Documentation/admin-guide/mm/hugetlbpage.rst. Pages that others have mapped and not touched yet are free, and taken.
function hugePagesHint(length: number, size: HugePageSize): string {
  const wanted = length / HUGE_BYTES[size]
  const directory = `/sys/kernel/mm/hugepages/hugepages-${HUGE_BYTES[size] / 1024}kB`
  const read = (name: string) => Number(readFileSync(`${directory}/${name}`, 'utf8'))
  const pages = `${wanted} ${wanted === 1 ? 'page' : 'pages'} of ${size}`
  try {
    const all = read('nr_hugepages')
    const free = read('free_hugepages') - read('resv_hugepages')
    return `${pages} are wanted, ${free} free: \`echo ${all + wanted - free} > ${directory}/nr_hugepages\`, or use hugePages "auto".`
  } catch {
    return `${pages} are wanted, and this machine has none of that size; use hugePages "auto".`
  }
}

function checkShape(options: Omit<UmemOptions, 'hugePages'>): Shape {
  const { frames = 4096, frameSize = 2048, headroom = 0 } = options
  if (!Number.isInteger(frames) || frames < 1) {
    throw new OptionError('frames', `A UMEM of ${frames} frames cannot be`, 'Ask for at least 1 frame.')
  }
  if (!isPowerOfTwo(frameSize) || frameSize < MIN_FRAME_SIZE || frameSize > PAGE_SIZE) {
    throw new OptionError(
      'frameSize',
      `A frame of ${frameSize} bytes cannot be`,
      `Use a power of two from ${MIN_FRAME_SIZE} to ${PAGE_SIZE}.`,
    )
  }
  if (!Number.isInteger(headroom) || headroom < 0 || headroom > frameSize - XDP_PACKET_HEADROOM - 1) {
    throw new OptionError(
      'headroom',
      `A headroom of ${headroom} bytes does not fit a frame of ${frameSize}`,
      `Use 0 to ${frameSize - XDP_PACKET_HEADROOM - 1}.`,
    )
  }
  if (frames * frameSize >= 2 ** 32) {
    throw new OptionError('frames', `A UMEM of ${frames * frameSize} bytes is too large`, 'Stay below 4 GiB.')
  }
  return { frames, frameSize, headroom }
}

/** Whether `value` is 1, 2, 4, … 2^31. */
export function isPowerOfTwo(value: number): boolean {
  return Number.isInteger(value) && value > 0 && value <= 2 ** 31 && (value & (value - 1)) === 0
}
