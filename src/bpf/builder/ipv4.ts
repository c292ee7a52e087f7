// The IPv4 header as a cursor (RFC 791).
import { IPV4_AT, IPV4_HLEN, IP_MF, IP_OFFSET } from '../../packet/ipv4.js'
import { updateChecksum } from './checksum.js'
import { Header, needAt } from './header.js'
import { oneStatement } from './location.js'
import { type Field, Field as FieldOf, type Place, further, movedBy } from './memory.js'
import { Transport, type TransportOptions } from './transport.js'
import type { Condition, Term } from './value.js'
import { Value } from './value.js'

/** Which IPv4 packets to look at; the others end the program with its `otherwise`. */
export interface Ipv4Options {
  /** Those with options too. Default true; false finds what follows at a fixed place, in fewer instructions. */
  options?: boolean
  /** Fragments too. Default true. */
  fragments?: boolean
}

export class Ipv4 extends Header {
  readonly #options: Ipv4Options

  private constructor(place: Place, options: Ipv4Options) {
    super(place)
    this.#options = options
  }

  /** Checks length, version and header length. */
  static at(place: Place, options: Ipv4Options): Ipv4 {
    const { tracer } = place
    needAt(place, IPV4_HLEN)
    const first = new FieldOf(further(place, IPV4_AT.versionLength), 'u8')
    if (options.options === false) {
      tracer.unless('==', 32, first.operand, 0x45n)
    } else {
      // Version 4 and a length of 5 to 15 words: 0x45 to 0x4f.
      tracer.unless('<=', 32, tracer.alu('sub', 32, first.operand, 0x45n), 0x0an)
    }
    const ip = new Ipv4(place, options)
    if (options.fragments === false)
      tracer.unless('!&', 32, ip.fragment.operand, ip.fragment.term(IP_MF | IP_OFFSET))
    return ip
  }

  /** DSCP and ECN. */
  get tos(): Field<'u8'> {
    return this.field(IPV4_AT.tos, 'u8')
  }
  /** Bytes of header and payload. */
  get totalLength(): Field<'be16'> {
    return this.field(IPV4_AT.totalLength, 'be16')
  }
  get identification(): Field<'be16'> {
    return this.field(IPV4_AT.identification, 'be16')
  }
  /** Flags and offset. */
  get fragment(): Field<'be16'> {
    return this.field(IPV4_AT.fragment, 'be16')
  }
  /** Whether it is a part of a larger datagram. */
  get isFragment(): Condition {
    return this.fragment.hasAny(IP_MF | IP_OFFSET)
  }
  get ttl(): Field<'u8'> {
    return this.field(IPV4_AT.ttl, 'u8')
  }
  get protocol(): Field<'u8'> {
    return this.field(IPV4_AT.protocol, 'u8')
  }
  get checksum(): Field<'be16'> {
    return this.field(IPV4_AT.checksum, 'be16')
  }
  get src(): Field<'be32'> {
    return this.field(IPV4_AT.src, 'be32')
  }
  get dst(): Field<'be32'> {
    return this.field(IPV4_AT.dst, 'be32')
  }

  /** Bytes of the header, options included: 20 to 60. */
  get headerLength(): Value<'u32'> {
    const first = this.field(IPV4_AT.versionLength, 'u8')
    return first.u32().and(0x0f).shl(2)
  }

  /** What it carries. A later fragment carries no transport header: it ends the program with `otherwise`, unless `fragments` says something else. */
  transport(options: TransportOptions = {}): Transport {
    return oneStatement(() => this.#transport(options))
  }

  #transport({ fragments = 'first' }: TransportOptions): Transport {
    const { tracer } = this.place
    if (fragments === 'first' && this.#options.fragments !== false) {
      tracer.unless('!&', 32, this.fragment.operand, this.fragment.term(IP_OFFSET))
    }
    const payload =
      this.#options.options === false
        ? further(this.place, IPV4_HLEN)
        : movedBy(this.place, this.headerLength.operand)
    switch (fragments) {
      case 'first':
        return new Transport(payload, this.protocol)
      case 'later':
        return new Transport(payload, this.protocol, { later: this.fragment.hasAny(IP_OFFSET) })
      case 'any':
        return new Transport(payload, this.protocol, { any: this.isFragment })
    }
  }

  /** Writes the source address and keeps the header's checksum right; that of UDP and TCP is for `updateChecksum`. */
  rewriteSrc(address: Term<'be32'>): void {
    oneStatement(() => this.#rewrite(this.src, address))
  }
  /** Writes the destination address; as `rewriteSrc`. */
  rewriteDst(address: Term<'be32'>): void {
    oneStatement(() => this.#rewrite(this.dst, address))
  }
  /** Takes one from the time to live and keeps the checksum right. Test it first: 0 becomes 255. */
  decrementTtl(): void {
    const { tracer } = this.place
    const checksum = this.checksum
    this.ttl.set(this.ttl.sub(1))
    // As ip_decrease_ttl() of include/net/ip.h: the TTL is the upper byte of its word, 1 in the packet's byte order, and a
    // sum of 0xffff is written as 0.
    const sum = tracer.alu('add', 32, checksum.operand, 1n)
    const carry = tracer.alu('rsh', 32, tracer.alu('add', 32, sum, 1n), 16n)
    checksum.set(new Value(tracer, 'be16', tracer.alu('and', 32, tracer.alu('add', 32, sum, carry), 0xffffn)))
  }

  #rewrite(field: Field<'be32'>, address: Term<'be32'>): void {
    const before = new Value(field.tracer, 'be32', field.operand)
    field.set(address)
    updateChecksum(this.checksum, before, new Value(field.tracer, 'be32', field.term(address)))
  }
}
