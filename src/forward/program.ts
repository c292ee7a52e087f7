// The program that says which packets are forwarded; all others are the kernel's.
import { defineXdp, type XdpDefinition } from '../bpf/builder/index.js'
import { requireMatch, type Filter } from '../filter/index.js'
import { passDiscovery } from '../programs/discovery.js'
import { socketMap } from '../programs/sockets.js'
import type { SteeringProgram } from '../xsk/index.js'

/** What goes to the sockets. */
export interface ForwardProgramOptions {
  /** The most queues the device can ever have. */
  queues: number
  /** Only what matches. */
  filter?: Filter | undefined
  /** Who gets ARP, neighbour discovery, and whatever is addressed to a group. */
  discovery: 'forward' | 'kernel'
}

/**
 * ```
 * packet ─┬─ with `discovery: 'kernel'`: to a group, ARP, neighbour discovery ─→ pass to the kernel
 *         ├─ does not match `filter` ─→ pass to the kernel
 *         └─ any other: to the socket of its queue; pass while there is none
 * ```
 *
 * Kernel 5.3.
 */
export function defineForward({ queues, filter, discovery }: ForwardProgramOptions): XdpDefinition {
  const sockets = socketMap(queues)
  return defineXdp('xdp_forward', (x) => {
    if (discovery === 'kernel') {
      const eth = x.packet.ethernet({ vlans: 2 })
      // The group bit: the lowest of the first byte.
      x.require(eth.dst.field(0, 'u8').hasNone(1))
      passDiscovery(x, eth)
    }
    requireMatch(x, filter)
    return x.redirectTo(sockets, x.queue)
  })
}

/** Loads it. */
export function loadForward(options: ForwardProgramOptions): SteeringProgram {
  const loaded = defineForward(options).load()
  return { program: loaded.program, sockets: loaded.map(socketMap(0)), close: () => loaded.close() }
}
