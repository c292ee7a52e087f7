// The limit on what each source may send: enforced in the XDP program, for each source by itself, bans and their end included.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Lab } from '../../src/lab/index.js'
import { parseIp } from '../../src/packet/index.js'
import { createTestLab, needsRoot } from '../support/lab.js'
import { until } from '../support/xsk.js'
import { echo, ipv6, script, serve, serverAt } from './udp-lab.js'

/** Sends datagrams at once from a socket of its own, and waits until they have left. */
const flood = (lab: Lab, host: string, port: number, count: number) =>
  script<number>(
    lab,
    'b',
    `const socket = await open('${host}')
    const sent = []
    for (let i = 0; i < ${count}; i++) sent.push(new Promise((done) => socket.send('x', ${port}, '${host}', done)))
    await Promise.all(sent)
    socket.close()
    say(sent.length)`,
  )

describe('the rate limit of a UDP server', { skip: needsRoot }, () => {
  for (const mode of ['native', 'generic'] as const) {
    it(`lets a burst through, then what is allowed in a second, each source by itself (${mode} mode)`, async (t) => {
      const { lab, server, port } = await serve(t, { mode, rateLimit: { perSecond: 2, burst: 10 } })
      const started = performance.now()
      await flood(lab, lab.a.ipv4, port, 200)
      const { rateLimit, counts } = server
      await until('all have been judged', () => counts.received + (rateLimit?.limited ?? 0) === 200)
      const most = 10 + Math.ceil(((performance.now() - started) / 1000) * 2)
      assert.ok(counts.received >= 10 && counts.received <= most, `${counts.received} of ${most}`)
      const before = counts.received
      await flood(lab, ipv6(lab.a), port, 10)
      await until('the other source is heard', () => counts.received === before + 10)
      // The bucket fills up again: one packet in half a second.
      await new Promise((resolve) => setTimeout(resolve, 600))
      await flood(lab, lab.a.ipv4, port, 1)
      await until('the source is heard again', () => counts.received === before + 11)
    })
  }

  it('bans who exceeds it, until it is forgiven', async (t) => {
    const { lab, server, port } = await serve(t, {
      rateLimit: { perSecond: 1000, burst: 5, banSeconds: 3600 },
    })
    const { rateLimit, counts } = server
    assert.ok(rateLimit)
    let sent = 0
    while (rateLimit.limited === 0) sent += await flood(lab, lab.a.ipv4, port, 500)
    await until('all have been judged', () => counts.received + rateLimit.limited === sent)
    const { received } = counts
    // Long after its bucket is full again.
    await new Promise((resolve) => setTimeout(resolve, 50))
    await flood(lab, lab.a.ipv4, port, 3)
    await until('they are dropped', () => rateLimit.limited + received === sent + 3)
    assert.equal(counts.received, received)
    assert.equal(rateLimit.forgive(lab.b.ipv4), true)
    assert.equal(rateLimit.forgive(parseIp(lab.b.ipv4)!), false)
    assert.throws(() => rateLimit.forgive('lab'), { code: 'XDP_BAD_OPTION' })
    await flood(lab, lab.a.ipv4, port, 3)
    await until('they are heard', () => counts.received === received + 3)
  })

  it('refuses limits that cannot be, and a second one on the same interface', async (t) => {
    const lab = createTestLab(t)
    for (const rateLimit of [
      { perSecond: 0 },
      { perSecond: NaN },
      { perSecond: 1, burst: 0 },
      { perSecond: 1, burst: 1.5 },
      { perSecond: 1, banSeconds: -1 },
      { perSecond: 1, maxSources: 0 },
    ]) {
      await assert.rejects(serverAt(t, lab, { rateLimit }), { code: 'XDP_BAD_OPTION' })
    }
    const rateLimit = { perSecond: 10 }
    const first = await serverAt(t, lab, { rateLimit })
    const second = await serverAt(t, lab, { rateLimit })
    assert.equal(first.rateLimit, second.rateLimit)
    await assert.rejects(serverAt(t, lab, { rateLimit: { perSecond: 10 } }, echo), { code: 'XDP_BAD_OPTION' })
  })
})
