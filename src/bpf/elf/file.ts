// Reads ELF64 relocatable files for eBPF: sections, symbols, relocations, every offset checked (elf(5), gABI chapter 4).
import { ElfError } from './error.js'

export const SHT_PROGBITS = 1
const SHT_SYMTAB = 2
const SHT_NOBITS = 8
const SHT_RELA = 4
const SHT_REL = 9
const SHF_EXECINSTR = 4
const SHN_XINDEX = 0xffff
/** Section index of undefined symbols. */
export const SHN_UNDEF = 0

const HEADER_BYTES = 64
const SECTION_BYTES = 64
const SYMBOL_BYTES = 24
const REL_BYTES = 16
const ET_REL = 1
const EM_NONE = 0
const EM_BPF = 247
/** How bitcode begins, alone and wrapped (llvm/BinaryFormat/Magic.cpp). */
const BITCODE = [0x4243c0de, 0xdec0170b]
/** What helps against an object that names what is behind its end. */
const CUT_SHORT = 'The file is cut short: compile or copy it again.'
/** The longest name of a section or symbol that is read. */
const MAX_NAME = 1024

export interface ElfSection {
  index: number
  name: string
  type: number
  isExecutable: boolean
  /** Size in bytes, also of sections without bytes in the file (`.bss`). */
  size: number
  /** Its bytes, not copied; empty for `.bss`. */
  bytes: Uint8Array
  link: number
  info: number
}

/** Kinds of symbols: STT_NOTYPE, STT_OBJECT, STT_FUNC, STT_SECTION. */
export type ElfSymbolType = 'none' | 'object' | 'function' | 'section' | 'other'

export interface ElfSymbol {
  name: string
  type: ElfSymbolType
  binding: 'local' | 'global' | 'weak'
  /** STV_HIDDEN or STV_INTERNAL: not meant for other objects. */
  isHidden: boolean
  /** Index of its section; `SHN_UNDEF` when it is elsewhere. */
  section: number
  /** Byte offset in its section. */
  value: number
  size: number
}

export interface ElfRelocation {
  /** Byte offset in the section that it changes. */
  offset: number
  /** R_BPF_… */
  type: number
  symbol: ElfSymbol
}

/** What is in the file. */
export interface ElfFile {
  sections: readonly ElfSection[]
  symbols: readonly ElfSymbol[]
  /** Relocations by index of the section they change. */
  relocations: ReadonlyMap<number, readonly ElfRelocation[]>
}

const symbolTypes: readonly ElfSymbolType[] = ['none', 'object', 'function', 'section']
const bindings = ['local', 'global', 'weak'] as const
const decoder = new TextDecoder()

/** Reads an object file. Throws `ElfError` for anything but a well-formed little-endian eBPF object. */
export function readElf(file: Uint8Array): ElfFile {
  // Not a Buffer, as `readFileSync` gives: its `slice` does not copy.
  const bytes = new Uint8Array(file.buffer, file.byteOffset, file.byteLength)
  const view = viewOf(bytes)
  checkHeader(view)
  const sections = readSections(view, bytes)
  const symbols = readSymbols(sections)
  const relocations = new Map<number, ElfRelocation[]>()
  for (const section of sections) {
    if (section.type === SHT_REL) readRelocations(section, sections, symbols, relocations)
    // The ABI of eBPF has none; leaving them out would be loading something else.
    if (section.type === SHT_RELA && sections[section.info]?.isExecutable) {
      throw new ElfError('The relocations have addends, which those of eBPF have not', {
        section: section.name,
      })
    }
  }
  return { sections, symbols, relocations }
}

function checkHeader(view: DataView): void {
  const fail = (message: string, offset: number, hint?: string): never => {
    throw new ElfError(message, { offset }, hint)
  }
  if (view.byteLength >= 4 && BITCODE.includes(view.getUint32(0))) {
    fail(
      'This is LLVM bitcode and no ELF file',
      0,
      'Compile with `clang -target bpf -c`, without -emit-llvm and -flto.',
    )
  }
  if (view.byteLength < 4 || view.getUint32(0) !== 0x7f454c46) {
    fail('This is no ELF file', 0, 'Pass an object made by `clang -target bpf -c`.')
  }
  if (view.byteLength < HEADER_BYTES)
    fail(`The file ends in its header, after ${view.byteLength} bytes`, 0, CUT_SHORT)
  if (view.getUint8(4) !== 2)
    fail('This ELF file is not a 64-bit one', 4, 'Compile with `clang -target bpf`.')
  if (view.getUint8(5) === 2) {
    fail(
      'This object is big endian (bpfeb)',
      5,
      'Compile with `clang -target bpfel`: the machine is little endian.',
    )
  }
  if (view.getUint8(5) !== 1) fail(`Byte order ${view.getUint8(5)} is unknown`, 5)
  const [type, machine] = [view.getUint16(16, true), view.getUint16(18, true)]
  if (machine !== EM_BPF && machine !== EM_NONE) {
    fail(
      `This object is for machine ${machine}, not for eBPF (${EM_BPF})`,
      18,
      'Compile with `clang -target bpf -c`.',
    )
  }
  if (type !== ET_REL)
    fail(`This file is not a relocatable object (type ${type})`, 16, 'Compile with `clang -c`.')
}

/** A 64-bit number; beyond 2^53 it is inexact, and out of every bound that it is compared with. */
function wide(view: DataView, at: number): number {
  return view.getUint32(at + 4, true) * 0x1_0000_0000 + view.getUint32(at, true)
}

function readSections(view: DataView, bytes: Uint8Array): ElfSection[] {
  const table = wide(view, 40)
  const entry = view.getUint16(58, true)
  let count = view.getUint16(60, true)
  let names = view.getUint16(62, true)
  if (table === 0) throw new ElfError('The object has no sections', { offset: 40 })
  if (entry !== SECTION_BYTES) throw new ElfError(`Section headers of ${entry} bytes`, { offset: 58 })
  if (table + SECTION_BYTES > bytes.length) {
    throw new ElfError(
      `The section headers are at ${table}, behind the end (${bytes.length})`,
      { offset: 40 },
      CUT_SHORT,
    )
  }
  // More sections than 16 bits count: the numbers are in the first header.
  if (count === 0) count = wide(view, table + 32)
  if (names === SHN_XINDEX) names = view.getUint32(table + 40, true)
  if (table + count * SECTION_BYTES > bytes.length) {
    throw new ElfError(
      `${count} section headers at ${table} go past the end (${bytes.length})`,
      { offset: 60 },
      CUT_SHORT,
    )
  }
  const sections: ElfSection[] = []
  const nameOffsets: number[] = []
  for (let index = 0; index < count; index++) {
    const at = table + index * SECTION_BYTES
    const type = view.getUint32(at + 4, true)
    const [offset, size] = [wide(view, at + 24), wide(view, at + 32)]
    const isEmpty = type === SHT_NOBITS || index === 0
    if (!isEmpty && offset + size > bytes.length) {
      throw new ElfError(
        `Section ${index} goes from ${offset} to ${offset + size}, past the end (${bytes.length})`,
        { offset: at },
        CUT_SHORT,
      )
    }
    nameOffsets.push(view.getUint32(at, true))
    sections.push({
      index,
      name: '',
      type,
      isExecutable: (view.getUint32(at + 8, true) & SHF_EXECINSTR) !== 0,
      size: index === 0 ? 0 : size,
      bytes: isEmpty ? bytes.subarray(0, 0) : bytes.subarray(offset, offset + size),
      link: view.getUint32(at + 40, true),
      info: view.getUint32(at + 44, true),
    })
  }
  const strings = sections[names]
  if (!strings) throw new ElfError(`Section ${names}, which holds the names, does not exist`, { offset: 62 })
  sections.forEach(
    (section, index) => (section.name = stringAt(strings.bytes, nameOffsets[index], 'a section')),
  )
  return sections
}

function readSymbols(sections: readonly ElfSection[]): ElfSymbol[] {
  const table = sections.find(({ type }) => type === SHT_SYMTAB)
  if (!table)
    throw new ElfError('The object has no symbols', {}, 'It was stripped; use `llvm-strip -g` instead.')
  const strings = sections[table.link]
  if (!strings)
    throw new ElfError(`Section ${table.link}, the names of symbols, does not exist`, { section: table.name })
  if (table.bytes.length % SYMBOL_BYTES !== 0) {
    throw new ElfError(`${table.bytes.length} bytes are no whole number of symbols`, { section: table.name })
  }
  const view = viewOf(table.bytes)
  const symbols: ElfSymbol[] = []
  for (let at = 0; at < table.bytes.length; at += SYMBOL_BYTES) {
    const info = view.getUint8(at + 4)
    symbols.push({
      name: stringAt(strings.bytes, view.getUint32(at, true), 'a symbol'),
      type: symbolTypes[info & 0xf] ?? 'other',
      binding: bindings[info >> 4] ?? 'global',
      isHidden: [1, 2].includes(view.getUint8(at + 5) & 3),
      section: view.getUint16(at + 6, true),
      value: wide(view, at + 8),
      size: wide(view, at + 16),
    })
  }
  return symbols
}

function readRelocations(
  table: ElfSection,
  sections: readonly ElfSection[],
  symbols: readonly ElfSymbol[],
  relocations: Map<number, ElfRelocation[]>,
): void {
  const target = sections[table.info]
  if (!target)
    throw new ElfError(`Relocations for section ${table.info}, which does not exist`, { section: table.name })
  if (table.bytes.length % REL_BYTES !== 0) {
    throw new ElfError(`${table.bytes.length} bytes are no whole number of relocations`, {
      section: table.name,
    })
  }
  const view = viewOf(table.bytes)
  const list = relocations.get(target.index) ?? []
  for (let at = 0; at < table.bytes.length; at += REL_BYTES) {
    const offset = wide(view, at)
    const symbol = symbols[view.getUint32(at + 12, true)]
    if (offset >= target.size || !symbol) {
      const what = symbol ? 'a place behind the end' : 'a symbol that does not exist'
      throw new ElfError(`A relocation names ${what} of "${target.name}"`, {
        section: table.name,
        offset: at,
      })
    }
    list.push({ offset, type: view.getUint32(at + 8, true), symbol })
  }
  relocations.set(target.index, list)
}

/** Whether a section has bytes only in memory, all zero. */
export function isZeroed(section: ElfSection): boolean {
  return section.type === SHT_NOBITS
}

function stringAt(table: Uint8Array, at: number, what: string): string {
  if (at === 0 && table.length === 0) return ''
  if (at >= table.length)
    throw new ElfError(`The name of ${what} is at ${at} of ${table.length} bytes of names`)
  const end = table.indexOf(0, at)
  if (end < 0 || end - at > MAX_NAME) throw new ElfError(`The name of ${what} at ${at} has no end`)
  return decoder.decode(table.subarray(at, end))
}

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}
