// Which blocks every path to a block passes, and how deep in loops a block lies (Cooper, Harvey, Kennedy: A Simple, Fast
// Dominance Algorithm).
import { type Block, type Fn, noOf, reversePostorder, yesOf } from './ir.js'

/** Finds out about a function's control flow. Blocks that cannot be reached are left out. */
export function flowOf(fn: Fn): Flow {
  return new Flow(reversePostorder(fn.blocks[0]))
}

/** A function's control flow. Good as long as no edge changes, and until blocks are put in order again: it goes by their places. */
export class Flow {
  /** The blocks that can be reached, each before what it dominates. */
  readonly order: readonly Block[]
  readonly #predecessors: readonly Block[][]
  readonly #parents: number[]
  /** What a block dominates is numbered in one piece, from the block's own number on: asked often, answered at once. */
  readonly #numbers: number[] = [0]
  readonly #sizes: number[] = []
  #depths: readonly number[] | undefined

  constructor(order: readonly Block[]) {
    this.order = order
    this.#predecessors = predecessorsOf(order)
    this.#parents = this.#findParents()
    this.#numberDominated()
  }

  predecessors(block: Block): readonly Block[] {
    return this.#predecessors[block.index]
  }

  /** The closest block that every path to a block passes; undefined for the entry. */
  parent(block: Block): Block | undefined {
    return block.index === 0 ? undefined : this.order[this.#parents[block.index]]
  }

  /** In how many loops a block lies. */
  depth(block: Block): number {
    return (this.#depths ??= this.#findDepths())[block.index]
  }

  dominates(a: Block, b: Block): boolean {
    const above = this.#numbers[a.index]
    const below = this.#numbers[b.index]
    return above <= below && below < above + this.#sizes[a.index]
  }

  /** The closest block that dominates both. */
  common(a: Block, b: Block): Block {
    return this.order[meet(this.#parents, a.index, b.index)]
  }

  #findParents(): number[] {
    const parents: number[] = [0]
    for (let at = 1; at < this.order.length; at++) parents.push(-1)
    for (let changed = true; changed;) {
      changed = false
      for (let at = 1; at < parents.length; at++) {
        const from = this.#predecessors[at]
        let dominator = -1
        for (let one = 0; one < from.length; one++) {
          const index = from[one].index
          if (parents[index] < 0) continue
          dominator = dominator < 0 ? index : meet(parents, index, dominator)
        }
        if (parents[at] === dominator) continue
        parents[at] = dominator
        changed = true
      }
    }
    return parents
  }

  #numberDominated(): void {
    const parents = this.#parents
    const sizes = this.#sizes
    const numbers = this.#numbers
    const free = [1]
    for (let at = 0; at < parents.length; at++) sizes.push(1)
    for (let at = parents.length - 1; at > 0; at--) sizes[parents[at]] += sizes[at]
    for (let at = 1; at < parents.length; at++) {
      const number = free[parents[at]]
      numbers.push(number)
      free.push(number + 1)
      free[parents[at]] = number + sizes[at]
    }
  }

  // A loop is what reaches a back edge without passing its head.
  #findDepths(): number[] {
    const depths = this.order.map(() => 0)
    for (const head of this.order) {
      const tails = this.predecessors(head).filter(
        (from) => from.index >= head.index && this.dominates(head, from),
      )
      if (tails.length === 0) continue
      const body = new Set<Block>([head])
      const work = [...tails]
      for (let next = work.pop(); next; next = work.pop()) {
        if (body.has(next)) continue
        body.add(next)
        work.push(...this.predecessors(next))
      }
      for (const block of body) depths[block.index]++
    }
    return depths
  }
}

function meet(parents: readonly number[], one: number, other: number): number {
  let a = one
  let b = other
  while (a !== b) {
    while (a > b) a = parents[a]
    while (b > a) b = parents[b]
  }
  return a
}

/** Where each of the blocks is entered from, by its place among them; all that lead there must be among them, and numbered. */
export function predecessorsOf(order: readonly Block[]): Block[][] {
  const predecessors: Block[][] = []
  for (let at = 0; at < order.length; at++) predecessors.push([])
  for (let at = 0; at < order.length; at++) {
    const from = order[at]
    const end = from.end!
    const yes = yesOf(end)
    if (yes) predecessors[yes.to.index].push(from)
    const no = noOf(end)
    if (no) predecessors[no.to.index].push(from)
  }
  return predecessors
}
