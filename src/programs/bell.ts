// A bell that a program rings for a consumer that looks at its packets seldom.
import { RingBuffer, counter } from '../bpf/index.js'
import { defineMap, type Xdp } from '../bpf/builder/index.js'
import { PAGE_SIZE } from '../kernel/index.js'

/** A record in a ring buffer that was empty wakes whoever watches that. */
export const bellMap = defineMap({ type: 'ringbuf', name: 'bell', value: counter, maxEntries: PAGE_SIZE })

/** Rings the bell, unless it was rung and nobody has heard it yet. Kernel 5.8, for ring buffers. */
export function ringBell(x: Xdp): void {
  x.if(x.waiting(bellMap).eq(0), () => void x.record(bellMap, 0))
}

/** The end of the bell that is heard. Needs `close()`. */
export class Bell {
  readonly #rings: RingBuffer

  /** `map`: what `bellMap` was made. */
  constructor(map: ConstructorParameters<typeof RingBuffer>[0]) {
    this.#rings = new RingBuffer(map)
  }

  /** Calls `heard` on the event loop of this thread when the bell was rung, until `unwatch` or `close`. It may be rung again by then. */
  watch(heard: () => void): void {
    this.#rings.watchReady(() => {
      if (this.hear()) heard()
    })
  }

  /** Whether the bell was rung since it was heard last. */
  hear(): boolean {
    return this.#rings.consume(() => undefined) > 0
  }

  unwatch(): void {
    this.#rings.unwatch()
  }

  close(): void {
    this.#rings.close()
  }
}
