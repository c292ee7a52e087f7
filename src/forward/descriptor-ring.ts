// A ring of descriptors between two threads: one puts in, one takes out, nobody locks.

// Words: what changes in one thread is a cache line away from what changes in the other.
const PRODUCER = 0
const CONSUMER = 16
const SLEEPING = 32
// Of the thread that puts in: the batch it is at, and how many descriptors it has ever written.
const BATCH = 48
const WRITTEN = 49
const SLOTS = 64
const SLOT_WORDS = 2

// In TypeScript's es2024 library.
interface AsyncAtomics {
  waitAsync(array: Int32Array, index: number, value: number): { async: boolean; value: unknown }
}

/** What `recover` has found. */
export interface Recovered {
  /** Packets that the thread was done with, and nobody had been told. */
  handled: number
  /** 1 when a packet was in its hands. */
  lost: number
}

/**
 * Descriptors: an address and a note of 32 bits each. It is made with as many slots as there are frames, and a frame is in
 * one place at a time, so it is never full. All that is known of it lies in the shared memory, so that another thread can
 * take the place of either end.
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

  // ---------------------------------------------------------------- putting in

  /** Puts one in, and wakes the other thread if it sleeps. */
  push(address: number, note: number): void {
    this.set(0, address, note)
    this.#publish(1)
  }

  /** Begins a batch of `count` descriptors. */
  begin(count: number): void {
    this.#words[BATCH] = count
  }

  /** Writes number `index` of the batch; they are written in turn. */
  set(index: number, address: number, note: number): void {
    const words = this.#words
    const next = words[PRODUCER] + index
    const at = SLOTS + (next & this.#mask) * SLOT_WORDS
    words[at] = address
    words[at + 1] = note
    words[WRITTEN] = next + 1
  }

  /** Puts the batch in, all of it written, and wakes the other thread if it sleeps. */
  commit(): void {
    const count = this.#words[BATCH]
    this.#words[BATCH] = 0
    this.#publish(count)
  }

  /** Changes with each descriptor that is written. */
  get written(): number {
    return this.#words[WRITTEN]
  }

  #publish(count: number): void {
    const words = this.#words
    Atomics.store(words, PRODUCER, (words[PRODUCER] + count) | 0)
    if (Atomics.load(words, SLEEPING) !== 0) {
      Atomics.store(words, SLEEPING, 0)
      Atomics.notify(words, PRODUCER)
    }
  }

  /**
   * For a thread that takes each descriptor from `input` and puts one in here, and has ended in the middle of that: what
   * it was done with is put in, and what it had in hand too, with `mark` in its note. The two rings then agree again.
   */
  recover(input: DescriptorRing, mark: number): Recovered {
    const words = this.#words
    const done = (words[WRITTEN] - words[PRODUCER]) | 0
    const isUnmarked = (index: number) => ((input.note(index) & mark) === 0 ? 1 : 0)
    const found: Recovered = { handled: 0, lost: 0 }
    for (let i = 0; i < done; i++) found.handled += isUnmarked(i)
    let all = done
    if (done < words[BATCH]) {
      found.lost = isUnmarked(done)
      this.set(all++, input.address(done), input.note(done) | mark)
    }
    words[BATCH] = 0
    this.#publish(all)
    // Also when it had put a batch in, and not taken it out yet.
    Atomics.store(input.#words, CONSUMER, words[PRODUCER])
    return found
  }

  // ---------------------------------------------------------------- taking out

  /** Descriptors to take out. */
  get level(): number {
    return (Atomics.load(this.#words, PRODUCER) - this.#words[CONSUMER]) | 0
  }

  /** Of number `index` of those. */
  address(index: number): number {
    return this.#words[SLOTS + ((this.#words[CONSUMER] + index) & this.#mask) * SLOT_WORDS] >>> 0
  }

  note(index: number): number {
    return this.#words[SLOTS + ((this.#words[CONSUMER] + index) & this.#mask) * SLOT_WORDS + 1]
  }

  /** Takes the first `count` out. */
  release(count: number): void {
    Atomics.store(this.#words, CONSUMER, (this.#words[CONSUMER] + count) | 0)
  }

  /** Resolves when there may be something to take out, or somebody calls `wake`. */
  async wait(): Promise<void> {
    const words = this.#words
    Atomics.store(words, SLEEPING, 1)
    // What was put in before is seen here; what is put in after sees that this thread sleeps.
    const { value } = (Atomics as unknown as AsyncAtomics).waitAsync(words, PRODUCER, words[CONSUMER])
    await value
    Atomics.store(words, SLEEPING, 0)
  }

  /**
   * As `wait`, with the thread itself asleep, for `timeoutMs` at most: false when it passed. Cheaper, but the thread does
   * nothing else meanwhile, and the main thread may not.
   */
  sleep(timeoutMs: number): boolean {
    const words = this.#words
    Atomics.store(words, SLEEPING, 1)
    const how = Atomics.wait(words, PRODUCER, words[CONSUMER], timeoutMs)
    Atomics.store(words, SLEEPING, 0)
    return how !== 'timed-out'
  }

  /** Ends `wait` and `sleep`. */
  wake(): void {
    Atomics.notify(this.#words, PRODUCER)
  }

  /** Forgets what is in it. No thread may be at it. */
  clear(): void {
    this.#words.fill(0, 0, SLOTS)
  }
}
