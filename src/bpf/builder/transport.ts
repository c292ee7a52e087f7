// Transport headers as cursors: UDP, TCP, ICMP.
import { ICMP_AT, ICMP_HLEN } from '../../packet/icmp.js'
import { TCP_AT, TCP_HLEN } from '../../packet/tcp.js'
import { UDP_AT, UDP_HLEN } from '../../packet/udp.js'
import { Header, needAt } from './header.js'
import { Bytes, type Field, type Place, further, movedBy, startOf } from './memory.js'
import { oneStatement, programError } from './location.js'
import { type Condition, Value } from './value.js'

/** How to find what a packet carries. */
export interface TransportOptions {
  /**
   * What becomes of fragments, of which only the first carries a transport header.
   *
   * - `first` (the default): it is looked at as a whole packet; later ones end the program with its `otherwise`.
   * - `later`: later ones are let through too. Test `isLater`: what they carry has no header.
   * - `any`: all are let through, and all count as alike, the protocol being what IPv4's or the fragment header says. Test
   *   `isFragment`: what they carry is not looked for.
   */
  fragments?: 'first' | 'later' | 'any'
}

/** What an IP header carries: a protocol, and the place its header is at. */
export class Transport {
  /** The IP protocol, behind IPv6 extension headers. */
  readonly protocol: Value<'u8'>
  readonly #place: Place
  readonly #fragments: { readonly later?: Condition; readonly any?: Condition }

  constructor(
    place: Place,
    protocol: Value<'u8'>,
    fragments: { readonly later?: Condition; readonly any?: Condition } = {},
  ) {
    this.#place = place
    this.protocol = protocol
    this.#fragments = fragments
  }

  /** Whether the packet is a part of a larger datagram, the first included. For those found with `fragments: 'any'`. */
  get isFragment(): Condition {
    return this.#asked('any')
  }

  /** Whether the packet is a part of a larger datagram and not its first. For those found with `fragments: 'later'`. */
  get isLater(): Condition {
    return this.#asked('later')
  }

  /** Where it begins, counted from the packet's first byte: for `packet.bytesAt`, where ways of finding it come together. */
  get offset(): Value<'u32'> {
    return offsetOf(this.#place)
  }

  #asked(fragments: 'later' | 'any'): Condition {
    const condition = this.#fragments[fragments]
    if (condition) return condition
    const asked = `transport({ fragments: '${fragments}' })`
    throw programError('fragments', `What it carries was not found with ${asked}`, `Ask for ${asked}.`)
  }

  /** The UDP header. The protocol is for you to test first. */
  udp(): Udp {
    needAt(this.#place, UDP_HLEN)
    return new Udp(this.#place)
  }
  /** The TCP header. The protocol is for you to test first. */
  tcp(): Tcp {
    needAt(this.#place, TCP_HLEN)
    return new Tcp(this.#place)
  }
  /** The ICMP or ICMPv6 header. The protocol is for you to test first. */
  icmp(): Icmp {
    needAt(this.#place, ICMP_HLEN)
    return new Icmp(this.#place)
  }
  /** The two ports that UDP and TCP begin with. The protocol is for you to test first. */
  ports(): Ports {
    needAt(this.#place, 4)
    return new Ports(this.#place)
  }
}

/** `length` bytes at `at` of what a place begins; ends the program with `otherwise` where they are not in the packet. */
function bytesBehind(place: Place, at: number, length: number): Bytes {
  needAt(place, at + length)
  return new Bytes(further(place, at), length)
}

const offsetOf = (place: Place): Value<'u32'> => new Value(place.tracer, 'u32', startOf(place))

/** The first four bytes of UDP and TCP. */
export class Ports extends Header {
  get srcPort(): Field<'be16'> {
    return this.field(UDP_AT.srcPort, 'be16')
  }
  get dstPort(): Field<'be16'> {
    return this.field(UDP_AT.dstPort, 'be16')
  }
}

export class Udp extends Ports {
  get length(): Field<'be16'> {
    return this.field(UDP_AT.length, 'be16')
  }
  /** 0 says that the sender computed none. */
  get checksum(): Field<'be16'> {
    return this.field(UDP_AT.checksum, 'be16')
  }
  /**
   * `length` bytes at `at` of what follows the header. Where the packet is too short for them the program ends with `otherwise`;
   * where the datagram ends, which may be sooner (padding), says `length`.
   */
  payload(at: number, length: number): Bytes {
    return bytesBehind(further(this.place, UDP_HLEN), at, length)
  }
  /** Where the payload begins, counted from the packet's first byte: for `packet.bytesAt` and `x.loadBytes`. */
  get payloadOffset(): Value<'u32'> {
    return offsetOf(further(this.place, UDP_HLEN))
  }
}

export class Tcp extends Ports {
  get sequence(): Field<'be32'> {
    return this.field(TCP_AT.sequence, 'be32')
  }
  get acknowledgment(): Field<'be32'> {
    return this.field(TCP_AT.acknowledgment, 'be32')
  }
  /** FIN 1, SYN 2, RST 4, PSH 8, ACK 16, URG 32. */
  get flags(): Field<'u8'> {
    return this.field(TCP_AT.flags, 'u8')
  }
  get window(): Field<'be16'> {
    return this.field(TCP_AT.window, 'be16')
  }
  get checksum(): Field<'be16'> {
    return this.field(TCP_AT.checksum, 'be16')
  }
  /** Counts from the sequence number; means something with URG only. */
  get urgentPointer(): Field<'be16'> {
    return this.field(TCP_AT.urgentPointer, 'be16')
  }
  /** Bytes of the header, options included: 20 to 60; less where it is malformed. */
  get headerLength(): Value<'u32'> {
    return this.field(TCP_AT.offsetFlags, 'u8').u32().shr(4).shl(2)
  }
  /**
   * `length` bytes at `at` of what follows the header and its options. Where the packet is too short for them, or the header says
   * that it is shorter than 20 bytes, the program ends with `otherwise`; where the segment ends, which may be sooner (padding),
   * says the IP header.
   */
  payload(at: number, length: number): Bytes {
    return oneStatement(() => bytesBehind(this.#payload, at, length))
  }
  /**
   * Where the payload begins, counted from the packet's first byte: for `packet.bytesAt` and `x.loadBytes`. A header that says it
   * is shorter than 20 bytes ends the program with `otherwise`.
   */
  get payloadOffset(): Value<'u32'> {
    return oneStatement(() => offsetOf(this.#payload))
  }

  get #payload(): Place {
    const { place } = this
    const { tracer } = place
    const length = this.headerLength.operand
    tracer.unless('>=', 32, length, BigInt(TCP_HLEN))
    return movedBy(place, length)
  }
}

/** ICMP and ICMPv6 alike. */
export class Icmp extends Header {
  get type(): Field<'u8'> {
    return this.field(ICMP_AT.type, 'u8')
  }
  get code(): Field<'u8'> {
    return this.field(ICMP_AT.code, 'u8')
  }
  get checksum(): Field<'be16'> {
    return this.field(ICMP_AT.checksum, 'be16')
  }
  get identifier(): Field<'be16'> {
    return this.field(ICMP_AT.identifier, 'be16')
  }
  get sequence(): Field<'be16'> {
    return this.field(ICMP_AT.sequence, 'be16')
  }
  /** `length` bytes at `at`, counted from the start of the ICMP header: what a neighbour solicitation asks for is `body(8, 16)`. */
  body(at: number, length: number): Bytes {
    this.need(this.place, at + length)
    return this.bytes(at, length)
  }
}
