// Other people's tools as judges of capture files: they accept ours, and we read theirs.
import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { buildPacket } from '../../src/packet/index.js'
import type { PacketRecord } from '../../src/packet/pcap-record.js'
import {
  encodeInterface,
  encodeSection,
  encodeStatistics,
  writePacketBlock,
} from '../../src/packet/pcapng-write.js'
import { description } from './generate.js'
import {
  modifiedPcapFile,
  output,
  pcapFile,
  pcapngFile,
  readFileBytes,
  record,
  withDirectory,
} from './pcap-files.js'

const frames = fc.sample(description, { numRuns: 60, seed: 5 }).map(buildPacket)
const packets = frames.map((bytes, i) =>
  record(bytes, { seconds: 1_750_000_000 + i, nanoseconds: (i * 123_456_789) % 1e9 }),
)

/** Time, both lengths and bytes of every packet, as tshark reads them. */
function byTshark(path: string): string[] {
  const fields = ['frame.time_epoch', 'frame.cap_len', 'frame.len']
  const lines = output(
    'tshark',
    '-n',
    '-r',
    path,
    '-T',
    'fields',
    ...fields.flatMap((field) => ['-e', field]),
  )
  return lines.trimEnd().split('\n')
}

function byUs(some: readonly PacketRecord[], digits = 9): string[] {
  return some.map(({ seconds, nanoseconds, length, wireLength }) => {
    const fraction = String(nanoseconds).padStart(9, '0').slice(0, digits).padEnd(9, '0')
    return `${seconds}.${fraction}\t${length}\t${wireLength}`
  })
}

const hexOf = ({ bytes, offset, length }: PacketRecord) =>
  Buffer.from(bytes.subarray(offset, offset + length)).toString('hex')

test('tcpdump, tshark and capinfos read our pcap, in both byte orders and resolutions', () => {
  withDirectory((directory) => {
    for (const littleEndian of [true, false]) {
      for (const resolution of ['microseconds', 'nanoseconds'] as const) {
        const path = join(directory, `${resolution}-${littleEndian}.pcap`)
        writeFileSync(path, pcapFile(packets, { littleEndian, resolution }))
        assert.deepEqual(byTshark(path), byUs(packets, resolution === 'microseconds' ? 6 : 9))
        assert.match(output('capinfos', '-c', '-M', path), /Number of packets: +60\b/)
        assert.equal(output('tcpdump', '-nq', '-r', path).trimEnd().split('\n').length, 60)
      }
    }
  })
})

test('tshark, capinfos and tcpdump read our pcapng with all it says', () => {
  withDirectory((directory) => {
    const path = join(directory, 'ours.pcapng')
    const told = packets.map((packet, i) =>
      Object.assign(packet.copy(), {
        interfaceId: i % 2,
        queue: i,
        verdict: i % 5,
        packetId: 2 ** 40 + i,
        dropCount: 3 * i,
        direction: i % 2 ? 'inbound' : 'outbound',
      }),
    )
    const parts: Uint8Array[] = [
      encodeSection({ application: 'node-xdp', os: 'Linux', hardware: 'x86_64' }),
      encodeInterface({
        name: 'veth7',
        filter: 'udp port 53',
        os: 'Linux 6',
        description: 'the wire',
        speed: 1e10,
      }),
      encodeInterface({ name: 'veth8' }),
    ]
    for (const packet of told) {
      const block = new Uint8Array(400)
      parts.push(block.subarray(0, writePacketBlock(block, 0, packet)))
    }
    const time = { seconds: 1_750_000_100, nanoseconds: 5 }
    const start = { seconds: 1_750_000_000, nanoseconds: 123_456_789 }
    parts.push(
      encodeStatistics(0, { ...time, start, end: time, received: 77, interfaceDropped: 5, systemDropped: 6 }),
    )
    writeFileSync(path, Buffer.concat(parts))

    assert.deepEqual(byTshark(path), byUs(told))
    const infos = output('capinfos', '-M', path)
    for (const line of [
      /Number of packets: +60\b/,
      /Capture application: +node-xdp/,
      /Name = veth7/,
      /Filter string = udp port 53/,
      /Description = the wire/,
      /Time precision = nanoseconds \(9\)/,
      /Number of stat entries = 1/,
    ]) {
      assert.match(infos, line)
    }
    const details = output('tshark', '-n', '-r', path, '-V', '-Y', 'frame.number == 8')
    for (const line of [
      /Interface queue: 7/,
      /Packet id: 1099511627783/,
      /XDP_PASS \(2\)/,
      /Drop Count: 21/i,
      /Direction: Inbound/,
    ]) {
      assert.match(details, line)
    }
    assert.equal(output('tcpdump', '-nq', '-r', path).trimEnd().split('\n').length, 60)
  })
})

test('we read what tcpdump, tshark, editcap and mergecap write', () => {
  withDirectory((directory) => {
    const source = join(directory, 'source.pcapng')
    writeFileSync(source, pcapngFile(packets))
    const made: [name: string, digits: number, make: (path: string) => void][] = [
      ['tcpdump-us.pcap', 6, (path) => output('tcpdump', '-r', source, '-w', path)],
      [
        'tcpdump-ns.pcap',
        9,
        (path) => output('tcpdump', '--time-stamp-precision=nano', '-r', source, '-w', path),
      ],
      ['tshark.pcapng', 9, (path) => output('tshark', '-n', '-r', source, '-w', path)],
      ['editcap-us.pcap', 6, (path) => output('editcap', '-F', 'pcap', source, path)],
      ['editcap-ns.pcap', 9, (path) => output('editcap', '-F', 'nsecpcap', source, path)],
      ['editcap-modified.pcap', 6, (path) => output('editcap', '-F', 'modpcap', source, path)],
      ['mergecap.pcapng', 9, (path) => output('mergecap', '-w', path, source)],
    ]
    for (const [name, digits, make] of made) {
      const path = join(directory, name)
      make(path)
      const { packets: read, problem } = readFileBytes(readFileSync(path), [777])
      assert.equal(problem, undefined, name)
      assert.deepEqual(byUs(read), byUs(packets, digits), name)
      assert.deepEqual(read.map(hexOf), packets.map(hexOf), name)
    }
  })
})

test('we read of modified pcap what tcpdump reads, in both byte orders', () => {
  withDirectory((directory) => {
    for (const littleEndian of [true, false]) {
      const [path, copy] = [
        join(directory, `${littleEndian}.pcap`),
        join(directory, `${littleEndian}-copy.pcap`),
      ]
      writeFileSync(path, modifiedPcapFile(packets, littleEndian))
      output('tcpdump', '-r', path, '-w', copy)
      const [ours, theirs] = [path, copy].map((file) => readFileBytes(readFileSync(file)).packets)
      assert.equal(ours.length, packets.length)
      assert.deepEqual(byUs(ours), byUs(theirs))
      assert.deepEqual(ours.map(hexOf), theirs.map(hexOf))
    }
  })
})
