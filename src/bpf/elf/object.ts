// An eBPF object file as made by `clang -target bpf -c`, in the manner of libbpf: read, inspected, adjusted, then loaded.
import { readFileSync, statSync } from 'node:fs'
import { basename } from 'node:path'
import { NotFoundError, OptionError } from '../../kernel/errors.js'
import { Btf } from '../btf/decode.js'
import { codecOfType } from '../btf/to-codec.js'
import { BtfError } from '../btf/types.js'
import { type Codec, bytes as rawBytes, s64, u16, u32, u64, u8 } from '../codec.js'
import type { AttachType, MapType, ProgramType } from '../constants.js'
import type { GlobalPlace, ObjectContents, ObjectGlobal } from './contents.js'
import { initialData } from './contents.js'
import { ElfError } from './error.js'
import { type ExtSection, readExt } from './ext.js'
import { type ElfFile, type ElfSection, readElf } from './file.js'
import { type ElfFunction, type LinkedProgram, linkProgram, readFunctions } from './link.js'
import { type LoadObjectOptions, loadObject } from './load.js'
import type { LoadedObject } from './loaded.js'
import { type MapSpec, readMaps } from './maps.js'
import { type SectionKind, kindOfSection } from './sections.js'

/** A program of an object. */
export interface ObjectProgram {
  /** The function's name. */
  name: string
  /** As in `SEC("…")`. */
  section: string
  /** Undefined for a section whose name says nothing. */
  type: ProgramType | undefined
  /** XDP: where it is meant to run. */
  attachType: AttachType | undefined
  /** XDP: takes packets in several buffers. */
  frags: boolean
  /** Instructions of the function itself, without what it calls. */
  instructions: number
}

/** A map of an object. Sizes in bytes. */
export interface ObjectMap {
  name: string
  type: MapType
  keySize: number
  valueSize: number
  /** 0 where the loader chooses (perf event arrays: one a processor). */
  maxEntries: number
  /** What it is for: `data`, `rodata` and `bss` hold the global variables. */
  role: MapSpec['role']
  /** Shared through a pin of its name. */
  isPinned: boolean
}

// Objects with debug information of the whole kernel stay well below.
const LARGEST = 256 * 2 ** 20

/**
 * An object file. Parsing makes no system call and trusts nothing: whatever is wrong with the file is an `ElfError` (`XDP_ELF`) or,
 * for its type information, a `BtfError` (`XDP_BTF`).
 *
 *   const object = BpfObject.open('filter.o')
 *   object.setGlobal('port', 53)
 *   using loaded = object.load({ maps: { xsks_map: sockets } })
 *   attachXdp(loaded.program('filter'), { interface: 'eth1' })
 */
export class BpfObject {
  /** For messages: the file's name. */
  readonly name: string
  /** The licence the object names; empty when it names none. */
  readonly license: string
  readonly programs: readonly ObjectProgram[]
  readonly maps: readonly ObjectMap[]
  readonly globals: readonly ObjectGlobal[]
  /** The object's types; undefined when it was compiled without -g. */
  readonly btf: Btf | undefined
  readonly #contents: ObjectContents

  private constructor(contents: ObjectContents) {
    this.#contents = contents
    this.name = contents.name
    this.license = contents.license
    this.btf = contents.btf
    this.programs = [...contents.entries.values()].map(({ function: fn, kind }) => ({
      name: fn.name,
      section: fn.section.name,
      type: kind?.type,
      attachType: kind?.type === 'xdp' ? (kind.attachType ?? 'xdp') : undefined,
      frags: kind?.frags ?? false,
      instructions: fn.slots,
    }))
    this.maps = contents.maps.map(({ name, type, keySize, valueSize, maxEntries, role, isPinned }) => ({
      name,
      type,
      keySize,
      valueSize,
      maxEntries,
      role,
      isPinned,
    }))
    this.globals = [...contents.globals.values()].map(({ name, section, size, isConstant }) => ({
      name,
      section,
      size,
      isConstant,
    }))
  }

  /** Reads an object file, of 256 MiB at most. Throws `NotFoundError` when there is none, `ElfError` for what cannot be one. */
  static open(path: string): BpfObject {
    let bytes: Uint8Array
    try {
      // A pipe or a device may never end, and a file of gigabytes is no object.
      const stats = statSync(path)
      if (!stats.isFile())
        throw new ElfError(`${path} is no regular file`, {}, 'Name an object made by clang.')
      if (stats.size > LARGEST) {
        throw new ElfError(
          `${path} has ${stats.size} bytes: too many for an object`,
          {},
          'Name an object made by clang.',
        )
      }
      bytes = readFileSync(path)
    } catch (error) {
      if (error instanceof ElfError) throw error
      const { code, message } = error as NodeJS.ErrnoException
      if (code === 'ENOENT') throw new NotFoundError(`There is no file ${path}`)
      throw new ElfError(`The file ${path} cannot be read: ${message}`, {}, undefined, { cause: error })
    }
    return BpfObject.parse(bytes, { name: basename(path) })
  }

  /** Reads an object. `bytes` must not change afterwards. */
  static parse(bytes: Uint8Array, options: { name?: string } = {}): BpfObject {
    const file = readElf(bytes)
    const btfSection = file.sections.find(({ name }) => name === '.BTF')
    const extSection = file.sections.find(({ name }) => name === '.BTF.ext')
    const btf = btfSection && btfSection.bytes.length > 0 ? Btf.parse(btfSection.bytes) : undefined
    const hasExt = btf !== undefined && extSection !== undefined && extSection.bytes.length > 0
    const functions = readFunctions(file)
    const maps = readMaps(file, btf)
    return new BpfObject({
      name: options.name ?? 'object',
      file,
      btf,
      ext: hasExt ? readExt(extSection.bytes, btf) : new Map<string, ExtSection>(),
      functions,
      maps,
      entries: readEntries(functions),
      globals: readGlobals(file, maps, btf),
      license: readLicense(file),
      data: new Map(),
      maxEntries: new Map(),
    })
  }

  /**
   * Sets a global variable before loading: a constant in `.rodata`, or the first value of a variable. What is taken depends on the C
   * type: numbers, bigints, booleans, strings, arrays, objects; without BTF a whole number or bytes. Throws `OptionError`.
   */
  setGlobal(name: string, value: unknown): this {
    const place = this.#contents.globals.get(name)
    if (!place) {
      const names = this.globals.map((global) => global.name).join(', ')
      throw new OptionError(
        'name',
        `The object "${this.name}" has no variable "${name}"`,
        names && `It has: ${names}.`,
      )
    }
    const { data } = this.#contents
    let bytes = data.get(place.map.section)
    if (!bytes) data.set(place.map.section, (bytes = initialData(this.#contents, place.map)))
    const view = new DataView(bytes.buffer)
    try {
      requireMembers(place.codec, value, '')
      place.codec.encode(view, place.offset, value)
    } catch (error) {
      if (error instanceof OptionError) {
        throw new OptionError(name, `The variable "${name}" cannot be set: ${error.message}`, error.hint)
      }
      if (error instanceof TypeError || error instanceof SyntaxError || error instanceof RangeError) {
        throw new OptionError(name, `The variable "${name}" cannot be set to that: ${error.message}`)
      }
      throw error
    }
    return this
  }

  /** Makes a map of another size than the object says. Throws `OptionError`. */
  setMaxEntries(map: string, entries: number): this {
    if (!this.maps.some(({ name, role }) => name === map && role === 'map')) {
      throw new OptionError('map', `The object "${this.name}" has no map "${map}"`)
    }
    this.#contents.maxEntries.set(map, entries)
    return this
  }

  /**
   * A program with the functions it calls, as it will be loaded but for maps and the kernel's types. For showing it: `bytes` are for
   * `disassemble`. Throws `OptionError` for a name that is not there.
   */
  link(program: string): LinkedProgram {
    const entry = this.#contents.entries.get(program)
    if (!entry) throw new OptionError('program', `The object "${this.name}" has no program "${program}"`)
    return linkProgram(this.#contents, entry.function)
  }

  /** Makes the maps and loads the programs; see `LoadObjectOptions`. */
  load(options: LoadObjectOptions = {}): LoadedObject {
    return loadObject(this.#contents, options)
  }
}

/** Throws `OptionError` for a member of a struct that is not there: it would be left out in silence. */
function requireMembers({ shape }: Codec<unknown>, value: unknown, path: string): void {
  if (shape?.kind === 'array' && Array.isArray(value)) {
    value.forEach((one, index) => requireMembers(shape.element, one, `${path}[${index}]`))
  }
  if (shape?.kind !== 'struct' || typeof value !== 'object' || value === null) return
  for (const [name, one] of Object.entries(value)) {
    const member = shape.members.find((it) => it.name === name)
    if (!member) {
      const there = shape.members.map((it) => it.name).join(', ')
      throw new OptionError('value', `There is no member "${path}${name}"`, `It has: ${there}.`)
    }
    requireMembers(member.codec, one, `${path}${name}.`)
  }
}

/** Programs are the functions that others can see, in sections of their own; those in .text are only called. */
function readEntries(functions: ObjectContents['functions']): ObjectContents['entries'] {
  const entries = new Map<string, { function: ElfFunction; kind: SectionKind | undefined }>()
  for (const [, bySlot] of [...functions].sort(([a], [b]) => a - b)) {
    for (const fn of [...bySlot.values()].sort((a, b) => a.start - b.start)) {
      if (fn.section.name === '.text' || fn.symbol.binding === 'local') continue
      entries.set(fn.name, { function: fn, kind: kindOfSection(fn.section.name) })
    }
  }
  return entries
}

function readLicense(file: ElfFile): string {
  const bytes = file.sections.find(({ name }) => name === 'license')?.bytes
  if (!bytes) return ''
  const end = bytes.indexOf(0)
  const license = new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end))
  if (license.length > 128)
    throw new ElfError(`A licence of ${license.length} characters`, { section: 'license' })
  return license
}

function readGlobals(
  file: ElfFile,
  maps: readonly MapSpec[],
  btf: Btf | undefined,
): Map<string, GlobalPlace> {
  const bySection = new Map(maps.filter(({ role }) => role !== 'map').map((map) => [map.section, map]))
  const types = variableTypes(btf, [...bySection.values()])
  const globals = new Map<string, GlobalPlace>()
  for (const symbol of file.symbols) {
    const map = bySection.get(symbol.section)
    if (!map || symbol.type !== 'object' || symbol.name === '' || globals.has(symbol.name)) continue
    const { name, value: offset, size } = symbol
    const section: ElfSection = file.sections[symbol.section]
    if (offset + size > map.valueSize) {
      throw new ElfError(`The variable goes to ${offset + size} of ${map.valueSize} bytes`, {
        section: section.name,
        symbol: name,
      })
    }
    const codec = variableCodec(btf, types.get(name), size)
    globals.set(name, {
      name,
      section: section.name,
      size,
      isConstant: map.role === 'rodata',
      map,
      offset,
      codec,
    })
  }
  return globals
}

/** Types of the variables in the sections of global data, by name. */
function variableTypes(btf: Btf | undefined, maps: readonly MapSpec[]): Map<string, number> {
  const types = new Map<string, number>()
  for (const { valueTypeId } of maps) {
    const section = btf && valueTypeId > 0 ? btf.type(valueTypeId) : undefined
    if (section?.kind !== 'datasec') continue
    for (const { type } of section.variables) {
      const variable = btf!.type(type)
      if (variable.kind === 'var') types.set(variable.name, variable.type)
    }
  }
  return types
}

function variableCodec(btf: Btf | undefined, type: number | undefined, size: number): Codec<unknown> {
  try {
    if (btf && type !== undefined && btf.sizeOf(type) === size) return codecOfType(btf, type)
  } catch (error) {
    if (!(error instanceof BtfError)) throw error
  }
  return untyped(size)
}

/** Without a type: numbers where the size is that of one (negative ones too), else bytes. */
function untyped(size: number): Codec<unknown> {
  const raw = rawBytes(size)
  const integer = ({ 1: u8, 2: u16, 4: u32, 8: u64 } as Readonly<Record<number, Codec<unknown> | undefined>>)[
    size
  ]
  return {
    ...raw,
    encode(view, at, value) {
      if (value instanceof Uint8Array) return raw.encode(view, at, value)
      const isWhole = typeof value === 'bigint' || typeof value === 'boolean' || Number.isSafeInteger(value)
      if (!integer || !isWhole)
        throw new OptionError('value', `Without BTF it takes ${size} bytes, or a whole number`)
      const number = BigInt(value as bigint | number | boolean)
      const bits = BigInt(size * 8)
      if (number < -(2n ** (bits - 1n)) || number >= 2n ** bits) {
        throw new OptionError('value', `${number} does not fit into ${size} bytes`)
      }
      if (size === 8) (number < 0n ? s64 : u64).encode(view, at, number)
      else integer.encode(view, at, Number(number))
    },
    decode: (view, at) => (integer ? integer.decode(view, at) : raw.decode(view, at)),
  }
}
