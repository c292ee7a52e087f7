// The shape of a function: unused code goes, straight lines become one block, detours and equal endings become one.
import { type Flow, flowOf, predecessorsOf } from './dominators.js'
import type { Block, Edge, Fn, Inst, Operand } from './ir.js'
import {
  eachOperand,
  eachTerminal,
  eachTested,
  edgesOf,
  isPure,
  mapOperands,
  mapTerminator,
  noOf,
  number,
  operandsOf,
  resultOf,
  reversePostorder,
  testedOf,
  yesOf,
} from './ir.js'

/** Removes what no result depends on, and blocks that cannot be reached; true when there was any of that. */
export function removeDead(fn: Fn): boolean {
  const blocks = reversePostorder(fn.blocks[0])
  let changed = blocks.length !== fn.blocks.length
  fn.blocks = blocks
  const definitions: (Inst | undefined)[] = []
  const homes: (Block | undefined)[] = []
  for (let value = 0; value < fn.nextValue; value++) {
    definitions.push(undefined)
    homes.push(undefined)
  }
  let hasParams = false
  for (let at = 0; at < blocks.length; at++) {
    const { insts, params } = blocks[at]
    for (let index = 0; index < params.length; index++) homes[params[index]] = blocks[at]
    hasParams ||= params.length > 0
    for (let index = 0; index < insts.length; index++) {
      const result = resultOf(insts[index])
      if (result !== undefined) definitions[result] = insts[index]
    }
  }
  const incoming = hasParams ? predecessorsOf(blocks) : []
  const live = new Uint8Array(fn.nextValue)
  const work: number[] = []
  const mark = (operand: Operand): void => {
    if (typeof operand === 'bigint' || live[operand] === 1) return
    live[operand] = 1
    work.push(operand)
  }
  for (let at = 0; at < blocks.length; at++) {
    const { insts, end } = blocks[at]
    for (let index = 0; index < insts.length; index++) {
      if (!isPure(insts[index])) eachOperand(insts[index], mark)
    }
    eachTested(end!, mark)
  }
  for (let value = work.pop(); value !== undefined; value = work.pop()) {
    const inst = definitions[value]
    if (inst) eachOperand(inst, mark)
    const home = homes[value]
    if (!home) continue
    const index = home.params.indexOf(value)
    for (const from of incoming[home.index]) {
      const yes = yesOf(from.end!)
      if (yes?.to === home) mark(yes.args[index])
      const no = noOf(from.end!)
      if (no?.to === home) mark(no.args[index])
    }
  }
  for (let at = 0; at < blocks.length; at++) {
    const block = blocks[at]
    const kept = living(block.insts, live)
    changed ||= kept !== block.insts
    block.insts = kept
    if (!hasParams) continue
    for (const edge of edgesOf(block.end)) {
      if (edge.args.length > 0) edge.args = edge.args.filter((_, index) => live[edge.to.params[index]] === 1)
    }
  }
  if (!hasParams) return changed
  for (const block of blocks) {
    const { length } = block.params
    if (length > 0) block.params = block.params.filter((param) => live[param] === 1)
    changed ||= block.params.length !== length
  }
  return changed
}

/** Those that something depends on: the list itself where that is all of them. */
function living(insts: Inst[], live: Uint8Array): Inst[] {
  let kept: Inst[] | undefined
  for (let index = 0; index < insts.length; index++) {
    const inst = insts[index]
    const result = resultOf(inst)
    if (result === undefined || live[result] === 1) {
      kept?.push(inst)
      continue
    }
    kept ??= insts.slice(0, index)
    // A result that nobody wants needs no register.
    if (!isPure(inst)) kept.push(withoutResult(inst))
  }
  return kept ?? insts
}

function withoutResult(inst: Inst): Inst {
  if (inst.op === 'call' || inst.op === 'invoke') return { ...inst, dst: undefined }
  if (inst.op === 'atomic' && inst.kind === 'fetch-add') return { ...inst, dst: undefined, kind: 'add' }
  return inst
}

/** Straightens the control flow; true when anything changed. `isOrdered`: the blocks are in order already, as `removeDead` leaves them. */
export function straighten(fn: Fn, isOrdered = false): boolean {
  // Each of the steps leaves the blocks in this order, and numbered.
  if (!isOrdered) fn.blocks = reversePostorder(fn.blocks[0])
  let changed = false
  for (let again = true; again;) {
    again = skipEmpty(fn) || mergeLines(fn) || mergeEqual(fn)
    changed ||= again
  }
  return changed
}

/** Edges to blocks that do nothing but jump go where those jump. */
function skipEmpty(fn: Fn): boolean {
  const { blocks } = fn
  let changed = false
  for (let at = 0; at < blocks.length; at++) {
    const block = blocks[at]
    const end = block.end!
    if (end.op === 'return') continue
    const yes = beyond(end.yes)
    if (end.op === 'jump') {
      if (yes === end.yes) continue
      block.end = { ...end, yes }
      changed = true
      continue
    }
    const no = beyond(end.no)
    if (yes.to === no.to && yes.args.every((arg, index) => arg === no.args[index])) {
      block.end = { op: 'jump', at: end.at, yes }
      changed = true
    } else if (yes !== end.yes || no !== end.no) {
      block.end = { ...end, yes, no }
      changed = true
    }
  }
  if (changed) fn.blocks = reversePostorder(blocks[0])
  return changed
}

/** The edge past blocks that do nothing but jump; the edge itself where there is none. */
function beyond(edge: Edge): Edge {
  let { to, args } = edge
  for (let steps = 0; steps < 1000; steps++) {
    const { end } = to
    if (to.insts.length > 0 || to.params.length > 0 || end?.op !== 'jump' || end.yes.to === to) break
    ;({ to, args } = end.yes)
  }
  return to === edge.to ? edge : { to, args }
}

/** A block that only one other leads to, by a jump, becomes its end. */
function mergeLines(fn: Fn): boolean {
  const order = fn.blocks
  const entered = entries(order)
  const renamed = new Map<number, Operand>()
  const gone = new Set<Block>()
  for (let at = 0; at < order.length; at++) {
    const block = order[at]
    if (gone.has(block)) continue
    for (;;) {
      const end = block.end!
      if (end.op !== 'jump') break
      const { to, args } = end.yes
      if (to === block || to === order[0] || entered[to.index] !== 1) break
      for (let index = 0; index < to.params.length; index++) renamed.set(to.params[index], args[index])
      if (to.insts.length > 0) block.insts = block.insts.length > 0 ? block.insts.concat(to.insts) : to.insts
      block.end = to.end
      gone.add(to)
    }
  }
  if (gone.size === 0) return false
  fn.blocks = order.filter((block) => !gone.has(block))
  number(fn.blocks)
  if (renamed.size === 0) return true
  const now = (operand: Operand): Operand => {
    let current = operand
    while (typeof current === 'number' && renamed.has(current)) current = renamed.get(current)!
    return current
  }
  for (const block of fn.blocks) {
    block.insts = block.insts.map((inst) => mapOperands(inst, now))
    block.end = mapTerminator(block.end!, now)
  }
  return true
}

/** How many edges lead to each of the blocks, by its place. */
function entries(order: readonly Block[]): number[] {
  const entered: number[] = []
  for (let at = 0; at < order.length; at++) entered.push(0)
  for (let at = 0; at < order.length; at++) {
    const end = order[at].end!
    const yes = yesOf(end)
    if (yes) entered[yes.to.index]++
    const no = noOf(end)
    if (no) entered[no.to.index]++
  }
  return entered
}

/** Blocks that do the same and go to the same places become one. */
function mergeEqual(fn: Fn): boolean {
  const candidates = mayBeEqual(fn)
  if (candidates.length === 0) return false
  const outside = usedOutside(fn, candidates)
  const first = new Map<string, Block>()
  const twin = new Map<Block, Block>()
  for (const block of candidates) {
    if (outside.has(block)) continue
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

const KINDS_OF_END = { jump: 0, branch: 1, bounds: 2, return: 3 } as const

/** Blocks that are as long as another and go where that goes: the others need not be spelt out. */
function mayBeEqual({ blocks }: Fn): Block[] {
  const alike = new Map<number, number>()
  const keys: number[] = []
  let some = false
  for (let at = 1; at < blocks.length; at++) {
    const { params, insts, end } = blocks[at]
    if (params.length > 0) continue
    const yes = yesOf(end!)?.to.index ?? 0
    const no = noOf(end!)?.to.index ?? 0
    const key = ((insts.length * 4 + KINDS_OF_END[end!.op]) * blocks.length + yes) * blocks.length + no
    const others = alike.get(key) ?? 0
    alike.set(key, others + 1)
    keys[at] = key
    some ||= others > 0
  }
  return some ? blocks.filter((_, at) => keys[at] !== undefined && alike.get(keys[at])! > 1) : []
}

/** Those of the blocks that compute what others read. */
function usedOutside(fn: Fn, blocks: readonly Block[]): Set<Block> {
  const result = new Set<Block>()
  const home = new Map<number, Block>()
  for (const block of blocks) {
    for (const inst of block.insts) {
      const value = resultOf(inst)
      if (value !== undefined) home.set(value, block)
    }
  }
  if (home.size === 0) return result
  let block: Block
  const use = (operand: Operand): void => {
    const made = typeof operand === 'number' ? home.get(operand) : undefined
    if (made && made !== block) result.add(made)
  }
  for (block of fn.blocks) {
    for (const inst of block.insts) eachOperand(inst, use)
    eachTerminal(block.end!, use)
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

/**
 * A check for some bytes that is directly followed by one for more, from the same place and failing alike, checks for all at once.
 * For blocks in order, as `straighten` leaves them.
 */
export function mergeBounds(fn: Fn): boolean {
  const entered = entries(fn.blocks)
  let changed = false
  for (const block of fn.blocks) {
    for (;;) {
      const { end } = block
      if (end?.op !== 'bounds') break
      const next = end.yes.to
      const more = next.end
      if (entered[next.index] !== 1 || more?.op !== 'bounds' || !next.insts.every(isPure)) break
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
export function sink(fn: Fn, flow: Flow = flowOf(fn)): void {
  const users: (Block[] | undefined)[] = []
  for (let value = 0; value < fn.nextValue; value++) users.push(undefined)
  let block: Block
  const note = (operand: Operand): void => {
    if (typeof operand !== 'number') return
    const list = users[operand]
    if (list) list.push(block)
    else users[operand] = [block]
  }
  for (block of fn.blocks) {
    const { insts } = block
    for (let index = 0; index < insts.length; index++) eachOperand(insts[index], note)
    eachTerminal(block.end!, note)
  }
  // Users before what they use, so that a chain sinks together.
  for (let at = flow.order.length - 1; at >= 0; at--) {
    const from = flow.order[at]
    for (let index = from.insts.length - 1; index >= 0; index--) {
      const inst = from.insts[index]
      const wanted = isPure(inst) && inst.op !== 'call' ? users[resultOf(inst)!] : undefined
      if (!wanted) continue
      let target = wanted[0]
      for (let one = 1; one < wanted.length && target !== from; one++)
        target = flow.common(target, wanted[one])
      if (target === from || flow.depth(target) > flow.depth(from)) continue
      if (inst.op === 'load' && target.versions[inst.space] !== inst.version) continue
      from.insts.splice(index, 1)
      target.insts.unshift(inst)
      for (const operand of operandsOf(inst)) {
        if (typeof operand !== 'number') continue
        const list = users[operand]!
        list[list.indexOf(from)] = target
      }
    }
  }
}
