// XDP on a link over rtnetlink: what is attached, and attaching by descriptor. A program attached so outlives the process.
import { concatBytes, encodeAttributes, nested, type Attributes } from './codec.js'
import { NetlinkSocket, type NetlinkOptions } from './socket.js'

const RTM_SETLINK = 19 // include/uapi/linux/rtnetlink.h

// include/uapi/linux/if_link.h
const XDP_FLAGS_UPDATE_IF_NOEXIST = 1
const XDP_FLAGS_REPLACE = 16
const attachFlags = { auto: 0, generic: 2, native: 4, hardware: 8 } as const
// XDP_ATTACHED_*: not the same numbers as the flags.
const attachedModes = ['none', 'native', 'generic', 'hardware', 'multiple'] as const

export const xdpAttributes = {
  fd: [1, 's32'],
  attached: [2, 'u8'],
  flags: [3, 'u32'],
  programId: [4, 'u32'],
  nativeProgramId: [5, 'u32'],
  genericProgramId: [6, 'u32'],
  hardwareProgramId: [7, 'u32'],
  expectedFd: [8, 's32'],
} as const

/** Where a program runs: in the driver, above it in the stack, or on the card. */
export type XdpMode = 'native' | 'generic' | 'hardware'

/** What is attached to a link, by link or by netlink alike. */
export interface LinkXdp {
  /** `multiple`: programs in more than one mode (native and hardware). */
  readonly mode: 'none' | XdpMode | 'multiple'
  /** Program ids by mode. */
  readonly programs: Readonly<Partial<Record<XdpMode, number>>>
}

export function readLinkXdp(attributes: Attributes<typeof xdpAttributes> | undefined): LinkXdp {
  const mode = attachedModes[attributes?.attached ?? 0] ?? 'none'
  const programs: Partial<Record<XdpMode, number>> = {}
  if (attributes?.nativeProgramId) programs.native = attributes.nativeProgramId
  if (attributes?.genericProgramId) programs.generic = attributes.genericProgramId
  if (attributes?.hardwareProgramId) programs.hardware = attributes.hardwareProgramId
  // Kernels before 4.19 tell the one program's id only.
  if (attributes?.programId && mode !== 'none' && mode !== 'multiple') programs[mode] ??= attributes.programId
  return { mode, programs }
}

/** How to attach. */
export interface SetLinkXdp extends NetlinkOptions {
  ifindex: number
  /** The program; -1 detaches. */
  fd: number
  /** `auto`: in the driver when it can, else generic. A detach must name the mode the program was attached in, or `auto`. */
  mode: 'auto' | XdpMode
  /** Only when this program is the one attached (kernel 5.7). Throws EEXIST otherwise. */
  replaceFd?: number
  /** Only when nothing is attached. Throws EBUSY otherwise. */
  ifNoExist?: boolean
}

/**
 * Attaches, replaces or detaches an XDP program by netlink. Throws `KernelError`: EBUSY when a link (bpf_link)
 * holds the device or `ifNoExist` found a program, EEXIST across generic and native mode, ERANGE for a
 * veth peer's MTU, ENOSPC for too few RX queues; `said` has the driver's sentence. Needs CAP_NET_ADMIN. Kernel 4.8.
 */
export function setLinkXdp(options: SetLinkXdp): void {
  const { ifindex, fd, mode, replaceFd, ifNoExist } = options
  const flags =
    attachFlags[mode] |
    (ifNoExist ? XDP_FLAGS_UPDATE_IF_NOEXIST : 0) |
    (replaceFd === undefined ? 0 : XDP_FLAGS_REPLACE)
  const header = new DataView(new ArrayBuffer(16)) // struct ifinfomsg
  header.setInt32(4, ifindex, true)
  const attributes = encodeAttributes(
    { xdp: [43, nested(xdpAttributes)] },
    { xdp: { fd, flags, expectedFd: replaceFd } },
  )
  NetlinkSocket.use('route', options, (socket) => {
    socket.request({
      type: RTM_SETLINK,
      name: 'RTM_SETLINK',
      payload: concatBytes([new Uint8Array(header.buffer), attributes]),
      about: `${fd < 0 ? 'detaching XDP from' : 'attaching XDP to'} interface index ${ifindex}`,
    })
  })
}
