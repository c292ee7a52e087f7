// The kernel's own sockets on a server's port: they keep it from others, and get what XDP leaves to the kernel.
import { createSocket, type RemoteInfo, type Socket } from 'node:dgram'
import { EADDRINUSE, EADDRNOTAVAIL } from '../kernel/errno.js'
import { KernelError, OptionError, check, inNamespace, native, type Namespace } from '../kernel/index.js'
import { formatIp } from '../packet/index.js'

// include/linux/socket.h, include/uapi/linux/in6.h
const AF_INET = 2
const AF_INET6 = 10
const SOCK_DGRAM = 2
const IPPROTO_IPV6 = 41
const IPV6_V6ONLY = 26

export interface KernelSocketsOptions {
  namespace: Namespace | undefined
  /** 0: one that is free in every family. */
  port: number
  /** 4 or 16 bytes; all zeros for any of its family. */
  addresses: readonly Uint8Array[]
  /** The zone of link-local addresses. */
  ifindex: number
  onMessage: (message: Buffer, sender: RemoteInfo, local: Uint8Array) => void
  onError: (error: Error) => void
}

/** One socket an address, all on one port. */
export class KernelSockets {
  readonly port: number
  readonly #sockets: { address: Uint8Array; socket: Socket }[] = []

  /** Binds. Throws `KernelError` EADDRINUSE and the like; nothing is left behind then. */
  constructor(options: KernelSocketsOptions) {
    const { addresses, namespace } = options
    let port = options.port
    try {
      const fds = inNamespace(namespace, () => bindAll(addresses, port, options.ifindex))
      port = fds.port
      for (const [i, fd] of fds.fds.entries()) {
        const address = addresses[i]
        const socket = createSocket(address.length === 4 ? 'udp4' : 'udp6')
        socket.bind({ fd, exclusive: true })
        socket.on('message', (message, sender) => options.onMessage(message, sender, address))
        socket.on('error', options.onError)
        this.#sockets.push({ address, socket })
      }
    } catch (error) {
      this.close()
      throw error
    }
    this.port = port
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
  if (family === AF_INET6)
    native.setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, new Uint8Array(Uint32Array.of(1).buffer))
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
