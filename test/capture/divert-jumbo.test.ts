// Diverted packets that are longer than a frame, beside tcpdump: jumbo frames, and what TCP makes of a cable between namespaces.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite, test, type TestContext } from 'node:test'
import { DivertSource } from '../../src/capture/divert-source.js'
import type { Lab } from '../../src/lab/index.js'
import { compileFilter } from '../../src/filter/index.js'
import { buildPacket } from '../../src/packet/index.js'
import { readFileBytes } from '../packet/pcap-files.js'
import { createTestLab, needsRoot } from '../support/lab.js'
import { assertConserved, until } from '../support/xsk.js'
import { Keeper, hexOf, senderAt } from './support.js'

/** What leaves end b, by tcpdump: nobody else sees what is diverted at the other end. */
async function tcpdumpAt(t: TestContext, lab: Lab, longest: number) {
  const directory = mkdtempSync(join(tmpdir(), 'node-xdp-jumbo-'))
  t.after(() => rmSync(directory, { recursive: true }))
  const path = join(directory, 'tcpdump.pcap')
  // Its buffer has slots of the longest packet.
  const slots = ['-B', '32768', '-s', String(longest)]
  const args = ['-i', lab.b.interface, '-Q', 'out', '-U', ...slots, '-w', path, '--immediate-mode', 'udp']
  const tcpdump = lab.spawn('b', 'tcpdump', args, { stdio: ['ignore', 'ignore', 'pipe'] })
  const exited = once(tcpdump, 'exit')
  let said = ''
  tcpdump.stderr?.on('data', (text: Buffer) => (said += text.toString()))
  await until('tcpdump listens', () => said.includes('listening on'))
  const packets = () => readFileBytes(readFileSync(path)).packets.map(hexOf)
  return async (count: number) => {
    await until('tcpdump has all', () => packets().length >= count)
    tcpdump.kill('SIGINT')
    await exited
    return packets()
  }
}

async function divertAt(t: TestContext, lab: Lab, xdpMode: 'native' | 'generic') {
  const { interface: name, namespace } = lab.a
  const source = await DivertSource.open({ interface: name, namespace, xdpMode })
  t.after(() => source.close())
  assert.equal(source.group.attachment?.mode, xdpMode)
  return source
}

/** Whether a packet carries this protocol over IPv4 or IPv6. */
const carries = (protocol: number) => (packet: { bytes: Uint8Array; offset: number }) =>
  packet.bytes[packet.offset + (packet.bytes[packet.offset + 12] === 0x86 ? 20 : 23)] === protocol

suite('diverted packets longer than a frame', { skip: needsRoot }, () => {
  for (const xdpMode of ['native', 'generic'] as const) {
    test(`are those that tcpdump has, IPv4 and IPv6, ${xdpMode}`, async (t) => {
      const lab = createTestLab(t, { mtu: 9000 })
      const stop = await tcpdumpAt(t, lab, 9200)
      const source = await divertAt(t, lab, xdpMode)
      const sink = new Keeper(carries(17))
      source.start(sink)
      const send = senderAt(t, lab.b)
      const udp = { srcPort: 1, dstPort: 2 }
      const sent = [0, 3798, 3799, 7638, 7639, 8000, 8938].flatMap((length) => {
        const payload = Uint8Array.from({ length }, (_, i) => (i * 7 + (i >> 8)) & 0xff)
        return [
          buildPacket({ ipv4: { src: '192.0.2.1', dst: '192.0.2.2' }, udp, payload }),
          buildPacket({ ipv6: { src: '2001:db8::1', dst: '2001:db8::2' }, udp, payload }),
        ]
      })
      for (let round = 0; round < 20; round++) for (const frame of sent) send(frame)
      await until('all have come', () => sink.packets.length >= 20 * sent.length)
      await source.stop()
      const theirs = await stop(20 * sent.length)
      assert.deepEqual(sink.packets.map(hexOf), theirs)
      assert.ok(sink.packets.every(({ length, wireLength }) => length === wireLength))
      assert.equal(source.stats().dropped.kernel, 0)
      for (const socket of source.group.sockets) assertConserved(socket)
    })

    for (const [version, address] of [
      [4, 'ipv4'],
      [6, 'ipv6'],
    ] as const) {
      test(`are what UDP sends in one go, segmented or not, IPv${version}, ${xdpMode}`, async (t) => {
        const lab = createTestLab(t, { checksums: 'offload' })
        const isNative = xdpMode === 'native'
        const stop = await tcpdumpAt(t, lab, isNative ? 2000 : 66_000)
        const source = await divertAt(t, lab, xdpMode)
        const sink = new Keeper(carries(17))
        source.start(sink)
        const to = lab.a[address]
        assert.ok(to !== undefined)
        // UDP_SEGMENT: the kernel makes one packet of it, which is cut when the device wants it cut, or never.
        const script = `
import socket
s = socket.socket(socket.AF_INET${version === 6 ? '6' : ''}, socket.SOCK_DGRAM)
s.setsockopt(17, 103, 1400)
for i in range(30): s.sendto(bytes((i + j * 7) & 255 for j in range(44 * 1400 + 9)), ('${to}', 9))`
        const { stderr } = await lab.exec('b', 'python3', ['-c', script])
        assert.equal(stderr, '')
        const count = isNative ? 30 * 45 : 30
        await until('all have come', () => sink.packets.length >= count)
        await source.stop()
        const theirs = await stop(count)
        assert.deepEqual(sink.packets.map(hexOf), theirs)
        const longest = Math.max(...sink.packets.map(({ length }) => length))
        // An interface with a program in native mode has its peer cut packets before they leave (drivers/net/veth.c: veth_xdp_set).
        assert.equal(longest > 60_000, !isNative)
        assert.equal(source.stats().dropped.kernel, 0)
      })
    }
  }

  for (const xdpMode of ['native', 'generic'] as const) {
    test(`are filtered by all of them, ${xdpMode}`, async (t) => {
      const lab = createTestLab(t, { mtu: 9000 })
      const { interface: name, namespace } = lab.a
      const send = senderAt(t, lab.b)
      const frames = [100, 2500, 3900, 3958, 3959, 4500, 8900].map((length) =>
        buildPacket({
          ipv4: { src: '192.0.2.1', dst: '192.0.2.2' },
          udp: { srcPort: 1, dstPort: 2 },
          payload: Uint8Array.from({ length }, (_, i) => (i >> 7) ^ i),
        }),
      )
      const behind = [
        'udp[3000] = 0xaf',
        'udp[3831:2] != 0 and udp[3900] > 3',
        'ether[4100:4] = 0x20212223 or len < 200',
        'ip[ip[2:2] - 1] & 1 != 0',
        'not ether[5000] = 1',
        'udp[8000] = 0 or udp[8001] != 0',
      ]
      for (const words of [
        ...behind,
        'greater 4000',
        'less 4000',
        'len > 8000 and udp',
        'len = 4542 or len < 200',
      ]) {
        const filter = compileFilter(words)
        const source = await DivertSource.open({ interface: name, namespace, xdpMode, filter })
        const sink = new Keeper(carries(17))
        source.start(sink)
        for (const frame of frames) send(frame)
        const expected = frames.filter((frame) => filter.matches(frame, 0, frame.length, frame.length))
        await until('they have come', () => sink.packets.length >= expected.length)
        await source.close()
        const lengths = sink.packets.map(({ length }) => length)
        assert.deepEqual(
          lengths,
          expected.map(({ length }) => length),
          words,
        )
      }
    })
  }

  test('are cut at the snap length', async (t) => {
    const lab = createTestLab(t, { mtu: 9000 })
    const { interface: name, namespace } = lab.a
    const source = await DivertSource.open({ interface: name, namespace, snapLength: 5000 })
    t.after(() => source.close())
    const sink = new Keeper(carries(17))
    source.start(sink)
    const frame = buildPacket({
      ipv4: { src: '192.0.2.1', dst: '192.0.2.2' },
      udp: { srcPort: 1, dstPort: 2 },
      payload: 'jumbo'.repeat(1700),
    })
    senderAt(t, lab.b)(frame)
    await until('it has come', () => sink.packets.length === 1)
    assert.equal(sink.packets[0].wireLength, frame.length)
    assert.equal(hexOf(sink.packets[0]), Buffer.from(frame.subarray(0, 5000)).toString('hex'))
  })
})
