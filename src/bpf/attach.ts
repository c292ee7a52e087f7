// Attaching XDP programs to interfaces: by link, which goes with its owner, or by netlink, which stays.
import { EBUSY, EEXIST, EINVAL, ENOSPC, ENOTSUPP, EOPNOTSUPP, EPERM, ERANGE } from '../kernel/errno.js'
import { KernelError, OptionError } from '../kernel/errors.js'
import { getInterface } from '../kernel/interfaces.js'
import { type Namespace, inNamespace } from '../kernel/namespace.js'
import { native } from '../kernel/native.js'
import { type Link, type LinkReference, type XdpMode, getLink, setLinkXdp } from '../kernel/netlink/index.js'
import { oneOf } from '../kernel/one-of.js'
import { kernelAtLeast } from '../kernel/version.js'
import { MTU_HINT, type ProgramHandle, XdpAttachment } from './attachment.js'
import { Attr, LINK_CREATE } from './attr.js'
import { ATTACH_TYPES } from './constants.js'
import { XdpBusyError, attachedTo } from './query.js'
import { bpf, bpfError } from './syscall.js'

// include/uapi/linux/if_link.h, XDP_FLAGS_…_MODE
const modeFlags: Record<XdpMode, number> = { generic: 2, native: 4, hardware: 8 }

/** How to attach. */
export interface AttachOptions {
  /** Name or index. */
  interface: LinkReference
  /**
   * `native`: in the driver; `generic`: in the stack, on any device; `hardware`: on the card. `auto` (the default): native,
   * and generic when the driver cannot.
   */
  mode?: 'auto' | XdpMode
  /** `auto` (the default): by link where the kernel has it (5.9), else by netlink. */
  attach?: 'auto' | 'link' | 'netlink'
  /** The namespace the interface is in. */
  namespace?: Namespace | undefined
  /** Takes the place of this program, in one step, if it is the one attached by netlink; `any`: of whichever is. Implies netlink. */
  replace?: ProgramHandle | 'any'
}

/**
 * Attaches an XDP program to an interface. Throws `NotFoundError` for an interface that is not there, `XdpBusyError` when another
 * program is in the way, `KernelError` for what the kernel refuses. Kernel 4.8 (links 5.9); CAP_NET_ADMIN and CAP_BPF.
 */
export function attachXdp(program: ProgramHandle, options: AttachOptions): XdpAttachment {
  const { mode = 'auto', namespace } = options
  oneOf('mode', mode, ['auto', 'native', 'generic', 'hardware'])
  oneOf('attach', options.attach ?? 'auto', ['auto', 'link', 'netlink'])
  const attach = attachKind(options)
  if (!['string', 'number'].includes(typeof options.interface)) {
    throw new OptionError('interface', 'No interface is named', 'Pass its name or its index.')
  }
  const link = getInterface(options.interface, { namespace })
  const tryMode = (mode: XdpMode): number | undefined => {
    if (attach === 'link') return createLink(program, link, mode, namespace)
    attachByNetlink(program, link, mode, options)
    return undefined
  }
  let fallbackReason: string | undefined
  let linkFd: number | undefined
  try {
    linkFd = tryMode(mode === 'auto' ? 'native' : mode)
  } catch (error) {
    if (mode !== 'auto' || !(error instanceof KernelError) || !isDriverRefusal(error.errno)) throw error
    fallbackReason = whyNotNative(link, error)
    try {
      linkFd = tryMode('generic')
    } catch (genericError) {
      // A refusal of both modes alike is about the program or the device, and the driver's is the better story.
      if (genericError instanceof KernelError && genericError.errno === error.errno) throw error
      throw genericError
    }
  }
  const asked = fallbackReason ? 'generic' : mode === 'auto' ? 'native' : mode
  try {
    return new XdpAttachment({
      interface: link.name,
      ifindex: link.index,
      mode: attachedMode(program, link.index, namespace, asked),
      fallbackReason,
      namespace,
      linkFd,
      programFd: native.dup(program.fd),
    })
  } catch (error) {
    // The interface went away meanwhile, say: nobody else would close the link.
    if (linkFd !== undefined) native.close(linkFd)
    throw error
  }
}

function attachKind({ attach = 'auto', replace }: AttachOptions): 'link' | 'netlink' {
  if (replace !== undefined && attach === 'link') {
    throw new OptionError(
      'replace',
      'A link never replaces a program',
      'Update the link that holds the interface, or attach by netlink.',
    )
  }
  if (attach !== 'auto') return attach
  return replace === undefined && kernelAtLeast(5, 9) ? 'link' : 'netlink'
}

function createLink(
  program: ProgramHandle,
  link: Link,
  mode: XdpMode,
  namespace: Namespace | undefined,
): number {
  const attr = new Attr(LINK_CREATE, {
    prog_fd: program.fd,
    target_ifindex: link.index,
    attach_type: ATTACH_TYPES.xdp,
    flags: modeFlags[mode],
  })
  // The index is looked up in the namespace of the calling thread.
  const result = inNamespace(namespace, () => bpf('LINK_CREATE', attr))
  if (result >= 0) return result
  throw refusal(link, namespace, bpfError('LINK_CREATE', -result, context(program, link, mode, -result)))
}

function attachByNetlink(program: ProgramHandle, link: Link, mode: XdpMode, options: AttachOptions): void {
  const { replace, namespace } = options
  try {
    setLinkXdp({
      ifindex: link.index,
      fd: program.fd,
      mode,
      namespace,
      ...(replace === undefined && { ifNoExist: true }),
      ...(typeof replace === 'object' && { replaceFd: replace.fd }),
    })
  } catch (error) {
    if (!(error instanceof KernelError)) throw error
    const about = { ...context(program, link, mode, error.errno), said: error.said }
    throw refusal(link, namespace, new KernelError(error.syscall, error.errno, about))
  }
}

/** The error to throw: that another program is in the way, when one is. */
function refusal(link: Link, namespace: Namespace | undefined, error: KernelError): Error {
  if (error.errno !== EBUSY && error.errno !== EEXIST) return error
  const attached = attachedTo(getLink(link.index, { namespace }))
  return attached.length > 0 ? new XdpBusyError(link.name, attached) : error
}

function context(
  program: ProgramHandle,
  link: Link,
  mode: XdpMode,
  errno: number,
): { about: string; hint?: string } {
  const about = `program "${program.name}" on ${link.name} in ${mode} mode`
  const hint = hintFor(mode, errno)
  return hint === undefined ? { about } : { about, hint }
}

function hintFor(mode: XdpMode, errno: number): string | undefined {
  if (errno === EPERM) return 'Run as root, or grant CAP_NET_ADMIN and CAP_BPF.'
  if (errno === EBUSY || errno === EEXIST) return undefined
  if (mode === 'hardware') {
    return 'Hardware mode needs a card that runs BPF, and a program loaded for it; use native or generic mode.'
  }
  if (errno === ERANGE) return MTU_HINT
  if (mode === 'native') return 'Use generic mode, or auto, which falls back to it.'
  return errno === EINVAL
    ? 'The program may be bound to another device, or meant for a devmap or cpumap.'
    : undefined
}

/** Errors by which drivers say that they cannot run XDP, or not in the device's present configuration. */
function isDriverRefusal(errno: number): boolean {
  return [EOPNOTSUPP, ENOTSUPP, ERANGE, ENOSPC, EINVAL].includes(errno)
}

// By link the kernel gives an errno only; these are what it stands for in drivers/net/veth.c and elsewhere.
function whyNotNative(link: Link, error: KernelError): string {
  const said = error.said ?? reasons[error.errno] ?? error.message
  return `native mode refused on ${link.name}${link.kind ? ` (${link.kind})` : ''}: ${said} (${error.code})`
}

const reasons: Record<number, string> = {
  [EOPNOTSUPP]: 'its driver has no XDP support, or not as the device is configured',
  [ENOTSUPP]: 'its driver has no XDP support, or not as the device is configured',
  [ERANGE]: 'the MTU is too large for XDP (on a veth: that of its peer)',
  [ENOSPC]: 'too few queues for XDP (on a veth: fewer receive queues than its peer has transmit queues)',
  [EINVAL]: 'its driver does not take this program as the device is configured',
}

/** The mode in which the kernel says the program runs. */
function attachedMode(
  program: ProgramHandle,
  ifindex: number,
  namespace: Namespace | undefined,
  asked: XdpMode,
): XdpMode {
  const { programs } = getLink(ifindex, { namespace }).xdp
  if (programs[asked] === program.id) return asked
  const modes = Object.entries(programs) as [XdpMode, number][]
  return modes.find(([, id]) => id === program.id)?.[0] ?? asked
}
