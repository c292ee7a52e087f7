// A pcap file from frames, and tshark's and tcpdump's reading of it.
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** Classic little-endian pcap, link type Ethernet (LINKTYPE_ETHERNET = 1), a second between frames. */
export function pcap(frames: readonly Uint8Array[]): Uint8Array {
  const parts: Uint8Array[] = []
  const words = (...values: number[]) => parts.push(new Uint8Array(Uint32Array.from(values).buffer))
  words(0xa1b2c3d4, (4 << 16) | 2, 0, 0, 65535, 1)
  for (const [i, frame] of frames.entries()) {
    words(i, 0, frame.length, frame.length)
    parts.push(frame)
  }
  return Buffer.concat(parts)
}

/** Runs `use` with the path of a capture file of these frames, which is gone afterwards. */
export function withCapture<T>(frames: readonly Uint8Array[], use: (path: string) => T): T {
  const folder = mkdtempSync(join(tmpdir(), 'node-xdp-pcap-'))
  try {
    const path = join(folder, 'frames.pcap')
    writeFileSync(path, pcap(frames))
    return use(path)
  } finally {
    rmSync(folder, { recursive: true })
  }
}

/** One record a frame, of the fields asked for; several occurrences of a field are joined by commas. */
export function tshark(path: string, fields: readonly string[]): Record<string, string>[] {
  const protocols = [
    'eth',
    'ethertype',
    'vlan',
    'ieee8021ad',
    'arp',
    'ip',
    'ipv6',
    'icmp',
    'icmpv6',
    'udp',
    'tcp',
  ]
  protocols.push('ipv6.hopopts', 'ipv6.dstopts', 'ipv6.routing', 'ipv6.fraghdr', 'ah', 'data', 'frame')
  const args = [
    '-n',
    '-r',
    path,
    '-T',
    'fields',
    '-E',
    'separator=/t',
    '-E',
    'occurrence=a',
    '--disable-protocol',
    'ALL',
  ]
  for (const protocol of protocols) args.push('--enable-protocol', protocol)
  for (const name of ['ip', 'udp', 'tcp']) args.push('-o', `${name}.check_checksum:TRUE`)
  args.push('-o', 'tcp.relative_sequence_numbers:FALSE')
  for (const field of fields) args.push('-e', field)
  const text = execFileSync('tshark', args, {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
    maxBuffer: 1 << 26,
  })
  return text
    .replace(/\n$/, '')
    .split('\n')
    .map((line) => {
      const values = line.split('\t')
      return Object.fromEntries(fields.map((field, i) => [field, values[i] ?? '']))
    })
}

/** What `tcpdump -vv` prints: wrong checksums are named there. */
export function tcpdump(path: string): string {
  return execFileSync('tcpdump', ['-vv', '-e', '-nn', '-r', path], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
    maxBuffer: 1 << 26,
  })
}
