// Keys and values of maps as TypeScript values: small codecs with the size and alignment of their C type.
import { OptionError } from '../kernel/errors.js'

/** Turns a value into `size` bytes at an offset, and back. `align` is that of the C type. */
export interface Codec<T> {
  readonly size: number
  readonly align: number
  /** What it is in C, for BTF. Left out where it is just bytes. */
  readonly shape?: CodecShape
  encode(view: DataView, offset: number, value: T): void
  decode(view: DataView, offset: number): T
}

/** The C type that a codec stands for. */
export type CodecShape =
  | {
      kind: 'integer'
      type: 'u8' | 'u16' | 'u32' | 'u64' | 's8' | 's16' | 's32' | 's64'
      bigEndian?: boolean
    }
  | { kind: 'array'; element: Codec<unknown>; length: number }
  | { kind: 'struct'; members: readonly { name: string; offset: number; codec: Codec<unknown> }[] }

type IntegerType = Extract<CodecShape, { kind: 'integer' }>['type']

/** The type a codec carries. */
export type Decoded<C> = C extends Codec<infer T> ? T : never

/** The integers that codecs know, by width, sign and byte order (`be`: the network's). */
export type IntegerKind = IntegerType | 'be16' | 'be32' | 'be64'

/** A codec of one integer, whose kind the type system knows: what the program builder reads fields by. */
export interface IntegerCodec<T extends number | bigint, K extends IntegerKind> extends Codec<T> {
  readonly kind: K
}

/** A codec of a struct, with its members' codecs. */
export interface StructCodec<M extends Members> extends Codec<{ [K in keyof M]: Decoded<M[K]> }> {
  readonly members: M
}

/** A codec of an array, with its element's. */
export interface ArrayCodec<C extends AnyCodec> extends Codec<Decoded<C>[]> {
  readonly element: C
  readonly length: number
}

// A codec both takes and gives its type, so that no type but this one fits them all.
// eslint-disable-next-line @typescript-eslint/no-explicit-any
export type AnyCodec = Codec<any>
type Members = Record<string, AnyCodec>

const integer = <K extends IntegerKind>(
  kind: K,
  size: 1 | 2 | 4,
  get: (view: DataView, offset: number) => number,
  set: (view: DataView, offset: number, value: number) => void,
): IntegerCodec<number, K> => ({
  kind,
  size,
  align: size,
  shape: {
    kind: 'integer',
    type: kind.replace('be', 'u') as IntegerType,
    bigEndian: kind.startsWith('be'),
  },
  encode: (view, offset, value) => set(view, offset, value),
  decode: get,
})

export const u8 = integer(
  'u8',
  1,
  (view, at) => view.getUint8(at),
  (view, at, value) => view.setUint8(at, value),
)
export const u16 = integer(
  'u16',
  2,
  (view, at) => view.getUint16(at, true),
  (view, at, value) => view.setUint16(at, value, true),
)
export const u32 = integer(
  'u32',
  4,
  (view, at) => view.getUint32(at, true),
  (view, at, value) => view.setUint32(at, value, true),
)
export const s32 = integer(
  's32',
  4,
  (view, at) => view.getInt32(at, true),
  (view, at, value) => view.setInt32(at, value, true),
)
/** Big-endian, as packets have it: `__be16`. */
export const be16 = integer(
  'be16',
  2,
  (view, at) => view.getUint16(at),
  (view, at, value) => view.setUint16(at, value),
)
/** Big-endian, as packets have it: `__be32`. */
export const be32 = integer(
  'be32',
  4,
  (view, at) => view.getUint32(at),
  (view, at, value) => view.setUint32(at, value),
)

export const u64: IntegerCodec<bigint, 'u64'> = {
  kind: 'u64',
  size: 8,
  align: 8,
  shape: { kind: 'integer', type: 'u64' },
  encode: (view, offset, value) => view.setBigUint64(offset, value, true),
  decode: (view, offset) => view.getBigUint64(offset, true),
}
export const s64: IntegerCodec<bigint, 's64'> = {
  kind: 's64',
  size: 8,
  align: 8,
  shape: { kind: 'integer', type: 's64' },
  encode: (view, offset, value) => view.setBigInt64(offset, value, true),
  decode: (view, offset) => view.getBigInt64(offset, true),
}
/** A 64-bit counter as a number: exact up to 2^53, and no BigInt. */
export const counter: IntegerCodec<number, 'u64'> = {
  kind: 'u64',
  size: 8,
  align: 8,
  shape: { kind: 'integer', type: 'u64' },
  encode(view, offset, value) {
    view.setUint32(offset, value % 0x1_0000_0000, true)
    view.setUint32(offset + 4, Math.floor(value / 0x1_0000_0000), true)
  },
  decode: (view, offset) => view.getUint32(offset + 4, true) * 0x1_0000_0000 + view.getUint32(offset, true),
}

/** Exactly `size` raw bytes, copied both ways. Encoding another length throws `OptionError`. */
export function bytes(size: number): Codec<Uint8Array> {
  return {
    size,
    align: 1,
    encode(view, offset, value) {
      if (value.length !== size)
        throw new OptionError('bytes', `Got ${value.length} bytes where ${size} are due`)
      new Uint8Array(view.buffer, view.byteOffset + offset, size).set(value)
    },
    decode: (view, offset) => new Uint8Array(view.buffer, view.byteOffset + offset, size).slice(),
  }
}

/** A fixed-size C array. */
export function array<C extends AnyCodec>(element: C, length: number): ArrayCodec<C> {
  return {
    element,
    length,
    size: element.size * length,
    align: element.align,
    shape: { kind: 'array', element, length },
    encode(view, offset, values: Decoded<C>[]) {
      if (values.length !== length) {
        throw new OptionError('array', `Got ${values.length} elements where ${length} are due`)
      }
      values.forEach((value, index) => element.encode(view, offset + index * element.size, value))
    },
    decode: (view, offset) =>
      Array.from({ length }, (_, index) => element.decode(view, offset + index * element.size) as Decoded<C>),
  }
}

/** A C struct: members in order, at their natural alignment, padding written as zeros. */
export function struct<M extends Members>(members: M): StructCodec<M>
export function struct<T extends Record<string, unknown>>(members: {
  [K in keyof T]: Codec<T[K]>
}): Codec<T>
export function struct<T extends Record<string, unknown>>(members: {
  [K in keyof T]: Codec<T[K]>
}): Codec<T> & { members: unknown } {
  const names = Object.keys(members) as (keyof T & string)[]
  const align = Math.max(1, ...names.map((name) => members[name].align))
  const offsets = new Map<keyof T, number>()
  let end = 0
  for (const name of names) {
    const at = roundUp(end, members[name].align)
    offsets.set(name, at)
    end = at + members[name].size
  }
  const size = roundUp(end, align)
  return {
    members,
    size,
    align,
    shape: {
      kind: 'struct',
      members: names.map((name) => ({ name, offset: offsets.get(name)!, codec: members[name] })),
    },
    encode(view, offset, value) {
      // Keys are compared byte by byte, padding too.
      new Uint8Array(view.buffer, view.byteOffset + offset, size).fill(0)
      for (const name of names) members[name].encode(view, offset + offsets.get(name)!, value[name])
    },
    decode(view, offset) {
      const value: Partial<T> = {}
      for (const name of names) value[name] = members[name].decode(view, offset + offsets.get(name)!)
      return value as T
    },
  }
}

/** The key of an LPM trie: how many leading bits of `data` count. */
export interface PrefixKey {
  prefixLength: number
  data: Uint8Array
}

/** `struct bpf_lpm_trie_key_u8` with `size` bytes of data: 4 for IPv4, 16 for IPv6 addresses. */
export function prefixKey(size: number): StructCodec<{ prefixLength: typeof u32; data: Codec<Uint8Array> }> {
  return struct({ prefixLength: u32, data: bytes(size) })
}

/** What a devmap entry holds: a device, and a program to run on what goes out there. Written as its fd, read as its id (5.8). */
export const devmapValue = struct<{ ifindex: number; program: number }>({ ifindex: u32, program: s32 })

/** What a cpumap entry holds: the length of its queue in packets, and a program to run there. Written as its fd, read as its id (5.9). */
export const cpumapValue = struct<{ queueSize: number; program: number }>({ queueSize: u32, program: s32 })

export function roundUp(value: number, multiple: number): number {
  return Math.ceil(value / multiple) * multiple
}
