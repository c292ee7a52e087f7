// The ping responder's program: takes what asks for one of our addresses, passes everything else.
import { BpfMap, BpfProgram, bytes, u8 } from '../bpf/index.js'
import {
  add,
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
} from '../bpf/asm.js'
import { createSocketMap, redirectToSocket } from './sockets.js'
import { XDP_MD, XDP_PASS } from './verdicts.js'

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

/** The most addresses that can be answered for at a time. */
export const MAX_ADDRESSES = 1024

// Where the address that is asked for is put together, as the map's key: 16 bytes on the stack.
const KEY = -16

/**
 * ```
 * Ethernet, untagged ─┬─ ARP request ─────────────── for an address of ours ─┐
 *                     ├─ IPv4, no options or fragment ─ echo request to one ─┼─→ the queue's socket, if it has one
 *                     ├─ IPv6 ───────────────────────── echo request to one ─┤
 *                     │  └─ neighbour solicitation ──────────────── for one ─┘
 *                     └─ anything else: short, tagged, another type, another address ─→ pass to the kernel
 * ```
 *
 * An ARP request whose sender asks for its own address is an announcement: it passes. Kernel 5.3.
 */
export class ResponderProgram {
  readonly program: BpfProgram
  /** Sockets by queue. */
  readonly sockets: BpfMap<number, number>
  /** The addresses to answer for: 16 bytes each, IPv4 as ::ffff:a.b.c.d. */
  readonly addresses: BpfMap<Uint8Array, number>

  private constructor(
    program: BpfProgram,
    sockets: BpfMap<number, number>,
    addresses: BpfMap<Uint8Array, number>,
  ) {
    this.program = program
    this.sockets = sockets
    this.addresses = addresses
  }

  /** Loads the program. `queues` is the most queues the device can ever have. */
  static load({ queues }: { queues: number }): ResponderProgram {
    const sockets = createSocketMap(queues)
    const addresses = BpfMap.create({
      type: 'hash',
      name: 'addresses',
      key: bytes(16),
      value: u8,
      maxEntries: MAX_ADDRESSES,
    })
    try {
      const program = BpfProgram.load({ type: 'xdp', name: 'xdp_pong', code: responder(sockets, addresses) })
      return new ResponderProgram(program, sockets, addresses)
    } catch (error) {
      sockets.close()
      addresses.close()
      throw error
    }
  }

  /** Makes `addresses` (4 or 16 bytes each) the ones answered for. */
  setAddresses(wanted: Iterable<Uint8Array>): void {
    const keys = new Map([...wanted].map((address) => [mapKey(address).join(), mapKey(address)]))
    for (const key of [...this.addresses.keys()]) if (!keys.delete(key.join())) this.addresses.delete(key)
    for (const key of keys.values()) this.addresses.update(key, 1)
  }

  /** Lets go of the program and its maps: they live on while attached. */
  close(): void {
    this.program.close()
    this.sockets.close()
    this.addresses.close()
  }
}

function mapKey(address: Uint8Array): Uint8Array {
  if (address.length === 16) return address
  const key = new Uint8Array(16)
  key.fill(0xff, 10, 12)
  key.set(address, 12)
  return key
}

// r6 context, r7 the header we are at, r8 the packet's end.
function responder(sockets: BpfMap<number, number>, addresses: BpfMap<Uint8Array, number>): Code {
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
    redirectToSocket(sockets, r6),
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
