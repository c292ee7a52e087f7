// Commands that take a program, by name or as an object that clang made: judged by ip, bpftool and ping.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { needsClang, objectFile, sourceOf } from '../bpf/elf/compile.js'
import { createTestLab, needsRoot } from '../support/lab.js'
import { type Result, run, xdp, xdpOk } from './xdp.js'

/** Demands one line on standard error, and nothing else printed. */
function assertRefused(result: Result, status: 1 | 2, says: RegExp): void {
  assert.equal(result.status, status, result.stderr)
  assert.match(result.stderr, /^xdp: [^\n]+\n$/)
  assert.match(result.stderr, says)
  assert.equal(result.stdout, '')
}

async function json<T>(...command: string[]): Promise<T> {
  const { status, stdout, stderr } = await run(command)
  assert.equal(status, 0, stderr)
  return JSON.parse(stdout) as T
}

describe('xdp check', { skip: needsRoot || needsClang }, () => {
  it('says what the verifier takes, by name and from an object', async () => {
    assert.match(
      await xdpOk('check', 'pass'),
      /^the verifier takes "xdp_pass": 2 instructions, tag [0-9a-f]{16}\n$/,
    )
    assert.match(
      await xdpOk('check', objectFile('af_xdp_kern')),
      /^the verifier takes "xdp_sock_prog" of \w+\.o: \d+ instructions, .* maps xdp_stats_map \(percpu_array\), xsks_map \(xskmap\)\n$/,
    )
  })

  it('prints the log of what the verifier rejects, and the line of the C source', async () => {
    const { status, stdout, stderr } = await xdp(['check', objectFile('broken', { flags: ['-DBOUNDS'] })])
    assert.equal(status, 1)
    assert.match(stdout, /^invalid bpf_context access off=200 size=1$/m)
    assert.match(stdout, /\nprocessed \d+ insns .*\n$/)
    assert.match(stderr, /^xdp: The verifier rejected the program "broken" at [^\n]+\n$/)
    assert.ok(stderr.includes(`${sourceOf('broken')}:`), stderr)
  })

  it('asks which of several programs is meant, and takes the function or the section', async () => {
    const object = objectFile('kinds')
    assertRefused(
      await xdp(['check', object]),
      2,
      /several XDP programs: plain \(SEC "xdp"\), second .*--section/,
    )
    assertRefused(await xdp(['check', object, '-s', 'xdp']), 2, /several programs: plain .*, second /)
    assertRefused(
      await xdp(['check', object, '-s', 'nope']),
      2,
      /no program or section "nope"\. It has: plain /,
    )
    assert.match(await xdpOk('check', object, '-s', 'second'), /takes "second" of /)
    assert.match(await xdpOk('check', object, '--section', 'xdp/named'), /takes "named" of /)
    assert.match(await xdpOk('check', object, '-s', 'xdp/cpumap'), /takes "behind_cpumap" of /)
  })

  it('refuses in one sentence what is no XDP program', async () => {
    const object = objectFile('kinds')
    assertRefused(
      await xdp(['check', object, '-s', 'classify']),
      1,
      /is not an XDP program but of type sched_cls/,
    )
    assertRefused(await xdp(['check', object, '-s', 'unknown']), 1, /of no known type/)
    assertRefused(await xdp(['check', sourceOf('kinds')]), 1, /no ELF file/)
    assertRefused(await xdp(['check', './nosuch']), 1, /There is no file \.\/nosuch/)
    assertRefused(await xdp(['check', 'nosuch']), 2, /no program "nosuch"\. Name one of .*every-other/)
    assertRefused(await xdp(['check', 'pass', '-s', 'xdp']), 2, /shipped program and has no sections/)
  })
})

describe('xdp disasm', { skip: needsRoot || needsClang }, () => {
  /** The instructions of a listing, without what stands between them. */
  const instructions = (text: string) => text.split('\n').filter((line) => /^ *\d+: \(/.test(line))

  it('agrees with bpftool on a program that the kernel does not rewrite', async (t) => {
    const lab = createTestLab(t, { isolated: false })
    for (const args of [['drop'], [objectFile('kinds'), '--section', 'named']]) {
      await xdpOk('lab', 'load', lab.name, ...args)
      type Ip = { xdp: { prog: { id: number } } }
      const [{ xdp: attached }] = await json<Ip[]>('ip', '-j', '-d', 'link', 'show', lab.name)
      const dump = await run(['bpftool', 'prog', 'dump', 'xlated', 'id', String(attached.prog.id)])
      assert.equal(dump.status, 0, dump.stderr)
      const ours = instructions(await xdpOk('disasm', ...args))
      assert.ok(ours.length > 0)
      assert.deepEqual(ours, instructions(dump.stdout))
      await xdpOk('lab', 'unload', lab.name)
    }
  })

  it('names functions, maps, what the kernel has, and the lines of the source', async () => {
    const functions = await xdpOk('disasm', objectFile('functions'), '-s', 'first')
    for (const name of ['first', 'global_one', 'inner', 'innermost', 'lookup']) {
      assert.match(functions, new RegExp(`^${name}:\n; .* @ ${sourceOf('functions')}:\\d+\n`, 'm'))
    }
    assert.match(functions, /= map\[numbers\]\n/)
    assert.match(functions, /= map\[\.rodata\]\[0\]\+0\n/)
    const kfunc = await xdpOk('disasm', objectFile('broken', { flags: ['-DKFUNC'], debug: true }))
    assert.match(kfunc, /: \(85\) call bpf_no_such_kfunc\n/)
    assert.match(
      await xdpOk('disasm', 'every-other'),
      /^xdp_every_other:\n[^]*= map\[xsks_map\]\n[^]*\(85\) call bpf_redirect_map#51\n/,
    )
  })

  it('needs neither types nor privileges', async () => {
    const { status, stdout, stderr } = await xdp(
      ['disasm', objectFile('functions', { debug: false }), '-s', 'each'],
      { prefix: ['setpriv', '--bounding-set=-all', '--inh-caps=-all'] },
    )
    assert.equal(status, 0, stderr)
    assert.match(stdout, /^each:\n {3}0: \(/)
    assert.ok(!stdout.includes('; '), stdout)
  })
})
