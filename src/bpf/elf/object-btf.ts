// The BTF of an object as the kernel takes it: sizes and offsets of sections filled in, externs made harmless.
// Follows bpf_object__fixup_btf and bpf_object__collect_externs of libbpf.
import type { Btf } from '../btf/decode.js'
import { StringTable, encodeBtf } from '../btf/encode.js'
import type { BtfSection, BtfType } from '../btf/types.js'
import type { ElfFile, ElfSection } from './file.js'

/** BTF for the kernel, with the same type ids as in the object. */
export interface ObjectBtf {
  bytes: Uint8Array
  /** Offset in the new string table of a string that has one in the object's. Only those that were asked for. */
  strings: ReadonlyMap<number, number>
}

/** `lineStrings` are the offsets that line info refers to. */
export function objectBtf(btf: Btf, file: ElfFile, lineStrings: Iterable<number>): ObjectBtf {
  const table = new StringTable()
  const strings = new Map<number, number>()
  for (const offset of lineStrings) {
    if (!strings.has(offset)) strings.set(offset, table.add(btf.text(offset).trim()))
  }
  const types: BtfType[] = [...btf.types()]
  const hidden = new Set(
    file.symbols.filter((symbol) => symbol.type === 'function' && symbol.isHidden).map(({ name }) => name),
  )
  const sections = new Map(file.sections.map((section) => [section.name, section]))
  const symbols = new Map<number, Map<string, number>>()
  for (const { section, name, value } of file.symbols) {
    const offsets = symbols.get(section) ?? new Map<string, number>()
    symbols.set(section, offsets.set(name, value))
  }
  const prototypes = new Set<number>()
  for (const type of types) if (type.kind === 'func' && type.linkage === 'extern') prototypes.add(type.type)
  let int = types.findIndex((type) => type.kind === 'int') + 1
  if (int === 0) int = types.push({ kind: 'int', name: 'int', size: 4, encoding: 'signed' })
  const fixed = types.map((type, index): BtfType => {
    switch (type.kind) {
      case 'datasec':
        return fixSection(type, btf, sections.get(type.name), symbols)
      case 'var':
        return type.linkage === 'extern' ? { ...type, type: int, linkage: 'global' } : type
      case 'func':
        // A hidden function is verified with its callers, like a static one.
        if (type.linkage === 'extern') return { ...type, linkage: 'global' }
        return hidden.has(type.name) ? { ...type, linkage: 'static' } : type
      case 'func_proto': {
        if (!prototypes.has(index + 1)) return type
        // The kernel wants named parameters of functions; declarations may have none.
        const parameters = type.parameters.map((parameter, i) =>
          parameter.name === '' && parameter.type !== 0 ? { ...parameter, name: `a${i}` } : parameter,
        )
        return { ...type, parameters }
      }
      default:
        return type
    }
  })
  return { bytes: encodeBtf(fixed, table), strings }
}

/** The compiler leaves sizes and offsets to the linker, which there is none. */
function fixSection(
  type: BtfSection,
  btf: Btf,
  section: ElfSection | undefined,
  symbols: ReadonlyMap<number, ReadonlyMap<string, number>>,
): BtfType {
  // A section that is not in the file holds externs: something of no consequence takes its id.
  if (!section || section.size === 0) return { kind: 'ptr', type: 0 }
  const offsets = symbols.get(section.index)
  const variables = type.variables
    .map((variable) => ({ ...variable, offset: offsets?.get(btf.name(variable.type)) ?? variable.offset }))
    .sort((a, b) => a.offset - b.offset)
  return { ...type, size: section.size, variables }
}
