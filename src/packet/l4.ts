// Checksums of what IP carries (ICMP, ICMPv6, UDP, TCP), pseudo-headers included.
import { getU16, setU16 } from './bytes.js'
import { checksum, onesSum, udpWireChecksum } from './checksum.js'
import { ICMP_AT, ICMP_HLEN } from './icmp.js'
import { IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_TCP, IPPROTO_UDP } from './ipproto.js'
import { IPV4_AT } from './ipv4.js'
import { IPV6_AT } from './ipv6.js'
import { TCP_AT, TCP_HLEN } from './tcp.js'
import { UDP_AT, UDP_HLEN } from './udp.js'

/**
 * The sum of the pseudo-header (RFC 793, RFC 8200 section 8.1) of `length` bytes of `protocol` under the IPv4
 * or IPv6 header at `l3Offset`, as `initial` for `checksum`. Under an IPv6 routing header it is right at the
 * final destination, where the header's own destination is the one summed.
 */
export function pseudoHeaderSum(
  bytes: Uint8Array,
  l3Offset: number,
  protocol: number,
  length: number,
): number {
  return bytes[l3Offset] >>> 4 === 4
    ? onesSum(bytes, l3Offset + IPV4_AT.src, 8, protocol + length)
    : onesSum(bytes, l3Offset + IPV6_AT.src, 32, protocol + length)
}

/** Where the checksum lies in the header of `protocol`, or -1 if the header at hand is no such or too short. */
function checksumField(protocol: number, length: number): number {
  switch (protocol) {
    case IPPROTO_ICMP:
    case IPPROTO_ICMPV6:
      return length < ICMP_HLEN ? -1 : ICMP_AT.checksum
    case IPPROTO_UDP:
      return length < UDP_HLEN ? -1 : UDP_AT.checksum
    case IPPROTO_TCP:
      return length < TCP_HLEN ? -1 : TCP_AT.checksum
    default:
      return -1
  }
}

function compute(
  bytes: Uint8Array,
  protocol: number,
  l3Offset: number,
  l4Offset: number,
  end: number,
): number {
  const length = end - l4Offset
  // ICMP alone has no pseudo-header (RFC 792).
  const initial = protocol === IPPROTO_ICMP ? 0 : pseudoHeaderSum(bytes, l3Offset, protocol, length)
  return checksum(bytes, l4Offset, length, initial)
}

/**
 * Computes and stores the checksum of the ICMP, ICMPv6, UDP or TCP message in `[l4Offset, end)`, over the whole
 * of it. False, and nothing written, for other protocols or a message shorter than its header.
 */
export function setL4Checksum(
  bytes: Uint8Array,
  protocol: number,
  l3Offset: number,
  l4Offset: number,
  end: number,
): boolean {
  const field = checksumField(protocol, end - l4Offset)
  if (field < 0) return false
  setU16(bytes, l4Offset + field, 0)
  const computed = compute(bytes, protocol, l3Offset, l4Offset, end)
  setU16(bytes, l4Offset + field, protocol === IPPROTO_UDP ? udpWireChecksum(computed) : computed)
  return true
}

/**
 * Judges the checksum of the message in `[l4Offset, end)`: `absent` is UDP's 0 over IPv4, `unknown` a protocol
 * without a checksum known here or a message shorter than its header. Not for fragments, whose checksum covers
 * the whole; and a packet fresh from a local sender may await its checksum from the device (offload).
 */
export function checkL4Checksum(
  bytes: Uint8Array,
  protocol: number,
  l3Offset: number,
  l4Offset: number,
  end: number,
): 'valid' | 'invalid' | 'absent' | 'unknown' {
  const field = checksumField(protocol, end - l4Offset)
  if (field < 0) return 'unknown'
  if (protocol === IPPROTO_UDP && getU16(bytes, l4Offset + field) === 0) {
    return bytes[l3Offset] >>> 4 === 4 ? 'absent' : 'invalid'
  }
  return compute(bytes, protocol, l3Offset, l4Offset, end) === 0 ? 'valid' : 'invalid'
}
