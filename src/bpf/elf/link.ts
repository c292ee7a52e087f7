// Links a program: its function, the functions it calls behind it, and where maps, externs and CO-RE come in. No system calls.
import {
  BPF_CALL,
  BPF_JMP,
  BPF_PSEUDO_CALL,
  BPF_PSEUDO_FUNC,
  BPF_PSEUDO_MAP_FD,
  BPF_PSEUDO_MAP_VALUE,
  LD_IMM64,
  SLOT_BYTES,
} from '../instruction.js'
import { ElfError, printable } from './error.js'
import { type ExtRelocation, type ExtSection, recordsBetween } from './ext.js'
import {
  type ElfFile,
  type ElfRelocation,
  type ElfSection,
  type ElfSymbol,
  SHN_UNDEF,
  viewOf,
} from './file.js'
import type { MapSpec } from './maps.js'

/** More instructions than the verifier would ever take (BPF_COMPLEXITY_LIMIT_INSNS). */
const MAX_SLOTS = 1_000_000

/** A function of the object. */
export interface ElfFunction {
  name: string
  section: ElfSection
  /** Slots in its section. */
  start: number
  slots: number
  symbol: ElfSymbol
}

/** A linked program. Indices count slots in `bytes`. */
export interface LinkedProgram {
  bytes: Uint8Array
  /** Loads of maps: the descriptor is still to be written. */
  maps: { index: number; map: MapSpec }[]
  /** Uses of what the kernel has: `call` a function, `load` an address. */
  externs: { index: number; symbol: ElfSymbol; kind: 'call' | 'load' }[]
  /** Loads of the addresses of functions, by name. */
  addresses: { index: number; name: string }[]
  /** In the order of `bytes`, the program itself first. `type` is its `func` in the object's BTF, where there is one. */
  functions: { index: number; function: ElfFunction; type: number | undefined }[]
  lines: { insn: number; file: number; text: number; line: number; column: number }[]
  relocations: ExtRelocation[]
}

/** What linking needs to know of the object. */
export interface LinkInput {
  file: ElfFile
  maps: readonly MapSpec[]
  functions: ReadonlyMap<number, ReadonlyMap<number, ElfFunction>>
  ext: ReadonlyMap<string, ExtSection>
}

/** The functions of all sections of code, by section and first slot. */
export function readFunctions(file: ElfFile): Map<number, Map<number, ElfFunction>> {
  const bySection = new Map<number, Map<number, ElfFunction>>()
  for (const symbol of file.symbols) {
    if (symbol.type !== 'function' || symbol.section === SHN_UNDEF) continue
    const section = file.sections[symbol.section] as ElfSection | undefined
    if (!section?.isExecutable) continue
    const place = { section: section.name, symbol: symbol.name, offset: symbol.value }
    if (symbol.value % SLOT_BYTES !== 0 || symbol.size % SLOT_BYTES !== 0 || symbol.size === 0) {
      throw new ElfError(`The function is no whole number of instructions (${symbol.size} bytes)`, place)
    }
    if (symbol.value + symbol.size > section.bytes.length) {
      throw new ElfError(`The function of ${symbol.size} bytes goes past the end of its section`, place)
    }
    let functions = bySection.get(section.index)
    if (!functions) bySection.set(section.index, (functions = new Map<number, ElfFunction>()))
    const start = symbol.value / SLOT_BYTES
    functions.set(start, { name: symbol.name, section, start, slots: symbol.size / SLOT_BYTES, symbol })
  }
  return bySection
}

/** Relocations of each section of code by byte offset. */
export function indexRelocations(list: readonly ElfRelocation[]): Map<number, ElfRelocation> {
  return new Map(list.map((relocation) => [relocation.offset, relocation]))
}

/** Links the program that starts with `entry`. Throws `ElfError` for references that lead nowhere. */
export function linkProgram(input: LinkInput, entry: ElfFunction): LinkedProgram {
  return new Linker(input).link(entry)
}

/** A function at its place in the program, and how far it has been looked at. */
interface Piece {
  fn: ElfFunction
  index: number
  bytes: Uint8Array
  view: DataView
  next: number
}

class Linker {
  readonly #input: LinkInput
  readonly #relocations = new Map<number, ReadonlyMap<number, ElfRelocation>>()
  readonly #placed = new Map<ElfFunction, number>()
  readonly #calls: { at: number; target: ElfFunction }[] = []
  readonly #maps: LinkedProgram['maps'] = []
  readonly #externs: LinkedProgram['externs'] = []
  readonly #addresses: LinkedProgram['addresses'] = []
  readonly #pieces: Piece[] = []
  readonly #pending: Piece[] = []
  #slots = 0

  constructor(input: LinkInput) {
    this.#input = input
  }

  link(entry: ElfFunction): LinkedProgram {
    this.#place(entry)
    // A function comes behind the one that calls it first, and before what that one calls next: libbpf's order, so that the kernel
    // gives the same program the same tag.
    for (let piece = this.#pending.at(-1); piece; piece = this.#pending.at(-1)) {
      if (this.#walk(piece)) this.#pending.pop()
    }
    const bytes = new Uint8Array(this.#slots * SLOT_BYTES)
    for (const { index, bytes: code } of this.#pieces) bytes.set(code, index * SLOT_BYTES)
    const view = viewOf(bytes)
    // Distances count from the next slot; for a function's address that is the second half of the load.
    for (const call of this.#calls) {
      view.setInt32(call.at * SLOT_BYTES + 4, this.#placed.get(call.target)! - call.at - 1, true)
    }
    return {
      bytes,
      maps: this.#maps,
      externs: this.#externs,
      addresses: this.#addresses,
      ...this.#records(),
    }
  }

  #place(fn: ElfFunction): void {
    if (this.#placed.has(fn)) return
    const from = fn.start * SLOT_BYTES
    const bytes = fn.section.bytes.slice(from, from + fn.slots * SLOT_BYTES)
    const piece = { fn, index: this.#slots, bytes, view: viewOf(bytes), next: 0 }
    this.#placed.set(fn, piece.index)
    this.#pieces.push(piece)
    this.#pending.push(piece)
    this.#slots += fn.slots
    if (this.#slots > MAX_SLOTS) {
      throw new ElfError('The program and what it calls has over a million instructions', placeOf(fn))
    }
  }

  /** Refers a function's instructions to maps and notes its calls. False when it came upon a function that goes first. */
  #walk(piece: Piece): boolean {
    const { fn, index, bytes, view } = piece
    const from = fn.start * SLOT_BYTES
    const relocations = this.#relocationsOf(fn.section)
    while (piece.next < fn.slots) {
      const slot = piece.next++
      const at = slot * SLOT_BYTES
      const opcode = bytes[at]
      const relocation = relocations.get(from + at)
      if (opcode === LD_IMM64) {
        if (slot + 1 >= fn.slots) {
          throw new ElfError('The function ends in the middle of an instruction', placeOf(fn, at))
        }
        if (relocation) this.#relocateLoad(fn, view, at, index + slot, relocation)
        else if (bytes[at + 1] >> 4 !== 0) {
          // What it would name is a descriptor of the process that loads it.
          throw new ElfError(
            'An instruction refers to a map or function without a relocation',
            placeOf(fn, at),
          )
        }
        piece.next++
      } else if (opcode === (BPF_JMP | BPF_CALL) && (relocation ?? bytes[at + 1] >> 4 === BPF_PSEUDO_CALL)) {
        this.#relocateCall(fn, view, at, index + slot, relocation)
      } else if (relocation) {
        throw new ElfError('A relocation is for an instruction that has no address', placeOf(fn, at))
      }
      if (this.#pending.at(-1) !== piece) return false
    }
    return true
  }

  #relocateLoad(fn: ElfFunction, view: DataView, at: number, index: number, { symbol }: ElfRelocation): void {
    const imm = view.getInt32(at + 4, true)
    const setSource = (source: number): void =>
      view.setUint8(at + 1, (view.getUint8(at + 1) & 0xf) | (source << 4))
    if (symbol.section === SHN_UNDEF) {
      this.#externs.push({ index, symbol, kind: 'load' })
      return
    }
    const section = this.#input.file.sections[symbol.section] as ElfSection | undefined
    if (section?.isExecutable) {
      const target = this.#functionAt(section, (symbol.value + imm) / SLOT_BYTES, fn, at)
      this.#place(target)
      this.#calls.push({ at: index, target })
      this.#addresses.push({ index, name: target.name })
      setSource(BPF_PSEUDO_FUNC)
      return
    }
    const inSection = this.#input.maps.filter((map) => map.section === symbol.section)
    const data = inSection.find(({ role }) => role !== 'map')
    if (data) {
      const offset = symbol.value + imm
      if (offset < 0 || offset > data.valueSize) {
        throw new ElfError(`A variable at ${offset} of ${data.valueSize} bytes of data`, placeOf(fn, at))
      }
      setSource(BPF_PSEUDO_MAP_VALUE)
      view.setInt32(at + 4, 0, true)
      view.setInt32(at + 12, offset, true)
      this.#maps.push({ index, map: data })
      return
    }
    const place = symbol.type === 'section' ? symbol.value + imm : symbol.value
    const map = inSection.find(({ offset }) => offset === place)
    if (!map) {
      const what =
        symbol.name === '' ? `section "${printable(section?.name ?? '?')}"` : `"${printable(symbol.name)}"`
      throw new ElfError(`The code refers to ${what}, which is neither a map nor a variable`, placeOf(fn, at))
    }
    setSource(BPF_PSEUDO_MAP_FD)
    view.setInt32(at + 4, 0, true)
    view.setInt32(at + 12, 0, true)
    this.#maps.push({ index, map })
  }

  #relocateCall(
    fn: ElfFunction,
    view: DataView,
    at: number,
    index: number,
    relocation: ElfRelocation | undefined,
  ): void {
    const imm = view.getInt32(at + 4, true)
    const symbol = relocation?.symbol
    if (symbol?.section === SHN_UNDEF) {
      this.#externs.push({ index, symbol, kind: 'call' })
      return
    }
    // Without a relocation the distance is within the section; with one, -1 is the symbol itself.
    const section = symbol
      ? (this.#input.file.sections[symbol.section] as ElfSection | undefined)
      : fn.section
    const slot = symbol ? symbol.value / SLOT_BYTES + imm + 1 : fn.start + at / SLOT_BYTES + imm + 1
    if (!section?.isExecutable) throw new ElfError('A call goes to what is no code', placeOf(fn, at))
    const target = this.#functionAt(section, slot, fn, at)
    this.#place(target)
    this.#calls.push({ at: index, target })
    view.setUint8(at + 1, BPF_PSEUDO_CALL << 4)
  }

  #functionAt(section: ElfSection, slot: number, from: ElfFunction, at: number): ElfFunction {
    const target = this.#input.functions.get(section.index)?.get(slot)
    if (!target) {
      throw new ElfError(
        `There is no function at slot ${slot} of "${printable(section.name)}"`,
        placeOf(from, at),
      )
    }
    return target
  }

  #relocationsOf(section: ElfSection): ReadonlyMap<number, ElfRelocation> {
    let index = this.#relocations.get(section.index)
    if (!index) {
      index = indexRelocations(this.#input.file.relocations.get(section.index) ?? [])
      this.#relocations.set(section.index, index)
    }
    return index
  }

  /** The records of .BTF.ext, moved to where the functions are now. */
  #records(): Pick<LinkedProgram, 'functions' | 'lines' | 'relocations'> {
    const functions: LinkedProgram['functions'] = []
    const lines: LinkedProgram['lines'] = []
    const relocations: ExtRelocation[] = []
    for (const [fn, index] of this.#placed) {
      const ext = this.#input.ext.get(fn.section.name)
      const mine = <T extends { insn: number }>(list: readonly T[] = []): T[] =>
        recordsBetween(list, fn.start, fn.start + fn.slots).map((record) => ({
          ...record,
          insn: record.insn - fn.start + index,
        }))
      const info = recordsBetween(ext?.functions ?? [], fn.start, fn.start + 1).at(0)
      functions.push({ index, function: fn, type: info?.type })
      for (const line of mine(ext?.lines)) lines.push(line)
      for (const relocation of mine(ext?.relocations)) relocations.push(relocation)
    }
    // The kernel wants each place once.
    return {
      functions,
      lines: lines.filter(({ insn }, i) => i === 0 || insn !== lines[i - 1].insn),
      relocations,
    }
  }
}

function placeOf(fn: ElfFunction, at?: number): { section: string; symbol: string; offset: number } {
  return { section: fn.section.name, symbol: fn.name, offset: fn.start * SLOT_BYTES + (at ?? 0) }
}
