// Each thing a program can say, run by the kernel.
import assert from 'node:assert/strict'
import { describe, test, type TestContext } from 'node:test'
import {
  type LoadedXdp,
  type Local,
  type Value,
  type Xdp,
  type XdpDefinition,
  defineFunction,
  defineMap,
  defineXdp,
} from '../../../src/bpf/builder/index.js'
import { be16, bytes, counter, struct, u32, u64, u8 } from '../../../src/bpf/codec.js'
import { RingBuffer, prefixKey } from '../../../src/bpf/index.js'
import { kernelAtLeast } from '../../../src/kernel/version.js'
import { ETH_P_IP } from '../../../src/packet/ethernet.js'

const packet = (length = 64): Uint8Array => Uint8Array.from({ length }, (_, at) => at)

function load(t: TestContext, definition: XdpDefinition): LoadedXdp {
  const loaded = definition.load()
  t.after(() => loaded.close())
  return loaded
}

/** What a body returns as a number. */
function result(t: TestContext, body: (x: Xdp) => Parameters<Xdp['verdict']>[0], input = packet()): number {
  const loaded = load(
    t,
    defineXdp('value', (x) => x.verdict(body(x))),
  )
  return loaded.program.testRun({ packet: input }).returnValue
}

const verdict = (t: TestContext, definition: XdpDefinition, input = packet()) =>
  load(t, definition).program.testRun({ packet: input }).verdict

describe('control', () => {
  test('the end of the body is the verdict `otherwise`, pass by default', (t) => {
    assert.equal(
      verdict(
        t,
        defineXdp('p', () => undefined),
      ),
      'pass',
    )
    assert.equal(
      verdict(
        t,
        defineXdp('p', { otherwise: 'drop' }, () => undefined),
      ),
      'drop',
    )
  })
  test('a branch over more instructions than 16 bits can count', (t) => {
    if (!kernelAtLeast(6, 6)) return t.skip('long jumps came with kernel 6.6')
    const program = defineXdp('far', (x) => {
      const bytes = x.packet.bytes(0, 64)
      x.if(bytes.field(12, 'be16').eq(ETH_P_IP), () => {
        for (let at = 0; at < 33_000; at++) bytes.field(at % 8, 'u8').set(at & 0xff)
        return 'drop'
      })
      return 'tx'
    })
    assert.equal(program.assembled.hasLongJumps, true)
    const ip = packet()
    ip.set([8, 0], 12)
    assert.equal(verdict(t, program, ip), 'drop')
    assert.equal(verdict(t, program), 'tx')
  })
  test('a header that does not fit ends the program with `otherwise`', (t) => {
    const define = (otherwise: 'aborted' | 'tx') =>
      defineXdp('p', { otherwise }, (x) => {
        x.packet.bytes(0, 65)
        return 'drop'
      })
    assert.equal(verdict(t, define('tx')), 'tx')
    assert.equal(verdict(t, define('tx'), packet(65)), 'drop')
  })
  test('if, elseIf and else take one branch; conditions after a write to the packet see it', (t) => {
    for (const [first, expected] of [
      [1, 10],
      [2, 20],
      [3, 30],
      [4, 40],
    ]) {
      const input = packet()
      input[0] = first
      const value = result(
        t,
        (x) => {
          const out = x.let(x.u32(0))
          const byte = x.packet.bytes(0, 4)
          x.if(byte.field(0, 'u8').eq(1), () => {
            byte.field(0, 'u8').set(9)
            out.set(10)
          })
            .elseIf(byte.field(0, 'u8').eq(2), () => out.set(20))
            .elseIf(byte.field(0, 'u8').add(1).eq(4), () => out.set(30))
            .else(() => out.set(40))
          return out.value
        },
        input,
      )
      assert.equal(value, expected)
    }
  })
  test('a loop runs its rounds, breaks and continues', (t) => {
    const value = result(t, (x) => {
      const sum = x.let(x.u32(0))
      x.loop(100, (round, loop) => {
        x.if(round.and(1).eq(1), () => loop.continue())
        x.if(round.gt(10), () => loop.break())
        sum.set(sum.value.add(round))
      })
      return sum.value
    })
    assert.equal(value, 0 + 2 + 4 + 6 + 8 + 10)
  })
  test('a loop may return, and be left by nothing else', (t) => {
    const value = result(t, (x) => {
      x.loop(10, (round) => {
        x.if(round.eq(7), () => x.verdict(round.add(100)))
      })
      return x.u32(1)
    })
    assert.equal(value, 107)
  })
  test('where a check fails within an attempt the program goes on behind it', (t) => {
    const value = (input: Uint8Array) =>
      result(
        t,
        (x) => {
          const [steps, failed] = [x.let(x.u32(1)), x.let(x.u32(0))]
          x.attempt(
            () => {
              x.require(x.packet.field(0, 'u8').ne(7))
              steps.set(2)
              x.packet.bytes(0, 40)
              steps.set(3)
              x.loop(4, (round) => x.require(x.packet.bytesAt(round.add(48), 1).field(0, 'u8').ne(9)))
              steps.set(4)
            },
            () => failed.set(100),
          )
          return steps.value.add(failed.value)
        },
        input,
      )
    assert.equal(value(packet(60)), 4)
    assert.equal(value(packet(60).fill(7, 0, 1)), 101)
    assert.equal(value(packet(30)), 102)
    assert.equal(value(packet(60).fill(9, 50, 51)), 103)
    assert.equal(value(packet(45)), 103)
  })
  test('an attempt within another catches its own failures only; a verdict of its own still ends the program', (t) => {
    const define = (length: number, own?: 'drop') =>
      defineXdp('nested', { otherwise: 'aborted' }, (x) => {
        const out = x.let(x.u32(10))
        x.attempt(
          () => {
            x.attempt(() => {
              x.packet.bytes(0, length, own)
              out.set(11)
            })
            x.packet.bytes(0, 50)
            out.set(out.value.add(2))
          },
          () => out.set(out.value.add(4)),
        )
        return x.verdict(out.value)
      })
    const run = (length: number, input: number, own?: 'drop') =>
      load(t, define(length, own)).program.testRun({ packet: packet(input) }).returnValue
    assert.deepEqual([run(60, 60), run(60, 55), run(60, 40), run(40, 45)], [13, 12, 14, 15])
    assert.equal(run(60, 55, 'drop'), 1)
  })
  test('an attempt may return, and nothing in it need fail', (t) => {
    const define = () =>
      defineXdp('returns', (x) => {
        x.attempt(
          () => {
            x.packet.bytes(0, 50)
            return 'drop'
          },
          () => 'tx',
        )
      })
    assert.equal(verdict(t, define(), packet(60)), 'drop')
    assert.equal(verdict(t, define(), packet(40)), 'tx')
    const plain = defineXdp('plain', (x) => {
      x.attempt(
        () => undefined,
        () => 'drop',
      )
    })
    assert.equal(verdict(t, plain), 'pass')
  })
  test('select gives one value or the other', (t) => {
    assert.equal(
      result(t, (x) => x.select(x.packet.length.gt(60), x.u32(5), 6)),
      5,
    )
    assert.equal(
      result(t, (x) => x.select(x.packet.length.lt(60), x.u32(5), 6)),
      6,
    )
  })
  test('functions are called, and may look at the packet', (t) => {
    const add = defineFunction(
      { name: 'add', parameters: { a: 'u32', b: 'u32' }, result: 'u32' },
      (_, { a, b }) => a.add(b),
    )
    const byte = defineFunction({ name: 'byte', parameters: {}, result: 'u8', otherwise: 255 }, (x) =>
      x.packet.field(70, 'u8'),
    )
    const body = (x: Xdp) => x.call(add, { a: 7, b: x.call(byte, {}).u32() })
    assert.equal(result(t, body, packet(100)), 77)
    assert.equal(result(t, body), 262)
  })
})

describe('maps', () => {
  const flow = struct({ address: bytes(4), port: be16, protocol: u8 })
  const flows = defineMap({
    type: 'hash',
    name: 'flows',
    key: flow,
    value: struct({ packets: counter, bytes: counter }),
    maxEntries: 4,
  })

  test('looks up, creates, updates, counts and deletes', (t) => {
    const loaded = load(
      t,
      defineXdp('flows', (x) => {
        const bytes = x.packet.bytes(0, 16)
        // A struct on the stack with padding: the kernel compares all eight bytes.
        const key = x.struct(flow, {
          address: bytes.slice(0, 4),
          port: 0x1234,
          protocol: bytes.field(4, 'u8'),
        })
        x.ifPresent(x.lookup(flows, key), (found) => {
          found.packets.atomicAdd(1)
          found.bytes.atomicAdd(x.packet.length.u64())
          x.if(found.packets.ge(3), () => {
            x.delete(flows, key)
          })
        }).else(() => {
          x.update(flows, key, { packets: 1, bytes: x.packet.length.u64() }, 'create')
        })
      }),
    )
    const map = loaded.map(flows)
    const run = () => loaded.program.testRun({ packet: packet(60) })
    run()
    assert.deepEqual(
      [...map.entries()],
      [
        [
          { address: Uint8Array.of(0, 1, 2, 3), port: 0x1234, protocol: 4 },
          { packets: 1, bytes: 60 },
        ],
      ],
    )
    run()
    assert.deepEqual(
      [...map.entries()].map(([, value]) => value),
      [{ packets: 2, bytes: 120 }],
    )
    run()
    assert.equal([...map.keys()].length, 0)
  })

  test('update tells that the map is full', (t) => {
    const loaded = load(
      t,
      defineXdp('full', (x) => {
        const done = x.update(flows, { address: x.packet.bytes(0, 4) }, {})
        x.if(done.eq(-7), () => 'drop')
        x.if(done.ne(0), () => 'aborted')
      }),
    )
    const verdicts = [1, 2, 3, 4, 5].map((first) => {
      const input = packet()
      input[0] = first
      return loaded.program.testRun({ packet: input }).verdict
    })
    assert.deepEqual(verdicts, ['pass', 'pass', 'pass', 'pass', 'drop'])
  })

  test('per-CPU values are raised without atomic instructions', (t) => {
    const counts = defineMap({ type: 'percpu_array', name: 'counts', value: u64, maxEntries: 2 })
    const loaded = load(
      t,
      defineXdp('percpu', (x) => {
        x.lookup(counts, 1).orReturn().increment(3)
      }),
    )
    for (let i = 0; i < 5; i++) loaded.program.testRun({ packet: packet() })
    const values = loaded.map(counts).lookup(1)!
    assert.equal(
      values.reduce((sum, value) => sum + value, 0n),
      15n,
    )
  })

  test('fetchAdd and exchange give what was there', (t) => {
    const numbers = defineMap({
      type: 'array',
      name: 'numbers',
      value: struct({ a: u32, b: u64 }),
      maxEntries: 1,
    })
    const loaded = load(
      t,
      defineXdp('fetch', (x) => {
        const slot = x.lookup(numbers, 0).orReturn('aborted')
        const before = slot.a.fetchAdd(5)
        const other = slot.b.exchange(before.u64().add(100))
        return x.verdict(before.mul(1000).add(other.u32()))
      }),
    )
    loaded.map(numbers).update(0, { a: 2, b: 7n })
    assert.equal(loaded.program.testRun({ packet: packet() }).returnValue, 2007)
    assert.deepEqual(loaded.map(numbers).lookup(0), { a: 7, b: 102n })
  })

  test('a prefix trie is looked up by address', (t) => {
    const routes = defineMap({
      type: 'lpm_trie',
      name: 'routes',
      key: prefixKey(4),
      value: u32,
      maxEntries: 8,
    })
    const loaded = load(
      t,
      defineXdp('lpm', (x) =>
        x.verdict(
          x
            .lookup(routes, { prefixLength: 32, data: x.packet.bytes(0, 4) })
            .orReturn('aborted')
            .add(0),
        ),
      ),
    )
    loaded.map(routes).update({ prefixLength: 8, data: Uint8Array.of(10, 0, 0, 0) }, 8)
    loaded.map(routes).update({ prefixLength: 24, data: Uint8Array.of(10, 1, 2, 0) }, 24)
    const answers = [
      [10, 9, 9, 9],
      [10, 1, 2, 9],
      [11, 0, 0, 0],
    ].map((address) => {
      const input = packet()
      input.set(address)
      return loaded.program.testRun({ packet: input }).returnValue
    })
    assert.deepEqual(answers, [8, 24, 0])
  })

  test('records reach user space through a ring buffer; a full one is told', (t) => {
    const events = defineMap({
      type: 'ringbuf',
      name: 'events',
      value: struct({ length: u32, first: bytes(6), type: be16 }),
      maxEntries: 4096,
    })
    const loaded = load(
      t,
      defineXdp('events', (x) => {
        const eth = x.packet.ethernet()
        x.record(events, { length: x.packet.length, first: eth.dst }, (record) =>
          record.type.set(eth.type),
        ).else(() => 'drop')
      }),
    )
    let verdict = loaded.program.testRun({ packet: packet() }).verdict
    assert.equal(verdict, 'pass')
    for (let i = 0; i < 500; i++) verdict = loaded.program.testRun({ packet: packet() }).verdict
    assert.equal(verdict, 'drop')
    const records: Uint8Array[] = []
    const ring = new RingBuffer(loaded.map(events))
    t.after(() => ring.close())
    ring.consume((record, offset, length) => {
      records.push(record.slice(offset, offset + length))
    })
    assert.deepEqual([...records[0]], [64, 0, 0, 0, 0, 1, 2, 3, 4, 5, 12, 13])
  })

  test('packets are mirrored, cut at a snap length', (t) => {
    const mirrored = defineMap({
      type: 'ringbuf',
      name: 'mirrored',
      value: struct({ length: u32, kept: u32, data: bytes(48) }),
      maxEntries: 4096,
    })
    const loaded = load(
      t,
      defineXdp('mirror', (x) => {
        const length = x.packet.length
        // The verifier wants to see that it is more than nothing.
        x.require(length.gt(0))
        const kept = x.select(length.lt(48), length, 48)
        x.record(mirrored, { length, kept }, (record) => {
          x.loadBytes(0, record.data, kept)
        })
      }),
    )
    const ring = new RingBuffer(loaded.map(mirrored))
    t.after(() => ring.close())
    for (const length of [20, 48, 100]) {
      assert.equal(loaded.program.testRun({ packet: packet(length) }).verdict, 'pass')
      const kept = Math.min(48, length)
      ring.consume((record, offset) => {
        const view = new DataView(record.buffer, record.byteOffset + offset)
        assert.deepEqual([view.getUint32(0, true), view.getUint32(4, true)], [length, kept])
        const data = record.slice(offset + 8, offset + 56)
        assert.deepEqual([...data.subarray(0, kept)], [...packet(kept)])
        assert.ok(data.subarray(kept).every((byte) => byte === 0))
      })
    }
  })

  test('records have a tail of as many bytes as each path says', (t) => {
    const events = defineMap({
      type: 'ringbuf',
      name: 'events',
      value: struct({ length: u32 }),
      maxEntries: 4096,
    })
    const loaded = load(
      t,
      defineXdp('tails', (x) => {
        const length = x.packet.fullLength
        x.require(length.gt(0))
        x.require(length.le(60), 'drop')
        const room = x.let(x.u32(60))
        x.if(length.le(20), () => room.set(20))
        x.record(events, { length }, (_, tail) => void x.loadBytes(0, tail, length), {
          tail: room.value,
        }).else(() => 'aborted')
      }),
    )
    const ring = new RingBuffer(loaded.map(events))
    t.after(() => ring.close())
    for (const [length, room] of [
      [14, 20],
      [20, 20],
      [21, 60],
      [60, 60],
    ]) {
      assert.equal(loaded.program.testRun({ packet: packet(length) }).verdict, 'pass')
      const records: [number, Uint8Array][] = []
      ring.consume((record, offset, size) => {
        records.push([size, record.slice(offset + 4, offset + 4 + length)])
      })
      assert.deepEqual(records, [[4 + room, packet(length)]])
    }
  })
  test('a tail may be of a size known now', (t) => {
    const events = defineMap({ type: 'ringbuf', name: 'events', value: u32, maxEntries: 4096 })
    const loaded = load(
      t,
      defineXdp('tail', (x) => {
        const eth = x.packet.ethernet()
        x.record(events, 7, (_, tail) => tail.slice(2, 6).set(eth.src), { tail: 8 })
      }),
    )
    loaded.program.testRun({ packet: packet() })
    const ring = new RingBuffer(loaded.map(events))
    t.after(() => ring.close())
    let seen: number[] = []
    ring.consume((record, offset, length) => (seen = [...record.slice(offset, offset + length)]))
    assert.deepEqual(
      [seen.length, ...seen.slice(0, 4), ...seen.slice(6)],
      [12, 7, 0, 0, 0, 6, 7, 8, 9, 10, 11],
    )
  })
  test('a check that fails may not leave a record behind, but for one that an attempt inside it catches', (t) => {
    const events = defineMap({ type: 'ringbuf', name: 'events', value: u32, maxEntries: 4096 })
    assert.throws(
      () =>
        defineXdp('leak', (x) =>
          x.attempt(() => {
            x.record(events, 0, () => void x.packet.bytes(0, 20))
          }),
        ),
      /may end here while it holds a record/,
    )
    load(
      t,
      defineXdp('caught', (x) => {
        x.record(events, 0, (record) => {
          x.attempt(() => record.set(x.packet.field(20, 'u32')))
        })
      }),
    )
  })

  test('a tail call goes to another program, or on where there is none', (t) => {
    const programs = defineMap({ type: 'prog_array', name: 'programs', maxEntries: 2 })
    const loaded = load(
      t,
      defineXdp('caller', (x) => {
        x.tailCall(programs, x.packet.field(0, 'u8').u32())
        return 'drop'
      }),
    )
    const target = load(
      t,
      defineXdp('target', () => 'tx'),
    )
    loaded.map(programs).update(1, target.program.fd)
    const run = (index: number) => {
      const input = packet()
      input[0] = index
      return loaded.program.testRun({ packet: input }).verdict
    }
    assert.deepEqual([run(0), run(1), run(9)], ['drop', 'tx', 'drop'])
  })

  test('redirects: to a device of a map, to a device by index, and what happens without', (t) => {
    const devices = defineMap({ type: 'devmap', name: 'devices', maxEntries: 2 })
    const loaded = load(
      t,
      defineXdp('redirect', (x) => x.redirectTo(devices, x.packet.field(0, 'u8').u32(), 'drop')),
    )
    loaded.map(devices).update(1, 1)
    const run = (index: number) => loaded.program.testRun({ packet: packet().fill(index, 0, 1) }).verdict
    assert.deepEqual([run(0), run(1)], ['drop', 'redirect'])
    assert.equal(
      verdict(
        t,
        defineXdp('direct', (x) => x.redirectToInterface(1)),
      ),
      'redirect',
    )
  })
})

describe('structs', () => {
  test('one that was made on the only path that goes on keeps its place on the stack', (t) => {
    const seven = result(t, (x) => {
      let inner: Local<typeof u32> | undefined
      x.if(x.packet.field(0, 'u8').eq(0), () => void (inner = x.struct(u32, 7))).else(() => 'drop')
      x.struct(u32, 9)
      return inner!.fields
    })
    assert.equal(seven, 7)
  })
  test('one that every round of a loop makes keeps it behind the loop', (t) => {
    const last = result(t, (x) => {
      let inner: Local<typeof u32> | undefined
      x.loop(5, (round) => {
        inner = x.struct(u32, round)
      })
      x.struct(u32, 9)
      return inner!.fields
    })
    assert.equal(last, 4)
  })
})

describe('packet', () => {
  test('the head moves: a header is put in front', (t) => {
    const loaded = load(
      t,
      defineXdp('push', { otherwise: 'aborted' }, (x) => {
        const addresses = x.uninitialized(bytes(12))
        addresses.fields.set(x.packet.bytes(0, 12))
        x.adjustHead(-4)
        const eth = x.packet.bytes(0, 18)
        eth.slice(0, 12).set(addresses.fields)
        eth.field(12, 'be16').set(0x8100)
        eth.field(14, 'be16').set(42)
        return 'tx'
      }),
    )
    const run = loaded.program.testRun({ packet: packet(60) })
    assert.equal(run.verdict, 'tx')
    assert.deepEqual([...run.packet], [...packet(12), 0x81, 0, 0, 42, ...packet(60).subarray(12)])
  })
  for (const [what, move] of [
    ['head', (x: Xdp) => x.adjustHead(-4)],
    ['tail', (x: Xdp) => x.adjustTail(-4)],
    ['metadata', (x: Xdp) => x.adjustMeta(-4)],
  ] as const) {
    test(`what was read before the ${what} moved is still known`, (t) => {
      const loaded = load(
        t,
        defineXdp('before', (x) => {
          const { type } = x.packet.ethernet()
          move(x)
          x.if(type.eq(0x0c0d), () => 'drop')
          return 'tx'
        }),
      )
      assert.equal(loaded.program.testRun({ packet: packet(60) }).verdict, 'drop')
      assert.equal(loaded.program.testRun({ packet: packet(60).fill(0, 12, 14) }).verdict, 'tx')
    })
  }
  test('a move that the kernel refuses leaves an attempt, and the packet can be read there', (t) => {
    const loaded = load(
      t,
      defineXdp('refused', (x) => {
        const { type } = x.packet.ethernet()
        x.attempt(
          () => {
            x.adjustHead(-4000)
            return 'aborted'
          },
          () => {
            x.if(x.packet.bytes(0, 40).field(30, 'u8').eq(30).and(type.eq(0x0c0d)), () => 'drop')
          },
        )
        return 'pass'
      }),
    )
    assert.equal(loaded.program.testRun({ packet: packet(60) }).verdict, 'drop')
    assert.equal(loaded.program.testRun({ packet: packet(60).fill(0, 30, 31) }).verdict, 'pass')
  })
  test('the tail moves', (t) => {
    const loaded = load(
      t,
      defineXdp('cut', (x) => {
        x.adjustTail(x.packet.field(0, 'u8').as('s32').neg())
        return x.verdict(x.packet.length)
      }),
    )
    const run = loaded.program.testRun({ packet: packet(60).fill(20, 0, 1) })
    assert.deepEqual([run.returnValue, run.packet.length], [40, 40])
  })
  test('metadata is written in front of the packet', (t) => {
    const loaded = load(
      t,
      defineXdp('meta', (x) => {
        x.adjustMeta(-4)
        x.metadata(4).field(0, 'u32').set(0xdeadbeef)
        return 'tx'
      }),
    )
    assert.deepEqual([...loaded.program.testRun({ packet: packet() }).metadata], [0xef, 0xbe, 0xad, 0xde])
  })
  test('bytes are compared, swapped and copied', (t) => {
    const loaded = load(
      t,
      defineXdp('bytes', (x) => {
        const eth = x.packet.ethernet()
        x.require(eth.dst.eq(Uint8Array.of(0, 1, 2, 3, 4, 5)), 'drop')
        x.require(eth.dst.ne(eth.src), 'drop')
        eth.dst.swap(eth.src)
        return 'tx'
      }),
    )
    const run = loaded.program.testRun({ packet: packet() })
    assert.deepEqual(
      [run.verdict, [...run.packet.subarray(0, 12)]],
      ['tx', [6, 7, 8, 9, 10, 11, 0, 1, 2, 3, 4, 5]],
    )
    assert.equal(loaded.program.testRun({ packet: packet().fill(0, 5, 6) }).verdict, 'drop')
  })
  test('bytes at a computed offset, and loadBytes', (t) => {
    assert.equal(
      result(t, (x) => x.packet.bytesAt(x.packet.field(20, 'u8'), 2).field(0, 'be16').host().u32()),
      0x1415,
    )
    assert.equal(
      result(t, (x) => {
        const copy = x.struct(bytes(4))
        x.if(x.loadBytes(10, copy.fields).ne(0), () => 'aborted')
        return copy.fields.field(0, 'be32').host()
      }),
      0x0a0b0c0d,
    )
  })
  test('an offset is bounded for the verifier, whatever it was computed by', (t) => {
    const offsets: ((x: Xdp) => Value<'u32'>)[] = [
      (x) => x.packet.field(4, 'be16').host().u32().shr(6),
      (x) => x.packet.field(4, 'be32').host().shr(23),
      (x) => x.packet.field(4, 'u8').u32().mod(10),
      (x) => x.packet.field(4, 'u8').u32().div(7),
      (x) => x.packet.field(4, 'u32').shr(x.packet.field(3, 'u8')),
      (x) => x.random().and(15),
      (x) => x.random(),
      (x) => x.packet.field(4, 'u8').u32().mul(3),
      (x) =>
        x.select(
          x.packet.length.gt(50),
          x.packet.field(4, 'u8').u32(),
          x.packet.field(5, 'be16').host().u32(),
        ),
    ]
    for (const offset of offsets) {
      const definition = defineXdp('offset', { otherwise: 'drop' }, (x) => {
        x.packet.bytesAt(offset(x), 4).field(0, 'u32').set(7)
      })
      assert.ok(['pass', 'drop'].includes(String(verdict(t, definition))))
    }
  })
  test('queue, interface, time, random numbers and the processor', (t) => {
    const loaded = load(
      t,
      defineXdp('context', (x) => x.verdict(x.ifindex.shl(8).or(x.queue))),
    )
    assert.equal(loaded.program.testRun({ packet: packet(), ingressIfindex: 1, queue: 0 }).returnValue, 256)
    const before = process.hrtime.bigint()
    const micros = result(t, (x) => x.time().div(1000).u32())
    const after = process.hrtime.bigint()
    assert.ok(BigInt(micros) - (BigInt.asUintN(32, before / 1000n) - 1n) <= (after - before) / 1000n + 2n)
    assert.notEqual(
      result(t, (x) => x.random()),
      result(t, (x) => x.random()),
    )
    assert.ok(result(t, (x) => x.cpu()) < 1024)
  })
})

test('the same body always gives the same bytes', () => {
  const define = () =>
    defineXdp('same', (x) => {
      const eth = x.packet.ethernet({ vlans: 2 })
      x.if(eth.type.eq(0x800), () => {
        const transport = eth.ipv4().transport()
        x.if(transport.protocol.in([6, 17]), () => transport.ports().dstPort.set(7))
      })
    })
  assert.deepEqual(define().assembled.bytes, define().assembled.bytes)
})

test('a program of 600 statements in one function compiles, with its values on the stack', (t) => {
  const definition = defineXdp('large', (x) => {
    const fields = x.packet.bytes(0, 60)
    const values = Array.from({ length: 40 }, (_, at) =>
      fields
        .field(at, 'u8')
        .u32()
        .mul(at + 3),
    )
    for (let round = 0; round < 14; round++) {
      values.forEach(
        (value, at) => (values[at] = value.add(values[(at * 7 + round) % values.length]).xor(round)),
      )
    }
    return x.verdict(values.reduce((sum, value) => sum.add(value)))
  })
  const values = Array.from({ length: 40 }, (_, at) => at * (at + 3))
  for (let round = 0; round < 14; round++) {
    values.forEach(
      (value, at) => (values[at] = ((value + values[(at * 7 + round) % values.length]) ^ round) >>> 0),
    )
  }
  const expected = values.reduce((sum, value) => (sum + value) >>> 0)
  assert.equal(load(t, definition).program.testRun({ packet: packet() }).returnValue, expected)
})
