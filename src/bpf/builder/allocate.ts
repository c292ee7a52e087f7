// Register allocation by graph colouring: moves are merged away where that is safe, what does not fit goes to the stack
// (Chaitin and Briggs; George and Appel: Iterated Register Coalescing).
import { programError } from './location.js'
import {
  COLOURS,
  type MachineBlock,
  type MachineFn,
  type MachineInst,
  R10,
  type Register,
  mapRegisters,
  readsOf,
  successorsOf,
  writesOf,
} from './machine.js'

const STACK_BYTES = 512

/** Gives every register of the function a number from 0 to 10. `colours` (default all 10) is for tests, which force spilling. */
export function allocate(fn: MachineFn, colours = COLOURS): void {
  const temporary = new Set<Register>()
  for (let round = 0; ; round++) {
    if (round > 50) throw programError('registers', `The registers of "${fn.name}" cannot be allocated`)
    const graph = new Graph(fn, temporary, colours)
    const spilled = graph.colour()
    if (spilled.size === 0) {
      for (const block of fn.blocks) {
        block.insts = block.insts
          .map((inst) => mapRegisters(inst, (register) => graph.colourOf(register)))
          .filter((inst) => inst.op !== 'move' || inst.dst !== inst.src)
      }
      return
    }
    spill(fn, spilled, temporary)
  }
}

/** Registers that are live when a block ends. */
export function liveOut(fn: MachineFn): Map<MachineBlock, Set<Register>> {
  const reads = new Map<MachineBlock, Set<Register>>()
  const writes = new Map<MachineBlock, Set<Register>>()
  for (const block of fn.blocks) {
    const read = new Set<Register>()
    const written = new Set<Register>()
    for (const inst of block.insts) {
      for (const register of readsOf(inst)) if (!written.has(register)) read.add(register)
      for (const register of writesOf(inst)) written.add(register)
    }
    reads.set(block, read)
    writes.set(block, written)
  }
  const out = new Map(fn.blocks.map((block) => [block, new Set<Register>()]))
  const into = new Map(fn.blocks.map((block) => [block, new Set(reads.get(block))]))
  const successors = new Map(fn.blocks.map((block) => [block, successorsOf(block)]))
  for (let changed = true; changed;) {
    changed = false
    for (let at = fn.blocks.length - 1; at >= 0; at--) {
      const block = fn.blocks[at]
      const live = out.get(block)!
      const before = live.size
      for (const next of successors.get(block)!) for (const register of into.get(next)!) live.add(register)
      if (live.size === before) continue
      changed = true
      const entry = into.get(block)!
      const written = writes.get(block)!
      for (const register of live) if (!written.has(register)) entry.add(register)
    }
  }
  return out
}

class Graph {
  readonly #fn: MachineFn
  readonly #colours: number
  readonly #neighbours: Set<Register>[]
  readonly #moves: { dst: Register; src: Register; weight: number }[] = []
  readonly #cost: number[]
  readonly #alias: Register[]
  readonly #colour: number[] = []
  readonly #present = new Set<Register>()

  constructor(fn: MachineFn, temporary: ReadonlySet<Register>, colours: number) {
    this.#fn = fn
    this.#colours = colours
    this.#neighbours = Array.from({ length: fn.registers }, () => new Set<Register>())
    this.#cost = Array.from({ length: fn.registers }, (_, register) =>
      temporary.has(register) ? Infinity : 0,
    )
    this.#alias = Array.from({ length: fn.registers }, (_, register) => register)
    for (let one = 0; one < COLOURS; one++) {
      for (let other = 0; other < one; other++) this.#connect(one, other)
    }
    this.#build()
  }

  /** Tries to colour everything; gives what must go to the stack, with the number of a place there. */
  colour(): Map<Register, number> {
    this.#coalesce()
    const order = this.#order()
    return this.#select(order)
  }

  colourOf(register: Register): Register {
    return register <= R10 ? register : this.#colour[this.#find(register)]
  }

  #build(): void {
    const out = liveOut(this.#fn)
    for (const block of this.#fn.blocks) {
      const live = new Set(out.get(block))
      live.delete(R10)
      for (let at = block.insts.length - 1; at >= 0; at--) {
        const inst = block.insts[at]
        const reads = readsOf(inst)
        const writes = writesOf(inst)
        for (const register of [...reads, ...writes]) {
          if (register === R10) continue
          this.#present.add(register)
          this.#cost[register] += block.weight
        }
        // A copy may share its register with what it is a copy of.
        const exempt = inst.op === 'move' && inst.src !== R10 ? inst.src : undefined
        if (exempt !== undefined && inst.op === 'move') {
          this.#moves.push({ dst: inst.dst, src: inst.src, weight: block.weight })
        }
        for (const written of writes) {
          for (const other of live) if (other !== exempt && other !== written) this.#connect(written, other)
        }
        for (const written of writes) live.delete(written)
        for (const read of reads) if (read !== R10) live.add(read)
      }
    }
  }

  #connect(a: Register, b: Register): void {
    if (a === b) return
    this.#neighbours[a].add(b)
    this.#neighbours[b].add(a)
  }

  #find(register: Register): Register {
    let root = register
    while (this.#alias[root] !== root) root = this.#alias[root]
    return root
  }

  #coalesce(): void {
    const moves = [...this.#moves].sort((a, b) => b.weight - a.weight)
    for (let changed = true; changed;) {
      changed = false
      for (const move of moves) {
        let a = this.#find(move.dst)
        let b = this.#find(move.src)
        if (b < a) [a, b] = [b, a]
        // `a` may be a machine register.
        if (a === b || b < COLOURS || this.#neighbours[a].has(b)) continue
        if (!(a < COLOURS ? this.#george(a, b) : this.#briggs(a, b))) continue
        this.#merge(a, b)
        changed = true
      }
    }
  }

  /** Each neighbour of `b` is easy to colour or already a neighbour of the machine register `a`. */
  #george(a: Register, b: Register): boolean {
    if (a >= this.#colours) return false
    for (const other of this.#neighbours[b]) {
      if (other < COLOURS || this.#neighbours[a].has(other)) {
        if (!this.#neighbours[a].has(other)) return false
        continue
      }
      if (this.#neighbours[other].size >= this.#colours) return false
    }
    return true
  }

  /** What comes out of merging has fewer than all colours of neighbours that are hard to colour. */
  #briggs(a: Register, b: Register): boolean {
    let hard = 0
    const count = (other: Register, both: boolean): void => {
      const degree = other < COLOURS ? Infinity : this.#neighbours[other].size - (both ? 1 : 0)
      if (degree >= this.#colours) hard++
    }
    for (const other of this.#neighbours[a]) count(other, this.#neighbours[b].has(other))
    for (const other of this.#neighbours[b]) if (!this.#neighbours[a].has(other)) count(other, false)
    return hard < this.#colours
  }

  #merge(a: Register, b: Register): void {
    this.#alias[b] = a
    this.#cost[a] += this.#cost[b]
    for (const other of this.#neighbours[b]) {
      this.#neighbours[other].delete(b)
      this.#connect(a, other)
    }
    this.#neighbours[b].clear()
  }

  /** The order in which nodes leave the graph: easy ones first, then the one that is cheapest to do without. */
  #order(): Register[] {
    const nodes = [...this.#present].filter((register) => register > R10 && this.#find(register) === register)
    const degree = new Map(nodes.map((node) => [node, this.#neighbours[node].size]))
    const remaining = new Set(nodes)
    const easy = nodes.filter((node) => degree.get(node)! < this.#colours)
    const order: Register[] = []
    const remove = (node: Register): void => {
      remaining.delete(node)
      order.push(node)
      for (const other of this.#neighbours[node]) {
        if (!remaining.has(other)) continue
        const left = degree.get(other)! - 1
        degree.set(other, left)
        if (left === this.#colours - 1) easy.push(other)
      }
    }
    while (remaining.size > 0) {
      const next = easy.pop()
      if (next !== undefined) {
        if (remaining.has(next)) remove(next)
        continue
      }
      let best: Register | undefined
      let lowest = Infinity
      for (const node of remaining) {
        const score = this.#cost[node] / degree.get(node)!
        if (best === undefined || score < lowest) [best, lowest] = [node, score]
      }
      remove(best!)
    }
    return order.reverse()
  }

  #select(order: readonly Register[]): Map<Register, number> {
    const partners = new Map<Register, Register[]>()
    for (const { dst, src } of this.#moves) {
      const [a, b] = [this.#find(dst), this.#find(src)]
      partners.set(a, [...(partners.get(a) ?? []), b])
      partners.set(b, [...(partners.get(b) ?? []), a])
    }
    for (let register = 0; register < COLOURS; register++) this.#colour[register] = register
    const spilled: Register[] = []
    for (const node of order) {
      const taken = new Set<number>()
      for (const other of this.#neighbours[node]) {
        const colour = this.#colour[this.#find(other)]
        if (colour !== undefined) taken.add(colour)
      }
      const free = Array.from({ length: this.#colours }, (_, colour) => colour).filter(
        (colour) => !taken.has(colour),
      )
      if (free.length === 0) {
        spilled.push(node)
        continue
      }
      const wanted = (partners.get(node) ?? []).map((partner) => this.#colour[partner])
      this.#colour[node] = free.find((colour) => wanted.includes(colour)) ?? free[0]
    }
    // What is never live together can lie in the same place, and so can what was merged.
    const places = new Map<Register, number>()
    for (const node of spilled) {
      const taken = new Set([...this.#neighbours[node]].map((other) => places.get(other)))
      let place = 0
      while (taken.has(place)) place++
      places.set(node, place)
    }
    const members = [...this.#present].filter(
      (register) => register > R10 && places.has(this.#find(register)),
    )
    return new Map(members.map((register) => [register, places.get(this.#find(register))!]))
  }
}

/** Puts registers on the stack: each is loaded before and stored after the instructions that use it. */
function spill(fn: MachineFn, spilled: ReadonlyMap<Register, number>, temporary: Set<Register>): void {
  const slots = new Map(
    [...spilled].map(([register, place]) => [register, -(fn.stackBytes + 8 * (place + 1))]),
  )
  fn.stackBytes = -Math.min(...slots.values())
  if (fn.stackBytes > STACK_BYTES) {
    throw programError(
      'stack',
      `"${fn.name}" needs ${fn.stackBytes} bytes of stack for structs and values; there are ${STACK_BYTES}`,
      'Move a part of the program into a function (defineFunction), or keep structs in a per-CPU array.',
    )
  }
  for (const block of fn.blocks) block.insts = block.insts.flatMap((inst) => rewrite(inst))

  function rewrite(inst: MachineInst): MachineInst[] {
    const { at } = inst
    if (inst.op === 'move') {
      const [from, to] = [slots.get(inst.src), slots.get(inst.dst)]
      if (from !== undefined && from === to) return []
      if (from !== undefined && to === undefined) {
        return [{ op: 'load', size: 'u64', dst: inst.dst, base: R10, offset: from, at }]
      }
      // The frame pointer can be stored too, but the verifier likes other ways to the stack better.
      if (to !== undefined && from === undefined && inst.src !== R10) {
        return [{ op: 'store', size: 'u64', base: R10, offset: to, src: inst.src, at }]
      }
    }
    const reads = new Set(readsOf(inst))
    const writes = new Set(writesOf(inst))
    const renamed = new Map<Register, Register>()
    const before: MachineInst[] = []
    const after: MachineInst[] = []
    for (const register of new Set([...reads, ...writes])) {
      const offset = slots.get(register)
      if (offset === undefined) continue
      const stand = fn.registers++
      temporary.add(stand)
      renamed.set(register, stand)
      if (reads.has(register)) before.push({ op: 'load', size: 'u64', dst: stand, base: R10, offset, at })
      if (writes.has(register)) after.push({ op: 'store', size: 'u64', base: R10, offset, src: stand, at })
    }
    if (renamed.size === 0) return [inst]
    return [...before, mapRegisters(inst, (register) => renamed.get(register) ?? register), ...after]
  }
}
