// From plain types to the bytes the kernel reads: the string table, and one record a type.
import {
  BTF_KINDS,
  BTF_MAGIC,
  BtfError,
  type BtfType,
  HEADER_BYTES,
  INT_ENCODINGS,
  LINKAGES,
  MAX_VLEN,
  TAIL_BYTES,
  TYPE_BYTES,
} from './types.js'

/** Strings, each once, by their offsets. Offset 0 is the empty string. */
export class StringTable {
  readonly #offsets = new Map<string, number>([['', 0]])
  #text = '\0'
  #length = 1

  /** Size in bytes. */
  get length(): number {
    return this.#length
  }

  /** The offset of a string, which is added when it is new. A NUL inside ends it. */
  add(text: string): number {
    const end = text.indexOf('\0')
    const string = end < 0 ? text : text.slice(0, end)
    const known = this.#offsets.get(string)
    if (known !== undefined) return known
    const offset = this.#length
    this.#offsets.set(string, offset)
    this.#text += `${string}\0`
    this.#length += Buffer.byteLength(string) + 1
    return offset
  }

  encode(): Uint8Array {
    return Buffer.from(this.#text)
  }
}

/**
 * The BTF of types whose ids are their places, counted from 1. Names go into `strings`, which may hold others already (those of
 * line info). Throws `BtfError` for what BTF cannot express.
 */
export function encodeBtf(types: readonly BtfType[], strings = new StringTable()): Uint8Array {
  const sizes = types.map(
    (type) => TYPE_BYTES + TAIL_BYTES[type.kind][0] + TAIL_BYTES[type.kind][1] * partsOf(type),
  )
  const typeBytes = sizes.reduce((sum, size) => sum + size, 0)
  const records = new Uint8Array(typeBytes)
  const view = new DataView(records.buffer)
  let at = 0
  types.forEach((type, index) => {
    encodeType(view, at, type, strings)
    at += sizes[index]
  })
  const text = strings.encode()
  const bytes = new Uint8Array(HEADER_BYTES + typeBytes + text.length)
  const header = new DataView(bytes.buffer)
  header.setUint16(0, BTF_MAGIC, true)
  header.setUint8(2, 1)
  header.setUint32(4, HEADER_BYTES, true)
  header.setUint32(12, typeBytes, true)
  header.setUint32(16, typeBytes, true)
  header.setUint32(20, text.length, true)
  bytes.set(records, HEADER_BYTES)
  bytes.set(text, HEADER_BYTES + typeBytes)
  return bytes
}

/** How many members, values, parameters or variables a type has: `vlen`. */
function partsOf(type: BtfType): number {
  switch (type.kind) {
    case 'struct':
    case 'union':
      return type.members.length
    case 'enum':
    case 'enum64':
      return type.values.length
    case 'func_proto':
      return type.parameters.length
    case 'datasec':
      return type.variables.length
    default:
      return 0
  }
}

function encodeType(view: DataView, at: number, type: BtfType, strings: StringTable): void {
  const parts = partsOf(type)
  if (parts > MAX_VLEN) throw new BtfError(`A ${type.kind} of ${parts} parts; BTF takes ${MAX_VLEN}`)
  const record = (flag: boolean, sizeOrType: number, vlen = parts): void => {
    view.setUint32(at, 'name' in type ? strings.add(type.name) : 0, true)
    view.setUint32(at + 4, ((BTF_KINDS[type.kind] << 24) | (flag ? 0x80000000 : 0) | vlen) >>> 0, true)
    view.setUint32(at + 8, sizeOrType, true)
  }
  const tail = at + TYPE_BYTES
  const words = (place: number, ...values: number[]): void =>
    values.forEach((value, index) => view.setUint32(place + index * 4, value >>> 0, true))
  switch (type.kind) {
    case 'int': {
      record(false, type.size)
      const encoding = INT_ENCODINGS[type.encoding ?? 'unsigned']
      words(tail, (encoding << 24) | ((type.bitOffset ?? 0) << 16) | (type.bits ?? type.size * 8))
      return
    }
    case 'ptr':
    case 'const':
    case 'volatile':
    case 'restrict':
    case 'typedef':
      return record(false, type.type)
    case 'array':
      record(false, 0)
      return words(tail, type.element, type.index, type.length)
    case 'struct':
    case 'union': {
      const hasBitFields = type.members.some((member) => member.bitSize !== undefined)
      record(hasBitFields, type.size)
      type.members.forEach((member, index) => {
        if (hasBitFields && member.bitOffset > 0xffffff) {
          throw new BtfError(`The member "${member.name}" lies too far into a struct with bit fields`)
        }
        const offset = hasBitFields ? ((member.bitSize ?? 0) << 24) | member.bitOffset : member.bitOffset
        words(tail + index * 12, strings.add(member.name), member.type, offset)
      })
      return
    }
    case 'enum':
      record(type.signed ?? false, type.size)
      return type.values.forEach(({ name, value }, index) =>
        words(tail + index * 8, strings.add(name), value),
      )
    case 'enum64':
      record(type.signed ?? false, type.size)
      return type.values.forEach(({ name, value }, index) => {
        words(tail + index * 12, strings.add(name))
        view.setBigUint64(tail + index * 12 + 4, BigInt.asUintN(64, value), true)
      })
    case 'fwd':
      return record(type.of === 'union', 0)
    case 'func':
      return record(false, type.type, LINKAGES.indexOf(type.linkage))
    case 'func_proto':
      record(false, type.result)
      return type.parameters.forEach((parameter, index) =>
        words(tail + index * 8, strings.add(parameter.name), parameter.type),
      )
    case 'var':
      record(false, type.type)
      return words(tail, LINKAGES.indexOf(type.linkage))
    case 'datasec':
      record(false, type.size)
      return type.variables.forEach((variable, index) =>
        words(tail + index * 12, variable.type, variable.offset, variable.size),
      )
    case 'float':
      return record(false, type.size)
    case 'decl_tag':
      record(type.attribute ?? false, type.type)
      return words(tail, type.component ?? -1)
    case 'type_tag':
      return record(type.attribute ?? false, type.type)
  }
}
