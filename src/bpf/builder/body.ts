// How a program's body is written: values, variables, structs, and where control goes.
import type { AnyCodec } from '../codec.js'
import { type Block, type Operand, isPure } from './ir.js'
import { type Kind, constant, shown } from './kinds.js'
import { oneStatement, programError, statementLocation } from './location.js'
import { type Init, initialize, placeHere } from './memory.js'
import {
  type Branches,
  Local,
  type LoopControl,
  type Maybe,
  type Outcome,
  VerdictValue,
  verdictNumber,
} from './results.js'
import type { Point, Tracer, VariableKey } from './trace.js'
import type { Verdict } from '../constants.js'
import { type Condition, type Term, type Test, Value, Variable, mapTest, operandIn, testOf } from './value.js'

/** Values and control flow of a program (`R` is a verdict) or of a function (a value). */
export class Body<R> {
  /** For the builder's own use. */
  readonly tracer: Tracer
  readonly #resultKind: Kind | undefined

  constructor(tracer: Tracer, resultKind?: Kind) {
    this.tracer = tracer
    this.#resultKind = resultKind
  }

  // Values

  u8(value: number): Value<'u8'> {
    return this.value('u8', value)
  }
  u16(value: number): Value<'u16'> {
    return this.value('u16', value)
  }
  u32(value: number): Value<'u32'> {
    return this.value('u32', value)
  }
  u64(value: number | bigint): Value<'u64'> {
    return this.value('u64', value)
  }
  s32(value: number): Value<'s32'> {
    return this.value('s32', value)
  }
  s64(value: number | bigint): Value<'s64'> {
    return this.value('s64', value)
  }
  /** A constant of any type. */
  value<K extends Kind>(kind: K, value: number | bigint): Value<K> {
    return new Value(this.tracer, kind, constant(kind, value))
  }
  /** A variable that starts as `value`. */
  let<K extends Kind>(value: Value<K>): Variable<K> {
    if (!(value instanceof Value)) {
      const hint = 'Make a value of it: x.u32(…).'
      throw programError('value', `${shown(value)} is no value of the program`, hint)
    }
    return new Variable(this.tracer, value)
  }
  /** One value or the other. Both are computed. */
  select<K extends Kind>(condition: Condition, yes: Value<K>, no: Term<K>): Value<K> {
    const result = this.let(yes)
    this.if(condition.not(), () => result.set(no))
    return result.value
  }
  /** A struct on the stack. Members that `init` leaves out are zero. */
  struct<C extends AnyCodec>(codec: C, init?: Init<C>): Local<C> {
    return oneStatement(() => {
      const local = this.uninitialized(codec)
      initialize(local.place, codec, init)
      return local
    })
  }
  /** A piece of the stack for a codec's type, of which every byte is for you to write before it is read. */
  uninitialized<C extends AnyCodec>(codec: C): Local<C> {
    const base = this.tracer.stackAddress(this.tracer.allocate(codec.size))
    return new Local(placeHere(this.tracer, 'stack', base), codec)
  }
  /** A verdict from a number that the program computed, as XDP_PASS is 2. */
  verdict(value: Value<'u32'>): VerdictValue {
    return new VerdictValue(operandIn(this.tracer, value))
  }

  // Control

  /** Ends the program here. Nothing may follow on this path. */
  return(result: R): void {
    this.tracer.terminate({ op: 'return', value: this.#result(result) })
  }

  /** Goes on only where the condition holds; elsewhere the program ends, with `result` or its `otherwise`. */
  require(condition: Condition, result?: R): void {
    oneStatement(() => {
      const value = result === undefined ? undefined : this.#result(result)
      const [yes, no] = this.#split(testOf(condition, this.tracer))
      this.tracer.moveTo(no)
      if (no) {
        if (value === undefined) this.tracer.fail()
        else this.tracer.terminate({ op: 'return', value })
      }
      this.tracer.moveTo(yes)
    })
  }

  /** Does what a failed check does: ends the program with its `otherwise`, or leaves the attempt. Nothing may follow on this path. */
  fail(): void {
    this.tracer.fail()
  }

  /**
   * Runs `body`; where a packet is too short for a header that it looks at, or what it requires does not hold, the program does
   * not end: it runs `failed`, if given, and goes on behind. Variables then hold what they held when the check failed.
   */
  attempt(body: () => Outcome<R>, failed: () => Outcome<R> = () => undefined): void {
    const { tracer } = this
    const { stackTop, scope } = tracer.point
    const ends: Point[] = []
    const failures = tracer.attempt(() => ends.push(...this.trace(tracer.point, body)))
    const at = tracer.join(failures)
    ends.push(...this.trace(at && { ...at, stackTop, scope }, failed))
    tracer.moveTo(tracer.join(ends))
  }

  /**
   * Runs `body` where the condition holds. What the body gives back, if anything, is returned from the program. `.elseIf` and
   * `.else` must follow directly; a condition written there is only computed when it is reached.
   */
  if(condition: Condition, body: () => Outcome<R>): Branches<R> {
    const [yes, no] = this.#split(testOf(condition, this.tracer))
    const ends = this.trace(yes, body)
    return this.branches(ends, no)
  }

  /** Runs `body` where the pointer points to something. */
  ifPresent<T>(maybe: Maybe<T>, body: (found: T) => Outcome<R>): Branches<R> {
    const { tracer } = this
    const no = tracer.branch('!=', 64, maybe.pointer, 0n)
    const ends = this.trace(tracer.point, () => body(maybe.refer()))
    return this.branches(ends, no)
  }

  /**
   * Runs `body` `times` times (a number known now, at least 1) with the round's number, until `break`. A loop at run time
   * (kernel 5.3); a JavaScript `for` around statements repeats their code instead, which is quicker for a few rounds.
   */
  loop(times: number, body: (round: Value<'u32'>, loop: LoopControl) => Outcome<R>): void {
    if (!Number.isInteger(times) || times < 1 || times > 1 << 23) {
      throw programError('times', `A loop of ${times} rounds; it can be 1 to ${1 << 23}`)
    }
    const { tracer } = this
    const at = statementLocation()
    const index: VariableKey = { name: 'round' }
    tracer.writeVariable(index, 0n)
    const { head, keys } = tracer.loopHead(at)
    const headPacket = tracer.point.packet
    const breaks: Point[] = []
    const continues: Point[] = []
    let isWritten = false
    const leave = (points: Point[]) => () => {
      if (isWritten) throw programError('loop', 'This loop has ended: it can be left only from within')
      points.push(tracer.point)
      tracer.moveTo(undefined)
    }
    const round = new Value(tracer, 'u32', tracer.readVariable(index))
    continues.push(
      ...this.trace(tracer.point, () => body(round, { break: leave(breaks), continue: leave(continues) })),
    )
    isWritten = true
    const next = tracer.join(continues)
    tracer.moveTo(next)
    if (next) {
      if (next.packet !== headPacket) {
        throw programError(
          'loop',
          'The packet is moved inside a loop that goes on afterwards',
          'Leave the loop behind adjustHead or adjustTail.',
          at,
        )
      }
      tracer.writeVariable(index, tracer.alu('add', 32, tracer.readVariable(index), 1n))
      const end = tracer.branch('<', 32, tracer.readVariable(index), BigInt(times))
      tracer.terminate(
        { op: 'jump', yes: { to: head, args: keys.map((key) => tracer.point.variables.get(key)!) } },
        at,
      )
      breaks.push(end)
    }
    const after = tracer.join(breaks)
    tracer.moveTo(after)
  }
  /** For the builder's own use: ends what is open at the end of the body. */
  finish(outcome: Outcome<R>): void {
    const { tracer } = this
    if (tracer.reachable) {
      const value = outcome === undefined ? tracer.otherwise : this.#result(outcome)
      tracer.terminate({ op: 'return', value })
    }
    for (const at of tracer.unused.values()) {
      throw programError(
        'condition',
        "This is compared and nothing depends on it: JavaScript's own if, &&, || and ! do not know what the packet holds",
        'Use x.if, x.require, .and, .or and .not, or take it out.',
        at,
      )
    }
    tracer.finished = true
  }

  #result(result: R): Operand {
    if (result instanceof VerdictValue) return result.operand
    if (this.#resultKind) return new Value(this.tracer, this.#resultKind, 0n).term(result as Term<Kind>)
    return verdictNumber(result as Verdict)
  }

  /** Runs a body at a place, and gives where it ends: nowhere or one place. */
  protected trace(at: Point | undefined, body: () => Outcome<R>): Point[] {
    if (typeof body !== 'function') {
      throw programError('body', `${shown(body)} is no body: a function that writes what is to run`)
    }
    if (!at) return []
    const { tracer } = this
    const { stackTop, scope } = at
    tracer.moveTo({ ...at, scope: { outer: scope, depth: scope.depth + 1, stackTop } })
    const outcome = body()
    if (!tracer.reachable) return []
    if (outcome !== undefined) {
      this.return(outcome)
      return []
    }
    const end = tracer.point
    tracer.moveTo(undefined)
    return [end]
  }

  /** Goes on behind a branch. When `.else` follows, that is taken back and the code written for its condition moves there. */
  protected branches(ends: Point[], no: Point | undefined): Branches<R> {
    const { tracer } = this
    const onto = no && { ...no }
    const join = tracer.join(onto ? [...ends, onto] : ends)
    tracer.moveTo(join)
    const start = join && { point: join, variables: join.variables, inserted: join.block.insts.length }
    const back = (): Map<number, Operand> => {
      if (!start || !onto) {
        // The condition is known: there is no other branch, and nothing to take back.
        return new Map()
      }
      const here = tracer.reachable ? tracer.point : undefined
      const added = start.point.block.insts.slice(start.inserted)
      if (here?.block !== start.point.block || here.variables !== start.variables || !added.every(isPure)) {
        throw programError(
          'else',
          '.elseIf and .else must follow x.if directly',
          'Write conditions that need a header check as an x.if inside .else.',
        )
      }
      const renamed = tracer.unjoin(start.point, onto)
      tracer.moveTo({ ...onto })
      return renamed
    }
    const elseIf = (condition: Condition | undefined, body: () => Outcome<R>): Branches<R> => {
      const renamed = back()
      if (!onto) {
        if (condition) testOf(condition, tracer)
        return this.branches(ends, undefined)
      }
      const rename = (operand: Operand): Operand =>
        typeof operand === 'number' ? (renamed.get(operand) ?? operand) : operand
      const [yes, rest] = condition
        ? this.#split(mapTest(testOf(condition, tracer), rename))
        : [tracer.point, undefined]
      const more = this.trace(yes, body)
      return this.branches([...ends, ...more], rest)
    }
    return { elseIf, else: (body) => void elseIf(undefined, body) }
  }

  /** Tests a condition, and gives the places where it holds and where not. */
  #split(test: Test): [Point | undefined, Point | undefined] {
    const { tracer } = this
    const point = tracer.point
    if (test.op === 'constant') return test.value ? [point, undefined] : [undefined, point]
    const yes = tracer.newBlock(point.versions)
    const no = tracer.newBlock(point.versions)
    oneStatement(() => this.#test(test, yes, no))
    return [
      { ...point, block: yes },
      { ...point, block: no },
    ]
  }

  #test(test: Test, yes: Block, no: Block): void {
    const { tracer } = this
    if (test.op === 'not') return this.#test(test.test, no, yes)
    if (test.op === 'constant') {
      tracer.terminate({ op: 'jump', yes: { to: test.value ? yes : no, args: [] } })
    } else if (test.op === 'compare') {
      const { comparison, bits, a, b } = test
      tracer.terminate({
        op: 'branch',
        comparison,
        bits,
        a,
        b,
        yes: { to: yes, args: [] },
        no: { to: no, args: [] },
      })
    } else {
      const point = tracer.point
      const middle = tracer.newBlock(point.versions)
      if (test.op === 'and') this.#test(test.left, middle, no)
      else this.#test(test.left, yes, middle)
      tracer.moveTo({ ...point, block: middle })
      this.#test(test.right, yes, no)
    }
  }
}
