// Packets for programs that look at addresses and ports: from a few of each, so that rules are met, and often with something odd.
import type { Random } from '../bpf/builder/random-program.js'

/** What addresses and ports are taken from. */
export interface TrafficPools {
  readonly macs: readonly Uint8Array[]
  readonly ipv4: readonly Uint8Array[]
  readonly ipv6: readonly Uint8Array[]
  readonly ports: readonly number[]
}

const CHAIN = [0, 43, 44, 51, 60]

/**
 * A packet: none to three VLAN tags, ARP, IPv4, IPv6 or another type; header lengths, versions, fragments and chains of up to ten
 * extension headers as they should and should not be; UDP, TCP, ICMP, neighbour discovery and others; one in eight cut short.
 */
export function randomTraffic(next: Random, pools: TrafficPools): Uint8Array {
  const out: number[] = []
  const pick = <T>(list: readonly T[]): T => list[next(list.length)]
  const u16 = (value: number): void => void out.push(value >> 8, value & 0xff)
  const zeros = (count: number): void => {
    for (let i = 0; i < count; i++) out.push(0)
  }
  const any = (count: number): void => {
    for (let i = 0; i < count; i++) out.push(next(256))
  }
  const one = (list: readonly Uint8Array[], length: number): void => {
    if (next(6) === 0) any(length)
    else out.push(...pick(list))
  }
  if (next(10) === 0) out.push(0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
  else one(pools.macs, 6)
  one(pools.macs, 6)
  for (let tags = next(3) === 0 ? 1 + next(3) : 0; tags > 0; tags--) {
    u16(pick([0x8100, 0x88a8]))
    any(2)
  }
  const type = pick([0x0800, 0x0800, 0x0800, 0x0800, 0x86dd, 0x86dd, 0x86dd, 0x86dd, 0x86dd, 0x0806, 0x88b5])
  u16(type)
  const protocolOf = (icmp: number): number =>
    pick([17, 17, 17, 6, 6, icmp, icmp, pick([47, 50, 132, next(256)])])
  const transport = (protocol: number): void => {
    if (protocol === 17 || protocol === 6) {
      for (let i = 0; i < 2; i++) u16(next(5) === 0 ? next(0x10000) : pick(pools.ports))
      zeros(next(17))
    } else if (protocol === 58) {
      out.push(130 + next(9), 0)
      zeros(6 + next(20))
    } else zeros(next(20))
  }
  if (type === 0x0800) {
    const words = next(4) === 0 ? 3 + next(13) : 5
    const protocol = protocolOf(1)
    out.push(next(25) === 0 ? next(256) : 0x40 | words, 0)
    u16(100)
    u16(next(0x10000))
    u16(next(4) === 0 ? pick([0x2000, 0x2000, 0x4000, 1 << next(13), 0x2010, 0x1fff]) : 0)
    out.push(64, protocol, 0, 0)
    one(pools.ipv4, 4)
    one(pools.ipv4, 4)
    any(Math.max(0, words - 5) * 4)
    transport(protocol)
  } else if (type === 0x86dd) {
    const chain =
      next(2) === 0 ? Array.from({ length: next(4) === 0 ? next(11) : next(4) }, () => pick(CHAIN)) : []
    const protocol = protocolOf(58)
    out.push(next(25) === 0 ? next(256) : 0x60, 0, 0, 0)
    u16(100)
    out.push(chain[0] ?? protocol, pick([255, 255, 64]))
    one(pools.ipv6, 16)
    one(pools.ipv6, 16)
    chain.forEach((header, index) => {
      out.push(chain[index + 1] ?? protocol)
      if (header === 44) {
        out.push(next(256))
        u16(pick([0, 0, 1, 8 << next(13), 0xfff9]))
        any(4)
      } else {
        const units = next(5) === 0 ? next(4) : 0
        out.push(units)
        zeros((header === 51 ? (units + 2) * 4 : (units + 1) * 8) - 2)
      }
    })
    transport(protocol)
  } else zeros(next(50))
  const length = next(8) === 0 ? 14 + next(Math.max(1, out.length - 14)) : out.length
  return Uint8Array.from(out.slice(0, Math.max(14, length)))
}
