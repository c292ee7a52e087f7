// Between blocks: ways whose outcome is known are led past the comparison, blocks that do the same become one.
import { BPF_JMP, classOf } from '../graph.js'
import { ATOMS, type Edge, type Flow, GONE, type Node, isIn } from './flow.js'
import { NONE, type Outcomes } from './outcomes.js'
import type { Progress } from './progress.js'

/** Leads an edge on to where its target would go in any case. */
export function shorten(edge: Edge, outcomes: Outcomes, progress: Progress): void {
  const target = edge.to!
  if (target.isReturn) return
  const next = target.yes.to!
  if (next === target.no.to && !conflicts(edge.from, next)) {
    progress.rewrote = true
    progress.changed = true
    edge.to = next
  }
  // Every comparison that has been made on the way here, the earliest numbered first; again after each step.
  for (let node = edge.to!; !node.isReturn; node = edge.to!) {
    const { holds, fails } = outcomes.of(node, edge)
    if (holds === NONE && fails === NONE) return
    const yes = holds === NONE || conflicts(edge.from, node.yes.to!) ? NONE : holds
    const no = fails === NONE || conflicts(edge.from, node.no.to!) ? NONE : fails
    if (yes === NONE && no === NONE) return
    progress.changed = true
    edge.to = yes < no ? node.yes.to! : node.no.to!
  }
}

/** Whether going from `before` to behind `after` would miss a value that is used then. */
function conflicts(before: Node, after: Node): boolean {
  if (after.usedAfter === 0) return false
  for (let atom = 0; atom < ATOMS; atom++) {
    if (isIn(after.usedAfter, atom) && before.values[atom] !== after.values[atom]) return true
  }
  return false
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
