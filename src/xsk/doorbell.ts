// The system calls that wake the kernel up, and what their errors mean.
import { EAGAIN, EBUSY, ENETDOWN, ENOBUFS, ENXIO } from '../kernel/errno.js'
import { KernelError } from '../kernel/index.js'

// Errors of a wake-up that mean "later": the kernel's batch budget is used up, the device's queue is full,
// no memory now, the device is down (net/xdp/xsk.c: __xsk_generic_xmit).
const LATER = new Set([EAGAIN, EBUSY, ENETDOWN, ENOBUFS])

/** The system calls that wake the kernel up, each answering -errno when it fails. */
export interface Doorbell {
  /** Lets the kernel receive: needed when the fill ring says so, and to busy-poll. */
  receive(): number
  /** Lets the kernel send what is in the TX ring. */
  send(): number
}

/** Where a socket is, for messages: `veth0`, queue 0. */
export interface Place {
  interface: string
  queue: number
}

/** What the error of a call on a socket means. */
export function callFailure(syscall: string, errno: number, { interface: name, queue }: Place): KernelError {
  return new KernelError(syscall, errno, {
    about: `${name} queue ${queue}`,
    hint:
      errno === ENXIO || errno === ENETDOWN
        ? `The interface ${name} is down or gone; open the socket again when it is back.`
        : undefined,
  })
}

/** Throws what a call answered, unless it was no error or only means "later". */
export function checkDoorbell(syscall: string, result: number, place: Place): void {
  if (result < 0 && !LATER.has(-result)) throw callFailure(syscall, -result, place)
}
