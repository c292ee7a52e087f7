// What the verifier says of a rejected program: the lines that matter, the instruction, its source, and advice.
import { XdpError } from '../kernel/errors.js'
import { BPF_EXIT, BPF_JA, BPF_JMP, BPF_JMP32, LD_IMM64, SLOT_BYTES } from './instruction.js'
import { type SourceLocation, sourceText } from './source.js'
import { adviceFor } from './verifier-advice.js'

/** What is in a verifier log, apart from its length. */
export interface VerifierFinding {
  /** What the verifier objects to, in its own words. Several lines are joined by `; `. */
  line: string
  /** Slot of the instruction at fault, when the log names one. */
  instruction: number | undefined
  /** That instruction's text as in the log. */
  instructionText: string | undefined
  /** Lines of the log that are not in `line`. */
  omittedLines: number
}

/** The verifier rejected a program: `code` is `XDP_VERIFIER`. */
export class VerifierError extends XdpError {
  readonly errno: number
  /** The whole log. Not enumerable, so that printing the error does not print pages. */
  declare readonly log: string
  /** What the verifier objects to. */
  readonly line: string
  /** Slot of the instruction at fault; undefined when the log names none. */
  readonly instruction: number | undefined
  /** Where that instruction was written; undefined when no sources were captured. */
  readonly source: SourceLocation | undefined
  /** How many lines of the log the message leaves out. */
  readonly omittedLines: number

  constructor(
    errno: number,
    program: string,
    log: string,
    sourceOf: (index: number) => SourceLocation | undefined = () => undefined,
    code: Uint8Array = new Uint8Array(),
  ) {
    const finding = readVerifierLog(log, code)
    const { line, instruction, omittedLines } = finding
    const source = instruction === undefined ? undefined : nearest(instruction, sourceOf)
    super('XDP_VERIFIER', describe(program, finding, source), adviceFor(line, log))
    this.errno = errno
    Object.defineProperty(this, 'log', { value: log })
    this.line = line
    this.instruction = instruction
    this.source = source
    this.omittedLines = omittedLines
  }
}

// `12: (61) r2 = *(u32 *)(r1 +0)  ; R1=ctx()`: an instruction the verifier walked
const instructionLine = /^(\d+): \([0-9a-f]{2}\) (.*?)(?:\s+; .*)?$/
// What surrounds the objection but is none: register states, paths, precision tracking, source lines, statistics.
const noise =
  /^(?:\d+: (?!\()|from \d+ to \d+|; |func#|cur state:|old state:|mark_precise|last_idx|first_idx|parent |regs=|propagating|Live regs|Validating|caller:|callee:|frame\d+:|returning from callee|to caller at|processed \d+ insns|max_states|verification time|stack depth|insns processed|peak_states|\s*$)/
// The instruction is in the sentence itself: `unreachable insn 3`, `jump out of range from insn 1 to 9`.
const namedInstruction = /\binsns? (?:at )?#?(\d+)/

/**
 * Finds in a log what the verifier objects to. Works on a cut log, as long as its end is there. `code` is the program: some objections
 * name no instruction, and are found there.
 */
export function readVerifierLog(log: string, code: Uint8Array = new Uint8Array()): VerifierFinding {
  // Some messages lack their line feed: "expected prog array map for tail callprocessed 3 insns".
  const lines = log
    .replaceAll(/(?<=[^\n])processed \d+ insns \(limit/g, (text) => `\n${text}`)
    .split('\n')
    .filter((line) => line.trim() !== '')
  let lastInstruction = -1
  for (let i = lines.length - 1; i >= 0 && lastInstruction < 0; i--) {
    if (instructionLine.test(lines[i])) lastInstruction = i
  }
  const said = lines.slice(lastInstruction + 1).filter((line) => !noise.test(line))
  // Nothing after the last instruction: the objection came before any was walked.
  const objection =
    said.length > 0 ? said : lines.filter((line) => !noise.test(line) && !instructionLine.test(line))
  const line = objection.slice(-3).join('; ')
  const walked = lastInstruction < 0 ? null : instructionLine.exec(lines[lastInstruction])
  const named = namedInstruction.exec(line)
  const instruction = named ? Number(named[1]) : walked ? Number(walked[1]) : findUnnamed(line, code)
  const isWalked = walked !== null && Number(walked[1]) === instruction
  return {
    line: line === '' ? (lines.at(-1) ?? '') : line,
    instruction,
    instructionText: isWalked ? walked[2] : undefined,
    omittedLines: Math.max(0, lines.length - Math.max(1, Math.min(3, objection.length))),
  }
}

/** The slot of the instruction that these words are about, which name none (kernel/bpf/verifier.c: resolve_pseudo_ldimm64, check_subprogs). */
function findUnnamed(line: string, code: Uint8Array): number | undefined {
  const unknown = /^unknown opcode ([0-9a-f]{2})$/.exec(line)
  if (unknown) {
    const opcode = Number.parseInt(unknown[1], 16)
    for (let at = 0; at < code.length; at += code[at] === LD_IMM64 ? 2 * SLOT_BYTES : SLOT_BYTES) {
      if (code[at] === opcode) return at / SLOT_BYTES
    }
  }
  if (!line.startsWith('last insn is not an exit or jmp')) return undefined
  // Of the last function, that is; where that ends well the fault is in one before.
  const last = code.length / SLOT_BYTES - (code.at(-SLOT_BYTES) === 0 ? 2 : 1)
  const opcode = code.at(last * SLOT_BYTES)
  return last < 0 || opcode === undefined || ENDS.has(opcode) ? undefined : last
}

/** Opcodes that a function can end with: exit, and the jumps that are always taken. */
const ENDS = new Set([BPF_JMP | BPF_EXIT, BPF_JMP | BPF_JA, BPF_JMP32 | BPF_JA])

/** As in line tables, a source stands for the instructions after it too, up to the next: a compiler's jumps have none. */
function nearest(
  instruction: number,
  sourceOf: (index: number) => SourceLocation | undefined,
): SourceLocation | undefined {
  for (let index = instruction; index >= 0; index--) {
    const source = sourceOf(index)
    if (source) return source
  }
  return undefined
}

function describe(program: string, finding: VerifierFinding, source: SourceLocation | undefined): string {
  const { line, instruction, instructionText, omittedLines } = finding
  const text = instructionText === undefined ? '' : ` \`${instructionText}\``
  const at = instruction === undefined ? '' : ` at instruction ${instruction}${text}`
  const code = source && sourceText(source)
  const written = source
    ? `, ${source.file}:${source.line}${code ? ` \`${code.length > 100 ? `${code.slice(0, 99)}…` : code}\`` : ''}`
    : ''
  const omitted =
    omittedLines === 0 ? '' : ` (${omittedLines} more ${omittedLines === 1 ? 'line' : 'lines'} in the log)`
  return `The verifier rejected the program "${program}"${at}${written}: ${line}${omitted}`
}
