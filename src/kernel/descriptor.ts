// Waiting on descriptors: poll(2) for the calling thread, and readiness on its event loop.
import { EINTR } from './errno.js'
import { KernelError, check } from './errors.js'
import { native, type NativeWatcher } from './native.js'

// include/uapi/asm-generic/poll.h
export const POLLIN = 0x1
export const POLLOUT = 0x4
export const POLLERR = 0x8
export const POLLHUP = 0x10

const one = new DataView(new ArrayBuffer(8))

/** Waits until `fd` has one of `events` (`POLLIN`, `POLLOUT`), at most `timeoutMs` (-1: for ever). Returns the events, 0 for none. */
export function pollDescriptor(fd: number, events: number, timeoutMs: number): number {
  one.setInt32(0, fd, true)
  one.setUint16(4, events, true)
  one.setUint16(6, 0, true)
  const ready = native.poll(one, timeoutMs)
  if (ready === -EINTR) return 0
  check(ready, 'poll')
  return one.getUint16(6, true)
}

/**
 * A function that sleeps until `fd` has one of `events`, for a thread that does little else: it answers the events, 0 when
 * nothing came for `turnMs`, when a signal came, or when `turnMs` have passed since its first call after a 0: time to let the
 * event loop have its turn; below zero, -errno.
 */
export function waiterFor(fd: number, events: number, turnMs: number): () => number {
  return native.bindWait(fd, events, turnMs)
}

/**
 * Calls `onReady` on this thread's event loop when the descriptor is ready; nothing is watched before `start`.
 * Close the watcher before the descriptor. Throws `KernelError` with syscall `epoll_ctl` for a descriptor that cannot be watched.
 */
export function watchDescriptor(
  fd: number,
  onReady: (status: number, events: number) => void,
): NativeWatcher {
  try {
    return new native.Watcher(fd, onReady)
  } catch (error) {
    throw new KernelError('epoll_ctl', (error as { errno: number }).errno, { about: `descriptor ${fd}` })
  }
}
