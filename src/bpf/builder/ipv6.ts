// The IPv6 header as a cursor, and the walk over its extension headers (RFC 8200).
import {
  IP6_MF,
  IP6_OFFSET,
  IPV6_AT,
  IPV6_EXTENSION_AT,
  IPV6_FRAGMENT_AT,
  IPV6_FRAGMENT_HLEN,
  IPV6_HLEN,
} from '../../packet/ipv6.js'
import {
  IPPROTO_AH,
  IPPROTO_DSTOPTS,
  IPPROTO_FRAGMENT,
  IPPROTO_HOPOPTS,
  IPPROTO_ROUTING,
} from '../../packet/ipproto.js'
import { Body } from './body.js'
import { Header, needAt, placeAt } from './header.js'
import type { Kind } from './kinds.js'
import { oneStatement } from './location.js'
import { type Bytes, Field, type Place, further, startOf } from './memory.js'
import { Transport, type TransportOptions } from './transport.js'
import { Value } from './value.js'

/**
 * The most extension headers that are stepped over, in every program. RFC 8200 (section 4.1) wants each kind once at most, and
 * destination options twice, which are six of those known here, but nodes are to take them in any number: hence some more. Each
 * is another round for the verifier.
 */
export const MAX_EXTENSIONS = 8

/** A bit for each of those that there can be. */
const EXTENSIONS = [IPPROTO_HOPOPTS, IPPROTO_ROUTING, IPPROTO_FRAGMENT, IPPROTO_AH, IPPROTO_DSTOPTS].reduce(
  (bits, header) => bits | (1n << BigInt(header)),
  0n,
)

/** Above every offset there can be: `placeAt` takes 32767 at most, and no header is longer than 2048 bytes. */
const BEYOND = 40_000

/** How to find what an IPv6 packet carries. */
export interface Ipv6TransportOptions extends TransportOptions {
  /** How many extension headers to step over at most. Default `MAX_EXTENSIONS`. */
  extensions?: number
}

export class Ipv6 extends Header {
  /** Checks length and version. */
  static at(place: Place): Ipv6 {
    const { tracer } = place
    needAt(place, IPV6_HLEN)
    const first = new Field(further(place, IPV6_AT.versionClassFlow), 'u8')
    tracer.unless('==', 32, tracer.alu('and', 32, first.operand, 0xf0n), 0x60n)
    return new Ipv6(place)
  }

  /** Bytes behind this header. */
  get payloadLength(): Field<'be16'> {
    return this.field(IPV6_AT.payloadLength, 'be16')
  }
  /** The type of what follows directly: an extension header or the transport. */
  get nextHeader(): Field<'u8'> {
    return this.field(IPV6_AT.nextHeader, 'u8')
  }
  get hopLimit(): Field<'u8'> {
    return this.field(IPV6_AT.hopLimit, 'u8')
  }
  get src(): Bytes {
    return this.bytes(IPV6_AT.src, 16)
  }
  get dst(): Bytes {
    return this.bytes(IPV6_AT.dst, 16)
  }

  /**
   * What it carries, behind at most `extensions` extension headers (hop-by-hop, routing, fragment, authentication,
   * destination options; default 8, 0 looks at none). Where there are more, or the packet is too short for one, the program ends
   * with `otherwise`, and so does a later fragment, unless `fragments` says something else. Kernel 5.3, for the loop.
   */
  transport(options: Ipv6TransportOptions = {}): Transport {
    return oneStatement(() => this.#transport(options))
  }

  // Two things here are for the verifier, which otherwise takes ten times as long because it follows each kind of header and each
  // sum of lengths by itself: the kinds are tested all at once, and the offset goes through a division that changes nothing but
  // leaves the verifier with one thing to know of all sums.
  #transport({ extensions = MAX_EXTENSIONS, fragments = 'first' }: Ipv6TransportOptions): Transport {
    const place = further(this.place, IPV6_HLEN)
    if (extensions === 0) return new Transport(place, this.nextHeader)
    const { tracer } = place
    const x = new Body<never>(tracer)
    const kind = x.let(this.nextHeader as Value<'u8'>)
    const at = x.let(new Value(tracer, 'u32', startOf(place)))
    const isPart = x.let(x.u32(0))
    x.loop(extensions + 1, (round, loop) => {
      const type = kind.value
      x.if(type.ge(64).or(x.u64(EXTENSIONS).shr(type).hasNone(1)), () => loop.break())
      x.require(round.lt(extensions))
      const header = placeAt(tracer, at.value.operand)
      needAt(header, 8)
      const field = <K extends Kind>(offset: number, kind: K) => new Field(further(header, offset), kind)
      kind.set(field(IPV6_EXTENSION_AT.nextHeader, 'u8'))
      const units = field(IPV6_EXTENSION_AT.length, 'u8').u32()
      const length = x.let(units.add(1).shl(3))
      x.if(type.eq(IPPROTO_AH), () => length.set(units.add(2).shl(2))).elseIf(
        type.eq(IPPROTO_FRAGMENT),
        () => {
          length.set(IPV6_FRAGMENT_HLEN)
          const fragment = field(IPV6_FRAGMENT_AT.offset, 'be16')
          if (fragments === 'first') {
            x.require(fragment.hasNone(IP6_OFFSET))
            return
          }
          // Neither offset nor more: an atomic fragment, which is a whole datagram (RFC 6946).
          x.if(fragment.hasAny(fragments === 'any' ? IP6_OFFSET | IP6_MF : IP6_OFFSET), () => {
            isPart.set(1)
            loop.break()
          })
        },
      )
      at.set(at.value.add(length.value).mod(BEYOND))
    })
    const payload = placeAt(tracer, at.value.operand)
    return new Transport(
      payload,
      kind.value,
      fragments === 'first' ? {} : { [fragments]: isPart.value.ne(0) },
    )
  }
}
