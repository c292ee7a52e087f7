// Random programs for the compiler, the same for the same seed: arithmetic of every kind, branches, loops, variables, structs,
// reading and writing the packet.
import type { Kind } from '../../../src/bpf/builder/kinds.js'
import { KINDS } from '../../../src/bpf/builder/kinds.js'
import {
  type Condition,
  type Outcome,
  type Value,
  type Variable,
  type Xdp,
  type XdpResult,
  defineFunction,
} from '../../../src/bpf/builder/index.js'
import { be16, be32, struct, u16, u32, u64, u8 } from '../../../src/bpf/codec.js'

export type Random = (below: number) => number

/** mulberry32: small, and the same everywhere. */
export function random(seed: number): Random {
  let state = seed >>> 0
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 0x1_0000_0000) * below)
  }
}

const kinds: Kind[] = ['u8', 'u16', 'u32', 'u64', 's8', 's16', 's32', 's64', 'be16', 'be32', 'be64']
const record = struct({ a: u8, b: u16, c: u32, d: u64, e: be16, f: be32 })
const HEADER = 40

interface Scope {
  values: Value[]
  variables: Variable[]
}

/** The body of a random program of about `size` statements. */
export function randomBody(next: Random, size: number): (x: Xdp) => Outcome<XdpResult> {
  let budget = size
  let functions = 0
  const pick = <T>(list: readonly T[]): T => list[next(list.length)]
  const number = (kind: Kind): bigint => {
    const { bits, signed } = KINDS[kind]
    const raw = pick([
      () => BigInt(next(4)),
      () => BigInt(next(256)),
      () => (1n << BigInt(next(64))) - BigInt(next(2)),
      () => (BigInt(next(2 ** 31)) << 33n) | BigInt(next(2 ** 31)),
    ])()
    return signed ? BigInt.asIntN(bits, raw) : BigInt.asUintN(bits, raw)
  }
  const operand = (scope: Scope, kind: Kind): Value | bigint =>
    next(3) === 0 ? number(kind) : pick(scope.values).as(kind)

  const compute = (scope: Scope): Value => {
    const a = pick(scope.values)
    const b = operand(scope, a.kind)
    switch (next(14)) {
      case 0:
      case 1:
        return a.add(b)
      case 2:
        return a.sub(b)
      case 3:
        return a.mul(b)
      case 4:
        return a.div(b)
      case 5:
        return a.mod(b)
      case 6:
        return a.and(b)
      case 7:
        return a.or(b)
      case 8:
        return a.xor(b)
      case 9:
        return next(2) === 0 ? a.not() : a.neg()
      case 10:
        return a.shl(next(KINDS[a.kind].bits))
      case 11:
        return a.shr(next(3) > 0 ? next(KINDS[a.kind].bits) : pick(scope.values).u8().and(7))
      default:
        return a.as(pick(kinds))
    }
  }
  const condition = (scope: Scope, depth = 0): Condition => {
    if (depth < 2 && next(4) === 0) {
      const [a, b] = [condition(scope, depth + 1), condition(scope, depth + 1)]
      return pick([() => a.and(b), () => a.or(b), () => a.not()])()
    }
    const a = pick(scope.values)
    const b = operand(scope, a.kind)
    return pick([
      () => a.eq(b),
      () => a.ne(b),
      () => a.lt(b),
      () => a.le(b),
      () => a.gt(b),
      () => a.ge(b),
      () => a.hasAny(b),
      () => a.hasNone(b),
      () => a.between(number(a.kind), b),
      () => a.in([number(a.kind), number(a.kind)]),
    ])()
  }
  const inner = (scope: Scope): Scope => ({ values: [...scope.values], variables: [...scope.variables] })

  const statement = (x: Xdp, scope: Scope, depth: number): void => {
    const kind = pick(kinds)
    const width = KINDS[kind].bits / 8
    switch (next(depth < 3 ? 13 : 7)) {
      case 0:
      case 1:
        scope.values.push(compute(scope))
        return
      case 2:
        scope.values.push(x.packet.field(next(HEADER - width + 1), kind))
        return
      case 3:
        x.packet.field(next(HEADER - width + 1), kind).set(pick(scope.values).as(kind))
        return
      case 4:
        scope.variables.push(x.let(pick(scope.values)))
        return
      case 5: {
        if (scope.variables.length === 0) return
        const variable = pick(scope.variables)
        if (next(2) === 0) variable.set(pick(scope.values).as(variable.kind))
        else scope.values.push(variable.value)
        return
      }
      case 6: {
        const fields = x.struct(record, {
          b: 7,
          d: pick(scope.values).u64(),
          e: pick(scope.values).as('be16'),
        }).fields
        fields.f.set(pick(scope.values).as('be32'))
        fields.a.increment()
        scope.values.push(fields.a, fields.b, fields.d, fields.f, fields.e)
        return
      }
      case 7:
      case 8:
      case 9: {
        const branches = x.if(condition(scope), () => body(x, inner(scope), depth + 1))
        if (next(3) === 0) {
          const more = branches.elseIf(condition(scope), () => body(x, inner(scope), depth + 1))
          if (next(2) === 0) more.else(() => body(x, inner(scope), depth + 1))
        } else if (next(2) === 0) branches.else(() => body(x, inner(scope), depth + 1))
        return
      }
      case 10: {
        const times = 1 + next(5)
        x.loop(times, (round, loop) => {
          const within = inner(scope)
          within.values.push(round)
          x.if(condition(within), () => (next(2) === 0 ? loop.break() : loop.continue()))
          body(x, within, depth + 1)
        })
        return
      }
      case 11: {
        const at = pick(scope.values).u8().and(31)
        const bytes = x.packet.bytesAt(at, width)
        scope.values.push(bytes.field(0, kind))
        if (next(2) === 0) bytes.field(0, kind).set(pick(scope.values).as(kind))
        return
      }
      case 12: {
        const [p, q] = [pick(kinds), pick(kinds)]
        const operation = next(4)
        const fn = defineFunction(
          { name: `f${functions++}`, parameters: { p, q }, result: kind },
          (f, args) => {
            f.if(args.p.gt(args.q.as(p)), () => args.p.as(kind))
            return [args.p.as(kind).add(args.q.as(kind)).as(kind), args.p.xor(args.q.as(p)).as(kind)][
              operation % 2
            ]
          },
        )
        scope.values.push(x.call(fn, { p: pick(scope.values).as(p), q: pick(scope.values).as(q) }))
      }
    }
  }
  const body = (x: Xdp, scope: Scope, depth: number): Outcome<XdpResult> => {
    const count = 1 + next(6)
    for (let i = 0; i < count && budget > 0 && x.tracer.reachable; i++) {
      budget--
      statement(x, scope, depth)
    }
    if (!x.tracer.reachable) return undefined
    if (depth > 0 && next(8) === 0) return x.verdict(pick(scope.values).u32())
    return undefined
  }
  return (x) => {
    x.packet.bytes(0, HEADER)
    const scope: Scope = {
      values: [
        x.packet.field(0, 'u64'),
        x.packet.field(8, 'u32'),
        x.packet.field(12, 'be16'),
        x.packet.field(20, 's8'),
      ],
      variables: [],
    }
    while (budget > 0 && x.tracer.reachable) body(x, scope, 0)
    if (!x.tracer.reachable) return undefined
    // Everything that is still alive takes part in the result.
    let sum = scope.values[0].u64()
    for (const value of [...scope.values, ...scope.variables.map(({ value }) => value)])
      sum = sum.mul(31).add(value.u64())
    return x.verdict(sum.xor(sum.shr(32)).u32())
  }
}
