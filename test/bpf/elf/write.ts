// Writes ELF objects that no compiler would: for what a hostile one may contain.

/** A section to write. Relocations are sections too: type 9 (SHT_REL), `info` the index of what they change. */
export interface SectionToWrite {
  name: string
  /** Default 1 (SHT_PROGBITS). */
  type?: number
  /** 4 is SHF_EXECINSTR. */
  flags?: number
  bytes: Uint8Array
  link?: number
  info?: number
}

export interface SymbolToWrite {
  name: string
  /** 1 object, 2 function, 3 section. */
  type: number
  /** Default 1 (STB_GLOBAL). */
  binding?: number
  /** Index of its section; the first one written has 1. */
  section: number
  value: number
  size: number
}

/** The object: the given sections from index 1 on, then the names and the symbols. */
export function writeElf(sections: readonly SectionToWrite[], symbols: readonly SymbolToWrite[]): Uint8Array {
  const names: string[] = ['']
  const offsets = new Map<string, number>([['', 0]])
  let length = 1
  const nameOf = (name: string): number => {
    let offset = offsets.get(name)
    if (offset === undefined) {
      offsets.set(name, (offset = length))
      names.push(name)
      length += Buffer.byteLength(name) + 1
    }
    return offset
  }
  const table = new DataView(new ArrayBuffer((symbols.length + 1) * 24))
  symbols.forEach((symbol, index) => {
    const at = (index + 1) * 24
    table.setUint32(at, nameOf(symbol.name), true)
    table.setUint8(at + 4, ((symbol.binding ?? 1) << 4) | symbol.type)
    table.setUint16(at + 6, symbol.section, true)
    table.setBigUint64(at + 8, BigInt(symbol.value), true)
    table.setBigUint64(at + 16, BigInt(symbol.size), true)
  })
  const stringIndex = sections.length + 1
  const all: SectionToWrite[] = [{ name: '', type: 0, bytes: new Uint8Array(0) }, ...sections]
  const strings: SectionToWrite = { name: '.strtab', type: 3, bytes: new Uint8Array(0) }
  all.push(strings, { name: '.symtab', type: 2, bytes: new Uint8Array(table.buffer), link: stringIndex })
  const nameOffsets = all.map(({ name }) => nameOf(name))
  strings.bytes = Buffer.from(names.map((name) => `${name}\0`).join(''))

  const start = 64 + all.length * 64
  const bytes = new Uint8Array(start + all.reduce((sum, section) => sum + section.bytes.length + 8, 0))
  const view = new DataView(bytes.buffer)
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1])
  view.setUint16(16, 1, true)
  view.setUint16(18, 247, true)
  view.setBigUint64(40, 64n, true)
  view.setUint16(58, 64, true)
  view.setUint16(60, all.length, true)
  view.setUint16(62, stringIndex, true)
  let at = start
  all.forEach((section, index) => {
    const header = 64 + index * 64
    at = Math.ceil(at / 8) * 8
    view.setUint32(header, nameOffsets[index], true)
    view.setUint32(header + 4, section.type ?? 1, true)
    view.setBigUint64(header + 8, BigInt(section.flags ?? 0), true)
    view.setBigUint64(header + 24, BigInt(at), true)
    view.setBigUint64(header + 32, BigInt(section.bytes.length), true)
    view.setUint32(header + 40, section.link ?? 0, true)
    view.setUint32(header + 44, section.info ?? 0, true)
    bytes.set(section.bytes, at)
    at += section.bytes.length
  })
  return bytes.subarray(0, at)
}

/** Relocations: `struct Elf64_Rel`. Symbol 1 is the first one written. */
export function relocations(list: readonly { offset: number; symbol: number; type?: number }[]): Uint8Array {
  const view = new DataView(new ArrayBuffer(list.length * 16))
  list.forEach(({ offset, symbol, type = 1 }, index) => {
    view.setBigUint64(index * 16, BigInt(offset), true)
    view.setUint32(index * 16 + 8, type, true)
    view.setUint32(index * 16 + 12, symbol, true)
  })
  return new Uint8Array(view.buffer)
}
