// From values to registers: two-operand instructions, calls with their fixed registers, jumps that carry arguments.
import { flowOf } from './dominators.js'
import type { Comparison, Edge, Fn, Inst, Operand, Terminator } from './ir.js'
import { opposite } from './ir.js'
import { FIRST_VIRTUAL, type MachineBlock, type MachineFn, type MachineInst, R0, R10 } from './machine.js'
import { countUses } from './simplify.js'

type Pending = MachineInst extends infer T ? (T extends { at: unknown } ? Omit<T, 'at'> : never) : never

const commutative = new Set(['add', 'mul', 'or', 'and', 'xor'])
const LOW = 0xffff_ffffn

/** Whether a constant is what an immediate of an instruction of this width stands for. */
const isImmediate = (value: bigint, bits: 32 | 64): boolean =>
  bits === 32 || BigInt.asUintN(64, BigInt.asIntN(32, value)) === BigInt.asUintN(64, value)

/** Lowers a function. Its blocks come out in the order in which they should lie. */
export function lower(fn: Fn): MachineFn {
  return new Lowering(fn).run()
}

class Lowering {
  readonly #fn: Fn
  readonly #machine: MachineFn
  /** By the places of those that they are made from. */
  readonly #blocks: MachineBlock[] = []
  /** Stack addresses, which are computed anew where they are needed: that takes no register between. */
  readonly #stack: (number | undefined)[] = []
  readonly #uses: readonly number[]
  #current!: MachineBlock
  #at: MachineInst['at']
  #nextId = 0

  constructor(fn: Fn) {
    this.#fn = fn
    this.#machine = {
      name: fn.name,
      blocks: [],
      registers: FIRST_VIRTUAL + fn.nextValue,
      stackBytes: fn.stackBytes,
    }
    this.#uses = countUses(fn.blocks, fn.nextValue)
    for (let value = 0; value < fn.nextValue; value++) this.#stack.push(undefined)
    for (const { insts } of fn.blocks) {
      for (const inst of insts) if (inst.op === 'stack') this.#stack[inst.dst] = inst.offset
    }
  }

  run(): MachineFn {
    const flow = flowOf(this.#fn)
    const { order } = flow
    for (const block of order) {
      this.#blocks.push({
        id: this.#nextId++,
        insts: [],
        next: undefined,
        weight: 10 ** Math.min(flow.depth(block), 4),
      })
    }
    for (const block of order) {
      this.#current = this.#blocks[block.index]
      this.#machine.blocks.push(this.#current)
      if (block === order[0]) {
        this.#fn.params.forEach((param, index) => {
          if (this.#uses[param] > 0) this.#emit({ op: 'move', dst: virtual(param), src: index + 1 })
        })
      }
      const { insts } = block
      for (let index = 0; index < insts.length; index++) {
        this.#at = insts[index].at
        this.#inst(insts[index])
      }
      this.#at = block.end!.at ?? this.#at
      this.#terminator(block.end!)
    }
    return this.#machine
  }

  #emit(inst: Pending): void {
    const made = inst as MachineInst
    made.at = this.#at
    this.#current.insts.push(made)
  }

  #fresh(): number {
    return this.#machine.registers++
  }

  /** Puts an operand into a register. */
  #into(dst: number, operand: Operand): void {
    if (typeof operand === 'bigint') {
      this.#emit({ op: 'constant', dst, value: operand })
      return
    }
    const offset = this.#stack[operand]
    if (offset === undefined) {
      this.#emit({ op: 'move', dst, src: virtual(operand) })
      return
    }
    this.#emit({ op: 'move', dst, src: R10 })
    this.#emit({ op: 'alu', kind: 'add', bits: 64, dst, src: BigInt(offset) })
  }

  /** A register that holds an operand, not to be written. */
  #register(operand: Operand): number {
    if (typeof operand === 'number' && this.#stack[operand] === undefined) return virtual(operand)
    const register = this.#fresh()
    this.#into(register, operand)
    return register
  }

  /** An operand as an instruction of this width takes it on the right. */
  #right(operand: Operand, bits: 32 | 64): number | bigint {
    if (typeof operand === 'bigint' && isImmediate(operand, bits)) return operand
    return this.#register(operand)
  }

  #address(base: number, offset: number): { base: number; offset: number } {
    const below = this.#stack[base]
    return below === undefined ? { base: virtual(base), offset } : { base: R10, offset: below + offset }
  }

  #inst(inst: Inst): void {
    switch (inst.op) {
      case 'alu':
        return this.#alu(inst)
      case 'swap':
        this.#into(virtual(inst.dst), inst.a)
        return this.#emit({ op: 'swap', bits: inst.bits, dst: virtual(inst.dst) })
      case 'load':
        return this.#emit({
          op: 'load',
          size: inst.size,
          dst: virtual(inst.dst),
          ...this.#address(inst.base, inst.offset),
        })
      case 'store': {
        const src = this.#right(inst.value, inst.size === 'u64' ? 64 : 32)
        return this.#emit({ op: 'store', size: inst.size, ...this.#address(inst.base, inst.offset), src })
      }
      case 'atomic': {
        let src = this.#register(inst.value)
        if (inst.dst !== undefined) {
          this.#emit({ op: 'move', dst: virtual(inst.dst), src })
          src = virtual(inst.dst)
        }
        const { kind, size } = inst
        return this.#emit({ op: 'atomic', kind, size, ...this.#address(inst.base, inst.offset), src })
      }
      case 'map':
        return this.#emit({ op: 'map', dst: virtual(inst.dst), map: inst.map })
      case 'stack':
        return
      case 'call':
      case 'invoke': {
        inst.args.forEach((operand, index) => this.#into(index + 1, operand))
        const target = inst.op === 'call' ? { helper: inst.helper } : { callee: inst.callee }
        this.#emit({ op: 'call', target, args: inst.args.length })
        if (inst.dst !== undefined) this.#emit({ op: 'move', dst: virtual(inst.dst), src: R0 })
      }
    }
  }

  #alu(inst: Inst & { op: 'alu' }): void {
    const { kind, bits } = inst
    let { a, b } = inst
    const dst = virtual(inst.dst)
    if (kind === 'and' && bits === 64 && b === LOW) {
      this.#into(dst, a)
      return this.#emit({ op: 'cut', dst })
    }
    if (kind === 'sub' && a === 0n && typeof b === 'number') {
      this.#into(dst, b)
      return this.#emit({ op: 'negate', bits, dst })
    }
    // The verifier refuses a division by the constant zero; the machine gives 0, and of a remainder the number itself.
    if (b === 0n && kind === 'div') return this.#into(dst, 0n)
    if (b === 0n && kind === 'mod') {
      this.#into(dst, a)
      return bits === 32 ? this.#emit({ op: 'cut', dst }) : undefined
    }
    // The left operand is overwritten: better one that nobody else reads.
    const dies = (operand: Operand): boolean => typeof operand === 'number' && this.#uses[operand] === 1
    if (commutative.has(kind) && typeof b === 'number' && dies(b) && !dies(a)) [a, b] = [b, a]
    const src = typeof b === 'bigint' ? this.#right(this.#shift(kind, bits, b), bits) : this.#register(b)
    this.#into(dst, a)
    this.#emit({ op: 'alu', kind, bits, dst, src })
  }

  // The verifier refuses constant shifts beyond the width; the machine would take them modulo it.
  #shift(kind: string, bits: 32 | 64, count: bigint): bigint {
    return kind === 'lsh' || kind === 'rsh' || kind === 'arsh' ? count & BigInt(bits - 1) : count
  }

  #terminator(end: Terminator): void {
    switch (end.op) {
      case 'return':
        this.#into(R0, end.value)
        this.#emit({ op: 'exit' })
        return
      case 'jump':
        this.#pass(end.yes)
        this.#current.next = this.#blocks[end.yes.to.index]
        return
      case 'bounds': {
        const from = this.#address(end.base, end.size)
        const limit = this.#fresh()
        this.#emit({ op: 'move', dst: limit, src: from.base })
        this.#emit({ op: 'alu', kind: 'add', bits: 64, dst: limit, src: BigInt(from.offset) })
        return this.#branch('<=', 64, limit, virtual(end.end), end)
      }
      case 'branch': {
        const { comparison, a, b } = end
        let { bits } = end
        // 64-bit jumps are as good for values with zeros above, and older than 32-bit ones.
        const signed = comparison.startsWith('s')
        if (
          bits === 32 &&
          !signed &&
          this.#isNarrow(a) &&
          (typeof b === 'bigint' ? b <= 0x7fff_ffffn : this.#isNarrow(b))
        ) {
          bits = 64
        }
        const left = this.#register(a)
        return this.#branch(comparison, bits, left, this.#right(b, bits), end)
      }
    }
  }

  #narrow: Set<number> | undefined
  /** Whether the upper half of a value is certainly zero. */
  #isNarrow(operand: Operand): boolean {
    if (typeof operand === 'bigint') return operand <= LOW
    if (!this.#narrow) {
      this.#narrow = new Set()
      for (const { insts } of this.#fn.blocks) {
        for (const inst of insts) {
          const narrow =
            (inst.op === 'alu' &&
              (inst.bits === 32 || (inst.kind === 'and' && typeof inst.b === 'bigint' && inst.b <= LOW))) ||
            (inst.op === 'load' && inst.size !== 'u64') ||
            (inst.op === 'swap' && inst.bits !== 64)
          if (narrow) this.#narrow.add(inst.dst)
        }
      }
    }
    return this.#narrow.has(operand)
  }

  /** Jumps to `no` when the comparison fails, and goes on with `yes`, which is laid out behind. */
  #branch(
    comparison: Comparison,
    bits: 32 | 64,
    a: number,
    b: number | bigint,
    { yes, no }: { yes: Edge; no: Edge },
  ): void {
    const from = this.#current
    const at = this.#at
    const failing = opposite(comparison)
    // There is no jump for "none of these bits".
    if (failing === '!&') return this.#branch('!&', bits, a, b, { yes: no, no: yes })
    const elsewhere = this.#edgeBlock(no)
    from.insts.push({ op: 'branch', comparison: failing, bits, a, b, to: elsewhere, at })
    this.#current = from
    if (yes.args.length === 0) {
      from.next = this.#blocks[yes.to.index]
      return
    }
    const between = this.#edgeBlock(yes)
    from.next = between
  }

  /** The block an edge leads to; when it carries arguments, a block of its own that hands them over. */
  #edgeBlock(edge: Edge): MachineBlock {
    const target = this.#blocks[edge.to.index]
    if (edge.args.length === 0) return target
    const made: MachineBlock = { id: this.#nextId++, insts: [], next: target, weight: target.weight }
    const before = this.#current
    this.#current = made
    this.#pass(edge)
    this.#current = before
    this.#machine.blocks.push(made)
    return made
  }

  /** Copies an edge's arguments to the parameters, all at once in effect. */
  #pass({ to, args }: Edge): void {
    if (args.length === 0) return
    let moves = to.params
      .map((param, index) => ({ dst: virtual(param), operand: args[index] }))
      .filter(({ dst, operand }) => typeof operand === 'bigint' || virtual(operand) !== dst)
    while (moves.length > 0) {
      const isRead = (dst: number): boolean =>
        moves.some(
          (one) => one.dst !== dst && typeof one.operand === 'number' && virtual(one.operand) === dst,
        )
      const free = moves.find(({ dst }) => !isRead(dst))
      if (free) {
        this.#into(free.dst, free.operand)
        moves = moves.filter((one) => one !== free)
        continue
      }
      // A ring: one of them is put aside.
      const [first] = moves
      const aside = this.#fresh()
      this.#emit({ op: 'move', dst: aside, src: first.dst })
      const value = first.dst - FIRST_VIRTUAL
      moves = moves.map((one) => (one.operand === value ? { ...one, operand: aside - FIRST_VIRTUAL } : one))
    }
  }
}

const virtual = (value: number): number => value + FIRST_VIRTUAL
