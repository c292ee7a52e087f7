// What the parts of a program's body hand each other: verdicts, pointers that may be null, structs on the stack, branches.
import type { AnyCodec } from '../codec.js'
import { type Verdict, XDP_ACTIONS } from '../constants.js'
import type { Operand } from './ir.js'
import { shown } from './kinds.js'
import { programError } from './location.js'
import { type Place, type Ref, refTo } from './memory.js'
import type { Tracer } from './trace.js'
import type { Condition } from './value.js'

/** A verdict that the running program computes: of a redirect, or of `x.verdict`. */
export class VerdictValue {
  // Private, so that no value is taken for a verdict.
  readonly #operand: Operand
  constructor(operand: Operand) {
    this.#operand = operand
  }
  /** For the builder's own use. */
  get operand(): Operand {
    return this.#operand
  }
}

/** What an XDP program may return. */
export type XdpResult = Verdict | VerdictValue

/** What a branch's body may give back: nothing, or what to return from there. */
// A body that only acts gives `void`; a union with it is the point here.
export type Outcome<R> = void | R

/** A pointer that may be null: reach what it points to through `x.ifPresent` or `orReturn`. */
export class Maybe<R> {
  /** For the builder's own use. */
  readonly pointer: number
  /** For the builder's own use. */
  readonly refer: () => R
  readonly #tracer: Tracer

  constructor(tracer: Tracer, pointer: number, refer: () => R) {
    this.#tracer = tracer
    this.pointer = pointer
    this.refer = refer
  }

  /** What it points to; where there is nothing the program ends, with `verdict` or its `otherwise`. */
  orReturn(verdict?: Verdict): R {
    this.#tracer.unless(
      '!=',
      64,
      this.pointer,
      0n,
      verdict === undefined ? undefined : verdictNumber(verdict),
    )
    return this.refer()
  }
}

/** A struct (or other codec's type) on the program's stack. */
export class Local<C extends AnyCodec> {
  readonly codec: C
  /** For the builder's own use. */
  readonly place: Place
  constructor(place: Place, codec: C) {
    this.place = place
    this.codec = codec
  }

  /** Its fields. */
  get fields(): Ref<C> {
    return refTo(this.place, this.codec)
  }
}

/** The rest of an `x.if`. It must follow directly. */
export interface Branches<R> {
  elseIf(condition: Condition, body: () => Outcome<R>): Branches<R>
  else(body: () => Outcome<R>): void
}

/** How a loop is left or cut short. Both end the path, as a return does. */
export interface LoopControl {
  break(): void
  continue(): void
}

/** The number of a verdict. Throws `OptionError` for what is none, as only JavaScript can write it. */
export function verdictNumber(verdict: Verdict): bigint {
  if (typeof verdict === 'string' && Object.hasOwn(XDP_ACTIONS, verdict)) return BigInt(XDP_ACTIONS[verdict])
  const given: unknown = verdict
  if (given instanceof Promise)
    throw programError('body', 'The body of a program cannot be async: it runs once, now')
  const isBranches = typeof given === 'object' && given !== null && 'elseIf' in given
  throw programError(
    'verdict',
    `${isBranches ? 'What x.if gives' : shown(verdict)} is no verdict`,
    isBranches
      ? 'Put the body in braces: () => { x.if(…) }.'
      : `Use ${Object.keys(XDP_ACTIONS).join(', ')}, or what x.redirectTo and x.verdict give.`,
  )
}
