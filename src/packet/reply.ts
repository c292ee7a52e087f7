// Answers made in place of their requests: echo, ARP, neighbour discovery. Nothing here allocates.
import { ARP_AT, ARPOP_REPLY, ARPOP_REQUEST } from './arp.js'
import { copyBytes, equalBytes, getU16, setU16, setU32, swapBytes, viewOf } from './bytes.js'
import { updateChecksum16 } from './checksum.js'
import { ETH_ALEN, ETH_P_ARP, ETHERNET_AT } from './ethernet.js'
import type { Headers } from './headers.js'
import {
  ICMP_AT,
  ICMP_HLEN,
  ICMP_ECHO,
  ICMP_ECHOREPLY,
  ICMPV6_ECHO_REPLY,
  ICMPV6_ECHO_REQUEST,
} from './icmp.js'
import { IPPROTO_ICMP, IPPROTO_ICMPV6 } from './ipproto.js'
import { IPDEFTTL, IPOPT_END, IPOPT_LSRR, IPOPT_NOOP, IPOPT_SSRR, IPV4_AT, IPV4_HLEN } from './ipv4.js'
import { IPV6_AT, IPV6_HLEN } from './ipv6.js'
import { checkL4Checksum, setL4Checksum } from './l4.js'
import {
  isSolicitedNode,
  LINK_LAYER_OPTION_LENGTH,
  ND_HOP_LIMIT,
  ND_NA_OVERRIDE,
  ND_NA_SOLICITED,
  ND_OPT_SOURCE_LL_ADDR,
  ND_OPT_TARGET_LL_ADDR,
  NDISC_NEIGHBOUR_ADVERTISEMENT,
  NDISC_NEIGHBOUR_SOLICITATION,
  NEIGHBOUR_AT,
  NEIGHBOUR_HLEN,
  neighbourOptionLength,
} from './neighbour.js'

/** What the replying functions return for a packet they do not answer; it is left as it was. */
export const NO_REPLY = -1

/** Exchanges the Ethernet addresses of the frame at `offset`. Assumes 12 bytes. */
export function swapMacs(bytes: Uint8Array, offset: number): void {
  const view = viewOf(bytes)
  // Twelve bytes as three little-endian words, rotated by six bytes.
  const a = view.getInt32(offset, true)
  const b = view.getInt32(offset + 4, true)
  const c = view.getInt32(offset + 8, true)
  view.setInt32(offset, (b >>> 16) | (c << 16), true)
  view.setInt32(offset + 4, (c >>> 16) | (a << 16), true)
  view.setInt32(offset + 8, (a >>> 16) | (b << 16), true)
}

/** Exchanges source and destination of the IPv4 header at `l3Offset`; every checksum over them stays right. */
export function swapIpv4Addresses(bytes: Uint8Array, l3Offset: number): void {
  swapWords(viewOf(bytes), l3Offset + 12, l3Offset + 16)
}

/** Exchanges source and destination of the IPv6 header at `l3Offset`; every checksum over them stays right. */
export function swapIpv6Addresses(bytes: Uint8Array, l3Offset: number): void {
  const view = viewOf(bytes)
  for (let i = 8; i < 24; i += 4) swapWords(view, l3Offset + i, l3Offset + i + 16)
}

function swapWords(view: DataView, a: number, b: number): void {
  const word = view.getInt32(a, true)
  view.setInt32(a, view.getInt32(b, true), true)
  view.setInt32(b, word, true)
}

/**
 * Turns an ICMP or ICMPv6 echo request into its reply: addresses swapped, type changed, TTL or hop limit 64.
 * Returns the length of what was parsed (unchanged), or `NO_REPLY`.
 *
 * `total` is the length of the whole packet when it is in several buffers, of which `bytes` has the first, with the headers: the
 * others go back as they are.
 *
 * Verifies: a whole, well-formed, unfragmented echo request, code 0, with unicast addresses at both ends of both
 * headers, no IPv4 source route and no IPv6 extension header (both would have to be turned around).
 * Other IPv4 options return as they came.
 * Assumes: `h` is `parseHeaders` of these bytes; the destination is the caller's own (a subnet's
 * directed broadcast is only known from its Ethernet address).
 *
 * The checksums are updated, not computed: a request that arrived damaged makes a reply as damaged, which
 * its receiver drops, as the kernel would have dropped the request. The update is right on packets fresh from
 * a local socket too: the kernel leaves UDP and TCP checksums to the device, those of echoes never.
 */
export function replyToEcho(bytes: Uint8Array, h: Headers, total = h.end - h.offset): number {
  if (h.fragment !== 'none' || (h.problem !== 'none' && !goesOn(bytes, h, total))) return NO_REPLY
  if (h.protocol === IPPROTO_ICMP) return h.ipVersion === 4 ? replyToEcho4(bytes, h) : NO_REPLY
  if (h.protocol === IPPROTO_ICMPV6) return h.ipVersion === 6 ? replyToEcho6(bytes, h) : NO_REPLY
  return NO_REPLY
}

/** Whether nothing is wrong but that the packet goes on, up to its end, in other buffers than the one that was parsed. */
function goesOn(bytes: Uint8Array, h: Headers, total: number): boolean {
  const l3 = h.l3Offset
  let length: number
  if (h.problem === 'ipv4-truncated') length = getU16(bytes, l3 + IPV4_AT.totalLength)
  else if (h.problem === 'ipv6-truncated') length = IPV6_HLEN + getU16(bytes, l3 + IPV6_AT.payloadLength)
  else return false
  return h.payloadEnd - h.l4Offset >= ICMP_HLEN && l3 + length <= h.offset + total
}

function replyToEcho4(bytes: Uint8Array, h: Headers): number {
  const l3 = h.l3Offset
  const l4 = h.l4Offset
  if (getU16(bytes, l4 + ICMP_AT.type) !== ICMP_ECHO << 8) return NO_REPLY
  if (!unicastMacs(bytes, h.offset)) return NO_REPLY
  if (!isUnicastIpv4(bytes, l3 + IPV4_AT.src) || !isUnicastIpv4(bytes, l3 + IPV4_AT.dst)) return NO_REPLY
  if (l4 - l3 !== IPV4_HLEN && hasSourceRoute(bytes, l3 + IPV4_AT.options, l4)) return NO_REPLY

  swapMacs(bytes, h.offset)
  swapIpv4Addresses(bytes, l3)
  const ttlProtocol = getU16(bytes, l3 + IPV4_AT.ttl)
  updateWord(bytes, l3 + IPV4_AT.checksum, l3 + IPV4_AT.ttl, (IPDEFTTL << 8) | (ttlProtocol & 0xff))
  updateWord(bytes, l4 + ICMP_AT.checksum, l4 + ICMP_AT.type, ICMP_ECHOREPLY << 8)
  return h.end - h.offset
}

function replyToEcho6(bytes: Uint8Array, h: Headers): number {
  const l3 = h.l3Offset
  const l4 = h.l4Offset
  if (l4 - l3 !== IPV6_HLEN) return NO_REPLY
  if (getU16(bytes, l4 + ICMP_AT.type) !== ICMPV6_ECHO_REQUEST << 8) return NO_REPLY
  if (!unicastMacs(bytes, h.offset)) return NO_REPLY
  if (!isUnicastIpv6(bytes, l3 + IPV6_AT.src) || !isUnicastIpv6(bytes, l3 + IPV6_AT.dst)) return NO_REPLY

  swapMacs(bytes, h.offset)
  swapIpv6Addresses(bytes, l3)
  bytes[l3 + IPV6_AT.hopLimit] = IPDEFTTL
  updateWord(bytes, l4 + ICMP_AT.checksum, l4 + ICMP_AT.type, ICMPV6_ECHO_REPLY << 8)
  return h.end - h.offset
}

/**
 * Turns an ARP request into the reply that says its target address is at `mac` (6 bytes). Returns the frame's
 * length (unchanged), or `NO_REPLY`.
 *
 * Verifies: a well-formed request for IPv4 over Ethernet from a unicast hardware address, for a unicast address
 * that is not the sender's own (that is an announcement). A probe from 0.0.0.0 is answered: it asks whether the
 * address is taken (RFC 5227).
 * Assumes: `h` is `parseHeaders` of these bytes; the target address, at `h.l3Offset + ARP_AT.targetIp`, is the
 * caller's own.
 */
export function replyToArp(bytes: Uint8Array, h: Headers, mac: Uint8Array): number {
  if (h.problem !== 'none' || h.etherType !== ETH_P_ARP) return NO_REPLY
  const arp = h.l3Offset
  if (getU16(bytes, arp + ARP_AT.operation) !== ARPOP_REQUEST) return NO_REPLY
  if (!isUnicastMac(bytes, arp + ARP_AT.senderMac)) return NO_REPLY
  if (!isUnicastIpv4(bytes, arp + ARP_AT.targetIp)) return NO_REPLY
  if (!isUnicastIpv4(bytes, arp + ARP_AT.senderIp) && !isZero(bytes, arp + ARP_AT.senderIp, 4))
    return NO_REPLY
  if (equalBytes(bytes, arp + ARP_AT.senderIp, bytes, arp + ARP_AT.targetIp, 4)) return NO_REPLY

  copyBytes(bytes, h.offset + ETHERNET_AT.dst, bytes, arp + ARP_AT.senderMac, ETH_ALEN)
  copyBytes(bytes, h.offset + ETHERNET_AT.src, mac, 0, ETH_ALEN)
  setU16(bytes, arp + ARP_AT.operation, ARPOP_REPLY)
  copyBytes(bytes, arp + ARP_AT.targetMac, bytes, arp + ARP_AT.senderMac, ETH_ALEN)
  copyBytes(bytes, arp + ARP_AT.senderMac, mac, 0, ETH_ALEN)
  swapBytes(bytes, arp + ARP_AT.senderIp, arp + ARP_AT.targetIp, 4)
  return h.end - h.offset
}

/**
 * Turns a neighbour solicitation into the advertisement that its target is at `mac` (6 bytes): solicited and
 * override, with the target's link-layer address. A duplicate address detection probe (from ::) is answered
 * to all nodes, unsolicited (RFC 4861 7.2.4). Returns the advertisement's length, or `NO_REPLY`. The length
 * may exceed the request's by up to 8 bytes, when the request had no option; `room` says how many bytes from
 * `h.offset` on may be written, and too little of it is a `NO_REPLY`.
 *
 * Verifies all of RFC 4861 7.1.1 (hop limit 255, code 0, checksum, length, options, probes only to the
 * solicited-node group and without a source link-layer option), a unicast target, a destination that is the target
 * or its solicited-node group, unicast sources.
 * Assumes: `h` is `parseHeaders` of these bytes; the target, at `h.l4Offset + NEIGHBOUR_AT.target`, is the
 * caller's own, and the caller is no router.
 */
export function replyToNeighbourSolicitation(
  bytes: Uint8Array,
  h: Headers,
  mac: Uint8Array,
  room: number,
): number {
  if (h.problem !== 'none' || h.ipVersion !== 6 || h.protocol !== IPPROTO_ICMPV6) return NO_REPLY
  const l3 = h.l3Offset
  const l4 = h.l4Offset
  const end = l4 + NEIGHBOUR_HLEN + LINK_LAYER_OPTION_LENGTH
  if (l4 - l3 !== IPV6_HLEN || end - h.offset > room || end > bytes.length) return NO_REPLY
  if (!isValidSolicitation(bytes, h)) return NO_REPLY
  const probe = isZero(bytes, l3 + IPV6_AT.src, 16)
  const link = sourceLinkLayerAt(bytes, h)
  if (probe && (link > 0 || !isMulticastIpv6(bytes, l3 + IPV6_AT.dst))) return NO_REPLY

  if (probe) copyBytes(bytes, h.offset + ETHERNET_AT.dst, ALL_NODES_MAC, 0, ETH_ALEN)
  else if (link > 0) copyBytes(bytes, h.offset + ETHERNET_AT.dst, bytes, link, ETH_ALEN)
  else copyBytes(bytes, h.offset + ETHERNET_AT.dst, bytes, h.offset + ETHERNET_AT.src, ETH_ALEN)
  copyBytes(bytes, h.offset + ETHERNET_AT.src, mac, 0, ETH_ALEN)

  setU32(bytes, l3 + IPV6_AT.versionClassFlow, 6 << 28)
  setU16(bytes, l3 + IPV6_AT.payloadLength, end - l4)
  if (probe) copyBytes(bytes, l3 + IPV6_AT.dst, ALL_NODES, 0, 16)
  else copyBytes(bytes, l3 + IPV6_AT.dst, bytes, l3 + IPV6_AT.src, 16)
  copyBytes(bytes, l3 + IPV6_AT.src, bytes, l4 + NEIGHBOUR_AT.target, 16)

  bytes[l4 + ICMP_AT.type] = NDISC_NEIGHBOUR_ADVERTISEMENT
  setU32(bytes, l4 + NEIGHBOUR_AT.flags, (ND_NA_OVERRIDE | (probe ? 0 : ND_NA_SOLICITED)) << 24)
  bytes[l4 + NEIGHBOUR_AT.options] = ND_OPT_TARGET_LL_ADDR
  bytes[l4 + NEIGHBOUR_AT.options + 1] = LINK_LAYER_OPTION_LENGTH / 8
  copyBytes(bytes, l4 + NEIGHBOUR_AT.options + 2, mac, 0, ETH_ALEN)
  setL4Checksum(bytes, IPPROTO_ICMPV6, l3, l4, end)
  return end - h.offset
}

/** RFC 4861 7.1.1, but for what depends on the options and on who asks. */
function isValidSolicitation(bytes: Uint8Array, h: Headers): boolean {
  const l3 = h.l3Offset
  const l4 = h.l4Offset
  const target = l4 + NEIGHBOUR_AT.target
  const dst = l3 + IPV6_AT.dst
  return (
    h.payloadEnd - l4 >= NEIGHBOUR_HLEN &&
    getU16(bytes, l4 + ICMP_AT.type) === NDISC_NEIGHBOUR_SOLICITATION << 8 &&
    bytes[l3 + IPV6_AT.hopLimit] === ND_HOP_LIMIT &&
    isUnicastIpv6(bytes, target) &&
    !isMulticastIpv6(bytes, l3 + IPV6_AT.src) &&
    (equalBytes(bytes, dst, bytes, target, 16) || isSolicitedNode(bytes, dst, target)) &&
    isUnicastMac(bytes, h.offset + ETHERNET_AT.src) &&
    validOptions(bytes, h) &&
    checkL4Checksum(bytes, IPPROTO_ICMPV6, l3, l4, h.payloadEnd) === 'valid'
  )
}

function validOptions(bytes: Uint8Array, h: Headers): boolean {
  for (let at = h.l4Offset + NEIGHBOUR_AT.options; at < h.payloadEnd;) {
    const length = neighbourOptionLength(bytes, at, h.payloadEnd)
    if (length < 0) return false
    // The reply goes to this address: it must be one of Ethernet, and no group.
    if (bytes[at] === ND_OPT_SOURCE_LL_ADDR) {
      if (length !== LINK_LAYER_OPTION_LENGTH || !isUnicastMac(bytes, at + 2)) return false
    }
    at += length
  }
  return true
}

/** Where the source link-layer address lies, -1 if there is none. Assumes `validOptions`. */
function sourceLinkLayerAt(bytes: Uint8Array, h: Headers): number {
  for (let at = h.l4Offset + NEIGHBOUR_AT.options; at < h.payloadEnd; at += bytes[at + 1] * 8) {
    if (bytes[at] === ND_OPT_SOURCE_LL_ADDR) return at + 2
  }
  return -1
}

const ALL_NODES = Uint8Array.of(0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1)
const ALL_NODES_MAC = Uint8Array.of(0x33, 0x33, 0, 0, 0, 1)

/** Stores a word and brings the checksum over it up to date. */
function updateWord(bytes: Uint8Array, checksumAt: number, at: number, after: number): void {
  const before = getU16(bytes, at)
  setU16(bytes, at, after)
  setU16(bytes, checksumAt, updateChecksum16(getU16(bytes, checksumAt), before, after))
}

function isZero(bytes: Uint8Array, at: number, length: number): boolean {
  for (let i = 0; i < length; i++) if (bytes[at + i] !== 0) return false
  return true
}

function isUnicastMac(bytes: Uint8Array, at: number): boolean {
  return (bytes[at] & 1) === 0
}

function unicastMacs(bytes: Uint8Array, offset: number): boolean {
  return isUnicastMac(bytes, offset + ETHERNET_AT.dst) && isUnicastMac(bytes, offset + ETHERNET_AT.src)
}

/** Not 0.0.0.0/8, 127.0.0.0/8 (both impossible on a wire), multicast, reserved or broadcast. */
function isUnicastIpv4(bytes: Uint8Array, at: number): boolean {
  const first = bytes[at]
  return first !== 0 && first !== 127 && first < 224
}

function isMulticastIpv6(bytes: Uint8Array, at: number): boolean {
  return bytes[at] === 0xff
}

/** Not multicast, :: or ::1. */
function isUnicastIpv6(bytes: Uint8Array, at: number): boolean {
  return !isMulticastIpv6(bytes, at) && !(isZero(bytes, at, 15) && bytes[at + 15] <= 1)
}

function hasSourceRoute(bytes: Uint8Array, at: number, end: number): boolean {
  while (at < end && bytes[at] !== IPOPT_END) {
    if (bytes[at] === IPOPT_LSRR || bytes[at] === IPOPT_SSRR) return true
    // A length of 0 or 1 cannot be stepped over; what cannot be read is treated as the worst.
    const length = bytes[at] === IPOPT_NOOP ? 1 : at + 1 < end ? bytes[at + 1] : 0
    if (length === 0 || (length === 1 && bytes[at] !== IPOPT_NOOP)) return true
    at += length
  }
  return false
}
