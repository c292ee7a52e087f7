// Other people's clients against servers made of this package: dnsperf asks a name server, iperf3 its own server past ours.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { isInstalled } from '../../src/kernel/index.js'
import type { UdpHandler } from '../../src/serve/index.js'
import { assertArrived, iperfClient, iperfServer } from '../support/iperf.js'
import { needsRoot } from '../support/lab.js'
import { ipv6, serve } from './udp-lab.js'

/** Answers a DNS query for any name with 192.0.2.1 (RFC 1035 section 4.1). */
const nameServer: UdpHandler = (message) => {
  const { bytes, view, offset, length } = message
  if (length < 17) return
  view.setUint16(offset + 2, 0x8580) // a response, authoritative, recursion available, no error
  view.setUint16(offset + 6, 1) // answers
  view.setUint32(offset + 8, 0) // no other records: those of the query are cut off
  let at = offset + 12
  while (bytes[at] !== 0 && at < offset + length) at += bytes[at] + 1
  at += 5 // the root, type, class
  view.setUint16(at, 0xc00c) // the name asked for
  view.setUint32(at + 2, 0x0001_0001) // A, IN
  view.setUint32(at + 6, 60)
  view.setUint16(at + 10, 4)
  view.setUint32(at + 12, 0xc0000201)
  message.length = at + 16 - offset
  message.reply()
}

const missing = (command: string) => needsRoot || (!isInstalled(command) && `${command} is not installed`)

describe('real clients', () => {
  it('dnsperf gets an answer to every query, over IPv4 and IPv6', { skip: missing('dnsperf') }, async (t) => {
    const { lab, server, port } = await serve(t, {}, nameServer, { queues: 2 })
    const queries = Array.from({ length: 2000 }, (_, i) => `host${i}.example.org A\n`).join('')
    for (const host of [lab.a.ipv4, ipv6(lab.a)]) {
      // -c: so many sockets, whose flows go to both queues.
      const { stdout, stderr, status } = await lab.exec(
        'b',
        'dnsperf',
        ['-s', host, '-p', String(port), '-c', '8'],
        { input: queries },
      )
      assert.equal(status, 0, stderr)
      assert.match(stdout, /Queries completed: +2000 \(100\.00%\)/)
      assert.match(stdout, /Response codes: +NOERROR 2000 \(100\.00%\)/)
      assert.doesNotMatch(stderr, /warning|unexpected|malformed/i)
    }
    assert.equal(server.counts.received, 4000)
    for (const socket of server.group.sockets) assert.ok(socket.statistics().rx.packets > 0)
  })

  it('iperf3 measures UDP and TCP past the server, without loss', { skip: missing('iperf3') }, async (t) => {
    const { lab, server } = await serve(t)
    await iperfServer(t, lab, 'a')
    const datagrams = await iperfClient(lab, 'b', lab.a.ipv4, '-u', '-b', '10M', '-n', '1M')
    assert.ok(datagrams.end.sum.packets > 0)
    await assertArrived(datagrams, lab, 'a')
    await iperfClient(lab, 'b', lab.a.ipv4, '-n', '5M')
    assert.equal(server.group.statistics().rx.packets, 0)
  })
})
