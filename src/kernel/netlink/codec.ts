// Netlink attributes declared as data: one table both encodes and decodes, and TypeScript reads its types from it.
import { OptionError } from '../errors.js'

// include/uapi/linux/netlink.h: the top bits of an attribute's type are flags.
const NLA_F_NESTED = 0x8000
const NLA_TYPE_MASK = 0x3fff
const NLA_HDRLEN = 4

/** What a single attribute holds. `u64` also reads the kernel's `uint`, which is 4 or 8 bytes. */
export type Scalar = 'u8' | 'u16' | 'u32' | 's32' | 'u64' | 'string' | 'bytes' | 'flag'

/** Attributes inside an attribute. */
export interface Nested<T extends Table = Table> {
  readonly nested: T
}

/** An attribute whose children all hold the same thing and are numbered by position. */
export interface ArrayOf<E extends Single = Single> {
  readonly arrayOf: E
}

/** An attribute that stands several times side by side (netlink's multi-attr). */
export interface Repeated<E extends Single = Single> {
  readonly repeated: E
}

type Single = Scalar | Nested
export type Codec = Single | ArrayOf | Repeated

/** Attribute names with their number in the uapi header and what they hold. */
export interface Table {
  readonly [name: string]: readonly [type: number, codec: Codec]
}

interface ScalarValues {
  u8: number
  u16: number
  u32: number
  s32: number
  /** A number when it is a safe integer. */
  u64: number | bigint
  string: string
  bytes: Uint8Array
  /** Present is true; absent is undefined. */
  flag: boolean
}

export type Value<C> = C extends Scalar
  ? ScalarValues[C]
  : C extends Nested<infer T>
    ? Attributes<T>
    : C extends ArrayOf<infer E>
      ? Value<E>[]
      : C extends Repeated<infer E>
        ? Value<E>[]
        : never

/** The values a table describes; what a message did not carry is undefined. */
export type Attributes<T extends Table> = { -readonly [K in keyof T]?: Value<T[K][1]> | undefined }

/** Declares attributes inside an attribute. */
export const nested = <T extends Table>(table: T): Nested<T> => ({ nested: table })
/** Declares an attribute with numbered children. */
export const arrayOf = <E extends Single>(element: E): ArrayOf<E> => ({ arrayOf: element })
/** Declares an attribute that may stand several times. */
export const repeated = <E extends Single>(element: E): Repeated<E> => ({ repeated: element })

const utf8 = { encode: new TextEncoder(), decode: new TextDecoder() }
const align = (length: number): number => (length + 3) & ~3

/** Joins byte arrays. */
export function concatBytes(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0))
  let offset = 0
  for (const part of parts) {
    whole.set(part, offset)
    offset += part.length
  }
  return whole
}

/**
 * Encodes the values that are there, each padded to four bytes, in the table's order. Throws `OptionError`
 * named after the attribute for a number out of range, a string with a NUL or an attribute above 64 KiB.
 */
export function encodeAttributes<const T extends Table>(
  table: T,
  values: Attributes<T>,
): Uint8Array<ArrayBuffer> {
  const parts: Uint8Array[] = []
  for (const [name, [type, codec]] of Object.entries(table)) {
    const value: unknown = values[name]
    if (value === undefined || value === false) continue
    if (typeof codec === 'object' && 'repeated' in codec) {
      for (const element of value as unknown[]) parts.push(encodeOne(name, type, codec.repeated, element))
    } else {
      parts.push(encodeOne(name, type, codec, value))
    }
  }
  return concatBytes(parts)
}

function encodeOne(name: string, type: number, codec: Single | ArrayOf, value: unknown): Uint8Array {
  const payload = encodePayload(name, codec, value)
  const length = NLA_HDRLEN + payload.length
  if (length > 0xffff) throw new OptionError(name, `${name} is too long for netlink: ${payload.length} bytes`)
  const bytes = new Uint8Array(align(length))
  const view = new DataView(bytes.buffer)
  view.setUint16(0, length, true)
  view.setUint16(2, typeof codec === 'object' ? type | NLA_F_NESTED : type, true)
  bytes.set(payload, NLA_HDRLEN)
  return bytes
}

function encodePayload(name: string, codec: Single | ArrayOf, value: unknown): Uint8Array {
  if (typeof codec === 'object') {
    if ('nested' in codec) return encodeAttributes(codec.nested, value as Attributes<Table>)
    return concatBytes(
      (value as unknown[]).map((element, i) => encodeOne(name, i + 1, codec.arrayOf, element)),
    )
  }
  switch (codec) {
    case 'u8':
      return encodeInteger(name, value as number, 1, 0, 0xff)
    case 'u16':
      return encodeInteger(name, value as number, 2, 0, 0xffff)
    case 'u32':
      return encodeInteger(name, value as number, 4, 0, 0xffffffff)
    case 's32':
      return encodeInteger(name, value as number, 4, -0x80000000, 0x7fffffff)
    case 'u64': {
      const wide = BigInt(value as number | bigint)
      if (wide < 0n || wide >> 64n !== 0n) throw new OptionError(name, `${name} is out of range: ${wide}`)
      return new Uint8Array(new BigUint64Array([wide]).buffer)
    }
    case 'string': {
      const text = value as string
      if (text.includes('\0')) throw new OptionError(name, `${name} holds a NUL character`)
      return utf8.encode.encode(`${text}\0`)
    }
    case 'bytes':
      return value as Uint8Array
    case 'flag':
      return new Uint8Array(0)
  }
}

function encodeInteger(
  name: string,
  value: number,
  size: 1 | 2 | 4,
  least: number,
  most: number,
): Uint8Array {
  if (!Number.isInteger(value) || value < least || value > most) {
    throw new OptionError(name, `${name} is out of range: ${value}`, `It lies between ${least} and ${most}.`)
  }
  const bytes = new Uint8Array(4)
  new DataView(bytes.buffer).setUint32(0, value >>> 0, true)
  return bytes.subarray(0, size)
}

/**
 * Decodes the attributes the table knows, and skips the others. Never throws and never reads outside
 * `bytes`: an attribute that is cut ends the list, one too short for its type is left out. `bytes` values
 * and those of nested attributes are copies.
 */
export function decodeAttributes<const T extends Table>(table: T, bytes: Uint8Array): Attributes<T> {
  const values: Record<string, unknown> = {}
  const byType = indexOf(table)
  for (const { type, payload } of eachAttribute(bytes)) {
    const known = byType.get(type)
    if (known === undefined) continue
    const [name, codec] = known
    if (typeof codec === 'object' && 'repeated' in codec) {
      const list = (values[name] ??= []) as unknown[]
      const element = decodeSingle(codec.repeated, payload)
      if (element !== undefined) list.push(element)
    } else if (typeof codec === 'object' && 'arrayOf' in codec) {
      const elements = [...eachAttribute(payload)].map((child) => decodeSingle(codec.arrayOf, child.payload))
      values[name] = elements.filter((element) => element !== undefined)
    } else {
      const value = decodeSingle(codec, payload)
      if (value !== undefined) values[name] = value
    }
  }
  return values as Attributes<T>
}

/** Walks the attributes in `bytes`, numbers without their flag bits; stops at the first that does not fit. */
export function* eachAttribute(bytes: Uint8Array): Generator<{ type: number; payload: Uint8Array }> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  let offset = 0
  while (offset + NLA_HDRLEN <= bytes.length) {
    const length = view.getUint16(offset, true)
    if (length < NLA_HDRLEN || offset + length > bytes.length) return
    const type = view.getUint16(offset + 2, true) & NLA_TYPE_MASK
    yield { type, payload: bytes.subarray(offset + NLA_HDRLEN, offset + length) }
    offset += align(length)
  }
}

function decodeSingle(codec: Single, payload: Uint8Array): unknown {
  if (typeof codec === 'object') return decodeAttributes(codec.nested, payload)
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength)
  switch (codec) {
    case 'u8':
      return payload.length >= 1 ? view.getUint8(0) : undefined
    case 'u16':
      return payload.length >= 2 ? view.getUint16(0, true) : undefined
    case 'u32':
      return payload.length >= 4 ? view.getUint32(0, true) : undefined
    case 's32':
      return payload.length >= 4 ? view.getInt32(0, true) : undefined
    case 'u64': {
      if (payload.length < 8) return payload.length >= 4 ? view.getUint32(0, true) : undefined
      const wide = view.getBigUint64(0, true)
      return wide <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(wide) : wide
    }
    case 'string': {
      const end = payload.indexOf(0)
      return utf8.decode.decode(end < 0 ? payload : payload.subarray(0, end))
    }
    case 'bytes':
      return payload.slice()
    case 'flag':
      return true
  }
}

type ByType = Map<number, readonly [name: string, codec: Codec]>
const indexes = new WeakMap<Table, ByType>()

function indexOf(table: Table): ByType {
  let index = indexes.get(table)
  if (index === undefined) {
    index = new Map(Object.entries(table).map(([name, [type, codec]]) => [type, [name, codec] as const]))
    indexes.set(table, index)
  }
  return index
}
