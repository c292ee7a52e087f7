// Ctrl-C while whoever reads a capture's output does not: it says what it waits for, and the second one says what is missing.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { it } from 'node:test'
import { queryXdp } from '../../src/bpf/index.js'
import { buildPacket } from '../../src/packet/index.js'
import { senderAt } from '../capture/support.js'
import { createTestLab, needsRoot } from '../support/lab.js'
import { until } from '../support/xsk.js'
import { startXdp } from './xdp.js'

const COUNT = 300

for (const [mode, ...flags] of [
  ['mirror', '-n', '-XX'],
  ['divert', '-w', '-'],
  ['packet', '-n', '-XX', '--buffer', '50'],
]) {
  it(`${mode} ${flags.join(' ')}`, { skip: needsRoot }, async (t) => {
    const lab = createTestLab(t, { isolated: false })
    const name = lab.a.interface
    const args = ['capture', name, '-m', mode, ...flags, 'udp', 'port', '53']
    const capturing = await startXdp(t, args, /capturing on/)
    const { child } = capturing
    // More than a pipe's reader has room for that does not read.
    child.stdout!.pause()
    const send = senderAt(t, lab.b)
    const frame = buildPacket({
      ipv4: { src: '192.0.2.1', dst: '192.0.2.2' },
      udp: { srcPort: 4000, dstPort: 53 },
      payload: 'x'.repeat(800),
    })
    for (let i = 0; i < COUNT; i++) send(frame)
    let hasAll = false
    void capturing.waitFor('stderr', new RegExp(`packets_received=${COUNT} `)).then(() => (hasAll = true))
    await until('all packets have come', () => {
      if (!hasAll) child.kill('SIGUSR1')
      return hasAll
    })
    child.kill('SIGINT')
    const waits =
      'xdp: waiting for whoever reads standard output to take the rest; interrupt once more to give it up\n'
    await capturing.waitFor('stderr', new RegExp(waits))
    assert.deepEqual(queryXdp(name), [])
    const exited = once(child, 'exit')
    child.kill('SIGINT')
    assert.deepEqual(await exited, [null, 'SIGINT'])
    child.stdout!.resume()
    const { stderr } = await capturing.end
    const last = stderr.slice(stderr.indexOf(waits) + waits.length)
    const line =
      /^Capture statistics: .* packets_received=300 .* packets_processed=(\d+) packets_dropped=(\d+) .*\n/.exec(
        last,
      )
    assert.ok(line, stderr)
    const [written, lost] = line.slice(1).map(Number)
    assert.ok(lost > 0)
    assert.equal(written + lost, COUNT)
    assert.equal(last.slice(line[0].length), `xdp: lost ${lost} because nobody took them before the end\n`)
  })
}
