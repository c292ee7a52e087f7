// Who gets a datagram, while those who listen come and go.
import assert from 'node:assert/strict'
import { it } from 'node:test'
import { parseIp } from '../../src/packet/index.js'
import { makeCounters } from '../../src/serve/udp-counters.js'
import { UdpListeners, type UdpEndpoint } from '../../src/serve/udp-listeners.js'

const endpoint = (ports: number[], address?: string): UdpEndpoint => ({
  ports,
  verifiesChecksums: true,
  addresses: () => (address === undefined ? undefined : [parseIp(address)!]),
  counters: makeCounters(),
  deliver: () => undefined,
  fail: assert.ifError,
  replyElsewhere: () => false,
})

it('finds who listens, and remembers nobody who has gone or is no more alone', () => {
  const listeners = new UdpListeners({ add: () => undefined, remove: () => true }, 'test0')
  const bytes = new Uint8Array([192, 0, 2, 1, 192, 0, 2, 2])
  // As the receiver asks: what is remembered first.
  const to = (port: number, at: 0 | 4) =>
    port === listeners.lastPort ? listeners.last : listeners.find(port, bytes, at, 4)
  const [any, one, other] = [endpoint([9, 10]), endpoint([9], '192.0.2.1'), endpoint([11])]
  const seen = () => [to(9, 0), to(9, 4), to(9, 4), to(10, 0), to(11, 0), to(12, 0)]
  const none = undefined
  assert.deepEqual(seen(), [none, none, none, none, none, none])
  listeners.add(any, [])
  assert.deepEqual(seen(), [any, any, any, any, none, none])
  listeners.add(one, [])
  assert.deepEqual(seen(), [one, any, any, any, none, none])
  listeners.add(other, [])
  assert.deepEqual(seen(), [one, any, any, any, other, none])
  listeners.remove(any)
  assert.deepEqual(seen(), [one, one, one, none, other, none])
  listeners.remove(one)
  assert.deepEqual(seen(), [none, none, none, none, other, none])
  listeners.remove(other)
  assert.deepEqual(seen(), [none, none, none, none, none, none])
})
