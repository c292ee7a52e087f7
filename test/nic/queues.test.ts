// Counting the receive queues of a device in another namespace, when its driver does not say.
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { it } from 'node:test'
import { kernelAtLeast, setInterfaceUp } from '../../src/kernel/index.js'
import { countQueues } from '../../src/nic/queues.js'
import { GroupParts } from '../../src/xsk/shared-group.js'
import { XdpGroup } from '../../src/xsk/index.js'
import { createTestLab, needsRoot, uniqueName } from '../support/lab.js'

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
