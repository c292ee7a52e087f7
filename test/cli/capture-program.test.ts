// xdp capture --program: what another program than our own gives to the sockets is what is captured.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { queryXdp } from '../../src/bpf/index.js'
import { createTestLab, needsRoot } from '../support/lab.js'
import { startXdp, xdp } from './xdp.js'

const READY = /capturing on .* in mode divert/

describe('xdp capture --program', { skip: needsRoot }, () => {
  it('takes what the program gives of what the filter lets through, with the time of reading', async (t) => {
    const lab = createTestLab(t, { isolated: false })
    const program = ['--program', 'every-other', '-tt', '-n', 'icmp']
    const capture = await startXdp(t, ['capture', lab.name, '-m', 'divert', ...program], READY)
    assert.deepEqual(
      queryXdp(lab.name).map(({ name }) => name),
      ['xdp_every_other'],
    )
    const before = Date.now() / 1000
    await lab.exec('b', 'ping', ['-n', '-c', '6', '-i', '0.2', lab.a.ipv4])
    await capture.waitFor('stdout', /seq 5,/)
    const { status, stdout } = await capture.stop()
    assert.equal(status, 0)
    const lines = [...stdout.matchAll(/^([\d.]+) IP .* ICMP echo request, .* seq (\d+), length 64$/gm)]
    assert.deepEqual(
      lines.map(([, , sequence]) => sequence),
      ['1', '3', '5'],
    )
    // Nothing is in front of these packets: no stamp is read from what was there before.
    for (const [, time] of lines) assert.ok(Number(time) > before - 1 && Number(time) < Date.now() / 1000 + 1)
    assert.deepEqual(queryXdp(lab.name), [])
  })

  it('refuses what cannot be, in one sentence', async (t) => {
    const lab = createTestLab(t, { isolated: false })
    for (const [args, status, says] of [
      [
        ['-m', 'mirror', '--program', 'every-other'],
        2,
        /^xdp: A program chooses only what mode divert takes\. Add /,
      ],
      [
        ['-m', 'divert', '--program', 'pass'],
        2,
        /^xdp: The program "xdp_pass" gives no packets to sockets: .*\n$/,
      ],
      [['-m', 'divert', '--program', 'nope'], 2, /^xdp: There is no program "nope"\. .*\n$/],
      [['-m', 'divert', '--program', './nope.o'], 1, /^xdp: There is no file \.\/nope\.o\n$/],
      [
        ['-m', 'divert', '--section', 'x'],
        2,
        /^xdp: --section is about a program, and none was named\. .*\n$/,
      ],
    ] as const) {
      const result = await xdp(['capture', lab.name, ...args])
      assert.equal(result.status, status, result.stderr)
      assert.match(result.stderr, says)
    }
    assert.deepEqual(queryXdp(lab.name), [])
  })
})
