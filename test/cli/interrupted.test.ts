// Ctrl-C at any moment: nothing is left of a command, not even what netlink attaches, which outlives its process.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { queryXdp } from '../../src/bpf/index.js'
import { Lab } from '../../src/lab/index.js'
import { createTestLab, needsRoot } from '../support/lab.js'
import { until } from '../support/xsk.js'
import { Running, XDP, startOnTerminal, xdpOk } from './xdp.js'

describe('commands that are interrupted', { skip: needsRoot }, () => {
  for (const [command, ...flags] of [['drop'], ['pong'], ['echo', '--port', '0'], ['forward'], ['measure']]) {
    it(`${command} takes its program off, also when it is about to start`, async (t) => {
      const lab = createTestLab(t, { isolated: false })
      const { interface: name } = lab.a
      for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
        const running = new Running(XDP[0], [XDP[1], command, name, ...flags, '--attach', 'netlink'], {})
        t.after(() => running.child.kill('SIGKILL'))
        // Attached is not running yet: the moment in between is what this is about.
        await until('the program is attached', () => queryXdp(name).length > 0)
        const { status, stderr } = await running.stop(signal)
        // To measure nothing is no success.
        assert.equal(status, command === 'measure' ? 1 : 0, stderr)
        assert.deepEqual(queryXdp(name), [])
      }
    })
  }

  const demo = async (): Promise<{ running: Running; isThere: () => boolean }> => {
    const running = new Running(XDP[0], [XDP[1], 'demo', '-c', '1000'], {})
    await running.waitFor('stdout', /icmp_seq=1/)
    const name = `xdpdemo${running.child.pid}`
    return { running, isThere: () => Lab.list().some((lab) => lab.name === name) }
  }

  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    it(`demo removes its lab on ${signal}`, async () => {
      const { running, isThere } = await demo()
      assert.equal(isThere(), true)
      const { status, stderr } = await running.stop(signal)
      assert.deepEqual([status, stderr], [1, 'xdp: Interrupted; the lab is removed\n'])
      assert.equal(isThere(), false)
    })
  }

  it('demo removes its lab when nobody reads on', async () => {
    const { running, isThere } = await demo()
    // What it says of its end has no reader either.
    running.child.stdout!.destroy()
    await running.end
    assert.equal(isThere(), false)
  })

  it('demo removes the lab of one that was killed', async () => {
    const { running, isThere } = await demo()
    await running.stop('SIGKILL')
    await xdpOk('demo', '-c', '1')
    assert.equal(isThere(), false)
  })

  it('pong takes its program off when its terminal goes away', async (t) => {
    const lab = createTestLab(t, { isolated: false })
    const { interface: name } = lab.a
    const terminal = startOnTerminal(t, ['pong', name, '--attach', 'netlink', '--interval', '0.05'])
    await terminal.waitFor('stdout', /AF_XDP RX/)
    assert.equal(queryXdp(name).length, 1)
    await terminal.stop('SIGKILL')
    await until('the program is off', () => queryXdp(name).length === 0)
  })
})
