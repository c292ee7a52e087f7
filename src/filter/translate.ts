// A filter within a function of the builder: its instructions, translated one by one into the builder's middle form, which has an
// optimizer and an allocator of its own.
import type { AluKind, Block, Comparison, Operand } from '../bpf/builder/ir.js'
import { swapBytes } from '../bpf/builder/ir.js'
import type { Point, Tracer, VariableKey } from '../bpf/builder/trace.js'
import {
  BPF_MEMWORDS,
  JUMP,
  LOADX_CELL,
  LOADX_CONSTANT,
  LOADX_HEADER,
  LOAD_CELL,
  LOAD_CONSTANT,
  LOAD_LENGTH,
  NEGATE,
  type Operator,
  RETURN,
  STORE,
  STOREX,
  type Size,
  TAX,
  TXA,
  type Tested,
  decode,
} from './classic.js'
import { A, X, lifetimes } from './lifetimes.js'
import type { Instruction } from './linear.js'

/** The largest offset into the packet that the verifier can be convinced of twice: MAX_PACKET_OFF (kernel/bpf/verifier.c) is 65535. */
const MAX_OFFSET = 0x7fff
const LOW = 0xffff_ffffn

const ALU: Record<Exclude<Operator, '/' | '%' | '<<' | '>>'>, AluKind> = {
  '+': 'add',
  '-': 'sub',
  '*': 'mul',
  '&': 'and',
  '|': 'or',
  '^': 'xor',
}
const COMPARISONS: Record<Tested, Comparison> = { '=': '==', '>': '>', '>=': '>=', '&': '&' }
const SIZES = { 1: 'u8', 2: 'u16', 4: 'u32' } as const

/** xdp_load_bytes reads nothing behind this (net/core/filter.c: bpf_xdp_pointer). */
const MAX_COPIED = 0xffff

/** What a filter sees of a packet in several buffers: the first of them, or all (kernel 5.18). */
export type FilterReach = 'first buffer' | 'packet'

/** Puts a filter's code where the tracer is. */
export class Translation {
  readonly #tracer: Tracer
  readonly #program: readonly Instruction[]
  readonly #reach: FilterReach
  /** Where bytes are copied to, instead of being read where they lie. */
  readonly #buffer: number | undefined
  /** Bits of what is read at or behind each instruction before it is written. */
  readonly #live: Int32Array
  readonly #entry: Point
  readonly #accept: Block
  readonly #reject: Block
  /** For packets whose first buffer is too short. */
  readonly #short: Block
  /** From where control comes to an instruction. */
  readonly #arrivals = new Map<number, Point[]>()
  /** A, X and the cells, in the order of `lifetimes`. */
  readonly #keys: VariableKey[] = Array.from({ length: BPF_MEMWORDS + 2 }, (_, atom) => ({
    name: `filter ${atom}`,
  }))
  /** What was swapped to make a value: comparing before swapping is the same, and shorter. */
  readonly #swapped = new Map<Operand, { raw: Operand; bits: 16 | 32 }>()

  /** `copies`: where the packet's bytes lie is not asked, and nothing is too short to tell. */
  constructor(tracer: Tracer, program: readonly Instruction[], reach: FilterReach, copies = false) {
    this.#tracer = tracer
    this.#program = program
    this.#reach = reach
    this.#live = lifetimes(program)
    this.#entry = { ...tracer.point }
    this.#accept = tracer.newBlock(this.#entry.versions)
    this.#reject = tracer.newBlock(this.#entry.versions)
    this.#short = reach === 'packet' && !copies ? tracer.newBlock(this.#entry.versions) : this.#reject
    this.#buffer = copies ? tracer.allocate(4) : undefined
  }

  /** Translates the program, and gives the places behind it for packets that match, for the others, and for those too short to tell. */
  run(): [matched: Point, rejected: Point, short: Point] {
    const tracer = this.#tracer
    this.#keys.forEach((key) => tracer.writeVariable(key, 0n))
    this.#program.forEach((instruction, index) => {
      const arrivals = this.#arrivals.get(index)
      if (arrivals) {
        if (tracer.reachable) arrivals.push(this.#leaving(index))
        tracer.moveTo(tracer.join(arrivals))
      }
      if (tracer.reachable) this.#translate(instruction, index)
    })
    const behind = (block: Block): Point => ({ ...this.#entry, block })
    return [behind(this.#accept), behind(this.#reject), behind(this.#short)]
  }

  /** Here, without what nobody reads behind `target`. */
  #leaving(target: number): Point {
    const point = { ...this.#tracer.point }
    const variables = new Map(point.variables)
    this.#keys.forEach((key, atom) => {
      if (((this.#live[target] >>> atom) & 1) === 0) variables.delete(key)
    })
    return { ...point, variables }
  }

  #translate({ code, k, yes, no }: Instruction, index: number): void {
    const decoded = decode(code)
    switch (decoded.op) {
      case 'load':
        return this.#set(
          A,
          decoded.indirect ? this.#indirect(k, decoded.size) : this.#absolute(k, decoded.size),
        )
      case 'alu':
        return this.#alu(decoded.operator, decoded.x ? this.#get(X) : BigInt(k))
      case 'jump':
        return this.#jump(decoded.test, decoded.x ? this.#get(X) : BigInt(k), yes, no)
      case 'other':
        break
    }
    switch (code) {
      case LOADX_HEADER: {
        const tracer = this.#tracer
        const low = tracer.alu('and', 32, this.#absolute(k, 1), 0xfn)
        return this.#set(X, tracer.alu('lsh', 32, low, 2n))
      }
      case LOAD_CONSTANT:
        return this.#set(A, BigInt(k))
      case LOAD_LENGTH: {
        const { data, end } = this.#tracer.point.packet
        const length =
          this.#reach === 'first buffer'
            ? this.#tracer.alu('sub', 64, end, data)
            : this.#tracer.call('xdp_get_buff_len', [this.#tracer.context])
        return this.#set(A, this.#tracer.alu('and', 64, length, LOW))
      }
      case LOAD_CELL:
        return this.#set(A, this.#get(k))
      case LOADX_CONSTANT:
        return this.#set(X, BigInt(k))
      case LOADX_CELL:
        return this.#set(X, this.#get(k))
      case STORE:
        return this.#set(k, this.#get(A))
      case STOREX:
        return this.#set(k, this.#get(X))
      case TAX:
        return this.#set(X, this.#get(A))
      case TXA:
        return this.#set(A, this.#get(X))
      case NEGATE:
        return this.#set(A, this.#tracer.alu('sub', 32, 0n, this.#get(A)))
      case JUMP:
        return this.#arrive(yes)
      case RETURN:
        return this.#tracer.terminate({
          op: 'jump',
          yes: { to: k === 0 ? this.#reject : this.#accept, args: [] },
        })
      default:
        throw new Error(`Instruction ${index} has the code ${code}, which is none`)
    }
  }

  #get(atom: number): Operand {
    return this.#tracer.readVariable(this.#keys[atom])
  }

  #set(atom: number, value: Operand): void {
    this.#tracer.writeVariable(this.#keys[atom], value)
  }

  /** Goes on at an instruction further down, and nowhere else. */
  #arrive(target: number): void {
    const arrivals = this.#arrivals.get(target) ?? []
    arrivals.push(this.#leaving(target))
    this.#arrivals.set(target, arrivals)
    this.#tracer.moveTo(undefined)
  }

  /** Bytes at a fixed offset. */
  #absolute(offset: number, size: Size): Operand {
    const tracer = this.#tracer
    if (this.#buffer !== undefined) {
      return offset > MAX_COPIED ? this.#never() : this.#copy(this.#buffer, BigInt(offset), size)
    }
    if (offset + size > MAX_OFFSET) return this.#never()
    return this.#load(tracer.point.packet.data, offset, size)
  }

  /** Bytes at X + `offset`. */
  #indirect(offset: number, size: Size): Operand {
    const tracer = this.#tracer
    const x = this.#get(X)
    if (typeof x === 'bigint') return this.#absolute(Number(x) + offset, size)
    if (this.#buffer !== undefined) {
      if (offset > MAX_COPIED) return this.#never()
      // The sum of two such numbers is not beyond 32 bits.
      this.#unless('<=', x, BigInt(MAX_COPIED))
      return this.#copy(this.#buffer, tracer.alu('add', 32, x, BigInt(offset)), size)
    }
    if (offset + size > MAX_OFFSET) return this.#never()
    // No packet that XDP sees in one buffer is as long as that.
    this.#unless('<=', x, BigInt(MAX_OFFSET), this.#short)
    const narrow = tracer.alu('and', 64, x, LOW)
    return this.#load(tracer.alu('add', 64, tracer.point.packet.data, narrow), offset, size)
  }

  #load(base: number, offset: number, size: Size): Operand {
    const tracer = this.#tracer
    const here = tracer.point
    const yes = tracer.newBlock(here.versions)
    tracer.terminate({
      op: 'bounds',
      base,
      size: offset + size,
      end: here.packet.end,
      yes: { to: yes, args: [] },
      no: { to: this.#short, args: [] },
    })
    tracer.moveTo({ ...here, block: yes })
    return this.#number(tracer.load('packet', SIZES[size], base, offset), size)
  }

  /** Bytes of whatever buffer. */
  #copy(buffer: number, offset: Operand, size: Size): Operand {
    const tracer = this.#tracer
    const to = tracer.stackAddress(buffer)
    const result = tracer.call('xdp_load_bytes', [tracer.context, offset, to, BigInt(size)], ['stack'])
    this.#unless('==', result, 0n)
    return this.#number(tracer.load('stack', SIZES[size], to, 0), size)
  }

  /** What bytes in the network's order say. */
  #number(raw: number, size: Size): Operand {
    if (size === 1) return raw
    const bits = size === 2 ? 16 : 32
    const value = this.#tracer.swap(bits, raw)
    this.#swapped.set(value, { raw, bits })
    return value
  }

  /** A load that cannot succeed here. What comes behind it in the list is not reached, but wants a value while it is translated. */
  #never(): Operand {
    const tracer = this.#tracer
    const here = tracer.point
    tracer.terminate({ op: 'jump', yes: { to: this.#short, args: [] } })
    tracer.moveTo({ ...here, block: tracer.newBlock(here.versions) })
    return 0n
  }

  /** Rejects the packet, or leads it elsewhere, unless the comparison holds. */
  #unless(comparison: Comparison, a: Operand, b: Operand, otherwise = this.#reject): void {
    const tracer = this.#tracer
    const here = tracer.point
    const yes = tracer.newBlock(here.versions)
    const edges = { yes: { to: yes, args: [] }, no: { to: otherwise, args: [] } }
    tracer.terminate({ op: 'branch', comparison, bits: 32, a, b, ...edges })
    tracer.moveTo({ ...here, block: yes })
  }

  #alu(operator: Operator, operand: Operand): void {
    const tracer = this.#tracer
    const a = this.#get(A)
    switch (operator) {
      case '/':
      case '%':
        if (typeof operand !== 'bigint') this.#unless('!=', operand, 0n)
        return this.#set(A, tracer.alu(operator === '/' ? 'div' : 'mod', 32, a, operand))
      case '<<':
      case '>>':
        return this.#shift(operator === '<<' ? 'lsh' : 'rsh', a, operand)
      default: {
        const value = tracer.alu(ALU[operator], 32, a, operand)
        const before = this.#swapped.get(a)
        if (operator === '&' && before && typeof operand === 'bigint') {
          const raw = tracer.alu('and', 32, before.raw, swapBytes(operand, before.bits))
          this.#swapped.set(value, { raw, bits: before.bits })
        }
        return this.#set(A, value)
      }
    }
  }

  /** Shifts by 32 and more give 0, as in libpcap; the machine would take the count modulo 32. */
  #shift(kind: 'lsh' | 'rsh', a: Operand, count: Operand): void {
    const tracer = this.#tracer
    if (typeof count === 'bigint') return this.#set(A, count > 31n ? 0n : tracer.alu(kind, 32, a, count))
    const large = tracer.branch('<', 32, count, 32n)
    this.#set(A, tracer.alu(kind, 32, a, count))
    const small = tracer.point
    tracer.moveTo(large)
    this.#set(A, 0n)
    tracer.moveTo(tracer.join([small, tracer.point]))
  }

  #jump(test: Tested, operand: Operand, yes: number, no: number): void {
    const tracer = this.#tracer
    let [a, b] = [this.#get(A), operand]
    if (yes === no) return this.#arrive(yes)
    const swapped = this.#swapped.get(a)
    if (swapped && typeof b === 'bigint' && (test === '=' || test === '&')) {
      const fits = b >> BigInt(swapped.bits) === 0n
      // What does not fit into the field is in none of them, and bits above it are never set.
      if (fits || test === '&') [a, b] = [swapped.raw, swapBytes(b, swapped.bits)]
    }
    const here = tracer.point
    const blocks = [tracer.newBlock(here.versions), tracer.newBlock(here.versions)]
    const [to, other] = blocks.map((block) => ({ to: block, args: [] }))
    tracer.terminate({ op: 'branch', comparison: COMPARISONS[test], bits: 32, a, b, yes: to, no: other })
    for (const [at, target] of [yes, no].entries()) {
      tracer.moveTo({ ...here, block: blocks[at] })
      this.#arrive(target)
    }
  }
}
