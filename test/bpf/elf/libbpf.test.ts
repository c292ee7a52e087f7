// The loader beside libbpf: the same objects, loaded by bpftool, give the kernel the same programs and maps.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync, readdirSync, rmSync } from 'node:fs'
import { basename, join } from 'node:path'
import { describe, test } from 'node:test'
import { BpfObject } from '../../../src/bpf/elf/index.js'
import { BpfProgram, decodeProgram, mapInfoById } from '../../../src/bpf/index.js'
import { BPF_PSEUDO_MAP_FD, BPF_PSEUDO_MAP_VALUE, LD_IMM64 } from '../../../src/bpf/instruction.js'
import { BPF_FILE_SYSTEM, ensureBpfFileSystem } from '../../../src/bpf/pin.js'
import { needsRoot, uniqueName } from '../../support/lab.js'
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

/** Loads with bpftool and with this package; undefined when bpftool cannot. */
function compare(path: string, hasSameTag = true): string[] | undefined {
  ensureBpfFileSystem()
  const folder = join(BPF_FILE_SYSTEM, uniqueName('lib'))
  try {
    try {
      execFileSync('bpftool', ['prog', 'loadall', path, folder], { stdio: 'pipe' })
    } catch {
      return undefined
    }
    const names = readdirSync(folder)
    using loaded = BpfObject.parse(readFileSync(path), { name: basename(path) }).load()
    assert.deepEqual([...loaded.programs.keys()].sort(), names.sort())
    for (const name of names) {
      using theirs = BpfProgram.openPinned(join(folder, name))
      const ours = loaded.program(name)
      assert.deepEqual(essence(ours), essence(theirs), name)
      // The tag is a hash of the program as it was handed over, code that is never reached included.
      if (hasSameTag) assert.equal(ours.tag, theirs.tag, name)
    }
    return names
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

describe('beside libbpf', { skip: needsRoot || needsClang || needsBpftool }, () => {
  for (const optimise of ['-O1', '-O2', '-O3'] as const) {
    test(`${optimise}: objects of every feature are the same programs`, () => {
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
        const compared = compare(path, name !== 'kfuncs')
        assert.equal(compared?.length, programs, name)
      }
    })

    test(`${optimise} without -g: objects without types are the same programs`, () => {
      for (const name of ['kinds', 'globals'] as const) {
        assert.ok(compare(objectFile(name, { optimise, debug: false, flags: ['-DLIBBPF'] })), name)
      }
    })
  }

  test(
    'the objects that libxdp installs load, and are the same programs',
    {
      skip: existsSync(INSTALLED) ? false : 'libxdp is not installed',
    },
    () => {
      const files = readdirSync(INSTALLED).filter((file) => file.endsWith('.o'))
      const compared = files.filter((file) => compare(join(INSTALLED, file)) !== undefined)
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
