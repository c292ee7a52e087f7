// What the kernel announces arrives, in its namespace only, and nothing after the end.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { NetworkMonitor, useNeighbour, type Neighbour } from '../../src/kernel/netlink/index.js'
import { parseIp } from '../../src/packet/index.js'
import { createTestLab, needsRoot, openDescriptors } from '../support/lab.js'
import { until } from '../support/xsk.js'

describe('a network monitor', { skip: needsRoot }, () => {
  it('tells of neighbours, routes and addresses, and of none after it is closed', async (t) => {
    const lab = createTestLab(t)
    const descriptors = openDescriptors()
    const neighbours: [neighbour: Neighbour, gone: boolean][] = []
    let routes = 0
    let elsewhere = 0
    const count = {
      neighbour: () => void elsewhere++,
      routes: () => void elsewhere++,
      lost: () => void elsewhere++,
    }
    const other = new NetworkMonitor(count, lab.b)
    const monitor = new NetworkMonitor(
      {
        neighbour: (neighbour, gone) => void neighbours.push([neighbour, gone]),
        routes: () => void routes++,
        lost: () => assert.fail('announcements were lost'),
      },
      lab.a,
    )
    const ip = async (...words: string[]) => {
      const { status, stderr } = await lab.exec('a', 'ip', words)
      assert.equal(status, 0, stderr)
    }
    const dev = ['dev', lab.a.interface]
    await ip('neigh', 'add', '10.11.1.99', 'lladdr', '02:00:00:00:00:99', ...dev)
    await until('the neighbour is announced', () => neighbours.length > 0)
    const [{ address, mac, state, ifindex }, gone] = neighbours[0]
    assert.deepEqual(
      [[...address], [...(mac ?? [])], state, ifindex, gone],
      [[10, 11, 1, 99], [2, 0, 0, 0, 0, 0x99], 'permanent', lab.a.ifindex, false],
    )
    await ip('neigh', 'del', '10.11.1.99', ...dev)
    await until('its end is announced', () => neighbours.some(([, isGone]) => isGone))
    for (const change of [
      ['route', 'add', '192.0.2.0/24', ...dev],
      ['addr', 'add', '192.0.3.1/24', ...dev],
      ['rule', 'add', 'to', '192.0.4.0/24', 'table', '77'],
      ['link', 'set', lab.a.interface, 'mtu', '1400'],
    ]) {
      const before = routes
      await ip(...change)
      await until(`${change.join(' ')} is announced`, () => routes > before)
    }
    // Used, so looked for.
    useNeighbour(lab.a.ifindex, parseIp('10.11.1.98') as Uint8Array, lab.a)
    await until('the search is announced', () =>
      neighbours.some(([one]) => one.address[3] === 98 && ['incomplete', 'failed'].includes(one.state)),
    )
    monitor.close()
    monitor.close()
    other.close()
    const seen = neighbours.length
    await ip('neigh', 'add', '10.11.1.97', 'lladdr', '02:00:00:00:00:97', ...dev)
    await new Promise((resolve) => setImmediate(resolve))
    assert.equal(neighbours.length, seen)
    assert.equal(elsewhere, 0)
    assert.deepEqual(openDescriptors(), descriptors)
  })
})
