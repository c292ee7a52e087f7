// What decoders return: a header, or the name of what is wrong with it.

/** Every fault the decoders and `parseHeaders` report, with the sentence that explains it. */
export const PROBLEMS = {
  'short-ethernet': 'fewer than the 14 bytes of an Ethernet header',
  'short-vlan': 'the frame ends inside a VLAN tag',
  'short-arp': 'the frame ends inside the ARP packet',
  'bad-arp-type': 'ARP for something other than IPv4 over Ethernet',
  'short-ipv4': 'fewer than the 20 bytes of an IPv4 header',
  'bad-ipv4-version': 'the EtherType says IPv4, the version field does not',
  'bad-ipv4-header-length': 'the IPv4 header length is under 20 bytes or runs past the packet',
  'bad-ipv4-total-length': 'the IPv4 total length is shorter than its header',
  'bad-ipv4-option': 'an IPv4 option has an impossible length',
  'ipv4-truncated': 'the IPv4 total length runs past the packet',
  'short-ipv6': 'fewer than the 40 bytes of an IPv6 header',
  'bad-ipv6-version': 'the EtherType says IPv6, the version field does not',
  'short-ipv6-extension': 'the packet ends inside an IPv6 extension header',
  'bad-ipv6-extension-order': 'hop-by-hop options that do not directly follow the IPv6 header',
  'ipv6-truncated': 'the IPv6 payload length runs past the packet',
  'short-icmp': 'fewer than the 8 bytes of an ICMP header',
  'short-icmp6': 'fewer than the 8 bytes of an ICMPv6 header',
  'not-neighbour-discovery': 'an ICMPv6 message that is not neighbour discovery',
  'short-neighbour': 'the packet ends inside a neighbour discovery message',
  'bad-neighbour-option': 'a neighbour discovery option has length 0 or runs past the message',
  'short-udp': 'fewer than the 8 bytes of a UDP header',
  'bad-udp-length': 'the UDP length is under 8 bytes',
  'udp-truncated': 'the UDP length runs past the IP payload',
  'short-tcp': 'fewer than the 20 bytes of a TCP header',
  'bad-tcp-data-offset': 'the TCP data offset is under 20 bytes or runs past the packet',
  'bad-tcp-option': 'a TCP option has an impossible length',
} as const

export type Problem = keyof typeof PROBLEMS

/** What a decoder returns instead of a header. */
export interface Malformed {
  readonly problem: Problem
}

/** A decoded header, or what is wrong with it: `if (header.problem) ...` tells them apart. */
export type Decoded<T> = (T & { readonly problem?: undefined }) | Malformed

/** Where what a header carries begins. */
export interface PayloadStart {
  readonly payloadOffset: number
}

/** Where the payload of a header with a length field begins and ends, the end bounded by the bytes there are. */
export interface PayloadRange extends PayloadStart {
  readonly payloadEnd: number
  /** The length field asks for more bytes than there are: a short capture, or an ICMP error's quotation. */
  readonly truncated: boolean
}

export function malformed(problem: Problem): Malformed {
  return { problem }
}

/**
 * Thrown by the encoders only, for what a program (not a packet) got wrong. `code` is
 * `ERR_PACKET_ADDRESS` (text or bytes that are no such address), `ERR_PACKET_VALUE` (does not fit
 * the field) or `ERR_PACKET_ROOM` (the buffer is too small).
 */
export class PacketError extends Error {
  readonly code: 'ERR_PACKET_ADDRESS' | 'ERR_PACKET_VALUE' | 'ERR_PACKET_ROOM'

  constructor(code: PacketError['code'], message: string) {
    super(message)
    this.name = 'PacketError'
    this.code = code
  }
}
