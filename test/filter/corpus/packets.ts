// At least 5,000 Ethernet packets: every protocol the language knows, then the same ones damaged and cut short.
import { ETHERTYPES, IPV4, IPV6, IP_PROTOCOLS, LABELS, MACS, PORTS, SESSIONS, VLANS } from './names.js'
import * as p from './parts.js'
import type { Part } from './parts.js'
import { Random } from './random.js'

/** A packet as a capture file holds it. */
export interface CorpusPacket {
  /** What was captured of it. */
  bytes: Uint8Array
  /** How long it was on the wire: `bytes.length` and more. */
  wireLength: number
  /** What it is, for a message. */
  kind: string
}

/** A frame's bytes after its addresses: it begins with its type or length. */
type Body = Uint8Array
type Make = (random: Random) => Body

const payload = (random: Random): Part => random.bytes(random.pick([0, 1, 4, 8, 20, 40]))
const typed = (type: number, ...parts: readonly Part[]): Body => p.join(p.be16(type), ...parts)
const twoOf = <T>(random: Random, from: readonly T[]): [T, T] => [random.pick(from), random.pick(from)]

function transport(random: Random): { protocol: number; bytes: Part } {
  const [source, destination] = twoOf(random, PORTS)
  const data = payload(random)
  switch (random.below(4)) {
    case 0:
      return { protocol: IP_PROTOCOLS.udp, bytes: p.udp(source, destination, data) }
    case 1:
      return { protocol: IP_PROTOCOLS.sctp, bytes: p.sctp(source, destination, data) }
    default: {
      const flags = random.pick([
        0x02, 0x02, 0x12, 0x12, 0x10, 0x11, 0x04, 0x18, 0x29, 0x00, 0xc2, 0xff, 0x01, 0x08, 0x20, 0x40, 0x80,
      ])
      const options = random.oneIn(3) ? [2, 4, 5, 0xb4, 1, 1, 1, 0] : []
      const fields = { source, destination, flags, options, window: random.pick([0, 1024, 65535]) }
      return { protocol: IP_PROTOCOLS.tcp, bytes: p.tcp(fields, data) }
    }
  }
}

/** What IPv4 can carry beside ports. */
function portless(random: Random): { protocol: number; bytes: Part } {
  const { icmp, icmp6, ...rest } = IP_PROTOCOLS
  const data = payload(random)
  switch (random.below(3)) {
    case 0: {
      const types = [0, 3, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18]
      return { protocol: icmp, bytes: p.icmp(random.pick(types), random.below(4), data) }
    }
    case 1: {
      const types = [1, 2, 3, 4, 128, 128, 128, 129, 129, ...Array.from({ length: 25 }, (_, i) => 129 + i)]
      return { protocol: icmp6, bytes: p.icmp(random.pick(types), random.below(4), data) }
    }
    default:
      return {
        protocol: random.pick([...Object.values(rest), 0, 3, 44, 99, 255]),
        bytes: p.join(
          [random.pick([0x11, 0x12, 0x16, 0x21, 0x01, 0x00]), random.below(3)],
          random.bytes(6),
          data,
        ),
      }
  }
}

const content = (random: Random) => (random.oneIn(3) ? portless(random) : transport(random))

function ipv4(random: Random): Uint8Array {
  const [source, destination] = twoOf(random, IPV4)
  const { protocol, bytes } = content(random)
  const options = random.pick<Part>([
    [],
    [],
    [],
    [1, 1, 1, 0],
    [148, 4, 0, 0, 7, 7, 4, 0, 0, 0, 0, 0],
    new Uint8Array(40),
  ])
  const fragment = random.oneIn(5) ? random.pick([1, 2, 185, 0x1fff]) : 0
  const more = random.oneIn(8)
  const rest = {
    ttl: random.pick([1, 64, 255]),
    tos: random.pick([0, 0x10, 0xb8]),
    id: random.pick([0, 1, 0xbeef]),
  }
  return p.ipv4({ source, destination, protocol, options, fragment, more, ...rest }, bytes)
}

function ipv6(random: Random): Uint8Array {
  const [source, destination] = twoOf(random, IPV6)
  let { protocol, bytes } = content(random)
  for (let headers = random.below(5) - 2; headers > 0; headers--) {
    const inside = protocol
    switch (random.below(5)) {
      case 0:
        ;[protocol, bytes] = [
          44,
          p.fragmentHeader(inside, random.pick([0, 0, 1, 185]), random.oneIn(2), bytes),
        ]
        break
      case 1:
        ;[protocol, bytes] = [51, p.authentication(inside, bytes)]
        break
      default:
        ;[protocol, bytes] = [random.pick([0, 43, 60]), p.extension(inside, random.below(2), bytes)]
    }
  }
  const rest = {
    hops: random.pick([1, 64, 255]),
    trafficClass: random.pick([0, 0xb8]),
    flow: random.pick([0, 0x12345]),
  }
  return p.ipv6({ source, destination, next: protocol, ...rest }, bytes)
}

function arp(random: Random): Uint8Array {
  const end = (): [string, string] => [random.pick(MACS), random.pick(IPV4)]
  return p.arp(random.pick([1, 2, 3, 4]), end(), end())
}

/** Something over Ethernet's type. */
const layer3: Make = (random) => {
  switch (random.below(8)) {
    case 0:
      return typed(ETHERTYPES.arp, arp(random))
    case 1:
    case 2:
    case 3:
      return typed(ETHERTYPES.ip6, ipv6(random))
    default:
      return typed(ETHERTYPES.ip, ipv4(random))
  }
}

const tagged: Make = (random) => {
  const inner: Body = random.oneIn(6) ? linkControl(random) : random.oneIn(6) ? mpls(random) : layer3(random)
  const tag = (type: number) => p.vlanTag(random.pick(VLANS), type, random.pick([0, 0, 3, 7]))
  const inside = tag(ETHERTYPES.vlan)
  const outside = tag(random.pick([ETHERTYPES.qinq, ETHERTYPES.vlan, ETHERTYPES.oldQinq, 0x9200]))
  return p.join(...random.pick([[], [outside], [outside], [tag(ETHERTYPES.vlan), outside]]), inside, inner)
}

const mpls: Make = (random) => {
  const labels = Array.from({ length: 1 + random.below(3) }, () => random.pick(LABELS))
  const inside = random.pick([ipv4, ipv6])(random)
  return typed(
    random.pick([ETHERTYPES.mpls, ETHERTYPES.mpls, ETHERTYPES.mplsMulticast]),
    p.mplsStack(labels),
    inside,
  )
}

const pppoe: Make = (random) => {
  const session = random.pick(SESSIONS)
  if (random.oneIn(4))
    return typed(
      ETHERTYPES.pppoed,
      [0x11, random.pick([9, 7, 0x19, 0x65, 0xa7])],
      p.be16(session),
      [0, 4, 1, 1, 0, 0],
    )
  const [protocol, inside] = random.pick<[number, Make]>([
    [0x21, ipv4],
    [0x57, ipv6],
    [0xc021, (r) => r.bytes(8)],
    [0x281, (r) => p.join(p.mplsStack([r.pick(LABELS)]), ipv4(r))],
  ])
  return typed(ETHERTYPES.pppoes, p.pppoe(0, session, protocol, inside(random)))
}

const linkControl: Make = (random) => {
  switch (random.below(9)) {
    case 0: // spanning tree
      return p.llc(0x42, 0x42, [3], random.bytes(35))
    case 1: // raw 802.3, Novell's IPX
      return p.join(p.be16(30), [0xff, 0xff], random.bytes(28))
    case 2: // IPX over LLC
      return p.llc(0xe0, 0xe0, [3], random.bytes(30))
    case 3: // NetBEUI
      return p.llc(0xf0, 0xf0, random.pick([[3], [0, 0]]), random.bytes(30))
    case 4: {
      // ISO: CLNP, ES-IS, IS-IS with its kinds of messages
      const kind = random.pick([15, 16, 17, 18, 20, 24, 25, 26, 27])
      return p.llc(
        0xfe,
        0xfe,
        [3],
        [random.pick([0x81, 0x82, 0x83, 0x83, 0x83]), 27, 1, 0, kind, ...random.bytes(20)],
      )
    }
    case 5: {
      const [organisation, type] = random.pick([
        [0, ETHERTYPES.ip],
        [0, ETHERTYPES.arp],
        [0, ETHERTYPES.ipx],
        [0, ETHERTYPES.aarp],
        [0x080007, ETHERTYPES.atalk],
        [0x00000c, 0x2000],
        [0x000083, 1],
      ])
      return p.snap(organisation, type, type === ETHERTYPES.ip ? ipv4(random) : random.bytes(28))
    }
    case 6: {
      // LLC's information, supervisory and unnumbered formats
      const one = random.pick([
        0x03, 0x13, 0x0f, 0x1f, 0x2f, 0x43, 0x53, 0x63, 0x6f, 0x73, 0x87, 0x97, 0xaf, 0xbf, 0xe3,
      ])
      const control = random.pick([[one], [random.pick([0x01, 0x05, 0x09]), 2], [random.below(128) * 2, 2]])
      return p.llc(
        random.pick([0, 0x42, 0xaa, 0xf4]),
        random.pick([0, 1, 0x43, 0xaa]),
        control,
        random.bytes(20),
      )
    }
    default:
      return p.llc(random.below(256), random.below(256), [random.below(256)], random.bytes(12))
  }
}

const rareTypes: Make = (random) => {
  const { atalk, aarp, decnet, sca, lat, mopdl, moprc, ipx, lldp, loopback, rarp } = ETHERTYPES
  const type = random.pick([
    atalk,
    aarp,
    decnet,
    decnet,
    sca,
    lat,
    mopdl,
    moprc,
    ipx,
    lldp,
    loopback,
    rarp,
    rarp,
    0x0600,
    0x1234,
  ])
  if (type === rarp) return typed(rarp, arp(random))
  if (type !== decnet) return typed(type, [random.below(2), random.below(2)], random.bytes(38))
  // A length, then perhaps a padding byte, then flags for long (6) and short (2) routing headers; area 1, nodes 1 to 3.
  const long = p.join(
    [random.pick([0x06, 0x0e, 0x26])],
    random.bytes(7),
    [random.below(4), 4],
    random.bytes(6),
    [random.below(4), 4],
  )
  const short = [random.pick([0x02, 0x0a]), random.below(4), 4, random.below(4), 4]
  return typed(type, [20, 0], random.oneIn(2) ? [0x81] : [], random.oneIn(2) ? long : short, random.bytes(20))
}

/** UDP to port 6081 with Geneve inside, whose option words shift what follows. */
const geneve: Make = (random) => {
  const options = random.pick([0, 0, 1, 3])
  const [type, inside] = random.pick<[number, Make]>([
    [ETHERTYPES.ip, ipv4],
    [ETHERTYPES.ip6, ipv6],
    [0x6558, (r) => p.join(p.ethernet(r.pick(MACS), r.pick(MACS)), layer3(r))],
  ])
  const header = [options, 0, ...p.be16(type), ...p.be32(random.pick([0, 5, 0x123456]) << 8)]
  const bytes = p.udp(
    random.pick(PORTS),
    random.pick([6081, 6081, 6081, 6082]),
    p.join(header, p.zeros(options * 4), inside(random)),
  )
  const [source, destination] = twoOf(random, IPV4)
  if (!random.oneIn(3)) return typed(ETHERTYPES.ip, p.ipv4({ source, destination, protocol: 17 }, bytes))
  return typed(ETHERTYPES.ip6, p.ipv6({ source: 'fd00::1', destination: 'fd00::2', next: 17 }, bytes))
}

/** Tunnels inside IP: another header behind the first. */
const tunnel: Make = (random) => {
  const [protocol, inside] = random.pick<[number, Make]>([
    [IP_PROTOCOLS.ipip, ipv4],
    [IP_PROTOCOLS.ipv6, ipv6],
    [IP_PROTOCOLS.gre, (r) => p.join([0, 0, 8, 0], ipv4(r))],
    [
      IP_PROTOCOLS.ah,
      (r) => p.authentication(6, p.tcp({ source: r.pick(PORTS), destination: 80, flags: 2 }, [])),
    ],
  ])
  const [source, destination] = twoOf(random, IPV4)
  return typed(ETHERTYPES.ip, p.ipv4({ source, destination, protocol }, inside(random)))
}

const KINDS: readonly (readonly [kind: string, count: number, make: Make])[] = [
  ['ip', 1000, (random) => typed(ETHERTYPES.ip, ipv4(random))],
  ['ip6', 800, (random) => typed(ETHERTYPES.ip6, ipv6(random))],
  ['arp', 150, (random) => typed(ETHERTYPES.arp, arp(random))],
  ['vlan', 600, tagged],
  ['mpls', 250, mpls],
  ['pppoe', 250, pppoe],
  ['llc', 450, linkControl],
  ['rare type', 300, rareTypes],
  ['geneve', 120, geneve],
  ['tunnel', 100, tunnel],
]

/** The packets of the corpus, always the same ones. */
export function corpusPackets(seed = 0x9ca9): CorpusPacket[] {
  const random = new Random(seed)
  const packets: CorpusPacket[] = []
  const add = (kind: string, bytes: Uint8Array, wireLength = bytes.length) =>
    packets.push({ kind, bytes, wireLength })
  for (const [kind, count, make] of KINDS) {
    for (let i = 0; i < count; i++) {
      const frame = p.join(p.ethernet(random.pick(MACS), random.pick(MACS)), make(random))
      add(kind, random.oneIn(3) && frame.length < 60 ? p.join(frame, p.zeros(60 - frame.length)) : frame)
    }
  }
  for (const size of [64, 65, 576, 1500, 1514, 1518, 2000]) {
    add(
      'long',
      p
        .join(p.ethernet(MACS[0], MACS[1]), typed(ETHERTYPES.ip, ipv4(random)), p.zeros(size))
        .subarray(0, size),
    )
  }
  const whole = [...packets]
  for (let i = 0; i < 700; i++) {
    const { kind, bytes } = random.pick(whole)
    add(`mutated ${kind}`, mutated(bytes, random))
  }
  for (let i = 0; i < 500; i++) {
    const { kind, bytes } = random.pick(whole)
    add(`short ${kind}`, bytes.subarray(0, cut(bytes.length, random)))
  }
  for (let i = 0; i < 400; i++) {
    const { kind, bytes } = random.pick(whole)
    add(`cut ${kind}`, bytes.subarray(0, cut(bytes.length, random)), bytes.length + random.pick([0, 0, 100]))
  }
  for (let length = 0; length < 60; length++) add('prefix', whole[0].bytes.subarray(0, length))
  return packets
}

/** Where a header is likely to end or be in the middle. */
function cut(length: number, random: Random): number {
  return Math.min(length, random.oneIn(3) ? random.below(length) : 12 + random.below(60))
}

/** A few bytes of the headers changed, the length too now and then. */
function mutated(bytes: Uint8Array, random: Random): Uint8Array {
  const result = bytes.slice()
  for (let times = 1 + random.below(4); times > 0; times--) {
    const at = random.oneIn(4)
      ? random.below(result.length)
      : 12 + random.below(Math.min(60, result.length - 12))
    result[at] = random.oneIn(2) ? random.below(256) : result[at] ^ (1 << random.below(8))
  }
  return result
}
