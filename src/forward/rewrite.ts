// What forwarding does to a packet's hardware addresses.
import { OptionError } from '../kernel/index.js'
import { ETH_ALEN, ETHERNET_AT, copyBytes, parseMac, swapMacs } from '../packet/index.js'

/**
 * What becomes of the two hardware addresses of a packet: nothing, as in a cable; exchanged; `source`, the outgoing
 * device's own as the source; or that, and the given destination. A packet to a group (broadcast, multicast) keeps its
 * destination, for a group is nobody's source, and it is for everybody.
 */
export type Rewrite = 'none' | 'swap' | 'source' | { destination: string }

/** Changes a packet in place. */
export type Rewriter = (bytes: Uint8Array, offset: number, length: number) => void

const ADDRESSES = 2 * ETH_ALEN

/** What does it, for packets that leave by a device with the address `mac`; undefined for nothing. Throws `OptionError`. */
export function rewriter(rewrite: Rewrite, mac: Uint8Array): Rewriter | undefined {
  if (rewrite === 'none') return undefined
  if (rewrite === 'swap') return swap
  if (rewrite === 'source') return (bytes, offset, length) => void setSource(bytes, offset, length, mac)
  const destination = parseMac(typeof rewrite === 'object' ? rewrite.destination : '')
  if (!destination) {
    throw new OptionError(
      'rewrite',
      `${JSON.stringify(rewrite)} is nothing to be done with hardware addresses`,
      "Use 'none', 'swap', 'source', or { destination: '02:00:00:00:00:01' }.",
    )
  }
  return (bytes, offset, length) => {
    if (!setSource(bytes, offset, length, mac) || isToGroup(bytes, offset)) return
    copyBytes(bytes, offset + ETHERNET_AT.dst, destination, 0, ETH_ALEN)
  }
}

/** The lowest bit of the first byte of the destination (IEEE 802, I/G). */
function isToGroup(bytes: Uint8Array, offset: number): boolean {
  return (bytes[offset + ETHERNET_AT.dst] & 1) !== 0
}

function swap(bytes: Uint8Array, offset: number, length: number): void {
  if (length >= ADDRESSES && !isToGroup(bytes, offset)) swapMacs(bytes, offset)
}

function setSource(bytes: Uint8Array, offset: number, length: number, mac: Uint8Array): boolean {
  if (length < ADDRESSES) return false
  copyBytes(bytes, offset + ETHERNET_AT.src, mac, 0, ETH_ALEN)
  return true
}
