// The default program: whatever arrives on a queue goes to that queue's socket.
import { BpfProgram, type BpfMap } from '../bpf/index.js'
import { exit, r1 } from '../bpf/asm.js'
import { createSocketMap, redirectToSocket } from './sockets.js'

/**
 * ```
 * packet ── a socket in `sockets` at the packet's queue? ── yes ─→ redirect to it
 *                                                       └─ no ──→ pass to the kernel
 * ```
 *
 * Kernel 5.3, where redirect_map learnt to pass instead of aborting.
 */
export class RedirectProgram {
  readonly program: BpfProgram
  /** Sockets by queue: put a socket's descriptor at the index of its queue. */
  readonly sockets: BpfMap<number, number>

  private constructor(program: BpfProgram, sockets: BpfMap<number, number>) {
    this.program = program
    this.sockets = sockets
  }

  /** Loads the program. `queues` is the most queues the device can ever have. */
  static load({ queues }: { queues: number }): RedirectProgram {
    const sockets = createSocketMap(queues)
    try {
      const code = [redirectToSocket(sockets, r1), exit()]
      return new RedirectProgram(BpfProgram.load({ type: 'xdp', name: 'xdp_redirect', code }), sockets)
    } catch (error) {
      sockets.close()
      throw error
    }
  }

  /** Lets go of the program and its map: they live on while attached. */
  close(): void {
    this.program.close()
    this.sockets.close()
  }
}
