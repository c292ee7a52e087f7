// Functions and source lines of a linked program: as the kernel takes them, and as errors name them.
import type { AssembledProgram } from '../assembler.js'
import type { Btf } from '../btf/decode.js'
import type { BtfHandle } from '../btf/load.js'
import { type InfoRecords, encodeFuncInfo, encodeLineRecords } from '../btf/records.js'
import { SLOT_BYTES } from '../instruction.js'
import type { SourceLocation } from '../source.js'
import type { LinkedProgram } from './link.js'
import type { ObjectBtf } from './object-btf.js'

/** The object's types in the kernel. */
export interface LoadedTypes {
  handle: BtfHandle
  object: ObjectBtf
}

/** The kernel wants a function record for every function of the program, or none at all. */
export function programTypes(
  { functions, lines }: LinkedProgram,
  { handle, object }: LoadedTypes,
): { fd: number; functions: InfoRecords; lines?: InfoRecords } | undefined {
  const typed: { insn: number; type: number }[] = []
  for (const { index, type } of functions) {
    if (type === undefined) return undefined
    typed.push({ insn: index, type })
  }
  const starts = new Set(lines.map(({ insn }) => insn))
  const hasLines = functions.every(({ index }) => starts.has(index))
  const records = lines.map((line) => ({
    ...line,
    file: object.strings.get(line.file) ?? 0,
    text: object.strings.get(line.text) ?? 0,
  }))
  return {
    fd: handle.fd,
    functions: encodeFuncInfo(typed),
    ...(hasLines && { lines: encodeLineRecords(records) }),
  }
}

/** The line of every slot, so that any instruction the verifier names has one. */
export function sourceLines(
  { bytes, lines, functions }: LinkedProgram,
  btf: Btf | undefined,
): AssembledProgram['lines'] {
  if (!btf || lines.length === 0) return []
  const result: AssembledProgram['lines'] = []
  const starts = new Set(functions.map(({ index }) => index))
  const slots = bytes.length / SLOT_BYTES
  let source: SourceLocation | undefined
  for (let index = 0, next = 0; index < slots; index++) {
    if (starts.has(index)) source = undefined
    if (next < lines.length && lines[next].insn === index) {
      const { file, text, line, column } = lines[next++]
      source = { file: btf.text(file), line, column, text: btf.text(text).trim() }
    }
    if (source) result.push({ index, source })
  }
  return result
}
