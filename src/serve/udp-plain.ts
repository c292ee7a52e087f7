// Ordinary datagrams in aligned words: the reply to one of IPv4 (see `UdpReceiver.handle`), and the headers of one of IPv6.
import { wordSum, type Headers } from '../packet/index.js'
import { identification } from './udp-frame.js'

/** A datagram that ends within so many words of its packet is summed where it is, a longer one by the call that pays for it. */
export const INLINE_WORDS = 28

/** As `turnAround`, for an ordinary datagram, whose packet begins at the word of memory at `offset`. */
export function turnPlain(words: Int32Array, offset: number, length: number): number {
  const at = offset >>> 2
  const a = words[at]
  const b = words[at + 1]
  const c = words[at + 2]
  const d = words[at + 6]
  const e = words[at + 7]
  const f = words[at + 8]
  const g = words[at + 9]
  const id = (identification.last + 1) & 0xffff
  const addresses = (d >>> 16) + (e & 0xffff) + (e >>> 16) + (f & 0xffff)
  const udpLength = 8 + length
  const totalLength = 28 + length
  const turnedTotal = ((totalLength & 0xff) << 8) | (totalLength >>> 8)
  const turnedUdp = ((udpLength & 0xff) << 8) | (udpLength >>> 8)
  let ip = addresses + 0x0045 + turnedTotal + id + 0x1140
  ip = (ip & 0xffff) + (ip >>> 16)
  ip = (ip & 0xffff) + (ip >>> 16)
  let udp = addresses + (f >>> 16) + (g & 0xffff) + 0x1100 + turnedUdp + turnedUdp
  // Of the first word half is the old checksum.
  const h = words[at + 10]
  const end = offset + 42 + length
  const last = end >>> 2
  if (last - at > INLINE_WORDS) udp = (udp + wordSum(words, offset + 42, end)) | 0
  else {
    udp -= h & 0xffff
    for (let i = at + 10; i < last; i++) {
      const word = words[i]
      udp = (udp + (word & 0xffff) + (word >>> 16)) | 0
    }
    if ((end & 3) !== 0) {
      const word = words[last] & ~(-1 << ((end & 3) << 3))
      udp = (udp + (word & 0xffff) + (word >>> 16)) | 0
    }
  }
  udp = (udp & 0xffff) + (udp >>> 16)
  udp = (udp & 0xffff) + (udp >>> 16)
  identification.last = id
  // Twelve bytes of hardware addresses as three words, rotated by six bytes.
  words[at] = (b >>> 16) | (c << 16)
  words[at + 1] = (c >>> 16) | (a << 16)
  words[at + 2] = (a >>> 16) | (b << 16)
  // For what the fields hold see `writeIpv4`.
  words[at + 3] = 0x00450008
  words[at + 4] = turnedTotal | (id << 16)
  words[at + 5] = 0x11400000
  words[at + 6] = (~ip & 0xffff) | (e & ~0xffff)
  words[at + 7] = (f & 0xffff) | (d & ~0xffff)
  words[at + 8] = (e & 0xffff) | (g << 16)
  words[at + 9] = (f >>> 16) | (turnedUdp << 16)
  // A checksum of 0 would say that there is none, and its equal in ones' complement is sent instead.
  words[at + 10] = (h & ~0xffff) | (udp === 0xffff ? 0xffff : ~udp & 0xffff)
  return 42 + length
}

/**
 * As `parseHeaders`, for an ordinary datagram of IPv6: untagged, no extension headers, in a packet that begins with a word of memory. False,
 * with nothing read, for any other. Of `Headers` it sets what there is to know of such a one. The packet's words, little-endian:
 *
 *     3     EtherType, version and traffic class      13   end of the destination address, source port
 *     4     flow label, payload length                14   destination port, UDP length
 *     5     next header, hop limit, source address
 */
export function readPlainIpv6(words: Int32Array, offset: number, length: number, h: Headers): boolean {
  const at = offset >>> 2
  const w5 = words[at + 5]
  // ETH_P_IPV6, version 6; IPPROTO_UDP.
  if ((offset & 3) !== 0 || length < 62 || (words[at + 3] & 0xf0ffff) !== 0x60dd86 || (w5 & 0xff) !== 17)
    return false
  const w4 = words[at + 4]
  const w13 = words[at + 13]
  const w14 = words[at + 14]
  const payloadLength = ((w4 >>> 8) & 0xff00) | (w4 >>> 24)
  const udpLength = ((w14 >>> 8) & 0xff00) | (w14 >>> 24)
  if (payloadLength + 54 > length || udpLength > payloadLength || udpLength < 8) return false
  h.offset = offset
  h.outerVlan = -1
  h.l3Offset = offset + 14
  h.ipVersion = 6
  h.l4Offset = offset + 54
  h.srcPort = ((w13 >>> 8) & 0xff00) | (w13 >>> 24)
  h.dstPort = ((w14 & 0xff) << 8) | ((w14 >>> 8) & 0xff)
  h.payloadOffset = offset + 62
  h.payloadEnd = offset + 54 + udpLength
  return true
}
