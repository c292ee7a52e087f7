// Attaching the program that gives packets to sockets.
import {
  attachXdp,
  type AttachOptions,
  type BpfMap,
  type BpfProgram,
  type XdpAttachment,
} from '../bpf/index.js'
import { ERANGE } from '../kernel/errno.js'
import { KernelError, UnsupportedError } from '../kernel/index.js'

/** A program that gives packets to sockets, and the map it finds them in by queue. */
export interface SteeringProgram {
  readonly program: BpfProgram
  readonly sockets: BpfMap<number, number>
  close(): void
}

/** Attaches a program. With `multiBuffer` it says so when the program is what keeps long packets from the sockets. */
export function attachSteering(
  { program }: SteeringProgram,
  { multiBuffer, ...options }: AttachOptions & { multiBuffer: boolean },
): XdpAttachment {
  try {
    return attachXdp(program, options)
  } catch (error) {
    // Drivers refuse a program that cannot take the packets which the MTU lets in (drivers/net/veth.c: veth_xdp_set).
    if (!multiBuffer || !(error instanceof KernelError) || error.errno !== ERANGE) throw error
    throw new UnsupportedError(
      `The MTU of ${options.interface} needs a program for packets in several buffers, which "${program.name}" was not loaded as`,
      'Load it with `frags` (in C: SEC("xdp.frags")), or attach it in mode "generic".',
      { cause: error },
    )
  }
}
