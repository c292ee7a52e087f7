// The stamp in a generated packet's payload: which packet of which stream this is, and when it was sent.
import { getU16, getU32, setU16, setU32 } from '../packet/bytes.js'

/** Bytes of a stamp, which a payload begins with. A frame of 60 bytes has just room for one behind IPv4 and UDP. */
export const STAMP_BYTES = 18

/**
 * Where its fields are, all big-endian. `balance` makes the words of every stamp add up to 0xffff in ones' complement, so
 * that stamping a packet leaves its UDP checksum as it is (RFC 1624).
 */
export const STAMP = { magic: 0, balance: 2, stream: 4, sequence: 6, time: 10 } as const
export const STAMP_MAGIC = 0x7864

const TWO_32 = 2 ** 32

/** What a stamp says. One object is reused for all packets. */
export interface Stamp {
  /** Which run of a generator: 0 to 65535. */
  stream: number
  /** Counts the packets of a stream from 0, modulo 2^32. */
  sequence: number
  /** Nanoseconds of the sender's CLOCK_MONOTONIC. Above 2^53, after 104 days, to within 2 ns. */
  time: number
}

/**
 * Writes a stamp at `offset`, which must be an even number of bytes behind the UDP header. `also` is what else changed in the
 * words that the checksum covers, to be balanced as well: the sum of the changes.
 */
export function writeStamp(bytes: Uint8Array, offset: number, stamp: Stamp, also = 0): void {
  const high = Math.floor(stamp.time / TWO_32)
  const low = stamp.time % TWO_32
  setU16(bytes, offset + STAMP.magic, STAMP_MAGIC)
  setU16(bytes, offset + STAMP.stream, stamp.stream)
  setU32(bytes, offset + STAMP.sequence, stamp.sequence)
  setU32(bytes, offset + STAMP.time, high)
  setU32(bytes, offset + STAMP.time + 4, low)
  let sum = STAMP_MAGIC + stamp.stream + also + halves(stamp.sequence) + halves(high) + halves(low)
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
  setU16(bytes, offset + STAMP.balance, ~sum & 0xffff)
}

/** Reads the stamp of a payload into `stamp`; false when there is none. */
export function readStamp(bytes: Uint8Array, offset: number, length: number, stamp: Stamp): boolean {
  if (length < STAMP_BYTES || getU16(bytes, offset + STAMP.magic) !== STAMP_MAGIC) return false
  stamp.stream = getU16(bytes, offset + STAMP.stream)
  stamp.sequence = getU32(bytes, offset + STAMP.sequence)
  stamp.time = getU32(bytes, offset + STAMP.time) * TWO_32 + getU32(bytes, offset + STAMP.time + 4)
  return true
}

/** Nanoseconds of CLOCK_MONOTONIC now, as the kernel's programs have it too (bpf_ktime_get_ns). */
export function monotonicNow(): number {
  return START + performance.now() * 1e6
}

// Of several readings of the two clocks, those nearest to each other.
const START = Math.max(
  ...Array.from({ length: 8 }, () => {
    const [seconds, nanoseconds] = process.hrtime()
    return seconds * 1e9 + nanoseconds - performance.now() * 1e6
  }),
)

const halves = (word: number): number => (word >>> 16) + (word & 0xffff)
