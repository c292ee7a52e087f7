// A ring of descriptors between two threads: one puts in, one takes out, nobody locks.

// Words: what changes in one thread is a cache line away from what changes in the other.
const PRODUCER = 0
const CONSUMER = 16
const SLEEPING = 32
const SLOTS = 48
const SLOT_WORDS = 2

// In TypeScript's es2024 library.
interface AsyncAtomics {
  waitAsync(array: Int32Array, index: number, value: number): { async: boolean; value: unknown }
}

/**
 * Descriptors: an address and a note of 32 bits each. It is made with as many slots as there are frames, and a frame is in
 * one place at a time, so it is never full.
 */
export class DescriptorRing {
  readonly memory: SharedArrayBuffer
  readonly #words: Int32Array
  readonly #mask: number

  /** Over memory made by `allocate`, one end in each of two threads. */
  constructor(memory: SharedArrayBuffer) {
    this.memory = memory
    this.#words = new Int32Array(memory)
    this.#mask = (this.#words.length - SLOTS) / SLOT_WORDS - 1
  }

  /** Memory for a ring with room for `frames` descriptors. */
  static allocate(frames: number): SharedArrayBuffer {
    return new SharedArrayBuffer((SLOTS + SLOT_WORDS * 2 ** Math.ceil(Math.log2(frames))) * 4)
  }

  /** Puts one in, and wakes the other thread if it sleeps. */
  push(address: number, note: number): void {
    const words = this.#words
    const producer = words[PRODUCER]
    const at = SLOTS + (producer & this.#mask) * SLOT_WORDS
    words[at] = address
    words[at + 1] = note
    Atomics.store(words, PRODUCER, (producer + 1) | 0)
    if (Atomics.load(words, SLEEPING) !== 0) {
      Atomics.store(words, SLEEPING, 0)
      Atomics.notify(words, PRODUCER)
    }
  }

  /** Descriptors to take out. */
  get level(): number {
    return (Atomics.load(this.#words, PRODUCER) - this.#words[CONSUMER]) | 0
  }

  /** Of the next one to take out. */
  get address(): number {
    return this.#words[SLOTS + (this.#words[CONSUMER] & this.#mask) * SLOT_WORDS] >>> 0
  }

  get note(): number {
    return this.#words[SLOTS + (this.#words[CONSUMER] & this.#mask) * SLOT_WORDS + 1]
  }

  /** Takes it out. */
  release(): void {
    Atomics.store(this.#words, CONSUMER, (this.#words[CONSUMER] + 1) | 0)
  }

  /** Resolves when there may be something to take out, or the other thread calls `wake`. */
  async wait(): Promise<void> {
    const words = this.#words
    Atomics.store(words, SLEEPING, 1)
    // What was put in before is seen here; what is put in after sees that this thread sleeps.
    const { value } = (Atomics as unknown as AsyncAtomics).waitAsync(words, PRODUCER, words[CONSUMER])
    await value
    Atomics.store(words, SLEEPING, 0)
  }

  /** Ends the other thread's `wait`. */
  wake(): void {
    Atomics.notify(this.#words, PRODUCER)
  }
}
