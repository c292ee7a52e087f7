// What TypeScript itself refuses: each line below a `@ts-expect-error` would otherwise be a mistake of a program.
// What does not compile has no type that the linter could judge.
/* eslint-disable @typescript-eslint/no-unsafe-call, @typescript-eslint/no-unsafe-member-access */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Xdp, defineMap, defineXdp } from '../../../src/bpf/builder/index.js'
import { counter, struct, u32 } from '../../../src/bpf/codec.js'

const counters = defineMap({
  type: 'array',
  name: 'counters',
  value: struct({ packets: counter }),
  maxEntries: 1,
})
const hash = defineMap({ type: 'hash', name: 'hash', key: struct({ a: u32 }), value: u32, maxEntries: 1 })

/** Never run: compiling it is the test. */
export function refused(x: Xdp): void {
  // @ts-expect-error a u32 and a u16 do not add up
  x.u32(1).add(x.u16(1))
  // @ts-expect-error a value in network order is compared with one like it, or with a number
  x.packet.ethernet().type.eq(x.u16(1))
  // @ts-expect-error what a lookup found may be nothing
  x.lookup(counters, 0).packets.atomicAdd(1)
  x.ifPresent(x.lookup(counters, 0), (slot) => {
    // @ts-expect-error the struct has no such member
    slot.bytes.atomicAdd(1)
  })
  // @ts-expect-error the key is a struct
  x.lookup(hash, 0)
  // @ts-expect-error a body that gives back something other than a verdict has forgotten something
  x.if(x.u32(1).eq(1), () => x.random())
  // @ts-expect-error not a verdict
  x.return('accept')
  // @ts-expect-error redirects go into maps of sockets, devices or CPUs
  x.redirectTo(counters, 0)
  // @ts-expect-error a variable keeps its type
  x.let(x.u32(1)).set(x.u64(1))
  // @ts-expect-error a condition is not a value
  x.u32(1).eq(1).add(1)
}

test('and what it lets pass is a program', () => {
  const definition = defineXdp('allowed', (x) => {
    x.require(x.packet.ethernet().type.host().eq(x.u16(0x800)))
    x.ifPresent(x.lookup(counters, 0), (slot) => slot.packets.atomicAdd(1))
    x.ifPresent(x.lookup(hash, { a: 1 }), (value) => value.set(2)).else(() => 'drop')
  })
  assert.deepEqual([...definition.maps.keys()], ['counters', 'hash'])
})
