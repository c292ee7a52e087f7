// Collects frames that the kernel has sent, when packets leave at other times than others arrive.
import type { XdpGroup } from '../xsk/index.js'

const FIRST_LOOK_MS = 1
const LAST_LOOK_MS = 64

/**
 * A socket takes sent frames back when it receives. Without free frames it would never receive again, so after packets
 * were sent outside of that, this looks after them until all are back, less and less often.
 */
export class Completions {
  readonly #group: XdpGroup
  readonly #withStages: () => number
  #timer: NodeJS.Timeout | undefined
  #pause = FIRST_LOOK_MS

  /** `withStages` says how many frames are held for another reason than being sent. */
  constructor(group: XdpGroup, withStages: () => number) {
    this.#group = group
    this.#withStages = withStages
  }

  /** Hands over what was put in the TX rings, and looks after it. */
  collect(): void {
    this.#group.flush()
    this.#pause = FIRST_LOOK_MS
    this.#timer ??= setTimeout(this.#look, this.#pause)
  }

  stop(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
  }

  readonly #look = (): void => {
    this.#timer = undefined
    const sockets = this.#group.sockets.filter((socket) => !socket.closed)
    try {
      for (const socket of sockets) socket.flush()
    } catch {
      return // The device is gone, and the run ends with that error.
    }
    // What another socket sends counts as held.
    const out = sockets
      .map((socket) => socket.frames())
      .reduce((sum, { tx, completion, held }) => sum + tx + completion + held, 0)
    if (out <= this.#withStages()) return
    this.#pause = Math.min(this.#pause * 2, LAST_LOOK_MS)
    this.#timer = setTimeout(this.#look, this.#pause)
  }
}
