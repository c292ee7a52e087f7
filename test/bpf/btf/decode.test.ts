// Reading BTF: what the builder wrote, what clang wrote, what the kernel shows, and what nobody should have written.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import {
  Btf,
  BtfBuilder,
  BtfError,
  type BtfType,
  VMLINUX_BTF,
  codecOfType,
  encodeBtf,
  kernelBtf,
  loadBtf,
  loadedBtf,
} from '../../../src/bpf/btf/index.js'
import { BpfProgram } from '../../../src/bpf/index.js'
import { exit, mov, r0 } from '../../../src/bpf/asm.js'
import { encodeFuncInfo } from '../../../src/bpf/btf/records.js'
import { needsRoot } from '../../support/lab.js'

const hasTypes = existsSync(VMLINUX_BTF) ? false : 'this kernel does not show its types'

const name = fc.stringMatching(/^[a-z_][a-z0-9_]{0,12}$/)
const id = fc.nat(300)
const linkage = fc.constantFrom('static' as const, 'global' as const, 'extern' as const)
const u32 = fc.nat(0xffffffff)
const few = <T>(one: fc.Arbitrary<T>): fc.Arbitrary<T[]> => fc.array(one, { maxLength: 4 })

/** Any type, with every field present as the decoder gives it. */
const anyType: fc.Arbitrary<BtfType> = fc.oneof(
  fc.record({
    kind: fc.constant('int' as const),
    name,
    size: fc.constantFrom(1, 2, 4, 8, 16),
    bits: fc.nat(128),
    bitOffset: fc.nat(64),
    encoding: fc.constantFrom('unsigned' as const, 'signed' as const, 'char' as const, 'bool' as const),
  }),
  fc.record({
    kind: fc.constantFrom('ptr' as const, 'const' as const, 'volatile' as const, 'restrict' as const),
    type: id,
  }),
  fc.record({ kind: fc.constant('array' as const), element: id, index: id, length: u32 }),
  fc.record({
    kind: fc.constantFrom('struct' as const, 'union' as const),
    name,
    size: u32,
    members: fc.oneof(
      few(fc.record({ name, type: id, bitOffset: u32 })),
      few(
        fc.record({ name, type: id, bitOffset: fc.nat(0xffffff), bitSize: fc.integer({ min: 1, max: 255 }) }),
      ),
    ),
  }),
  fc.boolean().chain((signed) =>
    fc.record({
      kind: fc.constant('enum' as const),
      name,
      size: fc.constant(4),
      signed: fc.constant(signed),
      values: few(
        fc.record({ name, value: signed ? fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }) : u32 }),
      ),
    }),
  ),
  fc.boolean().chain((signed) =>
    fc.record({
      kind: fc.constant('enum64' as const),
      name,
      size: fc.constant(8),
      signed: fc.constant(signed),
      values: few(
        fc.record({
          name,
          value: signed
            ? fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n })
            : fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
        }),
      ),
    }),
  ),
  fc.record({
    kind: fc.constant('fwd' as const),
    name,
    of: fc.constantFrom('struct' as const, 'union' as const),
  }),
  fc.record({ kind: fc.constant('typedef' as const), name, type: id }),
  fc.record({ kind: fc.constantFrom('func' as const, 'var' as const), name, type: id, linkage }),
  fc.record({
    kind: fc.constant('func_proto' as const),
    result: id,
    parameters: few(fc.record({ name, type: id })),
  }),
  fc.record({
    kind: fc.constant('datasec' as const),
    name,
    size: u32,
    variables: few(fc.record({ type: id, offset: u32, size: u32 })),
  }),
  fc.record({ kind: fc.constant('float' as const), name, size: fc.constantFrom(2, 4, 8, 12, 16) }),
  fc.record({
    kind: fc.constant('decl_tag' as const),
    name,
    type: id,
    component: fc.integer({ min: -1, max: 9 }),
  }),
  fc.record({ kind: fc.constant('type_tag' as const), name, type: id }),
)

describe('BTF, read', () => {
  test('any types come back as they were written, and by name', () => {
    fc.assert(
      fc.property(fc.array(anyType, { maxLength: 12 }), (types) => {
        const btf = Btf.parse(encodeBtf(types))
        assert.equal(btf.lastId, types.length)
        assert.deepEqual([...btf.types()], structuredClone(types))
        for (const [index, type] of types.entries()) {
          assert.equal(btf.kind(index + 1), type.kind)
          if ('name' in type) assert.ok(btf.findAll(type.name).includes(index + 1))
        }
      }),
      { seed: 1, numRuns: 500 },
    )
  })

  test('any bytes are read, or refused by a typed error', () => {
    const visit = (bytes: Uint8Array): void => {
      try {
        const btf = Btf.parse(bytes)
        for (const type of btf.types()) if ('name' in type) btf.findAll(type.name, true)
        for (let type = 0; type <= btf.lastId; type++) codecOfType(btf, type)
      } catch (error) {
        if (!(error instanceof BtfError)) throw error
        assert.equal(error.code, 'XDP_BTF')
      }
    }
    const sound = encodeBtf(fc.sample(anyType, { seed: 3, numRuns: 60 }))
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(sound.length - 1), (noise, at) => {
        visit(noise)
        const headed = Uint8Array.from(sound)
        headed.set(noise.subarray(0, sound.length - at), at)
        visit(headed)
      }),
      { seed: 2, numRuns: 2000 },
    )
  })

  test('names are found whole, and with flavours', () => {
    const btf = new BtfBuilder()
    const int = btf.int('int', 4)
    const ids = ['task', 'task___old', 'task___', 'taskset', 'multitask', 'task__x'].map((n) =>
      btf.typedef(n, int),
    )
    const read = Btf.parse(btf.encode())
    assert.deepEqual(read.findAll('task'), [ids[0]])
    assert.deepEqual(read.findAll('task', true), [ids[0], ids[1], ids[2]])
    assert.deepEqual(read.findAll('tas', true), [])
    assert.deepEqual(read.findAll(''), [])
    assert.equal(read.find('int', 'typedef'), undefined)
    assert.equal(read.find('int', 'int'), int)
  })

  test('circles and depths end', () => {
    const btf = new BtfBuilder()
    const loop = btf.reserve()
    btf.define(loop, { kind: 'typedef', name: 'loop', type: btf.add({ kind: 'const', type: loop }) })
    const array = btf.reserve()
    btf.define(array, { kind: 'array', element: array, index: loop, length: 2 })
    const own = btf.reserve()
    btf.define(own, {
      kind: 'struct',
      name: 'own',
      size: 8,
      members: [{ name: 'self', type: own, bitOffset: 0 }],
    })
    const read = Btf.parse(btf.encode())
    for (const id of [loop, array]) {
      assert.throws(() => read.sizeOf(id), { code: 'XDP_BTF' })
      assert.throws(() => codecOfType(read, id), { code: 'XDP_BTF' })
    }
    assert.equal(codecOfType(read, own).size, 8)
    assert.throws(() => read.type(99), { code: 'XDP_BTF' })
    assert.throws(() => read.sizeOf(0), { code: 'XDP_BTF' })
  })

  test('big-endian and foreign bytes are named as such', () => {
    const bytes = encodeBtf([])
    const swapped = Uint8Array.from(bytes)
    swapped.set([0xeb, 0x9f])
    assert.throws(() => Btf.parse(swapped), /big endian/)
    assert.throws(() => Btf.parse(new Uint8Array(24)), /begins with 0x0/)
    assert.throws(() => Btf.parse(bytes.subarray(0, 20)), /too few/)
  })

  test('values go through the codec of their type and back', () => {
    const btf = new BtfBuilder()
    const [int, u8, u64] = [btf.int('int', 4, 'signed'), btf.int('unsigned char', 1), btf.int('u64', 8)]
    const inner = btf.struct('inner', [
      { name: 'count', type: u64 },
      { name: 'delta', type: int },
    ])
    const outer = btf.struct('outer', [
      { name: 'flag', type: btf.int('_Bool', 1, 'bool') },
      { name: 'mac', type: btf.array(u8, 6) },
      { name: 'name', type: btf.array(btf.int('char', 1, 'signed'), 8) },
      { name: 'list', type: btf.array(inner, 2) },
      { name: 'color', type: btf.enum('color', { red: 1, blue: -2 }) },
      { name: 'next', type: btf.ptr(int) },
    ])
    const codec = codecOfType(Btf.parse(btf.encode()), outer)
    assert.equal(codec.size, btf.sizeOf(outer))
    const value = {
      flag: true,
      mac: Uint8Array.of(1, 2, 3, 4, 5, 6),
      name: 'veth0',
      list: [
        { count: 2n ** 63n, delta: -1 },
        { count: 0n, delta: 5 },
      ],
      color: -2,
      next: 0n,
    }
    const view = new DataView(new ArrayBuffer(codec.size))
    codec.encode(view, 0, value)
    assert.deepEqual(codec.decode(view, 0), value)
  })
})

describe("the kernel's types", { skip: hasTypes || needsRoot }, () => {
  test('every one is read and written again the same', () => {
    const btf = kernelBtf()
    assert.ok(btf.lastId > 10_000)
    const again = Btf.parse(encodeBtf([...btf.types()]))
    assert.equal(again.lastId, btf.lastId)
    for (let id = 1; id <= btf.lastId; id += 97) assert.deepEqual(again.type(id), btf.type(id))
  })

  test('names and layouts are those that bpftool reads', () => {
    const text = execFileSync('bpftool', ['btf', 'dump', 'file', VMLINUX_BTF], {
      encoding: 'utf8',
      maxBuffer: 1 << 30,
    })
    const btf = kernelBtf()
    const lines = new Map(
      [...text.matchAll(/^\[(\d+)\] (\w+) '([^']*)'(?: size=(\d+))?(?:.* vlen=(\d+))?/gm)].map((m) => [
        Number(m[1]),
        m,
      ]),
    )
    assert.equal(lines.size, btf.lastId)
    for (const name of ['xdp_buff', 'task_struct', 'net_device', 'sk_buff', 'list_head', 'xdp_md']) {
      const ids = btf.findAll(name)
      const theirs = [...lines].filter(([, match]) => match[3] === name).map(([id]) => id)
      assert.deepEqual(ids, theirs, name)
      for (const id of ids) {
        const type = btf.type(id)
        assert.equal(type.kind.toUpperCase(), lines.get(id)![2])
        if (type.kind === 'struct') {
          assert.equal(type.size, Number(lines.get(id)![4]))
          assert.equal(type.members.length, Number(lines.get(id)![5]))
        }
      }
    }
  })

  test('what was loaded can be read back by id', () => {
    const builder = new BtfBuilder()
    const main = builder.func('main', { result: builder.int('int', 4, 'signed') })
    using handle = loadBtf(builder.encode())
    using program = BpfProgram.load({
      type: 'xdp',
      name: 'main',
      code: [mov(r0, 2), exit()],
      btf: { fd: handle.fd, functions: encodeFuncInfo([{ insn: 0, type: main }]) },
    })
    const read = loadedBtf(program.info().btfId)
    assert.deepEqual([...read!.types()], [...Btf.parse(builder.encode()).types()])
    assert.equal(loadedBtf(0x7ffffff0), undefined)
  })
})
