// Has a device receive what is not addressed to it, by way of an AF_PACKET socket (packet(7)).
import { check } from './errors.js'
import { getInterface } from './interfaces.js'
import { inNamespace, type Namespace } from './namespace.js'
import { native } from './native.js'

// include/linux/socket.h, include/uapi/linux/if_packet.h
const AF_PACKET = 17
const SOCK_RAW = 3
const SOL_PACKET = 263
const PACKET_ADD_MEMBERSHIP = 1
const PACKET_MR_PROMISC = 1

/**
 * Switches a device to promiscuous mode for as long as the AF_PACKET socket `fd` is open: the kernel counts who wants it
 * (PACKET_MR_PROMISC). `name` is for messages. Throws `KernelError` when the device is gone.
 */
export function setPromiscuous(fd: number, ifindex: number, name: string): void {
  const request = new DataView(new ArrayBuffer(16)) // struct packet_mreq
  request.setInt32(0, ifindex, true)
  request.setUint16(4, PACKET_MR_PROMISC, true)
  check(native.setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, request), 'setsockopt(PACKET_MR_PROMISC)', {
    about: name,
  })
}

/**
 * Switches a device to promiscuous mode for as long as the returned function is not called, and this process lives.
 * Needs CAP_NET_RAW.
 */
export function makePromiscuous(name: string, namespace: Namespace | undefined): () => void {
  const { index } = getInterface(name, { namespace })
  // With protocol 0 the socket itself receives nothing.
  const fd = check(
    inNamespace(namespace, () => native.socket(AF_PACKET, SOCK_RAW, 0)),
    'socket(AF_PACKET)',
    { hint: 'Run as root, or grant the capability CAP_NET_RAW.' },
  )
  try {
    setPromiscuous(fd, index, name)
  } catch (error) {
    native.close(fd)
    throw error
  }
  return () => void native.close(fd)
}
