// What makes a packet's flow: addresses, ports, protocol, VLAN. For the programs that count flows and that spread them.
import { type Decoded, be16, bytes, struct, u16, u8 } from '../bpf/index.js'
import type { Ethernet, Local, Outcome, Transport, Xdp, XdpResult } from '../bpf/builder/index.js'
import { ETH_P_IP, ETH_P_IPV6 } from '../packet/ethernet.js'
import { IPPROTO_TCP, IPPROTO_UDP } from '../packet/ipproto.js'
import { MAPPED_IPV4 } from './mapped-address.js'

/** 40 bytes without padding. */
export const flowKey = struct({
  /** IPv4 as ::ffff:a.b.c.d. */
  src: bytes(16),
  dst: bytes(16),
  /** 0 for what is neither TCP nor UDP, and for fragments, since only the first of them has ports. */
  srcPort: be16,
  dstPort: be16,
  /** The outer VLAN's id; 0 without a tag. */
  vlan: u16,
  /** Behind IPv6 extension headers; of a fragment what its fragment header says. */
  protocol: u8,
  /** 4 or 6. */
  version: u8,
})
export type FlowKey = Decoded<typeof flowKey>

/**
 * Writes the flow of a packet, whose Ethernet header was read with `vlans`, into `key`: IPv4 with or without options, IPv6 with
 * up to eight extension headers. `notIp` says what becomes of other packets. Where a packet is short or malformed the program
 * ends, or the attempt that it is in.
 */
export function writeFlow(
  x: Xdp,
  eth: Ethernet,
  key: Local<typeof flowKey>,
  notIp: () => Outcome<XdpResult>,
): void {
  const { fields } = key
  const writeProtocol = (transport: Transport): void => {
    const { protocol, isFragment } = transport
    fields.protocol.set(protocol)
    x.if(protocol.in([IPPROTO_TCP, IPPROTO_UDP]).and(isFragment.not()), () => {
      const ports = transport.ports()
      fields.srcPort.set(ports.srcPort)
      fields.dstPort.set(ports.dstPort)
    }).else(() => {
      fields.srcPort.set(0)
      fields.dstPort.set(0)
    })
  }
  fields.vlan.set(eth.vlan)
  x.if(eth.type.eq(ETH_P_IP), () => {
    const ip = eth.ipv4()
    fields.version.set(4)
    fields.src.slice(0, 12).set(MAPPED_IPV4)
    fields.src.field(12, 'be32').set(ip.src)
    fields.dst.slice(0, 12).set(MAPPED_IPV4)
    fields.dst.field(12, 'be32').set(ip.dst)
    writeProtocol(ip.transport({ fragments: 'any' }))
  })
    .elseIf(eth.type.eq(ETH_P_IPV6), () => {
      const ip = eth.ipv6()
      fields.version.set(6)
      fields.src.set(ip.src)
      fields.dst.set(ip.dst)
      writeProtocol(ip.transport({ fragments: 'any' }))
    })
    .else(notIp)
}
