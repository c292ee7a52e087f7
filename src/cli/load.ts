// xdp load: an XDP program on an interface, where it stays when the command ends.
import { dirname, resolve } from 'node:path'
import { Command, Option } from 'commander'
import {
  XdpBusyError,
  attachXdp,
  describeAttached,
  type AttachOptions,
  type AttachedProgram,
  type XdpAttachment,
} from '../bpf/index.js'
import { XdpError } from '../kernel/index.js'
import { countQueues } from '../nic/queues.js'
import { chooseProgram, programHelp, requireForInterface, type LoadedProgram } from './choose-program.js'
import { keepArrays, releaseArrays } from './kept-arrays.js'
import { Pins, linkPath, openPinnedLink, pinName } from './pins.js'
import { addProgramOptions, type ProgramFlags } from './program-options.js'
import { findReplaceable } from './replace.js'
import { requireConsent } from './take-traffic.js'

interface LoadFlags extends ProgramFlags {
  mode: NonNullable<AttachOptions['mode']>
  attach?: 'netlink' | 'link'
  replace?: boolean
  pin?: string
  takeTraffic?: boolean
}

export function loadCommand(): Command {
  return addProgramOptions(new Command('load'))
    .summary('attach an XDP program to an interface')
    .description('Loads an XDP program and attaches it to an interface, where it stays until `xdp unload`.')
    .argument('<interface>', 'the interface whose packets it is to see')
    .argument('<program>', 'a name or an object file')
    .addOption(
      new Option('-m, --mode <mode>', 'where the XDP program runs')
        .choices(['auto', 'native', 'generic'])
        .default('auto'),
    )
    .addOption(
      new Option(
        '--attach <kind>',
        'by netlink (the default), or by a link that is pinned under /sys/fs/bpf/xdp/<interface>',
      ).choices(['netlink', 'link']),
    )
    .option(
      '--replace',
      'take the place of the program that is there, in one step: no packet passes between them',
    )
    .option('--pin <folder>', 'pin the program, its maps and its link there too, for other programs to open')
    .option(
      '--take-traffic',
      'drop, reflect, balance over devices, acl that drops by default or denies everybody: also on loopback, and on the interface that carries the default route',
    )
    .addHelpText(
      'after',
      `${programHelp()}\n\nWhat --pin makes stays after \`xdp unload\`, until you remove it. --replace keeps mode and kind of attachment, and leaves ` +
        'alone what a running process holds; the new program starts with maps of its own.',
    )
    .action((name: string, choice: string, flags: LoadFlags) => {
      const chosen = chooseProgram(choice, flags)
      requireForInterface(chosen)
      if (cutsTraffic(choice, flags)) requireConsent(name, flags.takeTraffic ?? false)
      const loaded = chosen.load({ queues: countQueues(name).maxRx })
      try {
        const { attachment, old } = attachAndPin(name, loaded, flags)
        const why = attachment.fallbackReason === undefined ? '' : ` (${attachment.fallbackReason})`
        const program = `program ${attachment.programId} "${loaded.program.name}"`
        const place = old ? `, in the place of ${describeAttached(old)}` : ''
        console.log(
          `${program} runs on ${name} in ${attachment.mode} mode by ${attachment.kind}${why}${place}`,
        )
        attachment.close()
        releaseArrays(name, old ? [old] : [])
      } finally {
        loaded.close()
      }
    })
}

/** Whether a shipped program would cut off a host that it runs on. What others do is not known. */
function cutsTraffic(choice: string, { set = [] }: ProgramFlags): boolean {
  const has = (option: string, form: RegExp): boolean =>
    set.some(({ name, value }) => name === option && form.test(value))
  // A network of no bits is everybody.
  if (choice === 'acl') return has('default', /^drop$/) || has('deny', /\/0+$/)
  if (choice === 'balance') return has('device', /./)
  return choice === 'drop' || choice === 'reflect'
}

/** `old` is what the program took the place of. On failure nothing is left attached or pinned, and nothing replaced. */
function attachAndPin(
  name: string,
  loaded: LoadedProgram,
  flags: LoadFlags,
): { attachment: XdpAttachment; old?: AttachedProgram } {
  const { mode, attach = 'netlink', pin } = flags
  const folder = pin === undefined ? undefined : resolve(pin)
  openPinnedLink(name)?.close() // A pin whose interface has gone would be in the way.
  const there = flags.replace ? findReplaceable(name, flags) : undefined
  const pins = new Pins()
  let attachment: XdpAttachment | undefined
  try {
    if (folder !== undefined) {
      pins.folder(folder)
      pins.pin(loaded.program, `${folder}/program`)
      const maps = [...loaded.maps, ...loaded.variables]
      if (maps.length > 0) pins.folder(`${folder}/maps`)
      for (const [map, it] of maps) pins.pin(it, `${folder}/maps/${pinName(map)}`)
    }
    keepArrays(pins, name, loaded)
    if (there) {
      if (folder !== undefined && there.link) pins.pin(there.link, `${folder}/link`)
      return { attachment: there.put(loaded.program), old: there.old } // Last: it cannot be taken back.
    }
    attachment = explained(name, () => attachXdp(loaded.program, { interface: name, mode, attach }))
    if (attach === 'link') {
      const path = linkPath(name)
      pins.folder(dirname(path))
      pins.pin(attachment, path)
      if (folder !== undefined) pins.pin(attachment, `${folder}/link`)
    }
    return { attachment }
  } catch (error) {
    attachment?.detach()
    pins.undo()
    throw error
  } finally {
    there?.close()
  }
}

// The general advice is to stop the process that holds a link; a pinned one has none.
function explained<T>(name: string, attach: () => T): T {
  try {
    return attach()
  } catch (error) {
    if (!(error instanceof XdpBusyError)) throw error
    const pinned = openPinnedLink(name)
    const isOurs = error.attached.every(({ kind, linkId }) => kind !== 'link' || linkId === pinned?.linkId)
    pinned?.close()
    if (!isOurs) throw error
    throw new XdpError(
      error.code,
      error.message,
      `Take it off with \`xdp unload ${name}\`, or put the new one in its place with --replace.`,
    )
  }
}
