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
import { Header, needAt } from './header.js'
import { type Bytes, Field, type Place, further } from './memory.js'
import type { Point } from './trace.js'
import { Transport, type TransportOptions } from './transport.js'
import { Value } from './value.js'

/** Extension headers with the same layout of their first two bytes, and a length in units of 8 bytes less one. */
const PLAIN_EXTENSIONS = [IPPROTO_HOPOPTS, IPPROTO_ROUTING, IPPROTO_DSTOPTS]

/** How to find what an IPv6 packet carries. */
export interface Ipv6TransportOptions extends TransportOptions {
  /** How many extension headers to step over at most. Default 4. */
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
   * destination options; default 4, 0 looks at none). A later fragment carries no transport header: it ends the program with
   * `otherwise`, and so do more extension headers than that. With `fragments: 'any'` the walk ends behind the fragment header
   * of every fragment instead.
   */
  transport({ extensions = 4, fragments = 'first' }: Ipv6TransportOptions = {}): Transport {
    const { tracer } = this.place
    const place = further(this.place, IPV6_HLEN)
    if (extensions === 0) return new Transport(place, this.nextHeader)
    const part = { name: 'fragment' }
    const next = { name: 'next header' }
    const base = { name: 'extension' }
    const round = { name: 'round' }
    tracer.writeVariable(next, this.nextHeader.operand)
    tracer.writeVariable(base, place.base)
    tracer.writeVariable(round, 0n)
    tracer.writeVariable(part, 0n)
    const { head, keys } = tracer.loopHead(undefined)
    const type = tracer.readVariable(next)
    const here = { ...place, base: tracer.readVariable(base) as number }
    const paths: Point[] = []
    const done: Point[] = []
    const length = { name: 'length' }
    const isPlain: Point[] = []
    for (const extension of PLAIN_EXTENSIONS) {
      const other = tracer.branch('==', 32, type, BigInt(extension))
      isPlain.push(tracer.point)
      tracer.moveTo(other)
    }
    const notFragment = tracer.branch('==', 32, type, BigInt(IPPROTO_FRAGMENT))
    needAt(here, IPV6_FRAGMENT_HLEN)
    const fragment = new Field(further(here, IPV6_FRAGMENT_AT.offset), 'be16')
    if (fragments === 'first') {
      tracer.unless('!&', 32, fragment.operand, fragment.term(IP6_OFFSET))
    } else {
      // Neither offset nor more: an atomic fragment, which is a whole datagram (RFC 6946).
      const whole = tracer.branch('&', 32, fragment.operand, fragment.term(IP6_OFFSET | IP6_MF))
      tracer.unless('<', 32, tracer.readVariable(round), BigInt(extensions))
      tracer.writeVariable(next, new Field(further(here, IPV6_EXTENSION_AT.nextHeader), 'u8').operand)
      tracer.writeVariable(base, tracer.alu('add', 64, here.base, BigInt(IPV6_FRAGMENT_HLEN)))
      tracer.writeVariable(part, 1n)
      done.push(tracer.point)
      tracer.moveTo(whole)
    }
    tracer.writeVariable(length, BigInt(IPV6_FRAGMENT_HLEN))
    paths.push(tracer.point)
    tracer.moveTo(notFragment)
    done.push(tracer.branch('==', 32, type, BigInt(IPPROTO_AH)))
    needAt(here, 8)
    const units = (): Value<'u32'> => new Field(further(here, IPV6_EXTENSION_AT.length), 'u8').u32()
    tracer.writeVariable(length, units().add(2).shl(2).operand)
    paths.push(tracer.point)
    tracer.moveTo(tracer.join(isPlain))
    needAt(here, 8)
    tracer.writeVariable(length, units().add(1).shl(3).operand)
    paths.push(tracer.point)
    tracer.moveTo(tracer.join(paths))
    tracer.writeVariable(next, new Field(further(here, IPV6_EXTENSION_AT.nextHeader), 'u8').operand)
    tracer.writeVariable(base, tracer.alu('add', 64, here.base, tracer.readVariable(length)))
    tracer.writeVariable(round, tracer.alu('add', 32, tracer.readVariable(round), 1n))
    tracer.unless('<=', 32, tracer.readVariable(round), BigInt(extensions))
    tracer.terminate({
      op: 'jump',
      yes: { to: head, args: keys.map((key) => tracer.point.variables.get(key)!) },
    })
    tracer.moveTo(tracer.join(done))
    const payload = { ...place, base: tracer.readVariable(base) as number }
    const protocol = new Value(tracer, 'u8', tracer.readVariable(next))
    if (fragments === 'first') return new Transport(payload, protocol)
    return new Transport(payload, protocol, new Value(tracer, 'u8', tracer.readVariable(part)).ne(0))
  }
}
