// The addon, typed: one function a system call. A result below zero is -errno; `check` in errors.ts turns it into an error.
import { createRequire } from 'node:module'
import { endianness } from 'node:os'
import { fileURLToPath } from 'node:url'
import { UnsupportedError } from './errors.js'

type View = ArrayBufferView | ArrayBuffer

/** Where to write the address of a buffer into a kernel structure: `[byte offset, buffer, byte offset, buffer, …]`. */
export type Pointers = (number | View | null)[]

/** Readiness of a descriptor on this thread's event loop (uv_poll). Close it before its descriptor. */
export interface NativeWatcher {
  /** Watches for `events` (`READABLE`, `WRITABLE`), replacing what was watched. 0 or -errno. */
  start(events: number): number
  stop(): number
  close(): void
  /** Lets the watcher keep the event loop alive (the default). */
  ref(): void
  unref(): void
}

/** The calls of the addon. Descriptors are numbers; sizes are bytes; buffers are borrowed for the call only. */
export interface Native {
  /** Writes addresses into a structure that another one points to. Keep the buffers referenced until the kernel has used them. */
  writePointers(structure: View, pointers: Pointers): number
  socket(domain: number, type: number, protocol: number): number
  close(fd: number): number
  dup(fd: number): number
  bind(fd: number, address: View): number
  getsockname(fd: number, address: View): number
  setsockopt(fd: number, level: number, name: number, value: View, pointers?: Pointers): number
  getsockopt(fd: number, level: number, name: number, value: View): number
  send(fd: number, data: View | null, flags: number, address?: View): number
  recv(fd: number, data: View | null, flags: number): number
  /** `list` is an array of `struct pollfd` (fd i32, events u16, revents u16). */
  poll(list: View, timeoutMs: number): number
  /** recv(fd, nothing, MSG_DONTWAIT), to be called again and again: 0 or -errno. */
  bindReceive(fd: number): () => number
  /** send(fd, nothing, MSG_DONTWAIT), to be called again and again: 0 or -errno. */
  bindSend(fd: number): () => number
  /** See `waiterFor` in descriptor.ts. */
  bindWait(fd: number, events: number, turnMs: number): () => number
  /** `unprofiled` keeps SIGPROF, which a profiler sends all the time, from interrupting the call. */
  bpf(command: number, attr: View, pointers?: Pointers, unprofiled?: boolean): number
  ioctl(fd: number, request: number, argument: View, pointers?: Pointers): number
  setns(fd: number, type: number): number
  unshare(flags: number): number
  mount(source: string, target: string, type: string, flags: number): number
  umount(target: string, flags: number): number
  setaffinity(mask: View): number
  getaffinity(mask: View): number
  gettid(): number
  /** Nanoseconds of CLOCK_MONOTONIC, CLOCK_REALTIME and CLOCK_MONOTONIC again, read one after the other. */
  readClocks(into: BigInt64Array): number
  getrlimit(resource: number, softAndHard: Float64Array): number
  setrlimit(resource: number, soft: number, hard: number): number
  mmap(length: number, protection: number, flags: number, fd: number, offset: number): ArrayBuffer | number
  /** Private memory, `length` a multiple of the page size. See `MappedRegion.allocate`. */
  mmapAnonymous(length: number): ArrayBuffer | number
  munmap(region: ArrayBuffer): number
  memfd(name: string, flags: number): number
  ftruncate(fd: number, length: number): number
  /**
   * Copies ranges of `source` into `target`, which is other memory: `count` moves of three words each, to, from, length, in
   * bytes. One call for a batch of packets: `set` makes a view for each. 0, or -EFAULT for a move that does not lie in both.
   */
  gather(target: Uint8Array, source: Uint8Array, moves: Uint32Array, count: number): number
  /**
   * Copies words of each row, and what it says lies in `source`, one behind the other into `target` from `at` on, as many rows as have
   * room below `limit`. `layout`: words of a row, the first of those that are copied, how many, and the one that is the length in
   * bytes of the rest; the first word of a row is the offset. `done` gets the rows copied, and where `target` ends behind them.
   * 0, or -EFAULT for a row that lies elsewhere.
   */
  gatherRows(
    target: Uint8Array,
    at: number,
    limit: number,
    source: Uint8Array,
    rows: Uint32Array,
    layout: Uint32Array,
    first: number,
    count: number,
    done: Uint32Array,
  ): number
  /**
   * For each of `count` rows of `stride` words, the first of which is an offset in `source`: copies `words` words that lie in front
   * of the offset into the row, from its word `at` on. 0, or -EFAULT where there are not so many.
   */
  gatherBefore(
    rows: Uint32Array,
    stride: number,
    count: number,
    source: Uint8Array,
    words: number,
    at: number,
  ): number
  readonly pageSize: number
  readonly Watcher: new (fd: number, callback: (status: number, events: number) => void) => NativeWatcher
}

/** Watcher events (libuv: UV_READABLE, UV_WRITABLE, UV_DISCONNECT). */
export const READABLE = 1
export const WRITABLE = 2
export const DISCONNECT = 4

function load(): Native {
  if (endianness() !== 'LE') throw new UnsupportedError('node-xdp supports little-endian machines only')
  const require = createRequire(import.meta.url)
  // From dist/src/kernel to the package's root, where prebuilds/ and build/ are.
  const root = fileURLToPath(new URL('../../..', import.meta.url))
  return (require('node-gyp-build') as (root: string) => Native)(root)
}

export const native: Native = load()
