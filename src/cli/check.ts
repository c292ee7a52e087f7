// xdp check: asks the kernel's verifier about a program, and attaches it to nothing.
import { Command } from 'commander'
import { VerifierError } from '../bpf/index.js'
import { chooseProgram, programHelp } from './choose-program.js'
import { addProgramOptions, type ProgramFlags } from './program-options.js'

export function checkCommand(): Command {
  return addProgramOptions(new Command('check'))
    .summary("ask the kernel's verifier about a program")
    .description(
      'Loads an XDP program without attaching it, and lets go of it again: says whether this kernel takes it, ' +
        "and prints the verifier's log when it does not.",
    )
    .argument('<program>', 'a name or an object file')
    .addHelpText(
      'after',
      `${programHelp()}\n\nExit status: 0 when the verifier takes the program, 1 when not.`,
    )
    .action((choice: string, flags: ProgramFlags) => {
      const chosen = chooseProgram(choice, flags)
      try {
        const loaded = chosen.load({ queues: 1, isTrial: true })
        const { tag } = loaded.program
        const maps = [...loaded.maps].map(([name, { type }]) => `${name} (${type})`).join(', ')
        loaded.close()
        const uses = maps === '' ? '' : `, maps ${maps}`
        const instructions = chosen.code().bytes.length / 8
        console.log(`the verifier takes ${chosen.title}: ${instructions} instructions, tag ${tag}${uses}`)
      } catch (error) {
        if (error instanceof VerifierError) console.log(error.log.trimEnd())
        throw error
      }
    })
}
