// What a lab is to look like: its options checked, its names and addresses chosen.
import { OptionError } from '../kernel/errors.js'
import { parseCidr, type Cidr } from '../packet/address.js'

/** What to make. Everything has a default. */
export interface LabOptions {
  /** 1 to 15 letters, digits, `_`, `.`, `-`. Default: one nobody has. */
  name?: string | undefined
  /**
   * True (default): both ends in namespaces of their own, nothing to be seen outside. False: end `a` is
   * an interface of the current namespace, called as the lab is.
   */
  isolated?: boolean | undefined
  /** RX and TX queues of each end; default 1. The same on both, as native XDP on a veth demands. */
  queues?: number | undefined
  /** Default 1500. A native XDP program without fragments support needs about 3500 or less. */
  mtu?: number | undefined
  /** The IPv4 network; end `a` gets its first address, `b` its second. Default: a free `10.11.N.0/24`. */
  ipv4?: string | undefined
  /** The IPv6 network likewise. Default: `fc00:dead:cafe:N::/64`. */
  ipv6?: string | undefined
  /**
   * `full` (default): frames cross the link with their checksums filled in, cut to the MTU and with their
   * VLAN tag in them, as on a wire. `offload`: as veth does by itself, with checksums left to a device
   * that does not exist and packets of up to 64 KiB.
   */
  checksums?: 'full' | 'offload' | undefined
  /**
   * Receive by NAPI on both ends even without an XDP program; default true. On a veth, `XDP_TX`, a
   * redirect to a device and live frames reach the other end only if that one has NAPI (veth_xdp_xmit
   * in drivers/net/veth.c).
   */
  napi?: boolean | undefined
}

/** The options with everything decided but the subnet's number. */
export interface LabPlan {
  readonly name: string
  readonly isolated: boolean
  readonly queues: number
  readonly mtu: number
  /** Undefined: a free one. */
  readonly ipv4: Cidr | undefined
  readonly ipv6: Cidr | undefined
  readonly checksums: 'full' | 'offload'
  readonly napi: boolean
}

/** The ends of a lab. `a` is the one under test, or the host's. */
export type EndId = 'a' | 'b'

/** How many subnets of its own a machine has for labs: N of `10.11.N.0/24`. */
export const SUBNETS = 254

const NAME = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,14}$/
const NAMESPACE = /^xdp-(.+)-([ab])$/

/** Throws `OptionError` named after the option at fault. */
export function planLab(options: LabOptions): LabPlan {
  const { queues = 1, mtu = 1500, checksums = 'full' } = options
  const name = options.name ?? `lab${process.pid.toString(36)}${Math.random().toString(36).slice(2, 6)}`
  checkLabName(name)
  if (!Number.isInteger(queues) || queues < 1 || queues > 4096) {
    throw new OptionError('queues', `A lab cannot have ${queues} queues`, 'Use 1 to 4096.')
  }
  if (!Number.isInteger(mtu) || mtu < 68 || mtu > 65535) {
    throw new OptionError(
      'mtu',
      `A lab cannot have an MTU of ${mtu}`,
      'Use 68 to 65535 bytes; IPv6 needs 1280.',
    )
  }
  if (checksums !== 'full' && checksums !== 'offload') {
    throw new OptionError(
      'checksums',
      `"${String(checksums)}" is no way to do checksums`,
      'Use full or offload.',
    )
  }
  return {
    name,
    isolated: options.isolated ?? true,
    queues,
    mtu,
    ipv4: options.ipv4 === undefined ? undefined : network('ipv4', options.ipv4, 4, 30),
    ipv6: options.ipv6 === undefined ? undefined : network('ipv6', options.ipv6, 6, 126),
    checksums,
    napi: options.napi ?? true,
  }
}

/** Throws `OptionError`. */
export function checkLabName(name: string): void {
  if (NAME.test(name)) return
  throw new OptionError(
    'name',
    `"${name}" is no name for a lab`,
    'Use 1 to 15 letters, digits, dots, dashes or underscores, the first a letter or digit.',
  )
}

function network(option: 'ipv4' | 'ipv6', text: string, version: 4 | 6, longest: number): Cidr {
  const cidr = parseCidr(text)
  if (cidr?.version === version && cidr.prefixLength <= longest) return cidr
  const example = version === 4 ? '10.11.1.0/24' : 'fc00:dead:cafe:1::/64'
  throw new OptionError(
    option,
    `"${text}" is no IPv${version} network with room for two ends`,
    `Write it as ${example}, with a prefix of at most ${longest}.`,
  )
}

/** The default networks of subnet `number`, 1 to `SUBNETS`. */
export function defaultNetworks(number: number): { ipv4: Cidr; ipv6: Cidr } {
  return {
    ipv4: network('ipv4', `10.11.${number}.0/24`, 4, 24),
    ipv6: network('ipv6', `fc00:dead:cafe:${number.toString(16)}::/64`, 6, 64),
  }
}

/** An end's address in a network: the first for `a`, the second for `b`. */
export function addressIn(network: Cidr, end: EndId): Cidr {
  const address = network.address.slice()
  for (let bit = network.prefixLength; bit < address.length * 8; bit++)
    address[bit >> 3] &= ~(0x80 >> (bit & 7))
  address[address.length - 1] |= end === 'a' ? 1 : 2
  return { ...network, address }
}

/** A locally administered MAC address that shows the IPv4 address it belongs to: `02:00:0a:0b:01:02`. */
export function macFor(ipv4: Cidr): Uint8Array {
  return Uint8Array.of(0x02, 0x00, ...ipv4.address)
}

/** The namespace an end has in a lab of this name. */
export const namespaceName = (lab: string, end: EndId): string => `xdp-${lab}-${end}`

/** Which lab and end a namespace belongs to; undefined for other namespaces. */
export function parseNamespaceName(name: string): { lab: string; end: EndId } | undefined {
  const match = NAMESPACE.exec(name)
  return match && NAME.test(match[1]) ? { lab: match[1], end: match[2] as EndId } : undefined
}

/** The alias on a lab's links, by which a host end is known after a crash. */
export const aliasOf = (lab: string): string => `node-xdp lab ${lab}`

/** Whether an interface with this alias is the end of a lab. */
export const isLabAlias = (alias: string | undefined): boolean => alias?.startsWith(aliasOf('')) ?? false

/** An end's interface. */
export function interfaceName(plan: { name: string; isolated: boolean }, end: EndId): string {
  return end === 'a' && !plan.isolated ? plan.name : `veth-${end}`
}
