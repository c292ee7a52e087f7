// The indices and flags that a ring's two ends tell each other: reading one with acquire, writing one with release semantics.

// x86-64 keeps loads, and stores, in their order (Intel SDM volume 3, 9.2; libxdp's rings rely on it too, in xsk.h), and V8 keeps
// accesses to typed arrays in theirs: plain ones will do. Atomics are more than is needed: each is a call, and the store waits
// until all entries written before it have come from the other processor's cache. That a store may be seen after a later
// load only delays a wake-up: xsk_poll looks again (net/xdp/xsk.c). Elsewhere only Atomics keep that order.
const isOrdered = process.arch === 'x64'

/** Reads an index or a flag: what the other end wrote before it is seen after it. */
export const load: (memory: Uint32Array) => number = isOrdered
  ? (memory) => memory[0]
  : (memory) => Atomics.load(memory, 0)

/** Writes an index: whoever sees it sees what was written before it. */
export const store: (memory: Uint32Array, value: number) => void = isOrdered
  ? (memory, value) => {
      memory[0] = value
    }
  : (memory, value) => {
      Atomics.store(memory, 0, value)
    }
