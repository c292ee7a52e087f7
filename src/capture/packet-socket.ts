// AF_PACKET sockets: made, filtered, bound, asked (include/uapi/linux/if_packet.h, net/packet/af_packet.c).
import {
  KernelError,
  OptionError,
  UnsupportedError,
  check,
  inNamespace,
  native,
  type Namespace,
} from '../kernel/index.js'
import { LINKTYPE_ETHERNET, LINKTYPE_RAW } from '../packet/pcap-record.js'

const AF_PACKET = 17
const SOCK_RAW = 3
const SOCK_NONBLOCK = 0x800
const SOL_SOCKET = 1
const SO_ERROR = 4
const SO_ATTACH_FILTER = 26
const SOL_PACKET = 263
const PACKET_RX_RING = 5
const PACKET_STATISTICS = 6
const PACKET_VERSION = 10
const TPACKET_V3 = 2
const ETH_P_ALL = 3
/** Reserved (IANA's list of EtherTypes): no packet has it. */
const ETH_P_NOTHING = 0xffff
// include/uapi/linux/if_arp.h
const ARPHRD_ETHER = 1
const ARPHRD_LOOPBACK = 772
const ARPHRD_RAWIP = 519
const ARPHRD_NONE = 0xfffe
// include/uapi/linux/filter.h, bpf_common.h
const BPF_MAXINSNS = 4096
const SKF_AD_VLAN_TAG_PRESENT = -0x1000 + 48
const LOAD_WORD_ABSOLUTE = 0x20
const JUMP_IF_EQUAL = 0x15
const RETURN_CONSTANT = 0x06

/** `struct sock_filter`, as bytes. */
function instruction(code: number, jumpTrue: number, jumpFalse: number, k: number): number[] {
  return [code & 0xff, code >> 8, jumpTrue, jumpFalse, k & 0xff, (k >> 8) & 0xff, (k >> 16) & 0xff, k >>> 24]
}

/** Makes a socket that receives nothing yet. The caller owns the descriptor. Throws `KernelError` EPERM without CAP_NET_RAW. */
export function openPacketSocket(namespace: Namespace | undefined): number {
  const fd = inNamespace(namespace, () => native.socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, 0))
  return check(fd, 'socket(AF_PACKET)', { hint: 'Run as root, or grant the capability CAP_NET_RAW.' })
}

/** A ring of `blocks` blocks of `blockSize` bytes, each handed over when full, or after `blockTimeout` ms with a packet in it. */
export function makeRing(fd: number, blockSize: number, blocks: number, blockTimeout: number): void {
  const version = Uint32Array.of(TPACKET_V3)
  check(native.setsockopt(fd, SOL_PACKET, PACKET_VERSION, version), 'setsockopt(PACKET_VERSION)')
  // A "frame" is what versions 1 and 2 have; here it only has to divide the block.
  const frame = 2048
  const request = Uint32Array.of(blockSize, blocks, frame, (blockSize / frame) * blocks, blockTimeout, 0, 0)
  check(native.setsockopt(fd, SOL_PACKET, PACKET_RX_RING, request), 'setsockopt(PACKET_RX_RING)', {
    about: `${blocks} blocks of ${blockSize} bytes`,
    hint: 'Ask for fewer or smaller blocks.',
  })
}

/** Binds to an interface: packets arrive from now on. Returns the link type. Throws `UnsupportedError` for links that are neither Ethernet nor IP. */
export function bindPacketSocket(fd: number, ifindex: number, name: string): number {
  const address = new DataView(new ArrayBuffer(20)) // struct sockaddr_ll
  address.setUint16(0, AF_PACKET, true)
  address.setUint16(2, ETH_P_ALL, false)
  address.setInt32(4, ifindex, true)
  check(native.bind(fd, address), 'bind', { about: name })
  check(native.getsockname(fd, address), 'getsockname', { about: name })
  const hardware = address.getUint16(8, true)
  if (hardware === ARPHRD_ETHER || hardware === ARPHRD_LOOPBACK) return LINKTYPE_ETHERNET
  if (hardware === ARPHRD_NONE || hardware === ARPHRD_RAWIP) return LINKTYPE_RAW
  throw new UnsupportedError(`${name} is a link of the kind ${hardware} (ARPHRD_*), which is not known here`)
}

/**
 * No packets arrive from now on, and none is on its way into the ring: the kernel waits for those (packet_do_bind,
 * __unregister_prot_hook, synchronize_net), some milliseconds. An interface that is gone has done the same.
 */
export function unbindPacketSocket(fd: number, ifindex: number): void {
  const address = new DataView(new ArrayBuffer(20))
  address.setUint16(0, AF_PACKET, true)
  // Not 0: to older kernels that means the protocol that there was.
  address.setUint16(2, ETH_P_NOTHING, false)
  address.setInt32(4, ifindex, true)
  native.bind(fd, address)
}

/** Attaches a classic BPF program, in the place of the one before. Throws `KernelError` EINVAL for one the kernel refuses. */
export function attachClassicFilter(fd: number, program: Uint8Array): void {
  const instructions = program.length / 8
  if (!Number.isInteger(instructions) || instructions < 1 || instructions > BPF_MAXINSNS) {
    throw new OptionError(
      'filter',
      `A filter of ${program.length} bytes is not 1 to ${BPF_MAXINSNS} instructions`,
    )
  }
  const header = new DataView(new ArrayBuffer(16)) // struct sock_fprog
  header.setUint16(0, instructions, true)
  const result = native.setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, header, [8, program])
  if (result === 0) return
  throw new KernelError('setsockopt(SO_ATTACH_FILTER)', -result, {
    about: `${instructions} instructions`,
    ...(result === -12 && { hint: 'Raise net.core.optmem_max: the program does not fit into it.' }),
  })
}

/**
 * The program to attach for a filter. The kernel takes VLAN tags out of packets before it runs programs, so that a
 * tagged packet is not the one the filter was written for: all tagged ones are let through, for the caller to judge
 * with the tag put back. `snapLength` is what is kept of the others. Undefined when the program does not fit.
 */
export function classicProgram(filter: Uint8Array | undefined, snapLength: number): Uint8Array | undefined {
  if (!filter) return Uint8Array.from(instruction(RETURN_CONSTANT, 0, 0, snapLength))
  const first = [
    ...instruction(LOAD_WORD_ABSOLUTE, 0, 0, SKF_AD_VLAN_TAG_PRESENT),
    ...instruction(JUMP_IF_EQUAL, 1, 0, 0),
    ...instruction(RETURN_CONSTANT, 0, 0, 0x40000),
  ]
  if (first.length + filter.length > 8 * BPF_MAXINSNS) return undefined
  const program = new Uint8Array(first.length + filter.length)
  program.set(first)
  program.set(filter, first.length)
  const view = new DataView(program.buffer)
  for (let at = first.length; at < program.length; at += 8) {
    const keeps = view.getUint16(at, true) === RETURN_CONSTANT && view.getUint32(at + 4, true) !== 0
    if (keeps) view.setUint32(at + 4, snapLength, true)
  }
  return program
}

/** Takes the counts since the last time; both are 32 bits wide. */
export function takeStatistics(fd: number): { packets: number; drops: number } {
  const answer = new Uint32Array(3) // struct tpacket_stats_v3: packets (the dropped ones too), drops, freezes
  check(native.getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, answer), 'getsockopt(PACKET_STATISTICS)')
  return { packets: answer[0], drops: answer[1] }
}

/** The error that waits on the socket, which is then gone; 0 for none. */
export function takeSocketError(fd: number): number {
  const error = new Int32Array(1)
  check(native.getsockopt(fd, SOL_SOCKET, SO_ERROR, error), 'getsockopt(SO_ERROR)')
  return error[0]
}
