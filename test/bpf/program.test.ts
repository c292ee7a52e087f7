// Loading programs: what the verifier says of bad ones, how that is told, and everything else that can be refused.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, test } from 'node:test'
import {
  type Code,
  add,
  exit,
  jumpIf,
  label,
  load,
  loadMap,
  loadMapValue,
  mov,
  r0,
  r1,
  r2,
} from '../../src/bpf/asm.js'
import {
  BpfMap,
  BpfProgram,
  VerifierError,
  assemble,
  captureSources,
  type LoadOptions,
} from '../../src/bpf/index.js'
import { readVerifierLog } from '../../src/bpf/verifier.js'
import { KernelError } from '../../src/kernel/errors.js'
import { kernelAtLeast } from '../../src/kernel/version.js'
import { needsRoot, openDescriptors } from '../support/lab.js'

function rejected(options: Partial<LoadOptions> & { code: Code }): VerifierError {
  try {
    BpfProgram.load({ type: 'xdp', name: 'bad', ...options }).close()
  } catch (error) {
    assert.ok(error instanceof VerifierError, String(error))
    return error
  }
  assert.fail('the program was accepted')
}

// What a user sees of each kind of rejection is in rejected.test.ts.
describe('rejected programs', { skip: needsRoot }, () => {
  test('the message names the source line, when sources were captured', () => {
    const code = captureSources(() => [
      load('u32', r2, r1, 0),
      load('u8', r0, r2, 23), // the line at fault
      exit(),
    ])
    const error = rejected({ code })
    const lines = readFileSync(error.source!.file, 'utf8').split('\n')
    assert.match(lines[error.source!.line - 1], /load\('u8', r0, r2, 23\)/)
    assert.ok(error.message.includes(`${error.source!.file}:${error.source!.line}`), error.message)
    assert.match(error.message, /`load\('u8', r0, r2, 23\),/)
    assert.equal(rejected({ code: [exit()] }).source, undefined)
  })

  test('a log of megabytes is kept whole', () => {
    // The verifier walks the loop ten thousand times before it comes to the fault.
    const error = rejected({
      code: [
        mov(r0, 0),
        label('top'),
        add(r0, 1),
        jumpIf(r0, '<', 10_000, 'top'),
        load('u32', r2, r1, 0),
        load('u8', r0, r2, 0),
        exit(),
      ],
    })
    assert.match(error.line, /invalid access to packet/)
    assert.equal(error.instruction, 4)
    assert.ok(error.log.length > 500_000, `${error.log.length}`)
    assert.match(error.log, /^0: R1=ctx/m)
    assert.match(error.log, /processed \d+ insns .*\n$/)
    assert.ok(error.message.length < 500)
    // Printing the error does not print the log.
    assert.ok(!Object.keys(error).includes('log'))
  })

  test('a rejected program leaves no descriptor open', () => {
    rejected({ code: [exit()] })
    const before = openDescriptors()
    rejected({ code: [exit()] })
    assert.deepEqual(openDescriptors(), before)
  })
})

const passing = [mov(r0, 2), exit()]

describe('loading', { skip: needsRoot }, () => {
  test('names are cut and cleaned, ids and tags are the kernel’s', (t) => {
    const program = BpfProgram.load({ type: 'xdp', name: 'my program, with a long name', code: passing })
    t.after(() => program.close())
    assert.equal(program.name, 'my_program__wit')
    assert.match(program.tag, /^[0-9a-f]{16}$/)
    assert.equal(program.type, 'xdp')
    assert.equal(program.log, undefined)
    const same = BpfProgram.openById(program.id)
    t.after(() => same.close())
    assert.deepEqual([same.id, same.name, same.tag], [program.id, program.name, program.tag])
    assert.throws(() => BpfProgram.openById(0x7ffffff0), { code: 'XDP_NOT_FOUND' })
  })

  test('code, assembled programs and bare bytes load alike', (t) => {
    const assembled = assemble(passing)
    const programs = [passing, assembled, assembled.bytes].map((code) =>
      BpfProgram.load({ type: 'xdp', code }),
    )
    t.after(() => programs.forEach((program) => program.close()))
    assert.equal(new Set(programs.map(({ tag }) => tag)).size, 1)
    assert.throws(() => BpfProgram.load({ type: 'xdp', code: assembled.bytes.subarray(0, 12) }), {
      code: 'XDP_BAD_OPTION',
      option: 'code',
    })
    assert.throws(() => BpfProgram.load({ type: 'xdp', code: new Uint8Array(0) }), { option: 'code' })
  })

  test('maps are found by name, or handed in as they are; a missing one is named', (t) => {
    const map = BpfMap.create({ type: 'array', name: 'numbers', value: 8, maxEntries: 1 })
    t.after(() => map.close())
    const code = [loadMapValue(r1, 'numbers', 4), load('u32', r0, r1, 0), exit()]
    const byName = BpfProgram.load({ type: 'xdp', code, maps: { numbers: map } })
    const byMap = BpfProgram.load({ type: 'xdp', code: [loadMap(r1, map), mov(r0, 2), exit()] })
    t.after(() => [byName, byMap].forEach((program) => program.close()))
    assert.deepEqual(byName.info().mapIds, [map.id])
    assert.deepEqual(byMap.info().mapIds, [map.id])
    map.update(0, Uint8Array.of(0, 0, 0, 0, 3, 0, 0, 0))
    assert.equal(byName.testRun({ packet: new Uint8Array(64) }).verdict, 'tx')
    assert.throws(() => BpfProgram.load({ type: 'xdp', code, maps: { other: map } }), {
      code: 'XDP_BAD_OPTION',
      message: /"numbers"/,
      hint: /other/,
    })
    assert.throws(() => BpfProgram.load({ type: 'xdp', code, maps: {} }), { option: 'maps' })
    // Names that every object has are not maps.
    const tricky = [loadMap(r1, 'toString'), mov(r0, 2), exit()]
    assert.throws(() => BpfProgram.load({ type: 'xdp', code: tricky, maps: {} }), { option: 'maps' })
  })

  test('the log of an accepted program can be had, at each level', (t) => {
    const load = (log: LoadOptions['log']) => {
      const program = BpfProgram.load({ type: 'xdp', code: passing, ...(log && { log }) })
      t.after(() => program.close())
      return program.log
    }
    assert.equal(load(undefined), undefined)
    assert.match(load('basic')!, /^processed 2 insns/m)
    assert.match(load('verbose')!, /^0: \(b7\) r0 = 2/m)
    assert.match(load('statistics')!, /verification time|processed 2 insns/)
  })

  test('what is not the verifier’s is a KernelError', () => {
    // No capability is missing here, so an unknown flag stands for what the kernel refuses without a word.
    assert.throws(
      () => BpfProgram.load({ type: 'xdp', code: passing, flags: 0x40000000 }),
      (error) =>
        error instanceof KernelError && error.code === 'EINVAL' && error.syscall === 'bpf(PROG_LOAD)',
    )
    assert.throws(() => BpfProgram.load({ type: 'xdp', code: passing, frags: true, boundTo: 0x7fffffff }), {
      name: 'KernelError',
    })
  })

  test(
    'programs that share a map of devices must agree in frags, as the hint says',
    { skip: !kernelAtLeast(5, 18) && 'needs kernel 5.18' },
    (t) => {
      const map = BpfMap.create({ type: 'devmap', name: 'devices', maxEntries: 1 })
      t.after(() => map.close())
      const loadIt = (frags: boolean) => {
        const program = BpfProgram.load({ type: 'xdp', code: [loadMap(r1, map), mov(r0, 2), exit()], frags })
        t.after(() => program.close())
      }
      loadIt(true)
      loadIt(true)
      assert.throws(() => loadIt(false), { code: 'EINVAL', hint: /shares a map of .*devices.* frags\.$/ })
    },
  )

  test('without rights, the error says which are missing', () => {
    const script = fileURLToPath(new URL('unprivileged-child.js', import.meta.url))
    // Still as root: another user may not read a checkout in root's home.
    const drop = ['--bounding-set', '-all', '--inh-caps', '-all']
    const output = execFileSync('setpriv', [...drop, process.execPath, script], { encoding: 'utf8' })
    const { load, create } = JSON.parse(output) as Record<string, Record<string, string>>
    for (const failure of [load, create]) {
      assert.equal(failure['name'], 'KernelError')
      assert.equal(failure['code'], 'EPERM')
      assert.match(failure['hint'], /CAP_BPF/)
      assert.match(failure['message'], /"mine"/)
    }
  })

  test('other types of program load too', (t) => {
    for (const type of ['socket_filter', 'sched_cls'] as const) {
      const program = BpfProgram.load({ type, code: [mov(r0, 0), exit()] })
      t.after(() => program.close())
      assert.equal(program.type, type)
    }
  })

  test(
    'programs for several buffers, for devmaps and for cpumaps load',
    { skip: !kernelAtLeast(5, 18) && 'needs kernel 5.18' },
    (t) => {
      const options: Partial<LoadOptions>[] = [
        { frags: true },
        { attachType: 'xdp_devmap' },
        { attachType: 'xdp_cpumap' },
      ]
      for (const option of options) {
        const program = BpfProgram.load({ type: 'xdp', code: passing, ...option })
        t.after(() => program.close())
        assert.ok(program.id > 0)
      }
    },
  )

  test('closing twice is harmless, use after it an error', () => {
    const before = openDescriptors()
    const program = BpfProgram.load({ type: 'xdp', code: passing })
    program.close()
    program.close()
    assert.throws(() => program.fd, { code: 'XDP_STATE' })
    assert.throws(() => program.testRun({ packet: new Uint8Array(64) }), { code: 'XDP_STATE' })
    assert.deepEqual(openDescriptors(), before)
  })
})

test('any text can be read as a log', () => {
  assert.deepEqual(readVerifierLog(''), {
    line: '',
    instruction: undefined,
    instructionText: undefined,
    omittedLines: 0,
  })
  assert.equal(readVerifierLog('\n\n').line, '')
  assert.equal(readVerifierLog('some words\n').line, 'some words')
  const cut = 'R2 w=1\n7: (95) exit\nR0 leaks addr as return value\nprocessed 3 insns'
  assert.deepEqual(readVerifierLog(cut), {
    line: 'R0 leaks addr as return value',
    instruction: 7,
    instructionText: 'exit',
    omittedLines: 3,
  })
  // Source lines of BTF are not the objection.
  const lined = '; if (x) @ a.ts:3\n3: (71) r0 = *(u8 *)(r2 +0)\nR2 bad\n; next @ a.ts:4\nprocessed 1 insns'
  assert.equal(readVerifierLog(lined).line, 'R2 bad')
})
