// xdp unload: takes off an interface what `xdp load` put there.
import { Command } from 'commander'
import { XdpBusyError, describeAttached, detachXdp, queryXdp } from '../bpf/index.js'
import { getInterface } from '../kernel/interfaces.js'
import { releaseArrays } from './kept-arrays.js'
import { openPinnedLink, unpinLink } from './pins.js'

export function unloadCommand(): Command {
  return new Command('unload')
    .summary('take the XDP program off an interface')
    .description(
      'Takes off the XDP program that `xdp load` attached to an interface, by netlink or by a pinned link. ' +
        'A program that a running process holds stays: stop the process.',
    )
    .argument('<interface>', 'the interface to free')
    .addHelpText('after', '\nExit status: 0 also when nothing is attached.')
    .action((name: string) => {
      const attached = queryXdp(getInterface(name).index)
      const pinned = openPinnedLink(name)
      try {
        const held = attached.filter(({ kind, linkId }) => kind === 'link' && linkId !== pinned?.linkId)
        if (held.length > 0)
          throw new XdpBusyError(name, held, 'has an XDP program that another process holds')
        if (pinned) {
          pinned.detach()
          unpinLink(name)
        }
      } finally {
        pinned?.close()
      }
      detachXdp(name)
      releaseArrays(name, attached)
      for (const program of attached) console.log(`took ${describeAttached(program)} off ${name}`)
      if (attached.length === 0) console.log(`no XDP program attached to ${name}`)
    })
}
