// The words of settings: what is written is read again, and what cannot be meant is refused.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { formatAclRule, parseAclRule, type AclRule } from '../../src/programs/acl-rules.js'
import {
  formatNetwork,
  formatPorts,
  network,
  parseEndpoints,
  parseNetwork,
  parsePort,
  parsePorts,
  parseProtocol,
} from '../../src/programs/settings.js'
import { shippedRedirectPorts } from '../../src/programs/redirect-ports.js'
import { oneNumber, oneValue, oneWord } from '../../src/programs/shipped.js'

const side = fc.constantFrom('source' as const, 'destination' as const)
const address = fc
  .constantFrom(4 as const, 16 as const)
  .chain((length) => fc.uint8Array({ minLength: length, maxLength: length }))
const cidr = address.chain((bytes) =>
  fc
    .nat({ max: bytes.length * 8 })
    .map((prefixLength) => network({ version: bytes.length === 4 ? 4 : 6, address: bytes, prefixLength })),
)
const range = fc
  .record({
    a: fc.nat({ max: 0xffff }),
    b: fc.nat({ max: 0xffff }),
    protocols: fc.constantFrom(['udp'] as const, ['tcp'] as const, ['udp', 'tcp'] as const),
  })
  .map(({ a, b, protocols }) => ({ from: Math.min(a, b), to: Math.max(a, b), protocols: [...protocols] }))
const plainly = { noNullPrototype: true } as const
const mac = fc.uint8Array({ minLength: 6, maxLength: 6 })
const rule: fc.Arbitrary<AclRule> = fc.oneof(
  fc.record({ kind: fc.constant('mac' as const), side, mac }, plainly),
  fc.record({ kind: fc.constant('network' as const), side, network: cidr }, plainly),
  fc.record({ kind: fc.constant('ports' as const), side, ports: range }, plainly),
  fc.record({ kind: fc.constant('protocol' as const), protocol: fc.nat({ max: 255 }) }, plainly),
)

test('rules, networks and ports are read as they were written', () => {
  fc.assert(
    fc.property(rule, (one) => assert.deepEqual(parseAclRule(formatAclRule(one)), one)),
    { seed: 1, numRuns: 2000 },
  )
  fc.assert(
    fc.property(cidr, (one) => assert.deepEqual(parseNetwork(formatNetwork(one)), one)),
    { seed: 2, numRuns: 500 },
  )
  fc.assert(
    fc.property(range, (one) => assert.deepEqual(parsePorts(formatPorts(one)), one)),
    { seed: 3, numRuns: 500 },
  )
})

test('a rule names a network or an address, not something between', () => {
  const refused = (text: string, hint: string): void =>
    assert.throws(() => parseAclRule(text, 'deny'), { code: 'XDP_BAD_OPTION', option: 'deny', hint })
  refused('10.0.0.1/8', 'Use 10.0.0.0/8 or 10.0.0.1/32.')
  refused('to:10.0.0.1/31', 'Use 10.0.0.0/31 or 10.0.0.1/32.')
  refused('from:2001:db8::1/64', 'Use 2001:db8::/64 or 2001:db8::1/128.')
  for (const text of ['10.0.0.0/31', '10.0.0.1/32', '0.0.0.0/0', '2001:db8::/32']) parseAclRule(text)
})

test('a network keeps the bits of its prefix and no others', () => {
  assert.equal(formatNetwork(parseNetwork('10.20.30.40/12')!), '10.16.0.0/12')
  assert.equal(formatNetwork(parseNetwork('10.20.30.40/0')!), '0.0.0.0/0')
  assert.equal(formatNetwork(parseNetwork('10.20.30.40/32')!), '10.20.30.40')
  assert.equal(formatNetwork(parseNetwork('2001:db8:ffff::1/33')!), '2001:db8:8000::/33')
})

test('ports, endpoints and protocols in words', () => {
  assert.equal(parsePort('0'), 0)
  assert.equal(parsePort('065'), undefined)
  assert.equal(parsePort('65536'), undefined)
  assert.deepEqual(parseEndpoints('53'), [
    { port: 53, protocol: 'udp' },
    { port: 53, protocol: 'tcp' },
  ])
  assert.deepEqual(parseEndpoints('10.0.0.1:8000-8001/tcp'), [
    { port: 8000, protocol: 'tcp', address: Uint8Array.of(10, 0, 0, 1) },
    { port: 8001, protocol: 'tcp', address: Uint8Array.of(10, 0, 0, 1) },
  ])
  assert.deepEqual(parseEndpoints('[::]:5/udp'), [{ port: 5, protocol: 'udp', address: new Uint8Array(16) }])
  assert.equal(parseProtocol('icmpv6'), 58)
  assert.equal(parseProtocol('protocol:0'), 0)
  for (const text of ['icmp6', '17', 'protocol:-1', 'protocol:1000', 'protocol:']) {
    assert.equal(parseProtocol(text), undefined, text)
  }
})

test('a setting with one value is given once, and is one that can be', () => {
  assert.equal(oneValue({}, 'x'), undefined)
  assert.equal(oneWord({ x: ['b'] }, 'x', ['a', 'b']), 'b')
  assert.equal(oneNumber({ x: ['7'] }, 'x', { min: 7, max: 7 }), 7)
  const wrong = { code: 'XDP_BAD_OPTION', option: 'x' }
  assert.throws(() => oneValue({ x: ['a', 'a'] }, 'x'), wrong)
  assert.throws(() => oneWord({ x: ['c'] }, 'x', ['a', 'b']), wrong)
  assert.throws(() => oneNumber({ x: ['8'] }, 'x', { min: 0, max: 7 }), wrong)
  assert.throws(() => oneNumber({ x: ['1e0'] }, 'x', { min: 0, max: 7 }), wrong)
})

test('more endpoints than there is room for are refused as such', () => {
  const define =
    (...port: string[]) =>
    () =>
      shippedRedirectPorts.define({ port }, { queues: 1 })
  define('1-65535/udp')()
  assert.throws(define('1-65535'), { code: 'XDP_BAD_OPTION', option: 'port', message: /^131070 endpoints / })
  assert.throws(define('0-65535/udp', '53/tcp'), { option: 'port', hint: /^Name up to 65536, / })
})
