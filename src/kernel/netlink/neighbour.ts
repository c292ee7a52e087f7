// Neighbours (ARP and ND tables) over rtnetlink.
import { ENOENT } from '../errno.js'
import { AF_INET, AF_INET6 } from './address.js'
import { concatBytes, decodeAttributes, encodeAttributes } from './codec.js'
import { KernelError } from '../errors.js'
import { NetlinkSocket, type NetlinkMessage, type NetlinkOptions } from './socket.js'

// include/uapi/linux/rtnetlink.h, include/uapi/linux/netlink.h
const RTM_NEWNEIGH = 28
const RTM_DELNEIGH = 29
const RTM_GETNEIGH = 30
const NLM_F_REPLACE = 0x100
const NLM_F_CREATE = 0x400
const NDMSG_LENGTH = 12

// include/uapi/linux/neighbour.h
const NUD_PERMANENT = 0x80
const NTF_USE = 0x01
const neighbourAttributes = { destination: [1, 'bytes'], mac: [2, 'bytes'], ifindex: [8, 'u32'] } as const
const states = {
  0x01: 'incomplete',
  0x02: 'reachable',
  0x04: 'stale',
  0x08: 'delay',
  0x10: 'probe',
  0x20: 'failed',
  0x40: 'noarp',
  0x80: 'permanent',
} as const

export type NeighbourState = (typeof states)[keyof typeof states] | 'none'

/** What the kernel knows of an address on a link. */
export interface Neighbour {
  readonly ifindex: number
  readonly version: 4 | 6
  /** 4 or 16 bytes. */
  readonly address: Uint8Array
  /** Undefined while it is being looked for. */
  readonly mac: Uint8Array | undefined
  readonly state: NeighbourState
}

/** The neighbours on one link, or on all. */
export function listNeighbours(options: NetlinkOptions & { ifindex?: number } = {}): Neighbour[] {
  const payload = concatBytes([
    header(0, 0, 0),
    encodeAttributes(neighbourAttributes, { ifindex: options.ifindex }), // Filters from 4.14 on.
  ])
  return NetlinkSocket.use('route', options, (socket) =>
    socket
      .dump({ type: RTM_GETNEIGH, name: 'RTM_GETNEIGH', payload })
      .filter((message) => message.type === RTM_NEWNEIGH)
      .map(decodeNeighbour)
      .filter((neighbour) => options.ifindex === undefined || neighbour.ifindex === options.ifindex),
  )
}

/** One neighbour, or undefined when the kernel knows none. Kernel 5.0. */
export function getNeighbour(
  ifindex: number,
  address: Uint8Array,
  options: NetlinkOptions = {},
): Neighbour | undefined {
  const payload = concatBytes([
    header(familyOf(address), ifindex, 0),
    encodeAttributes(neighbourAttributes, { destination: address }),
  ])
  try {
    return NetlinkSocket.use('route', options, (socket) => {
      const [message] = socket.request({
        type: RTM_GETNEIGH,
        name: 'RTM_GETNEIGH',
        payload,
        about: about(ifindex),
      })
      return decodeNeighbour(message)
    })
  } catch (error) {
    if (error instanceof KernelError && error.errno === ENOENT) return undefined
    throw error
  }
}

/** Sets a neighbour for good (NUD_PERMANENT): the kernel never asks for it nor forgets it. Needs CAP_NET_ADMIN. */
export function setNeighbour(
  ifindex: number,
  neighbour: { address: Uint8Array; mac: Uint8Array },
  options: NetlinkOptions = {},
): void {
  const payload = concatBytes([
    header(familyOf(neighbour.address), ifindex, NUD_PERMANENT),
    encodeAttributes(neighbourAttributes, { destination: neighbour.address, mac: neighbour.mac }),
  ])
  const flags = NLM_F_CREATE | NLM_F_REPLACE
  NetlinkSocket.use('route', options, (socket) => {
    socket.request({ type: RTM_NEWNEIGH, name: 'RTM_NEWNEIGH', flags, payload, about: about(ifindex) })
  })
}

/**
 * Tells the kernel that a neighbour is in use, as if a packet had been sent there: it looks for one that it does not know,
 * and checks one it has not heard of for a while (NTF_USE). What it finds out it announces. Needs CAP_NET_ADMIN.
 */
export function useNeighbour(ifindex: number, address: Uint8Array, options: NetlinkOptions = {}): void {
  const payload = concatBytes([
    header(familyOf(address), ifindex, 0, NTF_USE),
    encodeAttributes(neighbourAttributes, { destination: address }),
  ])
  NetlinkSocket.use('route', options, (socket) => {
    const name = 'RTM_NEWNEIGH'
    socket.request({ type: RTM_NEWNEIGH, name, flags: NLM_F_CREATE, payload, about: about(ifindex) })
  })
}

/** What an announcement of the kernel says of a neighbour; undefined when it is about something else. */
export function readNeighbourChange(
  message: NetlinkMessage,
): { neighbour: Neighbour; gone: boolean } | undefined {
  if (message.type !== RTM_NEWNEIGH && message.type !== RTM_DELNEIGH) return undefined
  return { neighbour: decodeNeighbour(message), gone: message.type === RTM_DELNEIGH }
}

/** Forgets a neighbour. Throws `KernelError` ENOENT when there is none. Needs CAP_NET_ADMIN. */
export function deleteNeighbour(ifindex: number, address: Uint8Array, options: NetlinkOptions = {}): void {
  const payload = concatBytes([
    header(familyOf(address), ifindex, 0),
    encodeAttributes(neighbourAttributes, { destination: address }),
  ])
  NetlinkSocket.use('route', options, (socket) => {
    socket.request({ type: RTM_DELNEIGH, name: 'RTM_DELNEIGH', payload, about: about(ifindex) })
  })
}

const familyOf = (address: Uint8Array): number => (address.length === 4 ? AF_INET : AF_INET6)
const about = (ifindex: number): string => `neighbour on interface index ${ifindex}`

// struct ndmsg
function header(family: number, ifindex: number, state: number, flags = 0): Uint8Array {
  const view = new DataView(new ArrayBuffer(NDMSG_LENGTH))
  view.setUint8(0, family)
  view.setInt32(4, ifindex, true)
  view.setUint16(8, state, true)
  view.setUint8(10, flags)
  return new Uint8Array(view.buffer)
}

function decodeNeighbour(message: NetlinkMessage): Neighbour {
  const { payload } = message
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength)
  const attributes = decodeAttributes(neighbourAttributes, payload.subarray(NDMSG_LENGTH))
  return {
    ifindex: view.getInt32(4, true),
    version: view.getUint8(0) === AF_INET6 ? 6 : 4,
    address: attributes.destination ?? new Uint8Array(0),
    mac: attributes.mac,
    state: states[view.getUint16(8, true) as keyof typeof states] ?? 'none',
  }
}
