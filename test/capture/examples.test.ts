// The examples of capture do what their first line says.
import assert from 'node:assert/strict'
import { execFileSync, type ChildProcess } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { Lab } from '../../src/lab/index.js'
import { createTestLab, needsRoot } from '../support/lab.js'
import { until } from '../support/xsk.js'

/** Starts an example at end a of a lab. */
function start(lab: Lab, name: string, ...args: string[]) {
  const script = fileURLToPath(new URL(`../../examples/${name}.js`, import.meta.url))
  const child: ChildProcess = lab.spawn('a', process.execPath, ['--enable-source-maps', script, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const said = { stdout: Buffer.alloc(0), stderr: '' }
  child.stdout!.on('data', (data: Buffer) => (said.stdout = Buffer.concat([said.stdout, data])))
  child.stderr!.on('data', (data: Buffer) => (said.stderr += data.toString()))
  const closed = new Promise<number | null>((resolve) => child.once('close', resolve))
  return { child, said, closed }
}

const ping = (lab: Lab, count: number) =>
  lab.exec('b', 'ping', ['-c', String(count), '-i', '0.01', '-W', '5', lab.a.ipv4])

test('packet-counter counts what arrives', { skip: needsRoot }, async (t) => {
  const lab = createTestLab(t)
  const { child, said, closed } = start(lab, 'packet-counter', lab.a.interface, 'icmp')
  await until('it counts', () => said.stdout.includes('mode mirror'))
  assert.match((await ping(lab, 5)).stdout, / 5 received/)
  child.kill('SIGINT')
  assert.equal(await closed, 0, said.stderr)
  assert.match(said.stdout.toString(), /\nIPv4: 5\n5 packets, 490 bytes, 0 lost\n$/)
})

test('top-talkers names who sent the most', { skip: needsRoot }, async (t) => {
  const lab = createTestLab(t)
  const { child, said, closed } = start(lab, 'top-talkers', lab.a.interface)
  await until('it listens', () => said.stdout.includes('mode mirror'))
  await ping(lab, 5)
  await lab.exec('b', 'ping', ['-c', '2', '-i', '0.01', '-W', '5', lab.a.ipv6!])
  child.kill('SIGINT')
  assert.equal(await closed, 0, said.stderr)
  const lines = said.stdout.toString().trim().split('\n').slice(1)
  assert.deepEqual(lines[0].trim().split(/\s+/), ['490', 'bytes', lab.b.ipv4])
  assert.ok(lines.some((line) => line.includes(lab.b.ipv6!)))
})

test(
  'top-talkers ends at once on Ctrl-C, however long it was to listen, and by itself',
  { skip: needsRoot },
  async (t) => {
    const lab = createTestLab(t)
    for (const [seconds, signal] of [
      ['100000', 'SIGINT'],
      ['0.2', undefined],
    ] as const) {
      const { child, said, closed } = start(lab, 'top-talkers', lab.a.interface, seconds)
      await until('it listens', () => said.stdout.includes(`mode mirror, ${seconds} s\n`))
      if (signal) {
        await ping(lab, 3)
        child.kill(signal)
      }
      await until('it has ended', () => child.exitCode !== null || child.signalCode !== null)
      assert.equal(await closed, 0, said.stderr)
      assert.equal(said.stderr, '')
      if (signal) assert.match(said.stdout.toString(), new RegExp(`294 bytes {2}${lab.b.ipv4}\n`))
    }
  },
)

test('capture-pipe writes pcapng that tshark reads', { skip: needsRoot }, async (t) => {
  const lab = createTestLab(t)
  const { child, said, closed } = start(lab, 'capture-pipe', lab.a.interface, 'icmp')
  await until('it captures', () => said.stderr.includes('mode mirror'))
  await ping(lab, 4)
  await until('they are there', () => said.stdout.length > 4 * 98)
  child.kill('SIGINT')
  assert.equal(await closed, 0, said.stderr)
  assert.match(said.stderr, /4 packets written, 0 lost/)
  const directory = mkdtempSync(join(tmpdir(), 'node-xdp-example-'))
  t.after(() => rmSync(directory, { recursive: true }))
  const file = join(directory, 'pipe.pcapng')
  writeFileSync(file, said.stdout)
  const fields = execFileSync('tshark', ['-n', '-r', file, '-T', 'fields', '-e', 'icmp.seq'], {
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  assert.equal(fields.toString(), '1\n2\n3\n4\n')
})
