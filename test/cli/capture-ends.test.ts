// What a capture leaves in its files, and says, when it ends: statistics that agree with them, and why packets are missing.
import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it, type TestContext } from 'node:test'
import type { CaptureInterface } from '../../src/packet/pcapng-layout.js'
import { buildPacket } from '../../src/packet/index.js'
import { senderAt } from '../capture/support.js'
import { output, readFileBytes } from '../packet/pcap-files.js'
import { createTestLab, needsRoot } from '../support/lab.js'
import { startXdp } from './xdp.js'

const READY = /xdp: capturing on \S+ in mode \S+/
const MODES = ['divert', 'mirror', 'packet'] as const

function directoryOf(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'node-xdp-ends-'))
  t.after(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}

const frame = (payload: string) =>
  buildPacket({
    ipv4: { src: '192.0.2.1', dst: '192.0.2.2' },
    udp: { srcPort: 4000, dstPort: 53 },
    payload,
  })

const nanosecondsOf = ({ seconds, nanoseconds }: { seconds: number; nanoseconds: number }) =>
  BigInt(seconds) * 1_000_000_000n + BigInt(nanoseconds)

describe('the end of a capture', { skip: needsRoot }, () => {
  for (const mode of MODES) {
    it(`${mode}: statistics in the file say when it began and ended, and count what the file holds`, async (t) => {
      const lab = createTestLab(t, { isolated: false })
      const file = join(directoryOf(t), 'file.pcapng')
      const before = BigInt(Date.now()) * 1_000_000n
      const args = ['capture', lab.a.interface, '-m', mode, '-w', file, '-c', '3', 'udp', 'port', '53']
      const capturing = await startXdp(t, args, READY)
      const send = senderAt(t, lab.b)
      for (let i = 0; i < 200; i++) send(frame('x'))
      assert.equal((await capturing.end).status, 0)
      const { packets, decoder } = readFileBytes(readFileSync(file))
      assert.equal(packets.length, 3)
      const { statistics } = decoder.interfaces[0] as CaptureInterface
      assert.ok(statistics?.start && statistics.end)
      assert.ok((statistics.received ?? 0) > 3, 'more came than were asked for, or this proves nothing')
      assert.equal(statistics.delivered, 3)
      const times = packets.map(nanosecondsOf)
      const [start, end] = [statistics.start, statistics.end].map(nanosecondsOf)
      assert.ok(before <= start && start <= times[0] && times[2] <= end, `${start} ${times.join(' ')} ${end}`)
      assert.ok(end <= BigInt(Date.now() + 1) * 1_000_000n)

      // As other people's tools see the block.
      const blocks = output('tshark', '-r', file, '-X', 'read_format:MIME Files Format', '-V')
      const block = blocks.slice(blocks.indexOf('Interface Statistics Block'))
      assert.deepEqual(
        [...block.matchAll(/Code: (.*) \((\d+)\)\n\s+Length: (\d+)/g)].map(
          ([, , code, length]) => `${code}:${length}`,
        ),
        ['2:8', '3:8', '4:8', '5:8', '7:8', '8:8', '0:0'],
      )
      assert.match(block, /Number of Packets Delivered to the User = 3\n/)
      assert.match(output('capinfos', '-M', file), /Number of stat entries = 1\n/)
      assert.match(output('capinfos', '-M', file), /Number of packets: +3\n/)
    })
  }

  for (const mode of MODES) {
    it(`${mode}: a burst is in many small files, whole`, async (t) => {
      const lab = createTestLab(t, { isolated: false })
      const directory = directoryOf(t)
      const path = join(directory, 'ring.pcapng')
      const args = ['capture', lab.a.interface, '-m', mode, '-w', path, '-C', '20k', 'udp', 'port', '53']
      const capturing = await startXdp(t, args, READY)
      const send = senderAt(t, lab.b)
      for (let i = 0; i < 1000; i++) send(frame(String(i).padEnd(900)))
      const { status, stderr } = await capturing.stop()
      assert.equal(status, 0)
      assert.match(stderr, / packets_received=1000 .* packets_processed=1000 packets_dropped=0 /)
      const names = readdirSync(directory).sort()
      assert.ok(names.length >= 48, `${names.length} files`)
      const found = names.flatMap((name) => {
        const bytes = readFileSync(join(directory, name))
        assert.ok(bytes.length <= 20_480, name)
        return readFileBytes(bytes).packets.map(({ packetId }) => packetId)
      })
      assert.deepEqual(
        found,
        Array.from({ length: 1000 }, (_, i) => i),
      )
    })
  }

  it('each of several files has what was delivered up to its end', async (t) => {
    const lab = createTestLab(t, { isolated: false })
    const directory = directoryOf(t)
    const path = join(directory, 'ring.pcapng')
    const capturing = await startXdp(
      t,
      ['capture', lab.a.interface, '-m', 'mirror', '-w', path, '-C', '15k', '-c', '40', 'udp', 'port', '53'],
      READY,
    )
    const send = senderAt(t, lab.b)
    for (let i = 0; i < 60; i++) send(frame('x'.repeat(900)))
    assert.equal((await capturing.end).status, 0)
    let sum = 0
    const names = readdirSync(directory).sort()
    assert.ok(names.length >= 3)
    for (const name of names) {
      const { packets, decoder } = readFileBytes(readFileSync(join(directory, name)))
      sum += packets.length
      assert.equal((decoder.interfaces[0] as CaptureInterface).statistics?.delivered, sum, name)
    }
    assert.equal(sum, 40)
  })
})
