// The kernel's own sockets on a server's port: they keep it from others, and get what XDP leaves to the kernel.
import { createSocket, type RemoteInfo, type Socket } from 'node:dgram'
import { EADDRINUSE, EADDRNOTAVAIL } from '../kernel/errno.js'
import { KernelError, OptionError, check, inNamespace, native, type Namespace } from '../kernel/index.js'
import { formatIp } from '../packet/index.js'

// include/uapi/asm-generic/socket.h
const SOL_SOCKET = 1
const SO_BROADCAST = 6
const SO_RCVBUF = 8
const SO_RCVBUFFORCE = 33
// include/linux/socket.h, include/uapi/linux/in6.h
const AF_INET = 2
const AF_INET6 = 10
const SOCK_DGRAM = 2
const IPPROTO_IPV6 = 41
const IPV6_V6ONLY = 26

/**
 * The kernel's sockets on a port, one an address: nobody else gets the port until the last descriptor of them is closed.
 * Structured-cloneable: descriptors are those of the process.
 */
export interface BoundPort {
  port: number
  sockets: readonly { address: Uint8Array; fd: number }[]
}

/** Which ports a server wants, and at which addresses of 4 or 16 bytes: undefined for any. */
export interface PortRequest {
  /** 0: one that is free in every family. */
  ports: readonly number[]
  listed: readonly Uint8Array[] | undefined
  /** Without it nothing is bound. */
  kernelSocket: boolean
}

/**
 * Bytes of what may wait in a socket, as the kernel counts them: behind a native program every fragment takes a page or more, and
 * the default of 212992 is full after seven datagrams of 8 kB.
 */
const RECEIVE_BUFFER = 4 << 20

const ANY = [new Uint8Array(4), new Uint8Array(16)]

/**
 * Binds the kernel's sockets on a server's ports, link-local addresses in the zone `ifindex`, and answers which those are.
 * Throws `KernelError` EADDRINUSE and the like; nothing is left behind then.
 */
export function bindPorts(
  { ports, listed = ANY, kernelSocket }: PortRequest,
  { namespace, ifindex }: { namespace: Namespace | undefined; ifindex: number },
): { ports: readonly number[]; bound: readonly BoundPort[] } {
  const bound: BoundPort[] = []
  if (!kernelSocket) return { ports, bound }
  try {
    for (const wanted of ports) {
      const { port, fds } = inNamespace(namespace, () => bindAll(listed, wanted, ifindex))
      bound.push({ port, sockets: fds.map((fd, i) => ({ address: listed[i], fd })) })
    }
  } catch (error) {
    bound.forEach(closePort)
    throw error
  }
  return { ports: bound.map(({ port }) => port), bound }
}

/** The same sockets by descriptors of their own, for a thread of its own: what comes is read by whichever reads first. */
export function duplicatePort({ port, sockets }: BoundPort): BoundPort {
  const copies: { address: Uint8Array; fd: number }[] = []
  try {
    for (const { address, fd } of sockets) copies.push({ address, fd: check(native.dup(fd), 'dup') })
  } catch (error) {
    closePort({ port, sockets: copies })
    throw error
  }
  return { port, sockets: copies }
}

/** Closes descriptors that nobody listens to. */
export function closePort({ sockets }: BoundPort): void {
  for (const { fd } of sockets) native.close(fd)
}

/** What listens to the kernel's sockets on a port. */
export interface KernelListener {
  onMessage: (message: Buffer, sender: RemoteInfo, localPort: number) => void
  onError: (error: Error) => void
}

/** The kernel's sockets on one port, driven by the event loop of this thread. */
export class KernelSockets {
  readonly port: number
  readonly #sockets: { address: Uint8Array; socket: Socket }[] = []

  /** The descriptors are the sockets' from here on. */
  constructor({ port, sockets }: BoundPort, { onMessage, onError }: KernelListener) {
    this.port = port
    for (const { address, fd } of sockets) {
      const socket = createSocket(address.length === 4 ? 'udp4' : 'udp6')
      socket.bind({ fd, exclusive: true })
      socket.on('message', (message, sender) => onMessage(message, sender, port))
      socket.on('error', onError)
      this.#sockets.push({ address, socket })
    }
  }

  /** Sends from the socket at `local`, or the first of the family. `done` gets the error, if any. */
  send(
    payload: Uint8Array,
    port: number,
    address: string,
    done: (error: Error | null) => void,
    local?: Uint8Array,
  ): void {
    const size = address.includes(':') ? 16 : 4
    const fitting = this.#sockets.filter((one) => one.address.length === size)
    const exact = local && fitting.find((one) => Buffer.compare(one.address, local) === 0)
    const chosen = exact ?? fitting.at(0)
    if (!chosen) {
      done(new OptionError('address', `The server has no address to send to ${address} from`))
      return
    }
    chosen.socket.send(payload, port, address, done)
  }

  /** Closing twice is harmless. */
  close(): void {
    for (const { socket } of this.#sockets.splice(0)) socket.close()
  }
}

const bindHints = new Map([
  [EADDRINUSE, 'Another socket may have the port: see `ss -ulpn`.'],
  [EADDRNOTAVAIL, 'That is no address of this host: see `ip address`.'],
])

// How often another port is tried, when the one that is free in the first family is not in the second.
const ATTEMPTS = 32

function bindAll(
  addresses: readonly Uint8Array[],
  wanted: number,
  ifindex: number,
): { fds: number[]; port: number } {
  for (let attempt = 1; ; attempt++) {
    const fds: number[] = []
    let port = wanted
    try {
      for (const address of addresses) {
        fds.push(openSocket(address))
        const at = port === 0 ? 'a free port' : `port ${port}`
        const errno = -native.bind(fds[fds.length - 1], socketAddress(address, port, ifindex))
        if (errno > 0) {
          const about = `UDP ${formatIp(address)}, ${at}`
          throw new KernelError('bind', errno, { about, hint: bindHints.get(errno) })
        }
        port ||= boundPort(fds[fds.length - 1])
      }
      return { fds, port }
    } catch (error) {
      for (const fd of fds) native.close(fd)
      const isTaken = (error as { errno?: number }).errno === EADDRINUSE
      if (wanted !== 0 || !isTaken || attempt === ATTEMPTS) throw error
    }
  }
}

function openSocket(address: Uint8Array): number {
  const family = address.length === 4 ? AF_INET : AF_INET6
  const fd = check(native.socket(family, SOCK_DGRAM, 0), 'socket', { about: 'UDP' })
  const set = (level: number, option: number, value: number): number =>
    native.setsockopt(fd, level, option, new Uint8Array(Uint32Array.of(value).buffer))
  if (family === AF_INET6) set(IPPROTO_IPV6, IPV6_V6ONLY, 1)
  else set(SOL_SOCKET, SO_BROADCAST, 1)
  // Beyond net.core.rmem_max only with CAP_NET_ADMIN in the first user namespace.
  if (set(SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER) < 0) set(SOL_SOCKET, SO_RCVBUF, RECEIVE_BUFFER)
  return fd
}

// struct sockaddr_in, sockaddr_in6
function socketAddress(address: Uint8Array, port: number, ifindex: number): Uint8Array {
  const bytes = new Uint8Array(address.length === 4 ? 16 : 28)
  const view = new DataView(bytes.buffer)
  view.setUint16(0, address.length === 4 ? AF_INET : AF_INET6, true)
  view.setUint16(2, port)
  bytes.set(address, address.length === 4 ? 4 : 8)
  if (address.length === 16 && address[0] === 0xfe && (address[1] & 0xc0) === 0x80)
    view.setUint32(24, ifindex, true)
  return bytes
}

function boundPort(fd: number): number {
  const address = new DataView(new ArrayBuffer(28))
  check(native.getsockname(fd, address), 'getsockname')
  return address.getUint16(2)
}
