// What every way to a place has come through, as a tree: questions about it are answered without going along the ways.

/** A tree that grows from its top. Members are numbers, each added once and after what is above it. */
export class Tree {
  // Shifted by one: 0 is above everything that has nothing else above it.
  readonly #parents: Int32Array
  readonly #depths: Int32Array
  /** Some member further up, so that the way up is as short as a logarithm (Myers: An applicative random-access stack). */
  readonly #jumps: Int32Array
  readonly #order: number[] = []
  /** What is below a member is numbered in one piece, from the member's own number on. */
  readonly #numbers: Int32Array
  readonly #sizes: Int32Array

  /** For members from 0 to `size` - 1. */
  constructor(size: number) {
    this.#parents = new Int32Array(size + 1)
    this.#depths = new Int32Array(size + 1)
    this.#jumps = new Int32Array(size + 1)
    this.#numbers = new Int32Array(size + 1)
    this.#sizes = new Int32Array(size + 1)
  }

  /** Adds a member below another; below none for -1. */
  add(member: number, parent: number): void {
    const at = member + 1
    const above = parent + 1
    const jump = this.#jumps[above]
    const isFar =
      this.#depths[above] - this.#depths[jump] === this.#depths[jump] - this.#depths[this.#jumps[jump]]
    this.#parents[at] = above
    this.#depths[at] = this.#depths[above] + 1
    this.#jumps[at] = isFar ? this.#jumps[jump] : above
    this.#order.push(at)
  }

  /** The lowest that is above both or one of them; -1 for none. */
  common(one: number, other: number): number {
    let a = one + 1
    let b = other + 1
    if (this.#depths[a] < this.#depths[b]) [a, b] = [b, a]
    while (this.#depths[a] > this.#depths[b]) {
      a = this.#depths[this.#jumps[a]] >= this.#depths[b] ? this.#jumps[a] : this.#parents[a]
    }
    while (a !== b) {
      const isBelow = this.#jumps[a] !== this.#jumps[b]
      a = isBelow ? this.#jumps[a] : this.#parents[a]
      b = isBelow ? this.#jumps[b] : this.#parents[b]
    }
    return a - 1
  }

  /** Numbers the members; what follows can be asked then, and nothing be added any more. */
  number(): void {
    const sizes = this.#sizes.fill(1)
    for (let at = this.#order.length - 1; at >= 0; at--) {
      const member = this.#order[at]
      sizes[this.#parents[member]] += sizes[member]
    }
    const free = new Int32Array(sizes.length)
    free[0] = 1
    for (const member of this.#order) {
      const number = free[this.#parents[member]]
      free[this.#parents[member]] = number + sizes[member]
      free[member] = number + 1
      this.#numbers[member] = number
    }
  }

  /** A member's number: higher than that of what is above it, lower than those of what is below it. */
  numberOf(member: number): number {
    return this.#numbers[member + 1]
  }

  /** The number behind the last one of what is below a member. */
  endOf(member: number): number {
    return this.#numbers[member + 1] + this.#sizes[member + 1]
  }

  /** Whether `above` is the other one or above it. */
  contains(above: number, member: number): boolean {
    const number = this.#numbers[member + 1]
    return this.#numbers[above + 1] <= number && number < this.endOf(above)
  }
}
