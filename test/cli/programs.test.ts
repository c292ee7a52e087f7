// Commands that take a program, by name or as an object that clang made: judged by ip, bpftool and ping.
import assert from 'node:assert/strict'
import { existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs'
import { basename } from 'node:path'
import { describe, it, type TestContext } from 'node:test'
import { exit, mov, r0 } from '../../src/bpf/asm.js'
import { BpfProgram, attachXdp } from '../../src/bpf/index.js'
import { needsClang, objectFile, sourceOf } from '../bpf/elf/compile.js'
import { createTestLab, needsRoot, uniqueName } from '../support/lab.js'
import { type Result, XDP, run, startXdp, xdp, xdpJson, xdpOk } from './xdp.js'

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

/** What ip says of an interface's program: its id and `xdp->mode` (1 in the driver, 2 generic); undefined when there is none. */
async function attachedTo(link: string): Promise<{ mode: number; id: number } | undefined> {
  type Ip = { xdp?: { mode: number; prog: { id: number } } }
  const [{ xdp: attached }] = await json<Ip[]>('ip', '-j', '-d', 'link', 'show', link)
  return attached && { mode: attached.mode, id: attached.prog.id }
}

/** What bpftool says of the link behind a pin. */
const pinnedLink = (path: string) =>
  json<{ type: string; prog_id: number; devname?: string }>('bpftool', '-j', 'link', 'show', 'pinned', path)

/** A folder in the BPF file system that nobody else uses, gone when the test ends. */
function pinFolder(t: TestContext): string {
  const folder = `/sys/fs/bpf/${uniqueName('p')}`
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

/** Where `xdp load` pins the link of a lab's interface: gone when the test ends, also when it fails. */
function linkFolder(t: TestContext, name: string): string {
  const folder = `/sys/fs/bpf/xdp/${name}`
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  return folder
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
      const attached = await attachedTo(lab.name)
      const dump = await run(['bpftool', 'prog', 'dump', 'xlated', 'id', String(attached?.id)])
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

describe('xdp load and unload', { skip: needsRoot || needsClang }, () => {
  it('attach a shipped program by netlink, and take it off', async (t) => {
    const lab = createTestLab(t, { isolated: false })
    const said = await xdpOk('load', lab.name, 'pass', '--mode', 'generic')
    const [, id] = /^program (\d+) "xdp_pass" runs on \S+ in generic mode by netlink\n$/.exec(said) ?? []
    assert.deepEqual(await attachedTo(lab.name), { mode: 2, id: Number(id) })
    assertRefused(
      await xdp(['load', lab.name, 'redirect']),
      1,
      new RegExp(`already: program ${id} "xdp_pass" .*\\. Take it off with \`xdp unload ${lab.name}\``),
    )
    assert.equal(
      await xdpOk('unload', lab.name),
      `took program ${id} "xdp_pass" (generic, by netlink) off ${lab.name}\n`,
    )
    assert.equal(await attachedTo(lab.name), undefined)
    assert.equal(await xdpOk('unload', lab.name), `no XDP program attached to ${lab.name}\n`)
  })

  it('attach the chosen program of an object by a link that outlives the command', async (t) => {
    const lab = createTestLab(t, { isolated: false })
    const links = linkFolder(t, lab.name)
    await xdpOk('load', lab.name, objectFile('kinds'), '--section', 'second', '--attach', 'link')
    const attached = await attachedTo(lab.name)
    assert.equal(attached?.mode, 1)
    const pinned = await pinnedLink(`${links}/link`)
    assert.deepEqual([pinned.type, pinned.prog_id], ['xdp', attached.id])
    const program = await json<{ name: string }>('bpftool', '-j', 'prog', 'show', 'id', String(attached.id))
    assert.equal(program.name, 'second')
    for (const attach of ['link', 'netlink']) {
      assertRefused(
        await xdp(['load', lab.name, 'pass', '--attach', attach]),
        1,
        /"second" \(native, by link \d+\), loaded by uid 0\. Take it off with `xdp unload /,
      )
    }
    assert.match(await xdpOk('unload', lab.name), /^took program \d+ "second" \(native, by link \d+\) off /)
    assert.equal(await attachedTo(lab.name), undefined)
    assert.ok(!existsSync(links))
  })

  it('pin the program, its maps and its link where they are told to', async (t) => {
    const lab = createTestLab(t, { isolated: false })
    const folder = pinFolder(t)
    linkFolder(t, lab.name)
    await xdpOk('load', lab.name, objectFile('af_xdp_kern'), '--attach', 'link', '--pin', folder)
    const attached = await attachedTo(lab.name)
    assert.equal((await pinnedLink(`${folder}/link`)).prog_id, attached?.id)
    type Program = { id: number; map_ids: number[] }
    const program = await json<Program>('bpftool', '-j', 'prog', 'show', 'pinned', `${folder}/program`)
    assert.equal(program.id, attached?.id)
    assert.deepEqual(readdirSync(`${folder}/maps`).sort(), ['xdp_stats_map', 'xsks_map'])
    for (const map of ['xdp_stats_map', 'xsks_map']) {
      const { id } = await json<{ id: number }>(
        'bpftool',
        '-j',
        'map',
        'show',
        'pinned',
        `${folder}/maps/${map}`,
      )
      assert.ok(program.map_ids.includes(id))
    }
    await xdpOk('unload', lab.name)
    assert.equal(await attachedTo(lab.name), undefined)
    assert.ok(existsSync(`${folder}/maps/xdp_stats_map`))
    assertRefused(await xdp(['load', lab.name, 'pass', '--pin', folder]), 1, /pinned at .*\/program already/)
    assert.equal(await attachedTo(lab.name), undefined)
  })

  it('pin the maps of global variables too, by the names that libbpf gives them', async (t) => {
    const lab = createTestLab(t, { isolated: false })
    const folder = pinFolder(t)
    linkFolder(t, lab.name)
    const object = objectFile('globals')
    await xdpOk('load', lab.name, object, '--pin', folder)
    const theirs = pinFolder(t)
    mkdirSync(theirs)
    const bpftool = ['bpftool', 'prog', 'loadall', object, `${theirs}/p`, 'pinmaps', `${theirs}/maps`]
    assert.equal((await run(bpftool)).status, 0)
    const prefix = basename(object).split('.')[0].slice(0, 8)
    const names = [
      '_data_extra',
      '_rodata_special',
      ...['bss', 'data', 'rodata'].map((it) => `${prefix}_${it}`),
    ]
    assert.deepEqual(readdirSync(`${folder}/maps`).sort(), names)
    assert.deepEqual(readdirSync(`${theirs}/maps`).sort(), names)
    assert.match(
      (await run(['bpftool', 'map', 'dump', 'pinned', `${folder}/maps/${prefix}_data`])).stdout,
      /"total": 100/,
    )
    await xdpOk('unload', lab.name)
  })

  it('leave nothing behind when they fail', async (t) => {
    const lab = createTestLab(t, { isolated: false })
    const folder = pinFolder(t)
    const pin = ['--pin', `${folder}/deep/er`]
    await xdpOk('load', lab.name, 'pass')
    assertRefused(await xdp(['load', lab.name, 'redirect', ...pin]), 1, /has an XDP program already/)
    assert.ok(!existsSync(folder))
    await xdpOk('unload', lab.name)
    const elsewhere = `/tmp/${uniqueName('p')}`
    assertRefused(
      await xdp(['load', lab.name, 'pass', '--pin', elsewhere]),
      1,
      /Pins live in a BPF file system/,
    )
    assert.ok(!existsSync(elsewhere))
    assertRefused(
      await xdp(['load', lab.name, 'pass', '--pin', `${folder}.d`]),
      1,
      /without a dot in its name/,
    )
    await xdpOk('load', lab.name, 'pass', '--pin', folder)
    await xdpOk('unload', lab.name)
    for (const under of ['', '/deeper']) {
      assertRefused(
        await xdp(['load', lab.name, 'pass', '--pin', `${folder}/program${under}`]),
        1,
        /^xdp: \S+\/program is not a folder/,
      )
    }
    assertRefused(
      await xdp(['load', lab.name, objectFile('kinds')]),
      2,
      /kinds\d+\.o has several XDP programs: plain/,
    )
    assertRefused(await xdp(['load', lab.name, objectFile('kinds'), '-s', 'tc']), 1, /is not an XDP program/)
    assertRefused(
      await xdp(['load', lab.name, objectFile('kinds'), '-s', 'xdp/cpumap']),
      1,
      /devmap or cpumap/,
    )
    assertRefused(await xdp(['load', 'nosuch0', 'pass']), 1, /No interface nosuch0/)
    assertRefused(await xdp(['unload', 'nosuch0']), 1, /No interface nosuch0/)
    for (const cuts of [
      ['drop'],
      ['reflect'],
      ['acl', '--set', 'default=drop'],
      ['acl', '--set', 'deny=10.0.0.0/8', '--set', 'deny=0.0.0.0/0'],
      ['acl', '--set', 'deny=to:::/0'],
      ['balance', '--set', `device=${lab.name}`],
    ])
      assertRefused(await xdp(['load', 'lo', ...cuts]), 1, /lo is what .* Add --take-traffic/)
    assert.equal(await attachedTo(lab.name), undefined)
  })

  it('refuse a pin that would go with the command, in mounts of its own', async (t) => {
    const lab = createTestLab(t, { isolated: false })
    const namespace = `xdp-${lab.name}-b`
    const load = ['load', 'veth-b', 'pass', '--attach', 'link']
    assertRefused(
      await xdp(load, { prefix: ['ip', 'netns', 'exec', namespace] }),
      1,
      /would go with this command.* Attach by netlink/,
    )
    const links = await json<{ xdp?: unknown }[]>('ip', '-n', namespace, '-j', 'link', 'show', 'veth-b')
    assert.equal(links[0].xdp, undefined)
  })

  it('do not cut off what a running process holds', async (t) => {
    const lab = createTestLab(t, { isolated: false })
    await startXdp(t, ['drop', lab.name], /^xdp: dropping everything .*\n/)
    const attached = await attachedTo(lab.name)
    assertRefused(await xdp(['unload', lab.name]), 1, /Stop the process that holds link \d+/)
    assertRefused(await xdp(['load', lab.name, 'pass']), 1, /Stop the process that holds link \d+/)
    assert.deepEqual(await attachedTo(lab.name), attached)
  })

  it('are told who holds a queue, also where no program tells', async (t) => {
    const lab = createTestLab(t, { isolated: false })
    const { child } = await startXdp(t, ['drop', lab.name], /^xdp: dropping everything .*\n/)
    const attached = await attachedTo(lab.name)
    const busy = `\\(EBUSY\\)\\. Another AF_XDP socket holds queue 0 of ${lab.name}`
    const runs = `and ${lab.name} runs program ${attached?.id} "xdp_redirect" \\(native, by link (\\d+)\\)`
    const holder = `, loaded by uid 0, held by node \\(pid ${child.pid}\\); close it, or take another queue\\.`
    for (const command of ['drop', 'pong']) {
      assertRefused(await xdp([command, lab.name]), 1, new RegExp(`${busy}, ${runs}${holder}`))
    }
    const [link] = await json<{ id: number; prog_id: number }[]>('bpftool', '-j', 'link', 'show').then(
      (all) => all.filter(({ prog_id }) => prog_id === attached?.id),
    )
    await run(['bpftool', 'link', 'detach', 'id', String(link.id)])
    assert.equal(await attachedTo(lab.name), undefined)
    const open = new RegExp(`${busy}, and AF_XDP sockets are open in .*node \\(pid ${child.pid}\\)`)
    assertRefused(await xdp(['drop', lab.name]), 1, open)
  })

  it('get over a link whose interface went away', async (t) => {
    const lab = createTestLab(t, { isolated: false })
    const { name } = lab
    const links = linkFolder(t, name)
    await xdpOk('load', name, 'pass', '--attach', 'link')
    lab.down()
    t.after(() => xdp(['lab', 'down', name]))
    await xdpOk('lab', 'up', name)
    await xdpOk('load', name, 'pass', '--attach', 'link')
    assert.equal((await attachedTo(name))?.mode, 1)
    await xdpOk('unload', name)
    assert.ok(!existsSync(links))
  })
})

describe('xdp load --replace', { skip: needsRoot || needsClang }, () => {
  for (const attach of ['netlink', 'link']) {
    it(`puts a program in the place of another, attached by ${attach}, and attaches where there is none`, async (t) => {
      const lab = createTestLab(t, { isolated: false })
      linkFolder(t, lab.name)
      const load = ['load', lab.name, '--replace']
      const first = await xdpOk(...load, 'pass', '--attach', attach, '--mode', 'generic')
      assert.match(
        first,
        new RegExp(`^program \\d+ "xdp_pass" runs on \\S+ in generic mode by ${attach}\\n$`),
      )
      const old = await attachedTo(lab.name)
      const said = await xdpOk(...load, 'drop')
      const by = attach === 'link' ? 'link \\d+' : 'netlink'
      const there = `"xdp_drop" runs on \\S+ in generic mode by ${attach}, in the place of program ${old?.id} `
      assert.match(said, new RegExp(`${there}"xdp_pass" \\(generic, by ${by}\\)\\n$`))
      const now = await attachedTo(lab.name)
      assert.equal(now?.mode, 2)
      assert.notEqual(now?.id, old?.id)
      // What would have to be attached otherwise is refused, and changes nothing.
      const other = attach === 'link' ? 'netlink' : 'link'
      const refused =
        /cannot take the place of program \d+ "xdp_drop" .* in one step\. Leave the option out, or /
      assertRefused(await xdp([...load, 'pass', '--mode', 'native']), 1, refused)
      assertRefused(await xdp([...load, 'pass', '--attach', other]), 1, refused)
      assert.deepEqual(await attachedTo(lab.name), now)
      await xdpOk('unload', lab.name)
      assert.equal(await attachedTo(lab.name), undefined)
    })
  }

  it('pins the new program, and changes nothing when that fails', async (t) => {
    const lab = createTestLab(t, { isolated: false })
    const folder = pinFolder(t)
    linkFolder(t, lab.name)
    await xdpOk('load', lab.name, 'pass', '--attach', 'link')
    await xdpOk('load', lab.name, 'every-other', '--replace', '--pin', folder)
    const attached = await attachedTo(lab.name)
    assert.equal((await pinnedLink(`${folder}/link`)).prog_id, attached?.id)
    const again = await xdp(['load', lab.name, 'pass', '--replace', '--pin', folder])
    assertRefused(again, 1, /pinned at .* already/)
    assert.deepEqual(await attachedTo(lab.name), attached)
    await xdpOk('unload', lab.name)
  })

  it('leaves alone what a running process holds, and says which process that is', async (t) => {
    const lab = createTestLab(t, { isolated: false })
    const drop = await startXdp(t, ['drop', lab.name], /^xdp: dropping everything .*\n/)
    const attached = await attachedTo(lab.name)
    for (const replace of [['--replace'], []]) {
      assertRefused(
        await xdp(['load', lab.name, 'pass', ...replace]),
        1,
        new RegExp(
          `already: program ${attached?.id} "\\w+" \\(native, by link \\d+\\), loaded by uid 0, ` +
            `held by \\S+ \\(pid ${drop.child.pid}\\)\\. Stop the process`,
        ),
      )
    }
    assert.deepEqual(await attachedTo(lab.name), attached)
  })

  it('leaves alone the dispatcher of libxdp', async (t) => {
    const lab = createTestLab(t, { isolated: false })
    const dispatcher = BpfProgram.load({ type: 'xdp', name: 'xdp_dispatcher', code: [mov(r0, 2), exit()] })
    attachXdp(dispatcher, { interface: lab.name, attach: 'netlink' }).close()
    dispatcher.close()
    const result = await xdp(['load', lab.name, 'pass', '--replace'])
    assertRefused(result, 1, /is the dispatcher of libxdp, .* `xdp-loader unload \w+ --all` first/)
  })
})

describe('xdp … --set', { skip: needsRoot || needsClang }, () => {
  /** What a program pinned by `xdp load` answers to a packet. */
  const verdictOf = (folder: string) => {
    using program = BpfProgram.openPinned(`${folder}/program`)
    return program.testRun({ packet: new Uint8Array(60) }).verdict
  }

  it('gives the global variables of an object their values', async (t) => {
    const lab = createTestLab(t, { isolated: false })
    for (const [set, verdict] of [
      [[], 'pass'],
      [['verdict=1'], 'drop'],
      [
        [
          'verdict=0x3',
          'device=eth1',
          'list=[4, 5, 6]',
          'counting=false',
          'limits={"low":1,"high":2,"tag":"x"}',
        ],
        'tx',
      ],
      [['verdict=1', 'wanted_length=61'], 'drop'],
      [['verdict=2', 'wanted_length=61', 'negative=-7', 'wide=18446744073709551615'], 'drop'],
    ] as const) {
      const folder = pinFolder(t)
      const flags = set.flatMap((one) => ['--set', one])
      await xdpOk(
        'load',
        lab.name,
        objectFile('globals'),
        '-s',
        'globals',
        '--replace',
        '--pin',
        folder,
        ...flags,
      )
      assert.equal(verdictOf(folder), verdict, set.join(' '))
    }
  })

  it('refuses in one sentence what cannot be set', async () => {
    const object = objectFile('globals')
    for (const [set, says] of [
      ['nope=1', /has no variable "nope"\. It has: .*verdict/],
      ['verdict=x', /"x" is no value for the variable "verdict"\. Use a whole number, as in 53 or 0x35\./],
      ['verdict=', /"" is no value for the variable "verdict"/],
      ['verdict=256', /"verdict" cannot be set: 256 is no whole number from 0 to 255/],
      ['counting=maybe', /"maybe" is no value .* Use true or false\./],
      ['list=1,2,3', /no value for the variable "list"\. Use a list/],
      ['list=[1]', /"list" cannot be set: Got 1 elements where 3 are due/],
      ['limits=[1]', /no value for the variable "limits"\. Use its members/],
      ['device=muchtoolong', /"device" cannot be set: 11 bytes of text where 8 fit/],
      [
        'verdict',
        /'--set <name=value>' argument 'verdict' is invalid\. Use a name, an equals sign and a value/,
      ],
      ['=1', /is invalid\. Use a name/],
    ] as const) {
      assertRefused(await xdp(['check', object, '-s', 'globals', '--set', set]), 2, says)
    }
    const twice = ['--set', 'verdict=1', '--set', 'verdict=2']
    assertRefused(
      await xdp(['check', object, '-s', 'globals', ...twice]),
      2,
      /"verdict" is set more than once/,
    )
    for (const command of [
      ['check'],
      ['disasm'],
      ['load', 'lo'],
      ['drop', 'lo', '-p'],
      ['pong', 'lo', '-p'],
    ]) {
      const result = await xdp([...command, 'pass', '--set', 'port=1'])
      assertRefused(result, 2, /"pass" has no setting "port"\. Nothing can be set of it\./)
    }
    assertRefused(
      await xdp(['pong', 'lo', '--set', 'port=1']),
      2,
      /none was named\. Name one with --program\./,
    )
  })

  it('takes what `xdp programs` says of every shipped program', async () => {
    type Program = { name: string; summary: string; settings: { name: string; example: string }[] }
    const programs = await xdpJson<Program[]>('programs')
    assert.ok(programs.some(({ name }) => name === 'every-other'))
    const text = await xdpOk('programs')
    for (const { name, summary, settings } of programs) {
      assert.ok(text.includes(`${name} `) && text.includes(summary), name)
      for (const setting of settings) {
        assert.ok((await xdpOk('programs', name)).includes(`--set ${setting.name}=${setting.example} `))
        const given = ['--set', `${setting.name}=${setting.example}`]
        const { status, stderr } = await xdp(['disasm', name, ...given])
        // Some go only together with others: then that is what it says.
        if (status !== 0) assertRefused({ status, stderr, stdout: '', signal: null }, 2, /^xdp: \S/)
      }
      if (settings.length === 0) continue
      const wrong = await xdp(['check', name, '--set', 'no-such-setting=1'])
      assertRefused(
        wrong,
        2,
        new RegExp(`"${name}" has no setting "no-such-setting"\\. It has: ${settings[0].name}`),
      )
    }
    assertRefused(await xdp(['programs', 'nosuch']), 2, /no program "nosuch"\. Name one of /)
  })
})

describe('a filter in front of a program', { skip: needsRoot }, () => {
  /** What a program pinned by `xdp load` answers to 60 bytes of zeros. */
  const verdictOf = (folder: string) => {
    using program = BpfProgram.openPinned(`${folder}/program`)
    return program.testRun({ packet: new Uint8Array(60) }).verdict
  }
  /** Whether the lab's other end is answered. */
  const answers = async (name: string, version: '-4' | '-6'): Promise<boolean> => {
    const ping = ['lab', 'ping', name, version, '--', '-c', '2', '-i', '0.02', '-W', '0.2']
    return (await xdp(ping)).status === 0
  }

  it('keeps from xdp drop what does not match', async (t) => {
    const lab = createTestLab(t, { isolated: false })
    const ready = /^xdp: dropping everything that arrives and matches "icmp and len > 20" on .*\n/
    const drop = await startXdp(t, ['drop', lab.name, 'icmp', 'and', 'len', '>', '20', '-i', '0.1'], ready)
    assert.deepEqual([await answers(lab.name, '-4'), await answers(lab.name, '-6')], [false, true])
    await drop.waitFor('stdout', / 2 pkts /)
    await drop.stop('SIGTERM')
    assert.deepEqual([await answers(lab.name, '-4'), await answers(lab.name, '-6')], [true, true])
  })

  it('is loaded, and exchanged in one step', async (t) => {
    const lab = createTestLab(t, { isolated: false })
    const load = ['load', lab.name, 'drop', '--replace']
    for (const [flags, verdict] of [
      [['--filter', 'ether[0] = 0'], 'drop'],
      [['--filter', 'ether[0] = 1'], 'pass'],
      [['--set', 'filter=ether[0] = 0 and len = 60'], 'drop'],
    ] as const) {
      const folder = pinFolder(t)
      assert.match(await xdpOk(...load, '--pin', folder, ...flags), /"xdp_drop" runs on /)
      assert.equal(verdictOf(folder), verdict, flags.join(' '))
    }
    await xdpOk('unload', lab.name)
    const end = ['lab', 'load', lab.name, 'drop', '--replace', '-e', 'b', '--filter']
    await xdpOk(...end, 'icmp')
    assert.deepEqual([await answers(lab.name, '-4'), await answers(lab.name, '-6')], [false, true])
    await xdpOk(...end, 'udp')
    assert.ok(await answers(lab.name, '-4'))
  })

  it('is checked and printed with the program', async () => {
    const [bare, behind] = [[], ['--filter', 'tcp port 80']].map((flags) => xdpOk('disasm', 'drop', ...flags))
    assert.ok((await behind).split('\n').length > (await bare).split('\n').length)
    assert.match(await xdpOk('check', 'drop', '--filter', 'tcp port 80'), /^the verifier takes "xdp_drop"/)
  })

  it('is pointed into where it is wrong, before anything is asked of the kernel', async () => {
    const wrong = ['tcp', 'prot', '80']
    for (const command of [
      ['drop', 'nosuch0', ...wrong],
      ['drop', 'nosuch0', '--filter', wrong.join(' ')],
      ['load', 'nosuch0', 'redirect', '--filter', wrong.join(' ')],
      ['load', 'nosuch0', 'drop', '--filter', wrong.join(' ')],
      ['measure', 'nosuch0', '--program', 'redirect', '--filter', wrong.join(' ')],
      ['check', 'acl', '--filter', wrong.join(' ')],
      ['disasm', 'mirror', '--set', `filter=${wrong.join(' ')}`],
    ]) {
      const { status, stdout, stderr } = await xdp(command)
      assert.deepEqual([status, stdout], [2, ''], stderr)
      assert.equal(stderr, 'xdp: "prot" cannot stand here; did you mean "port"?\n  tcp prot 80\n      ^^^^\n')
    }
  })

  it('is refused where it means nothing', async () => {
    for (const [command, says] of [
      [['check', 'pass', '--filter', 'tcp'], /"pass" takes no filter\. It does the same/],
      [['drop', 'lo', 'tcp', '--filter', 'udp'], /The filter was given twice/],
      [['check', 'drop', '--filter', 'tcp', '--set', 'filter=udp'], /filter was given 2 times/],
      [['check', './some.o', '--filter', 'tcp'], /No filter can be put in front of .* in \.\/some\.o/],
      [['drop', 'lo', 'tcp', '-p', './some.o'], /No filter can be put in front of /],
      [['pong', 'lo', '--filter', 'tcp'], /--filter is about a program, and none was named/],
    ] as const) {
      assertRefused(await xdp(command), 2, says)
    }
  })
})

describe('xdp pong --program', { skip: needsRoot || needsClang }, () => {
  it('answers what a program of the user hands over, for its own addresses only', async (t) => {
    const lab = createTestLab(t, { isolated: false })
    const args = ['pong', lab.name, '--interval', '3600', '--program', objectFile('af_xdp_kern')]
    const pong = await startXdp(t, args, /^xdp: answering for .*\n/)
    const ping = [
      'ip',
      'netns',
      'exec',
      `xdp-${lab.name}-b`,
      'ping',
      '-n',
      '-c',
      '4',
      '-i',
      '0.05',
      '-W',
      '1',
    ]
    const answered = await run([...ping, lab.a.ipv4])
    // The tutorial's program hands over every other packet; the kernel answers the rest.
    assert.match(answered.stdout, /4 packets transmitted, 4 received/)
    const foreign = lab.a.ipv4.replace(/\d+$/, '77')
    await run([
      'ip',
      '-n',
      `xdp-${lab.name}-b`,
      'neigh',
      'replace',
      foreign,
      'lladdr',
      lab.a.mac,
      'dev',
      'veth-b',
    ])
    const stranger = await run([...ping, foreign])
    assert.match(stranger.stdout, /4 packets transmitted, 0 received/)
    const { status, stderr } = await pong.stop()
    assert.equal(status, 0, stderr)
    assert.match(stderr, /\nxdp: answered [23] IPv4 and 0 IPv6 pings, .*; ignored [1-9]/)
    assert.equal(await attachedTo(lab.name), undefined)
  })

  it('refuses a program without sockets, and to take the traffic of loopback', async (t) => {
    const lab = createTestLab(t, { isolated: false })
    assertRefused(await xdp(['pong', lab.name, '-p', 'pass']), 2, /"xdp_pass" gives no packets to sockets/)
    assertRefused(await xdp(['pong', 'lo', '-p', 'redirect']), 1, /lo is what .* Add --take-traffic/)
    assert.equal(await attachedTo(lab.name), undefined)
  })
})

describe('xdp measure --program', { skip: needsRoot || needsClang }, () => {
  /** Measures at one end of a lab what the other sends: a hundred numbered packets to port 9. */
  async function measure(t: TestContext, program: readonly string[]) {
    const lab = createTestLab(t, { isolated: false })
    const args = ['measure', lab.name, '--json', '--interval', '3600', '--program', ...program]
    const measuring = await startXdp(t, args, /^xdp: measuring on .*\n/)
    const sending = ['generate', 'veth-b', '--to', lab.a.ipv4, '--count', '100', '--rate', '10k']
    await xdpOk('lab', 'exec', '-e', 'b', lab.name, '--', ...XDP, ...sending)
    const { status, stdout, stderr } = await measuring.stop()
    assert.equal(await attachedTo(lab.name), undefined)
    const last = stdout.trim().split('\n').at(-1) ?? ''
    const { received, lost } = JSON.parse(last) as { received: number; lost: number }
    return { status, received, lost, stderr }
  }

  for (const program of [
    ['redirect', '--filter', 'udp dst port 9'],
    ['redirect-ports', '--set', 'port=9/udp'],
  ]) {
    it(`meters all that ${program[0]} gives to it`, async (t) => {
      const { status, received, lost, stderr } = await measure(t, program)
      assert.deepEqual([status, received, lost], [0, 100, 0], stderr)
    })
  }

  it('misses what the program of an object keeps from it: every other packet', async (t) => {
    for (const program of [[objectFile('af_xdp_kern')], [objectFile('af_xdp_kern'), '--section', 'xdp']]) {
      const { status, received, lost, stderr } = await measure(t, program)
      // Other packets come in between, which are counted too.
      assert.ok(received > 30 && received < 70, `${received} received`)
      assert.ok(lost > 30 && lost < 70, `${lost} lost`)
      assert.equal(status, 1, stderr)
    }
  })
})

describe('xdp demo --program', { skip: needsRoot || needsClang }, () => {
  it('lets the kernel answer what the program passes', async () => {
    for (const program of [['every-other'], [objectFile('af_xdp_kern'), '-s', 'xdp']]) {
      const stdout = await xdpOk('demo', '--count', '3', '--program', ...program)
      const answered = /answered (\d) of them with IPv4 and (\d) with IPv6; the kernel saw (\d)\n/.exec(
        stdout,
      )
      const [ipv4, ipv6, kernel] = (answered ?? []).slice(1).map(Number)
      assert.ok(ipv4 + ipv6 >= 1 && kernel >= 1, stdout)
      assert.equal(ipv4 + ipv6 + kernel, 6, stdout)
    }
  })

  it('answers itself what a filter in front lets through', async () => {
    const stdout = await xdpOk('demo', '-c', '2', '-p', 'redirect', '--filter', 'arp or icmp or icmp6')
    assert.match(stdout, /answered 2 of them with IPv4 and 2 with IPv6; the kernel saw 0\n/)
  })
})

describe('--program of any command with sockets', { skip: needsRoot || needsClang }, () => {
  it('refuses in one sentence what cannot be its program, before it looks for the interface', async () => {
    const object = objectFile('kinds')
    const isNoneFor = /gives no packets to sockets: it uses no map "xsks_map"/
    for (const command of [['pong', 'nosuch0'], ['demo']]) {
      assertRefused(await xdp([...command, '--program', 'pass']), 2, isNoneFor)
      assertRefused(await xdp([...command, '--program', object, '-s', 'named']), 2, isNoneFor)
    }
    for (const command of [
      ['measure', 'nosuch0'],
      ['drop', 'nosuch0'],
    ]) {
      for (const [program, status, says] of [
        [['pass'], 2, isNoneFor],
        [[object, '-s', 'named'], 2, /"named" of .* gives no packets to sockets/],
        [[object, '-s', 'xdp/cpumap'], 1, /is meant for the entries of a devmap or cpumap/],
        [[object], 2, /has several XDP programs: /],
        [[object, '-s', 'nosuch'], 2, /has no program or section "nosuch"\. It has: /],
        [['nosuch'], 2, /There is no program "nosuch"\. Name one of the shipped programs/],
        [['./nosuch.o'], 1, /There is no file \.\/nosuch\.o/],
        [[sourceOf('kinds')], 1, /is no ELF file/],
        [['redirect', '-s', 'xdp'], 2, /is a shipped program and has no sections/],
        [['redirect', '--set', 'port=1'], 2, /has no setting "port"/],
      ] as const) {
        assertRefused(await xdp([...command, '--program', ...program]), status, says)
      }
    }
  })

  it('is needed for what is said of a program', async () => {
    for (const command of [['measure', 'nosuch0'], ['pong', 'nosuch0'], ['demo']]) {
      for (const [option, value] of [
        ['section', 'xdp'],
        ['set', 'port=1'],
        ['filter', 'tcp'],
      ]) {
        const says = new RegExp(`--${option} is about a program, and none was named`)
        assertRefused(await xdp([...command, `--${option}`, value]), 2, says)
      }
    }
    const both = await xdp(['measure', 'lo', '--port', '7', '--program', 'redirect'])
    assertRefused(both, 2, /'-p, --port <port>' cannot be used with option '--program <program>'/)
    assertRefused(
      await xdp(['measure', 'lo', '--program', 'redirect']),
      1,
      /lo is what .* Add --take-traffic/,
    )
  })
})

describe('a program that is split by tail calls', { skip: needsRoot || needsClang }, () => {
  const verdict = (name: 'drop' | 'pass') => ['--set', `verdict=${{ drop: 1, pass: 2 }[name]}`]

  /** Whether a ping from the other end is answered; the last part says so, and the first passes what gets no further. */
  async function isAnswered(name: string): Promise<boolean> {
    const { status } = await run(['ip', 'netns', 'exec', `xdp-${name}-b`, 'ping', '-c1', '-W1', labOf(name)])
    return status === 0
  }
  const addresses = new Map<string, string>()
  const labOf = (name: string) => addresses.get(name)!

  function setUp(t: TestContext) {
    const lab = createTestLab(t, { isolated: false })
    addresses.set(lab.name, lab.a.ipv4)
    const folder = linkFolder(t, lab.name)
    const object = objectFile('tail')
    const arrays = () => (existsSync(folder) ? readdirSync(folder).filter((entry) => entry !== 'link') : [])
    const ids = async () => {
      const programs = await json<{ id: number; name?: string }[]>('bpftool', '-j', 'prog', 'show')
      return programs.map(({ id }) => id)
    }
    return { name: lab.name, folder, object, arrays, ids }
  }

  for (const attach of ['netlink', 'link']) {
    it(`goes on calling after the command has ended, until it is replaced or taken off (${attach})`, async (t) => {
      const { name, folder, object, arrays, ids } = setUp(t)
      const load = (...more: string[]) => xdpOk('load', name, object, '-s', 'first', ...more)
      await load('--attach', attach, ...verdict('drop'))
      const first = (await attachedTo(name))!.id
      assert.deepEqual(arrays(), [`program-${first}`])
      assert.deepEqual(readdirSync(`${folder}/program-${first}`).sort(), ['first_jumps', 'last_jumps'])
      assert.equal(await isAnswered(name), false, 'the last part drops')

      await load('--replace', ...verdict('pass'))
      const second = (await attachedTo(name))!.id
      assert.deepEqual(arrays(), [`program-${second}`])
      assert.equal(await isAnswered(name), true)
      await load('--replace', ...verdict('drop'))
      assert.equal(await isAnswered(name), false)
      const third = (await attachedTo(name))!.id
      const called = await calledFrom(`${folder}/program-${third}/first_jumps`)

      assertRefused(await xdp(['load', name, object, '-s', 'first']), 1, /has an XDP program already/)
      assert.deepEqual(arrays(), [`program-${third}`])
      await xdpOk('unload', name)
      assert.ok(!existsSync(folder))
      // Nothing keeps the arrays, nor the programs in them; the kernel clears up behind the command's back.
      const isLeft = async () => (await ids()).some((id) => [first, second, third, called].includes(id))
      for (let tries = 0; await isLeft(); tries++) assert.ok(tries < 100, 'a program is still there')
    })
  }

  /** The id of the program in a program array, as bpftool tells it. */
  async function calledFrom(path: string): Promise<number> {
    const [{ value }] = await json<{ value: string[] }[]>('bpftool', '-j', 'map', 'dump', 'pinned', path)
    return Buffer.from(value.map(Number)).readUInt32LE()
  }

  it('has the pins of what was taken off otherwise cleared away by the next load', async (t) => {
    const { name, object, arrays } = setUp(t)
    await xdpOk('load', name, object, '-s', 'second')
    await run(['ip', 'link', 'set', 'dev', name, 'xdp', 'off'])
    // It calls itself, so that its own array keeps it: only what is gone can be told from what another namespace has.
    const kept = arrays()
    assert.equal(kept.length, 1)
    await xdpOk('load', name, object, '-s', 'first')
    await run(['ip', 'link', 'set', 'dev', name, 'xdp', 'off'])
    await xdpOk('load', name, 'pass')
    assert.deepEqual(arrays(), kept)
    await xdpOk('unload', name)
  })

  it('works in a lab too', async (t) => {
    const { name, object, arrays } = setUp(t)
    await xdpOk('lab', 'load', name, object, '-s', 'first', ...verdict('drop'))
    assert.equal(await isAnswered(name), false)
    await xdpOk('lab', 'load', name, object, '-s', 'first', '--replace', ...verdict('pass'))
    assert.equal(await isAnswered(name), true)
    assert.equal(arrays().length, 1)
    await xdpOk('lab', 'unload', name)
    assert.deepEqual(arrays(), [])
  })

  it('is refused where its arrays could not be kept', async (t) => {
    const { name, object } = setUp(t)
    const namespace = `xdp-${name}-b`
    assertRefused(
      await xdp(['load', 'veth-b', object, '-s', 'first'], { prefix: ['ip', 'netns', 'exec', namespace] }),
      1,
      /would go with this command.* Tail calls need their program array pinned/,
    )
    const links = await json<{ xdp?: unknown }[]>('ip', '-n', namespace, '-j', 'link', 'show', 'veth-b')
    assert.equal(links[0].xdp, undefined)
  })
})

describe('xdp lab load', { skip: needsRoot || needsClang }, () => {
  it('takes an object, at either end', async (t) => {
    const lab = createTestLab(t, { isolated: false })
    const object = objectFile('kinds')
    assert.match(
      await xdpOk('lab', 'load', lab.name, object, '--section', 'old_style', '--end', 'b'),
      /^program \d+ "old_style" runs on veth-b, end b /,
    )
    assertRefused(await xdp(['lab', 'load', lab.name, object]), 2, /several XDP programs/)
    assert.equal(await attachedTo(lab.name), undefined)
  })
})

describe('xdp drop --program', { skip: needsRoot || needsClang }, () => {
  /** Pings an end where `xdp drop` runs: the numbers of the answered requests, how many packets were counted, and taken. */
  async function ping(t: TestContext, program: readonly string[]) {
    const lab = createTestLab(t, { isolated: false })
    const args = ['drop', lab.name, '--json', '--interval', '3600', '--program', ...program]
    const drop = await startXdp(t, args, /^xdp: dropping what "\w+".* takes on .*\n/)
    const counter = await counterOf(lab.name)
    const counterBefore = await counter()
    const options = ['-n', '-c', '8', '-i', '0.2', '-W', '1', lab.a.ipv4]
    const { stdout } = await run(['ip', 'netns', 'exec', `xdp-${lab.name}-b`, 'ping', ...options])
    const counterAfter = await counter()
    const { status, stdout: counters, stderr } = await drop.stop()
    assert.equal(status, 0, stderr)
    assert.equal(await attachedTo(lab.name), undefined)
    const { rx } = JSON.parse(counters.trim().split('\n').at(-1)!) as { rx: { packets: number } }
    const sequence = [...stdout.matchAll(/icmp_seq=(\d+) ttl/g)].map(([, number]) => Number(number))
    return { sequence, counted: counterBefore === 0 ? counterAfter : -1, taken: rx.packets, text: stdout }
  }

  /** Reads how many packets the attached program has counted. */
  async function counterOf(link: string): Promise<() => Promise<number>> {
    const attached = await attachedTo(link)
    type Program = { map_ids: number[] }
    const { map_ids } = await json<Program>('bpftool', '-j', 'prog', 'show', 'id', String(attached?.id))
    for (const id of map_ids.map(String)) {
      const { name } = await json<{ name: string }>('bpftool', '-j', 'map', 'show', 'id', id)
      if (name !== 'xdp_stats_map') continue
      const lookup = ['bpftool', '-j', 'map', 'lookup', 'id', id, 'key', '0', '0', '0', '0']
      return async () => {
        const { value } = await json<{ value: string[] }>(...lookup)
        return Buffer.from(value.map(Number)).readUInt32LE()
      }
    }
    throw new Error(`the program on ${link} has no xdp_stats_map`)
  }

  for (const [what, program] of [
    ['shipped', () => ['every-other']],
    [
      'from an object',
      () => [objectFile('af_xdp_kern', { flags: ['-DCOUNTER=BPF_MAP_TYPE_ARRAY'] }), '-s', 'xdp'],
    ],
  ] as const) {
    it(`gives every other packet to the command: ping hears of icmp_seq 2, 4, 6 and 8 (${what})`, async (t) => {
      // A fresh lab's report for its IPv6 address may come in between, which is a packet like any other: then once more.
      for (let tries = 0; tries < 5; tries++) {
        const { sequence, counted, taken, text } = await ping(t, program())
        if (counted !== 8) continue
        assert.deepEqual(sequence, [2, 4, 6, 8], text)
        assert.equal(taken, 4)
        return
      }
      assert.fail('there was always a packet that ping did not send')
    })
  }

  it('refuses a program without sockets', async (t) => {
    const lab = createTestLab(t, { isolated: false })
    assertRefused(
      await xdp(['drop', lab.name, '-p', 'pass']),
      2,
      /"xdp_pass" gives no packets to sockets: .*xsks_map/,
    )
    const object = objectFile('kinds')
    assertRefused(
      await xdp(['drop', lab.name, '-p', object, '-s', 'named']),
      2,
      /"named" of .* gives no packets/,
    )
    assertRefused(await xdp(['drop', lab.name, '-p', object]), 2, /several XDP programs/)
    assert.equal(await attachedTo(lab.name), undefined)
  })
})
