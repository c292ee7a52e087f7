// The loader beside libbpf: the same objects, loaded by bpftool, give the kernel the same programs and maps.
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { BpfObject } from '../../../src/bpf/elf/index.js'
import { BpfProgram, decodeProgram, mapInfoById } from '../../../src/bpf/index.js'
import { BPF_PSEUDO_MAP_FD, BPF_PSEUDO_MAP_VALUE, LD_IMM64 } from '../../../src/bpf/instruction.js'
import { needsRoot } from '../../support/lab.js'
import { needsClang, objectFile } from './compile.js'

const INSTALLED = '/usr/lib/x86_64-linux-gnu/bpf'
const needsBpftool: string | false = (() => {
  try {
    execFileSync('bpftool', ['version'], { stdio: 'ignore' })
    return false
  } catch {
    return 'needs bpftool'
  }
})()

/** What the kernel has of a program, but for the ids of its maps. */
function essence(program: BpfProgram) {
  const code = decodeProgram(program.translated()).map((instruction) => {
    const isMap = instruction.src === BPF_PSEUDO_MAP_FD || instruction.src === BPF_PSEUDO_MAP_VALUE
    return instruction.opcode === LD_IMM64 && isMap ? { ...instruction, imm: 0 } : instruction
  })
  const info = program.info()
  const maps = info.mapIds.map((id) => {
    const { type, keySize, valueSize, maxEntries, flags, btfKeyTypeId, btfValueTypeId } = mapInfoById(id)!
    return [type, keySize, valueSize, maxEntries, flags, btfKeyTypeId, btfValueTypeId].join(' ')
  })
  return {
    code,
    type: program.type,
    name: program.name,
    gpl: info.gplCompatible,
    hasBtf: info.btfId > 0,
    maps: maps.sort(),
  }
}

/**
 * Loads with bpftool, in a mount namespace with a BPF file system of its own, since libbpf pins maps by their names. Gives the path of
 * that file system as seen from here; undefined when bpftool cannot load the object.
 */
async function loadWithBpftool(path: string): Promise<{ folder: string; close(): void } | undefined> {
  const script =
    'mount -t bpf bpf /sys/fs/bpf && bpftool prog loadall "$0" /sys/fs/bpf/p >&2 && echo ready && exec cat'
  const child = spawn('unshare', ['--mount', 'sh', '-c', script, path], { stdio: ['pipe', 'pipe', 'ignore'] })
  const isReady = await new Promise<boolean>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', () => resolve(false))
    child.stdout.once('data', () => resolve(true))
  })
  if (!isReady) return undefined
  return { folder: `/proc/${child.pid}/root/sys/fs/bpf`, close: () => child.stdin.end() }
}

/** Loads with bpftool and with this package, and compares; the programs' names, or undefined when bpftool cannot load it. */
async function compare(path: string, hasSameTag = true): Promise<string[] | undefined> {
  const theirsLoaded = await loadWithBpftool(path)
  if (!theirsLoaded) return undefined
  try {
    const { folder } = theirsLoaded
    const names = readdirSync(join(folder, 'p'))
    mkdirSync(join(folder, 'ours'))
    using loaded = BpfObject.open(path).load({ pinFolder: join(folder, 'ours') })
    assert.deepEqual([...loaded.programs.keys()].sort(), names.sort())
    for (const name of names) {
      using theirs = BpfProgram.openPinned(join(folder, 'p', name))
      const ours = loaded.program(name)
      assert.deepEqual(essence(ours), essence(theirs), name)
      // The tag is a hash of the program as it was handed over, code that is never reached included.
      if (hasSameTag) assert.equal(ours.tag, theirs.tag, name)
    }
    // Maps that are shared by a pin of their name are pinned by the same names.
    const pins = readdirSync(folder).filter(
      (name) => !['p', 'ours', 'maps.debug', 'progs.debug'].includes(name),
    )
    assert.deepEqual(readdirSync(join(folder, 'ours')).sort(), pins.sort())
    return names
  } finally {
    theirsLoaded.close()
  }
}

describe('beside libbpf', { skip: needsRoot || needsClang || needsBpftool }, () => {
  for (const optimise of ['-O1', '-O2', '-O3'] as const) {
    test(`${optimise}: objects of every feature are the same programs`, async () => {
      for (const [name, programs] of [
        ['kinds', 7],
        ['globals', 1],
        ['functions', 4],
        ['maps', 5],
        ['core', 1],
        ['kfuncs', 1],
        ['af_xdp_kern', 1],
      ] as const) {
        const path = objectFile(name, { optimise, flags: ['-DLIBBPF'] })
        const compared = await compare(path, name !== 'kfuncs')
        assert.equal(compared?.length, programs, name)
      }
    })

    test(`${optimise} without -g: objects without types are the same programs`, async () => {
      for (const name of ['kinds', 'globals'] as const) {
        assert.ok(await compare(objectFile(name, { optimise, debug: false, flags: ['-DLIBBPF'] })), name)
      }
    })
  }

  test(
    'the objects that libxdp installs load, and are the same programs',
    {
      skip: existsSync(INSTALLED) ? false : 'libxdp is not installed',
    },
    async () => {
      const files = readdirSync(INSTALLED).filter((file) => file.endsWith('.o'))
      const compared: string[] = []
      for (const file of files) if (await compare(join(INSTALLED, file))) compared.push(file)
      // The one that traces other programs cannot be loaded without one.
      assert.deepEqual(
        files.filter((file) => !compared.includes(file)),
        ['xdpdump_bpf.o'].filter((file) => files.includes(file)),
      )
      assert.ok(compared.some((file) => file === 'xdp-dispatcher.o'))
      assert.ok(compared.some((file) => file.startsWith('xsk_def_xdp_prog')))
      assert.ok(compared.some((file) => file.startsWith('xdpfilt_')))
    },
  )

  test('stripped objects, and those that bpftool linked, are the same programs', async () => {
    for (const name of ['globals', 'functions', 'maps', 'core', 'kfuncs'] as const) {
      const path = objectFile(name, { flags: ['-DLIBBPF'] })
      const stripped = path.replace(/o$/, 'stripped.o')
      execFileSync('llvm-strip', ['-g', path, '-o', stripped])
      assert.ok(await compare(stripped, name !== 'kfuncs'), `${name}, stripped`)
      const linked = path.replace(/o$/, 'linked.o')
      execFileSync('bpftool', ['gen', 'object', linked, path])
      assert.ok(await compare(linked, name !== 'kfuncs'), `${name}, linked`)
    }
    const both = objectFile('part_a').replace(/o$/, 'both.o')
    execFileSync('bpftool', ['gen', 'object', both, objectFile('part_a'), objectFile('part_b')])
    assert.deepEqual(await compare(both), ['a'])
    using loaded = BpfObject.open(both).load()
    assert.equal(loaded.program('a').testRun({ packet: new Uint8Array(64) }).returnValue, 3 * 2 + 6)
    assert.equal(loaded.readGlobal('shared_counter'), 6)
    assert.throws(
      () => BpfObject.open(objectFile('part_a')).load(),
      /"(other|shared_counter)" is used but not defined/,
    )
  })

  test(
    'the one that bpftool cannot load says what it lacks',
    {
      skip: existsSync(join(INSTALLED, 'xdpdump_bpf.o')) ? false : 'libxdp is not installed',
    },
    () => {
      const object = BpfObject.parse(readFileSync(join(INSTALLED, 'xdpdump_bpf.o')))
      assert.deepEqual(
        object.programs.map(({ name, type }) => [name, type]),
        [
          ['trace_on_entry', 'tracing'],
          ['trace_on_exit', 'tracing'],
        ],
      )
      assert.throws(() => object.load(), { code: 'XDP_ELF', symbol: 'trace_on_entry' })
    },
  )
})
