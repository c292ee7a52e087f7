// Ctrl-C at any moment: nothing is left of a command, not even what netlink attaches, which outlives its process.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { queryXdp } from '../../src/bpf/index.js'
import { createTestLab, needsRoot } from '../support/lab.js'
import { until } from '../support/xsk.js'
import { Running, XDP } from './xdp.js'

describe('commands that are interrupted', { skip: needsRoot }, () => {
  for (const command of ['drop', 'pong']) {
    it(`${command} takes its program off, also when it is about to start`, async (t) => {
      const lab = createTestLab(t, { isolated: false })
      const { interface: name } = lab.a
      for (const signal of ['SIGINT', 'SIGTERM', 'SIGINT'] as const) {
        const running = new Running(XDP[0], [XDP[1], command, name, '--attach', 'netlink'], {})
        t.after(() => running.child.kill('SIGKILL'))
        // Attached is not running yet: the moment in between is what this is about.
        await until('the program is attached', () => queryXdp(name).length > 0)
        const { status, stderr } = await running.stop(signal)
        assert.equal(status, 0, stderr)
        assert.deepEqual(queryXdp(name), [])
      }
    })
  }
})
