// The ping responder as it was written by hand in the assembler: the judge of the one written with the builder.
import {
  add,
  and,
  call,
  exit,
  jump,
  jumpIf,
  jumpIf32,
  label,
  load,
  loadMap,
  mov,
  mov32,
  r0,
  r1,
  r10,
  r2,
  r3,
  r6,
  r7,
  r8,
  r9,
  store,
  type Code,
  type MapTarget,
} from '../../src/bpf/asm.js'

const XDP_PASS = 2
const XDP_MD = { data: 0, dataEnd: 4, rxQueueIndex: 16 } as const

/** A 16-bit field as it reads on this little-endian machine when it is `value` in the packet. */
const be16 = (value: number) => ((value & 0xff) << 8) | (value >> 8)

const ETH_P_IP = be16(0x0800)
const ETH_P_IPV6 = be16(0x86dd)
const ETH_P_ARP = be16(0x0806)
const ARPHRD_ETHER = be16(1)
const ARPOP_REQUEST = be16(1)
// Protocol type IPv4, address lengths 6 and 4, read as one u32.
const ARP_IPV4_OVER_ETHERNET = 0x04060008
const FRAGMENT_BITS = be16(0x3fff) // more fragments, and the offset
const IPPROTO_ICMP = 1
const IPPROTO_ICMPV6 = 58
// Type and code 0, read as one u16.
const ECHO_REQUEST = 8
const ECHO6_REQUEST = 128
const NEIGHBOUR_SOLICITATION = 135

// Where the address that is asked for is put together, as the map's key: 16 bytes on the stack.
const KEY = -16

// r6 context, r7 the header we are at, r8 the packet's end.
export function responderByHand(sockets: MapTarget, addresses: MapTarget): Code {
  return [
    mov(r6, r1),
    load('u32', r7, r1, XDP_MD.data),
    load('u32', r8, r1, XDP_MD.dataEnd),
    needs(14),
    load('u16', r9, r7, 12),
    add(r7, 14),
    jumpIf(r9, '==', ETH_P_ARP, 'arp'),
    jumpIf(r9, '==', ETH_P_IP, 'ipv4'),
    jumpIf(r9, '==', ETH_P_IPV6, 'ipv6'),
    jump('pass'),

    label('arp'),
    needs(28),
    unless('u16', 0, ARPHRD_ETHER),
    unless('u32', 2, ARP_IPV4_OVER_ETHERNET),
    unless('u16', 6, ARPOP_REQUEST),
    load('u32', r2, r7, 14),
    load('u32', r3, r7, 24),
    jumpIf32(r2, '==', r3, 'pass'),
    jump('key4'),

    label('ipv4'),
    needs(28),
    unless('u8', 0, 0x45),
    unless('u8', 9, IPPROTO_ICMP),
    load('u16', r2, r7, 6),
    jumpIf(r2, '&', FRAGMENT_BITS, 'pass'),
    unless('u16', 20, ECHO_REQUEST),
    load('u32', r3, r7, 16),

    label('key4'), // r3: the IPv4 address
    store('u64', r10, KEY, 0),
    mov32(r2, -0x10000), // ff ff behind the ten zero bytes
    store('u32', r10, KEY + 8, r2),
    store('u32', r10, KEY + 12, r3),
    jump('look up'),

    label('ipv6'),
    needs(48),
    load('u8', r2, r7, 0),
    and(r2, 0xf0),
    jumpIf(r2, '!=', 0x60, 'pass'),
    unless('u8', 6, IPPROTO_ICMPV6),
    load('u16', r2, r7, 40),
    jumpIf(r2, '==', ECHO6_REQUEST, 'echo6'),
    jumpIf(r2, '!=', NEIGHBOUR_SOLICITATION, 'pass'),
    needs(64),
    key6(48),
    jump('look up'),

    label('echo6'),
    key6(24),

    label('look up'),
    loadMap(r1, addresses),
    mov(r2, r10),
    add(r2, KEY),
    call('map_lookup_elem'),
    jumpIf(r0, '==', 0, 'pass'),
    load('u32', r2, r6, XDP_MD.rxQueueIndex),
    loadMap(r1, sockets),
    mov(r3, XDP_PASS),
    call('redirect_map'),
    exit(),

    label('pass'),
    mov(r0, XDP_PASS),
    exit(),
  ]
}

/** Passes the packet unless `size` bytes from r7 are in it. */
const needs = (size: number): Code => [mov(r2, r7), add(r2, size), jumpIf(r2, '>', r8, 'pass')]

/** Passes the packet unless the field at `offset` from r7 is `value`. */
const unless = (size: 'u8' | 'u16' | 'u32', offset: number, value: number): Code => [
  load(size, r2, r7, offset),
  jumpIf(r2, '!=', value, 'pass'),
]

/** Copies the 16 bytes at `offset` from r7 into the key. */
const key6 = (offset: number): Code =>
  [0, 4, 8, 12].map((at) => [load('u32', r2, r7, offset + at), store('u32', r10, KEY + at, r2)])
