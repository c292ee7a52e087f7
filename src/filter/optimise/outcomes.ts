// Which comparisons have been made on the way to an edge, and what they say about another one.
import { BPF_JEQ, BPF_JMP, BPF_K } from '../graph.js'
import type { Tree } from './dominators.js'
import { A, type Edge, type Node } from './flow.js'

const EQUALS_CONSTANT = BPF_JMP | BPF_JEQ | BPF_K

/**
 * The comparisons that say whether another one holds are found by what they compare: the same value with the same, or (`isTrue`)
 * one that is equal to some constant, with another constant. Among those made on the way the lowest number counts, as libpcap
 * looks at them in that order.
 */
export class Outcomes {
  readonly #tree: Tree
  readonly #same = new Map<string, { holds: Chain; fails: Chain }>()
  /** By the value: edges on which it is equal to a constant. */
  readonly #equal = new Map<number, Chain>()

  /** Of the edges that leave `nodes`, all that are reached and no returns, with values that do not change any more. */
  constructor(tree: Tree, nodes: readonly Node[]) {
    this.#tree = tree
    // What is above comes before what is below it.
    const edges: Edge[] = []
    for (const { yes, no } of nodes) {
      edges[tree.numberOf(yes.id) - 1] = yes
      edges[tree.numberOf(no.id) - 1] = no
    }
    for (const edge of edges) {
      const { from, id, isTrue } = edge
      const key = keyOf(from)
      let same = this.#same.get(key)
      if (!same) this.#same.set(key, (same = { holds: new Chain(), fails: new Chain() }))
      const [start, end] = [tree.numberOf(id), tree.endOf(id)]
      ;(isTrue ? same.holds : same.fails).push(start, end, id, from.operand)
      if (!isTrue || from.last.code !== EQUALS_CONSTANT) continue
      let equal = this.#equal.get(from.values[A])
      if (!equal) this.#equal.set(from.values[A], (equal = new Chain()))
      equal.push(start, end, id, from.operand)
    }
  }

  /** The numbers of the edges on the way to `edge`, itself included, which say that the node's comparison holds, and that it fails. */
  of(node: Node, edge: Edge): { holds: number; fails: number } {
    const number = this.#tree.numberOf(edge.id)
    const same = this.#same.get(keyOf(node))
    const holds = same?.holds.lowest(number) ?? NONE
    let fails = same?.fails.lowest(number) ?? NONE
    if (node.last.code === EQUALS_CONSTANT) {
      const equal = this.#equal.get(node.values[A])
      fails = Math.min(fails, equal?.lowest(number, node.operand) ?? NONE)
    }
    return { holds, fails }
  }
}

/** The number of no edge. */
export const NONE = Infinity

const keyOf = ({ last, values, operand }: Node): string => `${last.code} ${values[A]} ${operand}`

/** Edges that have something in common, by where what is below them begins and ends. */
class Chain {
  readonly #starts: number[] = []
  readonly #ends: number[] = []
  /** For each the closest that is above it; -1 for none. */
  readonly #above: number[] = []
  /** The lowest number of each and those above it, and what that one compares with. */
  readonly #lowest: number[] = []
  readonly #operands: number[] = []
  /** The lowest number of those that compare with something else. */
  readonly #others: number[] = []

  /** By rising start. */
  push(start: number, end: number, id: number, operand: number): void {
    const above = this.#enclosing(this.#starts.length - 1, start)
    const isLowest = above < 0 || id < this.#lowest[above]
    const isSame = above >= 0 && this.#operands[above] === operand
    let other = NONE
    if (above >= 0) {
      if (isLowest) other = isSame ? this.#others[above] : this.#lowest[above]
      else other = isSame ? this.#others[above] : Math.min(id, this.#others[above])
    }
    this.#starts.push(start)
    this.#ends.push(end)
    this.#above.push(above)
    this.#lowest.push(isLowest ? id : this.#lowest[above])
    this.#operands.push(isLowest ? operand : this.#operands[above])
    this.#others.push(other)
  }

  /** The lowest number of those above a place; only of those that compare with something else than `except`. */
  lowest(place: number, except?: number): number {
    let low = 0
    let high = this.#starts.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.#starts[middle] <= place) low = middle + 1
      else high = middle
    }
    const at = this.#enclosing(low - 1, place)
    if (at < 0) return NONE
    return this.#operands[at] === except ? this.#others[at] : this.#lowest[at]
  }

  /** From one that begins before a place, up to the first that the place is below. */
  #enclosing(from: number, place: number): number {
    let at = from
    while (at >= 0 && this.#ends[at] <= place) at = this.#above[at]
    return at
  }
}
