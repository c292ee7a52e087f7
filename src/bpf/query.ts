// Which XDP programs an interface has, how they are attached, and taking them off.
import { KernelError, XdpError } from '../kernel/errors.js'
import { getInterface } from '../kernel/interfaces.js'
import { hasCapability } from '../kernel/limits.js'
import { native } from '../kernel/native.js'
import type { Namespace } from '../kernel/namespace.js'
import { type Link, type LinkReference, type XdpMode, getLink, setLinkXdp } from '../kernel/netlink/index.js'
import { type Held, type Holder, describeHolders, holdersOf, xdpSocketOwners } from './attachment-holders.js'
import { Attr, LINK_DETACH } from './attr.js'
import { linkInfoById, objectIds, openById, programInfoById } from './info.js'
import { EINVAL, EPERM } from '../kernel/errno.js'
import { bpfChecked } from './syscall.js'

/** An XDP program on an interface. */
export interface AttachedProgram {
  mode: XdpMode
  /** The kernel's id of the program. */
  id: number
  /** Undefined when the program went away meanwhile. */
  name: string | undefined
  /** 16 hex digits. */
  tag: string | undefined
  /** A link goes with the process that holds it, unless pinned; a netlink attachment stays. `unknown` without the right to list links. */
  kind: 'link' | 'netlink' | 'unknown'
  /** The id of the link. */
  linkId: number | undefined
  /** The user id of whoever loaded the program. */
  loadedBy: number | undefined
}

export interface QueryOptions {
  namespace?: Namespace | undefined
}

/** An interface has an XDP program that is in the way: `code` is `XDP_BUSY`. Says who loaded it, and which processes hold it. */
export class XdpBusyError extends XdpError {
  /** The interface's name. */
  readonly interface: string
  /** What is attached. */
  readonly attached: readonly AttachedProgram[]

  constructor(
    interfaceName: string,
    attached: readonly AttachedProgram[],
    what = 'has an XDP program already',
  ) {
    const held = attached.map((program) => ({ program, holders: holdersOf(toFind(program)) }))
    super(
      'XDP_BUSY',
      `${interfaceName} ${what}: ${held.map(describeOwner).join(', ')}`,
      held.map((one) => howToRemove(interfaceName, one)).join(' '),
    )
    this.interface = interfaceName
    this.attached = attached
  }
}

/** The XDP programs on an interface (name or index): none, one, or one in the driver and one on the card. Throws `NotFoundError`. */
export function queryXdp(reference: LinkReference, options: QueryOptions = {}): AttachedProgram[] {
  return attachedTo(getInterface(reference, options))
}

/** The XDP programs on a link that was just read. Without CAP_SYS_ADMIN only their ids and modes are known. */
export function attachedTo(link: Link): AttachedProgram[] {
  const programs = Object.entries(link.xdp.programs) as [XdpMode, number][]
  if (programs.length === 0) return []
  const links = xdpLinks(link.index)
  return programs.map(([mode, id]) => {
    const info = links === undefined ? undefined : programInfoById(id)
    const linkId = links?.get(id)
    const kind = links === undefined ? 'unknown' : linkId === undefined ? 'netlink' : 'link'
    return { mode, id, name: info?.name, tag: info?.tag, kind, linkId, loadedBy: info?.createdByUid }
  })
}

/** `7 "name" (native, by link 3)` */
export function describeAttached({ id, name, mode, kind, linkId }: AttachedProgram): string {
  const how = { link: `, by link ${linkId}`, netlink: ', by netlink', unknown: '' }[kind]
  return `program ${id}${name ? ` "${name}"` : ''} (${mode}${how})`
}

interface HeldProgram {
  program: AttachedProgram
  holders: readonly Holder[]
}

function toFind({ id, linkId }: AttachedProgram): Held {
  return { programId: id, linkId }
}

/** The same with who is behind it: `…, loaded by uid 0, held by node (pid 12)`. */
function describeOwner({ program, holders }: HeldProgram): string {
  const loaded = program.loadedBy === undefined ? '' : `, loaded by uid ${program.loadedBy}`
  const held = holders.length === 0 ? '' : `, held by ${describeHolders(holders)}`
  return `${describeAttached(program)}${loaded}${held}`
}

/**
 * Who has an interface's queues, in words, for the error of whoever wanted one: the XDP programs on it with the processes that
 * hold them, and where none does, the processes that have AF_XDP sockets at all. Undefined when nothing is known; never throws.
 */
export function describeQueueHolders(
  reference: LinkReference,
  options: QueryOptions = {},
): string | undefined {
  try {
    const link = getLink(reference, options)
    const held = attachedTo(link).map((program) => ({ program, holders: holdersOf(toFind(program)) }))
    const running = held.length === 0 ? [] : [`${link.name} runs ${held.map(describeOwner).join(', ')}`]
    const owners = held.some(({ holders }) => holders.length > 0) ? [] : xdpSocketOwners()
    const sockets = owners.length === 0 ? [] : [`AF_XDP sockets are open in ${describeHolders(owners)}`]
    return [...running, ...sockets].join('; ') || undefined
  } catch {
    return undefined
  }
}

/** What `detachXdp` may take off. */
export interface DetachOptions extends QueryOptions {
  /** Only the program in this mode. */
  mode?: XdpMode
  /** Also cut programs off that a link holds (BPF_LINK_DETACH, 5.9, CAP_SYS_ADMIN). Its owner is left with a dead link. Default false. */
  links?: boolean
}

/**
 * Takes XDP programs off an interface and returns those it took; an empty list when there were none. Throws
 * `XdpBusyError` for one that a link holds, unless `links` is set. Needs CAP_NET_ADMIN.
 */
export function detachXdp(reference: LinkReference, options: DetachOptions = {}): AttachedProgram[] {
  const link = getInterface(reference, options)
  const attached = attachedTo(link).filter(({ mode }) => options.mode === undefined || mode === options.mode)
  const held = attached.filter(({ kind }) => kind === 'link')
  if (held.length > 0 && !options.links) {
    throw new XdpBusyError(link.name, held, 'has an XDP program that another process holds')
  }
  for (const { linkId, mode } of attached) {
    if (linkId === undefined) setLinkXdp({ ifindex: link.index, fd: -1, mode, namespace: options.namespace })
    else detachLinkById(linkId)
  }
  return attached
}

/** Detaches a link for good, whoever holds it (5.9, CAP_SYS_ADMIN). False when there is no such link. */
export function detachLinkById(linkId: number): boolean {
  const fd = openById('link', linkId)
  if (fd === undefined) return false
  try {
    bpfChecked('LINK_DETACH', new Attr(LINK_DETACH, { link_fd: fd }), { about: `link ${linkId}` })
    return true
  } finally {
    native.close(fd)
  }
}

const ipKeywords: Record<XdpMode, string> = {
  native: 'xdpdrv',
  generic: 'xdpgeneric',
  hardware: 'xdpoffload',
}

function howToRemove(interfaceName: string, { program, holders }: HeldProgram): string {
  const { kind, linkId, mode } = program
  if (kind === 'link') {
    const first =
      holders.length > 0 || !hasCapability('CAP_SYS_ADMIN')
        ? `Stop the process that holds link ${linkId}`
        : `No process holds link ${linkId}: remove its pin (\`bpftool -f link show id ${linkId}\` finds it)`
    return `${first}, or cut it off with \`bpftool link detach id ${linkId}\`.`
  }
  return `Take it off with \`ip link set dev ${interfaceName} ${ipKeywords[mode]} off\`.`
}

/**
 * Program ids of the XDP links on an interface, with the links' ids. Links name their device by index only, which another
 * namespace may use too: a program on both is then taken for held by link on both. Undefined without the right to list links.
 */
function xdpLinks(ifindex: number): Map<number, number> | undefined {
  const links = new Map<number, number>()
  try {
    for (const id of objectIds('link')) {
      const info = linkInfoById(id)
      if (info?.type === 'xdp' && info.ifindex === ifindex) links.set(info.programId, id)
    }
  } catch (error) {
    if (!(error instanceof KernelError)) throw error
    if (error.errno === EPERM) return undefined
    // Before 5.8 there are no links to list.
    if (error.errno !== EINVAL) throw error
  }
  return links
}
