// What the tests of capture files share: arbitrary packets, whole files written and read, and other people's tools.
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { CaptureDecoder } from '../../src/packet/pcap-decoder.js'
import { type CaptureProblem, PacketRecord } from '../../src/packet/pcap-record.js'
import { writePcapHeader, writePcapRecord, type PcapHeader } from '../../src/packet/pcap.js'
import { encodeInterface, encodeSection, writePacketBlock } from '../../src/packet/pcapng-write.js'

/** A record of these bytes with these fields. */
export function record(bytes: Uint8Array, fields: Partial<PacketRecord> = {}): PacketRecord {
  const packet = new PacketRecord()
  return Object.assign(packet, { bytes, length: bytes.length, wireLength: bytes.length, ...fields })
}

const count = fc.oneof(fc.constant(-1), fc.nat(), fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER }))

/** Packets with everything that pcapng keeps. */
export const packets: fc.Arbitrary<PacketRecord[]> = fc.array(
  fc
    .record({
      bytes: fc.oneof(fc.uint8Array({ maxLength: 40 }), fc.uint8Array({ minLength: 100, maxLength: 300 })),
      before: fc.nat(7),
      more: fc.nat(2000),
      seconds: fc.integer({ min: 0, max: 0xffffffff }),
      nanoseconds: fc.integer({ min: 0, max: 999_999_999 }),
      direction: fc.constantFrom('inbound' as const, 'outbound' as const, 'unknown' as const),
      queue: fc.oneof(fc.constant(-1), fc.nat(64)),
      verdict: fc.integer({ min: -1, max: 4 }),
      packetId: count,
      dropCount: count,
    })
    .map(({ bytes, before, more, ...fields }) => {
      const around = new Uint8Array(before + bytes.length + 3).fill(0xee)
      around.set(bytes, before)
      const length = bytes.length
      return record(around, { offset: before, length, wireLength: length + more, ...fields })
    }),
  { maxLength: 12 },
)

/** A pcap file. */
export function pcapFile(records: readonly PacketRecord[], header: Partial<PcapHeader> = {}): Uint8Array {
  const bytes = new Uint8Array(24 + records.reduce((sum, { length }) => sum + 16 + length, 0))
  let at = writePcapHeader(bytes, 0, header)
  for (const packet of records) {
    at = writePcapRecord(bytes, at, packet, header.resolution ?? 'nanoseconds', header.littleEndian ?? true)
  }
  return bytes.subarray(0, at)
}

/** A file of the modified pcap, as nothing of ours writes it: 24 bytes before each packet, microseconds. */
export function modifiedPcapFile(records: readonly PacketRecord[], littleEndian: boolean): Uint8Array {
  const file = new Uint8Array(24 + records.reduce((sum, { length }) => sum + 24 + length, 0))
  const view = new DataView(file.buffer)
  writePcapHeader(file, 0, { littleEndian })
  view.setUint32(0, 0xa1b2cd34, littleEndian)
  let at = 24
  for (const { bytes, offset, length, wireLength, seconds, nanoseconds } of records) {
    const words = [seconds, Math.floor(nanoseconds / 1000), length, wireLength, 7]
    for (const [i, word] of words.entries()) view.setUint32(at + 4 * i, word, littleEndian)
    view.setUint16(at + 20, 0x0800, littleEndian)
    view.setUint16(at + 22, 0xeeee)
    file.set(bytes.subarray(offset, offset + length), at + 24)
    at += 24 + length
  }
  return file
}

/** A pcapng file of one section and one interface. */
export function pcapngFile(records: readonly PacketRecord[]): Uint8Array {
  const head = Buffer.concat([encodeSection({ application: 'test' }), encodeInterface({ name: 'veth0' })])
  const bytes = new Uint8Array(head.length + records.reduce((sum, { length }) => sum + 128 + length, 0))
  bytes.set(head)
  let at = head.length
  for (const packet of records) at = writePacketBlock(bytes, at, packet)
  return bytes.subarray(0, at)
}

export interface Reading {
  packets: PacketRecord[]
  problem: CaptureProblem | undefined
  decoder: CaptureDecoder
}

/** Reads a whole file, in chunks of these sizes over and over. */
export function readFileBytes(file: Uint8Array, chunks: readonly number[] = [65536]): Reading {
  const decoder = new CaptureDecoder()
  const into = new PacketRecord()
  const found: PacketRecord[] = []
  let i = 0
  for (let at = 0; at < file.length;) {
    const end = Math.min(file.length, at + chunks[i++ % chunks.length])
    decoder.input.push(file.subarray(at, end))
    at = end
    while (decoder.next(into) === 'packet') found.push(into.copy())
  }
  return { packets: found, problem: decoder.finish(), decoder }
}

/** Calls `use` with a directory that is gone afterwards. */
export function withDirectory<T>(use: (directory: string) => T): T {
  const directory = mkdtempSync(join(tmpdir(), 'node-xdp-files-'))
  try {
    return use(directory)
  } finally {
    rmSync(directory, { recursive: true })
  }
}

/** What a command prints; throws with its error output when it fails. */
export function output(command: string, ...args: string[]): string {
  return execFileSync(command, args, {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
    maxBuffer: 1 << 26,
    timeout: 60_000,
  })
}
