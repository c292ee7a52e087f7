// Packets for testing programs: mostly well formed, often with one thing wrong.
import type { Random } from '../bpf/builder/random-program.js'

const OURS = [10, 0, 0, 1]
const THEIRS = [10, 0, 0, 2]
/** Addresses that tests take for theirs. */
export const ADDRESSES = [Uint8Array.from(OURS), Uint8Array.from([0xfd, ...Array<number>(14).fill(0), 1])]

/**
 * A packet: Ethernet, none to three VLAN tags, ARP, IPv4 or IPv6 with options, fragments and up to `longestChain` extension
 * headers, ICMP, UDP or TCP.
 */
export function randomPacket(next: Random, longestChain = 5): Uint8Array {
  const out: number[] = Array.from({ length: 12 }, () => next(256))
  const u16 = (value: number): void => void out.push((value >> 8) & 0xff, value & 0xff)
  const any = (count: number): void => void out.push(...Array.from({ length: count }, () => next(256)))
  const seldom = (value: number): number => (next(12) === 0 ? next(256) : value)
  for (let tags = next(4) === 0 ? 1 + next(3) : 0; tags > 0; tags--) {
    u16(next(2) === 0 ? 0x8100 : 0x88a8)
    any(2)
  }
  const type = [0x0800, 0x0800, 0x86dd, 0x86dd, 0x0806, 0x1234][next(6)]
  u16(type)
  const address4 = (): void =>
    void out.push(...(next(2) === 0 ? OURS : THEIRS).map((byte) => (next(30) === 0 ? next(256) : byte)))
  const address6 = (): void =>
    void out.push(...(next(3) > 0 ? ADDRESSES[1] : Array.from({ length: 16 }, () => next(2))))
  const transport = (protocol: number): void => {
    if (protocol === 1) out.push(seldom(next(2) * 8), seldom(0), ...[0, 0, 0, 0, 0, 0])
    else if (protocol === 58) {
      out.push(seldom(next(2) === 0 ? 128 : 135), seldom(0), 0, 0, 0, 0, 0, 0)
      address6()
    } else if (protocol === 17 || protocol === 6) {
      u16(next(3) * 7 + 50)
      u16(next(3) * 7 + 50)
      any(16)
    }
    any(next(12))
  }
  if (type === 0x0806) {
    out.push(0, seldom(1), 8, seldom(0), seldom(6), seldom(4), 0, seldom(1 + next(2)))
    any(6)
    address4()
    any(6)
    address4()
  } else if (type === 0x0800) {
    const words = next(4) === 0 ? next(16) : 5
    const protocol = [1, 1, 6, 17, next(256)][next(5)]
    out.push(next(20) === 0 ? next(256) : 0x40 | words, 0)
    u16(200)
    any(2)
    u16(next(5) === 0 ? [0x2000, 0x4000, 0x00b9, 0x2010][next(4)] : 0)
    out.push(64, protocol)
    any(2)
    address4()
    address4()
    any(Math.max(0, words - 5) * 4)
    transport(protocol)
  } else if (type === 0x86dd) {
    out.push(next(20) === 0 ? next(256) : 0x60, 0, 0, 0)
    u16(200)
    const chain =
      next(3) === 0 ? Array.from({ length: next(longestChain + 1) }, () => [0, 43, 44, 51, 60][next(5)]) : []
    const protocol = [58, 58, 6, 17, 59, next(256)][next(6)]
    out.push(chain[0] ?? protocol, 64)
    address6()
    address6()
    chain.forEach((header, index) => {
      out.push(chain[index + 1] ?? protocol)
      if (header === 44) {
        out.push(0)
        u16(next(2) === 0 ? 0 : next(2) === 0 ? 1 : 0x00b8)
        any(4)
      } else {
        const units = next(3)
        out.push(units)
        any((header === 51 ? (units + 2) * 4 : (units + 1) * 8) - 2)
      }
    })
    transport(protocol)
  } else any(next(60))
  const length = next(5) === 0 ? 14 + next(Math.max(1, out.length - 14)) : out.length
  return Uint8Array.from(out).slice(0, Math.max(14, length))
}

/** UDP over IPv4 from 10.0.0.2:9 to 10.0.0.1:80, well formed but for its checksums: 64 bytes. */
export const UDP = Uint8Array.of(
  ...[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0],
  ...[0x45, 0, 0, 50, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1],
  ...[0, 9, 0, 80, 0, 30, 0, 0, ...Array<number>(22).fill(0)],
)
