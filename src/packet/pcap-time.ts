// Time stamps as one 64-bit count of ticks in two words, and as seconds and nanoseconds: exact, without BigInt.

/** How an interface counts time: if_tsresol and if_tsoffset. */
export interface TickScale {
  /** Ticks a second; a power of ten or of two, 2^53 at most. */
  readonly perSecond: number
  /** Seconds to add. */
  readonly offset: number
}

/** The scale of an if_tsresol byte: 10^-n, or 2^-n with the upper bit; undefined when it is finer than 2^53 a second. */
export function tickScale(resolution: number, offset: number): TickScale | undefined {
  const perSecond = (resolution & 0x80 ? 2 : 10) ** (resolution & 0x7f)
  return perSecond <= 2 ** 53 ? { perSecond, offset } : undefined
}

/** Seconds and nanoseconds; reused by its owner. */
export interface Time {
  seconds: number
  nanoseconds: number
}

/** Long division goes by 16 bits: the remainder before each step must leave room for them below 2^53. */
const EXACT_STEP = 2 ** 37

/** Stores the time of the count `high * 2^32 + low` into `time`. Ticks finer than a nanosecond are cut off. */
export function ticksToTime(high: number, low: number, scale: TickScale, time: Time): void {
  const unit = scale.perSecond
  if (unit > EXACT_STEP || (unit > 1e6 && 1e9 % unit !== 0 && unit % 1e9 !== 0)) {
    wideTicksToTime(high, low, scale, time)
    return
  }
  let rest = high >>> 16
  let seconds = Math.floor(rest / unit)
  rest -= seconds * unit
  for (let i = 0; i < 3; i++) {
    const part = i === 0 ? high & 0xffff : i === 1 ? low >>> 16 : low & 0xffff
    rest = rest * 65536 + part
    const quotient = Math.floor(rest / unit)
    rest -= quotient * unit
    seconds = seconds * 65536 + quotient
  }
  time.seconds = seconds + scale.offset
  // Up to 10^6 the product is exact below 2^53; above, one of the two divides the other.
  if (unit <= 1e6) time.nanoseconds = Math.floor((rest * 1e9) / unit)
  else time.nanoseconds = unit <= 1e9 ? rest * (1e9 / unit) : Math.floor(rest / (unit / 1e9))
}

/** The same for the scales that nobody writes. */
function wideTicksToTime(high: number, low: number, scale: TickScale, time: Time): void {
  const ticks = (BigInt(high) << 32n) | BigInt(low)
  const unit = BigInt(scale.perSecond)
  time.seconds = Number(ticks / unit) + scale.offset
  time.nanoseconds = Number(((ticks % unit) * 1_000_000_000n) / unit)
}

// The start of the second that was asked for last, in nanoseconds since 1970: packets come many in a second.
let second = 0
let startHigh = 0
let startLow = 0

/** The last whole second that two words of nanoseconds can say: in the year 2554. */
const LAST_SECOND = 18_446_744_072

function toSecond(time: number): void {
  const seconds = Math.min(Math.max(time, 0), LAST_SECOND)
  const upper = Math.floor(seconds / 65536) * 1e9
  const lower = (upper % 65536) * 65536 + (seconds % 65536) * 1e9
  second = time
  startHigh = Math.floor(upper / 65536) + Math.floor(lower / 4294967296)
  startLow = lower % 4294967296
}

/** The upper word of a time as nanoseconds since 1970, or the nearest that can be: 2554 at most. Nanoseconds below 10^9. */
export function nanosecondsHigh(seconds: number, nanoseconds: number): number {
  if (seconds !== second) toSecond(seconds)
  return startLow + nanoseconds >= 4294967296 ? startHigh + 1 : startHigh
}

/** The lower word of a time as nanoseconds since 1970. */
export function nanosecondsLow(seconds: number, nanoseconds: number): number {
  if (seconds !== second) toSecond(seconds)
  const low = startLow + nanoseconds
  return low >= 4294967296 ? low - 4294967296 : low
}
