// xdp lab load, unload: XDP programs at an end of a lab.
import { Option, type Command } from 'commander'
import { XdpBusyError, attachXdp, describeAttached, detachXdp, type AttachOptions } from '../../bpf/index.js'
import { XdpError, inNamespace } from '../../kernel/index.js'
import type { EndId } from '../../lab/index.js'
import { chooseProgram, programHelp, requireForInterface } from '../choose-program.js'
import { addProgramOptions, type ProgramFlags } from '../program-options.js'
import { keepArrays, releaseArrays } from '../kept-arrays.js'
import { Pins } from '../pins.js'
import { findReplaceable, type Replaceable } from '../replace.js'
import { endOption, labArgument, withLab } from './common.js'

interface EndFlags {
  end: EndId
}

type LoadFlags = EndFlags & Pick<AttachOptions, 'mode'> & ProgramFlags & { replace?: boolean }

export function addProgramCommands(parent: Command): void {
  addProgramOptions(parent.command('load'))
    .summary('attach an XDP program to an end')
    .description(
      'Loads an XDP program and attaches it to an end of a lab, where it stays until `xdp lab unload`.',
    )
    .argument('<name>', 'the lab')
    .argument('[program]', 'which program: a name or an object file', 'redirect')
    .addOption(endOption('a'))
    .addOption(
      new Option('-m, --mode <mode>', 'where the XDP program runs')
        .choices(['auto', 'native', 'generic'])
        .default('auto'),
    )
    .option('--replace', 'take the place of the program that is there, in one step')
    .addHelpText('after', programHelp())
    .action((name: string, program: string, { end, ...flags }: LoadFlags) =>
      withLab(name, (lab) => {
        const { namespace, interface: link, queues } = lab[end]
        const chosen = chooseProgram(program, flags)
        requireForInterface(chosen)
        const loaded = inNamespace(namespace, () => chosen.load({ queues }))
        const { mode } = flags
        let there: Replaceable | undefined
        const pins = new Pins()
        try {
          if (flags.replace) there = findReplaceable(link, { namespace, mode })
          // By netlink: it is to stay when this process ends, and to go with the interface.
          const attachment = pins.orUndo(() => {
            keepArrays(pins, link, loaded)
            return (
              there?.put(loaded.program) ??
              explained(name, end, () =>
                attachXdp(loaded.program, { interface: link, namespace, mode: mode!, attach: 'netlink' }),
              )
            )
          })
          const why = attachment.fallbackReason === undefined ? '' : ` (${attachment.fallbackReason})`
          const what = `program ${attachment.programId} "${loaded.program.name}"`
          console.log(
            `${what} runs on ${link}, end ${end} of the lab ${name}, in ${attachment.mode} mode${why}` +
              (there ? `, in the place of ${describeAttached(there.old)}` : ''),
          )
          attachment.close()
          releaseArrays(link, there ? [there.old] : [])
        } finally {
          there?.close()
          loaded.close()
        }
      }),
    )

  parent
    .command('unload')
    .summary('take the XDP program off an end')
    .description('Takes off the XDP program that `xdp lab load` attached to an end of a lab.')
    .argument(...labArgument)
    .addOption(endOption('a'))
    .action((name: string, { end }: EndFlags) =>
      withLab(name, (lab) => {
        const { namespace, interface: link } = lab[end]
        const taken = detachXdp(link, { namespace })
        releaseArrays(link, taken)
        for (const program of taken) console.log(`took ${describeAttached(program)} off ${link}`)
        if (taken.length === 0)
          console.log(`no XDP program attached to ${link}, end ${end} of the lab ${name}`)
      }),
    )
}

// The general advice knows nothing of labs, nor of the namespace that its command would have to run in.
function explained<T>(lab: string, end: EndId, attach: () => T): T {
  try {
    return attach()
  } catch (error) {
    if (!(error instanceof XdpBusyError) || error.attached.some(({ kind }) => kind === 'link')) throw error
    throw new XdpError(
      error.code,
      error.message,
      `Take it off with \`xdp lab unload ${lab} -e ${end}\`, or put the new one in its place with --replace.`,
    )
  }
}
