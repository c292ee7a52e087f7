// Links (network interfaces) over rtnetlink: reading them, changing them, making veth pairs.
import { closeSync, openSync } from 'node:fs'
import { OptionError } from '../errors.js'
import type { Namespace } from '../namespace.js'
import { concatBytes, decodeAttributes, encodeAttributes, nested, type Attributes } from './codec.js'
import { readLinkXdp, xdpAttributes, type LinkXdp } from './link-xdp.js'
import { NetlinkSocket, type NetlinkMessage, type NetlinkOptions } from './socket.js'

// include/uapi/linux/rtnetlink.h, include/uapi/linux/netlink.h, include/uapi/linux/if.h
const RTM_NEWLINK = 16
const RTM_DELLINK = 17
const RTM_GETLINK = 18
const RTM_SETLINK = 19
const NLM_F_EXCL = 0x200
const NLM_F_CREATE = 0x400
const IFINFOMSG_LENGTH = 16
const IFF_UP = 0x1
const IFF_LOOPBACK = 0x8
const IFF_RUNNING = 0x40
const IFNAMSIZ = 16
const ETH_P_8021Q = 0x8100
const VETH_INFO_PEER = 1
const vlanAttributes = { id: [1, 'u16'], protocol: [5, 'bytes'] } as const

// include/uapi/linux/if_link.h
const linkAttributes = {
  mac: [1, 'bytes'],
  name: [3, 'string'],
  mtu: [4, 'u32'],
  link: [5, 'u32'],
  master: [10, 'u32'],
  operState: [16, 'u8'],
  linkInfo: [18, nested({ kind: [1, 'string'], data: [2, 'bytes'] })],
  alias: [20, 'string'],
  stats: [23, 'bytes'],
  namespaceFd: [28, 'u32'],
  txQueues: [31, 'u32'],
  rxQueues: [32, 'u32'],
  carrier: [33, 'u8'],
  linkNamespaceId: [37, 's32'],
  xdp: [43, nested(xdpAttributes)],
  maxMtu: [51, 'u32'],
  otherName: [53, 'string'],
  groMaxSize: [58, 'u32'],
  groIpv4MaxSize: [64, 'u32'],
} as const

/** A device's own counters (`struct rtnl_link_stats64`), since it was made. Exact up to 2^53. */
export interface LinkStats {
  rxPackets: number
  txPackets: number
  rxBytes: number
  txBytes: number
  rxErrors: number
  txErrors: number
  rxDropped: number
  txDropped: number
  multicast: number
  /** Lost for want of room in the device's ring: unlike `rxDropped`, never what the host's stack had no use for. */
  rxMissed: number
}

// IF_OPER_* of include/uapi/linux/if.h, in the order of their numbers
const operStates = ['unknown', 'not-present', 'down', 'lower-layer-down', 'testing', 'dormant', 'up'] as const
export type OperState = (typeof operStates)[number]

/** A network interface as the kernel describes it at one moment. */
export interface Link {
  readonly index: number
  readonly name: string
  /** Free text set by an administrator (`ip link set … alias`). */
  readonly alias: string | undefined
  /** The driver's kind for virtual devices: `veth`, `bridge`, `vlan`. Undefined for hardware and loopback. */
  readonly kind: string | undefined
  readonly loopback: boolean
  /** Switched on by the administrator (IFF_UP). */
  readonly up: boolean
  /** Up and able to pass packets: the cable is in, the veth peer is up (IFF_RUNNING). */
  readonly running: boolean
  /** RFC 2863's word for it. `unknown` for devices that do not report, such as loopback. */
  readonly operState: OperState
  /** Bytes of payload above the Ethernet header. */
  readonly mtu: number
  /** 0 when the driver states no limit. */
  readonly maxMtu: number
  /** The hardware address as bytes: 6 for Ethernet, others elsewhere; `formatMac` of the packet floor makes text of it. */
  readonly mac: Uint8Array
  /** For a veth: the index of its peer, in the peer's namespace. For a VLAN: the device under it. */
  readonly peerIndex: number | undefined
  /** Of a VLAN interface: its id, and the EtherType of its tags (0x8100, or 0x88a8 for 802.1ad). */
  readonly vlan: { readonly id: number; readonly tpid: number } | undefined
  /** The id, in this namespace, of the namespace `peerIndex` counts in; undefined when it is this one. */
  readonly peerNamespaceId: number | undefined
  /** The bridge or bond it belongs to. */
  readonly masterIndex: number | undefined
  /** Queues allocated, an upper bound of those in use; `countQueues` tells more. */
  readonly rxQueues: number
  readonly txQueues: number
  readonly stats: LinkStats
  readonly xdp: LinkXdp
}

/** A link by name (also an alternative one, kernel 5.5) or index. */
export type LinkReference = string | number

/** Reads one link. Throws `KernelError` ENODEV when there is none. */
export function getLink(link: LinkReference, options: NetlinkOptions = {}): Link {
  return NetlinkSocket.use('route', options, (socket) => {
    const [message] = socket.request({
      type: RTM_GETLINK,
      name: 'RTM_GETLINK',
      payload: linkMessage(link, {}),
      about: aboutLink(link),
    })
    return decodeLink(message)
  })
}

/** Reads all links of a namespace, in the order of their index. */
export function listLinks(options: NetlinkOptions = {}): Link[] {
  return NetlinkSocket.use('route', options, (socket) =>
    socket
      .dump({ type: RTM_GETLINK, name: 'RTM_GETLINK', payload: ifInfo(0) })
      .filter((message) => message.type === RTM_NEWLINK)
      .map(decodeLink)
      .sort((a, b) => a.index - b.index),
  )
}

/** What can be changed on a link. What is left out stays. */
export interface LinkChanges {
  up?: boolean
  mtu?: number
  /** Bytes, 6 for Ethernet. */
  mac?: Uint8Array
  name?: string
  alias?: string
  /** The largest packet, in bytes, that receive offload (GRO) may merge others into; 1 merges nothing. Kernel 5.19, without effect before. */
  groMaxSize?: number
  /** Moves the link there. Its index may change, and it loses its addresses. */
  moveTo?: Namespace
}

/** Changes a link, all or (where the kernel can tell beforehand) nothing. Needs CAP_NET_ADMIN. */
export function setLink(link: LinkReference, changes: LinkChanges, options: NetlinkOptions = {}): void {
  const { up, mtu, mac, name, alias, groMaxSize, moveTo } = changes
  if (name !== undefined) checkLinkName(name)
  withDescriptor(moveTo, (namespaceFd) =>
    NetlinkSocket.use('route', options, (socket) => {
      const attributes = { mac, name, mtu, alias, namespaceFd, groMaxSize, groIpv4MaxSize: groMaxSize }
      // The name is an attribute of the request and so cannot name the device too.
      const index = typeof link === 'string' && name !== undefined ? getLink(link, options).index : link
      socket.request({
        type: RTM_SETLINK,
        name: 'RTM_SETLINK',
        payload: linkMessage(index, attributes, up),
        about: aboutLink(link),
      })
    }),
  )
}

/** Deletes a link; a veth takes its peer with it. Needs CAP_NET_ADMIN. */
export function deleteLink(link: LinkReference, options: NetlinkOptions = {}): void {
  NetlinkSocket.use('route', options, (socket) => {
    const payload = linkMessage(link, {})
    socket.request({ type: RTM_DELLINK, name: 'RTM_DELLINK', payload, about: aboutLink(link) })
  })
}

/** One end of a veth pair to be made. */
export interface VethEnd {
  name: string
  /** Its index; default: the next free one there. */
  index?: number | undefined
  /** Where the end shall be; default: where the request is made. */
  namespace?: Namespace | undefined
  mac?: Uint8Array | undefined
  mtu?: number | undefined
  /** RX and TX queues alike; default 1. A native XDP program needs as many RX queues here as the peer has TX queues. */
  queues?: number | undefined
}

/** Makes a veth pair, both ends at once and down. Throws `KernelError` EEXIST when a name is taken. Needs CAP_NET_ADMIN. */
export function createVeth(end: VethEnd, peer: VethEnd, options: NetlinkOptions = {}): void {
  checkLinkName(end.name)
  checkLinkName(peer.name)
  withDescriptor(end.namespace, (endFd) =>
    withDescriptor(peer.namespace, (peerFd) =>
      NetlinkSocket.use('route', options, (socket) => {
        const peerMessage = concatBytes([
          ifInfo(0),
          encodeAttributes(linkAttributes, vethAttributes(peer, peerFd)),
        ])
        // The peer is a whole link message, header included, inside an attribute (drivers/net/veth.c).
        const data = encodeAttributes({ peer: [VETH_INFO_PEER, 'bytes'] }, { peer: peerMessage })
        const attributes = { ...vethAttributes(end, endFd), linkInfo: { kind: 'veth', data } }
        socket.request({
          type: RTM_NEWLINK,
          name: 'RTM_NEWLINK',
          flags: NLM_F_CREATE | NLM_F_EXCL,
          payload: concatBytes([ifInfo(end.index ?? 0), encodeAttributes(linkAttributes, attributes)]),
          about: `veth pair ${end.name}, ${peer.name}`,
        })
      }),
    ),
  )
}

function vethAttributes(end: VethEnd, namespaceFd: number | undefined): Attributes<typeof linkAttributes> {
  const queues = end.queues ?? 1
  return { mac: end.mac, name: end.name, mtu: end.mtu, namespaceFd, txQueues: queues, rxQueues: queues }
}

/** Throws `OptionError` for a name the kernel would not take (dev_valid_name in net/core/dev.c). */
export function checkLinkName(name: string): void {
  const usable =
    /^[^\s/:\0]+$/.test(name) && name !== '.' && name !== '..' && Buffer.byteLength(name) < IFNAMSIZ
  if (usable) return
  throw new OptionError(
    'name',
    `"${name}" is no name for an interface`,
    'Use 1 to 15 characters, without spaces, slashes and colons.',
  )
}

/** Runs `work` with a descriptor of the namespace, or undefined for none. */
function withDescriptor<T>(namespace: Namespace | undefined, work: (fd: number | undefined) => T): T {
  if (namespace === undefined) return work(undefined)
  const fd = namespace.run(() => openSync('/proc/thread-self/ns/net', 'r'))
  try {
    return work(fd)
  } finally {
    closeSync(fd)
  }
}

export function aboutLink(link: LinkReference): string {
  return typeof link === 'string' ? link : `interface index ${link}`
}

// struct ifinfomsg
function ifInfo(index: number, up?: boolean): Uint8Array {
  const view = new DataView(new ArrayBuffer(IFINFOMSG_LENGTH))
  view.setInt32(4, index, true)
  if (up !== undefined) {
    view.setUint32(8, up ? IFF_UP : 0, true)
    view.setUint32(12, IFF_UP, true)
  }
  return new Uint8Array(view.buffer)
}

function linkMessage(
  link: LinkReference,
  attributes: Attributes<typeof linkAttributes>,
  up?: boolean,
): Uint8Array {
  if (typeof link === 'number')
    return concatBytes([ifInfo(link, up), encodeAttributes(linkAttributes, attributes)])
  const reference = Buffer.byteLength(link) < IFNAMSIZ ? { name: link } : { otherName: link }
  return concatBytes([ifInfo(0, up), encodeAttributes(linkAttributes, { ...attributes, ...reference })])
}

function decodeLink(message: NetlinkMessage): Link {
  const { payload } = message
  const header = new DataView(payload.buffer, payload.byteOffset, IFINFOMSG_LENGTH)
  const attributes = decodeAttributes(linkAttributes, payload.subarray(IFINFOMSG_LENGTH))
  const flags = header.getUint32(8, true)
  return {
    index: header.getInt32(4, true),
    name: attributes.name ?? '',
    alias: attributes.alias,
    kind: attributes.linkInfo?.kind,
    loopback: (flags & IFF_LOOPBACK) !== 0,
    up: (flags & IFF_UP) !== 0,
    running: (flags & IFF_RUNNING) !== 0,
    operState: operStates[attributes.operState ?? 0] ?? 'unknown',
    mtu: attributes.mtu ?? 0,
    maxMtu: attributes.maxMtu ?? 0,
    mac: attributes.mac ?? new Uint8Array(0),
    peerIndex: attributes.link,
    vlan: attributes.linkInfo?.kind === 'vlan' ? decodeVlan(attributes.linkInfo.data) : undefined,
    peerNamespaceId: attributes.linkNamespaceId,
    masterIndex: attributes.master,
    rxQueues: attributes.rxQueues ?? 1,
    txQueues: attributes.txQueues ?? 1,
    stats: decodeStats(attributes.stats ?? new Uint8Array(0)),
    xdp: readLinkXdp(attributes.xdp),
  }
}

function decodeVlan(data: Uint8Array | undefined): { id: number; tpid: number } | undefined {
  const { id, protocol } = decodeAttributes(vlanAttributes, data ?? new Uint8Array(0))
  // The protocol alone is in the network's byte order.
  return id === undefined
    ? undefined
    : { id, tpid: protocol ? (protocol[0] << 8) | protocol[1] : ETH_P_8021Q }
}

// struct rtnl_link_stats64
function decodeStats(bytes: Uint8Array): LinkStats {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const counter = (i: number): number =>
    bytes.length >= 8 * i + 8 ? Number(view.getBigUint64(8 * i, true)) : 0
  return {
    rxPackets: counter(0),
    txPackets: counter(1),
    rxBytes: counter(2),
    txBytes: counter(3),
    rxErrors: counter(4),
    txErrors: counter(5),
    rxDropped: counter(6),
    txDropped: counter(7),
    multicast: counter(8),
    rxMissed: counter(15),
  }
}
