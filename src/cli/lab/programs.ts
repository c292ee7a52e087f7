// xdp lab load, unload: XDP programs at an end of a lab.
import { Option, type Command } from 'commander'
import { XdpBusyError, attachXdp, describeAttached, detachXdp, type AttachOptions } from '../../bpf/index.js'
import { XdpError, inNamespace } from '../../kernel/index.js'
import type { EndId } from '../../lab/index.js'
import { chooseProgram, programHelp, requireForInterface, sectionOption } from '../choose-program.js'
import { endOption, labArgument, withLab } from './common.js'

interface EndFlags {
  end: EndId
}

type LoadFlags = EndFlags & Pick<AttachOptions, 'mode'> & { section?: string }

export function addProgramCommands(parent: Command): void {
  parent
    .command('load')
    .summary('attach an XDP program to an end')
    .description(
      'Loads an XDP program and attaches it to an end of a lab, where it stays until `xdp lab unload`.',
    )
    .argument('<name>', 'the lab')
    .argument('[program]', 'which program: a name or an object file', 'redirect')
    .option(...sectionOption)
    .addOption(endOption('a'))
    .addOption(
      new Option('-m, --mode <mode>', 'where the XDP program runs')
        .choices(['auto', 'native', 'generic'])
        .default('auto'),
    )
    .addHelpText('after', programHelp())
    .action((name: string, program: string, { end, mode, section }: LoadFlags) =>
      withLab(name, (lab) => {
        const { namespace, interface: link, queues } = lab[end]
        const chosen = chooseProgram(program, section)
        requireForInterface(chosen)
        const loaded = inNamespace(namespace, () => chosen.load({ queues }))
        try {
          // By netlink: it is to stay when this process ends, and to go with the interface.
          const attachment = explained(name, end, () =>
            attachXdp(loaded.program, { interface: link, namespace, mode: mode!, attach: 'netlink' }),
          )
          const why = attachment.fallbackReason === undefined ? '' : ` (${attachment.fallbackReason})`
          const what = `program ${attachment.programId} "${loaded.program.name}"`
          console.log(
            `${what} runs on ${link}, end ${end} of the lab ${name}, in ${attachment.mode} mode${why}`,
          )
          attachment.close()
        } finally {
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
    throw new XdpError(error.code, error.message, `Take it off with \`xdp lab unload ${lab} -e ${end}\`.`)
  }
}
