// Values of a program: typed integers in registers, what can be computed from them, and the conditions they make.
import type { AluKind, Bits, Comparison, Operand } from './ir.js'
import { type Host, KINDS, type Kind, type Network, constant, hostKind, infoOf, shown } from './kinds.js'
import type { OptionError } from '../../kernel/errors.js'
import { oneStatement, ownLocation, programError } from './location.js'
import type { Tracer } from './trace.js'

/** What an operation takes beside the value itself: another of the same type, or a number that fits it. */
export type Term<K extends Kind> = Value<K> | number | bigint

/** How far to shift: a number, or any unsigned value, of which the lower 5 (6 for 64-bit values) bits count. */
export type ShiftCount = number | Value<'u8'> | Value<'u16'> | Value<'u32'> | Value<'u64'>

/**
 * An integer of the running program. Computing happens where it is written, once; results wrap as the type does.
 *
 * A `be…` value is as it lies in the packet: comparing it with a number, and `and`, `or` and `xor`, cost nothing, because the
 * number is swapped when the program is built. Arithmetic and ordering bring it into the machine's order first.
 */
export class Value<K extends Kind = Kind> {
  readonly kind: K
  /** For the builder's own use. */
  readonly operand: Operand
  /** For the builder's own use. */
  readonly tracer: Tracer

  constructor(tracer: Tracer, kind: K, operand: Operand) {
    this.tracer = tracer
    this.kind = kind
    this.operand = operand
  }

  add(other: Term<K>): Value<Host<K>> {
    return this.#wrapped('add', other)
  }
  sub(other: Term<K>): Value<Host<K>> {
    return this.#wrapped('sub', other)
  }
  mul(other: Term<K>): Value<Host<K>> {
    return this.#wrapped('mul', other)
  }
  /** Towards zero. Dividing by zero gives 0. */
  div(other: Term<K>): Value<Host<K>> {
    return this.#divided('div', other)
  }
  /** With the sign of this value. Modulo zero gives the value itself. */
  mod(other: Term<K>): Value<Host<K>> {
    return this.#divided('mod', other)
  }
  and(other: Term<K>): Value<K> {
    return this.#make(this.kind, this.#alu('and', this.operand, this.term(other)))
  }
  or(other: Term<K>): Value<K> {
    return this.#make(this.kind, this.#alu('or', this.operand, this.term(other)))
  }
  xor(other: Term<K>): Value<K> {
    return this.#make(this.kind, this.#alu('xor', this.operand, this.term(other)))
  }
  /** Every bit the other way. */
  not(): Value<K> {
    const { bits, signed } = KINDS[this.kind]
    const all = (1n << BigInt(signed && bits < 64 ? 32 : bits)) - 1n
    return this.#make(this.kind, this.#alu('xor', this.operand, all))
  }
  neg(): Value<Host<K>> {
    const host = this.host()
    return host.#normal(host.#alu('sub', 0n, host.operand)) as Value as Value<Host<K>>
  }
  shl(count: ShiftCount): Value<Host<K>> {
    const host = this.host()
    return host.#normal(host.#alu('lsh', host.operand, this.#count(count))) as Value as Value<Host<K>>
  }
  /** Fills up with zeros, for signed values with the sign. */
  shr(count: ShiftCount): Value<Host<K>> {
    const host = this.host()
    const kind = KINDS[host.kind].signed ? 'arsh' : 'rsh'
    return host.#make(host.kind, host.#alu(kind, host.operand, this.#count(count)))
  }

  eq(other: Term<K>): Condition {
    return this.#compare('==', this.operand, this.term(other))
  }
  ne(other: Term<K>): Condition {
    return this.#compare('!=', this.operand, this.term(other))
  }
  lt(other: Term<K>): Condition {
    return this.#order('<', other)
  }
  le(other: Term<K>): Condition {
    return this.#order('<=', other)
  }
  gt(other: Term<K>): Condition {
    return this.#order('>', other)
  }
  ge(other: Term<K>): Condition {
    return this.#order('>=', other)
  }
  /** From `low` to `high`, both included. */
  between(low: Term<K>, high: Term<K>): Condition {
    return oneStatement(() => this.#order('>=', low).and(this.#order('<=', high)))
  }
  /** One of a few. */
  in(others: readonly Term<K>[]): Condition {
    return others
      .map((other) => this.eq(other))
      .reduce((some, one) => some.or(one), new Condition({ op: 'constant', value: false }))
  }
  /** Some of these bits are set. */
  hasAny(bits: Term<K>): Condition {
    return this.#compare('&', this.operand, this.term(bits))
  }
  /** None of these bits is set. */
  hasNone(bits: Term<K>): Condition {
    return this.#compare('!&', this.operand, this.term(bits))
  }

  /** In the machine's byte order. */
  host(): Value<Host<K>> {
    const { bits, network } = KINDS[this.kind]
    if (!network) return this as unknown as Value<Host<K>>
    const swapped = this.tracer.swap(bits as 16 | 32 | 64, this.operand)
    return this.#make(hostKind(this.kind) as Host<K>, swapped)
  }
  /** In the network's byte order: for 16, 32 and 64 unsigned bits. */
  network(): Value<Network<K>> {
    const { bits, network, signed } = KINDS[this.kind]
    if (network) return this as unknown as Value<Network<K>>
    if (signed || bits === 8) throw programError('network', `A ${this.kind} has no byte order`)
    return this.#make(`be${bits}` as Network<K>, this.tracer.swap(bits, this.operand))
  }
  u8(): Value<'u8'> {
    return this.as('u8')
  }
  u16(): Value<'u16'> {
    return this.as('u16')
  }
  u32(): Value<'u32'> {
    return this.as('u32')
  }
  u64(): Value<'u64'> {
    return this.as('u64')
  }
  s32(): Value<'s32'> {
    return this.as('s32')
  }
  s64(): Value<'s64'> {
    return this.as('s64')
  }
  /** As another type, as C casts it: cut to the width, extended by this type's sign, swapped where byte orders differ. */
  as<T extends Kind>(kind: T): Value<T> {
    const wanted: Kind = kind
    infoOf(kind)
    if (wanted === this.kind) return this as unknown as Value<T>
    const to = KINDS[kind]
    if (to.network) {
      const host = this.as(hostKind(kind))
      return this.#make(kind, this.tracer.swap(to.bits as 16 | 32 | 64, host.operand))
    }
    const from = this.host() as Value
    const source = KINDS[from.kind]
    if (to.bits === 64)
      return this.#make(kind, source.signed && source.bits < 64 ? from.#extended() : from.operand)
    // The wide upper half goes first.
    const cut = source.bits === 64 ? this.tracer.alu('and', 64, from.operand, 0xffff_ffffn) : from.operand
    const fits =
      to.bits > source.bits
        ? !source.signed || to.bits === 32 || to.signed
        : to.bits === source.bits && to.signed === source.signed
    if (fits) return this.#make(kind, cut)
    return new Value<Kind>(this.tracer, kind, cut).#normal(cut) as Value as Value<T>
  }

  /** The register contents of the other operand. */
  term(other: Term<K>): Operand {
    if (!(other instanceof Value)) return constant(this.kind, other)
    if (other.kind !== this.kind) {
      throw programError(
        'value',
        `A ${this.kind} meets a ${other.kind}`,
        `Convert one of them: .as('${this.kind}').`,
      )
    }
    return operandIn(this.tracer, other)
  }

  #hostTerm(other: Term<K>): Operand {
    return other instanceof Value
      ? new Value(this.tracer, this.kind, this.term(other)).host().operand
      : constant(hostKind(this.kind), other)
  }

  #wrapped(kind: AluKind, other: Term<K>): Value<Host<K>> {
    const host = this.host()
    return host.#normal(host.#alu(kind, host.operand, this.#hostTerm(other))) as Value as Value<Host<K>>
  }

  #divided(kind: 'div' | 'mod', other: Term<K>): Value<Host<K>> {
    const host = this.host()
    const { bits, signed } = KINDS[host.kind]
    const divisor = this.#hostTerm(other)
    if (!signed) return host.#make(host.kind, host.#alu(kind, host.operand, divisor))
    // Signed division came with kernel 6.6; this does the same with unsigned: of the magnitudes, then the sign.
    const top = BigInt(bits === 64 ? 63 : 31)
    const sign = host.#alu('arsh', host.operand, top)
    const otherSign = host.#alu('arsh', divisor, top)
    const magnitude = (value: Operand, mask: Operand): number =>
      host.#alu('sub', host.#alu('xor', value, mask), mask)
    const result = host.#alu(kind, magnitude(host.operand, sign), magnitude(divisor, otherSign))
    const signedResult = magnitude(result, kind === 'div' ? host.#alu('xor', sign, otherSign) : sign)
    return host.#normal(signedResult) as Value as Value<Host<K>>
  }

  #count(count: ShiftCount): Operand {
    const { bits } = KINDS[this.kind]
    if (count instanceof Value) return operandIn(this.tracer, count)
    if (!Number.isInteger(count) || count < 0 || count >= bits) {
      throw programError('count', `A ${this.kind} cannot be shifted by ${shown(count)}`)
    }
    return BigInt(count)
  }

  #order(comparison: '<' | '<=' | '>' | '>=', other: Term<K>): Condition {
    const host = this.host()
    return host.#compare(
      KINDS[host.kind].signed ? `s${comparison}` : comparison,
      host.operand,
      this.#hostTerm(other),
    )
  }

  /** Throws: JavaScript's own operators do not know what the packet holds. */
  [Symbol.toPrimitive](): never {
    throw programError(
      'value',
      "JavaScript's own operators know nothing of a value that only the running program has",
      'Use its methods: .add, .eq, .lt and so on.',
    )
  }

  #compare(comparison: Comparison, a: Operand, b: Operand): Condition {
    return new Condition({ op: 'compare', tracer: this.tracer, comparison, bits: this.#bits, a, b })
  }

  #alu(kind: AluKind, a: Operand, b: Operand): number {
    return this.tracer.alu(kind, this.#bits, a, b)
  }

  get #bits(): Bits {
    return KINDS[this.kind].bits === 64 ? 64 : 32
  }

  #make<T extends Kind>(kind: T, operand: Operand): Value<T> {
    return new Value(this.tracer, kind, operand)
  }

  /** Brings what a 32-bit operation left into the form of this type. */
  #normal(operand: Operand): Value<Host<K>> {
    const { bits, signed } = KINDS[this.kind]
    const host = hostKind(this.kind) as Host<K>
    if (bits >= 32) return this.#make(host, operand)
    if (!signed) return this.#make(host, this.tracer.alu('and', 32, operand, (1n << BigInt(bits)) - 1n))
    const unused = BigInt(32 - bits)
    return this.#make(host, this.tracer.alu('arsh', 32, this.tracer.alu('lsh', 32, operand, unused), unused))
  }

  #extended(): Operand {
    return this.tracer.alu('arsh', 64, this.tracer.alu('lsh', 64, this.operand, 32n), 32n)
  }
}

/** The register contents of a value. Throws `OptionError` when it is another program's, or another function's. */
export function operandIn(tracer: Tracer, value: Value): Operand {
  if (value.tracer === tracer) return value.operand
  throw strange()
}

const strange = (): OptionError =>
  programError(
    'value',
    'This value is of another program or function',
    'Compute it here; a function gets values as arguments (x.call), another program by a map.',
  )

/** What a condition is made of, for `tracer`'s program if any. Throws `OptionError` for what is no condition. */
export function testOf(condition: Condition, tracer?: Tracer): Test {
  if (!(condition instanceof Condition)) {
    const hint = 'Compare values: value.ne(0).'
    throw programError('condition', `${shown(condition)} is no condition`, hint)
  }
  if (tracer && isStrange(condition.test, tracer)) throw strange()
  return condition.use()
}

/** Whose program a condition is of; nobody's if it always holds, or never. */
function tracerOf(test: Test): Tracer | undefined {
  if (test.op === 'constant') return undefined
  if (test.op === 'compare') return test.tracer
  return test.op === 'not' ? tracerOf(test.test) : (tracerOf(test.left) ?? tracerOf(test.right))
}

function isStrange(test: Test, tracer: Tracer): boolean {
  if (test.op === 'constant') return false
  if (test.op === 'compare') return test.tracer !== tracer
  if (test.op === 'not') return isStrange(test.test, tracer)
  return isStrange(test.left, tracer) || isStrange(test.right, tracer)
}

/** What a condition is made of. */
export type Test =
  | { op: 'constant'; value: boolean }
  | { op: 'compare'; tracer: Tracer; comparison: Comparison; bits: Bits; a: Operand; b: Operand }
  | { op: 'and' | 'or'; left: Test; right: Test }
  | { op: 'not'; test: Test }

/** Something that holds or does not when the program runs: what `x.if` takes. */
export class Condition {
  /** For the builder's own use. */
  readonly test: Test

  constructor(test: Test) {
    this.test = test
    const at = ownLocation()
    if (at) tracerOf(test)?.unused.set(test, at)
  }

  /** For the builder's own use: something depends on it. */
  use(): Test {
    tracerOf(this.test)?.unused.delete(this.test)
    return this.test
  }

  /** Both hold. The other is not tested when this one fails. */
  and(other: Condition): Condition {
    return new Condition({ op: 'and', left: this.use(), right: testOf(other) })
  }
  /** At least one holds. The other is not tested when this one holds. */
  or(other: Condition): Condition {
    return new Condition({ op: 'or', left: this.use(), right: testOf(other) })
  }
  not(): Condition {
    return new Condition({ op: 'not', test: this.use() })
  }

  /** Throws: JavaScript's own operators do not know what the packet holds. */
  [Symbol.toPrimitive](): never {
    throw programError(
      'condition',
      "JavaScript's own operators know nothing of a condition that only the running program has",
      'Use x.if, x.require, .and, .or and .not.',
    )
  }
}

/** Replaces the operands of a condition. */
export function mapTest(test: Test, map: (operand: Operand) => Operand): Test {
  switch (test.op) {
    case 'constant':
      return test
    case 'compare':
      return { ...test, a: map(test.a), b: map(test.b) }
    case 'not':
      return { op: 'not', test: mapTest(test.test, map) }
    default:
      return { op: test.op, left: mapTest(test.left, map), right: mapTest(test.right, map) }
  }
}

/** A variable: holds one value at a time, another on each path if you like. */
export class Variable<K extends Kind = Kind> {
  readonly kind: K
  readonly #tracer: Tracer
  readonly #key: { readonly name: string }

  /** Made by `x.let`. */
  constructor(tracer: Tracer, initial: Value<K>) {
    this.#tracer = tracer
    this.kind = initial.kind
    this.#key = { name: this.kind }
    tracer.writeVariable(this.#key, operandIn(tracer, initial))
  }

  /** What it holds here and now; later `set`s do not change the value you got. */
  get value(): Value<K> {
    return new Value(this.#tracer, this.kind, this.#tracer.readVariable(this.#key))
  }

  set(value: Term<K>): void {
    this.#tracer.readVariable(this.#key)
    this.#tracer.writeVariable(this.#key, new Value(this.#tracer, this.kind, 0n).term(value))
  }
}
