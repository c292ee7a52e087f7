// Builds BTF for programs written here: types by id, each once, and the strings that line info needs.
import type { Codec } from '../codec.js'
import { addCodec } from './from-codec.js'
import { StringTable, encodeBtf } from './encode.js'
import {
  BtfError,
  type BtfMember,
  type BtfParameter,
  type BtfType,
  type IntEncoding,
  type Linkage,
} from './types.js'

/** A member to be placed: where C would put it, unless `bitOffset` says otherwise. */
export interface MemberToPlace {
  name: string
  type: number
  bitOffset?: number
  bitSize?: number
}

/**
 * Collects types and strings. Adding a type that is there already gives its id again. Ids count from 1; 0 is `void`.
 *
 *   const btf = new BtfBuilder()
 *   const int = btf.int('int', 4, 'signed')
 *   const context = btf.ptr(btf.forward('xdp_md'))
 *   const main = btf.func('main', { result: int, parameters: [{ name: 'ctx', type: context }] })
 *   using handle = loadBtf(btf.encode())
 */
export class BtfBuilder {
  readonly #types: (BtfType | undefined)[] = []
  readonly #ids = new Map<string, number>()
  readonly #strings = new StringTable()
  readonly #alignments = new Map<BtfType, number>()

  /** The types so far; the id of the first is 1. */
  get types(): readonly BtfType[] {
    return this.#types.map((type, index) => type ?? missing(index + 1))
  }

  /** Adds a type of any kind, or finds the same one. */
  add(type: BtfType): number {
    const key = JSON.stringify(type, (_, value: unknown) => (typeof value === 'bigint' ? `${value}n` : value))
    const known = this.#ids.get(key)
    if (known !== undefined) return known
    const id = this.#types.push(type)
    this.#ids.set(key, id)
    return id
  }

  /** An id to refer to before its type is known, for types that contain pointers to themselves. Must be `define`d. */
  reserve(): number {
    return this.#types.push(undefined)
  }

  /** Says what a reserved id is. */
  define(id: number, type: BtfType): void {
    if (this.#types[id - 1] !== undefined || id > this.#types.length) {
      throw new BtfError(`The type id ${id} was not reserved, or is defined already`)
    }
    this.#types[id - 1] = type
  }

  /** The type of an id. */
  type(id: number): BtfType | undefined {
    return this.#types[id - 1]
  }

  int(name: string, size: number, encoding: IntEncoding = 'unsigned'): number {
    return this.add({ kind: 'int', name, size, encoding })
  }

  /** A pointer to a type; to `void` when none is given. */
  ptr(type = 0): number {
    return this.add({ kind: 'ptr', type })
  }

  array(element: number, length: number): number {
    const index = this.int('__ARRAY_SIZE_TYPE__', 4)
    return this.add({ kind: 'array', element, index, length })
  }

  /** A struct, laid out as C would. An empty name makes it anonymous. */
  struct(name: string, members: readonly MemberToPlace[], size?: number): number {
    return this.#composite('struct', name, members, size)
  }

  union(name: string, members: readonly MemberToPlace[], size?: number): number {
    return this.#composite('union', name, members, size)
  }

  enum(name: string, values: Readonly<Record<string, number>>): number {
    const list = Object.entries(values).map(([key, value]) => ({ name: key, value }))
    return this.add({
      kind: 'enum',
      name,
      size: 4,
      signed: list.some(({ value }) => value < 0),
      values: list,
    })
  }

  typedef(name: string, type: number): number {
    return this.add({ kind: 'typedef', name, type })
  }

  /** A struct that is known by name only. */
  forward(name: string, of: 'struct' | 'union' = 'struct'): number {
    return this.add({ kind: 'fwd', name, of })
  }

  /** A function. A `global` one is verified on its own (5.6), so use `static` (the default) unless that is meant. */
  func(
    name: string,
    options: { result?: number; parameters?: readonly BtfParameter[]; linkage?: Linkage } = {},
  ): number {
    const { result = 0, parameters = [], linkage = 'static' } = options
    return this.add({
      kind: 'func',
      name,
      type: this.add({ kind: 'func_proto', result, parameters }),
      linkage,
    })
  }

  /** The type of a codec's values: a map's key or value. `name` becomes the struct's. */
  codec(codec: Codec<unknown>, name?: string): number {
    return addCodec(this, codec, name)
  }

  /** The offset of a string in the string table, for line info. */
  string(text: string): number {
    return this.#strings.add(text)
  }

  /** The BTF of everything added so far. Throws `BtfError` for reserved ids that were not defined. */
  encode(): Uint8Array {
    return encodeBtf(this.types, this.#strings)
  }

  /** Size in bytes of a type as a member or element; pointers have 8. Throws `BtfError` for types without one. */
  sizeOf(id: number): number {
    const type = this.#sized(id)
    if (type.kind === 'array') return this.sizeOf(type.element) * type.length
    return 'size' in type ? type.size : 8
  }

  /** Alignment in bytes of a type, as C has it. */
  alignOf(id: number): number {
    const type = this.#sized(id)
    if (type.kind === 'array') return this.alignOf(type.element)
    if (type.kind === 'struct' || type.kind === 'union') {
      const known = this.#alignments.get(type)
      if (known !== undefined) return known
      const align = Math.max(1, ...type.members.map((member) => this.alignOf(member.type)))
      this.#alignments.set(type, align)
      return align
    }
    return 'size' in type ? Math.min(type.size, 8) : 8
  }

  #sized(id: number): BtfType {
    let type = this.type(id)
    for (let depth = 0; type && depth < 32; depth++) {
      switch (type.kind) {
        case 'const':
        case 'volatile':
        case 'restrict':
        case 'typedef':
        case 'type_tag':
        case 'var':
          type = this.type(type.type)
          break
        case 'fwd':
        case 'func':
        case 'func_proto':
        case 'decl_tag':
          throw new BtfError(`The type ${id}, a ${type.kind}, has no size`)
        default:
          return type
      }
    }
    throw new BtfError(`The type ${id} has no size: it is void, unknown, or made of itself`)
  }

  #composite(
    kind: 'struct' | 'union',
    name: string,
    members: readonly MemberToPlace[],
    size: number | undefined,
  ): number {
    let end = 0
    let align = 1
    const placed = members.map((member): BtfMember => {
      const wanted = this.alignOf(member.type)
      align = Math.max(align, wanted)
      const free = kind === 'union' ? 0 : Math.ceil(end / wanted) * wanted
      const bitOffset = member.bitOffset ?? free * 8
      end = Math.max(end, Math.floor(bitOffset / 8) + this.sizeOf(member.type))
      return { ...member, bitOffset }
    })
    return this.add({ kind, name, size: size ?? Math.ceil(end / align) * align, members: placed })
  }
}

function missing(id: number): never {
  throw new BtfError(`The type id ${id} was reserved but never defined`)
}
