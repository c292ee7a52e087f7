// Makes a filter's graph shorter, step by step as libpcap does, so that also a packet too short for a load meets the same loads.
//
// Which loads remain decides about short packets: a load beyond their end rejects them. So the passes, their order and their
// limits are those of libpcap 1.10 (optimize.c, "BPF+" of Begel, McCanne and Graham): any other optimiser would be as right on
// whole packets, and would differ on cut ones.
import { BPF_RET, type Block } from '../graph.js'
import { mergeEqual, shorten, skipIdleRoot } from './branches.js'
import { Chains } from './chains.js'
import { Flow } from './flow.js'
import { Outcomes } from './outcomes.js'
import type { Progress } from './progress.js'
import { StatementPass } from './statements.js'
import { Values } from './values.js'

export { GraphTooLarge } from './flow.js'
export { ConstantFault } from './values.js'

/** So many passes in a row that only lead ways elsewhere are taken for going in a circle. */
const MOST_IDLE_PASSES = 100

/** The graph in its short form; the one given stays as it is. Throws `ConstantFault` for constants that cannot be computed with,
 * `GraphTooLarge` for more blocks than it takes on. */
export function optimise(root: Block): Block {
  const flow = new Flow(root)
  repeat(flow, false)
  repeat(flow, true)
  mergeEqual(flow)
  skipIdleRoot(flow)
  return flow.blocks()
}

/** Whether an optimised graph takes no packet at all. */
export const takesNothing = ({ code, k }: Block): boolean => code === BPF_RET && k === 0

/** First ways are shortened and pulled up, then (`isLate`) statements taken out, each until nothing changes. */
function repeat(flow: Flow, isLate: boolean): void {
  let idle = 0
  while (idle < MOST_IDLE_PASSES) {
    const progress: Progress = { changed: false, rewrote: false }
    pass(flow, isLate, progress)
    if (!progress.changed) return
    idle = progress.rewrote ? 0 : idle + 1
  }
}

function pass(flow: Flow, isLate: boolean, progress: Progress): void {
  flow.findLevels()
  flow.findUses()
  flow.findIncoming()
  const statements = new StatementPass(new Values(), isLate, progress)
  if (isLate) {
    for (const node of flow.downwards) statements.run(node)
    return
  }
  // Of the graph as it is now: rewriting statements may lead ways elsewhere.
  const dominators = flow.dominators()
  const edgeDominators = flow.edgeDominators()
  for (const node of flow.downwards) statements.run(node)
  const outcomes = new Outcomes(edgeDominators, flow.upwards)
  for (const node of flow.upwards) {
    shorten(node.yes, outcomes, progress)
    shorten(node.no, outcomes, progress)
  }
  flow.findIncoming()
  const chains = new Chains(flow, dominators, progress)
  for (const node of flow.upwards) {
    chains.pullUp(node, 'yes')
    chains.pullUp(node, 'no')
  }
}
