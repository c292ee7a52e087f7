// Arbitrary well-formed frames for the property tests, one for each kind of header the floor knows.
import fc from 'fast-check'
import {
  buildPacket,
  formatIpv4,
  formatIpv6,
  formatMac,
  type Ipv4Option,
  type Ipv6Extension,
  IPPROTO_AH,
  IPPROTO_DSTOPTS,
  IPPROTO_HOPOPTS,
  IPPROTO_ROUTING,
  type PacketDescription,
} from '../../src/packet/index.js'

export const u8 = fc.integer({ min: 0, max: 0xff })
export const u16 = fc.integer({ min: 0, max: 0xffff })
export const u32 = fc.integer({ min: 0, max: 0xffffffff })
const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length })

export const mac = bytes(6).map((b) => formatMac(b))
export const ipv4Address = bytes(4).map((b) => formatIpv4(b))
export const ipv6Address = bytes(16).map((b) => formatIpv6(b))
export const payload = fc.uint8Array({ maxLength: 100 })

/** Record route, timestamp and no-operation options that tshark can read too. */
export const ipv4Options: fc.Arbitrary<Ipv4Option[]> = fc.constantFrom(
  [],
  [],
  [{ type: 1, data: new Uint8Array(0) }],
  [{ type: 7, data: Uint8Array.of(4, 0, 0, 0, 0, 0, 0, 0, 0) }],
  [
    { type: 1, data: new Uint8Array(0) },
    { type: 148, data: Uint8Array.of(0, 0) },
    { type: 1, data: new Uint8Array(0) },
  ],
)

const padN = Uint8Array.of(1, 4, 0, 0, 0, 0)
export const ipv6Extensions: fc.Arbitrary<Ipv6Extension[]> = fc
  .tuple(fc.boolean(), fc.boolean(), fc.boolean(), fc.boolean(), fc.integer({ min: 0, max: 2 }))
  .map(([hop, dst, routing, ah, fragment]) => {
    const chain: Ipv6Extension[] = []
    if (hop) chain.push({ header: IPPROTO_HOPOPTS, body: padN })
    if (dst) chain.push({ header: IPPROTO_DSTOPTS, body: padN })
    // Segments left 0: the destination is the final one, as the pseudo-header wants it.
    if (routing) chain.push({ header: IPPROTO_ROUTING, body: Uint8Array.of(0, 0, 0, 0, 0, 0) })
    if (fragment === 1) chain.push({ header: 44, fragmentOffset: 0, moreFragments: false, identification: 7 })
    if (ah) chain.push({ header: IPPROTO_AH, body: new Uint8Array(22) })
    return chain
  })

export const tcpOptions = fc.record(
  {
    mss: u16,
    windowScale: fc.integer({ min: 0, max: 14 }),
    sackPermitted: fc.constant(true as const),
    timestamps: fc.record({ value: u32, echo: u32 }),
    sack: fc.array(fc.tuple(u32, u32), { minLength: 1, maxLength: 1 }),
  },
  { requiredKeys: [] },
)

const transport4 = fc.oneof(
  fc.record({ icmp: fc.record({ type: fc.constantFrom(0, 8), identifier: u16, sequence: u16 }), payload }),
  fc.record({ udp: fc.record({ srcPort: u16, dstPort: u16 }), payload }),
  fc.record({ tcp: tcpHeader(), payload }),
)
const neighbour = fc.oneof(
  fc.record({
    neighbour: fc.record(
      { kind: fc.constant('neighbour-solicitation' as const), target: ipv6Address, sourceLinkLayer: mac },
      { requiredKeys: ['kind', 'target'] },
    ),
  }),
  fc.record({
    neighbour: fc.record(
      {
        kind: fc.constant('neighbour-advertisement' as const),
        target: ipv6Address,
        router: fc.boolean(),
        solicited: fc.boolean(),
        override: fc.boolean(),
        targetLinkLayer: mac,
      },
      { requiredKeys: ['kind', 'target'] },
    ),
  }),
)
const transport6 = fc.oneof(
  fc.record({
    icmp6: fc.record({ type: fc.constantFrom(128, 129), identifier: u16, sequence: u16 }),
    payload,
  }),
  neighbour,
  fc.record({ udp: fc.record({ srcPort: u16, dstPort: u16 }), payload }),
  fc.record({ tcp: tcpHeader(), payload }),
)

function tcpHeader() {
  return fc.record({
    srcPort: u16,
    dstPort: u16,
    sequence: u32,
    acknowledgment: u32,
    flags: fc.integer({ min: 0, max: 0xff }),
    window: u16,
    options: tcpOptions,
  })
}

const ipv4 = fc.record({
  src: ipv4Address,
  dst: ipv4Address,
  dscp: fc.integer({ min: 0, max: 63 }),
  ecn: fc.integer({ min: 0, max: 3 }),
  identification: u16,
  dontFragment: fc.boolean(),
  ttl: u8,
  options: ipv4Options,
})
const ipv6 = fc.record({
  src: ipv6Address,
  dst: ipv6Address,
  trafficClass: u8,
  flowLabel: fc.integer({ min: 0, max: 0xfffff }),
  hopLimit: u8,
  extensions: ipv6Extensions,
})
const arp = fc.record({
  arp: fc.record({
    operation: fc.constantFrom(1, 2),
    senderMac: mac,
    senderIp: ipv4Address,
    targetMac: mac,
    targetIp: ipv4Address,
  }),
})

const vlan = fc.record({
  id: fc.integer({ min: 0, max: 4095 }),
  priority: fc.integer({ min: 0, max: 7 }),
  dropEligible: fc.boolean(),
})

export const description: fc.Arbitrary<PacketDescription> = fc
  .tuple(
    fc.record({ ethernet: fc.record({ dst: mac, src: mac }), vlans: fc.array(vlan, { maxLength: 3 }) }),
    fc.oneof(
      arp,
      fc.tuple(ipv4, transport4).map(([ip, rest]) => ({ ipv4: ip, ...rest })),
      fc.tuple(ipv6, transport6).map(([ip, rest]) => ({ ipv6: ip, ...rest })),
    ),
    fc.constantFrom(0, 60),
  )
  .map(([link, rest, padTo]) => ({ ...link, ...rest, padTo }))

export const frame = description.map((packet) => ({ packet, bytes: buildPacket(packet) }))

/** A frame with some bytes overwritten and its end cut off, or plain noise under a plausible EtherType. */
export const hostileFrame: fc.Arbitrary<Uint8Array> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc
      .tuple(frame, fc.array(fc.tuple(fc.nat(), u8), { maxLength: 6 }), fc.nat(), fc.boolean())
      .map(([{ bytes: whole }, changes, cut, truncate]) => {
        const copy = whole.slice(0, truncate ? cut % (whole.length + 1) : whole.length)
        // Most interesting bytes are in the headers.
        for (const [at, value] of changes) if (copy.length > 0) copy[at % Math.min(copy.length, 90)] = value
        return copy
      }),
  },
  {
    weight: 1,
    arbitrary: fc
      .tuple(
        fc.uint8Array({ maxLength: 120 }),
        fc.constantFrom(0x0800, 0x0806, 0x86dd, 0x8100, 0x88a8, 0x002e),
        u8,
      )
      .map(([noise, type, first]) => {
        if (noise.length > 14) {
          noise[12] = type >>> 8
          noise[13] = type
          noise[14] = type === 0x0800 ? 0x40 | (first & 0x0f) : type === 0x86dd ? 0x60 : noise[14]
        }
        return noise
      }),
  },
)
