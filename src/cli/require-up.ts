// Refuses interfaces that nothing can arrive on.
import { XdpError } from '../kernel/index.js'
import { getInterface } from '../kernel/interfaces.js'

/**
 * Throws `XdpError` `XDP_DOWN` for an interface that is switched off, `NotFoundError` for one that is not there. The kernel
 * binds sockets to such an interface without a word, and its user waits for packets in vain.
 */
export function requireUp(name: string): void {
  if (getInterface(name).up) return
  throw new XdpError('XDP_DOWN', `${name} is down`, `Bring it up with \`ip link set ${name} up\`.`)
}
