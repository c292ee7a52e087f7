// The graph as the optimiser sees it: blocks by level, who leads where, what is used and known on the way.
import {
  type Block,
  BPF_ALU,
  BPF_IND,
  BPF_JMP,
  BPF_LD,
  BPF_LDX,
  BPF_MEM,
  BPF_MISC,
  BPF_ST,
  BPF_STX,
  BPF_TAX,
  BPF_TXA,
  BPF_X,
  type Statement,
  classOf,
  modeOf,
  operationOf,
  sourceOf,
} from '../graph.js'
import { Tree } from './dominators.js'

/** The code of a statement that has been taken out. It keeps its place: rewriting looks at neighbours. */
export const GONE = -1

/** What holds a value: the 16 words of scratch memory, then the accumulator and the index register. */
export const A = 16
export const X = 17
export const ATOMS = 18
/** Both registers. */
export const A_AND_X = 18

/** No edge has led here so far. */
const UNKNOWN = -2

export const isIn = (atoms: number, atom: number): boolean => ((atoms >>> atom) & 1) === 1

/** More than any filter has that the kernel would take. */
const MOST_BLOCKS = 65536

/** A graph with more blocks than can be looked through in reasonable time. */
export class GraphTooLarge extends Error {
  constructor() {
    super(`more than ${MOST_BLOCKS} comparisons`)
  }
}

/** A way from one block to another. */
export class Edge {
  /** Counts from 0 over all edges: first those of comparisons that hold, then the others. */
  id = 0
  readonly from: Node
  readonly isTrue: boolean
  to: Node | undefined

  constructor(from: Node, isTrue: boolean) {
    this.from = from
    this.isTrue = isTrue
  }
}

/** A block with what is known of it. */
export class Node {
  readonly id: number
  statements: Statement[]
  /** The comparison or the return. */
  readonly last: Statement
  readonly yes: Edge
  readonly no: Edge
  /** How far from the returns, which are at level 0. */
  level = 0
  incoming: Edge[] = []
  /** Atoms whose values on entry are used here or further on, and on leaving further on. A bit each. */
  usedInside = 0
  usedAfter = 0
  overwritten = 0
  /** Numbers of the atoms' values on leaving; 0 is any value. */
  values: Int32Array = new Int32Array(ATOMS)
  /** The number of the value compared with. */
  operand = 0

  constructor(id: number, { statements, code, k }: Block) {
    this.id = id
    this.statements = statements.map((statement) => ({ ...statement }))
    this.last = { code, k }
    this.yes = new Edge(this, true)
    this.no = new Edge(this, false)
  }

  get isReturn(): boolean {
    return this.yes.to === undefined
  }
}

/** A graph that is being worked on. */
export class Flow {
  root: Node
  /** In the order in which they are met from the root. */
  readonly nodes: readonly Node[]
  /** The blocks that are still reached, from the root's level to that of the returns. */
  downwards: Node[] = []
  /** Those that are no returns, from the lowest level to the root's. */
  upwards: Node[] = []

  constructor(root: Block) {
    const known = new Map<Block, Node>()
    const nodes: Node[] = []
    // An own stack, as graphs are deeper than calls may nest; `ifTrue` is on top of it and comes first.
    const open: (Block | undefined)[] = [root]
    while (open.length > 0) {
      const block = open.pop()
      if (!block || known.has(block)) continue
      if (nodes.length === MOST_BLOCKS) throw new GraphTooLarge()
      const node = new Node(nodes.length, block)
      known.set(block, node)
      nodes.push(node)
      open.push(block.ifFalse, block.ifTrue)
    }
    for (const [block, node] of known) {
      node.yes.to = block.ifTrue && known.get(block.ifTrue)
      node.no.to = block.ifFalse && known.get(block.ifFalse)
    }
    this.root = nodes[0]
    this.nodes = nodes
    for (const [id, node] of nodes.entries()) {
      node.yes.id = id
      node.no.id = nodes.length + id
    }
  }

  /** Back to blocks, what was taken out left out. */
  blocks(): Block {
    const made = new Map<Node, Block>()
    this.findLevels()
    // What blocks lead to comes before them.
    for (const node of this.downwards.reverse()) {
      made.set(node, {
        statements: node.statements.filter(({ code }) => code !== GONE),
        ...node.last,
        ifTrue: node.yes.to && made.get(node.yes.to),
        ifFalse: node.no.to && made.get(node.no.to),
      })
    }
    return made.get(this.root)!
  }

  /** Puts the blocks into levels; those met last come first in theirs. */
  findLevels(): void {
    const seen = new Set<Node>()
    const levels: Node[][] = []
    const open: Node[] = [this.root]
    for (let node = open.at(-1); node; node = open.at(-1)) {
      const { yes, no } = node
      if (!seen.has(node)) {
        seen.add(node)
        node.level = -1
        if (no.to && !seen.has(no.to)) open.push(no.to)
        if (yes.to && !seen.has(yes.to)) open.push(yes.to)
        continue
      }
      open.pop()
      if (node.level >= 0) continue
      node.level = yes.to && no.to ? Math.max(yes.to.level, no.to.level) + 1 : 0
      ;(levels[node.level] ??= []).push(node)
    }
    for (const nodes of levels) nodes.reverse()
    this.upwards = levels.slice(1).flat()
    this.downwards = levels.reverse().flat()
  }

  findIncoming(): void {
    for (const node of this.nodes) node.incoming.length = 0
    for (const node of this.downwards) {
      if (node.isReturn) continue
      node.yes.to!.incoming.push(node.yes)
      node.no.to!.incoming.push(node.no)
    }
    // The edge that was found last comes first.
    for (const node of this.nodes) node.incoming.reverse()
  }

  /** Which blocks every way to a block has come through, by their ids. */
  dominators(): Tree {
    const tree = new Tree(this.nodes.length)
    const parents = new Int32Array(this.nodes.length).fill(UNKNOWN)
    parents[this.root.id] = -1
    const arrive = (from: number, { id }: Node): void => {
      parents[id] = parents[id] === UNKNOWN ? from : tree.common(parents[id], from)
    }
    for (const node of this.downwards) {
      tree.add(node.id, parents[node.id])
      if (node.isReturn) continue
      arrive(node.id, node.yes.to!)
      arrive(node.id, node.no.to!)
    }
    tree.number()
    return tree
  }

  /** Which edges every way over an edge has gone over, by their ids. */
  edgeDominators(): Tree {
    const tree = new Tree(this.nodes.length * 2)
    const parents = new Int32Array(this.nodes.length).fill(UNKNOWN)
    parents[this.root.id] = -1
    for (const node of this.downwards) {
      if (node.isReturn) continue
      for (const { id, to } of [node.yes, node.no]) {
        tree.add(id, parents[node.id])
        parents[to!.id] = parents[to!.id] === UNKNOWN ? id : tree.common(parents[to!.id], id)
      }
    }
    tree.number()
    return tree
  }

  /** Which atoms are used where. */
  findUses(): void {
    for (const node of this.downwards) findLocalUses(node)
    for (const node of this.upwards) {
      node.usedAfter = node.yes.to!.usedInside | node.no.to!.usedInside
      node.usedInside |= node.usedAfter & ~node.overwritten
    }
  }
}

/** The atom a statement reads, or `A_AND_X`. */
export function usedBy({ code, k }: Statement): number | undefined {
  if (code === GONE) return undefined
  switch (classOf(code)) {
    case BPF_LD:
    case BPF_LDX:
      return modeOf(code) === BPF_IND ? X : modeOf(code) === BPF_MEM ? k : undefined
    case BPF_ST:
      return A
    case BPF_STX:
      return X
    case BPF_JMP:
    case BPF_ALU:
      return sourceOf(code) === BPF_X ? A_AND_X : A
    case BPF_MISC:
      return operationOf(code) === BPF_TXA ? X : A
    default: // BPF_RET: only constants are returned
      return undefined
  }
}

/** The atom a statement writes, if any. */
export function writtenBy({ code, k }: Statement): number | undefined {
  if (code === GONE) return undefined
  switch (classOf(code)) {
    case BPF_LD:
    case BPF_ALU:
      return A
    case BPF_LDX:
      return X
    case BPF_ST:
    case BPF_STX:
      return k
    case BPF_MISC:
      return operationOf(code) === BPF_TAX ? X : A
    default:
      return undefined
  }
}

function findLocalUses(node: Node): void {
  let written = 0
  let used = 0
  let overwritten = 0
  for (const statement of node.statements) {
    used |= usedMask(statement) & ~written
    const atom = writtenBy(statement)
    if (atom === undefined) continue
    if (!isIn(used, atom)) overwritten |= 1 << atom
    written |= 1 << atom
  }
  if (!node.isReturn) used |= usedMask(node.last) & ~written
  node.usedInside = used
  node.overwritten = overwritten
  node.usedAfter = 0
}

function usedMask(statement: Statement): number {
  const atom = usedBy(statement)
  if (atom === undefined) return 0
  return atom === A_AND_X ? (1 << A) | (1 << X) : 1 << atom
}
