// What a UDP server is asked for, and whether that can be.
import { NotFoundError, OptionError, getInterface, listDefaultRoutes } from '../kernel/index.js'
import type { NetlinkOptions } from '../kernel/index.js'
import { formatIp, parseIp } from '../packet/index.js'
import type { UdpInterfaceOptions } from './udp-interface.js'
import type { UdpMessage } from './udp-message.js'

/** What a server takes, and how. The options of `XdpGroup` apply to the first server of a thread on an interface. */
export interface UdpServerOptions extends Omit<UdpInterfaceOptions, 'interface'> {
  /** Default: the one of the default route. */
  interface?: string
  /** The ports to take. 0 is a free one, which needs the kernel's socket. */
  port: number | readonly number[]
  /**
   * The addresses to take, as text or 4 or 16 bytes. Default `own`: the interface's, those of its VLAN interfaces
   * included, as they come and go. `any` takes what goes to other hosts, groups and everybody too.
   */
  addresses?: 'own' | 'any' | readonly (string | Uint8Array)[]
  /**
   * Bind the kernel's sockets too. They keep the ports from other programs, have the kernel answer for them what ICMP has to
   * say, and receive what is left to the kernel: fragments, packets with IP options, what comes by other interfaces. They send
   * what leaves by other interfaces, and what is longer than the MTU. Default true.
   */
  kernelSocket?: boolean
  /** Drop datagrams whose checksums are wrong, as the kernel does. Default true. */
  verifyChecksums?: boolean
}

/** Gets each datagram. What it throws closes the server: `closed` rejects with it. */
export type UdpHandler = (message: UdpMessage) => void

/** Options that can be, in the form that a server works with. */
export interface CheckedUdpOptions {
  interface: string
  ports: readonly number[]
  /** Those of a list; undefined for `own` and `any`. */
  listed: readonly Uint8Array[] | undefined
  takesAny: boolean
  kernelSocket: boolean
  verifyChecksums: boolean
}

/** Throws `OptionError` for what cannot be, `NotFoundError` when there is no interface to take by default. */
export function checkUdpOptions(options: UdpServerOptions): CheckedUdpOptions {
  const { port, addresses, kernelSocket = true, verifyChecksums = true } = options
  const listed = checkAddresses(addresses)
  const ports = Array.isArray(port) ? (port as readonly number[]) : [port as number]
  checkPorts(ports, kernelSocket)
  return {
    interface: options.interface ?? defaultInterface(options),
    ports,
    listed,
    takesAny: addresses === 'any',
    kernelSocket,
    verifyChecksums,
  }
}

/** The interface of the default route, IPv4's before IPv6's. Throws `NotFoundError` when there is none. */
export function defaultInterface(options: NetlinkOptions = {}): string {
  const index = listDefaultRoutes(options).find(({ ifindex }) => ifindex !== undefined)?.ifindex
  if (index === undefined) {
    throw new NotFoundError('There is no default route to take the interface from', 'Name the interface.')
  }
  return getInterface(index, options).name
}

function checkPorts(ports: readonly number[], kernelSocket: boolean): void {
  if (ports.length === 0)
    throw new OptionError('port', 'No port was named', 'Name at least one, or 0 for a free one.')
  for (const one of ports) {
    if (!(Number.isInteger(one) && one >= 0 && one < 65_536))
      throw new OptionError('port', `${JSON.stringify(one)} is no port`, 'Use a number from 0 to 65535.')
    if (one === 0 && !kernelSocket) {
      throw new OptionError(
        'port',
        'Only the kernel can choose a port',
        'Name one, or let the server have its kernel socket.',
      )
    }
  }
  if (new Set(ports.filter((one) => one !== 0)).size < ports.filter((one) => one !== 0).length)
    throw new OptionError('port', 'A port was named twice', 'Name it once.')
}

function checkAddresses(given: UdpServerOptions['addresses'] = 'own'): readonly Uint8Array[] | undefined {
  if (given === 'own' || given === 'any') return undefined
  if (typeof given === 'string' || given.length === 0) {
    throw new OptionError(
      'addresses',
      `"${String(given)}" is no list of addresses`,
      'Use own, any, or a list.',
    )
  }
  return given.map((one) => {
    const address = typeof one === 'string' ? parseIp(one) : one
    if (address?.length === 4 || address?.length === 16) return address
    const text = typeof one === 'string' ? one : formatIp(one)
    throw new OptionError('addresses', `"${text}" is no IP address`)
  })
}
