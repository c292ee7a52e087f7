// Routes over rtnetlink: which way a packet would take, and the default routes.
import { AF_INET, AF_INET6 } from './address.js'
import { concatBytes, decodeAttributes, encodeAttributes, nested } from './codec.js'
import { NetlinkSocket, type NetlinkMessage, type NetlinkOptions } from './socket.js'

// include/uapi/linux/rtnetlink.h
const RTM_NEWROUTE = 24
const RTM_GETROUTE = 26
const RTMSG_LENGTH = 12
const RT_TABLE_MAIN = 254
const RTM_F_LOOKUP_TABLE = 0x1000
const RTM_F_CLONED = 0x200
const RTNEXTHOP_LENGTH = 8
const routeAttributes = {
  destination: [1, 'bytes'],
  interfaceIndex: [4, 'u32'],
  gateway: [5, 'bytes'],
  metric: [6, 'u32'],
  source: [7, 'bytes'],
  metrics: [8, nested({ mtu: [2, 'u32'], advertisedMss: [8, 'u32'], hopLimit: [10, 'u32'] })],
  nextHops: [9, 'bytes'],
  table: [15, 'u32'],
  via: [18, 'bytes'],
} as const

const types = [
  'unspecified',
  'unicast',
  'local',
  'broadcast',
  'anycast',
  'multicast',
  'blackhole',
  'unreachable',
  'prohibit',
] as const

/** A route, or the answer to a look-up. Addresses are bytes, 4 or 16. */
export interface Route {
  readonly version: 4 | 6
  readonly type: (typeof types)[number] | 'other'
  /** Undefined for the default route. */
  readonly destination: Uint8Array | undefined
  readonly prefixLength: number
  /** The interface packets leave by; the first one of a multipath route. Undefined for one that refuses. */
  readonly ifindex: number | undefined
  /** Where packets are handed on; undefined when the destination is on the link. May be IPv6 for an IPv4 route. */
  readonly gateway: Uint8Array | undefined
  /** The address packets are sent from, where the route or the kernel chose one. */
  readonly source: Uint8Array | undefined
  /** Priority: the lower wins. */
  readonly metric: number
  readonly table: number
  /** Set on the route itself, not the device's: bytes. */
  readonly mtu: number | undefined
  readonly advertisedMss: number | undefined
  readonly hopLimit: number | undefined
}

/**
 * Asks the kernel which way a packet to `destination` (4 or 16 bytes) would take. Throws `KernelError`
 * ENETUNREACH when there is none. A local address answers with type `local` and the loopback interface.
 */
export function lookUpRoute(
  destination: Uint8Array,
  options: NetlinkOptions & { source?: Uint8Array; ifindex?: number } = {},
): Route {
  const bits = destination.length * 8
  const sourceBits = (options.source?.length ?? 0) * 8
  // IPv4 answers with the main table unless told to; IPv6 always names the table and refuses the flag.
  const [family, flags] = destination.length === 4 ? [AF_INET, RTM_F_LOOKUP_TABLE] : [AF_INET6, 0]
  const table = { ...routeAttributes, from: [2, 'bytes'] } as const
  const payload = concatBytes([
    header(family, bits, sourceBits, flags),
    encodeAttributes(table, { destination, from: options.source, interfaceIndex: options.ifindex }),
  ])
  return NetlinkSocket.use('route', options, (socket) => {
    const [message] = socket.request({ type: RTM_GETROUTE, name: 'RTM_GETROUTE', payload })
    return decodeRoute(message)
  })
}

/** The default routes of the main table, the preferred one first within each version. */
export function listDefaultRoutes(options: NetlinkOptions & { version?: 4 | 6 } = {}): Route[] {
  const versions = options.version === undefined ? ([4, 6] as const) : [options.version]
  return NetlinkSocket.use('route', options, (socket) =>
    versions.flatMap((version) =>
      socket
        .dump({
          type: RTM_GETROUTE,
          name: 'RTM_GETROUTE',
          payload: header(version === 4 ? AF_INET : AF_INET6, 0, 0, 0),
        })
        .filter((message) => message.type === RTM_NEWROUTE && !isCached(message))
        .map(decodeRoute)
        .filter(
          (route) => route.prefixLength === 0 && route.table === RT_TABLE_MAIN && route.type === 'unicast',
        )
        .sort((a, b) => a.metric - b.metric),
    ),
  )
}

// struct rtmsg
function header(family: number, destinationBits: number, sourceBits: number, flags: number): Uint8Array {
  const view = new DataView(new ArrayBuffer(RTMSG_LENGTH))
  view.setUint8(0, family)
  view.setUint8(1, destinationBits)
  view.setUint8(2, sourceBits)
  view.setUint32(8, flags, true)
  return new Uint8Array(view.buffer)
}

function isCached({ payload }: NetlinkMessage): boolean {
  return (new DataView(payload.buffer, payload.byteOffset).getUint32(8, true) & RTM_F_CLONED) !== 0
}

function decodeRoute(message: NetlinkMessage): Route {
  const { payload } = message
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength)
  const attributes = decodeAttributes(routeAttributes, payload.subarray(RTMSG_LENGTH))
  const hop = firstNextHop(attributes.nextHops)
  return {
    version: view.getUint8(0) === AF_INET6 ? 6 : 4,
    type: types[view.getUint8(7)] ?? 'other',
    destination: attributes.destination,
    prefixLength: view.getUint8(1),
    ifindex: attributes.interfaceIndex ?? hop?.ifindex,
    gateway: gatewayOf(attributes) ?? hop?.gateway,
    source: attributes.source,
    metric: attributes.metric ?? 0,
    table: attributes.table ?? view.getUint8(4),
    mtu: attributes.metrics?.mtu,
    advertisedMss: attributes.metrics?.advertisedMss,
    hopLimit: attributes.metrics?.hopLimit,
  }
}

// struct rtvia: a family in two bytes, then the address (an IPv6 gateway of an IPv4 route).
function gatewayOf(attributes: {
  gateway?: Uint8Array | undefined
  via?: Uint8Array | undefined
}): Uint8Array | undefined {
  return attributes.gateway ?? attributes.via?.subarray(2)
}

// struct rtnexthop, attributes after it
function firstNextHop(
  bytes: Uint8Array | undefined,
): { ifindex: number; gateway: Uint8Array | undefined } | undefined {
  if (bytes === undefined || bytes.length < RTNEXTHOP_LENGTH) return undefined
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const attributes = decodeAttributes(
    routeAttributes,
    bytes.subarray(RTNEXTHOP_LENGTH, view.getUint16(0, true)),
  )
  return { ifindex: view.getInt32(4, true), gateway: gatewayOf(attributes) }
}
