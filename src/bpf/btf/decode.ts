// Reads BTF: an index of where types are, and each type decoded when asked for. Hostile bytes raise `BtfError`, nothing else.
import { type NameIndex, hashName, indexNames, indexTypes, readHeader } from './layout.js'
import {
  BtfError,
  type BtfKind,
  type BtfMember,
  type BtfType,
  INT_ENCODINGS,
  type IntEncoding,
  LINKAGES,
  type Linkage,
  TYPE_BYTES,
  kindNames,
} from './types.js'

/** The longest name that is read. The kernel's own limit is 511 (KSYM_NAME_LEN). */
const MAX_NAME = 2048
/** How many modifiers may stand before a type, and how deep arrays nest: MAX_RESOLVE_DEPTH of kernel/bpf/btf.c. */
const MAX_DEPTH = 32

const decoder = new TextDecoder()

/**
 * The types and strings of one BTF section. Nothing is decoded before it is asked for, so that the kernel's own (6 MB, 140,000
 * types) opens in some 10 ms. Ids count from 1; 0 is `void`. Every method throws `BtfError` for bytes that make no sense.
 */
export class Btf {
  /** The bytes it reads from, not copied. */
  readonly bytes: Uint8Array
  readonly #view: DataView
  readonly #strings: Buffer
  /** Where each type starts; index 0 is unused. */
  readonly #offsets: Uint32Array
  readonly #decoded = new Map<number, BtfType>()
  #names: NameIndex | undefined

  private constructor(bytes: Uint8Array) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    const header = readHeader(view)
    this.bytes = bytes
    this.#view = view
    this.#strings = Buffer.from(bytes.buffer, bytes.byteOffset + header.strings, header.stringBytes)
    if (header.stringBytes === 0 || this.#strings[0] !== 0 || this.#strings.at(-1) !== 0) {
      throw new BtfError('The string table does not begin and end with a NUL', { offset: header.strings })
    }
    this.#offsets = indexTypes(view, header.types, header.typeBytes)
  }

  /** Reads the header and finds the types. */
  static parse(bytes: Uint8Array): Btf {
    return new Btf(bytes)
  }

  /** The highest type id. */
  get lastId(): number {
    return this.#offsets.length - 1
  }

  /** The size of the string table. */
  get stringBytes(): number {
    return this.#strings.length
  }

  /** The kind of a type. */
  kind(id: number): BtfKind {
    return kindNames[(this.#view.getUint32(this.#at(id) + 4, true) >>> 24) & 0x1f]!
  }

  /** The name of a type; empty for types without one. */
  name(id: number): string {
    return this.string(this.#view.getUint32(this.#at(id), true))
  }

  /** The string at an offset of the string table. */
  string(offset: number): string {
    if (offset >= this.#strings.length) {
      throw new BtfError(`A string at ${offset} of ${this.#strings.length} bytes of strings`)
    }
    const end = this.#strings.indexOf(0, offset)
    if (end - offset > MAX_NAME) throw new BtfError(`A name of ${end - offset} bytes`)
    return decoder.decode(this.#strings.subarray(offset, end))
  }

  /** The string at an offset, cut to `limit` bytes: for lines of source. Empty when there is none. */
  text(offset: number, limit = 256): string {
    if (offset >= this.#strings.length) return ''
    const piece = this.#strings.subarray(offset, offset + limit)
    const end = piece.indexOf(0)
    return decoder.decode(end < 0 ? piece : piece.subarray(0, end))
  }

  /** The type of an id. */
  type(id: number): BtfType {
    let type = this.#decoded.get(id)
    if (!type) {
      type = this.#decode(id)
      this.#decoded.set(id, type)
    }
    return type
  }

  /** All types in order, that of id 1 first. They are not kept. */
  *types(): Generator<BtfType, void> {
    for (let id = 1; id <= this.lastId; id++) yield this.#decoded.get(id) ?? this.#decode(id)
  }

  /** The id of the first type of a name, of a kind if one is given. */
  find(name: string, kind?: BtfKind): number | undefined {
    return this.findAll(name).find((id) => kind === undefined || this.kind(id) === kind)
  }

  /** The ids of the types of a name; with `flavours` those of `name___anything` too. */
  findAll(name: string, flavours = false): number[] {
    if (name === '') return []
    this.#names ??= indexNames(this.#view, this.#offsets, this.#strings)
    const { heads, next } = this.#names
    const wanted = Buffer.from(name)
    const ids: number[] = []
    for (let id = heads[hashName(wanted, 0) & (heads.length - 1)]; id > 0; id = next[id]) {
      const start = this.#view.getUint32(this.#offsets[id], true)
      const end = start + wanted.length
      if (this.#strings.compare(wanted, 0, wanted.length, start, Math.min(end, this.#strings.length)) !== 0)
        continue
      const isFlavour = flavours && this.#strings.toString('latin1', end, end + 3) === '___'
      if (this.#strings[end] === 0 || isFlavour) ids.push(id)
    }
    return ids
  }

  /** The type behind typedefs, `const`, `volatile`, `restrict` and type tags; 0 for `void`. */
  resolve(id: number): number {
    for (let depth = 0; depth < MAX_DEPTH; depth++) {
      if (id === 0) return 0
      const type = this.type(id)
      switch (type.kind) {
        case 'const':
        case 'volatile':
        case 'restrict':
        case 'typedef':
        case 'type_tag':
          id = type.type
          break
        default:
          return id
      }
    }
    throw new BtfError(`The type ${id} goes through more than ${MAX_DEPTH} others, or round in a circle`)
  }

  /** The type behind typedefs and modifiers; undefined for `void`. */
  resolved(id: number): BtfType | undefined {
    const at = this.resolve(id)
    return at === 0 ? undefined : this.type(at)
  }

  /** Size in bytes of a type; pointers have 8. */
  sizeOf(id: number): number {
    let count = 1
    for (let depth = 0; depth < MAX_DEPTH; depth++) {
      const type = this.resolved(id)
      switch (type?.kind) {
        case 'array':
          count *= type.length
          id = type.element
          break
        case 'var':
          id = type.type
          break
        case 'ptr':
          return 8 * count
        case 'int':
        case 'struct':
        case 'union':
        case 'enum':
        case 'enum64':
        case 'float':
        case 'datasec':
          return type.size * count
        default:
          throw new BtfError(`The type ${id}, ${type ? `a ${type.kind}` : 'void'}, has no size`)
      }
    }
    throw new BtfError(`The type ${id} is nested more than ${MAX_DEPTH} deep`)
  }

  #at(id: number): number {
    if (!(id > 0 && id < this.#offsets.length)) {
      throw new BtfError(`There is no type ${id}; the highest is ${this.lastId}`)
    }
    return this.#offsets[id]
  }

  #decode(id: number): BtfType {
    const at = this.#at(id)
    const word = (offset: number): number => this.#view.getUint32(at + offset, true)
    const info = word(4)
    const kind = this.kind(id)
    const flag = info >>> 31 === 1
    const vlen = info & 0xffff
    const size = word(8)
    const parts = <T>(each: number, read: (offset: number) => T): T[] =>
      Array.from({ length: vlen }, (_, index) => read(TYPE_BYTES + index * each))
    const name = this.string(word(0))
    switch (kind) {
      case 'int': {
        const bits = word(TYPE_BYTES)
        const encoding = intEncodings.get((bits >>> 24) & 0xf)
        if (encoding === undefined)
          throw new BtfError(`The integer "${name}" has an unknown encoding`, { offset: at })
        return { kind, name, size, bits: bits & 0xff, bitOffset: (bits >>> 16) & 0xff, encoding }
      }
      case 'ptr':
      case 'const':
      case 'volatile':
      case 'restrict':
        return { kind, type: size }
      case 'typedef':
        return { kind, name, type: size }
      case 'array':
        return { kind, element: word(TYPE_BYTES), index: word(TYPE_BYTES + 4), length: word(TYPE_BYTES + 8) }
      case 'struct':
      case 'union':
        return {
          kind,
          name,
          size,
          members: parts(12, (offset): BtfMember => {
            const bits = word(offset + 8)
            const member = { name: this.string(word(offset)), type: word(offset + 4) }
            if (!flag) return { ...member, bitOffset: bits }
            const bitSize = bits >>> 24
            return { ...member, bitOffset: bits & 0xffffff, ...(bitSize > 0 && { bitSize }) }
          }),
        }
      case 'enum':
        return {
          kind,
          name,
          size,
          signed: flag,
          values: parts(8, (offset) => {
            const value = word(offset + 4)
            return { name: this.string(word(offset)), value: flag ? value | 0 : value }
          }),
        }
      case 'enum64':
        return {
          kind,
          name,
          size,
          signed: flag,
          values: parts(12, (offset) => {
            const value = (BigInt(word(offset + 8)) << 32n) | BigInt(word(offset + 4))
            return { name: this.string(word(offset)), value: flag ? BigInt.asIntN(64, value) : value }
          }),
        }
      case 'fwd':
        return { kind, name, of: flag ? 'union' : 'struct' }
      case 'func':
        return { kind, name, type: size, linkage: linkageOf(vlen, at) }
      case 'func_proto':
        return {
          kind,
          result: size,
          parameters: parts(8, (offset) => ({ name: this.string(word(offset)), type: word(offset + 4) })),
        }
      case 'var':
        return { kind, name, type: size, linkage: linkageOf(word(TYPE_BYTES), at) }
      case 'datasec':
        return {
          kind,
          name,
          size,
          variables: parts(12, (offset) => ({
            type: word(offset),
            offset: word(offset + 4),
            size: word(offset + 8),
          })),
        }
      case 'float':
        return { kind, name, size }
      case 'decl_tag':
        return { kind, name, type: size, component: word(TYPE_BYTES) | 0, ...(flag && { attribute: true }) }
      case 'type_tag':
        return { kind, name, type: size, ...(flag && { attribute: true }) }
    }
  }
}

const intEncodings = new Map<number, IntEncoding>(
  (Object.keys(INT_ENCODINGS) as IntEncoding[]).map((encoding) => [INT_ENCODINGS[encoding], encoding]),
)

function linkageOf(number: number, offset: number): Linkage {
  const linkage = LINKAGES[number]
  if (linkage === undefined) throw new BtfError(`Linkage ${number} is unknown`, { offset })
  return linkage
}
