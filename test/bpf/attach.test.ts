// Attaching on veth pairs: by link and by netlink, native and generic, updates, what is in the way, and what goes away.
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, rmSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, test, type TestContext } from 'node:test'
import { exit, mov, r0 } from '../../src/bpf/asm.js'
import {
  BPF_FILE_SYSTEM,
  BpfProgram,
  XdpAttachment,
  XdpBusyError,
  attachXdp,
  detachLinkById,
  detachXdp,
  ensureBpfFileSystem,
  linkInfoById,
  programInfoById,
  queryXdp,
  unpin,
  type AttachOptions,
} from '../../src/bpf/index.js'
import { KernelError } from '../../src/kernel/errors.js'
import { deleteLink, setLink } from '../../src/kernel/netlink/index.js'
import type { Lab } from '../../src/lab/index.js'
import { createTestLab, needsRoot, openDescriptors, uniqueName } from '../support/lab.js'

function load(t: TestContext, name = 'test', verdict = 2): BpfProgram {
  const program = BpfProgram.load({ type: 'xdp', name, code: [mov(r0, verdict), exit()] })
  t.after(() => program.close())
  return program
}

interface Setup {
  lab: Lab
  where: { interface: string; namespace: NonNullable<AttachOptions['namespace']> }
  query: () => ReturnType<typeof queryXdp>
  attach: (program: BpfProgram, options?: Partial<AttachOptions>) => XdpAttachment
}

function setUp(t: TestContext, options: Parameters<typeof createTestLab>[1] = {}): Setup {
  const lab = createTestLab(t, options)
  const where = { interface: lab.a.interface, namespace: lab.a.namespace! }
  const query = () => queryXdp(where.interface, where)
  const attach = (program: BpfProgram, options: Partial<AttachOptions> = {}) => {
    const attachment = attachXdp(program, { ...where, ...options })
    t.after(() => attachment.close())
    return attachment
  }
  return { lab, where, query, attach }
}

describe('attaching', { skip: needsRoot }, () => {
  for (const kind of ['link', 'netlink'] as const) {
    for (const mode of ['native', 'generic'] as const) {
      test(`by ${kind} in ${mode} mode: attach, query, update, detach`, (t) => {
        const { lab, query, attach } = setUp(t)
        const [first, second] = [load(t, 'first'), load(t, 'second')]
        assert.deepEqual(query(), [])
        const attachment = attach(first, { attach: kind, mode })
        assert.equal(attachment.kind, kind)
        assert.equal(attachment.mode, mode)
        assert.equal(attachment.fallbackReason, undefined)
        assert.equal(attachment.interface, lab.a.interface)
        assert.equal(attachment.ifindex, lab.a.ifindex)
        assert.equal(attachment.programId, first.id)
        assert.equal(attachment.linkId !== undefined, kind === 'link')
        const { linkId } = attachment
        const expected = (program: BpfProgram) => [
          { mode, id: program.id, name: program.name, tag: program.tag, kind, linkId, loadedBy: 0 },
        ]
        assert.deepEqual(query(), expected(first))

        // The first program may be closed: the attachment keeps what it needs to be replaced.
        first.close()
        attachment.update(second)
        assert.equal(attachment.programId, second.id)
        assert.deepEqual(query(), expected(second))
        assert.equal(programInfoById(first.id), undefined)
        attachment.update(second)

        assert.equal(attachment.detach(), true)
        assert.deepEqual(query(), [])
        assert.equal(attachment.detach(), false)
        assert.throws(() => attachment.update(second), { code: 'XDP_STATE' })
      })

      test(`by ${kind} in ${mode} mode: bpftool and ip see it`, async (t) => {
        const { lab, attach } = setUp(t)
        const program = load(t)
        attach(program, { attach: kind, mode })
        const { stdout } = await lab.exec('a', 'ip', ['-j', '-d', 'link', 'show', 'dev', lab.a.interface])
        const [{ xdp }] = JSON.parse(stdout) as { xdp: { mode: number; prog: { id: number } } }[]
        assert.equal(xdp.prog.id, program.id)
        assert.equal(xdp.mode, mode === 'native' ? 1 : 2) // XDP_ATTACHED_DRV, XDP_ATTACHED_SKB
      })
    }
  }

  test('closing a link detaches, closing a netlink attachment does not', (t) => {
    const { where, query, attach } = setUp(t)
    const program = load(t)
    attach(program, { attach: 'link' }).close()
    assert.deepEqual(query(), [])
    attach(program, { attach: 'netlink' }).close()
    assert.equal(query().length, 1)
    assert.equal(query()[0].kind, 'netlink')
    // It can be taken off without the object that put it there.
    assert.deepEqual(
      detachXdp(where.interface, where).map(({ id }) => id),
      [program.id],
    )
    assert.deepEqual(query(), [])
    assert.deepEqual(detachXdp(where.interface, where), [])
  })

  test('auto is native by link', (t) => {
    const { attach } = setUp(t)
    const attachment = attach(load(t))
    assert.deepEqual(
      [attachment.kind, attachment.mode, attachment.fallbackReason],
      ['link', 'native', undefined],
    )
  })

  for (const kind of ['link', 'netlink'] as const) {
    test(`auto falls back to generic mode by ${kind} when the driver refuses, and says why`, (t) => {
      // A veth refuses native XDP when its peer's packets could be larger than a page.
      const { lab, query, attach } = setUp(t)
      setLink(lab.b.ifindex, { mtu: 9000 }, { namespace: lab.b.namespace })
      const program = load(t)
      const attachment = attach(program, { attach: kind })
      assert.equal(attachment.mode, 'generic')
      assert.match(attachment.fallbackReason!, /native mode refused on .* \(veth\): .*MTU.* \(ERANGE\)/)
      assert.deepEqual(
        query().map(({ mode, id }) => [mode, id]),
        [['generic', program.id]],
      )
      attachment.detach()
      assert.throws(() => attach(program, { attach: kind, mode: 'native' }), {
        code: 'ERANGE',
        hint: /generic/,
        message: new RegExp(lab.a.interface),
      })
      assert.deepEqual(query(), [])
    })
  }

  test('hardware mode is refused clearly where there is none', (t) => {
    const { attach, query } = setUp(t)
    for (const kind of ['link', 'netlink'] as const) {
      assert.throws(
        () => attach(load(t), { attach: kind, mode: 'hardware' }),
        (error) => error instanceof KernelError && /card/.test(error.hint ?? ''),
      )
    }
    assert.deepEqual(query(), [])
  })

  test('an interface that is not there', (t) => {
    const program = load(t)
    const notThere = { code: 'XDP_NOT_FOUND', message: /no-such-link/ }
    assert.throws(() => attachXdp(program, { interface: 'no-such-link' }), notThere)
    assert.throws(() => queryXdp('no-such-link'), notThere)
    assert.throws(() => detachXdp('no-such-link'), notThere)
  })

  test('options that JavaScript misspells are refused by name, and nothing is attached', (t) => {
    const { where, query } = setUp(t)
    const program = load(t)
    for (const [option, options, says] of [
      ['mode', { ...where, mode: 'nativ' }, /"nativ" is no mode/],
      ['attach', { ...where, attach: 'lnk' }, /"lnk" is no attach/],
      ['interface', {}, /No interface is named/],
    ] as const) {
      assert.throws(() => attachXdp(program, options as unknown as AttachOptions), {
        code: 'XDP_BAD_OPTION',
        option,
        message: says,
      })
    }
    assert.deepEqual(query(), [])
  })

  test('programs for a devmap cannot be attached', (t) => {
    const { attach } = setUp(t)
    const program = BpfProgram.load({ type: 'xdp', attachType: 'xdp_devmap', code: [mov(r0, 2), exit()] })
    t.after(() => program.close())
    assert.throws(() => attach(program), { code: 'EINVAL' })
    const filter = BpfProgram.load({ type: 'socket_filter', code: [mov(r0, 0), exit()] })
    t.after(() => filter.close())
    assert.throws(() => attach(filter), { code: 'EINVAL' })
  })
})

describe('what is in the way', { skip: needsRoot }, () => {
  for (const there of ['link', 'netlink'] as const) {
    for (const coming of ['link', 'netlink'] as const) {
      for (const modes of [
        ['native', 'native'],
        ['generic', 'native'],
        ['native', 'generic'],
        ['generic', 'auto'],
      ] as const) {
        test(`${there} in ${modes[0]} mode, when ${coming} in ${modes[1]} mode comes`, (t) => {
          const { lab, query, attach } = setUp(t)
          const first = attach(load(t, 'first'), { attach: there, mode: modes[0] })
          const before = query()
          assert.throws(
            () => attach(load(t, 'second'), { attach: coming, mode: modes[1] }),
            (error: unknown) => {
              assert.ok(error instanceof XdpBusyError, String(error))
              assert.equal(error.code, 'XDP_BUSY')
              assert.deepEqual(error.attached, before)
              assert.equal(error.interface, lab.a.interface)
              assert.match(
                error.message,
                new RegExp(`program ${first.programId} "first" \\(${modes[0]}, by ${there}`),
              )
              const command =
                there === 'link'
                  ? `bpftool link detach id ${first.linkId}`
                  : `ip link set dev ${lab.a.interface} ${modes[0] === 'native' ? 'xdpdrv' : 'xdpgeneric'} off`
              assert.ok(error.hint!.includes(command), error.hint)
              return true
            },
          )
          assert.deepEqual(query(), before)
        })
      }
    }
  }

  test('the command in the advice takes the program off', async (t) => {
    const { lab, query, attach } = setUp(t)
    for (const [kind, mode] of [
      ['netlink', 'native'],
      ['netlink', 'generic'],
      ['link', 'native'],
    ] as const) {
      attach(load(t), { attach: kind, mode })
      const error = new XdpBusyError(lab.a.interface, query())
      const command = /`(.*)`/.exec(error.hint!)![1].split(' ')
      const result = await lab.exec('a', command[0], command.slice(1))
      assert.equal(result.status, 0, result.stderr)
      assert.deepEqual(query(), [])
    }
  })

  test('netlink replaces what it is told to replace, and nothing else', (t) => {
    const { query, attach } = setUp(t)
    const [first, second, third] = ['first', 'second', 'third'].map((name) => load(t, name))
    attach(first, { attach: 'netlink' })
    assert.throws(() => attach(second, { replace: third }), XdpBusyError)
    const replaced = attach(second, { replace: first })
    assert.equal(replaced.kind, 'netlink')
    assert.equal(query()[0].id, second.id)
    attach(third, { replace: 'any' })
    assert.equal(query()[0].id, third.id)
    // What was replaced is no longer there to be detached or updated.
    assert.equal(replaced.detach(), false)
    assert.equal(query()[0].id, third.id)
    assert.throws(() => attach(first, { attach: 'link', replace: third }), { code: 'XDP_BAD_OPTION' })
  })

  test('an update that comes second is refused', (t) => {
    const { query, attach } = setUp(t)
    const [first, second, third] = ['first', 'second', 'third'].map((name) => load(t, name))
    const one = attach(first, { attach: 'netlink' })
    attach(second, { replace: 'any' })
    assert.throws(() => one.update(third), { code: 'EEXIST' })
    assert.equal(query()[0].id, second.id)
  })

  test('a link is cut off only when asked', (t) => {
    const { where, query, attach } = setUp(t)
    const attachment = attach(load(t))
    assert.throws(() => detachXdp(where.interface, where), XdpBusyError)
    assert.equal(query().length, 1)
    assert.deepEqual(detachXdp(where.interface, { ...where, mode: 'generic' }), [])
    assert.equal(detachXdp(where.interface, { ...where, links: true }).length, 1)
    assert.deepEqual(query(), [])
    // Its owner is left with a dead link.
    assert.equal(attachment.detach(), false)
    assert.equal(detachLinkById(0x7ffffff0), false)
  })

  test('the interface may go first', (t) => {
    for (const kind of ['link', 'netlink'] as const) {
      const { lab, where, attach } = setUp(t)
      const attachment = attach(load(t), { attach: kind })
      deleteLink(lab.a.ifindex, where)
      assert.equal(attachment.detach(), false)
      lab.down()
    }
  })
})

describe('what stays and what goes', { skip: needsRoot }, () => {
  for (const mode of ['native', 'generic'] as const) {
    test(`a process killed with SIGKILL leaves no program attached (${mode})`, async (t) => {
      const { lab, where, query } = setUp(t)
      const script = fileURLToPath(new URL('attach-child.js', import.meta.url))
      const child = spawn(process.execPath, [script, where.namespace.name, lab.a.interface, mode], {
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      t.after(() => child.kill('SIGKILL'))
      const [line] = (await once(child.stdout, 'data')) as [Buffer]
      const [attached] = query()
      assert.equal(attached.id, Number(line.toString()))
      assert.equal(attached.name, 'child')
      const gone = once(child, 'exit')
      child.kill('SIGKILL')
      await gone
      assert.deepEqual(query(), [])
      // And the interface is free at once.
      attachXdp(load(t), where).close()
    })
  }

  test('a pinned link outlives its attachment, and can be taken up again', (t) => {
    const { where, query, attach } = setUp(t)
    ensureBpfFileSystem()
    const directory = `${BPF_FILE_SYSTEM}/${uniqueName('pin')}`
    mkdirSync(directory)
    t.after(() => rmSync(directory, { recursive: true }))
    const path = `${directory}/link`
    const [first, second] = [load(t, 'first'), load(t, 'second')]
    const attachment = attach(first)
    attachment.pin(path)
    assert.throws(() => attachment.pin(path), { code: 'XDP_EXISTS' })
    attachment.close()
    assert.equal(query()[0].id, first.id)

    const again = XdpAttachment.openPinned(path, where)
    t.after(() => again.close())
    assert.deepEqual(
      [again.kind, again.mode, again.interface, again.linkId, again.programId],
      ['link', 'native', where.interface, attachment.linkId, first.id],
    )
    again.update(second)
    assert.equal(query()[0].id, second.id)
    // Detaching works although the pin still holds the link.
    assert.equal(again.detach(), true)
    assert.deepEqual(query(), [])
    assert.equal(linkInfoById(attachment.linkId!)?.ifindex, 0)
    assert.throws(() => XdpAttachment.openPinned(path, where), { code: 'XDP_STATE' })
    assert.equal(unpin(path), true)
    assert.equal(linkInfoById(attachment.linkId!), undefined)
    assert.throws(() => XdpAttachment.openPinned(path, where), { code: 'XDP_NOT_FOUND' })
    assert.throws(() => attach(first, { attach: 'netlink' }).pin(path), { code: 'XDP_STATE' })
  })

  test('nothing leaks: attach, update, fail and detach leave no descriptor', (t) => {
    const { attach } = setUp(t)
    const [first, second] = [load(t), load(t)]
    const round = () => {
      for (const kind of ['link', 'netlink'] as const) {
        const attachment = attach(first, { attach: kind })
        attachment.update(second)
        assert.throws(() => attach(first), XdpBusyError)
        attachment.detach()
      }
    }
    round()
    const before = openDescriptors()
    round()
    assert.deepEqual(openDescriptors(), before)
  })

  test('forty attachments in a row need no wait', (t) => {
    const { query, attach } = setUp(t)
    const program = load(t)
    for (let i = 0; i < 40; i++) {
      const attachment = attach(program, { attach: i % 2 ? 'link' : 'netlink' })
      assert.equal(attachment.detach(), true)
    }
    assert.deepEqual(query(), [])
  })
})

test('ip(8) sees an own namespace only', { skip: needsRoot }, (t) => {
  // The index of an interface means another one, or none, out here: the link must have been made inside.
  const { lab, attach } = setUp(t)
  attach(load(t))
  assert.doesNotMatch(execFileSync('ip', ['link'], { encoding: 'utf8' }), new RegExp(lab.a.interface))
})
