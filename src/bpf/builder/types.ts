// What the kernel is told of a built program beside its instructions: function names, TypeScript lines, map types (BTF).
import type { AssembledProgram } from '../assembler.js'
import {
  BtfBuilder,
  type BtfHandle,
  encodeFuncInfo,
  encodeLineInfo,
  loadBtf,
  takesBtf,
} from '../btf/index.js'
import type { ProgramTypeInfo } from '../load.js'
import { sourceText } from '../source.js'
import type { Kind } from './kinds.js'
import type { MapDefinition } from './maps.js'

/** How a function of a program looks from outside. */
export interface Signature {
  readonly name: string
  readonly parameters: Readonly<Record<string, Kind>>
  readonly result: Kind
}

/** Types in the kernel. Whoever loads with them closes the handle afterwards. */
export interface LoadedTypes {
  readonly handle: BtfHandle
  readonly program: ProgramTypeInfo
  readonly maps: ReadonlyMap<string, { fd: number; keyTypeId: number; valueTypeId: number }>
}

/**
 * Loads the types of a program and its maps. `bpftool prog dump xlated linum` and the verifier's log then show TypeScript lines,
 * `bpftool map dump` the names of fields. Kernel 5.0.
 */
export function loadTypes(
  assembled: AssembledProgram,
  signatures: readonly Signature[],
  maps: ReadonlyMap<string, MapDefinition>,
): LoadedTypes {
  const btf = new BtfBuilder()
  const integer = (kind: Kind): number => {
    const bits = Number(kind.replace(/\D/g, ''))
    return btf.int(kind.replace('be', 'u'), bits / 8, kind.startsWith('s') ? 'signed' : 'unsigned')
  }
  const context = btf.ptr(btf.forward('xdp_md'))
  const functions = assembled.functions.map(({ name, index }) => {
    const signature = signatures.find((one) => one.name === name)
    const parameters = Object.entries(signature?.parameters ?? {}).map(([parameter, kind]) => ({
      name: identifier(parameter),
      type: integer(kind),
    }))
    const type = btf.func(identifier(name), {
      result: integer(signature?.result ?? 's32'),
      parameters: [{ name: 'ctx', type: context }, ...parameters],
      linkage: index === 0 ? 'global' : 'static',
    })
    return { insn: index, type }
  })
  const mapTypes = [...maps.values()]
    .filter(({ type }) => takesBtf(type))
    .map((map) => ({
      name: map.name,
      keyTypeId: btf.codec(map.key, `${map.name}_key`),
      valueTypeId: btf.codec(map.value, `${map.name}_value`),
    }))
  const lines = encodeLineInfo(btf, linesOf(assembled))
  const handle = loadBtf(btf.encode())
  return {
    handle,
    program: { fd: handle.fd, functions: encodeFuncInfo(functions), lines },
    maps: new Map(mapTypes.map(({ name, ...ids }) => [name, { fd: handle.fd, ...ids }])),
  }
}

/** A record wherever the line changes, and at the start of every function, where the kernel insists on one. */
function linesOf({ lines, functions }: AssembledProgram) {
  const starts = new Set(functions.map(({ index }) => index))
  const records = lines.map(({ index, source }) => ({
    insn: index,
    file: source.file,
    line: source.line,
    column: source.column,
    text: sourceText(source) ?? '',
  }))
  for (const start of starts) {
    if (records.some(({ insn }) => insn === start)) continue
    const next = records.find(({ insn }) => insn > start) ?? records.at(-1)
    records.push(
      next
        ? { ...next, insn: start }
        : { insn: start, file: 'generated', line: 1, column: 1, text: 'generated' },
    )
  }
  records.sort((a, b) => a.insn - b.insn)
  return records.filter((record, index) => {
    const before = records[index - 1] as typeof record | undefined
    return starts.has(record.insn) || before?.line !== record.line || before.file !== record.file
  })
}

const identifier = (name: string): string => name.replace(/[^A-Za-z0-9_]/g, '_').replace(/^(?=\d)/, '_')
