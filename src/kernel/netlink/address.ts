// IP addresses of links over rtnetlink.
import { concatBytes, decodeAttributes, encodeAttributes } from './codec.js'
import { NetlinkSocket, type NetlinkMessage, type NetlinkOptions } from './socket.js'

// include/uapi/linux/rtnetlink.h, include/uapi/linux/netlink.h, include/linux/socket.h
const RTM_NEWADDR = 20
const RTM_DELADDR = 21
const RTM_GETADDR = 22
const NLM_F_EXCL = 0x200
const NLM_F_CREATE = 0x400
export const AF_INET = 2
export const AF_INET6 = 10
const IFADDRMSG_LENGTH = 8

// include/uapi/linux/if_addr.h
const IFA_F_NODAD = 0x02
const IFA_F_TENTATIVE = 0x40
const IFA_F_PERMANENT = 0x80
const addressAttributes = {
  address: [1, 'bytes'],
  local: [2, 'bytes'],
  broadcast: [4, 'bytes'],
  flags: [8, 'u32'],
} as const

/** An address with its prefix; the packet floor's `Cidr` is one, and its `formatCidr` makes text of it. */
export interface IpPrefix {
  readonly version: 4 | 6
  /** 4 or 16 bytes. */
  readonly address: Uint8Array
  readonly prefixLength: number
}

/** An address on a link. */
export interface LinkAddress extends IpPrefix {
  readonly ifindex: number
  readonly scope: 'global' | 'site' | 'link' | 'host' | 'other'
  /** Never expires. */
  readonly permanent: boolean
  /** Duplicate address detection is not over: not usable yet. */
  readonly tentative: boolean
}

const scopes: Record<number, LinkAddress['scope']> = { 0: 'global', 200: 'site', 253: 'link', 254: 'host' }

/** The addresses of one link, or of all. */
export function listAddresses(options: NetlinkOptions & { ifindex?: number } = {}): LinkAddress[] {
  return NetlinkSocket.use('route', options, (socket) =>
    socket
      .dump({ type: RTM_GETADDR, name: 'RTM_GETADDR', payload: header(0, 0, 0, options.ifindex ?? 0) })
      .filter((message) => message.type === RTM_NEWADDR)
      .map(decodeAddress)
      // The kernel filters by index from 4.20 on.
      .filter((address) => options.ifindex === undefined || address.ifindex === options.ifindex),
  )
}

/**
 * Adds a permanent address to a link, usable at once: IPv6 skips duplicate address detection. The
 * kernel adds the prefix's route. Throws `KernelError` EEXIST. Needs CAP_NET_ADMIN.
 */
export function addAddress(ifindex: number, prefix: IpPrefix, options: NetlinkOptions = {}): void {
  const flags = prefix.version === 6 ? IFA_F_NODAD | IFA_F_PERMANENT : IFA_F_PERMANENT
  const broadcast = prefix.version === 4 && prefix.prefixLength < 31 ? broadcastOf(prefix) : undefined
  const attributes = { address: prefix.address, local: prefix.address, broadcast }
  changeAddress(
    RTM_NEWADDR,
    'RTM_NEWADDR',
    NLM_F_CREATE | NLM_F_EXCL,
    ifindex,
    prefix,
    flags,
    attributes,
    options,
  )
}

/** Removes an address from a link. Throws `KernelError` EADDRNOTAVAIL when it is not there. Needs CAP_NET_ADMIN. */
export function deleteAddress(ifindex: number, prefix: IpPrefix, options: NetlinkOptions = {}): void {
  const attributes = { address: prefix.address, local: prefix.address }
  changeAddress(RTM_DELADDR, 'RTM_DELADDR', 0, ifindex, prefix, 0, attributes, options)
}

function changeAddress(
  type: number,
  name: string,
  messageFlags: number,
  ifindex: number,
  prefix: IpPrefix,
  flags: number,
  attributes: { address: Uint8Array; local: Uint8Array; broadcast?: Uint8Array | undefined },
  options: NetlinkOptions,
): void {
  const family = prefix.version === 4 ? AF_INET : AF_INET6
  const payload = concatBytes([
    header(family, prefix.prefixLength, flags, ifindex),
    encodeAttributes(addressAttributes, attributes),
  ])
  NetlinkSocket.use('route', options, (socket) => {
    socket.request({
      type,
      name,
      flags: messageFlags,
      payload,
      about: `IPv${prefix.version} on interface index ${ifindex}`,
    })
  })
}

function broadcastOf(prefix: IpPrefix): Uint8Array {
  const view = new DataView(prefix.address.slice().buffer)
  view.setUint32(0, view.getUint32(0) | (0xffffffff >>> prefix.prefixLength))
  return new Uint8Array(view.buffer)
}

// struct ifaddrmsg
function header(family: number, prefixLength: number, flags: number, ifindex: number): Uint8Array {
  const view = new DataView(new ArrayBuffer(IFADDRMSG_LENGTH))
  view.setUint8(0, family)
  view.setUint8(1, prefixLength)
  view.setUint8(2, flags)
  view.setUint32(4, ifindex, true)
  return new Uint8Array(view.buffer)
}

function decodeAddress(message: NetlinkMessage): LinkAddress {
  const { payload } = message
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength)
  const attributes = decodeAttributes(addressAttributes, payload.subarray(IFADDRMSG_LENGTH))
  const flags = attributes.flags ?? view.getUint8(2)
  return {
    version: view.getUint8(0) === AF_INET6 ? 6 : 4,
    // On a point-to-point link `address` is the other side; IPv6 has no `local` without one.
    address: attributes.local ?? attributes.address ?? new Uint8Array(0),
    prefixLength: view.getUint8(1),
    ifindex: view.getUint32(4, true),
    scope: scopes[view.getUint8(3)] ?? 'other',
    permanent: (flags & IFA_F_PERMANENT) !== 0,
    tentative: (flags & IFA_F_TENTATIVE) !== 0,
  }
}
