// One pass over a frame that records where everything is: the hot path's dissector, which allocates nothing.
//
// The field offsets are written as numbers here, with their names beside them: V8 of Node 20 does not fold an
// imported constant, which made this pass half as slow again. The tests hold it to the decoders of the other
// files, header by header.
import { viewOf } from './bytes.js'
import type { Problem } from './problem.js'

/**
 * What `parseHeaders` found. Make one and reuse it. Offsets count from the start of the array, not of the
 * packet; what is not there is -1. Addresses are not copied: read them at `l3Offset`.
 */
export class Headers {
  /** The first thing wrong, or `none`. What was recorded before it holds; see `parseHeaders`. */
  problem: Problem | 'none' = 'none'
  /** Where the packet begins, and the byte after its last (Ethernet padding included). */
  offset = 0
  end = 0
  /** What follows Ethernet and VLAN tags; under 0x600 the length of an 802.3 frame. */
  etherType = -1
  vlanCount = 0
  /** VLAN id of the first tag, and of the last when there are at least two. */
  outerVlan = -1
  innerVlan = -1
  /** Where Ethernet and VLAN tags end. */
  l3Offset = -1
  /** 4, 6, or 0 for what is neither. */
  ipVersion = 0
  /** The IP protocol, after IPv6 extension headers. */
  protocol = -1
  /** Part of a larger datagram: its first (which has the transport header) or a later one (which has none). */
  fragment: 'none' | 'first' | 'later' = 'none'
  /** Where the transport header begins; set for protocols not known here too, but not for a later fragment. */
  l4Offset = -1
  /** UDP and TCP ports. */
  srcPort = -1
  dstPort = -1
  /** After the last header that is known, up to where the IP and UDP lengths end it: no Ethernet padding. */
  payloadOffset = -1
  payloadEnd = -1
}

/**
 * Walks Ethernet, any VLAN tags (802.1Q, 802.1ad), ARP or IP, IPv6 extension headers (but ESP), and ICMP, ICMPv6,
 * UDP or TCP in `bytes[offset .. offset + length)`, which is cut at the end of the array, and returns `into`.
 *
 * Checksums and addresses are not judged, nor is what a transport carries. After a `...-truncated` problem the
 * walk goes on with the bytes there are, so that the start of a long packet can still be classified; after
 * any other it stops. Never throws, allocates nothing.
 */
export function parseHeaders(bytes: Uint8Array, offset: number, length: number, into: Headers): Headers {
  const end = Math.min(offset + length, bytes.length)
  // The common case in one straight piece, small enough for V8 to inline as a whole, every field written once:
  // untagged, IPv4 without options or fragments, UDP, all lengths right. Everything else takes the long way.
  if (offset >= 0 && end - offset >= 42) {
    const view = viewOf(bytes)
    const l3 = offset + 14
    const word = view.getInt32(offset + 20) // identification's end aside: flags, fragment offset, TTL, protocol
    if (view.getInt32(offset + 12) >>> 8 === 0x080045 && (word & 0x3fff00ff) === 17) {
      const l4 = l3 + 20
      const l3End = l3 + view.getUint16(offset + 16)
      const payloadEnd = l4 + view.getUint16(offset + 38)
      if (l3End <= end && payloadEnd <= l3End && payloadEnd >= l4 + 8) {
        const ports = view.getInt32(l4)
        const h = into
        h.problem = 'none'
        h.offset = offset
        h.end = end
        h.etherType = 0x0800
        h.vlanCount = 0
        h.outerVlan = -1
        h.innerVlan = -1
        h.l3Offset = l3
        h.ipVersion = 4
        h.protocol = 17
        h.fragment = 'none'
        h.l4Offset = l4
        h.srcPort = ports >>> 16
        h.dstPort = ports & 0xffff
        h.payloadOffset = l4 + 8
        h.payloadEnd = payloadEnd
        return h
      }
    }
  }
  return parseAny(bytes, offset, end, into)
}

const NOTHING = new Headers()

/**
 * The same for a packet without a link header, which begins with IPv4 or IPv6: `etherType` is what would have stood before it.
 * Not for hot paths.
 */
export function parseIpHeaders(bytes: Uint8Array, offset: number, length: number, into: Headers): Headers {
  const end = Math.min(offset + length, bytes.length)
  const h = Object.assign(into, NOTHING, { offset, end })
  if (offset < 0 || end <= offset) return stop(h, 'short-ipv4')
  h.etherType = bytes[offset] >>> 4 === 6 ? 0x86dd : 0x0800
  return parseNetwork(viewOf(bytes), offset, end, h.etherType, h)
}

function parseAny(bytes: Uint8Array, offset: number, end: number, into: Headers): Headers {
  const h = into
  h.problem = 'none'
  h.offset = offset
  h.end = end
  h.etherType = -1
  h.vlanCount = 0
  h.outerVlan = -1
  h.innerVlan = -1
  h.l3Offset = -1
  h.ipVersion = 0
  h.protocol = -1
  h.fragment = 'none'
  h.l4Offset = -1
  h.srcPort = -1
  h.dstPort = -1
  h.payloadOffset = -1
  h.payloadEnd = -1
  if (offset < 0 || end - offset < 14) return stop(h, 'short-ethernet')

  const view = viewOf(bytes)
  const etherType = view.getUint16(offset + 12)
  // The common case first and by itself: this much code V8 still inlines as a whole into the caller's loop.
  if (etherType === 0x0800) return parseIpv4(view, offset + 14, end, h)
  return parseNetwork(view, offset + 14, end, etherType, h)
}

function parseNetwork(view: DataView, at: number, end: number, etherType: number, h: Headers): Headers {
  if (etherType === 0x0800) return parseIpv4(view, at, end, h)
  if (etherType === 0x86dd) return parseIpv6(view, at, end, h)
  h.etherType = etherType
  // ETH_P_8021Q, ETH_P_8021AD
  if (etherType === 0x8100 || etherType === 0x88a8) return parseTags(view, at, end, h)
  h.l3Offset = at
  if (etherType === 0x0806) return parseArp(view, at, end, h)
  h.payloadOffset = at
  h.payloadEnd = etherType < 0x0600 ? Math.min(at + etherType, end) : end // ETH_P_802_3_MIN
  return h
}

function parseTags(view: DataView, first: number, end: number, h: Headers): Headers {
  let at = first
  let etherType = h.etherType
  while (etherType === 0x8100 || etherType === 0x88a8) {
    if (end - at < 4) {
      h.etherType = etherType
      return stop(h, 'short-vlan')
    }
    const tag = view.getInt32(at) // TCI, EtherType
    const id = (tag >>> 16) & 0x0fff
    if (h.vlanCount++ === 0) h.outerVlan = id
    else h.innerVlan = id
    etherType = tag & 0xffff
    at += 4
  }
  return parseNetwork(view, at, end, etherType, h)
}

/** Records the first problem; a truncation seen before stays. */
function stop(h: Headers, problem: Problem): Headers {
  if (h.problem === 'none') h.problem = problem
  return h
}

function parseArp(view: DataView, at: number, end: number, h: Headers): Headers {
  if (end - at < 28) return stop(h, 'short-arp')
  // Hardware type Ethernet, protocol type IPv4, 6 and 4 bytes an address.
  if (view.getInt32(at) !== 0x00010800 || view.getUint16(at + 4) !== 0x0604) return stop(h, 'bad-arp-type')
  return h
}

function parseIpv4(view: DataView, at: number, end: number, h: Headers): Headers {
  h.etherType = 0x0800
  h.l3Offset = at
  const available = end - at
  if (available < 20) return stop(h, 'short-ipv4')
  const word = view.getInt32(at) // version, header length, TOS, total length
  const headerLength = (word >>> 22) & 0x3c
  const totalLength = word & 0xffff
  if (word >>> 28 !== 4 || headerLength < 20 || headerLength > available || totalLength < headerLength) {
    return badIpv4(word, available, h)
  }
  let payloadEnd = at + totalLength
  if (totalLength > available) {
    h.problem = 'ipv4-truncated'
    payloadEnd = end
  }
  const fragmentTtlProtocol = view.getInt32(at + 6)
  const protocol = fragmentTtlProtocol & 0xff
  h.ipVersion = 4
  h.protocol = protocol
  h.payloadOffset = at + headerLength
  h.payloadEnd = payloadEnd
  // IP_MF | IP_OFFSET, then IP_OFFSET alone, in the upper half.
  if ((fragmentTtlProtocol & 0x3fff0000) !== 0) {
    h.fragment = 'first'
    if ((fragmentTtlProtocol & 0x1fff0000) !== 0) {
      h.fragment = 'later'
      return h
    }
  }
  return parseL4(view, at + headerLength, payloadEnd, protocol, h)
}

function badIpv4(word: number, available: number, h: Headers): Headers {
  const headerLength = (word >>> 22) & 0x3c
  if (word >>> 28 !== 4) return stop(h, 'bad-ipv4-version')
  if (headerLength < 20 || headerLength > available) return stop(h, 'bad-ipv4-header-length')
  return stop(h, 'bad-ipv4-total-length')
}

function parseIpv6(view: DataView, at: number, end: number, h: Headers): Headers {
  h.etherType = 0x86dd
  h.l3Offset = at
  const available = end - at
  if (available < 40) return stop(h, 'short-ipv6')
  if (view.getUint8(at) >>> 4 !== 6) return stop(h, 'bad-ipv6-version')
  const lengthNextHop = view.getInt32(at + 4) // payload length, next header, hop limit
  const payloadLength = lengthNextHop >>> 16
  const protocol = (lengthNextHop >>> 8) & 0xff
  let payloadEnd = at + 40 + payloadLength
  if (payloadEnd > end) {
    h.problem = 'ipv6-truncated'
    payloadEnd = end
  }
  h.ipVersion = 6
  h.protocol = protocol
  h.payloadOffset = at + 40
  h.payloadEnd = payloadEnd
  if (protocol === 6 || protocol === 17 || protocol === 58) {
    return parseL4(view, at + 40, payloadEnd, protocol, h)
  }
  return parseExtensions(view, at + 40, payloadEnd, h)
}

/** Steps over IPv6 extension headers: bounded by the packet, for each takes at least 8 bytes. */
function parseExtensions(view: DataView, first: number, end: number, h: Headers): Headers {
  let protocol = h.protocol
  let at = first
  // IPPROTO_HOPOPTS, _ROUTING, _FRAGMENT, _AH, _DSTOPTS
  while (protocol === 0 || protocol === 43 || protocol === 44 || protocol === 51 || protocol === 60) {
    // RFC 8200 section 4.1: hop-by-hop options stand directly after the IPv6 header or nowhere.
    if (protocol === 0 && at !== first) return stop(h, 'bad-ipv6-extension-order')
    if (end - at < 8) return stop(h, 'short-ipv6-extension')
    const word = view.getInt32(at) // next header, length; a fragment's offset and flags
    const units = (word >>> 16) & 0xff
    const length = protocol === 44 ? 8 : protocol === 51 ? (units + 2) << 2 : (units + 1) << 3
    if (length > end - at) return stop(h, 'short-ipv6-extension')
    // Neither offset (IP6_OFFSET) nor more (IP6_MF): an atomic fragment, which is a whole datagram (RFC 6946).
    if (protocol === 44 && (word & 0xfff9) !== 0) h.fragment = (word & 0xfff8) === 0 ? 'first' : 'later'
    protocol = word >>> 24
    at += length
    h.protocol = protocol
    h.payloadOffset = at
    if (h.fragment === 'later') return h
  }
  return protocol === 59 ? h : parseL4(view, at, end, protocol, h) // IPPROTO_NONE
}

function parseL4(view: DataView, at: number, end: number, protocol: number, h: Headers): Headers {
  h.l4Offset = at
  if (protocol === 17) return parseUdp(view, at, end, h)
  if (protocol === 6) return parseTcp(view, at, end, h)
  // Each ICMP belongs to its own version of IP; under the other it is an unknown protocol.
  return protocol === (h.ipVersion === 4 ? 1 : 58) ? parseIcmp(at, end, protocol, h) : h
}

function parseUdp(view: DataView, at: number, end: number, h: Headers): Headers {
  const available = end - at
  if (available < 8) return stop(h, 'short-udp')
  const ports = view.getInt32(at)
  const length = view.getUint16(at + 4)
  h.srcPort = ports >>> 16
  h.dstPort = ports & 0xffff
  if (length < 8) return stop(h, 'bad-udp-length')
  h.payloadOffset = at + 8
  if (length > available) return longUdp(h)
  h.payloadEnd = at + length
  return h
}

function longUdp(h: Headers): Headers {
  // The first fragment carries the length of the whole datagram.
  return h.fragment === 'none' ? stop(h, 'udp-truncated') : h
}

function parseIcmp(at: number, end: number, protocol: number, h: Headers): Headers {
  if (end - at < 8) return stop(h, protocol === 1 ? 'short-icmp' : 'short-icmp6')
  h.payloadOffset = at + 8
  return h
}

function parseTcp(view: DataView, at: number, end: number, h: Headers): Headers {
  const available = end - at
  if (available < 20) return stop(h, 'short-tcp')
  const ports = view.getInt32(at)
  h.srcPort = ports >>> 16
  h.dstPort = ports & 0xffff
  const headerLength = (view.getUint8(at + 12) >>> 4) << 2
  if (headerLength < 20 || headerLength > available) return stop(h, 'bad-tcp-data-offset')
  h.payloadOffset = at + headerLength
  return h
}
