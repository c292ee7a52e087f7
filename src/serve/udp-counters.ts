// What is counted of UDP: slots of numbers, which may lie in memory that several threads share, and objects to read them by.

/** What a server has done so far, in datagrams. */
export interface UdpCounts {
  /** Delivered from XDP, and from the kernel's sockets. */
  received: number
  receivedByKernel: number
  /** Replies in place. */
  replied: number
  /** Sent in frames of their own; those that still wait for their next hop included. */
  sent: number
  /** Given to the kernel to send. */
  sentByKernel: number
  /** Not sent: no room in the TX ring, or too many waiting. */
  dropped: number
}

/** What was taken by the program and given to nobody. */
export interface UdpDropCounts {
  /** Header or checksum wrong. */
  damaged: number
  /** To another hardware address, or to nobody here any more. */
  unwanted: number
  /** Waited for their next hop in vain, or found too many waiting. */
  unresolved: number
}

/** Slots of an array of counters: plain numbers in a `Float64Array`, exact to 2^53, each written by one thread alone. */
export const UDP_COUNTER = {
  received: 0,
  receivedByKernel: 1,
  replied: 2,
  sent: 3,
  sentByKernel: 4,
  dropped: 5,
  damaged: 6,
  unwanted: 7,
  unresolved: 8,
} as const

const SLOTS = Object.keys(UDP_COUNTER).length
// Between the counters of two threads: whole cache lines, so that they do not slow each other down.
const STRIDE = Math.ceil(SLOTS / 16) * 16

/** Counters for one thread. */
export const makeCounters = (): Float64Array => new Float64Array(SLOTS)

/** Memory for the counters of so many threads. */
export const shareCounters = (threads: number): SharedArrayBuffer =>
  new SharedArrayBuffer(threads * STRIDE * Float64Array.BYTES_PER_ELEMENT)

/** One thread's counters of that. */
export const sharedCounters = (memory: SharedArrayBuffer, thread: number): Float64Array =>
  new Float64Array(memory, thread * STRIDE * Float64Array.BYTES_PER_ELEMENT, SLOTS)

/** The counts of servers, of all the arrays together, as they are whenever they are read. */
export const countsOf = (...counters: readonly Float64Array[]): Readonly<UdpCounts> =>
  live(counters, ['received', 'receivedByKernel', 'replied', 'sent', 'sentByKernel', 'dropped'])

/** Likewise of what nobody was given. */
export const dropsOf = (...counters: readonly Float64Array[]): Readonly<UdpDropCounts> =>
  live(counters, ['damaged', 'unwanted', 'unresolved'])

function live<Name extends keyof typeof UDP_COUNTER>(
  counters: readonly Float64Array[],
  names: readonly Name[],
): Readonly<Record<Name, number>> {
  const counts = {} as Record<Name, number>
  for (const name of names) {
    const slot = UDP_COUNTER[name]
    Object.defineProperty(counts, name, {
      enumerable: true,
      get: () => counters.reduce((sum, array) => sum + array[slot], 0),
    })
  }
  return counts
}
