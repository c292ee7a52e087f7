// Where a writer's bytes go: regular files, pipes, sockets and devices, without ever blocking the event loop.
import {
  close,
  closeSync,
  constants,
  fstatSync,
  ftruncate,
  open,
  openSync,
  statSync,
  write,
  writeSync,
} from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'
import {
  DISCONNECT,
  EAGAIN,
  KernelError,
  WRITABLE,
  check,
  native,
  watchDescriptor,
  type NativeWatcher,
} from '../kernel/index.js'

const STDOUT = 1
// include/linux/socket.h
const MSG_DONTWAIT = 0x40
const MSG_NOSIGNAL = 0x4000

const openFile = promisify(open)
const closeFile = promisify(close)
const truncateFile = promisify(ftruncate)
const writeSome = promisify(write)

/** Something open for writing. */
export interface Target {
  /** Writes some of `bytes[from .. to)`, at least a byte; resolves with how many. */
  write(bytes: Uint8Array, from: number, to: number): Promise<number>
  /** As `write`, at once; throws. Only a regular file has it, for the kernel takes its bytes into memory. */
  writeNow?(bytes: Uint8Array, from: number, to: number): number
  /** Takes the last `count` bytes back; false where that cannot be done. */
  takeBack(count: number): Promise<boolean>
  /** Calls `onEnd` once when whoever reads is gone, even while nothing is written; where that can be known. */
  watchEnd(onEnd: () => void): void
  close(): Promise<void>
  /** As `close`, at once; throws. What has `writeNow` has it. */
  closeNow?(): void
}

/** Opens a new or regular file at once, one with `writeNow`; undefined where there is something else. Throws what `openSync` does. */
export function openFileNow(path: string): Target | undefined {
  const isOther = statSync(path, { throwIfNoEntry: false })?.isFile() === false
  return isOther ? undefined : descriptorTarget(openSync(path, 'w', 0o644), true, true)
}

/** Opens `path` anew, or takes standard output for `-`. */
export async function openTarget(path: string): Promise<Target> {
  if (isNamedPipe(path)) return pipeTarget(await openNamedPipe(path))
  if (path !== '-') {
    const fd = await openFile(path, 'w', 0o644)
    return descriptorTarget(fd, true, fstatSync(fd).isFile())
  }
  const kind = fstatSync(STDOUT)
  // Opened anew, so that it is non-blocking for us and for nobody else who holds it.
  if (kind.isFIFO()) return pipeTarget(openWithoutBlocking(`/proc/self/fd/${STDOUT}`))
  if (kind.isSocket()) return socketTarget()
  return descriptorTarget(STDOUT, false, kind.isFile())
}

/** Regular files and devices: by the thread pool, for a disk may take its time. */
function descriptorTarget(fd: number, isOurs: boolean, isFile: boolean): Target {
  return {
    ...(isFile && {
      writeNow: (bytes: Uint8Array, from: number, to: number) => writeSync(fd, bytes, from, to - from),
      closeNow: () => {
        if (isOurs) closeSync(fd)
      },
    }),
    async write(bytes, from, to) {
      const { bytesWritten } = await writeSome(fd, bytes, from, to - from)
      return bytesWritten
    },
    async takeBack(count) {
      const state = fstatSync(fd)
      if (!state.isFile()) return false
      await truncateFile(fd, state.size - count)
      return true
    },
    watchEnd: () => undefined,
    async close() {
      if (isOurs) await closeFile(fd)
    },
  }
}

const isNamedPipe = (path: string): boolean => statSync(path, { throwIfNoEntry: false })?.isFIFO() ?? false

const openWithoutBlocking = (path: string): number =>
  openSync(path, constants.O_WRONLY | constants.O_NONBLOCK)

/** How often a named pipe is looked at for a reader: nothing tells of one. */
const LOOK_MS = 50

/** Resolves when somebody reads it; -1 when the signal aborts before that. */
async function openNamedPipe(path: string, signal?: AbortSignal, onWait?: () => void): Promise<number> {
  for (let looks = 0; !signal?.aborted; looks++) {
    try {
      return openWithoutBlocking(path)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENXIO') throw error
    }
    if (looks === 0) onWait?.()
    await delay(LOOK_MS)
  }
  return -1
}

/**
 * Where `path` is a named pipe, waits until somebody reads it, after calling `onWait` if nobody does yet. What it resolves with
 * lets go of the pipe: call it when the pipe has been opened for writing.
 */
export async function waitForReader(
  path: string,
  signal: AbortSignal,
  onWait: () => void,
): Promise<() => void> {
  const fd = isNamedPipe(path) ? await openNamedPipe(path, signal, onWait) : -1
  return () => {
    if (fd >= 0) closeSync(fd)
  }
}

/** A pipe, opened for us alone. */
function pipeTarget(fd: number): Target {
  return waitingTarget(
    fd,
    (bytes, from, to) => {
      try {
        return writeSync(fd, bytes, from, to - from)
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return 0
        throw error
      }
    },
    closeSync,
  )
}

function socketTarget(): Target {
  const fd = native.dup(STDOUT)
  const attempt = (bytes: Uint8Array, from: number, to: number) => {
    const sent = native.send(fd, bytes.subarray(from, to), MSG_DONTWAIT | MSG_NOSIGNAL)
    if (sent === -EAGAIN) return 0
    if (sent < 0) throw new KernelError('sendto', -sent)
    return sent
  }
  return waitingTarget(fd, attempt, (fd) => native.close(fd))
}

/** Writes when the event loop says that there is room. `release` closes the descriptor: whoever opened it has to know. */
function waitingTarget(
  fd: number,
  attempt: (bytes: Uint8Array, from: number, to: number) => number,
  release: (fd: number) => void,
): Target {
  let watcher: NativeWatcher | undefined
  let copy = -1
  const unwatch = () => {
    watcher?.close()
    if (copy >= 0) native.close(copy)
    watcher = undefined
    copy = -1
  }
  return {
    watchEnd(onEnd) {
      // A descriptor has one watcher on an event loop, and `writable` may need it.
      copy = check(native.dup(fd), 'dup')
      watcher = watchDescriptor(copy, () => {
        unwatch()
        onEnd()
      })
      watcher.start(DISCONNECT)
      watcher.unref()
    },
    async write(bytes, from, to) {
      for (;;) {
        const written = attempt(bytes, from, to)
        if (written > 0) return written
        await writable(fd)
      }
    },
    takeBack: () => Promise.resolve(false),
    close() {
      unwatch()
      release(fd)
      return Promise.resolve()
    },
  }
}

/** An error counts as writable too: the next attempt then says which one it is. */
function writable(fd: number): Promise<void> {
  return new Promise((resolve) => {
    const watcher = watchDescriptor(fd, () => {
      watcher.close()
      resolve()
    })
    watcher.start(WRITABLE)
  })
}
