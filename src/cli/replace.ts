// Putting a program in the place of another one, in one step: what may be replaced, and how.
import {
  BpfProgram,
  XdpBusyError,
  attachXdp,
  describeAttached,
  queryXdp,
  type AttachOptions,
  type AttachedProgram,
  type XdpAttachment,
} from '../bpf/index.js'
import { UnsupportedError, XdpError } from '../kernel/index.js'
import { openPinnedLink } from './pins.js'

/** A program that another one can take the place of. */
export interface Replaceable {
  /** What is attached now. */
  readonly old: AttachedProgram
  /** The pinned link that holds it; undefined when it was attached by netlink. */
  readonly link: XdpAttachment | undefined
  /**
   * Puts the program there: each packet meets the old one or the new one. Throws `KernelError` when somebody else was
   * quicker; then nothing has changed. Call it once.
   */
  put(program: BpfProgram): XdpAttachment
  /** Lets go of what was opened to look; what `put` answered stays. */
  close(): void
}

/** How it is to be attached, where that was said. */
export interface Wanted extends Pick<AttachOptions, 'namespace'> {
  mode?: AttachOptions['mode']
  attach?: 'netlink' | 'link' | undefined
}

// The program that libxdp attaches (libxdp.c in xdp-tools): it calls those of everybody on the interface.
const DISPATCHER = 'xdp_dispatcher'

/**
 * What is on an interface, to be replaced; undefined when nothing is. Our own pinned link is updated (BPF_LINK_UPDATE, 5.9), a
 * program attached by netlink exchanged for exactly the one seen (XDP_FLAGS_REPLACE, 5.7). Throws `XdpBusyError` for a link
 * that a process holds, `XdpError` for what would have to be attached otherwise and for libxdp's dispatcher.
 */
export function findReplaceable(name: string, { namespace, mode, attach }: Wanted): Replaceable | undefined {
  const attached = queryXdp(name, { namespace })
  if (attached.length === 0) return undefined
  const [old] = attached
  if (attached.length > 1) throw new XdpBusyError(name, attached)
  if (old.kind === 'unknown') {
    throw new UnsupportedError(
      `How ${describeAttached(old)} is attached cannot be seen without CAP_SYS_ADMIN`,
      'Run as root.',
    )
  }
  if (old.name === DISPATCHER) {
    throw new XdpError(
      'XDP_BUSY',
      `${describeAttached(old)} on ${name} is the dispatcher of libxdp, which runs the programs of others`,
      `Take those off with \`xdp-loader unload ${name} --all\` first.`,
    )
  }
  if (mode !== undefined && mode !== 'auto' && mode !== old.mode)
    throw otherwise(name, old, `in ${mode} mode`)
  if (attach !== undefined && attach !== old.kind) throw otherwise(name, old, `by ${attach}`)
  return old.kind === 'link' ? byLink(name, old) : byNetlink(name, old, namespace)
}

function byLink(name: string, old: AttachedProgram): Replaceable {
  const link = openPinnedLink(name)
  if (link?.linkId !== old.linkId || link === undefined) {
    link?.close()
    throw new XdpBusyError(name, [old])
  }
  let isPut = false
  return {
    old,
    link,
    put: (program) => {
      link.update(program)
      isPut = true
      return link
    },
    close: () => {
      if (!isPut) link.close()
    },
  }
}

function byNetlink(name: string, old: AttachedProgram, namespace: AttachOptions['namespace']): Replaceable {
  const seen = BpfProgram.openById(old.id)
  const { mode } = old
  return {
    old,
    link: undefined,
    put: (program) =>
      attachXdp(program, { interface: name, namespace, mode, attach: 'netlink', replace: seen }),
    close: () => seen.close(),
  }
}

function otherwise(name: string, old: AttachedProgram, how: string): XdpError {
  return new XdpError(
    'XDP_BUSY',
    `A program ${how} cannot take the place of ${describeAttached(old)} on ${name} in one step`,
    `Leave the option out, or take the old one off first: \`xdp unload ${name}\`.`,
  )
}
