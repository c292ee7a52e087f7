// What ties instructions to functions and source lines: bpf_func_info and bpf_line_info (include/uapi/linux/bpf.h).
import type { BtfBuilder } from './builder.js'
import { BtfError } from './types.js'

/** sizeof(struct bpf_func_info) */
export const FUNC_INFO_BYTES = 8
/** sizeof(struct bpf_line_info) */
export const LINE_INFO_BYTES = 16

/** The highest line and column that a record holds: 22 and 10 bits. */
const MAX_LINE = 0x3fffff
const MAX_COLUMN = 0x3ff

/** A function of a program. */
export interface FuncInfo {
  /** Slot of its first instruction. */
  insn: number
  /** Id of its `func` type. */
  type: number
}

/** The source of the instructions from `insn` up to the next record. */
export interface LineInfo {
  /** Slot of the instruction. */
  insn: number
  file: string
  /** Counted from 1; what does not fit is written as 0. */
  line: number
  /** Counted from 1; what does not fit is written as 0. */
  column: number
  /** The line's text. */
  text: string
}

/** Records as the load takes them: `LoadOptions.btf.functions` and `.lines`. */
export interface InfoRecords {
  bytes: Uint8Array
  recordSize: number
}

/**
 * Function records. The kernel wants one for every function of the program, in rising order, the first at slot 0; and then every
 * function's first instruction must have a line record too, if there are any. Kernel 5.0.
 */
export function encodeFuncInfo(functions: readonly FuncInfo[]): InfoRecords {
  const bytes = new Uint8Array(functions.length * FUNC_INFO_BYTES)
  const view = new DataView(bytes.buffer)
  checkOrder(functions)
  functions.forEach(({ insn, type }, index) => {
    view.setUint32(index * FUNC_INFO_BYTES, insn, true)
    view.setUint32(index * FUNC_INFO_BYTES + 4, type, true)
  })
  return { bytes, recordSize: FUNC_INFO_BYTES }
}

/**
 * Line records, in rising order. Their strings go into `btf`, so encode that afterwards. Shown by `bpftool prog dump xlated linum`
 * and in the verifier's log. Kernel 5.0.
 */
export function encodeLineInfo(btf: Pick<BtfBuilder, 'string'>, lines: readonly LineInfo[]): InfoRecords {
  return encodeLineRecords(
    lines.map(({ insn, file, line, column, text }) => ({
      insn,
      file: btf.string(file),
      text: btf.string(text.trim()),
      line,
      column,
    })),
  )
}

/** A line record whose strings are offsets in a string table. */
export interface LineRecord {
  insn: number
  file: number
  text: number
  line: number
  column: number
}

export function encodeLineRecords(lines: readonly LineRecord[]): InfoRecords {
  const bytes = new Uint8Array(lines.length * LINE_INFO_BYTES)
  const view = new DataView(bytes.buffer)
  checkOrder(lines)
  lines.forEach((record, index) => {
    const at = index * LINE_INFO_BYTES
    const line = record.line > MAX_LINE ? 0 : record.line
    const column = record.column > MAX_COLUMN ? 0 : record.column
    view.setUint32(at, record.insn, true)
    view.setUint32(at + 4, record.file, true)
    view.setUint32(at + 8, record.text, true)
    view.setUint32(at + 12, line * 1024 + column, true)
  })
  return { bytes, recordSize: LINE_INFO_BYTES }
}

function checkOrder(records: readonly { insn: number }[]): void {
  records.forEach(({ insn }, index) => {
    if (index > 0 && insn <= records[index - 1].insn) {
      throw new BtfError(`Records for instruction ${insn} come after those for ${records[index - 1].insn}`)
    }
  })
}
