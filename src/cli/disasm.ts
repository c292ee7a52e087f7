// xdp disasm: the instructions of a program, with its functions and source lines between them.
import { Command } from 'commander'
import {
  disassemble,
  disassembleInstruction,
  sourceText,
  type Instruction,
  type SourceLocation,
} from '../bpf/index.js'
import { chooseProgram, programHelp, type ChosenProgram, type ProgramNames } from './choose-program.js'
import { addProgramOptions, type ProgramFlags } from './program-options.js'

export function disasmCommand(): Command {
  return addProgramOptions(new Command('disasm'))
    .summary('print the instructions of a program')
    .description(
      "Prints an XDP program in the verifier's notation, with source lines where it carries them. " +
        'Asks the kernel nothing: maps go by their names, and what depends on the kernel is as the compiler left it.',
    )
    .argument('<program>', 'a name or an object file')
    .addHelpText('after', programHelp())
    .action((choice: string, flags: ProgramFlags) => {
      process.stdout.write(listingOf(chooseProgram(choice, flags)))
    })
}

function listingOf(chosen: ChosenProgram): string {
  const code = chosen.code()
  const functionAt = new Map(code.functions.map(({ index, name }) => [index, name]))
  const sourceAt = new Map(code.lines.map(({ index, source }) => [index, sourceLine(source)]))
  let text = ''
  let last = ''
  for (const { index, instruction } of disassemble(code.bytes)) {
    const name = functionAt.get(index)
    if (name !== undefined) text += `${index === 0 ? '' : '\n'}${name}:\n`
    const source = sourceAt.get(index) ?? ''
    if (source !== '' && (source !== last || name !== undefined)) text += `${source}\n`
    if (source !== '') last = source
    const opcode = instruction.opcode.toString(16).padStart(2, '0')
    text += `${String(index).padStart(4)}: (${opcode}) ${wordsFor(instruction, index, code)}\n`
  }
  // Names and lines are the object's, which may hold what a terminal would act on.
  return text.replaceAll(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, '?')
}

function wordsFor(instruction: Instruction, index: number, { maps, externs }: ProgramNames): string {
  const map = maps.get(index)
  const extern = externs.get(index)
  const isWide = instruction.high !== undefined
  if (extern !== undefined && !isWide) return `call ${extern}`
  // As bpftool writes them; the second half of the load is the place in the value.
  const place = map && `map[${map.name}]${map.isValue ? `[0]+${instruction.high}` : ''}`
  return disassembleInstruction(instruction, { wide: () => place ?? extern })
}

/** Empty for what the compiler made up: that has line 0. */
function sourceLine(source: SourceLocation): string {
  if (source.line === 0) return ''
  const written = sourceText(source)
  return `; ${written ? `${written} ` : ''}@ ${source.file}:${source.line}`
}
