// Between blocks: ways whose outcome is known are led past the comparison, comparisons of one value are brought together.
import { BPF_JEQ, BPF_JMP, BPF_K, classOf } from '../graph.js'
import { A, ATOMS, type Edge, type Flow, GONE, type Node, contains, isIn } from './flow.js'
import type { Progress } from './progress.js'

/** Leads an edge on to where its target would go in any case. */
export function shorten(edge: Edge, { edges }: Flow, progress: Progress): void {
  const target = edge.to!
  if (target.isReturn) return
  const next = target.yes.to!
  if (next === target.no.to && !conflicts(edge.from, next)) {
    progress.rewrote = true
    progress.changed = true
    edge.to = next
  }
  // Every comparison that has been made on the way here, the earliest numbered first; again from the start after each step.
  for (let word = 0; word < edge.dominators.length; word++) {
    for (let bits = edge.dominators[word]; bits !== 0;) {
      const bit = 31 - Math.clz32(bits & -bits)
      bits &= ~(1 << bit)
      const onwards = outcome(edge.to!, edges[word * 32 + bit])
      if (!onwards || conflicts(edge.from, onwards)) continue
      progress.changed = true
      edge.to = onwards
      if (onwards.isReturn) return
      word = -1
      break
    }
  }
}

/** Where a block's comparison leads when `edge` has been taken before, if that is known. */
function outcome(node: Node, edge: Edge): Node | undefined {
  if (node.last.code !== edge.code || node.values[A] !== edge.from.values[A]) return undefined
  if (node.operand === edge.from.operand) return edge.isTrue ? node.yes.to : node.no.to
  // It is equal to one constant, so not to another.
  return edge.isTrue && edge.code === (BPF_JMP | BPF_JEQ | BPF_K) ? node.no.to : undefined
}

/** Whether going from `before` to behind `after` would miss a value that is used then. */
function conflicts(before: Node, after: Node): boolean {
  if (after.usedAfter === 0) return false
  for (let atom = 0; atom < ATOMS; atom++) {
    if (isIn(after.usedAfter, atom) && before.values[atom] !== after.values[atom]) return true
  }
  return false
}

type Way = 'yes' | 'no'

/**
 * In a chain of comparisons that all leave by the way `out` to one place, brings one that looks at the same value as those before
 * the chain up to them, past others between. `out` is `yes` for alternatives, `no` for conditions.
 */
export function pullUp(node: Node, out: Way, progress: Progress): void {
  const along: Way = out === 'yes' ? 'no' : 'yes'
  if (node.incoming.length === 0) return
  const value = node.incoming[0].from.values[A]
  if (node.incoming.some(({ from }) => from.values[A] !== value)) return
  const [first] = node.incoming
  const belongs = (place: Edge): boolean =>
    place.to !== undefined && place.to[out].to === node[out].to && contains(place.to.dominators, node.id)

  let different = first.from.yes.to === node ? first.from.yes : first.from.no
  let isAtTop = true
  for (;;) {
    if (!belongs(different)) return
    if (different.to!.values[A] !== value) break
    different = different.to![along]
    isAtTop = false
  }
  let same = different.to![along]
  for (;;) {
    if (!belongs(same)) return
    if (same.to!.values[A] === value) break
    same = same.to![along]
  }
  const pulled = same.to!
  same.to = pulled[along].to
  pulled[along].to = different.to
  if (isAtTop) {
    for (const { from } of node.incoming) {
      if (from.yes.to === node) from.yes.to = pulled
      else from.no.to = pulled
    }
  } else different.to = pulled
  progress.changed = true
}

/** Makes one block of those that do the same and lead to the same places. */
export function mergeEqual(flow: Flow): void {
  const known = new Map<string, Node>()
  const twins = new Map<Node, Node>()
  flow.findLevels()
  // From the returns up: where two blocks lead is merged before they are looked at.
  for (const node of flow.downwards.reverse()) {
    for (const edge of [node.yes, node.no]) edge.to &&= twins.get(edge.to) ?? edge.to
    const statements = node.statements.filter(({ code }) => code !== GONE)
    const text = [...statements, node.last].map(({ code, k }) => `${code}:${k}`).join()
    const key = node.isReturn ? text : `${text} ${node.yes.to!.id} ${node.no.to!.id}`
    const equal = known.get(key)
    if (equal) twins.set(node, equal)
    else known.set(key, node)
  }
}

/** A root that compares for nothing is skipped; what it loads is kept, as the packet may be too short for it. */
export function skipIdleRoot(flow: Flow): void {
  const { statements } = flow.root
  flow.root.statements = []
  while (classOf(flow.root.last.code) === BPF_JMP && flow.root.yes.to === flow.root.no.to)
    flow.root = flow.root.yes.to!
  flow.root.statements = flow.root.isReturn ? [] : [...statements, ...flow.root.statements]
}
