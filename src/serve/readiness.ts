// Tells the service manager how a server is doing: sd_notify(3), a datagram to the socket that systemd names.
import { Buffer } from 'node:buffer'
import { check, native } from '../kernel/index.js'

// include/linux/socket.h, include/uapi/linux/un.h
const AF_UNIX = 1
const SOCK_DGRAM = 2
const SUN_PATH = 2
const SUN_PATH_MAX = 108

/** What can be told: the server takes requests, or is on its way out. */
export type Readiness = 'ready' | 'stopping'

const MESSAGES: Record<Readiness, string> = { ready: 'READY=1', stopping: 'STOPPING=1' }

/**
 * Tells the service manager, with a word for `systemctl status`. False when there is none, which is when the environment has no
 * `NOTIFY_SOCKET`. Throws `KernelError` when it cannot be told: it would wait, and end the service.
 */
export function notifyManager(state: Readiness, status?: string): boolean {
  const path = process.env['NOTIFY_SOCKET']
  if (!path) return false
  const fd = check(native.socket(AF_UNIX, SOCK_DGRAM, 0), 'socket', { about: 'AF_UNIX' })
  try {
    const lines = [
      MESSAGES[state],
      ...(status === undefined ? [] : [`STATUS=${status.replaceAll('\n', ' ')}`]),
    ]
    check(native.send(fd, Buffer.from(lines.join('\n')), 0, unixAddress(path)), 'sendto', {
      about: `NOTIFY_SOCKET ${path}`,
      hint: 'The service manager named this socket; without NOTIFY_SOCKET nobody is told.',
    })
  } finally {
    native.close(fd)
  }
  return true
}

// struct sockaddr_un; a leading @ is an abstract name's zero (unix(7)), whose length is that of the address.
function unixAddress(path: string): Uint8Array {
  const name = Buffer.from(path)
  if (path.startsWith('@')) name[0] = 0
  const address = new Uint8Array(
    SUN_PATH + Math.min(name.length + (path.startsWith('@') ? 0 : 1), SUN_PATH_MAX),
  )
  address[0] = AF_UNIX
  address.set(name.subarray(0, address.length - SUN_PATH), SUN_PATH)
  return address
}
