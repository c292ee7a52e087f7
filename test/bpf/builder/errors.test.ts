// What is wrong with a program is said with the TypeScript line it stands on.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, test } from 'node:test'
import {
  type Condition,
  type Ethernet,
  type Field,
  type Local,
  type LoopControl,
  type Value,
  type Xdp,
  defineFunction,
  defineMap,
  defineXdp,
} from '../../../src/bpf/builder/index.js'
import { call, exit, jumpIf, label, mov, r0 } from '../../../src/bpf/asm.js'
import { bytes, counter, struct, u32 } from '../../../src/bpf/codec.js'
import { BpfProgram, VerifierError } from '../../../src/bpf/index.js'
import { OptionError } from '../../../src/kernel/errors.js'

const file = fileURLToPath(new URL('../../../../test/bpf/builder/errors.test.ts', import.meta.url))
const source = readFileSync(file, 'utf8').split('\n')

/** Checks that an error names the line on which the comment `// here: <name>` stands. */
function assertHere(error: unknown, name: string, message: RegExp): void {
  assert.ok(error instanceof OptionError, String(error))
  assert.match(error.message, message)
  const line =
    source.findIndex((text) => text.includes(`// here: ${name}`) && !text.includes('assertHere')) + 1
  assert.ok(line > 0, `no line for ${name}`)
  assert.ok(error.message.includes(`${file}:${line} \``), `${error.message}\nis not about line ${line}`)
}

const numbers = defineMap({
  type: 'array',
  name: 'numbers',
  value: struct({ a: u32, b: counter }),
  maxEntries: 1,
})
const others = defineMap({ type: 'array', name: 'numbers', value: u32, maxEntries: 1 })
const events = defineMap({ type: 'ringbuf', name: 'events', value: u32, maxEntries: 4096 })
const selfish = defineFunction(
  { name: 'selfish', parameters: {}, result: 'u32' },
  (x): Value<'u32'> => x.call(selfish as never, {}), // here: recursion
)

const strange = ((): { value: Value<'u32'>; condition: Condition } => {
  let made: { value: Value<'u32'>; condition: Condition } | undefined
  defineXdp('strange', (x) => {
    const value = x.random()
    made = { value, condition: value.eq(1) }
    x.require(made.condition)
  })
  return made!
})()

const wrong: Record<string, { says: RegExp; body: (x: Xdp) => unknown }> = {
  'too large': {
    says: /300 does not fit in u8/,
    body: (x) => x.packet.field(0, 'u8').eq(300), // here: too large
  },
  negative: {
    says: /-1 does not fit in u32/,
    body: (x) => x.u32(-1), // here: negative
  },
  fraction: {
    says: /1.5 is not a safe integer/,
    body: (x) => x.u32(1.5), // here: fraction
  },
  'other type': {
    says: /A u32 meets a u16/,
    body: (x) => x.u32(1).add(x.u16(1) as never), // here: other type
  },
  shift: {
    says: /A u16 cannot be shifted by 16/,
    body: (x) => x.u16(1).shl(16), // here: shift
  },
  unreachable: {
    says: /can never run/,
    body: (x) => {
      x.return('drop')
      x.random() // here: unreachable
    },
  },
  'value of a branch': {
    says: /not known here/,
    body: (x) => {
      let inner: Value<'u32'> | undefined
      x.if(x.random().eq(1), () => void (inner = x.random()))
      x.require(inner!.eq(2)) // here: value of a branch
    },
  },
  'variable of a branch': {
    says: /has no value here/,
    body: (x) => {
      let inner: { value: Value<'u32'> } | undefined
      x.if(x.random().eq(1), () => void (inner = x.let(x.random())))
      inner!.value.add(1) // here: variable of a branch
    },
  },
  'header of a branch': {
    says: /This header was found in a branch that not every path takes/,
    body: (x) => {
      let inner: Ethernet | undefined
      x.if(x.queue.eq(1), () => void (inner = x.packet.ethernet()))
      x.require(inner!.type.eq(3)) // here: header of a branch
    },
  },
  'map value of a branch': {
    says: /This map value or record was found in a branch that not every path takes/,
    body: (x) => {
      let inner: { a: Field<'u32'> } | undefined
      x.ifPresent(x.lookup(numbers, 0), (value) => void (inner = value))
      inner!.a.set(1) // here: map value of a branch
    },
  },
  'map value where there is none': {
    says: /This map value or record was found in a branch/,
    body: (x) => {
      let inner: { a: Field<'u32'> } | undefined
      x.ifPresent(x.lookup(numbers, 0), (value) => void (inner = value)).else(() => {
        inner!.a.atomicAdd(1) // here: map value where there is none
      })
    },
  },
  'record that was written': {
    says: /This map value or record was found in a branch/,
    body: (x) => {
      let inner: Field<'u32'> | undefined
      x.record(events, 1, (record) => void (inner = record))
      inner!.set(2) // here: record that was written
    },
  },
  'struct of a branch': {
    says: /This struct was made in a branch/,
    body: (x) => {
      let inner: Local<typeof u32> | undefined
      x.if(x.queue.eq(1), () => void (inner = x.struct(u32, 1)))
      x.lookup(numbers, inner!) // here: struct of a branch
    },
  },
  'struct of an attempt': {
    says: /This struct was made in a branch/,
    body: (x) => {
      let inner: Local<typeof u32> | undefined
      x.attempt(() => {
        inner = x.struct(u32, 5)
        x.packet.ethernet()
      })
      x.require(inner!.fields.eq(5)) // here: struct of an attempt
    },
  },
  'header of an attempt': {
    says: /This header was found in a branch/,
    body: (x) => {
      let inner: Ethernet | undefined
      x.attempt(() => void (inner = x.packet.ethernet()))
      x.require(inner!.type.eq(3)) // here: header of an attempt
    },
  },
  "JavaScript's if": {
    says: /This is compared and nothing depends on it/,
    body: (x) => {
      if (x.packet.ethernet().type.eq(0x800)) x.return('drop') // here: JavaScript's if
    },
  },
  "JavaScript's and": {
    says: /This is compared and nothing depends on it/,
    body: (x) => {
      const eth = x.packet.ethernet()
      const isPing = eth.type.eq(0x800) // here: JavaScript's and
      x.if(isPing && eth.type.eq(5), () => 'drop')
    },
  },
  "JavaScript's arithmetic": {
    says: /JavaScript's own operators know nothing of a value/,
    body: (x) => (x.time() as never as number) + 1, // here: JavaScript's arithmetic
  },
  "JavaScript's sum": {
    says: /JavaScript's own operators know nothing of a condition/,
    body: (x) => (x.random().eq(1) as never as number) + 1, // here: JavaScript's sum
  },
  'late break': {
    says: /This loop has ended/,
    body: (x) => {
      let inner: LoopControl | undefined
      x.loop(3, (_, loop) => void (inner = loop))
      inner!.break() // here: late break
    },
  },
  'branches as a result': {
    says: /What x.if gives is no verdict/,
    body: (x) => x.if(x.queue.eq(1), () => x.if(x.queue.eq(2), () => 'drop') as never), // here: branches as a result
  },
  'async body': {
    says: /The body of a program cannot be async/,
    body: (x) => x.if(x.queue.eq(1), (() => Promise.resolve('drop')) as never), // here: async body
  },
  'verdict of a record': {
    says: /while it holds a record/,
    body: (x) => x.record(events, 1, () => 'drop'), // here: verdict of a record
  },
  'return within a record': {
    says: /while it holds a record/,
    body: (x) => x.record(events, 1, () => x.return('drop')), // here: return within a record
  },
  'three tags': {
    says: /3 VLAN tags cannot be stepped over/,
    body: (x) => x.packet.ethernet({ vlans: 3 as never }), // here: three tags
  },
  'name for a map': {
    says: /"numbers" is no map of the program/,
    body: (x) => x.lookup('numbers' as never, 0 as never), // here: name for a map
  },
  'plain function': {
    says: /A function is no function of a program/,
    body: (x) => x.call((() => 1) as never, {}), // here: plain function
  },
  'no such map': {
    says: /The map "odd" cannot be made: "hsah" is no type of map/,
    body: () => defineMap({ type: 'hsah' as 'hash', name: 'odd', maxEntries: 1 }), // here: no such map
  },
  'map without a name': {
    says: /undefined is no name for a map/,
    body: () => defineMap({ type: 'array', maxEntries: 1 } as never), // here: map without a name
  },
  'late else': {
    says: /must follow x.if directly/,
    body: (x) => {
      const branches = x.if(x.random().eq(1), () => undefined)
      x.packet.ethernet()
      branches.else(() => 'drop') // here: late else
    },
  },
  'moved packet': {
    says: /before the packet was moved/,
    body: (x) => {
      const eth = x.packet.ethernet()
      x.adjustHead(-8)
      x.require(eth.type.eq(0x800)) // here: moved packet
    },
  },
  'packet moved on one path': {
    says: /before the packet was moved/,
    body: (x) => {
      const eth = x.packet.ethernet()
      x.if(eth.type.eq(0x800), () => x.adjustHead(8))
      eth.src.set(eth.dst) // here: packet moved on one path
    },
  },
  'packet moved in a loop': {
    says: /moved inside a loop/,
    body: (x) => {
      x.loop(3, () => x.adjustHead(-4)) // here: packet moved in a loop
    },
  },
  stack: {
    says: /take 600 bytes of stack; there are 512/,
    body: (x) => {
      x.struct(bytes(200))
      x.struct(bytes(400)) // here: stack
    },
  },
  'no member': {
    says: /has no member "c"/,
    body: (x) => x.struct(numbers.value, { c: 1 } as never), // here: no member
  },
  'two maps': {
    says: /Two maps of this program are called "numbers"/,
    body: (x) => {
      x.lookup(numbers, 0)
      x.lookup(others, 0) // here: two maps
    },
  },
  'held record': {
    says: /while it holds a record/,
    body: (x) => {
      x.record(events, 1, () => void x.packet.ethernet()) // here: held record
    },
  },
  'atomic bytes': {
    says: /Atomic operations are for 32 and 64 bits, not for u8/,
    body: (x) => (x.packet.field(0, 'u8') as never as { atomicAdd(n: number): void }).atomicAdd(1), // here: atomic bytes
  },
  'no tags': {
    says: /read without VLAN tags/,
    body: (x) => x.packet.ethernet().vlan, // here: no tags
  },
  'bytes of two lengths': {
    says: /6 bytes meet 4/,
    body: (x) => x.packet.ethernet().dst.set(Uint8Array.of(1, 2, 3, 4)), // here: bytes of two lengths
  },
  'no rounds': {
    says: /A loop of 0 rounds/,
    body: (x) => x.loop(0, () => undefined), // here: no rounds
  },
  'wrong verdict': {
    says: /"accept" is no verdict/,
    body: (x) => x.return('accept' as never), // here: wrong verdict
  },
  'value as verdict': {
    says: /An object \(Value\) is no verdict/,
    body: (x) => x.require(x.random().eq(1), x.random() as never), // here: value as verdict
  },
  'wrong short verdict': {
    says: /"accept" is no verdict/,
    body: (x) => x.packet.bytes(0, 4, 'accept' as never), // here: wrong short verdict
  },
  'no length': {
    says: /undefined is no length/,
    body: (x) => (x.packet as never as { bytes(offset: number): void }).bytes(4), // here: no length
  },
  'negative offset': {
    says: /-4 is no offset/,
    body: (x) => x.packet.bytes(-4, 8), // here: negative offset
  },
  'number as computed offset': {
    says: /4 is no value of the program/,
    body: (x) => x.packet.bytesAt(4 as never, 2), // here: number as computed offset
  },
  'no length behind': {
    says: /undefined is no length|NaN is no length/,
    body: (x) => x.packet.bytes(0, 8).slice(4, undefined as never), // here: no length behind
  },
  'no place': {
    says: /2 bytes at undefined are not within 8/,
    body: (x) => x.packet.bytes(0, 8).field(undefined as never, 'u16'), // here: no place
  },
  'object for a number': {
    says: /An object is no number/,
    body: (x) => x.random().add({} as never), // here: object for a number
  },
  'text for a number': {
    says: /"1" is no number/,
    body: (x) => x.u32('1' as never), // here: text for a number
  },
  'nothing for a number': {
    says: /undefined is no number/,
    body: (x) => x.redirectToInterface(undefined as never), // here: nothing for a number
  },
  'no such type': {
    says: /"u24" is no type of integer/,
    body: (x) => x.packet.field(0, 'u24' as never), // here: no such type
  },
  'value as condition': {
    says: /An object \(Value\) is no condition/,
    body: (x) => x.if(x.random() as never, () => 'drop'), // here: value as condition
  },
  'no body': {
    says: /undefined is no body/,
    body: (x) => x.if(x.random().eq(1), undefined as never), // here: no body
  },
  'text for bytes': {
    says: /"02:00" is neither bytes/,
    body: (x) => x.packet.ethernet().dst.set('02:00' as never), // here: text for bytes
  },
  'number as variable': {
    says: /1 is no value of the program/,
    body: (x) => x.let(1 as never), // here: number as variable
  },
  'value of another program': {
    says: /is of another program or function/,
    body: (x) => x.random().add(strange.value), // here: value of another program
  },
  'statement in another program': {
    says: /is of another program or function, which is finished/,
    body: () => strange.value.add(1), // here: statement in another program
  },
  'condition of another program': {
    says: /is of another program or function/,
    body: (x) => x.require(strange.condition), // here: condition of another program
  },
  recursion: {
    says: /"selfish" calls itself/,
    body: (x) => x.call(selfish, {}),
  },
}

test('what was found on the only path that goes on is known there', () => {
  const program = defineXdp('only_path', (x) => {
    let eth: Ethernet | undefined
    let count: { a: Field<'u32'> } | undefined
    x.if(x.queue.eq(1), () => void (eth = x.packet.ethernet())).else(() => 'drop')
    x.ifPresent(x.lookup(numbers, 0), (value) => void (count = value)).else(() => 'drop')
    x.if(eth!.type.eq(0x800), () => count!.a.atomicAdd(1))
    x.if(x.queue.eq(2), () => 'drop').elseIf(eth!.type.eq(5), () => 'pass')
  })
  program.load().close()
})

test('a map that cannot be made is named', () => {
  const endless = defineMap({
    type: 'hash',
    name: 'endless',
    key: u32,
    value: u32,
    maxEntries: undefined as never,
  })
  const program = defineXdp('endless', (x) => void x.delete(endless, 0))
  assert.throws(
    () => program.load(),
    /^OptionError: The map "endless" cannot be made: undefined is no number of entries/,
  )
})

describe('a program that cannot be', () => {
  for (const [name, { says, body }] of Object.entries(wrong)) {
    test(name, () => {
      let error: unknown
      try {
        defineXdp('wrong', (x) => void body(x))
      } catch (caught) {
        error = caught
      }
      assertHere(error, name, says)
    })
  }
})

describe('a program that the verifier rejects', () => {
  const rejected = (body: (x: Xdp) => undefined): VerifierError => {
    try {
      defineXdp('rejected', body).load().close()
    } catch (error) {
      assert.ok(error instanceof VerifierError, String(error))
      return error
    }
    assert.fail('the verifier accepted it')
  }
  const lineOf = (comment: string): number =>
    source.findIndex((text) => text.includes(`// rejected: ${comment}`) && !text.includes('lineOf')) + 1

  test('names the line, in the message and in its log', () => {
    const error = rejected((x) => {
      const four = x.struct(bytes(4))
      x.loadBytes(0, four.fields, 40) // rejected: write behind the stack
      return undefined
    })
    assert.equal(error.source?.file, file)
    assert.equal(error.source?.line, lineOf('write behind the stack'))
    assert.match(error.message, /x\.loadBytes\(0, four\.fields, 40\)/)
    assert.match(error.log, /; x\.loadBytes\(0, four\.fields, 40\)/)
  })

  test('an endless amount of work', () => {
    const error = rejected((x) => {
      const sum = x.let(x.random())
      x.loop(8_000_000, () => {
        sum.set(sum.value.mul(3).add(1))
      })
      x.require(sum.value.eq(1))
      return undefined
    })
    assert.match(error.line, /too large|too complex|infinite/)
  })

  test('too many comparisons in a row', () => {
    const tests = Array.from({ length: 8200 }, (_, one) => jumpIf(r0, '==', one, 'out'))
    const code = [call('get_prandom_u32'), tests, mov(r0, 2), label('out'), exit()]
    assert.throws(() => BpfProgram.load({ type: 'xdp', code }), {
      name: 'VerifierError',
      line: /too complex/,
      hint: /8192 comparisons/,
    })
  })
})
