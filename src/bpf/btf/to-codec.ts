// From BTF to codecs: keys, values and global variables of an object as TypeScript values, by their C types.
import { OptionError } from '../../kernel/errors.js'
import { type Codec, array, bytes, roundUp, s32, s64, u16, u32, u64, u8 } from '../codec.js'
import type { Btf } from './decode.js'
import type { BtfComposite } from './types.js'

// Beyond these a type is just bytes: hostile or not, it is nothing to take apart.
const MAX_ELEMENTS = 65536
const MAX_DEPTH = 16
const MAX_BYTES = 1 << 20

const s8: Codec<number> = {
  size: 1,
  align: 1,
  encode: (view, at, value) => view.setInt8(at, value),
  decode: (view, at) => view.getInt8(at),
}
const s16: Codec<number> = {
  size: 2,
  align: 2,
  encode: (view, at, value) => view.setInt16(at, value, true),
  decode: (view, at) => view.getInt16(at, true),
}
const bool: Codec<boolean | number> = {
  size: 1,
  align: 1,
  encode: (view, at, value) => view.setUint8(at, value ? 1 : 0),
  decode: (view, at) => view.getUint8(at) !== 0,
}
// Numbers are taken where a 64-bit value is due; what is read is always a bigint.
const wide = (codec: Codec<bigint>): Codec<bigint> => ({
  ...codec,
  encode: (view, at, value: bigint | number) => codec.encode(view, at, BigInt(value)),
})
const unsigned = new Map<number, Codec<unknown>>(
  ([u8, u16, u32, wide(u64)] as Codec<unknown>[]).map((c) => [c.size, c]),
)
const signed = new Map<number, Codec<unknown>>(
  ([s8, s16, s32, wide(s64)] as Codec<unknown>[]).map((c) => [c.size, c]),
)

/**
 * The codec of a type: integers and enums as numbers (64-bit ones as bigints, numbers are taken), `bool` as boolean, arrays of
 * `char` as strings, of unsigned bytes as `Uint8Array`, other arrays and structs as such. Unions, structs with bit fields, and
 * whatever else has no natural value, are their bytes. Throws `BtfError` for a type without a size.
 */
export function codecOfType(btf: Btf, id: number): Codec<unknown> {
  return codecOf(btf, id, { left: MAX_ELEMENTS }, 0)
}

function codecOf(btf: Btf, id: number, budget: { left: number }, depth: number): Codec<unknown> {
  const size = btf.sizeOf(id)
  const raw = bytes(size) as Codec<unknown>
  const type = btf.resolved(id)
  if (depth > MAX_DEPTH || size > MAX_BYTES || budget.left-- <= 0) return raw
  switch (type?.kind) {
    case 'int':
      if (type.bitOffset !== 0 || type.bits !== size * 8)
        return type.encoding === 'bool' && size === 1 ? bool : raw
      if (type.encoding === 'bool') return size === 1 ? bool : raw
      return (
        checked(
          type.encoding === 'signed' ? signed.get(size) : unsigned.get(size),
          type.encoding === 'signed',
        ) ?? raw
      )
    case 'enum':
      return checked(type.signed ? signed.get(size) : unsigned.get(size), type.signed ?? false) ?? raw
    case 'enum64':
      return (type.signed ? signed.get(size) : unsigned.get(size)) ?? raw
    case 'ptr':
      return unsigned.get(8)!
    case 'array': {
      const element = btf.resolved(type.element)
      if (element?.kind === 'int' && element.size === 1) {
        return element.name === 'char' ? characters(size) : raw
      }
      const of = codecOf(btf, type.element, budget, depth + 1)
      return type.length > MAX_ELEMENTS || of.size === 0 ? raw : array(of, type.length)
    }
    case 'struct':
      return structOf(btf, type, budget, depth) ?? raw
    default:
      return raw
  }
}

/** A struct with its members where BTF puts them; undefined when they are not plain. */
function structOf(
  btf: Btf,
  { size, members }: BtfComposite,
  budget: { left: number },
  depth: number,
): Codec<unknown> | undefined {
  const placed: { name: string; offset: number; codec: Codec<unknown> }[] = []
  for (const { name, type, bitOffset, bitSize } of members) {
    if (bitSize !== undefined || bitOffset % 8 !== 0 || name === '') return undefined
    const codec = codecOf(btf, type, budget, depth + 1)
    const offset = bitOffset / 8
    if (offset + codec.size > size) return undefined
    placed.push({ name, offset, codec })
  }
  const align = Math.max(1, ...placed.map(({ codec }) => codec.align))
  return {
    size,
    align: roundUp(size, align) === size ? align : 1,
    shape: { kind: 'struct', members: placed },
    encode(view, at, value) {
      // Keys are compared byte by byte, padding too.
      new Uint8Array(view.buffer, view.byteOffset + at, size).fill(0)
      const object = value as Record<string, unknown>
      for (const { name, offset, codec } of placed) {
        if (object[name] === undefined) throw new OptionError(name, `The member "${name}" has no value`)
        codec.encode(view, at + offset, object[name])
      }
    },
    decode: (view, at) =>
      Object.fromEntries(placed.map(({ name, offset, codec }) => [name, codec.decode(view, at + offset)])),
  }
}

/** Text in a fixed array of `char`, with a NUL behind it when there is room. */
function characters(size: number): Codec<unknown> {
  const raw = bytes(size)
  return {
    ...raw,
    encode(view, at, value) {
      const text = typeof value === 'string' ? new TextEncoder().encode(value) : (value as Uint8Array)
      if (text.length > size) throw new OptionError('text', `${text.length} bytes of text where ${size} fit`)
      const padded = new Uint8Array(size)
      padded.set(text)
      raw.encode(view, at, padded)
    },
    decode(view, at) {
      const text = raw.decode(view, at)
      const end = text.indexOf(0)
      return new TextDecoder().decode(end < 0 ? text : text.subarray(0, end))
    },
  }
}

/** A codec that refuses numbers which do not fit. */
function checked(codec: Codec<unknown> | undefined, isSigned: boolean): Codec<unknown> | undefined {
  if (!codec) return undefined
  const bits = BigInt(codec.size * 8)
  const least = isSigned ? -(2n ** (bits - 1n)) : 0n
  const most = isSigned ? 2n ** (bits - 1n) - 1n : 2n ** bits - 1n
  return {
    ...codec,
    encode(view, at, value) {
      const isWhole = typeof value === 'bigint' || (typeof value === 'number' && Number.isSafeInteger(value))
      if (!isWhole || BigInt(value) < least || BigInt(value) > most) {
        throw new OptionError('value', `${String(value)} is no whole number from ${least} to ${most}`)
      }
      codec.encode(view, at, codec.size === 8 ? BigInt(value) : Number(value))
    },
  }
}
