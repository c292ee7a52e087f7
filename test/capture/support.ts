// What the capture tests share: a sink that keeps what it gets, a socket that sends frames, and a filter from tcpdump.
import { execFileSync } from 'node:child_process'
import type { TestContext } from 'node:test'
import { check, inNamespace, native } from '../../src/kernel/index.js'
import type { LabEnd } from '../../src/lab/index.js'
import type { PacketRecord } from '../../src/packet/pcap-record.js'
import type { PacketFilter, PacketSink } from '../../src/capture/source.js'

/** A sink that copies every packet and notes all else. */
export class Keeper implements PacketSink {
  readonly packets: PacketRecord[] = []
  readonly links: boolean[] = []
  batches = 0
  end: { error: Error | undefined } | undefined
  /** Which packets to keep. */
  readonly wanted: (packet: PacketRecord) => boolean

  constructor(wanted: (packet: PacketRecord) => boolean = () => true) {
    this.wanted = wanted
  }

  packet(packet: PacketRecord): void {
    if (this.wanted(packet)) this.packets.push(packet.copy())
  }
  batchEnd(): void {
    this.batches++
  }
  linkChanged(isUp: boolean): void {
    this.links.push(isUp)
  }
  ended(error?: Error): void {
    this.end = { error }
  }
}

/** Sends frames out of an end of a lab as they are. */
export function senderAt(t: TestContext, end: LabEnd): (frame: Uint8Array) => void {
  const fd = check(
    inNamespace(end.namespace, () => native.socket(17, 3, 0)),
    'socket',
  )
  t.after(() => native.close(fd))
  const address = new DataView(new ArrayBuffer(20))
  address.setUint16(0, 17, true)
  address.setUint16(2, 3)
  address.setInt32(4, end.ifindex, true)
  return (frame) => {
    check(native.send(fd, frame, 0, address), 'sendto')
  }
}

/** The filter that libpcap makes of an expression; `matches` is what the caller says it means. */
export function libpcapFilter(expression: string, matches: PacketFilter['matches']): PacketFilter {
  const text = execFileSync('tcpdump', ['-ddd', '-y', 'EN10MB', expression], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  const rows = text.trim().split('\n').slice(1)
  const program = new Uint8Array(rows.length * 8)
  const view = new DataView(program.buffer)
  for (const [i, row] of rows.entries()) {
    const [code, jumpTrue, jumpFalse, k] = row.split(' ').map(Number)
    view.setUint16(i * 8, code, true)
    view.setUint8(i * 8 + 2, jumpTrue)
    view.setUint8(i * 8 + 3, jumpFalse)
    view.setUint32(i * 8 + 4, k, true)
  }
  return { matches, toClassicBpf: () => program }
}

export const hexOf = ({ bytes, offset, length }: PacketRecord): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset + offset, length).toString('hex')
