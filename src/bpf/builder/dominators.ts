// Which blocks every path to a block passes, and how deep in loops a block lies (Cooper, Harvey, Kennedy: A Simple, Fast
// Dominance Algorithm).
import { type Block, type Fn, edgesOf, reversePostorder } from './ir.js'

export interface Flow {
  /** The blocks that can be reached, each before what it dominates. */
  readonly order: readonly Block[]
  readonly predecessors: ReadonlyMap<Block, readonly Block[]>
  /** The closest block that every path to a block passes; undefined for the entry. */
  readonly parent: ReadonlyMap<Block, Block>
  /** In how many loops a block lies. */
  readonly depth: ReadonlyMap<Block, number>
  dominates(a: Block, b: Block): boolean
  /** The closest block that dominates both. */
  common(a: Block, b: Block): Block
}

/** Finds out about a function's control flow. Blocks that cannot be reached are left out. */
export function flowOf(fn: Fn): Flow {
  const order = reversePostorder(fn.blocks[0])
  const position = new Map(order.map((block, index) => [block, index]))
  const predecessors = predecessorsOf(order)
  const parents: number[] = [0]
  const meet = (a: number, b: number): number => {
    while (a !== b) {
      while (a > b) a = parents[a]
      while (b > a) b = parents[b]
    }
    return a
  }
  for (let changed = true; changed;) {
    changed = false
    for (let at = 1; at < order.length; at++) {
      let dominator: number | undefined
      for (const from of predecessors.get(order[at])!) {
        const index = position.get(from)!
        if (parents[index] === undefined) continue
        dominator = dominator === undefined ? index : meet(index, dominator)
      }
      if (parents[at] === dominator) continue
      parents[at] = dominator!
      changed = true
    }
  }
  const common = (a: Block, b: Block): Block => order[meet(position.get(a)!, position.get(b)!)]
  const dominates = dominance(parents, position)
  let depth: ReadonlyMap<Block, number> | undefined
  return {
    order,
    predecessors,
    parent: new Map(order.slice(1).map((block, index) => [block, order[parents[index + 1]]])),
    get depth() {
      return (depth ??= depths(order, predecessors, dominates))
    },
    dominates,
    common,
  }
}

/** Where each of the blocks is entered from; all that lead there must be among them. */
export function predecessorsOf(order: readonly Block[]): Map<Block, Block[]> {
  const predecessors = new Map<Block, Block[]>(order.map((block) => [block, []]))
  for (const from of order) for (const { to } of edgesOf(from.end)) predecessors.get(to)!.push(from)
  return predecessors
}

// What a block dominates is numbered in one piece, from the block's own number on: asked often, answered at once.
function dominance(
  parents: readonly number[],
  position: ReadonlyMap<Block, number>,
): (a: Block, b: Block) => boolean {
  const sizes = parents.map(() => 1)
  for (let at = parents.length - 1; at > 0; at--) sizes[parents[at]] += sizes[at]
  const numbers = [0]
  const free = [1]
  for (let at = 1; at < parents.length; at++) {
    numbers[at] = free[parents[at]]
    free[parents[at]] += sizes[at]
    free[at] = numbers[at] + 1
  }
  return (a, b) => {
    const [above, below] = [position.get(a)!, position.get(b)!]
    return numbers[above] <= numbers[below] && numbers[below] < numbers[above] + sizes[above]
  }
}

// A loop is what reaches a back edge without passing its head.
function depths(
  order: readonly Block[],
  predecessors: ReadonlyMap<Block, readonly Block[]>,
  dominates: (a: Block, b: Block) => boolean,
): Map<Block, number> {
  const depth = new Map(order.map((block) => [block, 0]))
  for (const head of order) {
    const tails = predecessors.get(head)!.filter((from) => dominates(head, from))
    if (tails.length === 0) continue
    const body = new Set<Block>([head])
    const work = [...tails]
    for (let next = work.pop(); next; next = work.pop()) {
      if (body.has(next)) continue
      body.add(next)
      work.push(...predecessors.get(next)!)
    }
    for (const block of body) depth.set(block, depth.get(block)! + 1)
  }
  return depth
}
