// Turns calls of the builder into blocks: where the next instruction goes, what variables hold there, what memory may look like.
import type { HelperName } from '../helpers.js'
import { roundUp } from '../codec.js'
import type { SourceLocation } from '../source.js'
import {
  type AluKind,
  type Bits,
  type Block,
  type Comparison,
  type Fn,
  type Inst,
  block,
  mapOperands,
} from './ir.js'
import type { Operand, Space, Terminator, Versions } from './ir.js'
import { oneStatement, programError, statementLocation } from './location.js'

/** Where the packet is, until it is moved: values of its first byte and of the byte behind its last. */
export interface PacketBase {
  readonly data: number
  readonly end: number
  readonly meta: number
}

/** The identity of a variable; what it holds is a matter of the path. */
export interface VariableKey {
  readonly name: string
}

/** A branch of the program, or the whole of it: what was found in one is known there, and in the branches within. */
export interface Scope {
  readonly outer: Scope | undefined
  readonly depth: number
  /** Where the stack ended when it began. */
  readonly stackTop: number
}

/** Whether whatever gets to `scope` has come by `outer`. */
export function isWithin(scope: Scope, outer: Scope): boolean {
  let one = scope
  while (one.outer && one.depth > outer.depth) one = one.outer
  return one === outer
}

/** The innermost branch that holds both. */
function commonScope(a: Scope, b: Scope): Scope {
  let one = a
  while (one.outer && !isWithin(b, one)) one = one.outer
  return one
}

/** Where the stack ends once every branch within `scope` that leads to a place has given back what it took. */
function stackTopIn(scope: Scope, point: Point): number {
  let { stackTop } = point
  for (let one = point.scope; one !== scope && one.outer; one = one.outer) ({ stackTop } = one)
  return stackTop
}

/** Everything that holds at one place of the program. */
export interface Point {
  block: Block
  scope: Scope
  variables: ReadonlyMap<VariableKey, Operand>
  versions: Versions
  packet: PacketBase
  stackTop: number
}

/** The kernel's limit on a program's stack (MAX_BPF_STACK). */
const STACK_BYTES = 512

type Untraced<T> = T extends { at: unknown } ? Omit<T, 'at'> : never

/** Traces one function: the program itself or a subprogram. */
export class Tracer {
  readonly fn: Fn
  /** The value of the context, r1 on entry. */
  readonly context: number
  /** What a short or malformed packet is answered with. */
  readonly otherwise: bigint
  /** Undefined where nothing can get: after a return. */
  #point: Point | undefined
  readonly #returns = new Map<bigint, Block>()
  /** Inside an attempt: where its checks failed so far. */
  #failures: Point[] | undefined
  #versions = 0
  #blocks = 0

  constructor(name: string, parameters: number, otherwise: bigint) {
    const params = Array.from({ length: parameters + 1 }, (_, index) => index)
    this.fn = { name, params, blocks: [], nextValue: params.length, stackBytes: 0 }
    this.context = 0
    this.otherwise = otherwise
    const versions = { context: 0, packet: 0, stack: 0, map: 0 }
    const entry = this.newBlock(versions)
    this.#point = {
      block: entry,
      scope: { outer: undefined, depth: 0, stackTop: 0 },
      variables: new Map(),
      versions,
      packet: { data: 0, end: 0, meta: 0 },
      stackTop: 0,
    }
    this.reloadPacket()
  }

  /** How many paths have returned so far, or failed within an attempt that is still going on. */
  returns = 0
  /** Whether the body has ended: nothing may be written any more. */
  finished = false
  /** Whether the packet is moved anywhere in this function. */
  movesPacket = false
  /** What was compared and is part of no decision yet, and where. */
  readonly unused = new Map<object, SourceLocation>()

  /** Whether anything written here could run. */
  get reachable(): boolean {
    return this.#point !== undefined
  }

  /** Where we are. Throws `OptionError` behind a return. */
  get point(): Point {
    if (this.finished) {
      throw programError(
        'statement',
        'This is of another program or function, which is finished',
        'Compute values and find headers in the program that uses them.',
      )
    }
    if (!this.#point) {
      throw programError(
        'statement',
        'This statement can never run: every path before it returns',
        'Remove it, or put the return into a branch.',
      )
    }
    return this.#point
  }

  /** Goes on at another place, or nowhere. */
  moveTo(point: Point | undefined): void {
    this.#point = point
  }

  newBlock(versions: Versions): Block {
    const made = block(this.#blocks++, versions)
    this.fn.blocks.push(made)
    return made
  }

  newValue(): number {
    return this.fn.nextValue++
  }

  /** Appends an instruction. */
  emit(inst: Untraced<Inst>, at: SourceLocation | undefined = statementLocation()): void {
    this.point.block.insts.push({ ...inst, at })
  }

  alu(kind: AluKind, bits: Bits, a: Operand, b: Operand): number {
    const dst = this.newValue()
    this.emit({ op: 'alu', dst, kind, bits, a, b })
    return dst
  }

  swap(bits: 16 | 32 | 64, a: Operand): number {
    const dst = this.newValue()
    this.emit({ op: 'swap', dst, bits, a })
    return dst
  }

  load(space: Space, size: 'u8' | 'u16' | 'u32' | 'u64', base: number, offset: number): number {
    const dst = this.newValue()
    this.emit({ op: 'load', dst, size, base, offset, space, version: this.point.versions[space] })
    return dst
  }

  store(
    space: Space,
    size: 'u8' | 'u16' | 'u32' | 'u64',
    base: number,
    offset: number,
    value: Operand,
  ): void {
    this.emit({ op: 'store', size, base, offset, value, space })
    this.changed(space)
  }

  /** Calls a helper. `changes` says which memory it may write. */
  call(helper: HelperName, args: Operand[], changes: readonly Space[] = []): number {
    const dst = this.newValue()
    this.emit({ op: 'call', dst, helper, args })
    this.changed(...changes)
    return dst
  }

  /** What is in these spaces may be different from now on. */
  changed(...spaces: Space[]): void {
    if (spaces.length === 0) return
    const versions = { ...this.point.versions }
    for (const space of spaces) versions[space] = ++this.#versions
    this.point.versions = versions
  }

  /** Loads the packet's place again: on entry, and after it moved. Every cursor made before is void from here on. */
  reloadPacket(): void {
    this.changed('context', 'packet')
    this.point.packet = oneStatement(() => ({
      // include/uapi/linux/bpf.h, struct xdp_md: data, data_end, data_meta
      data: this.load('context', 'u32', this.context, 0),
      end: this.load('context', 'u32', this.context, 4),
      meta: this.load('context', 'u32', this.context, 8),
    }))
  }

  /** The packet has just been moved. */
  movePacket(): void {
    this.movesPacket = true
    this.reloadPacket()
  }

  /** A piece of the stack, as its offset from the top: negative, a multiple of 8. It is free again when the branch ends. */
  allocate(size: number): number {
    const top = this.point.stackTop + roundUp(size, 8)
    if (top > STACK_BYTES) {
      throw programError(
        'stack',
        `The program's structs take ${top} bytes of stack; there are ${STACK_BYTES}`,
        'Keep large structs in a per-CPU array, or move a part of the program into a subprogram.',
      )
    }
    this.point.stackTop = top
    this.fn.stackBytes = Math.max(this.fn.stackBytes, top)
    return -top
  }

  /** The address of a piece of the stack. */
  stackAddress(offset: number): number {
    const dst = this.newValue()
    this.emit({ op: 'stack', dst, offset })
    return dst
  }

  /** Ends the block; nothing can be written until `moveTo`. */
  terminate(end: Untraced<Terminator>, at: SourceLocation | undefined = statementLocation()): void {
    this.point.block.end = { ...end, at }
    if (end.op === 'return') this.returns++
    this.#point = undefined
  }

  /** Branches, and goes on in `yes`; gives the place of `no`. */
  branch(comparison: Comparison, bits: Bits, a: Operand, b: Operand): Point {
    const point = this.point
    const [yes, no] = [this.newBlock(point.versions), this.newBlock(point.versions)]
    this.terminate({
      op: 'branch',
      comparison,
      bits,
      a,
      b,
      yes: { to: yes, args: [] },
      no: { to: no, args: [] },
    })
    this.#point = { ...point, block: yes }
    return { ...point, block: no }
  }

  /** Returns `verdict` unless the comparison holds; without a verdict it fails as any check does. */
  unless(comparison: Comparison, bits: Bits, a: Operand, b: Operand, verdict?: bigint): void {
    const point = this.point
    const yes = this.newBlock(point.versions)
    this.terminate({
      op: 'branch',
      comparison,
      bits,
      a,
      b,
      yes: { to: yes, args: [] },
      no: { to: this.#failed(verdict), args: [] },
    })
    this.#point = { ...point, block: yes }
  }

  /** Returns `verdict` unless `size` bytes from `base` are in the packet; without a verdict it fails as any check does. */
  needBytes(base: number, size: number, verdict?: bigint, end = this.point.packet.end): void {
    const point = this.point
    const yes = this.newBlock(point.versions)
    const no = this.#failed(verdict)
    this.terminate({
      op: 'bounds',
      base,
      size,
      end,
      yes: { to: yes, args: [] },
      no: { to: no, args: [] },
    })
    this.#point = { ...point, block: yes }
  }

  /** What a failed check does: ends the program with `otherwise`, or leaves the attempt that we are in. */
  fail(): void {
    this.terminate({ op: 'jump', yes: { to: this.#failed(undefined), args: [] } })
  }

  /** Traces `body`, and gives the places where checks in it failed. */
  attempt(body: () => void): Point[] {
    const outer = this.#failures
    const failures: Point[] = []
    this.#failures = failures
    try {
      body()
    } finally {
      this.#failures = outer
    }
    this.returns -= failures.length
    return failures
  }

  #failed(verdict: bigint | undefined): Block {
    if (verdict !== undefined || !this.#failures) return this.#return(verdict ?? this.otherwise)
    this.returns++
    const point = this.point
    const no = this.newBlock(point.versions)
    this.#failures.push({ ...point, block: no })
    return no
  }

  // One block a verdict, so that checks which fail alike can be told to be alike.
  #return(verdict: bigint): Block {
    this.returns++
    let made = this.#returns.get(verdict)
    if (!made) {
      made = this.newBlock({ context: -1, packet: -1, stack: -1, map: -1 })
      made.end = { op: 'return', value: verdict, at: statementLocation() }
      this.#returns.set(verdict, made)
    }
    return made
  }

  /** One place for several: what differs between them becomes a parameter. */
  join(points: readonly Point[]): Point | undefined {
    if (points.length < 2) return points[0]
    const [first, ...rest] = points
    const versions = { ...first.versions }
    for (const space of ['context', 'packet', 'stack', 'map'] as const) {
      if (rest.some((point) => point.versions[space] !== versions[space])) versions[space] = ++this.#versions
    }
    const target = this.newBlock(versions)
    const variables = new Map<VariableKey, Operand>()
    const args: Operand[][] = points.map(() => [])
    for (const [key, operand] of first.variables) {
      const operands = points.map((point) => point.variables.get(key))
      if (operands.some((one) => one === undefined)) continue
      if (operands.every((one) => one === operand)) {
        variables.set(key, operand)
        continue
      }
      const param = this.newValue()
      target.params.push(param)
      operands.forEach((one, index) => args[index].push(one!))
      variables.set(key, param)
    }
    points.forEach((point, index) => {
      point.block.end = { op: 'jump', yes: { to: target, args: args[index] }, at: undefined }
    })
    const scope = points.map((point) => point.scope).reduce(commonScope)
    const stackTop = Math.min(...points.map((point) => stackTopIn(scope, point)))
    const point: Point = { block: target, scope, variables, versions, packet: first.packet, stackTop }
    if (rest.some(({ packet }) => packet !== first.packet)) {
      // On one path the packet moved: behind the join nobody knows where it is.
      const here = this.#point
      this.#point = point
      this.reloadPacket()
      this.#point = here
    }
    return point
  }

  /** Takes a join back, as far as only straight code was written since, and puts that code behind `onto` instead. */
  unjoin(join: Point, onto: Point): Map<number, Operand> {
    const renamed = new Map<number, Operand>()
    if (join.block !== onto.block) {
      const end = onto.block.end
      const args = end?.op === 'jump' && end.yes.to === join.block ? end.yes.args : []
      join.block.params.forEach((param, index) => renamed.set(param, args[index]))
      const rename = (operand: Operand): Operand =>
        typeof operand === 'number' ? (renamed.get(operand) ?? operand) : operand
      for (const inst of join.block.insts) {
        const moved = mapOperands(inst, rename)
        if (moved.op === 'load' && moved.version === join.block.versions[moved.space]) {
          moved.version = onto.versions[moved.space]
        }
        onto.block.insts.push(moved)
      }
      join.block.insts = []
      onto.block.end = undefined
    }
    return renamed
  }

  /** The head of a loop: every variable becomes a parameter, and memory may look like anything. */
  loopHead(at: SourceLocation | undefined): { head: Block; keys: VariableKey[] } {
    const before = this.point
    const versions = {
      context: before.versions.context,
      packet: ++this.#versions,
      stack: ++this.#versions,
      map: ++this.#versions,
    }
    const head = this.newBlock(versions)
    const keys = [...before.variables.keys()]
    const variables = new Map<VariableKey, Operand>()
    for (const key of keys) {
      const param = this.newValue()
      head.params.push(param)
      variables.set(key, param)
    }
    this.terminate({ op: 'jump', yes: { to: head, args: keys.map((key) => before.variables.get(key)!) } }, at)
    this.#point = { ...before, block: head, variables, versions }
    return { head, keys }
  }

  readVariable(key: VariableKey): Operand {
    const operand = this.point.variables.get(key)
    if (operand === undefined) {
      throw programError(
        'let',
        'This variable has no value here: it was made in a branch that not every path takes',
        'Call x.let before the branch.',
      )
    }
    return operand
  }

  writeVariable(key: VariableKey, operand: Operand): void {
    const variables = new Map(this.point.variables)
    variables.set(key, operand)
    this.point.variables = variables
  }
}
