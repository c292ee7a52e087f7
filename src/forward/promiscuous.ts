// Has a device receive what is not addressed to it, as a cable's end must.
import { check, getInterface, inNamespace, native, setPromiscuous, type Namespace } from '../kernel/index.js'

// include/linux/socket.h
const AF_PACKET = 17
const SOCK_RAW = 3

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
