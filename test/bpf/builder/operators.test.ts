// What operators of values mean, against BigInt: random chains of them, over integers of every type, run by the kernel.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  type Condition,
  type Kind,
  type Value,
  type Xdp,
  defineMap,
  defineXdp,
} from '../../../src/bpf/builder/index.js'
import { withoutLocations } from '../../../src/bpf/builder/location.js'
import { u64 } from '../../../src/bpf/codec.js'
import { type Random, random } from './random-program.js'

const KINDS = ['u8', 'u16', 'u32', 'u64', 's8', 's16', 's32', 's64', 'be16', 'be32', 'be64'] as const
const out = defineMap({ type: 'array', name: 'out', value: u64, maxEntries: 1 })

const bitsOf = (kind: Kind): number => Number(/\d+/.exec(kind)![0])
const hostOf = (kind: Kind): Kind => kind.replace('be', 'u') as Kind
const wrapped = (kind: Kind, value: bigint): bigint =>
  kind.startsWith('s') ? BigInt.asIntN(bitsOf(kind), value) : BigInt.asUintN(bitsOf(kind), value)

/** A value of the program, and what it is. */
interface Both {
  kind: Kind
  value: Value
  is: bigint
}

type Binary = 'add' | 'sub' | 'mul' | 'div' | 'mod' | 'and' | 'or' | 'xor'
const BINARY: Record<Binary, (a: bigint, b: bigint) => bigint> = {
  add: (a, b) => a + b,
  sub: (a, b) => a - b,
  mul: (a, b) => a * b,
  div: (a, b) => (b === 0n ? 0n : a / b),
  mod: (a, b) => (b === 0n ? a : a % b),
  and: (a, b) => a & b,
  or: (a, b) => a | b,
  xor: (a, b) => a ^ b,
}
const BITWISE: readonly string[] = ['and', 'or', 'xor']

type Order = 'eq' | 'ne' | 'lt' | 'le' | 'gt' | 'ge'
const ORDER: Record<Order, (a: bigint, b: bigint) => boolean> = {
  eq: (a, b) => a === b,
  ne: (a, b) => a !== b,
  lt: (a, b) => a < b,
  le: (a, b) => a <= b,
  gt: (a, b) => a > b,
  ge: (a, b) => a >= b,
}

/** A chain of operators on a field of the packet: what it comes to, and how it was written. */
function chain(x: Xdp, packet: Uint8Array, next: Random): { end: Both; log: string[] } {
  const view = new DataView(packet.buffer)
  const pick = <T>(list: readonly T[]): T => list[next(list.length)]
  const field = (kind: Kind): Both => {
    const at = next(40)
    const bytes = bitsOf(kind) / 8
    let is = 0n
    for (let i = 0; i < bytes; i++) {
      const byte = view.getUint8(at + (kind.startsWith('be') ? i : bytes - 1 - i))
      is = (is << 8n) | BigInt(byte)
    }
    return { kind, value: x.packet.field(at, kind), is: wrapped(kind, is) }
  }
  const constant = (kind: Kind): bigint =>
    wrapped(kind, pick([0n, 1n, -1n, BigInt(next(1000)), BigInt(next(2 ** 31)), 1n << BigInt(next(64))]))
  let { kind, value, is } = field(pick(KINDS))
  const log = [`${kind} ${is}`]
  /** One of two values of a kind, by a condition. */
  const choose = (condition: Condition, holds: boolean, other: Both): void => {
    value = x.select(condition, value, other.value)
    if (!holds) ({ is } = other)
  }
  const steps: (() => void)[] = [
    () => {
      const operator = pick(Object.keys(BINARY) as Binary[])
      const other = next(2) === 0 ? field(kind) : undefined
      const known = other?.is ?? constant(kind)
      log.push(`${operator} ${known}`)
      value = value[operator](other?.value ?? known)
      is = BINARY[operator](is, known)
      if (!BITWISE.includes(operator)) kind = hostOf(kind)
    },
    () => {
      const operator = pick(['not', 'neg', 'host'] as const)
      log.push(operator)
      value = value[operator]()
      if (operator !== 'host') is = operator === 'not' ? ~is : -is
      if (operator !== 'not') kind = hostOf(kind)
    },
    () => {
      kind = pick(KINDS)
      log.push(`as ${kind}`)
      value = value.as(kind)
    },
    () => {
      const operator = pick(['shl', 'shr'] as const)
      const count = next(bitsOf(kind))
      log.push(`${operator} ${count}`)
      value = value[operator](count)
      is = operator === 'shl' ? is << BigInt(count) : is >> BigInt(count)
      kind = hostOf(kind)
    },
    () => {
      const operator = pick(Object.keys(ORDER) as Order[])
      const other = field(kind)
      log.push(`${operator} ${other.is}?`)
      choose(value[operator](next(2) === 0 ? other.value : other.is), ORDER[operator](is, other.is), other)
    },
    () => {
      const [low, high, other] = [constant(kind), constant(kind), field(kind)]
      log.push(`between ${low} ${high}?`)
      choose(value.between(low, high), is >= low && is <= high, other)
    },
    () => {
      const [one, two, other] = [constant(kind), field(kind), field(kind)]
      log.push(`in ${one} ${two.is}?`)
      choose(value.in([one, two.value]), is === one || is === two.is, other)
    },
    () => {
      const bits = constant(kind)
      const other = field(kind)
      const some = BigInt.asUintN(bitsOf(kind), is & bits) !== 0n
      const operator = pick(['hasAny', 'hasNone'] as const)
      log.push(`${operator} ${bits}?`)
      choose(value[operator](bits), operator === 'hasAny' ? some : !some, other)
    },
  ]
  for (let i = 0; i < 1 + next(7); i++) {
    pick(steps)()
    is = wrapped(kind, is)
  }
  return { end: { kind, value, is }, log }
}

test('1000 random chains of operators come to what BigInt comes to', () => {
  for (let seed = 1; seed <= 1000; seed++) {
    const next = random(seed)
    const packet = Uint8Array.from({ length: 64 }, () => [0, 255, 128, 127, 1, next(256), next(256)][next(7)])
    let written: ReturnType<typeof chain> | undefined
    const program = withoutLocations(() =>
      defineXdp('chain', (x) => {
        written = chain(x, packet, next)
        x.lookup(out, 0).orReturn('aborted').set(written.end.value.as('u64'))
        return 'pass'
      }),
    )
    const loaded = program.load()
    try {
      assert.equal(loaded.program.testRun({ packet }).verdict, 'pass')
      const { end, log } = written!
      assert.equal(loaded.map(out).lookup(0), BigInt.asUintN(64, end.is), `seed ${seed}: ${log.join(', ')}`)
    } finally {
      loaded.close()
    }
  }
})
