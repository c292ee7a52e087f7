// Makes what a plan says: namespaces, a veth pair, addresses, static neighbours. All over netlink.
import { EADDRINUSE, EPERM } from '../kernel/errno.js'
import { existsSync } from 'node:fs'
import { KernelError, OptionError, UnsupportedError, XdpError, check } from '../kernel/errors.js'
import { getInterface, listInterfaces, setInterfaceUp, type Interface } from '../kernel/interfaces.js'
import { missingCapabilities } from '../kernel/limits.js'
import { Namespace } from '../kernel/namespace.js'
import { native } from '../kernel/native.js'
import {
  addAddress,
  createVeth,
  getFeatures,
  listAddresses,
  setFeatures,
  setLink,
  setNeighbour,
} from '../kernel/netlink/index.js'
import { type Cidr, formatCidr } from '../packet/address.js'
import {
  SUBNETS,
  addressIn,
  aliasOf,
  defaultNetworks,
  interfaceName,
  macFor,
  namespaceName,
  type EndId,
  type LabPlan,
} from './plan.js'
import { quietInterface } from './quiet.js'
import { removeLab } from './remove.js'

const AF_UNIX = 1
const SOCK_DGRAM = 2
const SMALLEST_IPV6_MTU = 1280 // RFC 8200 section 5
/** The indexes of the two ends differ: the kernel puts a change of carrier off by up to a second when they are equal (linkwatch_urgent_event). */
const OWN_INDEX: Record<EndId, number> = { a: 2, b: 3 }

interface End {
  readonly id: EndId
  readonly namespace: Namespace | undefined
  readonly name: string
  readonly mac: Uint8Array
  readonly addresses: readonly Cidr[]
}

/** Makes the lab, or nothing: what was made before an error is taken down again. */
export function buildLab(plan: LabPlan): void {
  requirePrivileges()
  const b = claimName(plan.name)
  let a: Namespace | undefined
  try {
    if (plan.isolated) a = Namespace.create(namespaceName(plan.name, 'a'))
    // Subnets are shared by what lives in the host's namespace, so one lab chooses at a time.
    if (plan.isolated) connect(plan, a, b, 1)
    else withLock(() => connect(plan, undefined, b, freeSubnet(plan)))
  } catch (error) {
    removeLab(plan.name)
    throw error
  } finally {
    a?.close()
    b.close()
  }
}

function requirePrivileges(): void {
  const missing = missingCapabilities(['CAP_SYS_ADMIN', 'CAP_NET_ADMIN'])
  if (missing.length === 0) return
  throw new KernelError('unshare', EPERM, {
    about: 'a virtual network',
    hint: `Run as root: a lab needs ${missing.join(' and ')}.`,
  })
}

// The namespace of end b is there first and goes last: as long as anything is left, the name is taken.
function claimName(lab: string): Namespace {
  try {
    return Namespace.create(namespaceName(lab, 'b'))
  } catch (error) {
    if (!(error instanceof XdpError) || error.code !== 'XDP_EXISTS') throw error
    throw new XdpError(
      'XDP_EXISTS',
      `The lab ${lab} exists already`,
      `Remove it with \`xdp lab down ${lab}\`.`,
    )
  }
}

function connect(plan: LabPlan, aNamespace: Namespace | undefined, b: Namespace, subnet: number): void {
  const own = defaultNetworks(subnet)
  const networks = [plan.ipv4 ?? own.ipv4, ...(hasIpv6(plan) ? [plan.ipv6 ?? own.ipv6] : [])]
  const describe = (id: EndId, namespace: Namespace | undefined): End => ({
    id,
    namespace,
    name: interfaceName(plan, id),
    mac: macFor(addressIn(networks[0], id)),
    addresses: networks.map((network) => addressIn(network, id)),
  })
  const ends = [describe('a', aNamespace), describe('b', b)] as const
  makePair(plan, ends)
  for (const end of ends) prepare(plan, end)
  const links = ends.map((end) => bringUp(end))
  for (const [i, end] of ends.entries()) {
    waitUntil('its link to be up', () => links[i].get().operState === 'up')
    giveAddresses(end, links[i].index)
    const peer = ends[1 - i]
    for (const { address } of peer.addresses) setNeighbour(links[i].index, { address, mac: peer.mac }, end)
  }
  waitForReports(links, networks.length > 1)
}

function hasIpv6(plan: LabPlan): boolean {
  const possible = plan.mtu >= SMALLEST_IPV6_MTU && existsSync('/proc/sys/net/ipv6')
  if (!possible && plan.ipv6 !== undefined) {
    throw new OptionError(
      'ipv6',
      'This lab cannot have IPv6',
      plan.mtu < SMALLEST_IPV6_MTU ? 'IPv6 needs an MTU of 1280 or more.' : 'This kernel runs without IPv6.',
    )
  }
  return possible
}

function makePair(plan: LabPlan, [a, b]: readonly [End, End]): void {
  const { mtu, queues } = plan
  if (!plan.isolated && listInterfaces().some(({ name }) => name === a.name)) {
    throw new XdpError(
      'XDP_EXISTS',
      `An interface named ${a.name} exists already`,
      'Give the lab another name.',
    )
  }
  // Asked from inside an end's namespace: the kernel would refuse a name that the current one has too.
  const common = { mtu, queues }
  createVeth(
    { ...common, name: a.name, mac: a.mac, ...(a.namespace ? { index: OWN_INDEX.a } : {}) },
    { ...common, name: b.name, mac: b.mac, namespace: b.namespace, index: OWN_INDEX.b },
    a,
  )
}

function prepare(plan: LabPlan, end: End): void {
  setLink(end.name, { alias: aliasOf(plan.name) }, end)
  if (end.namespace) setInterfaceUp('lo', true, end)
  if (existsSync('/proc/sys/net/ipv6')) quietInterface(end.name, end.namespace)
  const { index } = getInterface(end.name, end)
  if (plan.checksums === 'full') leaveNothingToHardware(index, end)
  if (plan.napi) {
    // GRO is what switches a veth to NAPI. Merging would change the packets a generic-mode program sees, so nothing may grow.
    setFeatures(index, { 'rx-gro': true }, end)
    setLink(index, { groMaxSize: 1 }, end)
  }
}

// What veth leaves to a device that does not exist: checksums, cutting big packets up, putting the VLAN tag in.
// Generic segmentation stays on: that is the kernel cutting packets up itself, before the device.
const OFFLOAD = /^tx-(?:checksum-.*|(?!generic).*-segmentation|gso-list|vlan-.*hw-insert)$/

function leaveNothingToHardware(index: number, end: End): void {
  const offloads = [...(getFeatures(index, end) ?? [])].filter(
    ([name, { changeable }]) => changeable && OFFLOAD.test(name),
  )
  const refused = setFeatures(index, Object.fromEntries(offloads.map(([name]) => [name, false])), end)
  if (refused?.length === 0) return
  throw new UnsupportedError(
    `This kernel cannot switch off the offloads of a veth${refused ? `: ${refused.join(', ')}` : ''}`,
    'Use the option checksums: offload, and expect partial checksums.',
  )
}

function bringUp(end: End): { index: number; get: () => Interface } {
  setInterfaceUp(end.name, true, end)
  const { index } = getInterface(end.name, end)
  return { index, get: () => getInterface(index, end) }
}

// Only once the carrier is settled: a change of carrier makes the kernel report its groups again.
function giveAddresses(end: End, index: number): void {
  for (const address of end.addresses) addAddress(index, address, end)
  const { namespace } = end
  waitUntil('its addresses to be usable', () =>
    listAddresses({ ifindex: index, namespace }).every((address) => !address.tentative),
  )
}

// Each end reports the group its IPv6 address joined, once (quiet.ts); after that the link is silent.
function waitForReports(links: readonly { get: () => Interface }[], ipv6: boolean): void {
  if (ipv6) waitUntil('', () => links.every((link) => link.get().stats.rxPackets > 0), 500)
}

// The number of default networks that are free, for a lab whose end `a` is on the host.
function freeSubnet(plan: LabPlan): number {
  const taken = listAddresses()
  const isFree = (network: Cidr) => !taken.some((address) => isWithin(address, network))
  for (const network of [plan.ipv4, plan.ipv6]) {
    if (network === undefined || isFree(network)) continue
    throw new XdpError(
      'XDP_EXISTS',
      `This machine has an address in ${formatCidr(network)} already`,
      'Name another network, or none: then a free one is chosen.',
    )
  }
  if (plan.ipv4 !== undefined && plan.ipv6 !== undefined) return 1 // of which nothing is used
  for (let number = 1; number <= SUBNETS; number++) {
    const { ipv4, ipv6 } = defaultNetworks(number)
    if (isFree(ipv4) && isFree(ipv6)) return number
  }
  throw new XdpError(
    'XDP_EXISTS',
    'Every subnet for labs is taken, 10.11.1.0/24 to 10.11.254.0/24',
    'Remove labs with `xdp lab down`, or name networks with the options ipv4 and ipv6.',
  )
}

function isWithin(address: { version: 4 | 6; address: Uint8Array }, network: Cidr): boolean {
  if (address.version !== network.version) return false
  for (let bit = 0; bit < network.prefixLength; bit++) {
    const mask = 0x80 >> (bit & 7)
    if ((address.address[bit >> 3] & mask) !== (network.address[bit >> 3] & mask)) return false
  }
  return true
}

// A name in the abstract socket space belongs to one socket a network namespace, and goes with its process.
function withLock(work: () => void): void {
  const fd = check(native.socket(AF_UNIX, SOCK_DGRAM, 0), 'socket')
  try {
    const address = new Uint8Array(16)
    address[0] = AF_UNIX
    address.set(new TextEncoder().encode('\0node-xdp-lab'), 2)
    let result = 0
    waitUntil('another lab to be finished', () => (result = native.bind(fd, address)) !== -EADDRINUSE)
    check(result, 'bind', { about: 'the lock of labs' })
    work()
  } finally {
    native.close(fd)
  }
}

/** Looks every millisecond. Throws after `timeoutMs`, unless `what` is empty: then it was only a wish. */
function waitUntil(what: string, isSo: () => boolean, timeoutMs = 10_000): void {
  const nothing = new Uint8Array(0)
  const deadline = performance.now() + timeoutMs
  while (!isSo()) {
    if (performance.now() > deadline) {
      if (what === '') return
      throw new XdpError('XDP_TIMEOUT', `The lab waited ${timeoutMs} ms in vain for ${what}`)
    }
    native.poll(nothing, 1)
  }
}
