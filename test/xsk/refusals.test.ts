// What cannot be: each refused with a stable code and advice, and nothing left behind: no program, descriptor or namespace.
import assert from 'node:assert/strict'
import { describe, it, type TestContext } from 'node:test'
import { attachXdp } from '../../src/bpf/index.js'
import { Namespace } from '../../src/kernel/index.js'
import type { Lab } from '../../src/lab/index.js'
import { XdpSocket, type XdpSocketOptions } from '../../src/xsk/index.js'
import { startChild } from '../support/child.js'
import { createTestLab, needsRoot, openDescriptors, uniqueName } from '../support/lab.js'
import { attachedAt, openAt, passProgram } from '../support/xsk.js'

interface Refusal {
  code: string | RegExp
  name?: string
  option?: string
  message?: RegExp
  hint?: RegExp
}

/** Opens a socket in vain. The error must be one sentence with advice, and leave nothing. */
async function refuses(lab: Lab, options: Partial<XdpSocketOptions>, expected: Refusal): Promise<void> {
  const descriptors = openDescriptors()
  const attached = attachedAt(lab.a)
  const ours = () => Namespace.list().filter((name) => name.includes(lab.name))
  const namespaces = ours()
  const open = XdpSocket.open({ interface: lab.a.interface, namespace: lab.a.namespace, ...options })
  await assert.rejects(open, (error: Error & { code: string; hint?: string; option?: string }) => {
    assertSentence(error)
    if (expected.code instanceof RegExp) assert.match(error.code, expected.code)
    else assert.equal(error.code, expected.code)
    if (expected.name) assert.equal(error.name, expected.name)
    if (expected.option) assert.equal(error.option, expected.option)
    if (expected.message) assert.match(error.message, expected.message)
    if (expected.hint) assert.match(error.hint ?? '', expected.hint)
    return true
  })
  assert.deepEqual(openDescriptors(), descriptors)
  assert.deepEqual(attachedAt(lab.a), attached)
  assert.deepEqual(ours(), namespaces)
}

function assertSentence({ message, hint }: { message: string; hint?: string }): void {
  assert.doesNotMatch(message, /\n/)
  assert.doesNotMatch(message, /undefined|NaN.*NaN|\[object/)
  if (hint !== undefined) assert.match(hint, /^[A-Z].*[.?]$/)
}

/** The queue still works after a refusal. */
async function works(t: TestContext, lab: Lab): Promise<void> {
  await (await openAt(t, lab.a)).close()
}

describe('a socket is refused', { skip: needsRoot }, () => {
  const bad: Record<string, [Record<string, unknown>, Refusal]> = {
    'no interface': [{ interface: '' }, { code: 'XDP_BAD_OPTION', option: 'interface' }],
    'an unknown interface': [
      { interface: 'veth-c' },
      {
        code: 'XDP_NOT_FOUND',
        name: 'NotFoundError',
        message: /veth-c.*there are: lo, veth-a/,
        hint: /veth-a/,
      },
    ],
    'a name too long for an interface': [
      { interface: 'x'.repeat(40) },
      { code: /XDP_NOT_FOUND|XDP_BAD_OPTION/ },
    ],
    'a queue beyond the last': [
      { queue: 1 },
      { code: 'XDP_BAD_OPTION', option: 'queue', message: /veth-a has no queue 1/, hint: /0/ },
    ],
    'a queue below 0': [{ queue: -1 }, { code: 'XDP_BAD_OPTION', option: 'queue' }],
    'a queue that is no number': [{ queue: 0.5 }, { code: 'XDP_BAD_OPTION', option: 'queue' }],
    'an unknown mode': [{ mode: 'skb' }, { code: 'XDP_BAD_OPTION', option: 'mode', hint: /native/ }],
    'hardware mode': [{ mode: 'hardware' }, { code: 'XDP_UNSUPPORTED', hint: /native/ }],
    'an unknown copy mode': [
      { copy: 'zerocopy' },
      { code: 'XDP_BAD_OPTION', option: 'copy', hint: /zero-copy/ },
    ],
    'an unknown way to attach': [{ attach: 'pin' }, { code: 'XDP_BAD_OPTION', option: 'attach' }],
    'a batch of 0': [{ batch: 0 }, { code: 'XDP_BAD_OPTION', option: 'batch' }],
    'a busy poll of 0 packets': [
      { busyPoll: { budget: 0 } },
      { code: 'XDP_BAD_OPTION', option: 'busyPoll.budget' },
    ],
    'a busy poll of 0 microseconds': [
      { busyPoll: { microseconds: 0 } },
      { code: 'XDP_BAD_OPTION', option: 'busyPoll.microseconds' },
    ],
    'no frames': [{ umem: { frames: 0 } }, { code: 'XDP_BAD_OPTION', option: 'frames' }],
    'frames of an odd size': [{ umem: { frameSize: 3000 } }, { code: 'XDP_BAD_OPTION', option: 'frameSize' }],
    'frames larger than a page': [
      { umem: { frameSize: 8192 } },
      { code: 'XDP_BAD_OPTION', option: 'frameSize' },
    ],
    'more headroom than a frame': [
      { umem: { headroom: 2000 } },
      { code: 'XDP_BAD_OPTION', option: 'headroom' },
    ],
    'a UMEM beyond 4 GiB': [{ umem: { frames: 2 ** 21 } }, { code: 'XDP_BAD_OPTION', option: 'frames' }],
    'zero copy in generic mode': [
      { mode: 'generic', copy: 'zero-copy' },
      { code: 'XDP_BAD_OPTION', option: 'copy' },
    ],
    'zero copy that the driver has not': [{ copy: 'zero-copy' }, { code: /^E(OP)?NOTSUPP?$/, hint: /copy/ }],
  }
  for (const ring of ['rx', 'tx', 'fill', 'completion']) {
    for (const size of [0, 3, -2, 1.5, 2 ** 33]) {
      bad[`a ${ring} ring of ${size}`] = [
        { rings: { [ring]: size } },
        { code: 'XDP_BAD_OPTION', option: `rings.${ring}`, message: new RegExp(`${ring} ring.*${size}`) },
      ]
    }
  }
  it('for options that cannot be', async (t) => {
    // One lab for all: each refusal must leave it as it was.
    const lab = createTestLab(t)
    for (const [what, [options, expected]] of Object.entries(bad)) {
      await t.test(what, () => refuses(lab, options, expected))
    }
    await works(t, lab)
  })

  it('for a ring that nobody needs', async (t) => {
    const lab = createTestLab(t)
    const expected = { code: 'XDP_BAD_OPTION', option: 'rings.fill', hint: /up to 1048576/ }
    await refuses(lab, { rings: { fill: 2 ** 31 } }, expected)
    await works(t, lab)
  })

  it('on a queue that another process holds', async (t) => {
    // A queue that no other test uses: for one that this thread closed lately the kernel is given more time.
    const queue = 7
    const lab = createTestLab(t, { queues: 8 })
    const child = startChild(
      lab,
      'a',
      `const socket = await XdpSocket.open({ interface: 'veth-a', queue: 7, attach: 'none' })
       await say('open')
       await socket.run(() => undefined)`,
    )
    await child.hasSaid(1)
    await refuses(
      lab,
      { queue },
      { code: 'EBUSY', message: /veth-a queue 7/, hint: /Another AF_XDP socket holds queue 7/ },
    )
    child.process.kill('SIGKILL')
    await child.ended()
    await works(t, lab)
  })

  for (const theirs of ['link', 'netlink'] as const) {
    for (const mine of ['link', 'netlink'] as const) {
      for (const mode of ['native', 'generic'] as const) {
        it(`by ${mine} where another program is attached by ${theirs} in ${mode} mode`, async (t) => {
          const lab = createTestLab(t)
          const { interface: name, namespace } = lab.a
          const program = passProgram(t)
          const attachment = attachXdp(program, { interface: name, namespace, attach: theirs, mode })
          await refuses(
            lab,
            { attach: mine, mode },
            {
              code: 'XDP_BUSY',
              message: new RegExp(`veth-a has .*${program.id} "in_the_way" \\(${mode}, by ${theirs}`),
              hint: /off|detach/,
            },
          )
          // The other mode is in the way too.
          const other = mode === 'native' ? 'generic' : 'native'
          await refuses(lab, { attach: mine, mode: other }, { code: 'XDP_BUSY' })
          await refuses(lab, { attach: mine }, { code: 'XDP_BUSY' })
          assert.equal(attachment.detach(), true)
          await works(t, lab)
        })
      }
    }
  }

  it('in a namespace that does not have the interface', async (t) => {
    const lab = createTestLab(t)
    await refuses(lab, { interface: lab.b.interface }, { code: 'XDP_NOT_FOUND', message: /veth-b/ })
    await refuses(lab, { namespace: undefined }, { code: 'XDP_NOT_FOUND' })
    assert.throws(() => Namespace.open(uniqueName()), { code: 'XDP_NOT_FOUND' })
  })
})

describe('without privileges', { skip: needsRoot }, () => {
  // Dropped from the bounding set before Node starts: the process never had them.
  for (const [dropped, expected, hint] of [
    ['net_raw', 'EPERM', /CAP_NET_RAW/],
    ['net_admin,-sys_admin', 'EPERM', /CAP_NET_ADMIN/],
    ['bpf,-sys_admin', 'EPERM', /CAP_BPF/],
    ['all', 'EPERM', /CAP_NET_RAW/],
  ] as const) {
    it(`-${dropped}: opening fails with ${expected} and advice, and leaves nothing`, async (t) => {
      const lab = createTestLab(t)
      const child = startChild(
        lab,
        'a',
        `import { readdirSync } from 'node:fs'
         const count = () => readdirSync('/proc/self/fd').length
         await say('started') // opens the descriptors of standard output
         const before = count()
         await XdpSocket.open({ interface: 'veth-a' }).then(() => say('opened'), tell)
         await say(count() - before)
         process.exit(0)`,
        ['setpriv', '--bounding-set', `-${dropped}`, '--inh-caps', `-${dropped}`],
      )
      await child.hasSaid(3)
      const [, result, leaked] = child.said as [
        string,
        { error: { code: string; message: string; hint: string } },
        number,
      ]
      assert.ok(typeof result === 'object', JSON.stringify(result))
      assert.equal(result.error.code, expected, JSON.stringify(result))
      assertSentence(result.error)
      assert.match(result.error.hint, hint)
      assert.equal(leaked, 0)
      assert.deepEqual(attachedAt(lab.a), [])
    })
  }

  it('a small memory lock limit without CAP_IPC_LOCK is refused with what to raise', async (t) => {
    const lab = createTestLab(t)
    const child = startChild(
      lab,
      'a',
      `await XdpSocket.open({ interface: 'veth-a' }).then(() => say('opened'), tell)
       process.exit(0)`,
      ['prlimit', '--memlock=65536:65536', 'setpriv', '--bounding-set', '-ipc_lock,-sys_resource'],
    )
    await child.hasSaid(1)
    const [{ error }] = child.said as [{ error: { code: string; message: string; hint: string } }]
    assert.equal(error.code, 'ENOBUFS', JSON.stringify(child.said))
    assert.match(error.hint, /ulimit -l|CAP_IPC_LOCK/)
    assert.deepEqual(attachedAt(lab.a), [])
  })
})
