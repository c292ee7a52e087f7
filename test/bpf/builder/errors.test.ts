// What is wrong with a program is said with the TypeScript line it stands on.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, test } from 'node:test'
import {
  type Condition,
  type Value,
  type Xdp,
  defineFunction,
  defineMap,
  defineXdp,
} from '../../../src/bpf/builder/index.js'
import { bytes, counter, struct, u32 } from '../../../src/bpf/codec.js'
import { VerifierError } from '../../../src/bpf/index.js'
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
})
