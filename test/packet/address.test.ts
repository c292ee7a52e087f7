// Address text: strict in, canonical out, with Node's own readers as second opinion.
import assert from 'node:assert/strict'
import { isIPv4, isIPv6, SocketAddress } from 'node:net'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  formatCidr,
  formatIp,
  formatIpv4,
  formatIpv6,
  formatMac,
  parseCidr,
  parseIp,
  parseIpv4,
  parseIpv6,
  parseMac,
} from '../../src/packet/index.js'

const hex = (text: string) => Uint8Array.from(Buffer.from(text.replaceAll(/[\s:]/g, ''), 'hex'))

test('MAC addresses are read with colons or dashes, not mixed, and written with colons', () => {
  assert.deepEqual(parseMac('02:00:5e:AB:cd:ef'), hex('02005eabcdef'))
  assert.deepEqual(parseMac('02-00-5e-ab-cd-ef'), hex('02005eabcdef'))
  for (const bad of [
    '',
    '02:00:5e:ab:cd',
    '02:00:5e:ab:cd:ef:01',
    '02:00:5e-ab:cd:ef',
    '2:0:5e:ab:cd:ef',
    '02005eabcdef',
    ' 02:00:5e:ab:cd:ef',
    '02:00:5e:ab:cd:eg',
  ]) {
    assert.equal(parseMac(bad), undefined, bad)
  }
  assert.equal(formatMac(hex('ff02005eabcdef'), 1), '02:00:5e:ab:cd:ef')
})

test('IPv4 addresses are four plain decimal numbers', () => {
  assert.deepEqual(parseIpv4('192.0.2.255'), Uint8Array.of(192, 0, 2, 255))
  for (const bad of [
    '',
    '1.2.3',
    '1.2.3.4.',
    '.1.2.3.4',
    '1.2.3.4.5',
    '256.1.1.1',
    '01.2.3.4',
    '1.2.3.04',
    '1.2.3.4 ',
    '1.2.3.-4',
    '0x1.2.3.4',
    '1..2.3',
  ]) {
    assert.equal(parseIpv4(bad), undefined, bad)
  }
  assert.equal(formatIpv4(Uint8Array.of(9, 192, 0, 2, 1), 1), '192.0.2.1')
})

test('IPv6 addresses are written as RFC 5952 says', () => {
  for (const [given, canonical] of [
    ['::', '::'],
    ['::1', '::1'],
    ['1::', '1::'],
    ['2001:0db8::0001', '2001:db8::1'],
    ['2001:db8:0:0:0:0:2:1', '2001:db8::2:1'],
    ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
    ['2001:0:0:1:0:0:0:1', '2001:0:0:1::1'],
    ['2001:db8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
    ['2001:DB8::AbC', '2001:db8::abc'],
    ['1:2:3:4:5:6:7::', '1:2:3:4:5:6:7:0'],
    ['::2:3:4:5:6:7:8', '0:2:3:4:5:6:7:8'],
    ['::ffff:192.0.2.1', '::ffff:192.0.2.1'],
    ['::ffff:c000:201', '::ffff:192.0.2.1'],
    ['64:ff9b::192.0.2.33', '64:ff9b::c000:221'],
    ['1:2:3:4:5:6:1.2.3.4', '1:2:3:4:5:6:102:304'],
  ]) {
    const bytes = parseIpv6(given)
    assert.ok(bytes, given)
    assert.equal(formatIpv6(bytes), canonical, given)
  }
  for (const bad of [
    '',
    ':',
    ':::',
    '1::2::3',
    '1:2:3:4:5:6:7',
    '1:2:3:4:5:6:7:8:9',
    '1:2:3:4:5:6:7:8::',
    '::1:2:3:4:5:6:7:8',
    '12345::',
    'g::',
    '::1%eth0',
    '1.2.3.4',
    '1.2.3.4::',
    '::1.2.3.4:5',
    '1:2:3:4:5:6:7:1.2.3.4',
    ' ::1',
    '::1/64',
    ':1:2:3:4:5:6:7:8',
    '1:',
  ]) {
    assert.equal(parseIpv6(bad), undefined, bad)
  }
})

test('what is accepted and how it is written agrees with Node', () => {
  const groups = fc.array(fc.constantFrom('0', '0', '1', 'ffff', '00ab', '', '1.2.3.4', '10000', 'x'), {
    maxLength: 9,
  })
  fc.assert(
    fc.property(
      groups.map((parts) => parts.join(':')),
      (text) => {
        assert.equal(parseIpv6(text) !== undefined, isIPv6(text), text)
      },
    ),
    { numRuns: 2000, seed: 1 },
  )
  fc.assert(
    fc.property(
      fc.array(fc.constantFrom('0', '1', '00', '255', '256', '', '7'), { maxLength: 5 }),
      (parts) => {
        const text = parts.join('.')
        assert.equal(parseIpv4(text) !== undefined, isIPv4(text), text)
      },
    ),
    { numRuns: 1000, seed: 2 },
  )
  // Groups that are often zero, so that every shape of `::` occurs. Node writes ::1.2.3.4 dotted, RFC 5952 need not.
  const words = fc.array(fc.constantFrom(0, 0, 1, 0xab, 0xffff), { minLength: 8, maxLength: 8 })
  fc.assert(
    fc.property(
      words.filter((w) => w.slice(0, 6).some((word) => word !== 0)),
      (w) => {
        const bytes = Uint8Array.from(w.flatMap((word) => [word >>> 8, word & 0xff]))
        const full = w.map((word) => word.toString(16)).join(':')
        assert.equal(formatIpv6(bytes), new SocketAddress({ address: full, family: 'ipv6' }).address)
      },
    ),
    { numRuns: 1000, seed: 3 },
  )
})

test('every address survives format and parse', () => {
  const address = (length: number) => fc.uint8Array({ minLength: length, maxLength: length })
  fc.assert(
    fc.property(address(6), address(4), address(16), (m, v4, v6) => {
      assert.deepEqual(parseMac(formatMac(m)), m)
      assert.deepEqual(parseIp(formatIp(v4)), v4)
      assert.deepEqual(parseIp(formatIp(v6)), v6)
    }),
    { seed: 4 },
  )
})

test('CIDR needs an address and a prefix length that fits it; host bits stay', () => {
  assert.deepEqual(parseCidr('10.1.2.3/24'), {
    version: 4,
    address: Uint8Array.of(10, 1, 2, 3),
    prefixLength: 24,
  })
  assert.equal(parseCidr('2001:db8::/32')?.version, 6)
  for (const text of ['0.0.0.0/0', '10.0.0.1/32', '::/0', 'fe80::1/128']) {
    const cidr = parseCidr(text)
    assert.ok(cidr)
    assert.equal(formatCidr(cidr), text)
  }
  for (const bad of [
    '10.0.0.1',
    '10.0.0.1/',
    '10.0.0.1/33',
    '10.0.0.1/08',
    '10.0.0.1/-1',
    '10.0.0.1/8/8',
    '::/129',
    '/8',
    'x/8',
    '::1%lo/64',
  ]) {
    assert.equal(parseCidr(bad), undefined, bad)
  }
})
