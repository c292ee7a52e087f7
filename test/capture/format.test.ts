// Packets as text: tcpdump's own lines for whatever both know, and nothing bad for anything at all.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import { PacketFormatter, type FormatOptions } from '../../src/capture/format.js'
import { TextBuffer } from '../../src/capture/format/text.js'
import { packetToJson, packetToJsonLine } from '../../src/capture/json.js'
import { loadServices } from '../../src/capture/services.js'
import { buildPacket, type PacketDescription } from '../../src/packet/index.js'
import { LINKTYPE_RAW, type PacketRecord } from '../../src/packet/pcap-record.js'
import { hostileFrame } from '../packet/generate.js'
import { pcapFile, record } from '../packet/pcap-files.js'
import { described, dnsMessages, random, short, tlsPackets } from './format-packets.js'

/** A second and some nanoseconds apart, some going back. */
function records(packets: readonly PacketDescription[]): PacketRecord[] {
  return packets.map((packet, i) =>
    record(buildPacket(packet), {
      seconds: 1_750_000_000 + i - (i % 7) * 2,
      nanoseconds: (i * 123_456_789) % 1e9,
    }),
  )
}

/** What tcpdump prints for each packet. */
function tcpdump(packets: readonly PacketRecord[], flags: readonly string[]): string[] {
  const directory = mkdtempSync(join(tmpdir(), 'node-xdp-format-'))
  try {
    const path = join(directory, 'packets.pcap')
    writeFileSync(path, pcapFile(packets))
    const text = execFileSync('tcpdump', ['-n', '-#', ...flags, '-r', path], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
      maxBuffer: 1 << 26,
    })
    const found: string[] = []
    // A packet may take several lines: its number begins the first.
    for (const line of text.replace(/\n$/, '').split('\n')) {
      const match = /^ {0,4}(\d+) {2}/.exec(line)
      if (Number(match?.[1]) === found.length + 1) found.push(line.slice(match?.[0].length))
      else found[found.length - 1] += `\n${line}`
    }
    return found
  } finally {
    rmSync(directory, { recursive: true })
  }
}

function compare(packets: readonly PacketRecord[], flags: readonly string[], options: FormatOptions): void {
  const isTimed = options.time !== undefined
  const theirs = tcpdump(packets, isTimed ? flags : [...flags, '-t'])
  const formatter = new PacketFormatter(isTimed ? options : { ...options, time: 'none' })
  assert.equal(theirs.length, packets.length)
  for (const [i, packet] of packets.entries()) {
    // SVCB and HTTPS are newer than that tcpdump.
    const ours = formatter.format(packet).replace(' HTTPS? ', ' Type65? ')
    assert.equal(ours, theirs[i], `packet ${i + 1}, ${flags.join(' ')}`)
  }
}

const ways: [flags: string[], options: FormatOptions][] = [
  [[], {}],
  [['-q'], { quiet: true }],
  [['-e'], { linkHeader: true }],
  [['-v'], { verbosity: 1 }],
  [['-vv'], { verbosity: 2 }],
  [['-S'], { absoluteSequence: true }],
  [['-e', '-v'], { linkHeader: true, verbosity: 1 }],
  [['-e', '-q'], { linkHeader: true, quiet: true }],
  [['-x'], { dump: 'hex' }],
  [['-xx'], { dump: 'hex-link' }],
  [['-X'], { dump: 'both' }],
  [['-XX'], { dump: 'both-link' }],
  [['-A'], { dump: 'ascii' }],
]

suite('text', () => {
  const named = records(described)
  const many = records(random)
  for (const [flags, options] of ways) {
    test(`is what tcpdump -n ${flags.join(' ')} prints`, () => {
      compare(named, flags, options)
      compare(many, flags, options)
      if (options.dump === undefined) compare(records(short), flags, options)
    })
  }

  for (const [flag, time] of [
    ['', 'clock'],
    ['-tt', 'epoch'],
    ['-ttt', 'delta'],
    ['-tttt', 'date'],
    ['-ttttt', 'since-first'],
  ] as const) {
    test(`has tcpdump's time stamps: ${time}`, () => {
      for (const precision of ['microseconds', 'nanoseconds'] as const) {
        const flags = [flag, `--time-stamp-precision=${precision.slice(0, -7)}`].filter(Boolean)
        compare(named.slice(0, 40), flags, { time, precision })
      }
    })
  }

  test('says of a time that no date can be that it is none, as tcpdump does, and goes on', () => {
    const [packet] = records(described)
    const print = (time: 'clock' | 'date' | 'epoch' | 'delta') => {
      const formatter = new PacketFormatter({ time })
      return [5, 2 ** 62, 8.64e12 + 1, 5].map((seconds) => {
        const line = formatter.format(Object.assign(packet, { seconds, nanoseconds: 1000 }))
        return line.slice(0, line.indexOf(' IP'))
      })
    }
    for (const time of ['clock', 'date'] as const) {
      const [first, ...rest] = print(time)
      assert.match(first, /:05\.000001$/)
      assert.deepEqual(rest, ['[Error converting time]', '[Error converting time]', first])
    }
    assert.match(print('epoch')[1], /^46116860184273\d{5}\.000001$/)
    assert.match(print('delta')[1], /^ \d+:\d\d:\d\d\.000000$/)
  })

  test('shows the first TLS record and the server that was asked for', () => {
    const formatter = new PacketFormatter({ time: 'none' })
    const [hello, data] = records(tlsPackets).map((packet) => formatter.format(packet))
    assert.match(hello, /Flags \[P\.\], .*, length 76: TLS: Client Hello, SNI www\.example\.org$/)
    assert.match(data, /, length 25: TLS: Application Data$/)
  })

  test('names ports when asked to', () => {
    const service = (port: number, protocol: string) => (port === 9999 ? `my-${protocol}` : undefined)
    const packet = records([
      { ipv4: { src: '192.0.2.1', dst: '192.0.2.2' }, udp: { srcPort: 7, dstPort: 9999 } },
    ])[0]
    const line = new PacketFormatter({ time: 'none', service }).format(packet)
    assert.equal(line, 'IP 192.0.2.1.7 > 192.0.2.2.my-udp: UDP, length 0')
    assert.equal(loadServices('/nonexistent')(80, 'tcp'), undefined)
    assert.equal(loadServices()(22, 'tcp'), 'ssh')
  })

  test('forgets connections rather than grow', () => {
    const formatter = new PacketFormatter({ time: 'none' })
    const segment = (srcPort: number, sequence: number) =>
      record(
        buildPacket({
          ipv4: { src: '192.0.2.1', dst: '192.0.2.2' },
          tcp: { srcPort, dstPort: 65535, flags: 0x10, sequence, acknowledgment: 1 },
          payload: 'x',
        }),
      )
    formatter.format(segment(10_000, 1_000_000))
    assert.match(formatter.format(segment(10_000, 1_000_001)), /seq 1:2/)
    for (let port = 20_000; port < 24_096; port++) formatter.format(segment(port, 5))
    assert.match(formatter.format(segment(10_000, 1_000_002)), /seq 1000002:1000003/)
  })

  test('of anything at all is text without control characters, from the bytes of the packet alone', () => {
    const options = fc.record({
      verbosity: fc.constantFrom(0 as const, 1 as const, 2 as const),
      quiet: fc.boolean(),
      linkHeader: fc.boolean(),
      absoluteSequence: fc.boolean(),
    })
    const ports = fc.constantFrom(53, 80, 443, 5060, 7777)
    const carried = fc
      .tuple(ports, fc.boolean(), fc.oneof(fc.uint8Array({ maxLength: 80 }), fc.constantFrom(...dnsMessages)))
      .map(([dstPort, isTcp, payload]) =>
        buildPacket({
          ipv4: { src: '192.0.2.1', dst: '192.0.2.2' },
          ...(isTcp ? { tcp: { srcPort: 7777, dstPort, flags: 0x18 } } : { udp: { srcPort: 7777, dstPort } }),
          payload,
        }),
      )
    const damaged = fc
      .tuple(fc.constantFrom(...described, ...tlsPackets).map(buildPacket), fc.nat(), fc.nat(), fc.nat(255))
      .map(([frame, cut, where, value]) => {
        const copy = frame.slice(0, cut % 3 === 0 ? cut % (frame.length + 1) : frame.length)
        if (copy.length > 0) copy[where % copy.length] = value
        return copy
      })
    fc.assert(
      fc.property(fc.oneof(hostileFrame, carried, damaged), options, fc.nat(40), (frame, how, more) => {
        const alone = record(frame, { wireLength: frame.length + more })
        const text = new PacketFormatter({ ...how, time: 'none' }).format(alone)
        assert.doesNotMatch(text, /[\x00-\x08\x0b-\x1f\x7f-\uffff]/)
        // The same bytes between others are the same text: nothing outside was read.
        for (const filling of [0x00, 0xff, 0x41]) {
          const around = new Uint8Array(frame.length + 200).fill(filling)
          around.set(frame, 100)
          const within = record(around, { offset: 100, length: frame.length, wireLength: alone.wireLength })
          assert.equal(new PacketFormatter({ ...how, time: 'none' }).format(within), text)
          assert.deepEqual(packetToJson(within), packetToJson(alone))
        }
        assert.doesNotMatch(packetToJsonLine(alone), /\n/)
      }),
      { seed: 46, numRuns: 3000 },
    )
  })

  test('dumps bytes as the printf of it would, longer ones than 64 KiB too', () => {
    const hex = (value: number, digits: number) => value.toString(16).padStart(digits, '0')
    const shown = (byte: number) => (byte > 0x20 && byte < 0x7f ? String.fromCharCode(byte) : '.')
    const lines = (bytes: Uint8Array, withText: boolean) =>
      Array.from({ length: Math.ceil(bytes.length / 16) }, (_, i) => {
        const row = [...bytes.subarray(i * 16, i * 16 + 16)]
        const digits = row.map((byte, i) => `${i % 2 === 0 ? ' ' : ''}${hex(byte, 2)}`).join('')
        const beside = withText ? `${digits.padEnd(40)}  ${row.map(shown).join('')}` : digits
        return `\n\t0x${hex(i * 16, 4)}: ${beside}`
      }).join('')
    const link = { linkType: 113, wireLength: 7 }
    const check = (bytes: Uint8Array) => {
      for (const dump of ['hex-link', 'both-link'] as const) {
        const text = new PacketFormatter({ dump, time: 'none' }).format(record(bytes, link))
        assert.equal(text, `link type 113, length 7${lines(bytes, dump === 'both-link')}`)
      }
    }
    fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), check), { seed: 46, numRuns: 300 })
    check(Uint8Array.from({ length: 0x10000 + 99 }, (_, i) => i * 7))
  })

  test('adds packets to a text that grows, as they are printed one by one', () => {
    // Names of ports are the only text that need not be ASCII.
    const service = (port: number) => (port % 2 === 0 ? undefined : `pört ${port} 端口`)
    const packets = records([...described, ...tlsPackets])
    for (const [, options] of ways) {
      const text = new TextBuffer(10)
      const [one, all] = [0, 1].map(() => new PacketFormatter({ ...options, service }))
      for (const packet of packets) all.add(packet, text)
      assert.equal(text.toString(), packets.map((packet) => one.format(packet)).join(''))
      text.clear()
      assert.equal(text.toString(), '')
    }
  })
})

suite('JSON', () => {
  test('says what is known of a packet, layer by layer', () => {
    const packet = record(
      buildPacket({
        vlans: [{ id: 5, priority: 3 }],
        ipv4: { src: '192.0.2.1', dst: '192.0.2.2' },
        udp: { srcPort: 40000, dstPort: 53 },
        payload: dnsMessages[0],
      }),
      { seconds: 1_750_000_000, nanoseconds: 42, queue: 3, verdict: 2, direction: 'inbound', interfaceId: 1 },
    )
    const { layers, ...rest } = JSON.parse(
      packetToJsonLine(packet, { interfaces: [undefined, 'veth1'] }),
    ) as ReturnType<typeof packetToJson>
    assert.deepEqual(rest, {
      time: '2025-06-15T15:06:40.000000042Z',
      length: packet.length,
      wireLength: packet.length,
      interface: 'veth1',
      direction: 'inbound',
      queue: 3,
      verdict: 2,
    })
    assert.deepEqual(
      layers.map(({ layer }) => layer),
      ['ethernet', 'vlan', 'ipv4', 'udp', 'dns'],
    )
    assert.equal(layers[1]['id'], 5)
    assert.equal(layers[2]['dst'], '192.0.2.2')
    assert.equal(layers[3]['dstPort'], 53)
    assert.equal(layers[4]['text'], '4660+ A? www.example.com. (33)')
  })

  test('has no time where no date can be it', () => {
    const [packet] = records(described)
    const timeOf = (seconds: number) => {
      const line = packetToJsonLine(Object.assign(packet, { seconds, nanoseconds: 1 }))
      return (JSON.parse(line) as ReturnType<typeof packetToJson>).time
    }
    assert.deepEqual([2 ** 62, 5, 8.64e12 + 1, 8.64e12].map(timeOf), [
      null,
      '1970-01-01T00:00:05.000000001Z',
      null,
      '+275760-09-13T00:00:00.000000001Z',
    ])
  })

  test('is what JSON.stringify makes of the object, byte for byte', () => {
    const known = fc.record({
      seconds: fc.oneof(
        fc.integer({ min: 0, max: 0xffffffff }),
        fc.constantFrom(-1, 8.64e12, 8.64e12 + 1, 2 ** 62),
      ),
      nanoseconds: fc.constantFrom(0, 1, 123_456_789, 999_999_999),
      interfaceId: fc.nat(2),
      linkType: fc.constantFrom(1, 1, 1, 1, LINKTYPE_RAW, 113),
      direction: fc.constantFrom('inbound' as const, 'outbound' as const, 'unknown' as const),
      queue: fc.constantFrom(-1, 0, 63),
      verdict: fc.constantFrom(-1, 4),
      packetId: fc.constantFrom(-1, 0, 999_999_999, 1e9, 1_000_000_001, 2 ** 53 - 1),
      dropCount: fc.constantFrom(-1, 0, 2 ** 31, 0xffffffff),
    })
    const interfaces = [undefined, 'veth1', 'an "odd" näme']
    const check = (packet: PacketRecord) => {
      assert.equal(
        packetToJsonLine(packet, { interfaces }),
        JSON.stringify(packetToJson(packet, { interfaces })),
      )
    }
    records([...described, ...tlsPackets, ...random]).forEach(check)
    const carried = fc.constantFrom(...dnsMessages).map((payload) =>
      buildPacket({
        ipv4: { src: '192.0.2.1', dst: '192.0.2.2' },
        udp: { srcPort: 53, dstPort: 7 },
        payload,
      }),
    )
    fc.assert(
      fc.property(fc.oneof(hostileFrame, carried), known, fc.nat(60), (frame, fields, cut) => {
        const length = Math.max(0, frame.length - Math.max(0, cut - 30))
        check(record(frame, { ...fields, length, wireLength: frame.length + cut }))
      }),
      { seed: 47, numRuns: 4000 },
    )
  })

  test('begins with IP where there is no link header', () => {
    for (const ip of [
      { ipv4: { src: '192.0.2.1', dst: '192.0.2.2' } },
      { ipv6: { src: 'fd00::1', dst: 'fd00::2' } },
    ]) {
      const frame = buildPacket({ ...ip, udp: { srcPort: 40000, dstPort: 53 }, payload: dnsMessages[0] })
      const raw = packetToJson(record(frame.subarray(14), { linkType: LINKTYPE_RAW }))
      assert.deepEqual(raw.layers, packetToJson(record(frame)).layers.slice(1))
    }
    assert.equal(packetToJson(record(Uint8Array.of(), { linkType: LINKTYPE_RAW })).problem, 'short-ipv4')
  })

  test('gives the first line of messages, over UDP and TCP, and nothing of their middles', () => {
    const hosts = { ipv4: { src: '192.0.2.1', dst: '192.0.2.2' } }
    const last = (parts: object) => packetToJson(record(buildPacket({ ...hosts, ...parts }))).layers.at(-1)
    const udp = (dstPort: number, payload: string) => last({ udp: { srcPort: 40000, dstPort }, payload })
    const tcp = (dstPort: number, payload: string | Uint8Array) =>
      last({ tcp: { srcPort: 40000, dstPort, flags: 0x10 }, payload })
    const invite = 'INVITE sip:bob@example.org SIP/2.0\r\nVia: SIP/2.0/UDP host\r\n\r\n'
    const sip = { layer: 'sip', text: 'INVITE sip:bob@example.org SIP/2.0' }
    assert.deepEqual([udp(5060, invite), tcp(5060, invite)], [sip, sip])
    assert.deepEqual(tcp(80, 'GET / HTTP/1.1\r\nHost: a\r\n\r\n'), { layer: 'http', text: 'GET / HTTP/1.1' })
    assert.equal(tcp(80, '<p>the middle of a page')?.layer, 'tcp')
    const length = Buffer.from([0, dnsMessages[0].length])
    const dns = tcp(53, Buffer.concat([length, dnsMessages[0]]))
    assert.deepEqual(dns, { layer: 'dns', text: '4660+ A? www.example.com. (33)' })
    assert.equal(tcp(53, length)?.layer, 'tcp')
  })

  test('names what is wrong', () => {
    const frame = buildPacket({
      ipv4: { src: '192.0.2.1', dst: '192.0.2.2' },
      udp: { srcPort: 1, dstPort: 2 },
    })
    const { problem, layers } = packetToJson(record(frame.subarray(0, 36)))
    assert.equal(problem, 'ipv4-truncated')
    assert.deepEqual(
      layers.map(({ layer }) => layer),
      ['ethernet', 'ipv4'],
    )
  })
})
