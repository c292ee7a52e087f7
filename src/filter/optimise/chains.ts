// Chains of comparisons that all leave to one place by the same way: comparisons of one value are brought together there.
import type { Tree } from './dominators.js'
import { A, type Edge, type Flow, type Node } from './flow.js'
import type { Progress } from './progress.js'

/** `yes` for alternatives, `no` for conditions. */
type Way = 'yes' | 'no'

/**
 * Where blocks lead and what they compare, by their ids. Long lists of alternatives are gone along again and again: as numbers that
 * takes a small part of the time that it takes as blocks.
 */
export class Chains {
  readonly #nodes: readonly Node[]
  readonly #dominators: Tree
  readonly #progress: Progress
  /** -1 behind a return. */
  readonly #targets: Readonly<Record<Way, Int32Array>>
  readonly #values: Int32Array

  /** `dominators` are those that there were before anything was led elsewhere, as libpcap has them. */
  constructor({ nodes }: Flow, dominators: Tree, progress: Progress) {
    this.#nodes = nodes
    this.#dominators = dominators
    this.#progress = progress
    this.#targets = { yes: new Int32Array(nodes.length), no: new Int32Array(nodes.length) }
    this.#values = new Int32Array(nodes.length)
    for (const { id, yes, no, values } of nodes) {
      this.#targets.yes[id] = yes.to?.id ?? -1
      this.#targets.no[id] = no.to?.id ?? -1
      this.#values[id] = values[A]
    }
  }

  /**
   * In a chain of comparisons that all leave by the way `out` to one place, brings one that looks at the same value as those before
   * the chain up to them, past others between.
   */
  pullUp(node: Node, out: Way): void {
    const along: Way = out === 'yes' ? 'no' : 'yes'
    if (node.incoming.length === 0) return
    const value = node.incoming[0].from.values[A]
    for (const { from } of node.incoming) if (from.values[A] !== value) return
    const next = this.#targets[along]
    const values = this.#values
    // The comparison behind which the one pulled up will stand, itself looking at the value; -1: those before the chain do.
    let above = -1
    let different = node.id
    for (;;) {
      if (!this.#belongs(different, node, out)) return
      if (values[different] !== value) break
      above = different
      different = next[different]
    }
    let before = different
    let pulled = next[before]
    for (;;) {
      if (!this.#belongs(pulled, node, out)) return
      if (values[pulled] === value) break
      before = pulled
      pulled = next[pulled]
    }
    this.#lead(this.#nodes[before][along], next[pulled])
    this.#lead(this.#nodes[pulled][along], different)
    if (above >= 0) this.#lead(this.#nodes[above][along], pulled)
    else {
      for (const { from } of node.incoming) this.#lead(from.yes.to === node ? from.yes : from.no, pulled)
    }
    this.#progress.changed = true
  }

  /** Whether a block leaves to where the chain's others do, and is only reached through its first. */
  #belongs(id: number, first: Node, out: Way): boolean {
    const outside = this.#targets[out]
    return id >= 0 && outside[id] === outside[first.id] && this.#dominators.contains(first.id, id)
  }

  #lead(edge: Edge, to: number): void {
    edge.to = to < 0 ? undefined : this.#nodes[to]
    this.#targets[edge.isTrue ? 'yes' : 'no'][edge.from.id] = to
  }
}
