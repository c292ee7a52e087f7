// The attribute codec and the message splitter: round trips, the kernel's layout, and hostile bytes.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { OptionError } from '../../src/kernel/errors.js'
import {
  arrayOf,
  decodeAttributes,
  eachAttribute,
  encodeAttributes,
  nested,
  readVerdict,
  repeated,
  splitMessages,
  type Attributes,
} from '../../src/kernel/netlink/index.js'

const inner = { count: [1, 'u32'], label: [2, 'string'] } as const
const table = {
  small: [1, 'u8'],
  medium: [2, 'u16'],
  large: [3, 'u32'],
  signed: [4, 's32'],
  wide: [5, 'u64'],
  text: [6, 'string'],
  raw: [7, 'bytes'],
  marked: [8, 'flag'],
  one: [9, nested(inner)],
  numbered: [10, arrayOf(nested(inner))],
  many: [11, repeated('u16')],
  manyNested: [12, repeated(nested(inner))],
} as const

const optional = <T>(arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> =>
  fc.option(arbitrary, { nil: undefined })
const text = fc.string({ unit: 'grapheme', maxLength: 40 }).filter((value) => !value.includes('\0'))
const u32 = fc.integer({ min: 0, max: 0xffffffff })
const innerValues = fc.record({ count: u32, label: text }, { requiredKeys: [], noNullPrototype: true })
const wide = fc
  .bigInt({ min: 0n, max: 2n ** 64n - 1n })
  .map((value) => (value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value))
const values: fc.Arbitrary<Attributes<typeof table>> = fc.record(
  {
    small: optional(fc.integer({ min: 0, max: 0xff })),
    medium: optional(fc.integer({ min: 0, max: 0xffff })),
    large: optional(u32),
    signed: optional(fc.integer({ min: -0x80000000, max: 0x7fffffff })),
    wide: optional(wide),
    text: optional(text),
    raw: optional(fc.uint8Array({ maxLength: 50 })),
    marked: optional(fc.constant(true)),
    one: optional(innerValues),
    numbered: optional(fc.array(innerValues, { maxLength: 4 })),
    many: optional(fc.array(fc.integer({ min: 0, max: 0xffff }), { minLength: 1, maxLength: 4 })),
    manyNested: optional(fc.array(innerValues, { minLength: 1, maxLength: 4 })),
  },
  { noNullPrototype: true },
)

const present = (record: object): object =>
  Object.fromEntries(Object.entries(record).filter(([, value]) => value !== undefined))
/** A view that starts and ends inside a larger buffer, as a datagram's payload does. */
function within(bytes: Uint8Array): Uint8Array {
  const larger = new Uint8Array(bytes.length + 8).fill(0xff)
  larger.set(bytes, 3)
  return larger.subarray(3, 3 + bytes.length)
}

describe('netlink attributes', () => {
  it('decode to what was encoded', () => {
    fc.assert(
      fc.property(values, (record) => {
        const bytes = encodeAttributes(table, record)
        assert.equal(bytes.length % 4, 0)
        assert.deepEqual(decodeAttributes(table, within(bytes)), present(record))
      }),
      { seed: 1, numRuns: 500 },
    )
  })

  it('are laid out as the kernel lays them out', () => {
    const bytes = encodeAttributes(table, {
      small: 7,
      medium: 0x1234,
      text: 'ab',
      marked: true,
      one: { count: 1 },
    })
    // length, type, payload, padding; NLA_F_NESTED on the nest
    const expected = [
      [5, 0, 1, 0, 7, 0, 0, 0],
      [6, 0, 2, 0, 0x34, 0x12, 0, 0],
      [7, 0, 6, 0, 0x61, 0x62, 0, 0],
      [4, 0, 8, 0],
      [12, 0, 9, 0x80, 8, 0, 1, 0, 1, 0, 0, 0],
    ]
    assert.deepEqual([...bytes], expected.flat())
  })

  it('decode without regard to the flag bits of a type', () => {
    const bytes = encodeAttributes({ large: [3, 'u32'] }, { large: 5 })
    for (const flags of [0x40, 0x80, 0xc0]) {
      bytes[3] = flags
      assert.deepEqual(decodeAttributes(table, bytes), { large: 5 })
    }
  })

  it('read a 64-bit value from the 32 bits the kernel may send for it', () => {
    assert.deepEqual(decodeAttributes(table, Uint8Array.of(8, 0, 5, 0, 1, 2, 0, 0)), { wide: 0x201 })
  })

  it('leave out what is too short for its type, and go on', () => {
    const bytes = Uint8Array.of(6, 0, 3, 0, 1, 1, 0, 0, 5, 0, 1, 0, 9, 0, 0, 0)
    assert.deepEqual(decodeAttributes(table, bytes), { small: 9 })
  })

  it('stop where an attribute does not fit', () => {
    for (const length of [0, 3, 9, 0xffff]) {
      const bytes = Uint8Array.of(5, 0, 1, 0, 9, 0, 0, 0, length & 255, length >> 8, 1, 0, 1, 0, 0, 0)
      assert.deepEqual(decodeAttributes(table, bytes), { small: 9 })
    }
  })

  it('never throw on any bytes, nor read outside them', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        const view = within(bytes)
        decodeAttributes(table, view)
        for (const { payload } of eachAttribute(view)) {
          assert.ok(payload.byteOffset >= view.byteOffset)
          assert.ok(payload.byteOffset + payload.length <= view.byteOffset + view.length)
        }
      }),
      { seed: 2, numRuns: 3000 },
    )
  })

  it('survive damage: cut anywhere, any byte changed', () => {
    fc.assert(
      fc.property(values, fc.nat(), fc.nat(), fc.integer({ min: 0, max: 255 }), (record, cut, at, byte) => {
        const bytes = encodeAttributes(table, record)
        if (bytes.length === 0) return
        const whole = decodeAttributes(table, bytes)
        const part = decodeAttributes(table, bytes.subarray(0, cut % bytes.length)) as Record<string, unknown>
        for (const name of Object.keys(part)) assert.ok(name in whole)
        bytes[at % bytes.length] = byte
        decodeAttributes(table, bytes)
      }),
      { seed: 3, numRuns: 1000 },
    )
  })

  it('refuse a value that does not fit, by name', () => {
    const refused = (record: Attributes<typeof table>, option: string): void => {
      assert.throws(
        () => encodeAttributes(table, record),
        (error) => error instanceof OptionError && error.option === option,
      )
    }
    refused({ small: 256 }, 'small')
    refused({ medium: -1 }, 'medium')
    refused({ large: 1.5 }, 'large')
    refused({ signed: 2 ** 31 }, 'signed')
    refused({ wide: 2n ** 64n }, 'wide')
    refused({ text: 'a\0b' }, 'text')
    refused({ raw: new Uint8Array(0x10000) }, 'raw')
    refused({ one: { count: -5 } }, 'count')
  })
})

describe('netlink messages', () => {
  const message = (type: number, flags: number, payload: number[]): Uint8Array => {
    const bytes = new Uint8Array((16 + payload.length + 3) & ~3)
    const view = new DataView(bytes.buffer)
    view.setUint32(0, 16 + payload.length, true)
    view.setUint16(4, type, true)
    view.setUint16(6, flags, true)
    view.setUint32(8, 77, true)
    bytes.set(payload, 16)
    return bytes
  }
  const NLM_F_CAPPED = 0x100
  const NLM_F_ACK_TLVS = 0x200
  const said = [8, 0, 1, 0, 0x6e, 0x6f, 0x21, 0] // NLMSGERR_ATTR_MSG "no!"
  const eperm = [0xff, 0xff, 0xff, 0xff]

  it('are told apart in a datagram', () => {
    const datagram = Buffer.concat([
      message(16, 2, [1, 2, 3, 4, 5]),
      message(17, 0, []),
      message(3, 2, [0, 0, 0, 0]),
    ])
    const found = [...splitMessages(within(datagram))]
    assert.deepEqual(
      found.map(({ type, flags, sequence, payload }) => [type, flags, sequence, ...payload]),
      [
        [16, 2, 77, 1, 2, 3, 4, 5],
        [17, 0, 77],
        [3, 2, 77, 0, 0, 0, 0],
      ],
    )
  })

  it('never throw on any bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 120 }), fc.integer({ min: 0, max: 0xffff }), (bytes, flags) => {
        for (const found of splitMessages(within(bytes))) readVerdict(found)
        readVerdict({ type: 2, flags, sequence: 0, payload: within(bytes) })
        readVerdict({ type: 3, flags, sequence: 0, payload: within(bytes) })
      }),
      { seed: 4, numRuns: 3000 },
    )
  })

  it('carry the verdict with the words of the kernel, behind a capped or a whole request', () => {
    const read = (flags: number, payload: number[], type = 2) => {
      const [found] = splitMessages(message(type, flags, payload))
      return readVerdict(found)
    }
    const header = [24, 0, 0, 0, ...new Array<number>(12).fill(0)]
    const body = [1, 2, 3, 4, 5, 6, 7, 8]
    assert.deepEqual(read(0, [0, 0, 0, 0, ...header, ...body]), { errno: 0, said: undefined })
    assert.deepEqual(read(0, [...eperm, ...header, ...body]), { errno: 1, said: undefined })
    assert.deepEqual(read(NLM_F_ACK_TLVS | NLM_F_CAPPED, [...eperm, ...header, ...said]), {
      errno: 1,
      said: 'no!',
    })
    assert.deepEqual(read(NLM_F_ACK_TLVS, [...eperm, ...header, ...body, ...said]), { errno: 1, said: 'no!' })
    // The end of a dump has no request in it.
    assert.deepEqual(read(NLM_F_ACK_TLVS, [...eperm, ...said], 3), { errno: 1, said: 'no!' })
    assert.deepEqual(read(0, [], 3), { errno: 0, said: undefined })
  })
})
