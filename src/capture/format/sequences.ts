// The first sequence numbers of connections, so that later ones can be shown relative to them.

/** Words of a key: the IP version, both ports, both addresses. */
export const KEY = 10
export const KEY_VERSION = 0
export const KEY_PORTS = 1
export const KEY_FIRST = 2
export const KEY_SECOND = 6
const NONE = -1

/**
 * Remembers a bounded number of connections: the one that was used least lately goes. In arrays of numbers, for maps of strings
 * are garbage that every packet makes and that is found alive.
 */
export class SequenceTable {
  /** The connection that `find` and `add` are about: to be filled before. */
  readonly key = new Uint32Array(KEY)
  /** The numbers of the entries. */
  readonly sequences: Uint32Array
  readonly acknowledgments: Uint32Array
  readonly #limit: number
  #count = 0
  readonly #keys: Uint32Array
  /** The first entry of each hash, and the next one of the same. */
  readonly #heads: Int32Array
  readonly #nexts: Int32Array
  /** The entries by their last use. */
  readonly #older: Int32Array
  readonly #newer: Int32Array
  #newest = NONE
  #oldest = NONE

  constructor(limit = 4096) {
    this.#limit = limit
    this.sequences = new Uint32Array(limit)
    this.acknowledgments = new Uint32Array(limit)
    this.#keys = new Uint32Array(limit * KEY)
    this.#heads = new Int32Array(2 ** Math.ceil(Math.log2(2 * limit))).fill(NONE)
    this.#nexts = new Int32Array(limit)
    this.#older = new Int32Array(limit)
    this.#newer = new Int32Array(limit)
  }

  /** The entry of `key`, which is the one used last from now on; -1 when there is none. */
  find(): number {
    let entry = this.#heads[this.#hash(this.key, 0)]
    while (entry !== NONE && !this.#isOf(entry)) entry = this.#nexts[entry]
    if (entry === NONE || entry === this.#newest) return entry
    this.#unlink(entry)
    this.#link(entry)
    return entry
  }

  /** An entry for `key`, which has none. */
  add(): number {
    const entry = this.#count < this.#limit ? this.#count++ : this.#forget()
    this.#keys.set(this.key, entry * KEY)
    const hash = this.#hash(this.key, 0)
    this.#nexts[entry] = this.#heads[hash]
    this.#heads[hash] = entry
    this.#link(entry)
    return entry
  }

  /** Lets the entry go that was used least lately. */
  #forget(): number {
    const entry = this.#oldest
    this.#unlink(entry)
    const hash = this.#hash(this.#keys, entry * KEY)
    let before = this.#heads[hash]
    if (before === entry) {
      this.#heads[hash] = this.#nexts[entry]
      return entry
    }
    while (this.#nexts[before] !== entry) before = this.#nexts[before]
    this.#nexts[before] = this.#nexts[entry]
    return entry
  }

  #isOf(entry: number): boolean {
    const at = entry * KEY
    for (let i = 0; i < KEY; i++) if (this.#keys[at + i] !== this.key[i]) return false
    return true
  }

  #hash(words: Uint32Array, at: number): number {
    let hash = 0
    for (let i = 0; i < KEY; i++) hash = Math.imul(hash ^ words[at + i], 0x9e3779b1) ^ (hash >>> 15)
    return ((hash ^ (hash >>> 16)) >>> 0) & (this.#heads.length - 1)
  }

  #link(entry: number): void {
    this.#older[entry] = this.#newest
    this.#newer[entry] = NONE
    if (this.#newest === NONE) this.#oldest = entry
    else this.#newer[this.#newest] = entry
    this.#newest = entry
  }

  #unlink(entry: number): void {
    const older = this.#older[entry]
    const newer = this.#newer[entry]
    if (older === NONE) this.#oldest = newer
    else this.#newer[older] = newer
    if (newer === NONE) this.#newest = older
    else this.#older[newer] = older
  }
}
