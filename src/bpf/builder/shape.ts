// The shape of a function: unused code goes, straight lines become one block, detours and equal endings become one.
import { flowOf, predecessorsOf } from './dominators.js'
import type { Block, Edge, Fn, Inst, Operand } from './ir.js'
import { edgesOf, isPure, mapOperands, mapTerminator, operandsOf, reversePostorder, testedOf } from './ir.js'

/** Removes what no result depends on, and blocks that cannot be reached. */
export function removeDead(fn: Fn): void {
  fn.blocks = reversePostorder(fn.blocks[0])
  const definitions = new Map<number, Inst>()
  const parameters = new Map<number, { block: Block; index: number }>()
  const incoming = new Map<Block, Edge[]>(fn.blocks.map((block) => [block, []]))
  for (const block of fn.blocks) {
    block.params.forEach((param, index) => parameters.set(param, { block, index }))
    for (const inst of block.insts)
      if ('dst' in inst && inst.dst !== undefined) definitions.set(inst.dst, inst)
    for (const edge of edgesOf(block.end)) incoming.get(edge.to)!.push(edge)
  }
  const live = new Set<number>()
  const work: number[] = []
  const mark = (operand: Operand): void => {
    if (typeof operand === 'bigint' || live.has(operand)) return
    live.add(operand)
    work.push(operand)
  }
  for (const block of fn.blocks) {
    for (const inst of block.insts) if (!isPure(inst)) operandsOf(inst).forEach(mark)
    testedOf(block.end!).forEach(mark)
  }
  for (let value = work.pop(); value !== undefined; value = work.pop()) {
    const inst = definitions.get(value)
    if (inst) operandsOf(inst).forEach(mark)
    const param = parameters.get(value)
    if (param) for (const { args } of incoming.get(param.block)!) mark(args[param.index])
  }
  for (const block of fn.blocks) {
    block.insts = block.insts
      .filter((inst) => !isPure(inst) || live.has((inst as { dst: number }).dst))
      // A result that nobody wants needs no register.
      .map((inst) =>
        'dst' in inst && inst.dst !== undefined && !live.has(inst.dst) ? withoutResult(inst) : inst,
      )
    for (const edge of edgesOf(block.end)) {
      edge.args = edge.args.filter((_, index) => live.has(edge.to.params[index]))
    }
  }
  for (const block of fn.blocks) block.params = block.params.filter((param) => live.has(param))
}

function withoutResult(inst: Inst): Inst {
  if (inst.op === 'call' || inst.op === 'invoke') return { ...inst, dst: undefined }
  if (inst.op === 'atomic' && inst.kind === 'fetch-add') return { ...inst, dst: undefined, kind: 'add' }
  return inst
}

/** Straightens the control flow; true when anything changed. */
export function straighten(fn: Fn): boolean {
  let changed = false
  for (let again = true; again;) {
    again = skipEmpty(fn) || mergeLines(fn) || mergeEqual(fn)
    changed ||= again
  }
  return changed
}

/** Edges to blocks that do nothing but jump go where those jump. */
function skipEmpty(fn: Fn): boolean {
  let changed = false
  const beyond = (edge: Edge): Edge => {
    let { to, args } = edge
    for (let steps = 0; steps < 1000; steps++) {
      const { end } = to
      if (to.insts.length > 0 || to.params.length > 0 || end?.op !== 'jump' || end.yes.to === to) break
      ;({ to, args } = end.yes)
    }
    if (to === edge.to) return edge
    changed = true
    return { to, args }
  }
  for (const block of fn.blocks) {
    const end = block.end!
    if (end.op === 'jump') block.end = { ...end, yes: beyond(end.yes) }
    if (end.op !== 'branch' && end.op !== 'bounds') continue
    const [yes, no] = [beyond(end.yes), beyond(end.no)]
    const same = yes.to === no.to && yes.args.every((arg, index) => arg === no.args[index])
    block.end = same ? { op: 'jump', at: end.at, yes } : { ...end, yes, no }
    changed ||= same
  }
  if (changed) fn.blocks = reversePostorder(fn.blocks[0])
  return changed
}

/** A block that only one other leads to, by a jump, becomes its end. */
function mergeLines(fn: Fn): boolean {
  const order = reversePostorder(fn.blocks[0])
  const predecessors = predecessorsOf(order)
  const renamed = new Map<number, Operand>()
  const gone = new Set<Block>()
  for (const block of order) {
    if (gone.has(block)) continue
    for (;;) {
      const end = block.end!
      if (end.op !== 'jump') break
      const { to, args } = end.yes
      if (to === block || to === order[0] || predecessors.get(to)!.length !== 1) break
      to.params.forEach((param, index) => renamed.set(param, args[index]))
      block.insts.push(...to.insts)
      block.end = to.end
      gone.add(to)
    }
  }
  if (gone.size === 0) return false
  const now = (operand: Operand): Operand => {
    let current = operand
    while (typeof current === 'number' && renamed.has(current)) current = renamed.get(current)!
    return current
  }
  fn.blocks = order.filter((block) => !gone.has(block))
  for (const block of fn.blocks) {
    block.insts = block.insts.map((inst) => mapOperands(inst, now))
    block.end = mapTerminator(block.end!, now)
  }
  return true
}

/** Blocks that do the same and go to the same places become one. */
function mergeEqual(fn: Fn): boolean {
  const first = new Map<string, Block>()
  const twin = new Map<Block, Block>()
  const rough = ({ insts, end }: Block): string =>
    `${insts.length} ${end!.op} ${edgesOf(end)
      .map(({ to }) => to.id)
      .join()}`
  const alike = new Map<string, Block[]>()
  for (const block of fn.blocks.slice(1)) {
    if (block.params.length > 0) continue
    const key = rough(block)
    const group = alike.get(key)
    if (group) group.push(block)
    else alike.set(key, [block])
  }
  // Blocks that cannot be equal need not be spelt out.
  const candidates = new Set([...alike.values()].filter((group) => group.length > 1).flat())
  if (candidates.size === 0) return false
  const outside = usedOutside(fn)
  for (const block of fn.blocks) {
    if (!candidates.has(block) || outside.has(block)) continue
    const key = contents(block)
    const other = first.get(key)
    if (other) twin.set(block, other)
    else first.set(key, block)
  }
  if (twin.size === 0) return false
  // Two ways lead there now, with different pasts.
  for (const kept of twin.values()) kept.versions = { context: -1, packet: -1, stack: -1, map: -1 }
  for (const block of fn.blocks) {
    for (const edge of edgesOf(block.end)) edge.to = twin.get(edge.to) ?? edge.to
  }
  fn.blocks = reversePostorder(fn.blocks[0])
  return true
}

function usedOutside(fn: Fn): Set<Block> {
  const home = new Map<number, Block>()
  for (const block of fn.blocks) {
    for (const inst of block.insts) if ('dst' in inst && inst.dst !== undefined) home.set(inst.dst, block)
  }
  const result = new Set<Block>()
  for (const block of fn.blocks) {
    const use = (operand: Operand): void => {
      const made = typeof operand === 'number' ? home.get(operand) : undefined
      if (made && made !== block) result.add(made)
    }
    for (const inst of block.insts) operandsOf(inst).forEach(use)
    testedOf(block.end!).forEach(use)
    edgesOf(block.end).forEach((edge) => edge.args.forEach(use))
  }
  return result
}

/** What a block does, in words in which its own values have numbers of their own. */
function contents(block: Block): string {
  const local = new Map<number, string>()
  const name = (operand: Operand): string =>
    typeof operand === 'bigint' ? `#${operand}` : (local.get(operand) ?? `${operand}`)
  const words = block.insts.map((inst) => {
    const plain: Record<string, unknown> = {
      ...inst,
      at: 0,
      version: 0,
      operands: operandsOf(inst).map(name),
    }
    for (const key of ['a', 'b', 'base', 'value', 'args', 'dst']) delete plain[key]
    if ('map' in plain && typeof plain['map'] !== 'string') plain['map'] = (plain['map'] as { fd: number }).fd
    if ('dst' in inst && inst.dst !== undefined) local.set(inst.dst, `L${local.size}`)
    return JSON.stringify(plain)
  })
  const end = block.end!
  const plain: Record<string, unknown> = { ...end, at: 0, tested: testedOf(end).map(name) }
  for (const key of ['a', 'b', 'base', 'value', 'end', 'yes', 'no']) delete plain[key]
  const edges = edgesOf(end).map(({ to, args }) => `${to.id}(${args.map(name).join()})`)
  return [...words, JSON.stringify(plain), ...edges].join('\n')
}

/** Blocks that end by returning the same constant share the end. */
export function shareReturns(fn: Fn): void {
  const ends = new Map<bigint, Block[]>()
  for (const block of fn.blocks) {
    if (block.end?.op !== 'return' || typeof block.end.value !== 'bigint') continue
    ends.set(block.end.value, [...(ends.get(block.end.value) ?? []), block])
  }
  for (const blocks of ends.values()) {
    if (blocks.length < 2) continue
    let shared = blocks.find((block) => block.insts.length === 0 && block.params.length === 0)
    if (!shared) {
      shared = { ...blocks[0], id: Math.max(...fn.blocks.map(({ id }) => id)) + 1, params: [], insts: [] }
      fn.blocks.push(shared)
    }
    for (const block of blocks) {
      if (block !== shared) block.end = { op: 'jump', at: block.end!.at, yes: { to: shared, args: [] } }
    }
  }
}

/** A check for some bytes that is directly followed by one for more, from the same place and failing alike, checks for all at once. */
export function mergeBounds(fn: Fn): boolean {
  const predecessors = predecessorsOf(reversePostorder(fn.blocks[0]))
  let changed = false
  for (const block of fn.blocks) {
    for (;;) {
      const { end } = block
      if (end?.op !== 'bounds') break
      const next = end.yes.to
      const more = next.end
      if (predecessors.get(next)!.length !== 1 || more?.op !== 'bounds' || !next.insts.every(isPure)) break
      if (more.base !== end.base || more.end !== end.end || more.no.to !== end.no.to || more.size <= end.size)
        break
      if (more.no.args.length > 0) break
      // The second stays for the next round of simplification to remove.
      block.end = { ...end, size: more.size }
      changed = true
    }
  }
  return changed
}

/** Moves what is computed early but needed late, or not on every path, to where it is needed. */
export function sink(fn: Fn): void {
  const flow = flowOf(fn)
  const users = new Map<number, Block[]>()
  const note = (operand: Operand, block: Block): void => {
    if (typeof operand !== 'number') return
    const list = users.get(operand)
    if (list) list.push(block)
    else users.set(operand, [block])
  }
  for (const block of fn.blocks) {
    for (const inst of block.insts) for (const operand of operandsOf(inst)) note(operand, block)
    for (const operand of testedOf(block.end!)) note(operand, block)
    for (const { args } of edgesOf(block.end)) for (const operand of args) note(operand, block)
  }
  // Users before what they use, so that a chain sinks together.
  for (const block of [...flow.order].reverse()) {
    for (let index = block.insts.length - 1; index >= 0; index--) {
      const inst = block.insts[index]
      const wanted = isPure(inst) && inst.op !== 'call' ? users.get((inst as { dst: number }).dst) : undefined
      if (!wanted) continue
      const target = wanted.reduce((a, b) => flow.common(a, b))
      if (target === block || flow.depth.get(target)! > flow.depth.get(block)!) continue
      if (inst.op === 'load' && target.versions[inst.space] !== inst.version) continue
      block.insts.splice(index, 1)
      target.insts.unshift(inst)
      for (const operand of operandsOf(inst)) {
        if (typeof operand !== 'number') continue
        const list = users.get(operand)!
        list[list.indexOf(block)] = target
      }
    }
  }
}
