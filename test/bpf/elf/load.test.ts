// Objects made by clang, loaded into the kernel and run: at every level of optimisation, with and without types.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdirSync, readdirSync, rmSync, rmdirSync } from 'node:fs'
import { describe, test, type TestContext } from 'node:test'
import { BpfMap, BpfProgram, VerifierError, kernelName } from '../../../src/bpf/index.js'
import { BpfObject, ElfError, type LoadObjectOptions, type LoadedObject } from '../../../src/bpf/elf/index.js'
import type { KernelError } from '../../../src/kernel/errors.js'
import { BPF_FILE_SYSTEM, ensureBpfFileSystem } from '../../../src/bpf/pin.js'
import { needsRoot, openDescriptors, uniqueName } from '../../support/lab.js'
import { type CompileOptions, compiled, everyWay, needsClang, sourceOf } from './compile.js'

const packet = (length = 64): Uint8Array => new Uint8Array(length)

function load(
  t: TestContext,
  name: string,
  options: CompileOptions & LoadObjectOptions = {},
  prepare: (object: BpfObject) => void = () => {},
): LoadedObject {
  const object = BpfObject.parse(compiled(name, options), { name })
  prepare(object)
  const loaded = object.load(options)
  t.after(() => loaded.close())
  return loaded
}

const run = (loaded: LoadedObject, program: string, length?: number): number =>
  loaded.program(program).testRun({ packet: packet(length) }).returnValue

const outcome = (program: BpfProgram): number | string => {
  try {
    return program.testRun({ packet: packet() }).returnValue
  } catch (error) {
    return (error as KernelError).code
  }
}

const bpftool = (...args: string[]): string => execFileSync('bpftool', args, { encoding: 'utf8' })

describe('objects on the kernel', { skip: needsRoot || needsClang }, () => {
  for (const way of everyWay) {
    const title = `${way.optimise}${way.debug ? ' -g' : ''}`

    test(`${title}: the section says what a program is`, (t) => {
      const loaded = load(t, 'kinds', { ...way, type: 'xdp' })
      const verdicts = Object.fromEntries(
        [...loaded.programs].map(([name, program]) => [name, `${program.type} ${outcome(program)}`]),
      )
      assert.deepEqual(verdicts, {
        plain: 'xdp 2',
        second: 'xdp 1',
        named: 'xdp 1',
        old_style: 'xdp 3',
        frags: 'xdp 0',
        // The kernel runs no programs that are meant for the entries of maps.
        behind_devmap: 'xdp EINVAL',
        behind_cpumap: 'xdp EINVAL',
        frags_devmap: 'xdp EINVAL',
        classify: 'sched_cls 2',
        classify_old: 'sched_cls 1',
        filter: 'socket_filter 7',
        unknown: 'xdp 3',
      })
      // And entries take those only.
      const devices = BpfMap.create({ type: 'devmap', name: 'd', value: 8, maxEntries: 1 })
      t.after(() => devices.close())
      const entry = (fd: number): Uint8Array => new Uint8Array(Uint32Array.of(1, fd).buffer)
      devices.update(0, entry(loaded.program('behind_devmap').fd) as never)
      assert.throws(() => devices.update(0, entry(loaded.program('plain').fd) as never), { code: 'EINVAL' })
    })

    test(`${title}: global data has its first values, constants what was set`, (t) => {
      const plain = load(t, 'globals', way)
      assert.equal(run(plain, 'globals'), 2)
      assert.equal(plain.readGlobal('seen'), 0n)
      assert.equal(plain.readGlobal('total'), 100n)

      const set = load(t, 'globals', way, (object) =>
        object
          .setGlobal('verdict', 3)
          .setGlobal('counting', true)
          .setGlobal('wanted_length', 64)
          .setGlobal('negative', -6)
          .setGlobal('wide', 2n ** 40n)
          .setGlobal('special', 1000)
          .setGlobal('seen', 5)
          .setGlobal('list', way.debug ? [0, 0, 50] : new Uint8Array(Uint32Array.of(0, 0, 50).buffer)),
      )
      assert.equal(run(set, 'globals', 65), 1)
      assert.equal(run(set, 'globals', 64), 3)
      assert.equal(run(set, 'globals', 64), 3)
      assert.equal(set.readGlobal('seen'), 7n)
      assert.equal(set.readGlobal('total'), 100n + 2n * 2n ** 40n)
      assert.equal(set.readGlobal('extra'), 2007)
      assert.equal(set.readGlobal('hidden_count'), 7)
      // 1 + 2 + 'b' + 50 + 't' - 6
      assert.equal(set.readGlobal('sum'), BigInt(1 + 2 + 98 + 50 + 116 - 6))
      set.writeGlobal('seen', 40)
      run(set, 'globals', 64)
      assert.equal(set.readGlobal('seen'), 41n)
      assert.throws(() => set.writeGlobal('verdict', 1), { code: 'XDP_BAD_OPTION' })
      assert.throws(() => set.readGlobal('nothing'), { code: 'XDP_NOT_FOUND' })
      plain.close()
      assert.throws(() => plain.readGlobal('seen'), { code: 'XDP_STATE' })
      assert.throws(() => plain.writeGlobal('seen', 1), { code: 'XDP_STATE' })
      // Frozen: user space cannot change constants either.
      assert.throws(() => set.map('.rodata').update(0, new Uint8Array(set.map('.rodata').valueSize)), {
        code: 'EPERM',
      })
    })

    test(`${title}: functions are linked behind their callers, shared, nested, and taken by address`, (t) => {
      // Taking an address needs types.
      const only = way.debug ? ['first', 'near', 'each', 'shares'] : ['first', 'near', 'shares']
      const loaded = load(t, 'functions', { ...way, only }, (object) => object.setGlobal('factor', 5))
      const innermost = (x: number): number => x * 5 + 1
      const inner = (x: number): number => innermost(x + 1) ^ innermost(x + 2)
      const numbers = loaded.map('numbers')
      const value = (number: number): unknown => new Uint8Array(BigUint64Array.of(BigInt(number)).buffer)
      ;[100, 20, 3000, 4].forEach((number, index) => numbers.update(index, value(number)))
      assert.equal(run(loaded, 'first'), inner(64) + 10 + 3000)
      assert.equal(loaded.readGlobal('calls'), 2)
      assert.equal(run(loaded, 'near'), (innermost(64) & 0xff) + inner(1) + 10)
      assert.equal(run(loaded, 'shares', 80), inner(80 - 14))
      if (way.debug) assert.equal(run(loaded, 'each'), 3124 + 1 + 100)
    })

    test(`${title}: legacy maps, and one that was handed in`, (t) => {
      const sockets = BpfMap.create({ type: 'xskmap', name: 'mine', maxEntries: 8 })
      t.after(() => sockets.close())
      const loaded = load(t, 'legacy', { ...way, maps: { xsks_map: sockets } })
      assert.equal(loaded.map('xsks_map'), sockets)
      assert.ok(loaded.program('legacy').info().mapIds.includes(sockets.id))
      for (let i = 0; i < 3; i++) assert.equal(run(loaded, 'legacy'), 1)
      const totals = loaded.map('totals').lookup(0) as Uint8Array[]
      assert.equal(
        totals.reduce((sum, bytes) => sum + bytes[0], 0),
        3,
      )
      const byLength = loaded.map('by_length').lookup(Uint8Array.of(64, 0, 0, 0)) as Uint8Array
      assert.equal(byLength[0], 3)
      assert.equal(loaded.map('by_length').info().flags, 1)
      loaded.close()
      assert.ok(sockets.fd > 0, 'the map handed in stays open')
    })
  }

  for (const optimise of ['-O1', '-O2', '-O3'] as const) {
    test(`${optimise} -g: maps declared by their types hold values of those types`, (t) => {
      const loaded = load(t, 'maps', { optimise })
      assert.equal(run(loaded, 'count', 70), 2)
      assert.equal(run(loaded, 'count', 80), 2)
      assert.deepEqual(loaded.map('counters').lookup(1), { packets: 2n, bytes: 150n })
      const flow = { address: 0x0100007f, port: 80, protocol: 6, pad: 0 }
      assert.deepEqual([...loaded.map('flows')], [[flow, { packets: 2n, bytes: 70n }]])
      const perCpu = loaded.map('percpu').lookup(0) as bigint[]
      assert.equal(
        perCpu.reduce((sum, count) => sum + count),
        2n,
      )
      assert.equal(loaded.map('recent').lookup(1), 1)
      assert.equal(loaded.map('private_map').lookup(0), 41)
      assert.equal(loaded.map('events').maxEntries, 4096)
      assert.ok(loaded.map('perf').maxEntries > 0)
      assert.equal(run(loaded, 'nested'), 1)
      assert.equal(loaded.map('inner_b').lookup(1), 5)
      assert.equal(run(loaded, 'jumping'), 3, 'the tail call lands in the program that the map names')
      assert.equal(run(loaded, 'redirecting', 120), 1)
      assert.equal(run(loaded, 'redirecting', 60), 3)
      assert.equal(run(loaded, 'redirecting', 20), 2)
      const key = { length: 24, data: Uint8Array.of(10, 0, 0, 0) }
      loaded.map('prefixes').update(key, Uint8Array.of(1, 2, 3, 4))
      assert.deepEqual(loaded.map('prefixes').lookup({ ...key, length: 32 }), Uint8Array.of(1, 2, 3, 4))
    })
  }

  test('bpftool shows the maps with field names, and the program with its C lines', (t) => {
    const loaded = load(t, 'maps')
    run(loaded, 'count', 70)
    const [dumped] = JSON.parse(bpftool('-j', 'map', 'dump', 'id', String(loaded.map('flows').id))) as [
      { formatted: unknown },
    ]
    assert.deepEqual(dumped.formatted, {
      key: { address: 0x0100007f, port: 80, protocol: 6, pad: 0 },
      value: { packets: 1, bytes: 70 },
    })
    const globals = load(t, 'globals')
    const data = bpftool('map', 'dump', 'id', String(globals.map('.data').id))
    assert.match(data, /"total": 100/)
    const dump = bpftool('prog', 'dump', 'xlated', 'id', String(loaded.program('count').id), 'linum')
    assert.match(dump, /int count\(struct xdp_md ?\* ?ctx\)/)
    assert.match(dump, /; bpf_map_push_elem\(&queue, &one, 0\); \[file:.*maps\.c line_num:\d+ line_col:\d+\]/)
    const calls = bpftool(
      'prog',
      'dump',
      'xlated',
      'id',
      String(load(t, 'functions').program('first').id),
      'linum',
    )
    assert.match(calls, /int global_one\(/)
    assert.match(calls, /(?:__u32|unsigned int) innermost\(/)
  })

  test('a pinned map is shared by its name, and refused when it is another', (t) => {
    ensureBpfFileSystem()
    const folder = `${BPF_FILE_SYSTEM}/${uniqueName('elf')}`
    mkdirSync(folder)
    t.after(() => rmSync(folder, { recursive: true }))
    const one = load(t, 'pinned', { pinFolder: folder })
    const two = load(t, 'pinned', { pinFolder: folder })
    assert.equal(one.map('shared').id, two.map('shared').id)
    run(one, 'pinned')
    run(two, 'pinned')
    assert.equal(one.map('shared').lookup(0), 2)
    for (const [flag, says] of [
      ['-DVALUE=__u64', /values of 4 bytes, the codec is for 8/],
      ['-DENTRIES=2', /another map: max_entries 1 instead of 2 \(symbol "shared"\)/],
      ['-DFLAGS=BPF_F_MMAPABLE', /another map: map_flags 0x0 instead of 0x400/],
    ] as const) {
      assert.throws(() => load(t, 'pinned', { pinFolder: folder, flags: [flag] }), {
        code: 'XDP_ELF',
        message: says,
        hint: new RegExp(`rm ${folder}/shared`),
      })
    }
    assert.throws(
      () => load(t, 'pinned', { pinFolder: folder }, (object) => object.setMaxEntries('shared', 9)),
      {
        message: /max_entries 1 instead of 9/,
      },
    )
  })

  test('a pinned map is found again, also where the kernel or the loader chose its size or flags', (t) => {
    ensureBpfFileSystem()
    const folder = `${BPF_FILE_SYSTEM}/${uniqueName('elf')}`
    mkdirSync(folder)
    t.after(() => rmSync(folder, { recursive: true }))
    const options = { pinFolder: folder, flags: ['-DKINDS'] }
    const [one, two] = [load(t, 'pinned', options), load(t, 'pinned', options)]
    assert.equal(one.maps.size, 9)
    for (const [name, map] of one.maps) assert.equal(two.map(name).id, map.id, name)
  })

  test('nothing is pinned by a load that fails, or that only tries', (t) => {
    ensureBpfFileSystem()
    const folder = `${BPF_FILE_SYSTEM}/${uniqueName('elf')}`
    mkdirSync(folder)
    t.after(() => rmdirSync(folder))
    // A loop without an end, which the verifier refuses.
    const flags = ['-Dif(condition)=while(1)']
    assert.throws(() => load(t, 'pinned', { pinFolder: folder, flags }), { code: 'XDP_VERIFIER' })
    assert.deepEqual(readdirSync(folder), [])
    run(load(t, 'pinned', { pinFolder: false }), 'pinned')
    assert.deepEqual(readdirSync(folder), [])
  })

  test('only what was asked for is loaded, by section or function', (t) => {
    const names = (only: string | string[]): string[] => [...load(t, 'kinds', { only }).programs.keys()]
    assert.deepEqual(names('named'), ['named'])
    assert.deepEqual(names('xdp'), ['plain', 'second'])
    assert.deepEqual(names(['?xdp', 'filter']), ['filter', 'on_request'])
    assert.throws(() => names('nothing'), /has no program "nothing"/)
    const jumping = load(t, 'maps', { only: 'jumping' })
    assert.deepEqual([...jumping.maps.keys()], ['jumps'])
    assert.deepEqual([...jumping.programs.keys()], ['tail', 'jumping'], 'and what its program array names')
    assert.equal(run(jumping, 'jumping'), 3)
    assert.deepEqual([...load(t, 'maps', { only: 'nested' }).maps.keys()].sort(), [
      'inner_a',
      'inner_b',
      'outer',
      'outer_hash',
    ])
  })

  test('what a program array names is loaded with the program that uses it, and what that uses in turn', (t) => {
    for (const only of ['first', ['third', 'first']]) {
      const loaded = load(t, 'tail', { only })
      assert.deepEqual([...loaded.programs.keys()].sort(), ['first', 'second', 'third'])
      assert.equal(run(loaded, 'first'), 1)
      assert.deepEqual(loaded.readGlobal('reached'), [1n, 1n, 1n])
    }
    const third = load(t, 'tail', { only: 'third' })
    assert.deepEqual([...third.programs.keys()], ['third'])
    assert.ok(!third.maps.has('last_jumps'))
    // Filled by whoever made it.
    const jumps = BpfMap.create({ type: 'prog_array', name: 'jumps', maxEntries: 4 })
    t.after(() => jumps.close())
    const first = load(t, 'tail', { only: 'first', maps: { first_jumps: jumps } })
    assert.deepEqual([...first.programs.keys()], ['first'])
    assert.equal(run(first, 'first'), 2)
    assert.throws(() => load(t, 'tail', { only: 'first', flags: ['-DFUNCTION'] }), {
      code: 'XDP_ELF',
      message: /element 3, "no_program", is no program of the object \(symbol "first_jumps"\)/,
    })
  })

  test('a program whose section says nothing needs its type', (t) => {
    assert.throws(() => load(t, 'kinds', { only: 'unknown' }), { code: 'XDP_ELF', section: 'mystery' })
    assert.equal(run(load(t, 'kinds', { only: 'unknown', type: 'xdp' }), 'unknown'), 3)
  })

  test('a map handed in must fit', (t) => {
    const small = BpfMap.create({ type: 'hash', name: 'small', key: 4, value: 8, maxEntries: 1 })
    t.after(() => small.close())
    assert.throws(
      () => load(t, 'maps', { maps: { flows: small } }),
      /"flows" does not fit the object: size of keys 4 instead of 8, size of values 8 instead of 16/,
    )
    assert.throws(() => load(t, 'maps', { maps: { nothing: small } }), /has no map "nothing"/)
  })

  test('a map may be made larger than declared', (t) => {
    const loaded = load(t, 'maps', { only: 'count' }, (object) => object.setMaxEntries('flows', 1000))
    assert.equal(loaded.map('flows').maxEntries, 1000)
  })

  test('kernel functions are called, weak ones that are missing are not', (t) => {
    const loaded = load(t, 'kfuncs')
    assert.equal(run(loaded, 'uses_kernel'), 2)
    assert.equal(loaded.readGlobal('ifindex'), 1, 'test runs come from the loopback device')
    assert.ok((loaded.readGlobal('frame_size') as number) > 0)
    assert.equal(loaded.readGlobal('has_lock'), 1)
    assert.equal(loaded.readGlobal('has_other'), 0)
    assert.equal(loaded.readGlobal('has_variable'), 0)
  })

  test('what the object wants of the kernel and does not get is named', (t) => {
    const fails = (flag: string): ElfError => {
      try {
        load(t, 'broken', { flags: [`-D${flag}`, '-fno-builtin'] })
      } catch (error) {
        assert.ok(error instanceof ElfError, String(error))
        return error
      }
      assert.fail('it was loaded')
    }
    assert.match(fails('KFUNC').message, /This kernel has no "bpf_no_such_kfunc"/)
    assert.match(
      fails('WEAK').message,
      /needs the function bpf_no_such_kfunc, which this kernel does not have/,
    )
    assert.match(fails('KCONFIG').message, /configuration \(extern "LINUX_KERNEL_VERSION"\)/)
    assert.match(fails('UNDEFINED').message, /"elsewhere" is used but not defined/)
    assert.match(fails('MEMSET').hint ?? '', /__builtin_memset/)
    assert.match(fails('POINTERS').message, /addresses/)
    assert.match(fails('UNKNOWN_FIELD').message, /field "no_such_field"/)
  })

  test('the address of a function without its type is refused before anything is made', () => {
    const object = BpfObject.parse(compiled('functions', { debug: false }))
    assert.throws(
      () => object.load(),
      (error: ElfError) =>
        error instanceof ElfError && /address of "add"/.test(error.message) && /-g/.test(error.hint ?? ''),
    )
    object.load({ only: 'first' }).close()
  })

  test('a rejected program names its C line', (t) => {
    for (const way of everyWay) {
      assert.throws(
        () => load(t, 'broken', { ...way, flags: ['-DBOUNDS'] }),
        (error) => {
          assert.ok(error instanceof VerifierError, String(error))
          assert.match(error.line, /invalid bpf_context access off=200/)
          if (way.debug) {
            assert.equal(error.source?.file, sourceOf('broken'))
            assert.match(error.message, /broken\.c:\d+ `return \(\(volatile __u8 \*\)ctx\)\[200\];`/)
          }
          return true
        },
      )
    }
  })

  test('a program replaces a function of another one', (t) => {
    const dispatcher = load(t, 'functions', { only: 'first' })
    const program = dispatcher.program('first')
    assert.throws(() => load(t, 'replace', { attachTo: { program, function: 'nothing' } }), {
      code: 'XDP_ELF',
    })
    assert.throws(() => load(t, 'replace'), { code: 'XDP_ELF' })
    let replacement: LoadedObject
    try {
      replacement = load(t, 'replace', { attachTo: { program, function: 'global_one' } })
    } catch (error) {
      if ((error as KernelError).code !== 'EPERM') throw error
      return t.skip('this kernel takes no programs of type ext or tracing: it has no BPF trampolines')
    }
    assert.equal(replacement.program('instead').type, 'ext')
  })

  test('nothing stays open, loaded or refused', (t) => {
    load(t, 'maps').close()
    const before = openDescriptors()
    load(t, 'maps').close()
    load(t, 'globals').close()
    assert.throws(() => load(t, 'broken', { flags: ['-DBOUNDS'] }))
    assert.throws(() => load(t, 'broken', { flags: ['-DKFUNC'] }))
    assert.deepEqual(openDescriptors(), before)
  })

  test('maps and programs are named as bpftool users expect', (t) => {
    const loaded = load(t, 'globals')
    assert.equal(BpfProgram.openById(loaded.program('globals').id).name, 'globals')
    assert.equal(loaded.map('.rodata').info().name, kernelName('globals.rodata'))
    assert.equal(loaded.program('globals').info().gplCompatible, true)
  })
})
