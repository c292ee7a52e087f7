// Mapped memory with one owner: closing it detaches the ArrayBuffer first, so a stale view reads `undefined`.
import { KernelError, StateError, check, type CallContext } from './errors.js'
import { native } from './native.js'

// include/uapi/asm-generic/mman-common.h, include/uapi/linux/mman.h, include/uapi/linux/memfd.h
const PROT_READ = 1
const PROT_WRITE = 2
const MAP_SHARED = 1
const MAP_POPULATE = 0x8000
const MFD_CLOEXEC = 1
const MFD_HUGETLB = 4
const MFD_HUGE_SHIFT = 26

/** The size of a memory page in bytes. */
export const PAGE_SIZE = native.pageSize

/** How to map: `length` and `offset` in bytes, `offset` a multiple of the page size and below 2^53. */
export interface MapOptions {
  fd: number
  length: number
  offset?: number
  /** Default true. */
  writable?: boolean
  /** Fault every page in now rather than at first use. */
  populate?: boolean
  context?: CallContext
}

/** Mapped memory: of a descriptor, shared with whoever maps the same one, or of this process alone. Valid until `close()`. */
export class MappedRegion {
  /** The whole mapping. Detached (length 0) once closed. */
  readonly buffer: ArrayBuffer

  private constructor(buffer: ArrayBuffer) {
    this.buffer = buffer
  }

  /** Maps a descriptor, which may be closed then. Throws `KernelError` with syscall `mmap`. */
  static map(options: MapOptions): MappedRegion {
    const protection = PROT_READ | (options.writable === false ? 0 : PROT_WRITE)
    const flags = MAP_SHARED | (options.populate ? MAP_POPULATE : 0)
    const mapped = native.mmap(options.length, protection, flags, options.fd, options.offset ?? 0)
    if (typeof mapped === 'number') throw new KernelError('mmap', -mapped, options.context)
    return new MappedRegion(mapped)
  }

  /**
   * Memory of this process alone, zeroed and there at once, `length` bytes: whole pages. In transparent huge pages where the kernel
   * gives them on demand, as most do (Documentation/admin-guide/mm/transhuge.rst); a child of fork(2) does not have it. Throws
   * `KernelError` with syscall `mmap`.
   */
  static allocate(length: number, context?: CallContext): MappedRegion {
    const mapped = native.mmapAnonymous(length)
    if (typeof mapped === 'number') throw new KernelError('mmap', -mapped, context)
    return new MappedRegion(mapped)
  }

  get closed(): boolean {
    return this.buffer.byteLength === 0
  }

  /** Throws `StateError` when the memory is gone: for the slow path, before views are made. */
  assertOpen(what: string): void {
    if (this.closed) throw new StateError(`${what} is closed`)
  }

  /** Detaches every view, then unmaps. Closing twice is harmless. */
  close(): void {
    if (!this.closed) check(native.munmap(this.buffer), 'munmap')
  }
}

/** Huge page sizes a memory file can be made of. */
export type HugePageSize = '2MiB' | '1GiB'

const hugeShift: Record<HugePageSize, number> = { '2MiB': 21, '1GiB': 30 }

/**
 * Makes an anonymous memory file of `length` bytes, which other threads and processes can map by descriptor.
 * With huge pages, `length` must be a multiple of that size. Kernel 3.17, huge pages 4.14. The caller owns the descriptor.
 */
export function createMemoryFile(name: string, length: number, hugePages?: HugePageSize): number {
  const flags = MFD_CLOEXEC | (hugePages ? MFD_HUGETLB | (hugeShift[hugePages] << MFD_HUGE_SHIFT) : 0)
  const fd = check(native.memfd(name, flags >>> 0), 'memfd_create', { about: name })
  const truncated = native.ftruncate(fd, length)
  if (truncated < 0) {
    native.close(fd)
    throw new KernelError('ftruncate', -truncated, { about: `${length} bytes` })
  }
  return fd
}
