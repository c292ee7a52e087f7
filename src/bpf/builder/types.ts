// What the kernel is told of a built program beside its instructions: function names, TypeScript lines, map types (BTF).
import type { AssembledProgram } from '../assembler.js'
import {
  BtfBuilder,
  type BtfHandle,
  type LineInfo,
  encodeFuncInfo,
  encodeLineInfo,
  loadBtf,
  takesBtf,
} from '../btf/index.js'
import type { ProgramTypeInfo } from '../load.js'
import { type SourceLocation, sourceText } from '../source.js'
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
function linesOf({ lines, functions }: AssembledProgram): LineInfo[] {
  const starts = new Set(functions.map(({ index }) => index))
  const places = lines.slice()
  for (const start of starts) {
    if (places.some(({ index }) => index === start)) continue
    const next = places.find(({ index }) => index > start) ?? places.at(-1)
    places.push({ index: start, source: next?.source ?? GENERATED })
  }
  places.sort((a, b) => a.index - b.index)
  const records: LineInfo[] = []
  let before: SourceLocation | undefined
  for (const { index, source } of places) {
    const { file, line, column } = source
    if (before?.line !== line || before.file !== file || starts.has(index)) {
      records.push({ insn: index, file, line, column, text: sourceText(source) ?? '' })
    }
    before = source
  }
  return records
}

/** Where generated programs stand. */
const GENERATED: SourceLocation = { file: 'generated', line: 1, column: 1, text: 'generated' }

const identifier = (name: string): string => name.replace(/[^A-Za-z0-9_]/g, '_').replace(/^(?=\d)/, '_')
