// The default program: whatever arrives on a queue goes to that queue's socket.
import type { BpfMap, BpfProgram } from '../bpf/index.js'
import { type LoadedXdp, type XdpDefinition, defineXdp } from '../bpf/builder/index.js'
import { socketMap } from './sockets.js'

/**
 * ```
 * packet ── a socket in `sockets` at the packet's queue? ── yes ─→ redirect to it
 *                                                       └─ no ──→ pass to the kernel
 * ```
 *
 * `queues` is the most queues the device can ever have. Takes packets in several buffers (jumbo frames) too where the kernel has
 * them (5.18): a socket drops those that its frames have no room for, unless it was opened with `multiBuffer`. Kernel 5.3, where
 * redirect_map learnt to pass instead of aborting.
 */
export function defineRedirect(queues: number): XdpDefinition {
  const sockets = socketMap(queues)
  return defineXdp('xdp_redirect', { frags: true }, (x) => x.redirectTo(sockets, x.queue))
}

/** Redirect to sockets, loaded. */
export class RedirectProgram {
  readonly program: BpfProgram
  /** Sockets by queue: put a socket's descriptor at the index of its queue. */
  readonly sockets: BpfMap<number, number>
  readonly #loaded: LoadedXdp

  private constructor(loaded: LoadedXdp) {
    this.#loaded = loaded
    this.program = loaded.program
    this.sockets = loaded.map(socketMap(0))
  }

  /** Loads the program. `queues` is the most queues the device can ever have. */
  static load({ queues }: { queues: number }): RedirectProgram {
    return new RedirectProgram(defineRedirect(queues).load())
  }

  /** Lets go of the program and its map: they live on while attached. */
  close(): void {
    this.#loaded.close()
  }
}
