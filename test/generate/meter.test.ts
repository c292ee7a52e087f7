// The meter against a list of what came, the histogram against a sorted array, the stamp against a checksum.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { Histogram, Meter, type Stamp, STAMP_BYTES, readStamp, writeStamp } from '../../src/generate/index.js'

const stampOf = (sequence: number, time = 0): Stamp => ({ stream: 7, sequence: sequence >>> 0, time })

describe('a meter', () => {
  it('counts loss, reordering and duplicates as a list of all that came does', () => {
    const arrivals = fc.array(
      fc.oneof(fc.integer({ min: 0, max: 40 }), fc.integer({ min: -70_000, max: 70_000 })),
    )
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 0xffffffff }), arrivals, (start, steps) => {
        const meter = new Meter()
        const seen = new Set<number>()
        let [at, highest, reordered, duplicates] = [start, -Infinity, 0, 0]
        for (const step of [0, ...steps]) {
          at += step
          // A meter remembers so many numbers only.
          if (highest - at >= 1 << 16) {
            at -= step
            continue
          }
          meter.record(stampOf(at), 60, 0)
          if (seen.has(at)) duplicates++
          else if (at < highest) reordered++
          seen.add(at)
          highest = Math.max(highest, at)
        }
        const report = meter.report()
        assert.equal(report.received, seen.size)
        assert.equal(report.bytes, 60 * seen.size)
        assert.equal(report.duplicates, duplicates)
        assert.equal(report.reordered, reordered)
        assert.equal(report.lost, highest - Math.min(...seen) + 1 - seen.size)
      }),
      { seed: 1, numRuns: 500 },
    )
  })

  it('follows one stream, and tells of no latency between two clocks', () => {
    const meter = new Meter()
    meter.record(stampOf(0, 1000), 60, 1500)
    meter.record({ ...stampOf(1), stream: 8 }, 60, 0)
    assert.deepEqual(meter.report().latency, { min: 500, mean: 500, max: 500, p50: 500, p99: 500, p999: 500 })
    assert.equal(meter.report().foreign, 1)
    meter.record(stampOf(1, 9e15), 60, 1000)
    assert.equal(meter.report().latency, undefined)
  })
})

describe('a histogram', () => {
  it('gives percentiles within 1.6 % of those of a sorted list', () => {
    const duration = fc.double({ min: 0, max: 42, noNaN: true }).map((exponent) => 2 ** exponent - 1)
    fc.assert(
      fc.property(fc.array(duration, { minLength: 1, maxLength: 200 }), (durations) => {
        const histogram = new Histogram()
        for (const each of durations) histogram.record(each)
        const sorted = durations.toSorted((a, b) => a - b)
        for (const percent of [0.1, 50, 90, 99, 99.9, 100]) {
          const exact = sorted[Math.max(1, Math.ceil((percent / 100) * sorted.length)) - 1]
          const got = histogram.percentile(percent)
          assert.ok(Math.abs(got - exact) <= Math.max(1, exact * 0.016), `${percent}: ${got}, not ${exact}`)
        }
        assert.equal(histogram.min, sorted[0])
        assert.equal(histogram.max, sorted.at(-1))
      }),
      { seed: 2, numRuns: 300 },
    )
    assert.equal(new Histogram().percentile(50), 0)
  })
})

describe('a stamp', () => {
  it('reads as it was written, and adds up to the same whatever it says', () => {
    const u16 = fc.integer({ min: 0, max: 0xffff })
    const u32 = fc.integer({ min: 0, max: 0xffffffff })
    fc.assert(
      fc.property(u16, u32, fc.maxSafeInteger(), u16, (stream, sequence, number, also) => {
        const time = Math.abs(number)
        const bytes = new Uint8Array(STAMP_BYTES + 4)
        writeStamp(bytes, 2, { stream, sequence, time }, also)
        const stamp = stampOf(0)
        assert.ok(readStamp(bytes, 2, STAMP_BYTES, stamp))
        assert.deepEqual(stamp, { stream, sequence, time })
        assert.equal(readStamp(bytes, 2, STAMP_BYTES - 1, stamp), false)
        let sum = also
        for (let at = 2; at < 2 + STAMP_BYTES; at += 2) sum += (bytes[at] << 8) | bytes[at + 1]
        while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16)
        assert.equal(sum, 0xffff)
        bytes[2] ^= 1
        assert.equal(readStamp(bytes, 2, STAMP_BYTES, stamp), false)
      }),
      { seed: 3, numRuns: 500 },
    )
  })
})
