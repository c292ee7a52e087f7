// The first sequence numbers of connections, so that later ones can be shown relative to them.

interface Start {
  sequence: number
  acknowledgment: number
}

/** Remembers a bounded number of connections: the one that was used least lately goes. */
export class SequenceTable {
  readonly #starts = new Map<string, Start>()
  readonly #limit: number

  constructor(limit = 4096) {
    this.#limit = limit
  }

  /** The connection's start; made of `first` when there is none, or the connection begins anew. */
  find(key: string, isNew: boolean, first: () => Start): { start: Start; isFirst: boolean } {
    const known = this.#starts.get(key)
    // Moved to the end of the map: its order is that of use.
    this.#starts.delete(key)
    const isFirst = !known || isNew
    const start = isFirst ? first() : known
    this.#starts.set(key, start)
    if (this.#starts.size > this.#limit) {
      for (const oldest of this.#starts.keys()) {
        this.#starts.delete(oldest)
        break
      }
    }
    return { start, isFirst }
  }
}
