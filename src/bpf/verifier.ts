// What the verifier says of a rejected program: the lines that matter, the instruction, its source, and advice.
import { XdpError } from '../kernel/errors.js'
import { type SourceLocation, sourceText } from './source.js'

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
  ) {
    const finding = readVerifierLog(log)
    const { line, instruction, omittedLines } = finding
    const source = instruction === undefined ? undefined : sourceOf(instruction)
    super('XDP_VERIFIER', describe(program, finding, source), adviceFor(line))
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

/** Finds in a log what the verifier objects to. Works on a cut log, as long as its end is there. */
export function readVerifierLog(log: string): VerifierFinding {
  const lines = log.split('\n').filter((line) => line.trim() !== '')
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
  const instruction = named ? Number(named[1]) : walked ? Number(walked[1]) : undefined
  const isWalked = walked !== null && Number(walked[1]) === instruction
  return {
    line: line === '' ? (lines.at(-1) ?? '') : line,
    instruction,
    instructionText: isWalked ? walked[2] : undefined,
    omittedLines: Math.max(0, lines.length - Math.max(1, Math.min(3, objection.length))),
  }
}

function describe(program: string, finding: VerifierFinding, source: SourceLocation | undefined): string {
  const { line, instruction, instructionText, omittedLines } = finding
  const text = instructionText === undefined ? '' : ` \`${instructionText}\``
  const at = instruction === undefined ? '' : ` at instruction ${instruction}${text}`
  const code = source && sourceText(source)
  const written = source
    ? `, ${source.file}:${source.line}${code ? ` \`${code.length > 100 ? `${code.slice(0, 99)}…` : code}\`` : ''}`
    : ''
  const omitted = omittedLines === 0 ? '' : ` (${omittedLines} more lines in the log)`
  return `The verifier rejected the program "${program}"${at}${written}: ${line}${omitted}`
}

/** Advice for the commonest objections (messages of kernel/bpf/verifier.c). */
const advice: readonly (readonly [RegExp, string])[] = [
  [
    /invalid access to packet/,
    'Compare the end of the access with data_end first, in the branch that leads here.',
  ],
  [/_or_null'/, 'Test the pointer for zero before using it.'],
  [/R\d+ !read_ok/, 'Give the register a value on every path; calls destroy r1 to r5.'],
  [
    /invalid access to map value|outside of the allowed memory range/,
    'Bound the offset by the size of the value.',
  ],
  [
    /invalid bpf_context access|dereference of modified ctx/,
    'Use the offsets of struct xdp_md, and r1 unchanged.',
  ],
  [/unreachable insn/, 'Remove the instruction, or the jump that skips it.'],
  [
    /infinite loop|back-edge|too large|too many/,
    'Give loops a bound that the verifier can see, or split the program.',
  ],
  [/cannot call GPL/, 'Load the program with a GPL-compatible licence, as the default is.'],
  [
    /unknown func|invalid func|cannot use helper/,
    'This kernel, or this type of program, does not have that helper.',
  ],
  [/unknown opcode|reserved fields/, 'The instruction is malformed, or newer than this kernel.'],
  [/jump out of range|last insn is not/, 'Every path must end in exit, and every jump inside the program.'],
  [/call stack|recursive/, 'Subprograms nest at most 8 deep and cannot call themselves.'],
  [/frame pointer is read only/, 'r10 cannot be written: copy it to another register.'],
  [/div by zero/, 'Division by the constant zero is refused.'],
  [/to stack|from stack|stack R\d+/, 'The stack is the 512 bytes below r10; write them before reading.'],
  [/At program exit the register R0/, 'Set r0 to a verdict before exit.'],
  [/reference leak|Unreleased reference/, 'Release what was acquired on every path.'],
]

function adviceFor(line: string): string | undefined {
  return (
    advice.find(([pattern]) => pattern.test(line))?.[1] ??
    'The whole log is in the `log` property of the error.'
  )
}
