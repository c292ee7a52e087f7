// The maps that an object declares: BTF-defined (.maps), legacy (maps), and its global data (.data, .rodata, .bss).
import type { Btf } from '../btf/decode.js'
import type { BtfComposite, BtfMember, BtfType } from '../btf/types.js'
import { type MapType, mapTypeNames } from '../constants.js'
import { ElfError, printable } from './error.js'
import {
  type ElfFile,
  type ElfRelocation,
  type ElfSection,
  type ElfSymbol,
  isZeroed,
  viewOf,
} from './file.js'

/** A map as its object declares it. */
export interface MapSpec {
  name: string
  type: MapType
  /** Sizes in bytes. */
  keySize: number
  valueSize: number
  /** 0 where the loader chooses. */
  maxEntries: number
  /** BPF_F_… */
  flags: number
  extra: number
  numaNode: number
  /** LIBBPF_PIN_BY_NAME: shared by its name under the pin folder. */
  isPinned: boolean
  /** Types of key and value in the object's BTF; 0 for none. */
  keyTypeId: number
  valueTypeId: number
  /** What the maps in a map of maps look like. */
  inner?: MapSpec
  /** Elements that the object gives: maps or programs, by name. */
  initial: readonly { index: number; kind: 'map' | 'program'; name: string }[]
  /** What it is for: a map of the program's own, or its global variables. */
  role: 'map' | 'data' | 'rodata' | 'bss'
  /** Where it is declared. */
  section: number
  offset: number
}

/** Global data may be no larger than this: it is copied through memory. */
const MAX_DATA_BYTES = 256 * 1024 * 1024
const MAX_MAPS = 1024
const BPF_F_RDONLY_PROG = 1 << 7
const BPF_F_MMAPABLE = 1 << 10
const BPF_F_NUMA_NODE = 1 << 2
const MAPS = '.maps'
const LEGACY_MAPS = 'maps'
/** type, key_size, value_size, max_entries, map_flags */
const LEGACY_BYTES = 20

/** All maps of an object, in the order of its sections and symbols. */
export function readMaps(file: ElfFile, btf: Btf | undefined): MapSpec[] {
  const maps: MapSpec[] = []
  for (const section of file.sections) {
    if (section.name === MAPS) maps.push(...btfMaps(file, section, btf))
    else if (section.name === LEGACY_MAPS) maps.push(...legacyMaps(file, section))
    else if (section.size > 0) {
      const role = roleOfSection(section)
      if (role) maps.push(dataMap(section, role, btf))
    }
  }
  if (maps.length > MAX_MAPS)
    throw new ElfError(`The object has ${maps.length} maps; at most ${MAX_MAPS} are taken`)
  const names = new Set<string>()
  for (const { name } of maps) {
    if (names.has(name)) throw new ElfError('A map is there twice', { symbol: name })
    names.add(name)
  }
  return maps
}

/** What a section of global variables is, by its name. */
export function roleOfSection(section: ElfSection): 'data' | 'rodata' | 'bss' | undefined {
  const name = section.name
  if (section.isExecutable) return undefined
  if (name === '.bss' || name.startsWith('.bss.')) return 'bss'
  if (isZeroed(section)) return undefined
  if (name === '.data' || name.startsWith('.data.')) return 'data'
  if (name === '.rodata' || name.startsWith('.rodata.')) return 'rodata'
  return undefined
}

function dataMap(section: ElfSection, role: 'data' | 'rodata' | 'bss', btf: Btf | undefined): MapSpec {
  if (section.size > MAX_DATA_BYTES) {
    throw new ElfError(`Global data of ${section.size} bytes; at most ${MAX_DATA_BYTES} are taken`, {
      section: section.name,
    })
  }
  return {
    name: section.name,
    type: 'array',
    keySize: 4,
    valueSize: section.size,
    maxEntries: 1,
    flags: role === 'rodata' ? BPF_F_RDONLY_PROG | BPF_F_MMAPABLE : BPF_F_MMAPABLE,
    extra: 0,
    numaNode: 0,
    isPinned: false,
    keyTypeId: 0,
    valueTypeId: btf?.find(section.name, 'datasec') ?? 0,
    initial: [],
    role,
    section: section.index,
    offset: 0,
  }
}

function symbolsOf(file: ElfFile, section: ElfSection): ElfSymbol[] {
  return file.symbols.filter(
    (symbol) => symbol.section === section.index && symbol.name !== '' && symbol.type === 'object',
  )
}

function typeOf(number: number, place: { section: string; symbol: string }): MapType {
  const type = mapTypeNames.get(number)
  if (type === undefined) throw new ElfError(`Maps of type ${number} are unknown`, place)
  return type
}

/** `struct bpf_map_def`. */
function legacyMaps(file: ElfFile, section: ElfSection): MapSpec[] {
  return file.symbols
    .filter(({ section: index, name, type }) => index === section.index && name !== '' && type !== 'section')
    .filter(({ name }) => !/^\.?L/.test(name))
    .map((symbol): MapSpec => {
      const place = { section: section.name, symbol: symbol.name, offset: symbol.value }
      const size = symbol.size === 0 ? LEGACY_BYTES : symbol.size
      if (size < LEGACY_BYTES || symbol.value + size > section.bytes.length) {
        throw new ElfError(`A map definition of ${size} bytes does not fit`, place)
      }
      const definition = section.bytes.subarray(symbol.value, symbol.value + size)
      if (definition.subarray(LEGACY_BYTES).some((byte) => byte !== 0)) {
        throw new ElfError(
          'The map definition has fields beyond struct bpf_map_def',
          place,
          'Definitions in the manner of iproute2 are not read; declare the map in SEC(".maps").',
        )
      }
      const view = viewOf(definition)
      return {
        name: symbol.name,
        type: typeOf(view.getUint32(0, true), place),
        keySize: view.getUint32(4, true),
        valueSize: view.getUint32(8, true),
        maxEntries: view.getUint32(12, true),
        flags: view.getUint32(16, true),
        extra: 0,
        numaNode: 0,
        isPinned: false,
        keyTypeId: 0,
        valueTypeId: 0,
        initial: [],
        role: 'map',
        section: section.index,
        offset: symbol.value,
      }
    })
}

/** Maps declared by the members of a struct (libbpf: parse_btf_map_def). */
function btfMaps(file: ElfFile, section: ElfSection, btf: Btf | undefined): MapSpec[] {
  const symbols = symbolsOf(file, section)
  if (symbols.length === 0) return []
  const id = btf?.find(MAPS, 'datasec')
  if (btf === undefined || id === undefined) {
    throw new ElfError(
      'The maps are declared by their types, which the object does not have (no BTF)',
      { section: section.name, symbol: symbols[0].name },
      'Compile with -g; strip with `llvm-strip -g`, which keeps .BTF.',
    )
  }
  const datasec = btf.type(id)
  const variables = new Map<string, number>()
  if (datasec.kind === 'datasec') {
    for (const { type } of datasec.variables) {
      const variable = btf.type(type)
      if (variable.kind === 'var') variables.set(variable.name, variable.type)
    }
  }
  const relocations = file.relocations.get(section.index) ?? []
  return symbols.map((symbol) => {
    const type = variables.get(symbol.name)
    if (type === undefined) {
      throw new ElfError('The map has no type in the BTF', { section: section.name, symbol: symbol.name })
    }
    const place = { section: section.name, symbol: symbol.name }
    const mine = relocations.filter(
      ({ offset }) => offset >= symbol.value && offset < symbol.value + symbol.size,
    )
    const spec = new Declaration(btf, place).read(symbol.name, type, false)
    spec.section = section.index
    spec.offset = symbol.value
    spec.initial = initialElements(file, mine, symbol, btf, type, place)
    return spec
  })
}

class Declaration {
  readonly #btf: Btf
  readonly #place: { section: string; symbol: string }

  constructor(btf: Btf, place: { section: string; symbol: string }) {
    this.#btf = btf
    this.#place = place
  }

  read(name: string, id: number, isInner: boolean): MapSpec {
    const definition = structOf(this.#btf, id)
    if (!definition) throw this.#error('The map is not declared by a struct')
    const fields = { type: 0, max_entries: 0, map_flags: 0, map_extra: 0, numa_node: 0, pinning: 0 }
    const sizes = { key: 0, value: 0, keyTypeId: 0, valueTypeId: 0 }
    const setSize = (what: 'key' | 'value', size: number): void => {
      if (sizes[what] !== 0 && sizes[what] !== size) {
        throw this.#error(`The ${what} is ${sizes[what]} bytes in one place, ${size} in another`)
      }
      sizes[what] = size
    }
    let inner: MapSpec | undefined
    for (const member of definition.members) {
      switch (member.name) {
        case 'type':
        case 'max_entries':
        case 'map_flags':
        case 'map_extra':
        case 'numa_node':
        case 'pinning':
          fields[member.name] = this.#number(member)
          break
        case 'key_size':
          setSize('key', this.#number(member))
          break
        case 'value_size':
          setSize('value', this.#number(member))
          break
        case 'key':
          sizes.keyTypeId = this.#pointee(member)
          setSize('key', this.#btf.sizeOf(sizes.keyTypeId))
          break
        case 'value':
          sizes.valueTypeId = this.#pointee(member)
          setSize('value', this.#btf.sizeOf(sizes.valueTypeId))
          break
        case 'values':
          if (isInner) throw this.#error('A map in a map of maps cannot have elements of its own')
          setSize('value', 4)
          inner = this.#inner(name, member)
          break
        default:
          throw this.#error(`The map has a field "${printable(member.name)}" that means nothing here`)
      }
    }
    if (fields.type === 0) throw this.#error('The map does not say its type')
    if (fields.pinning > 1)
      throw this.#error(`Pinning ${fields.pinning} is unknown`, 'Use LIBBPF_PIN_BY_NAME.')
    if (isInner && fields.pinning !== 0) throw this.#error('A map in a map of maps cannot be pinned')
    return {
      name,
      type: typeOf(fields.type, this.#place),
      keySize: sizes.key,
      valueSize: sizes.value,
      maxEntries: fields.max_entries,
      flags: fields.numa_node === 0 ? fields.map_flags : fields.map_flags | BPF_F_NUMA_NODE,
      extra: fields.map_extra,
      numaNode: fields.numa_node,
      isPinned: fields.pinning === 1,
      keyTypeId: sizes.keyTypeId,
      valueTypeId: sizes.valueTypeId,
      ...(inner && { inner }),
      initial: [],
      role: 'map',
      section: 0,
      offset: 0,
    }
  }

  #error(message: string, hint?: string): ElfError {
    return new ElfError(message, this.#place, hint)
  }

  /** `__uint(name, n)`: a pointer to an array of n elements. */
  #number(member: BtfMember): number {
    const array = this.#btf.resolved(this.#pointee(member))
    if (array?.kind !== 'array') throw this.#error(`The field "${member.name}" is not declared with __uint`)
    return array.length
  }

  /** `__type(name, type)`: a pointer to the type. */
  #pointee(member: BtfMember): number {
    const pointer = this.#btf.resolved(member.type)
    if (pointer?.kind !== 'ptr' || pointer.type === 0) {
      throw this.#error(`The field "${member.name}" is not declared with __uint or __type`)
    }
    return pointer.type
  }

  /** `__array(values, type)`: the maps in the map; undefined for the programs of a prog_array. */
  #inner(name: string, member: BtfMember): MapSpec | undefined {
    const array = this.#btf.resolved(member.type)
    if (array?.kind !== 'array') throw this.#error('The field "values" is not declared with __array')
    const pointer = this.#btf.resolved(array.element)
    if (pointer?.kind !== 'ptr') throw this.#error('The elements in "values" are not pointers')
    const element = this.#btf.resolved(pointer.type)
    if (element?.kind === 'func_proto') return undefined
    return this.read(`${name}.inner`, pointer.type, true)
  }
}

function structOf(btf: Btf, id: number): BtfComposite | undefined {
  const type: BtfType | undefined = btf.resolved(id)
  return type?.kind === 'struct' ? type : undefined
}

/** The elements of `values`, which the relocations of the section fill in. */
function initialElements(
  file: ElfFile,
  relocations: readonly ElfRelocation[],
  map: ElfSymbol,
  btf: Btf,
  type: number,
  place: { section: string; symbol: string },
): MapSpec['initial'] {
  if (relocations.length === 0) return []
  const values = structOf(btf, type)?.members.find(({ name }) => name === 'values')
  if (!values) throw new ElfError('The map refers to others but has no "values"', place)
  const start = map.value + Math.floor(values.bitOffset / 8)
  return relocations.map(({ offset, symbol }) => {
    const index = (offset - start) / 8
    const target = file.sections[symbol.section] as ElfSection | undefined
    if (index < 0 || !Number.isInteger(index))
      throw new ElfError('An element has no index', { ...place, offset })
    if (target?.isExecutable && symbol.type === 'function')
      return { index, kind: 'program', name: symbol.name }
    if (target?.name === MAPS) return { index, kind: 'map', name: symbol.name }
    throw new ElfError(`The element ${index} is neither a map nor a program`, { ...place, offset })
  })
}
