// The walk over IPv6 extension headers (RFC 8200 section 4) for programs that want to know of every packet what it carries.
import type { Variable, Xdp } from '../bpf/builder/index.js'
import { IP6_OFFSET } from '../packet/ipv6.js'
import {
  IPPROTO_AH,
  IPPROTO_DSTOPTS,
  IPPROTO_FRAGMENT,
  IPPROTO_HOPOPTS,
  IPPROTO_ROUTING,
} from '../packet/ipproto.js'

/** A bit for each of them. */
const EXTENSIONS = [IPPROTO_HOPOPTS, IPPROTO_ROUTING, IPPROTO_FRAGMENT, IPPROTO_AH, IPPROTO_DSTOPTS].reduce(
  (bits, header) => bits | (1n << BigInt(header)),
  0n,
)

/** Above every offset there can be: `bytesAt` takes 32767 at most, and no header is longer than 2048 bytes. */
const BEYOND = 40_000

/**
 * Moves `at`, the offset of the header of type `protocol`, behind at most `most` extension headers, and `protocol` to the type of
 * what is there. In a later fragment it stops behind the fragment header with `at` 0: no header follows. Where there are more, or
 * the packet is too short for one, the program ends with its `otherwise`. Kernel 5.3.
 *
 * Two things here are for the verifier, which otherwise takes ten times as long because it follows each kind of header and each
 * sum of lengths by itself: the kinds are tested all at once, and the offset goes through a division that changes nothing but
 * leaves the verifier with one thing to know of all sums.
 */
export function stepOverExtensions(
  x: Xdp,
  protocol: Variable<'u32'>,
  at: Variable<'u32'>,
  most: number,
): void {
  x.loop(most + 1, (round, loop) => {
    const kind = protocol.value
    x.if(kind.ge(64).or(x.u64(EXTENSIONS).shr(kind).hasNone(1)), () => loop.break())
    x.require(round.lt(most))
    const header = x.packet.bytesAt(at.value, 8)
    const units = header.field(1, 'u8').u32()
    protocol.set(header.field(0, 'u8').u32())
    const length = x.let(units.add(1).shl(3))
    x.if(kind.eq(IPPROTO_AH), () => length.set(units.add(2).shl(2))).elseIf(kind.eq(IPPROTO_FRAGMENT), () => {
      length.set(8)
      x.if(header.field(2, 'be16').hasAny(IP6_OFFSET), () => {
        at.set(0)
        loop.break()
      })
    })
    at.set(at.value.add(length.value).mod(BEYOND))
  })
}
