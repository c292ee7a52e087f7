// Commands whose standard error or output cannot be written: the one is no reason to end, the other is, and in order.
import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { it, type TestContext } from 'node:test'
import { queryXdp } from '../../src/bpf/index.js'
import { buildPacket } from '../../src/packet/index.js'
import { senderAt } from '../capture/support.js'
import { pcapFile, readFileBytes, record } from '../packet/pcap-files.js'
import { createTestLab, needsRoot } from '../support/lab.js'
import { until } from '../support/xsk.js'
import { run, startXdp, XDP } from './xdp.js'

/** The words that run `xdp` with a file descriptor of its own on a full disk. */
const onFullDisk = (redirection: string, ...args: string[]) => [
  'sh',
  '-c',
  `exec "$@" ${redirection}/dev/full`,
  'sh',
  ...XDP,
  ...args,
]

function directoryOf(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'node-xdp-streams-'))
  t.after(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}

it('a capture goes on when nobody reads what it says', { skip: needsRoot }, async (t) => {
  const lab = createTestLab(t, { isolated: false })
  const path = join(directoryOf(t), 'file.pcapng')
  const args = ['capture', lab.a.interface, '-w', path, '-U', '--interval', '0.01', 'udp', 'port', '53']
  const capturing = await startXdp(t, args, /capturing on/)
  const { child } = capturing
  child.stderr!.destroy()
  const send = senderAt(t, lab.b)
  const packet = buildPacket({
    ipv4: { src: '192.0.2.1', dst: '192.0.2.2' },
    udp: { srcPort: 4000, dstPort: 53 },
  })
  // The first statistics that find no reader come before one of these.
  for (let i = 0; i < 5; i++) {
    const { size } = statSync(path)
    child.kill('SIGUSR1')
    send(packet)
    await until('a packet is in the file', () => {
      assert.equal(child.exitCode, null, 'it has ended')
      return statSync(path).size > size
    })
  }
  assert.equal((await capturing.stop()).status, 0)
  assert.equal(readFileBytes(readFileSync(path)).packets.length, 5)
})

it('a full disk under standard error keeps no packet from being written', async (t) => {
  const directory = directoryOf(t)
  const [file, copy] = [join(directory, 'a.pcap'), join(directory, 'b.pcap')]
  writeFileSync(file, pcapFile([1, 2, 3].map((byte) => record(new Uint8Array(60).fill(byte)))))
  const written = await run(onFullDisk('2>', 'capture', '-r', file, '-w', copy))
  assert.deepEqual([written.status, written.stderr], [0, ''])
  assert.deepEqual(readFileSync(copy), readFileSync(file))
  const printed = await run(onFullDisk('2>', 'capture', '-r', file, '--json'))
  assert.equal(printed.status, 0)
  assert.equal(printed.stdout.trim().split('\n').length, 3)
})

it(
  'a full disk under standard output is a failure, and nothing is left attached',
  { skip: needsRoot },
  async (t) => {
    const { status, stderr } = await run(onFullDisk('>', 'programs'))
    assert.equal(status, 1)
    assert.match(stderr, /^xdp: standard output cannot be written: ENOSPC.*\n$/)
    const lab = createTestLab(t, { isolated: false })
    const drop = await run(
      onFullDisk('>', 'drop', lab.a.interface, '--attach', 'netlink', '--interval', '0.05'),
    )
    assert.equal(drop.status, 1)
    assert.match(drop.stderr, /xdp: standard output cannot be written: ENOSPC/)
    assert.deepEqual(queryXdp(lab.a.interface), [])
  },
)
