// BTF written here, as the kernel and bpftool read it: map fields by name, TypeScript lines in the program dump.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { exit, load, mov, r0, r1, r2 } from '../../../src/bpf/asm.js'
import { BtfBuilder } from '../../../src/bpf/btf/builder.js'
import { takesBtf } from '../../../src/bpf/btf/from-codec.js'
import { loadBtf } from '../../../src/bpf/btf/load.js'
import { encodeFuncInfo, encodeLineInfo } from '../../../src/bpf/btf/records.js'
import { type BtfComposite, BtfError } from '../../../src/bpf/btf/types.js'
import {
  BpfMap,
  BpfProgram,
  VerifierError,
  array,
  assemble,
  be16,
  be32,
  bytes,
  counter,
  prefixKey,
  s32,
  struct,
  u16,
  u32,
  u64,
  u8,
} from '../../../src/bpf/index.js'
import { needsRoot } from '../../support/lab.js'

const bpftool = (...args: string[]): string => execFileSync('bpftool', args, { encoding: 'utf8' })

/** One of every kind, as the kernel would take them. */
function everyKind(): BtfBuilder {
  const btf = new BtfBuilder()
  const int = btf.int('int', 4, 'signed')
  const byte = btf.int('char', 1, 'char')
  const flag = btf.int('bool', 1, 'bool')
  const ids = btf.array(int, 7)
  const list = btf.reserve()
  const next = btf.ptr(list)
  btf.define(list, {
    kind: 'struct',
    name: 'list',
    size: 24,
    members: [
      { name: 'next', type: next, bitOffset: 0 },
      { name: 'low', type: int, bitOffset: 64, bitSize: 3 },
      { name: 'high', type: int, bitOffset: 67, bitSize: 5 },
      {
        name: '',
        type: btf.union('', [
          { name: 'a', type: int },
          { name: 'b', type: byte },
        ]),
        bitOffset: 96,
      },
      { name: 'flag', type: flag, bitOffset: 128 },
    ],
  })
  btf.enum('color', { red: 0, green: 1, blue: -1 })
  btf.add({
    kind: 'enum64',
    name: 'wide',
    size: 8,
    signed: false,
    values: [{ name: 'top', value: 2n ** 63n }],
  })
  btf.forward('other', 'union')
  const named = btf.typedef('number_t', btf.add({ kind: 'const', type: int }))
  btf.add({ kind: 'volatile', type: named })
  btf.add({ kind: 'restrict', type: next })
  const handler = btf.func('handler', {
    result: int,
    parameters: [{ name: 'list', type: next }],
    linkage: 'global',
  })
  btf.add({ kind: 'decl_tag', name: 'note', type: handler, component: 0 })
  btf.ptr(btf.add({ kind: 'type_tag', name: 'user', type: int }))
  btf.add({ kind: 'float', name: 'double', size: 8 })
  const variable = btf.add({ kind: 'var', name: 'ids', type: ids, linkage: 'global' })
  btf.add({ kind: 'datasec', name: '.data', size: 28, variables: [{ type: variable, offset: 0, size: 28 }] })
  return btf
}

describe('BTF made by the builder', () => {
  test('a type added again keeps its id, and a string its offset', () => {
    const btf = new BtfBuilder()
    assert.equal(btf.int('int', 4, 'signed'), btf.int('int', 4, 'signed'))
    assert.notEqual(btf.int('int', 4, 'signed'), btf.int('int', 4))
    const pair = (): number => btf.struct('pair', [{ name: 'a', type: btf.int('int', 4, 'signed') }])
    assert.equal(pair(), pair())
    assert.equal(btf.string('a line'), btf.string('a line'))
    assert.equal(btf.string(''), 0)
  })

  test('structs are laid out as C lays them out', () => {
    const btf = new BtfBuilder()
    const [byte, short, long] = [btf.int('u8', 1), btf.int('u16', 2), btf.int('u64', 8)]
    const inner = btf.struct('inner', [
      { name: 'a', type: byte },
      { name: 'b', type: short },
    ])
    const id = btf.struct('outer', [
      { name: 'x', type: byte },
      { name: 'inner', type: inner },
      { name: 'y', type: long },
      { name: 'z', type: btf.array(byte, 3) },
    ])
    const outer = btf.type(id) as BtfComposite
    assert.deepEqual(
      outer.members.map(({ name, bitOffset }) => [name, bitOffset / 8]),
      [
        ['x', 0],
        ['inner', 2],
        ['y', 8],
        ['z', 16],
      ],
    )
    assert.equal(outer.size, 24)
    assert.equal(btf.sizeOf(inner), 4)
  })

  test('what cannot be is refused: undefined ids, sizes of things without one', () => {
    const btf = new BtfBuilder()
    const id = btf.reserve()
    assert.throws(() => btf.encode(), { code: 'XDP_BTF' })
    btf.define(id, { kind: 'typedef', name: 'loop', type: id })
    assert.throws(() => btf.define(id, { kind: 'ptr', type: 0 }), { code: 'XDP_BTF' })
    assert.throws(() => btf.sizeOf(id), { code: 'XDP_BTF' })
    assert.throws(() => btf.sizeOf(btf.forward('x')), { code: 'XDP_BTF' })
    assert.throws(
      () =>
        encodeFuncInfo([
          { insn: 3, type: 1 },
          { insn: 3, type: 1 },
        ]),
      { code: 'XDP_BTF' },
    )
  })

  test(
    'the kernel takes one of every kind, and bpftool reads back what was meant',
    { skip: needsRoot },
    () => {
      const builder = everyKind()
      const encoded = builder.encode()
      using handle = loadBtf(encoded)
      assert.ok(handle.fd > 0)
      const folder = mkdtempSync(join(tmpdir(), 'btf-'))
      try {
        writeFileSync(join(folder, 'all.btf'), encoded)
        const text = bpftool('btf', 'dump', 'file', join(folder, 'all.btf'))
        assert.equal(text.match(/^\[\d+\]/gm)?.length, builder.types.length)
        for (const line of [
          /STRUCT 'list' size=24 vlen=5/,
          /'high' type_id=1 bits_offset=67 bitfield_size=5/,
          /ENUM 'color' encoding=SIGNED size=4 vlen=3/,
          /'blue' val=-1/,
          /ENUM64 'wide' encoding=UNSIGNED size=8 vlen=1\n\t'top' val=9223372036854775808/,
          /FWD 'other' fwd_kind=union/,
          /FUNC 'handler' type_id=\d+ linkage=global/,
          /DECL_TAG 'note' type_id=\d+ component_idx=0/,
          /TYPE_TAG 'user'/,
          /DATASEC '.data' size=28 vlen=1\n\ttype_id=\d+ offset=0 size=28 \(VAR 'ids'\)/,
        ]) {
          assert.match(text, line)
        }
      } finally {
        rmSync(folder, { recursive: true })
      }
    },
  )

  test('BTF that the kernel refuses is an error with its reason', { skip: needsRoot }, () => {
    const btf = new BtfBuilder()
    btf.typedef('1 bad name', btf.int('int', 4))
    assert.throws(
      () => loadBtf(btf.encode()),
      (error) => error instanceof BtfError && /Invalid name/.test(error.log ?? '') && error.errno === 22,
    )
    assert.throws(() => loadBtf(new Uint8Array(3)), { code: 'XDP_BTF' })
  })

  test('bpftool prints map keys and values by field name', { skip: needsRoot }, () => {
    const key = struct<{ address: number; port: number; protocol: number }>({
      address: be32,
      port: be16,
      protocol: u8,
    })
    const value = struct<{ packets: number; bytes: bigint; tags: number[]; last: { rtt: number } }>({
      packets: counter,
      bytes: u64,
      tags: array(u16, 2),
      last: struct<{ rtt: number }>({ rtt: s32 }),
    })
    const btf = new BtfBuilder()
    const types = { keyTypeId: btf.codec(key, 'flow'), valueTypeId: btf.codec(value, 'flow_stats') }
    using handle = loadBtf(btf.encode())
    using map = BpfMap.create({
      type: 'hash',
      name: 'flows',
      key,
      value,
      maxEntries: 4,
      btf: { fd: handle.fd, ...types },
    })
    map.update(
      { address: 0x0a000001, port: 80, protocol: 6 },
      { packets: 3, bytes: 300n, tags: [7, 8], last: { rtt: -5 } },
    )
    const [dumped] = JSON.parse(bpftool('-j', 'map', 'dump', 'id', String(map.id))) as [
      { formatted: unknown },
    ]
    assert.deepEqual(dumped.formatted, {
      key: { address: 0x0100000a, port: 0x5000, protocol: 6 },
      value: { packets: 3, bytes: 300, tags: [7, 8], last: { rtt: -5 } },
    })
  })

  test('keys of tries and raw bytes have types too', { skip: needsRoot }, () => {
    const btf = new BtfBuilder()
    const key = prefixKey(4)
    const types = { keyTypeId: btf.codec(key, 'prefix'), valueTypeId: btf.codec(bytes(6)) }
    using handle = loadBtf(btf.encode())
    const options = { key, value: bytes(6), maxEntries: 2, btf: { fd: handle.fd, ...types } }
    assert.ok(takesBtf('lpm_trie') && !takesBtf('xskmap'))
    using map = BpfMap.create({ type: 'lpm_trie', name: 'prefixes', ...options })
    assert.equal(map.info().btfKeyTypeId, types.keyTypeId)
    assert.equal(map.info().btfValueTypeId, types.valueTypeId)
    using plain = BpfMap.create({ type: 'array', name: 'a', value: u32, maxEntries: 1 })
    assert.equal(plain.info().btfValueTypeId, 0)
  })

  test('bpftool and the verifier show the TypeScript lines of a program', { skip: needsRoot }, () => {
    const btf = new BtfBuilder()
    const int = btf.int('int', 4, 'signed')
    const main = btf.func('count_all', {
      result: int,
      parameters: [{ name: 'ctx', type: btf.ptr(btf.forward('xdp_md')) }],
    })
    const at = (insn: number, line: number, text: string) => ({
      insn,
      file: '/src/count.ts',
      line,
      column: 5,
      text,
    })
    const lines = encodeLineInfo(btf, [at(0, 11, '  const queue = ctx.queue'), at(1, 12, 'return pass')])
    const functions = encodeFuncInfo([{ insn: 0, type: main }])
    using handle = loadBtf(btf.encode())
    const code = assemble([load('u32', r2, r1, 16), mov(r0, 2), exit()])
    using program = BpfProgram.load({
      type: 'xdp',
      name: 'count_all',
      code,
      btf: { fd: handle.fd, functions, lines },
    })
    const dump = bpftool('prog', 'dump', 'xlated', 'id', String(program.id), 'linum')
    assert.match(dump, /int count_all\(struct xdp_md ?\* ?ctx\)/)
    assert.match(dump, /; const queue = ctx\.queue \[file:\/src\/count\.ts line_num:11 line_col:5\]/)
    assert.match(dump, /; return pass \[file:\/src\/count\.ts line_num:12 line_col:5\]/)
    const bad = assemble([load('u32', r2, r1, 17), mov(r0, 2), exit()])
    assert.throws(
      () =>
        BpfProgram.load({ type: 'xdp', name: 'bad', code: bad, btf: { fd: handle.fd, functions, lines } }),
      (error) =>
        error instanceof VerifierError && error.log.includes('; const queue = ctx.queue @ count.ts:11'),
    )
  })
})
