// xdp capture under a flood: text and JSON take the memory of the buffers and little more.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { describe, it, type TestContext } from 'node:test'
import { createTestLab, needsRoot } from '../support/lab.js'
import { XDP, xdp } from './xdp.js'

const MIB = 1 << 20
/** What a capture may take beside its buffers. */
const BESIDE = 80 * MIB
/** Text that waits and text that is being written: see `capture-output.ts`. */
const TEXT = 2 * 1.75 * MIB
/** A Node that takes more than Node 20 for itself, before the first packet, may still take so much for packets. */
const GROWTH = 20 * MIB
/** Packets, how many a second, and how many of them have to have been printed for the memory to mean anything. */
const PACKETS = 60_000
const RATE = 60_000
const ENOUGH = PACKETS / 5

describe('xdp capture under a flood', { skip: needsRoot }, () => {
  for (const [mode, ring, flags] of [
    ['packet', 4 * MIB, ['-vvv', '-XX']],
    ['mirror', 8 * MIB, ['-vvv', '-XX']],
    ['divert', 16 * MIB, ['--json']],
  ] as const) {
    it(`${mode} ${flags.join(' ')}: memory stays within the buffers and 80 MiB`, async (t) => {
      const { before, most, printed } = await flood(t, ['-m', mode, ...flags])
      const inMib = (bytes: number) => (bytes / MIB).toFixed(1)
      const found = `${inMib(most)} MiB at most, ${inMib(before)} before the first of ${printed} packets`
      t.diagnostic(found)
      assert.ok(printed >= ENOUGH, found)
      assert.ok(most <= Math.max(ring + TEXT + BESIDE, before + GROWTH), found)
    })
  }
})

/** The most bytes that were resident while packets were printed to nowhere, and before. */
async function flood(t: TestContext, flags: readonly string[]) {
  const lab = createTestLab(t, { isolated: false })
  const [node, command] = XDP
  const child = spawn(node, [command, 'capture', lab.a.interface, ...flags], {
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  t.after(() => child.kill('SIGKILL'))
  const closed = once(child, 'close')
  let said = ''
  const says = async (pattern: RegExp) => {
    while (!pattern.test(said))
      await Promise.race([once(child.stderr, 'data'), closed.then(() => assert.fail(said))])
  }
  child.stderr.setEncoding('utf8').on('data', (text: string) => (said += text))
  await says(/capturing on/)
  const before = mostResident(child.pid!)
  const sent = await xdp(
    ['lab', 'exec', '-e', 'b', lab.name, '--', ...XDP, 'generate', 'veth-b', '--to', lab.a.ipv4].concat([
      '-p',
      '9',
      '-s',
      '400',
      '-r',
      String(RATE),
      '-c',
      String(PACKETS),
    ]),
  )
  assert.equal(sent.status, 0, sent.stderr)
  child.kill('SIGUSR1')
  await says(/Capture statistics/)
  const most = mostResident(child.pid!)
  child.kill('SIGINT')
  const [status] = (await closed) as [number | null]
  assert.equal(status, 0, said)
  return { before, most, printed: Number(/packets_processed=(\d+)/.exec(said)?.[1]) }
}

function mostResident(pid: number): number {
  return Number(/^VmHWM:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) * 1024
}
