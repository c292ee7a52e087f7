// Programs with one verdict for everything: to try an interface, or to hold a place.
import { type XdpDefinition, defineXdp } from '../bpf/builder/index.js'

/**
 * ```
 * packet ──→ pass to the kernel
 * ```
 */
export function definePass(): XdpDefinition {
  return defineXdp('xdp_pass', { frags: true }, () => 'pass')
}

/**
 * ```
 * packet ──→ drop
 * ```
 */
export function defineDrop(): XdpDefinition {
  return defineXdp('xdp_drop', { frags: true }, () => 'drop')
}
