// Generated traffic between the ends of a lab: what is sent arrives, as tcpdump sees it, and is metered right.
import assert from 'node:assert/strict'
import { describe, it, type TestContext } from 'node:test'
import { Measurement, type GenerateOptions, buildTemplates, generate } from '../../src/generate/index.js'
import type { Lab, LabEnd } from '../../src/lab/index.js'
import { createTestLab, needsRoot } from '../support/lab.js'
import { startTcpdump } from '../support/tcpdump.js'
import { until } from '../support/xsk.js'

const STREAM = 0xbeef

function templates(lab: Lab, version: 4 | 6, options: { sizes?: number[]; vlans?: number[] } = {}) {
  const address = (end: LabEnd) => (version === 4 ? end.ipv4 : end.ipv6!)
  return buildTemplates({
    ...options,
    srcMac: lab.b.mac,
    dstMac: lab.a.mac,
    src: address(lab.b),
    dst: address(lab.a),
    stream: STREAM,
  })
}

async function measure(t: TestContext, lab: Lab) {
  const measurement = await Measurement.open({ interface: lab.a.interface, namespace: lab.a.namespace })
  const control = new AbortController()
  const running = measurement.run(control.signal)
  t.after(async () => {
    control.abort()
    await running
    await measurement.close()
  })
  return measurement
}

const from = (lab: Lab) => ({ interface: lab.b.interface, namespace: lab.b.namespace, stream: STREAM })

describe('generate', { skip: needsRoot }, () => {
  for (const by of ['kernel', 'socket'] as const) {
    for (const version of [4, 6] as const) {
      it(`sends stamped packets by ${by} over IPv${version}, which arrive once each and in order`, async (t) => {
        const lab = createTestLab(t)
        const measurement = await measure(t, lab)
        const sizes = version === 4 ? [60, 1400, 61] : [80, 1400, 81]
        for (const [i, size] of sizes.entries()) {
          const options: GenerateOptions = {
            ...from(lab),
            templates: templates(lab, version, { sizes: [size] }),
            by,
            count: 1000,
            rate: 20_000,
            stream: STREAM,
          }
          const sent = await generate(options)
          assert.equal(sent.packets, 1000)
          assert.equal(sent.bytes, 1000 * size)
          await until(
            'all have come',
            () => measurement.report().received + measurement.report().duplicates === 1000 * (i + 1),
          )
          // Each run counts from 0 again: only the first is new to the meter.
          const { received, duplicates, lost, reordered, foreign, unstamped, latency } = measurement.report()
          assert.equal(received, 1000)
          assert.equal(duplicates, 1000 * i)
          assert.deepEqual([lost, reordered, foreign, unstamped], [0, 0, 0, 0])
          assert.ok(latency && latency.min > 0 && latency.min <= latency.p50 && latency.p999 <= latency.max)
        }
      })
    }
    it(`spreads over flows and sizes by ${by}, with checksums that tcpdump finds right`, async (t) => {
      const lab = createTestLab(t)
      const options = ['-n', '-vv', '-l', '-c', '30', '--immediate-mode']
      const tcpdump = await startTcpdump(lab, 'a', [...options, 'udp dst port 9'])
      for (const [version, sizes] of [
        [4, [60, 61, 100]],
        [6, [80, 81, 100]],
      ] as const) {
        for (const size of sizes) {
          await generate({
            ...from(lab),
            templates: templates(lab, version, { sizes: [size] }),
            by,
            count: 5,
            flows: 3,
          })
        }
      }
      await tcpdump.ended
      const { text } = tcpdump
      assert.equal(text.match(/udp sum ok/g)?.length, 30, text)
      assert.doesNotMatch(text, /bad (udp )?cksum/)
      const ports = new Set([...text.matchAll(/\.(4915\d) >/g)].map(([, port]) => port))
      assert.deepEqual([...ports].sort(), ['49152', '49153', '49154'])
    })
  }

  it('gives every template its part of the packets', async (t) => {
    const lab = createTestLab(t)
    for (const by of ['kernel', 'socket'] as const) {
      const sizes = templates(lab, 4, { sizes: [60, 100, 1400] })
      const { packets, bytes, seconds } = await generate({ ...from(lab), templates: sizes, by, count: 9 })
      assert.deepEqual([packets, bytes], [9, 3 * (60 + 100 + 1400)], by)
      assert.ok(seconds > 0)
    }
  })

  it('keeps to its rate, and stops when told', async (t) => {
    const lab = createTestLab(t)
    await measure(t, lab)
    for (const by of ['kernel', 'socket'] as const) {
      const control = new AbortController()
      const progress: number[] = []
      const running = generate({
        ...from(lab),
        templates: templates(lab, 4),
        by,
        rate: 10_000,
        signal: control.signal,
        onProgress: ({ packets }) => progress.push(packets),
      })
      await until('some were sent', () => progress.some((packets) => packets > 0))
      control.abort()
      const { packets, seconds } = await running
      assert.ok(packets > 0 && packets <= 10_000 * (seconds + 1), `${packets} in ${seconds} s`)
    }
  })

  it('ends in time, also in the middle of a run, and counts what was sent', async (t) => {
    const lab = createTestLab(t)
    const measurement = await measure(t, lab)
    // A run is of a second's packets: without a look at the clock 10,000 would be sent. What is late is not made up for.
    const options = { rate: 10_000, seconds: 0.2, templates: templates(lab, 4) }
    const sent = await generate({ ...from(lab), ...options, by: 'kernel' })
    assert.ok(sent.packets > 0 && sent.packets <= 2001, `${sent.packets} packets`)
    assert.equal(sent.bytes, sent.packets * 60)
    await until('all have come', () => measurement.report().received === sent.packets)
    const { lost, reordered, duplicates } = measurement.report()
    assert.deepEqual({ lost, reordered, duplicates }, { lost: 0, reordered: 0, duplicates: 0 })
  })

  it('says what cannot be sent', async (t) => {
    const lab = createTestLab(t)
    const send = (options: Partial<GenerateOptions>) =>
      generate({ ...from(lab), templates: templates(lab, 4), count: 1, ...options })
    await assert.rejects(send({ templates: [] }), { option: 'templates' })
    await assert.rejects(send({ count: Infinity }), { option: 'count' })
    await assert.rejects(send({ rate: -1 }), { option: 'rate' })
    await assert.rejects(send({ rate: 100 }), { option: 'rate' })
    await assert.rejects(send({ flows: 0 }), { option: 'flows' })
    await assert.rejects(send({ interface: 'no-such' }), { code: 'XDP_NOT_FOUND' })
    assert.throws(() => templates(lab, 4, { sizes: [59] }), { option: 'size' })
    assert.throws(() => templates(lab, 6, { sizes: [79] }), { option: 'size' })
    await assert.rejects(send({ templates: templates(lab, 4, { sizes: [5000] }) }), { option: 'size' })
  })
})
