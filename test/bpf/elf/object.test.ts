// Objects as they are read, without a kernel: programs, maps, variables, and what is refused with which words.
import assert from 'node:assert/strict'
import { basename } from 'node:path'
import { describe, test } from 'node:test'
import { BpfObject, ElfError } from '../../../src/bpf/elf/index.js'
import { kindOfSection, targetOfSection } from '../../../src/bpf/elf/sections.js'
import { disassemble } from '../../../src/bpf/index.js'
import { type CompileOptions, compiled, everyWay, needsClang, objectFile } from './compile.js'

const parse = (name: string, options?: CompileOptions): BpfObject =>
  BpfObject.parse(compiled(name, options), { name })

function refused(bytes: Uint8Array): ElfError {
  try {
    BpfObject.parse(bytes)
  } catch (error) {
    assert.ok(error instanceof ElfError, String(error))
    return error
  }
  assert.fail('it was read')
}

describe('what the name of a section says', () => {
  const table: readonly (readonly [section: string, ...says: unknown[]])[] = [
    ['xdp', 'xdp', undefined, undefined],
    ['?xdp', 'xdp', undefined, undefined],
    ['xdp/anything', 'xdp', undefined, undefined],
    ['xdp_sock', 'xdp', undefined, undefined],
    ['xdp_devmap', 'xdp', 'xdp_devmap', undefined],
    ['xdp_devmap/name', 'xdp', 'xdp_devmap', undefined],
    ['xdp/devmap', 'xdp', 'xdp_devmap', undefined],
    ['xdp_cpumap', 'xdp', 'xdp_cpumap', undefined],
    ['xdp.frags', 'xdp', undefined, true],
    ['xdp.frags/name', 'xdp', undefined, true],
    ['xdp.frags/cpumap', 'xdp', 'xdp_cpumap', true],
    ['tc', 'sched_cls', undefined, undefined],
    ['classifier/x', 'sched_cls', undefined, undefined],
    ['action', 'sched_act', undefined, undefined],
    ['socket', 'socket_filter', undefined, undefined],
    ['socket/http', 'socket_filter', undefined, undefined],
    ['fentry/tcp_connect', 'tracing', undefined, undefined],
    ['cgroup_skb/egress', 'cgroup_skb', undefined, undefined],
    ['xdpish', undefined, undefined, undefined],
    ['mystery', undefined, undefined, undefined],
    ['__proto__', undefined, undefined, undefined],
  ]
  for (const [section, ...says] of table) {
    test(`SEC("${section}")`, () => {
      const kind = kindOfSection(section)
      assert.deepEqual([kind?.type, kind?.attachType, kind?.frags], says)
    })
  }

  test('what a tracing program attaches to follows the slash', () => {
    assert.equal(targetOfSection('fentry/tcp_connect'), 'tcp_connect')
    assert.equal(targetOfSection('fentry/'), undefined)
    assert.equal(targetOfSection('fentry'), undefined)
  })
})

describe('an object, read', { skip: needsClang }, () => {
  test('its programs, in the order of the file', () => {
    for (const way of everyWay) {
      const object = parse('kinds', way)
      assert.equal(object.license, 'GPL')
      assert.deepEqual(
        object.programs
          .slice(0, 3)
          .map(({ name, section, type, instructions }) => [name, section, type, instructions]),
        [
          ['plain', 'xdp', 'xdp', 2],
          ['second', 'xdp', 'xdp', 2],
          ['frags', 'xdp.frags', 'xdp', 2],
        ],
      )
      const mystery = object.programs.find(({ section }) => section === 'mystery')
      assert.equal(mystery?.type, undefined)
      assert.equal(object.btf !== undefined, way.debug)
    }
  })

  test('its maps, with what the types say', () => {
    const maps = new Map(parse('maps').maps.map((map) => [map.name, map]))
    assert.deepEqual(maps.get('flows'), {
      name: 'flows',
      type: 'hash',
      keySize: 8,
      valueSize: 16,
      maxEntries: 64,
      role: 'map',
      isPinned: false,
    })
    assert.deepEqual(
      ['devices', 'queue', 'outer', 'events', 'private_map'].map((name) => {
        const map = maps.get(name)!
        return [map.type, map.keySize, map.valueSize, map.maxEntries]
      }),
      [
        ['devmap', 4, 8, 8],
        ['queue', 0, 4, 8],
        ['array_of_maps', 4, 4, 3],
        ['ringbuf', 0, 0, 100],
        ['array', 4, 4, 1],
      ],
    )
    assert.equal(parse('pinned').maps[0].isPinned, true)
  })

  test('its variables, those of sections of their own and static ones too', () => {
    for (const way of everyWay) {
      const globals = new Map(parse('globals', way).globals.map((global) => [global.name, global]))
      assert.deepEqual(globals.get('verdict'), {
        name: 'verdict',
        section: '.rodata',
        size: 1,
        isConstant: true,
      })
      assert.deepEqual(globals.get('special'), {
        name: 'special',
        section: '.rodata.special',
        size: 4,
        isConstant: true,
      })
      assert.deepEqual(globals.get('seen'), { name: 'seen', section: '.bss', size: 8, isConstant: false })
      assert.equal(globals.get('hidden_count')?.section, '.data')
      assert.equal(globals.get('table')?.size, 64)
    }
  })

  test('variables take what their C types hold, and nothing else', () => {
    const object = parse('globals')
    object
      .setGlobal('verdict', 255)
      .setGlobal('negative', -32768)
      .setGlobal('wide', 2n ** 64n - 1n)
      .setGlobal('wide', 12)
      .setGlobal('counting', true)
      .setGlobal('device', 'veth0')
      .setGlobal('list', [7, 8, 9])
      .setGlobal('limits', { low: 1, high: 2, tag: 'abcd' })
    for (const [name, value] of [
      ['verdict', 256],
      ['verdict', -1],
      ['verdict', 1.5],
      ['verdict', 'text'],
      ['negative', 32768],
      ['wide', 2n ** 64n],
      ['wide', -1],
      ['device', 'a name that is too long'],
      ['list', [1, 2]],
      ['list', 5],
      ['limits', { low: 1 }],
      ['limits', null],
      ['nothing', 1],
    ] as const) {
      assert.throws(() => object.setGlobal(name, value), { code: 'XDP_BAD_OPTION' }, name)
    }
    assert.throws(() => object.setGlobal('limits', { low: 1, high: 2, tagg: 'abcd' }), {
      message: /"limits" cannot be set: There is no member "tagg"/,
      hint: 'It has: low, high, tag.',
    })
  })

  test('without types, variables take whole numbers of their size, and bytes', () => {
    const object = parse('globals', { debug: false })
    object
      .setGlobal('verdict', 3)
      .setGlobal('negative', -5)
      .setGlobal('wide', 7n)
      .setGlobal('device', new Uint8Array(8))
    for (const [name, value] of [
      ['verdict', 256],
      ['wide', -(2n ** 64n)],
      ['device', new Uint8Array(3)],
      ['list', 5],
    ] as const) {
      assert.throws(() => object.setGlobal(name, value), { code: 'XDP_BAD_OPTION' })
    }
  })

  test('a linked program is itself and what it calls, and the file stays as it was', () => {
    const bytes = compiled('functions')
    const before = Uint8Array.from(bytes)
    const object = BpfObject.parse(bytes)
    const linked = object.link('first')
    assert.deepEqual(
      linked.functions.map(({ function: fn }) => fn.name).sort(),
      ['first', 'global_one', 'inner', 'innermost', 'lookup'].sort(),
    )
    assert.equal(linked.functions[0].index, 0)
    const calls = disassemble(linked.bytes).filter(({ text }) => /^call pc/.test(text))
    assert.ok(calls.length >= 4)
    assert.deepEqual(Uint8Array.from(bytes), before)
    assert.deepEqual(object.link('first'), linked, 'linking again gives the same')
    assert.throws(() => object.link('nothing'), { code: 'XDP_BAD_OPTION' })
  })

  test('what is no little-endian eBPF object is refused in words', () => {
    assert.match(refused(new Uint8Array(0)).message, /no ELF file/)
    // 'BC' 0xc0de, and the wrapper of it.
    for (const magic of [
      [0x42, 0x43, 0xc0, 0xde],
      [0xde, 0xc0, 0x17, 0x0b],
    ]) {
      const { message, hint } = refused(Uint8Array.of(...magic, 0x35, 0x14))
      assert.match(message, /LLVM bitcode/)
      assert.match(hint ?? '', /without -emit-llvm/)
    }
    assert.match(refused(new TextEncoder().encode('#include <stdio.h>')).message, /no ELF file/)
    const big = refused(compiled('kinds', { bigEndian: true }))
    assert.match(big.message, /big endian/)
    assert.match(big.hint ?? '', /bpfel/)
    const native = compiled('kinds').slice()
    const changed = Uint8Array.from(native)
    changed[18] = 62 // EM_X86_64
    assert.match(refused(changed).message, /machine 62, not for eBPF/)
    assert.match(refused(compiled('maps', { debug: false })).hint ?? '', /-g/)
  })

  test('one that is cut short anywhere says so', () => {
    const whole = compiled('globals')
    const table = new DataView(whole.buffer, whole.byteOffset).getUint32(40, true)
    for (const length of [40, 500, table - 1, table + 1, table + 64, whole.length - 1]) {
      assert.match(refused(whole.subarray(0, length)).hint ?? '', /cut short: compile or copy it again/)
    }
  })

  test('a file is opened by its path', () => {
    const path = objectFile('globals')
    const object = BpfObject.open(path)
    assert.equal(object.name, basename(path))
    assert.equal(object.programs[0].name, 'globals')
    assert.throws(() => BpfObject.open(`${path}.not`), { code: 'XDP_NOT_FOUND' })
    assert.throws(() => BpfObject.open('/'), { code: 'XDP_ELF' })
    // Neither ever ends.
    assert.throws(() => BpfObject.open('/dev/zero'), { code: 'XDP_ELF', message: /no regular file/ })
    assert.throws(() => BpfObject.open('/dev/stdin'), { code: 'XDP_ELF' })
  })

  test('errors say where, and never pass on control characters', () => {
    const error = new ElfError('Something', { section: 'a\u001b[31m', symbol: 'x'.repeat(200), offset: 16 })
    assert.match(error.message, /section "a\?\[31m"/)
    assert.match(error.message, /offset 0x10/)
    assert.ok(error.message.length < 150)
    assert.equal(error.offset, 16)
  })

  test('a map may only be resized by its own name', () => {
    const object = parse('maps')
    assert.throws(() => object.setMaxEntries('nothing', 1), { code: 'XDP_BAD_OPTION' })
    assert.throws(() => parse('globals').setMaxEntries('.bss', 2), { code: 'XDP_BAD_OPTION' })
  })
})
