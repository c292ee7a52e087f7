// What pauses a source: shut, and opened again.

/** Open at first. */
export class Gate {
  #isShut = false
  #waiting: (() => void)[] = []

  get isShut(): boolean {
    return this.#isShut
  }

  shut(): void {
    this.#isShut = true
  }

  open(): void {
    this.#isShut = false
    for (const go of this.#waiting.splice(0)) go()
  }

  /** Resolves when it is open: at once if it is. */
  async opened(): Promise<void> {
    while (this.#isShut) await new Promise<void>((go) => this.#waiting.push(go))
  }
}
