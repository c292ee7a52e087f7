// A program on an interface: updating it in place, pinning its link, taking it off.
import { KernelError, OptionError, StateError } from '../kernel/errors.js'
import type { Namespace } from '../kernel/namespace.js'
import { native } from '../kernel/native.js'
import { type XdpMode, getLink, setLinkXdp } from '../kernel/netlink/index.js'
import { Attr, LINK_DETACH, LINK_UPDATE } from './attr.js'
import { linkInfo, openById, programInfo } from './info.js'
import { getPinned, pinObject } from './pin.js'
import { EEXIST, ENODEV, ERANGE } from '../kernel/errno.js'
import { bpf, bpfChecked, bpfError } from './syscall.js'

// include/uapi/linux/bpf.h, flags for BPF_LINK_UPDATE
const BPF_F_REPLACE = 1 << 2

const UPDATE_HINT =
  'Somebody else may have updated the link, its interface may be gone, or the programs differ in attach type.'

/** For ERANGE, which is about the MTU (as drivers/net/veth.c: veth_xdp_set). */
export const MTU_HINT =
  'Where the MTU is that large, take a program for packets in several buffers (`frags: true`, in C SEC("xdp.frags")), or generic mode.'

/** What is attached: a `BpfProgram`, or whatever else has the descriptor of one. */
export interface ProgramHandle {
  readonly fd: number
  readonly id: number
  readonly name: string
}

/** What an attachment is made of. */
export interface AttachmentState {
  interface: string
  ifindex: number
  mode: XdpMode
  fallbackReason: string | undefined
  namespace: Namespace | undefined
  linkFd: number | undefined
  programFd: number
}

/** A program on an interface. The program itself may be closed meanwhile. */
export class XdpAttachment {
  readonly kind: 'link' | 'netlink'
  /** As the kernel reports it. */
  readonly mode: XdpMode
  /** The interface's name when it was attached. */
  readonly interface: string
  readonly ifindex: number
  /** The id of the link; undefined for netlink. */
  readonly linkId: number | undefined
  /** Why `auto` settled for generic mode; undefined when it did not. */
  readonly fallbackReason: string | undefined
  readonly #namespace: Namespace | undefined
  #linkFd: number
  #programFd: number
  #programId: number

  /** For `attachXdp` and `openPinned`; takes over the descriptors. */
  constructor(state: AttachmentState) {
    this.kind = state.linkFd === undefined ? 'netlink' : 'link'
    this.mode = state.mode
    this.interface = state.interface
    this.ifindex = state.ifindex
    this.fallbackReason = state.fallbackReason
    this.#namespace = state.namespace
    this.#linkFd = state.linkFd ?? -1
    this.#programFd = state.programFd
    this.#programId = programInfo(state.programFd).id
    this.linkId = state.linkFd === undefined ? undefined : linkInfo(state.linkFd).id
  }

  /** Takes up a link that was pinned. Throws `NotFoundError`. The interface must be in `namespace`. */
  static openPinned(path: string, options: { namespace?: Namespace } = {}): XdpAttachment {
    const linkFd = getPinned(path, 'link')
    try {
      const info = linkInfo(linkFd)
      if (info.type !== 'xdp')
        throw new OptionError('path', `${path} is a link of type ${info.type}, not of XDP`)
      if (!info.ifindex) throw new StateError(`The link at ${path} is detached: its interface is gone`)
      const link = getLink(info.ifindex, options)
      const programFd = openById('program', info.programId)
      if (programFd === undefined) throw new StateError(`The link at ${path} has no program any more`)
      const modes = Object.entries(link.xdp.programs) as [XdpMode, number][]
      const mode = modes.find(([, id]) => id === info.programId)?.[0] ?? 'native'
      const { name, index } = link
      return new XdpAttachment({
        interface: name,
        ifindex: index,
        mode,
        fallbackReason: undefined,
        namespace: options.namespace,
        linkFd,
        programFd,
      })
    } catch (error) {
      native.close(linkFd)
      throw error
    }
  }

  /** The kernel's id of the attached program. */
  get programId(): number {
    return this.#programId
  }

  /**
   * Puts another program in the place of this one, in one step: no packet passes by. Throws `KernelError` EPERM or EEXIST when
   * the program attached is not the one that this attachment put there.
   */
  update(program: ProgramHandle): void {
    this.#assertOpen()
    if (this.kind === 'link') {
      const attr = new Attr(LINK_UPDATE, {
        link_fd: this.#linkFd,
        new_prog_fd: program.fd,
        flags: BPF_F_REPLACE,
        old_prog_fd: this.#programFd,
      })
      const result = bpf('LINK_UPDATE', attr)
      if (result < 0) {
        const about = `link ${this.linkId} on ${this.interface}, to program ${program.id}`
        throw bpfError('LINK_UPDATE', -result, { about, hint: result === -ERANGE ? MTU_HINT : UPDATE_HINT })
      }
    } else {
      const { ifindex, mode } = this
      const namespace = this.#namespace
      setLinkXdp({ ifindex, mode, fd: program.fd, replaceFd: this.#programFd, namespace })
    }
    const old = this.#programFd
    this.#programFd = native.dup(program.fd)
    this.#programId = program.id
    native.close(old)
  }

  /**
   * Takes the program off the interface, even when the link is pinned, and closes. False when it was not there any more:
   * detached, replaced, or the interface gone.
   */
  detach(): boolean {
    if (this.#programFd < 0) return false
    const detached = this.kind === 'link' ? this.#detachLink() : this.#detachNetlink()
    this.close()
    return detached
  }

  /** Keeps a link attached beyond this process, under a path in the BPF file system. Netlink attachments stay anyway. */
  pin(path: string): void {
    this.#assertOpen()
    if (this.kind !== 'link') {
      throw new StateError('An attachment by netlink cannot be pinned', 'It stays until it is detached.')
    }
    pinObject(this.#linkFd, path)
  }

  /** Lets go: a link that is not pinned detaches with that, a netlink attachment stays. Closing twice is harmless. */
  close(): void {
    if (this.#linkFd >= 0) native.close(this.#linkFd)
    if (this.#programFd >= 0) native.close(this.#programFd)
    this.#linkFd = -1
    this.#programFd = -1
  }

  #assertOpen(): void {
    if (this.#programFd < 0) throw new StateError(`The attachment to ${this.interface} is closed`)
  }

  #detachLink(): boolean {
    const wasAttached = linkInfo(this.#linkFd).ifindex !== 0
    bpfChecked('LINK_DETACH', new Attr(LINK_DETACH, { link_fd: this.#linkFd }), {
      about: `link ${this.linkId}`,
    })
    return wasAttached
  }

  #detachNetlink(): boolean {
    const { ifindex, mode } = this
    try {
      setLinkXdp({ ifindex, mode, fd: -1, replaceFd: this.#programFd, namespace: this.#namespace })
      return true
    } catch (error) {
      // EEXIST: another program, or none, is there now.
      if (error instanceof KernelError && (error.errno === EEXIST || error.errno === ENODEV)) return false
      throw error
    }
  }
}
