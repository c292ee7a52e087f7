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
  const live = liveness(fn)
  return new Map(fn.blocks.map((block, at) => [block, new Set(live[at])]))
}

/** The same, by the places of the blocks. */
function liveness({ blocks, registers }: MachineFn): Register[][] {
  const places = new Map<MachineBlock, number>()
  for (let at = 0; at < blocks.length; at++) places.set(blocks[at], at)
  const successors: number[][] = []
  // Registers that are live on entry and at the end, each once, in the order in which they came.
  const into: Register[][] = []
  const out: Register[][] = []
  // The same, and those that are written, as a bit for each register, a row of so many words for each block. All of this runs once
  // or twice in most processes, as V8 first meets it: what is called often is written out.
  const words = (registers + 31) >>> 5
  const intoBits = new Uint32Array(blocks.length * words)
  const outBits = new Uint32Array(blocks.length * words)
  const written = new Uint32Array(blocks.length * words)
  for (let at = 0; at < blocks.length; at++) {
    const { insts, next } = blocks[at]
    const row = at * words
    const entry: Register[] = []
    const leads: number[] = []
    for (let index = 0; index < insts.length; index++) {
      const inst = insts[index]
      const reads = readsOf(inst)
      for (let one = 0; one < reads.length; one++) {
        const word = row + (reads[one] >>> 5)
        const bit = 1 << (reads[one] & 31)
        if (((written[word] | intoBits[word]) & bit) !== 0) continue
        intoBits[word] |= bit
        entry.push(reads[one])
      }
      const wrote = writesOf(inst)
      for (let one = 0; one < wrote.length; one++) written[row + (wrote[one] >>> 5)] |= 1 << (wrote[one] & 31)
      if (inst.op === 'branch') leads.push(places.get(inst.to)!)
    }
    if (next) leads.push(places.get(next)!)
    successors.push(leads)
    into.push(entry)
    out.push([])
  }
  // How much of what a successor needs has been seen: lists only grow, so that the rest is what is new.
  const seen: number[][] = successors.map((leads) => leads.map(() => 0))
  for (let changed = true; changed;) {
    changed = false
    for (let at = blocks.length - 1; at >= 0; at--) {
      const live = out[at]
      const row = at * words
      const before = live.length
      const leads = successors[at]
      for (let one = 0; one < leads.length; one++) {
        const list = into[leads[one]]
        for (let index = seen[at][one]; index < list.length; index++) {
          const word = row + (list[index] >>> 5)
          const bit = 1 << (list[index] & 31)
          if ((outBits[word] & bit) !== 0) continue
          outBits[word] |= bit
          live.push(list[index])
        }
        seen[at][one] = list.length
      }
      if (live.length === before) continue
      changed = true
      const entry = into[at]
      for (let index = before; index < live.length; index++) {
        const word = row + (live[index] >>> 5)
        const bit = 1 << (live[index] & 31)
        if (((written[word] | intoBits[word]) & bit) !== 0) continue
        intoBits[word] |= bit
        entry.push(live[index])
      }
    }
  }
  return out
}

class Graph {
  readonly #fn: MachineFn
  readonly #colours: number
  /** Whether two are live together: a row of so many words for each, a bit for each other. */
  readonly #edges: Uint32Array
  readonly #words: number
  /** Those that each is live together with, merged ones too: they count no more. */
  readonly #neighbours: Register[][] = []
  /** How many of them count. */
  readonly #degrees: number[] = []
  readonly #moves: { dst: Register; src: Register; weight: number }[] = []
  readonly #cost: number[] = []
  readonly #alias: Register[] = []
  readonly #colour: (number | undefined)[] = []
  readonly #present: Register[] = []

  constructor(fn: MachineFn, temporary: ReadonlySet<Register>, colours: number) {
    this.#fn = fn
    this.#colours = colours
    this.#words = (fn.registers + 31) >>> 5
    this.#edges = new Uint32Array(fn.registers * this.#words)
    for (let register = 0; register < fn.registers; register++) {
      this.#neighbours.push([])
      this.#degrees.push(0)
      this.#cost.push(temporary.has(register) ? Infinity : 0)
      this.#alias.push(register)
      this.#colour.push(undefined)
    }
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
    return register <= R10 ? register : this.#colour[this.#find(register)]!
  }

  #build(): void {
    const out = liveness(this.#fn)
    const isPresent = new Uint8Array(this.#fn.registers)
    const isLiveInCall = new Uint8Array(this.#fn.registers)
    // What is live, in the order in which it became so; -1 where one is not any more. And where each of them stands there.
    let live: Register[] = []
    const places = new Int32Array(this.#fn.registers)
    for (let number = 0; number < out.length; number++) {
      const { insts, weight } = this.#fn.blocks[number]
      places.fill(-1)
      live = []
      for (const register of out[number]) {
        if (register === R10) continue
        places[register] = live.length
        live.push(register)
      }
      let gaps = 0
      for (let at = insts.length - 1; at >= 0; at--) {
        const inst = insts[at]
        const reads = readsOf(inst)
        const writes = writesOf(inst)
        if (gaps > 64 && gaps > live.length / 2) {
          live = live.filter((register) => register >= 0)
          for (let index = 0; index < live.length; index++) places[live[index]] = index
          gaps = 0
        }
        for (let one = 0; one < reads.length + writes.length; one++) {
          const register = one < reads.length ? reads[one] : writes[one - reads.length]
          if (register === R10) continue
          if (isPresent[register] === 0) {
            isPresent[register] = 1
            this.#present.push(register)
          }
          this.#cost[register] += weight
        }
        // A copy may share its register with what it is a copy of.
        const exempt = inst.op === 'move' && inst.src !== R10 ? inst.src : -1
        if (exempt >= 0 && inst.op === 'move') this.#moves.push({ dst: inst.dst, src: inst.src, weight })
        if (inst.op === 'call') {
          // What was live during an earlier call knows all the registers that calls destroy.
          const fresh = live.filter((register) => register >= 0 && isLiveInCall[register] === 0)
          for (let one = 0; one < writes.length; one++) this.#connectAll(writes[one], fresh, -1)
          for (let one = 0; one < fresh.length; one++) isLiveInCall[fresh[one]] = 1
        } else if (writes.length > 0) {
          this.#connectAll(writes[0], live, exempt)
        }
        for (let one = 0; one < writes.length; one++) {
          const place = places[writes[one]]
          if (place < 0) continue
          live[place] = -1
          gaps++
          places[writes[one]] = -1
        }
        for (let one = 0; one < reads.length; one++) {
          if (reads[one] === R10 || places[reads[one]] >= 0) continue
          places[reads[one]] = live.length
          live.push(reads[one])
        }
      }
    }
  }

  /** One with each of the others but `exempt`; those below zero are gaps. */
  #connectAll(one: Register, others: readonly Register[], exempt: Register): void {
    const edges = this.#edges
    const row = one * this.#words
    for (let at = 0; at < others.length; at++) {
      const other = others[at]
      if (other < 0 || other === exempt || (edges[row + (other >>> 5)] & (1 << (other & 31))) !== 0) continue
      this.#connect(one, other)
    }
  }

  #connect(a: Register, b: Register): void {
    const edges = this.#edges
    const word = a * this.#words + (b >>> 5)
    if (a === b || (edges[word] & (1 << (b & 31))) !== 0) return
    edges[word] |= 1 << (b & 31)
    edges[b * this.#words + (a >>> 5)] |= 1 << (a & 31)
    this.#neighbours[a].push(b)
    this.#neighbours[b].push(a)
    this.#degrees[a]++
    this.#degrees[b]++
  }

  #areConnected(a: Register, b: Register): boolean {
    return (this.#edges[a * this.#words + (b >>> 5)] & (1 << (b & 31))) !== 0
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
      for (let at = 0; at < moves.length; at++) {
        let a = this.#find(moves[at].dst)
        let b = this.#find(moves[at].src)
        if (b < a) {
          const lower = b
          b = a
          a = lower
        }
        // `a` may be a machine register.
        if (a === b || b < COLOURS || this.#areConnected(a, b)) continue
        if (!(a < COLOURS ? this.#george(a, b) : this.#briggs(a, b))) continue
        this.#merge(a, b)
        changed = true
      }
    }
  }

  // The two tests below are what allocation takes its time for: they look at the bits themselves. Those that were merged into
  // others are not themselves any more, and count no more.

  /** Each neighbour of `b` is easy to colour or already a neighbour of the machine register `a`. */
  #george(a: Register, b: Register): boolean {
    const colours = this.#colours
    if (a >= colours) return false
    const alias = this.#alias
    const edges = this.#edges
    const row = a * this.#words
    const others = this.#neighbours[b]
    for (let at = 0; at < others.length; at++) {
      const other = others[at]
      if (alias[other] !== other || (edges[row + (other >>> 5)] & (1 << (other & 31))) !== 0) continue
      if (other < COLOURS || this.#degrees[other] >= colours) return false
    }
    return true
  }

  /** What comes out of merging has fewer than all colours of neighbours that are hard to colour. */
  #briggs(a: Register, b: Register): boolean {
    const colours = this.#colours
    const alias = this.#alias
    const edges = this.#edges
    const degrees = this.#degrees
    let hard = 0
    const rowB = b * this.#words
    const ofA = this.#neighbours[a]
    for (let at = 0; at < ofA.length; at++) {
      const other = ofA[at]
      if (alias[other] !== other) continue
      const isShared = (edges[rowB + (other >>> 5)] & (1 << (other & 31))) !== 0
      if (other < COLOURS || degrees[other] - (isShared ? 1 : 0) >= colours) hard++
    }
    const rowA = a * this.#words
    const ofB = this.#neighbours[b]
    for (let at = 0; at < ofB.length && hard < colours; at++) {
      const other = ofB[at]
      if (alias[other] !== other || (edges[rowA + (other >>> 5)] & (1 << (other & 31))) !== 0) continue
      if (other < COLOURS || degrees[other] >= colours) hard++
    }
    return hard < colours
  }

  #merge(a: Register, b: Register): void {
    const others = this.#neighbours[b]
    this.#cost[a] += this.#cost[b]
    for (let at = 0; at < others.length; at++) {
      if (this.#alias[others[at]] !== others[at]) continue
      this.#degrees[others[at]]--
      this.#connect(a, others[at])
    }
    this.#alias[b] = a
    this.#neighbours[b] = []
    this.#degrees[b] = 0
  }

  /** The order in which nodes leave the graph: easy ones first, then the one that is cheapest to do without. */
  #order(): Register[] {
    const nodes = this.#present.filter((register) => register > R10 && this.#alias[register] === register)
    const degrees = [...this.#degrees]
    const remaining = new Set(nodes)
    const easy = nodes.filter((node) => degrees[node] < this.#colours)
    const order: Register[] = []
    while (remaining.size > 0) {
      const next = easy.pop() ?? this.#cheapest(remaining, degrees)
      if (!remaining.delete(next)) continue
      order.push(next)
      const others = this.#neighbours[next]
      for (let at = 0; at < others.length; at++) {
        if (!remaining.has(others[at])) continue
        if (--degrees[others[at]] === this.#colours - 1) easy.push(others[at])
      }
    }
    return order.reverse()
  }

  #cheapest(remaining: ReadonlySet<Register>, degrees: readonly number[]): Register {
    let best = -1
    let lowest = Infinity
    for (const node of remaining) {
      const score = this.#cost[node] / degrees[node]
      if (best < 0 || score < lowest) {
        best = node
        lowest = score
      }
    }
    return best
  }

  #select(order: readonly Register[]): Map<Register, number> {
    const partners: (Register[] | undefined)[] = []
    for (let register = 0; register < this.#fn.registers; register++) partners.push(undefined)
    for (const { dst, src } of this.#moves) {
      const a = this.#find(dst)
      const b = this.#find(src)
      ;(partners[a] ??= []).push(b)
      ;(partners[b] ??= []).push(a)
    }
    for (let register = 0; register < COLOURS; register++) this.#colour[register] = register
    const spilled: Register[] = []
    for (const node of order) {
      const colour = this.#freeColour(node, partners[node])
      if (colour === undefined) spilled.push(node)
      else this.#colour[node] = colour
    }
    // What is never live together can lie in the same place, and so can what was merged.
    const places = new Map<Register, number>()
    for (const node of spilled) {
      const taken = new Set(this.#neighbours[node].map((other) => places.get(other)))
      let place = 0
      while (taken.has(place)) place++
      places.set(node, place)
    }
    if (places.size === 0) return places
    const members = this.#present.filter((register) => register > R10 && places.has(this.#find(register)))
    return new Map(members.map((register) => [register, places.get(this.#find(register))!]))
  }

  /** The lowest that no neighbour has, or one that spares a copy; undefined: none is left. */
  #freeColour(node: Register, partners: readonly Register[] = []): number | undefined {
    let taken = 0
    const alias = this.#alias
    const others = this.#neighbours[node]
    for (let at = 0; at < others.length; at++) {
      let root = others[at]
      while (alias[root] !== root) root = alias[root]
      const colour = this.#colour[root]
      if (colour !== undefined) taken |= 1 << colour
    }
    let wanted = 0
    for (let at = 0; at < partners.length; at++) {
      const colour = this.#colour[partners[at]]
      if (colour !== undefined) wanted |= 1 << colour
    }
    const free = ~taken & ((1 << this.#colours) - 1)
    if (free === 0) return undefined
    return lowestBit((free & wanted) === 0 ? free : free & wanted)
  }
}

const lowestBit = (bits: number): number => 31 - Math.clz32(bits & -bits)

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
