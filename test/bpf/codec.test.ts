// Codecs of map keys and values: sizes, alignment and bytes as C lays them out.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  type Codec,
  array,
  be16,
  be32,
  bytes,
  counter,
  prefixKey,
  s32,
  s64,
  struct,
  u16,
  u32,
  u64,
  u8,
} from '../../src/bpf/index.js'
import { parseCpuList } from '../../src/bpf/cpus.js'

function encode<T>(codec: Codec<T>, value: T): string {
  const out = new Uint8Array(codec.size).fill(0xee)
  codec.encode(new DataView(out.buffer), 0, value)
  return Buffer.from(out).toString('hex')
}

test('scalars have their width and byte order', () => {
  assert.equal(encode(u8, 0xab), 'ab')
  assert.equal(encode(u16, 0x1234), '3412')
  assert.equal(encode(u32, 0xfedcba98), '98badcfe')
  assert.equal(encode(s32, -2), 'feffffff')
  assert.equal(encode(be16, 0x1234), '1234')
  assert.equal(encode(be32, 0xc0a80001), 'c0a80001')
  assert.equal(encode(u64, 0x0102030405060708n), '0807060504030201')
  assert.equal(encode(s64, -1n), 'ffffffffffffffff')
  assert.equal(encode(counter, 2 ** 33 + 5), '0500000002000000')
})

test('a struct is padded as in C, with zeros', () => {
  // struct { __u8 a; __u32 b; __u16 c; __u64 d; __u8 e[3]; }
  const codec = struct({ a: u8, b: u32, c: u16, d: u64, e: bytes(3) })
  assert.equal(codec.size, 32)
  assert.equal(codec.align, 8)
  assert.equal(
    encode(codec, { a: 1, b: 2, c: 3, d: 4n, e: Uint8Array.of(7, 8, 9) }),
    '01000000020000000300000000000000040000000000000007080900' + '00000000',
  )
  assert.equal(struct({ x: u8, y: array(u16, 3) }).size, 8)
})

test('bytes and arrays of the wrong length are refused', () => {
  assert.throws(() => encode(bytes(4), new Uint8Array(3)), { code: 'XDP_BAD_OPTION' })
  assert.throws(() => encode(array(u8, 2), [1]), { code: 'XDP_BAD_OPTION' })
})

test('an LPM key is its length, then its bytes', () => {
  assert.equal(
    encode(prefixKey(4), { prefixLength: 24, data: Uint8Array.of(10, 1, 2, 0) }),
    '180000000a010200',
  )
})

test('what was encoded decodes to itself', () => {
  const codec = struct({ n: u32, list: array(struct({ k: u8, v: s64 }), 2), port: be16, count: counter })
  const element = fc.record({
    k: fc.integer({ min: 0, max: 255 }),
    v: fc.bigInt(-(2n ** 63n), 2n ** 63n - 1n),
  })
  const value = fc.record({
    n: fc.integer({ min: 0, max: 0xffffffff }),
    list: fc.array(element, { minLength: 2, maxLength: 2 }),
    port: fc.integer({ min: 0, max: 0xffff }),
    count: fc.maxSafeNat(),
  })
  fc.assert(
    fc.property(value, (value) => {
      const view = new DataView(new ArrayBuffer(codec.size + 3))
      codec.encode(view, 3, value)
      assert.deepEqual(codec.decode(view, 3), { ...value, list: value.list.map((one) => ({ ...one })) })
    }),
    { seed: 2, numRuns: 500 },
  )
})

test("the kernel's lists of processors are read", () => {
  assert.deepEqual(parseCpuList('0-3,8\n'), [0, 1, 2, 3, 8])
  assert.deepEqual(parseCpuList('0'), [0])
  assert.throws(() => parseCpuList('0-x'), { code: 'XDP_PARSE' })
})
