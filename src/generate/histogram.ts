// A histogram of durations with a bounded relative error, in constant memory.

// Each octave is cut into so many buckets: what is read back is within 1.6 % of what was recorded.
const CUTS = 32
const CUT_BITS = 5
// Up to 2^42 ns, 73 minutes; what is longer is recorded as that.
const OCTAVES = 42

/** Counts durations in nanoseconds. `record` allocates nothing. */
export class Histogram {
  /** How many were recorded. */
  count = 0
  /** The shortest and the longest recorded, exactly; 0 when there is none. */
  min = 0
  max = 0
  #sum = 0
  readonly #buckets = new Float64Array((OCTAVES - CUT_BITS + 1) * CUTS)

  /** Records a duration in nanoseconds, 0 or more. */
  record(duration: number): void {
    if (this.count++ === 0 || duration < this.min) this.min = duration
    if (duration > this.max) this.max = duration
    this.#sum += duration
    this.#buckets[bucketOf(duration)]++
  }

  /** The mean, exactly; 0 when nothing was recorded. */
  get mean(): number {
    return this.count === 0 ? 0 : this.#sum / this.count
  }

  /** The duration that `percent` of all do not exceed, to within 1.6 %: 50 is the median. 0 when nothing was recorded. */
  percentile(percent: number): number {
    const rank = Math.max(1, Math.ceil((percent / 100) * this.count))
    let seen = 0
    for (let bucket = 0; bucket < this.#buckets.length; bucket++) {
      seen += this.#buckets[bucket]
      if (seen >= rank) return Math.min(this.max, Math.max(this.min, middleOf(bucket)))
    }
    return this.max
  }
}

// Below 2 * CUTS every nanosecond has its bucket.
function bucketOf(duration: number): number {
  const value = Math.min(Math.floor(duration), 2 ** OCTAVES - 1)
  if (value < 2 * CUTS) return value
  const octave = Math.floor(Math.log2(value))
  return (octave - CUT_BITS) * CUTS + Math.floor(value / 2 ** (octave - CUT_BITS))
}

function middleOf(bucket: number): number {
  if (bucket < 2 * CUTS) return bucket
  const octave = Math.floor(bucket / CUTS) + CUT_BITS - 1
  const width = 2 ** (octave - CUT_BITS)
  return (bucket - (octave - CUT_BITS) * CUTS) * width + (width - 1) / 2
}
