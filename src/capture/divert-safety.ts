// Whether this host needs an interface: what a capture that takes packets must not cut off unasked.
import { readFileSync } from 'node:fs'
import { XdpError, getInterface, inNamespace, type Namespace } from '../kernel/index.js'
import {
  type Link,
  listAddresses,
  listDefaultRoutes,
  listLinks,
  lookUpRoute,
} from '../kernel/netlink/index.js'
import { formatIp, parseIp } from '../packet/address.js'

const SSH_PORT = 22
// include/net/tcp_states.h
const TCP_ESTABLISHED = '01'
// Addresses that no host has (RFC 5737, RFC 3849): the way to them is the way to the rest of the world.
const OUTSIDE = ['192.0.2.1', '2001:db8::1'].map((text) => parseIp(text)!)

interface Connection {
  local: Uint8Array
  remote: Uint8Array
  localPort: number
  remotePort: number
}

/**
 * Why taking packets of an interface away would cut off this host, or the person at its keyboard, as the end of a
 * sentence that begins with the interface: it is loopback, or carries a default route or an established SSH connection, or
 * carries an interface that does: a bridge or bond that it belongs to, a VLAN on it. Undefined for an interface that can
 * spare its packets. Throws `NotFoundError`.
 */
export function hostNeeds(name: string, namespace?: Namespace): string | undefined {
  const where = namespace === undefined ? {} : { namespace }
  const { index, loopback } = getInterface(name, where)
  if (loopback) return 'is what the programs of this host talk to each other over'
  const links = listLinks(where)
  const ways = waysOut(where)
  const sessions = sshConnections(namespace)
  const carried = new Set([index])
  for (const below of carried) {
    const why = whyNeeded(below, ways, sessions, where)
    const above = links.find((link) => link.index === below)
    if (why !== undefined) return below === index ? why : `carries ${above?.name ?? below}, which ${why}`
    for (const link of links) if (isAbove(link, below, links)) carried.add(link.index)
  }
  return undefined
}

/** Whether packets of an interface go to another one: to its bridge or bond, or up to a VLAN or MACVLAN on it. */
function isAbove(link: Link, below: number, links: readonly Link[]): boolean {
  const isOnIt = link.peerIndex === below && link.peerNamespaceId === undefined && link.kind !== 'veth'
  return isOnIt || links.some(({ index, masterIndex }) => index === below && masterIndex === link.index)
}

/** The interfaces by which packets to the rest of the world leave. */
function waysOut(where: { namespace?: Namespace }): ReadonlySet<number | undefined> {
  const routed = OUTSIDE.map((address) => routeTo(address, where))
  return new Set([...listDefaultRoutes(where).map(({ ifindex }) => ifindex), ...routed])
}

function whyNeeded(
  ifindex: number,
  ways: ReadonlySet<number | undefined>,
  sessions: readonly Connection[],
  where: { namespace?: Namespace },
): string | undefined {
  if (ways.has(ifindex)) return 'carries the default route of this host'
  const own = listAddresses({ ...where, ifindex }).map(({ address }) => plain(address))
  const isHere = ({ local, remote }: Connection): boolean =>
    own.some((address) => isEqual(address, local)) || routeTo(remote, where) === ifindex
  const session = sessions.find(isHere)
  return session && `carries an SSH connection of this host, with ${formatIp(session.remote)}`
}

/**
 * Throws `XdpError` `XDP_TAKES_TRAFFIC` for an interface that this host needs, unless its user consented; `NotFoundError` for
 * one that is not there.
 */
export function requireSpare(name: string, consent: boolean, namespace?: Namespace): void {
  const why = hostNeeds(name, namespace)
  if (why === undefined || consent) return
  throw new XdpError(
    'XDP_TAKES_TRAFFIC',
    `${name} ${why}, and everything that arrives there would be taken`,
    'Add --take-traffic if that is what you want, or try it in a lab: `xdp lab up`.',
  )
}

/** Established connections to or from port 22, and those that this process was started over, whatever their port. */
function sshConnections(namespace: Namespace | undefined): Connection[] {
  const tables = inNamespace(namespace, () => ['tcp', 'tcp6'].map(readTable))
  const established = tables.flatMap(parseConnections)
  const onPort = established.filter((it) => it.localPort === SSH_PORT || it.remotePort === SSH_PORT)
  return [...startedOver(), ...onPort]
}

/** What sshd told this process, or one that it descends from: `sudo` clears the environment. */
function startedOver(): Connection[] {
  const told = new Set([process.env['SSH_CONNECTION'] ?? ''])
  for (let pid = process.ppid; pid > 1; pid = parentOf(pid)) {
    const environment = readProcess(pid, 'environ').split('\0')
    const line = environment.find((one) => one.startsWith('SSH_CONNECTION='))
    if (line !== undefined) told.add(line.slice(line.indexOf('=') + 1))
  }
  return [...told].flatMap((text) => parseSshConnection(text) ?? [])
}

/** `client port server port`, as sshd has it. */
function parseSshConnection(text: string): Connection | undefined {
  const [client, clientPort, server, serverPort] = text.split(' ')
  const [remote, local] = [parseIp(client), serverPort === undefined ? undefined : parseIp(server)]
  if (!remote || !local) return undefined
  return {
    local: plain(local),
    remote: plain(remote),
    localPort: Number(serverPort),
    remotePort: Number(clientPort),
  }
}

/** 0 when it is not to be known. */
function parentOf(pid: number): number {
  // The name before may hold anything but ends with the last bracket; then state and parent.
  const stat = readProcess(pid, 'stat')
  return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1] ?? 0)
}

/** A file of a process; empty when it has ended, or is not ours to look at. */
function readProcess(pid: number, file: string): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'latin1')
  } catch {
    return ''
  }
}

function readTable(name: string): string {
  try {
    return readFileSync(`/proc/thread-self/net/${name}`, 'latin1')
  } catch {
    return '' // A kernel without IPv6.
  }
}

/** The established connections of /proc/net/tcp or tcp6 (net/ipv4/tcp_ipv4.c: get_tcp4_sock). */
export function parseConnections(table: string): Connection[] {
  return table.split('\n').flatMap((line) => {
    const match = /^\s*\d+: ([0-9A-F]+):([0-9A-F]{4}) ([0-9A-F]+):([0-9A-F]{4}) ([0-9A-F]{2}) /.exec(line)
    if (!match || match[5] !== TCP_ESTABLISHED) return []
    const [, local, localPort, remote, remotePort] = match
    return {
      local: address(local),
      remote: address(remote),
      localPort: parseInt(localPort, 16),
      remotePort: parseInt(remotePort, 16),
    }
  })
}

/** Words of 32 bits, printed as numbers of this machine, which is little-endian. */
function address(text: string): Uint8Array {
  const bytes = Buffer.from(text, 'hex')
  return plain(bytes.swap32())
}

/** An IPv4 address that was mapped into IPv6 as what it is. */
function plain(bytes: Uint8Array): Uint8Array {
  const isMapped =
    bytes.length === 16 && bytes.subarray(0, 10).every((byte) => byte === 0) && bytes[10] === 0xff
  return isMapped && bytes[11] === 0xff ? bytes.slice(12) : bytes
}

const isEqual = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0

/** The interface by which packets to an address leave; undefined when there is no way. */
function routeTo(address: Uint8Array, where: { namespace?: Namespace }): number | undefined {
  try {
    return lookUpRoute(address, where).ifindex
  } catch {
    return undefined
  }
}
