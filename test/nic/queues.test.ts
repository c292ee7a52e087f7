// Counting a device's receive queues: what its channels say, and whom else to ask in another namespace.
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { it } from 'node:test'
import { kernelAtLeast, setInterfaceUp } from '../../src/kernel/index.js'
import { countQueues, queuesOfChannels } from '../../src/nic/queues.js'
import { GroupParts } from '../../src/xsk/shared-group.js'
import { XdpGroup } from '../../src/xsk/index.js'
import { createTestLab, needsRoot, uniqueName } from '../support/lab.js'

const none = { count: 0, max: 0 }

for (const [what, channels, expected] of [
  ['combined', { combined: { count: 2, max: 8 }, rx: none }, { rx: 2, maxRx: 8 }],
  ['separate', { combined: none, rx: { count: 3, max: 4 } }, { rx: 3, maxRx: 4 }],
  // Numbered through: those of the one kind behind those of the other.
  ['both', { combined: { count: 4, max: 8 }, rx: { count: 2, max: 3 } }, { rx: 6, maxRx: 11 }],
  ['either, now combined', { combined: { count: 4, max: 8 }, rx: { count: 0, max: 6 } }, { rx: 4, maxRx: 8 }],
  ['no maximum', { combined: { count: 4, max: 0 }, rx: none }, { rx: 4, maxRx: 4 }],
] as const) {
  it(`channels: ${what}`, () => {
    assert.deepEqual(queuesOfChannels(channels), { ...expected, source: 'channels' })
  })
}

it('channels of which none is in use say nothing', () => {
  assert.equal(queuesOfChannels({ combined: { count: 0, max: 256 }, rx: none }), undefined)
})

const needsTap = needsRoot || (!existsSync('/dev/net/tun') && 'needs /dev/net/tun')

it(
  'a tap in another namespace has the queues that are in use there, not those it may have',
  { skip: needsTap },
  async (t) => {
    const lab = createTestLab(t)
    const { namespace } = lab.a
    const name = uniqueName('q')
    const made = await lab.exec('a', 'ip', ['tuntap', 'add', name, 'mode', 'tap', 'multi_queue'])
    assert.equal(made.status, 0, made.stderr)
    const options = {
      interface: name,
      namespace,
      umem: { frames: 64 },
      rings: { rx: 32, tx: 32, fill: 32, completion: 32 },
    }

    // Down, nobody knows how many it has; 256 is no answer.
    assert.deepEqual(countQueues(name, { namespace }), { rx: 256, maxRx: 256, source: 'link' })
    const parts = new GroupParts(options)
    assert.deepEqual(
      parts.seats.map(({ queue }) => queue),
      [0],
    )
    assert.equal(parts.umem.frames, 64)
    assert.deepEqual(parts.warnings, [
      {
        code: 'queue-count',
        message: `Nobody says how many queues ${name} has, 256 at the most: the group takes queue 0 alone`,
        interface: name,
      },
    ])
    parts.closeRest()

    if (!kernelAtLeast(6, 8)) return t.diagnostic('up, kernels from 6.8 on say it')
    setInterfaceUp(name, true, { namespace })
    assert.deepEqual(countQueues(name, { namespace }), { rx: 1, maxRx: 256, source: 'netdev' })
    await using group = await XdpGroup.open({ ...options, strict: true })
    assert.deepEqual(group.warnings, [])
    assert.equal(group.sockets.length, 1)
    assert.equal(group.umem.frames, 64)
  },
)
