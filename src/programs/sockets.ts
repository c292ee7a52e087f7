// The map that steers packets to AF_XDP sockets, and the code that looks into it.
import { BpfMap, u32 } from '../bpf/index.js'
import { call, load, loadMap, mov, r1, r2, r3, type Code, type Register } from '../bpf/asm.js'
import { XDP_MD, XDP_PASS } from './verdicts.js'

/** Makes the map of sockets by queue, under the name that libxdp uses too. `queues` is the most the device can ever have. */
export function createSocketMap(queues: number): BpfMap<number, number> {
  return BpfMap.create({ type: 'xskmap', name: 'xsks_map', key: u32, value: u32, maxEntries: queues })
}

/**
 * r0 = the verdict that gives the packet to the socket of the queue it arrived on, or passes it where there is
 * none. `context` is the register that holds the program's context. Destroys r1 to r5. Kernel 5.3.
 */
export function redirectToSocket(sockets: BpfMap<number, number>, context: Register): Code {
  return [
    load('u32', r2, context, XDP_MD.rxQueueIndex),
    loadMap(r1, sockets),
    mov(r3, XDP_PASS),
    call('redirect_map'),
  ]
}
