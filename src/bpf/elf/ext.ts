// .BTF.ext: which function and source line each instruction is from, and what CO-RE has to adjust (Documentation/bpf/btf.rst).
import type { Btf } from '../btf/decode.js'
import { BTF_MAGIC } from '../btf/types.js'
import { ElfError } from './error.js'
import { viewOf } from './file.js'

const SECTION = '.BTF.ext'
const SLOT = 8

/** A function of a section. */
export interface ExtFunction {
  /** Slot in the section. */
  insn: number
  type: number
}

/** Source of the instructions from `insn` on. Strings are offsets in the object's BTF. */
export interface ExtLine {
  insn: number
  file: number
  text: number
  line: number
  column: number
}

/** A CO-RE relocation: `struct bpf_core_relo`. */
export interface ExtRelocation {
  insn: number
  type: number
  /** Offset of the access string. */
  access: number
  /** `enum bpf_core_relo_kind` */
  kind: number
}

/** The records of one section, in the order of its instructions. */
export interface ExtSection {
  functions: ExtFunction[]
  lines: ExtLine[]
  relocations: ExtRelocation[]
}

/** The records by name of the section they are about. Throws `ElfError`. */
export function readExt(bytes: Uint8Array, btf: Btf): Map<string, ExtSection> {
  const fail = (message: string, offset: number): never => {
    throw new ElfError(message, { section: SECTION, offset })
  }
  const view = viewOf(bytes)
  if (bytes.length < 24) fail(`${bytes.length} bytes are too few for its header`, 0)
  if (view.getUint16(0, true) !== BTF_MAGIC) fail('It does not begin as it must (0xeb9f)', 0)
  if (view.getUint8(2) !== 1) fail(`Version ${view.getUint8(2)} is unknown`, 2)
  const headerBytes = view.getUint32(4, true)
  if (headerBytes < 24 || headerBytes > bytes.length) fail(`A header of ${headerBytes} bytes`, 4)
  const sections = new Map<string, ExtSection>()
  const sectionOf = (name: string): ExtSection => {
    let section = sections.get(name)
    if (!section) sections.set(name, (section = { functions: [], lines: [], relocations: [] }))
    return section
  }

  /** One of the three parts: record size, then for each section its name, a count, and the records. */
  const part = (headerAt: number, least: number, read: (section: ExtSection, at: number) => void): void => {
    const start = headerBytes + view.getUint32(headerAt, true)
    const length = view.getUint32(headerAt + 4, true)
    if (length === 0) return
    const end = start + length
    if (end > bytes.length || length < 4)
      fail(`A part from ${start} to ${end} of ${bytes.length} bytes`, headerAt)
    const recordBytes = view.getUint32(start, true)
    if (recordBytes < least || recordBytes % 4 !== 0) fail(`Records of ${recordBytes} bytes`, start)
    for (let at = start + 4; at < end;) {
      if (end - at < 8) fail('A part ends in the middle of a section', at)
      const section = sectionOf(btf.string(view.getUint32(at, true)))
      const count = view.getUint32(at + 4, true)
      at += 8
      if (count * recordBytes > end - at) fail(`${count} records go past the end`, at - 4)
      for (let i = 0; i < count; i++, at += recordBytes) {
        if (view.getUint32(at, true) % SLOT !== 0) fail('A record is for no whole instruction', at)
        read(section, at)
      }
    }
  }

  part(8, 8, (section, at) => {
    section.functions.push({ insn: view.getUint32(at, true) / SLOT, type: view.getUint32(at + 4, true) })
  })
  part(16, 16, (section, at) => {
    const place = view.getUint32(at + 12, true)
    section.lines.push({
      insn: view.getUint32(at, true) / SLOT,
      file: view.getUint32(at + 4, true),
      text: view.getUint32(at + 8, true),
      line: place >>> 10,
      column: place & 0x3ff,
    })
  })
  if (headerBytes >= 32) {
    part(24, 16, (section, at) => {
      section.relocations.push({
        insn: view.getUint32(at, true) / SLOT,
        type: view.getUint32(at + 4, true),
        access: view.getUint32(at + 8, true),
        kind: view.getUint32(at + 12, true),
      })
    })
  }
  const byPlace = (a: { insn: number }, b: { insn: number }): number => a.insn - b.insn
  for (const { functions, lines, relocations } of sections.values()) {
    functions.sort(byPlace)
    lines.sort(byPlace)
    relocations.sort(byPlace)
  }
  return sections
}

/** The records for the slots from `start` to before `end`, of a list in order. */
export function recordsBetween<T extends { insn: number }>(
  list: readonly T[],
  start: number,
  end: number,
): readonly T[] {
  const firstFrom = (insn: number): number => {
    let [low, high] = [0, list.length]
    while (low < high) {
      const middle = (low + high) >> 1
      if (list[middle].insn < insn) low = middle + 1
      else high = middle
    }
    return low
  }
  return list.slice(firstFrom(start), firstFrom(end))
}
