// ARP for IPv4 over Ethernet (RFC 826).
import { formatIpv4, formatMac } from './address.js'
import { fits, getU16, setU16, setU32, getU32 } from './bytes.js'
import { type AddressInput, checked, needRoom, putIpv4, putMac } from './encode.js'
import { type Decoded, malformed } from './problem.js'

// uapi/linux/if_arp.h
export const ARPHRD_ETHER = 1
export const ARPOP_REQUEST = 1
export const ARPOP_REPLY = 2

export const ARP_AT = {
  hardwareType: 0,
  protocolType: 2,
  lengths: 4,
  operation: 6,
  senderMac: 8,
  senderIp: 14,
  targetMac: 18,
  targetIp: 24,
} as const
export const ARP_HLEN = 28

// The first eight bytes but the operation never vary: Ethernet, ETH_P_IP, 6 and 4 bytes an address.
const ETHERNET_IPV4 = 0x00010800
const ADDRESS_LENGTHS = 0x0604

export interface Arp {
  /** `ARPOP_REQUEST` or `ARPOP_REPLY`. */
  operation: number
  senderMac: string
  senderIp: string
  targetMac: string
  targetIp: string
}

export type ArpInput = { operation: number } & Record<Exclude<keyof Arp, 'operation'>, AddressInput>

/** Whether the 8 bytes at `offset` begin ARP for IPv4 over Ethernet. */
export function isEthernetIpv4Arp(bytes: Uint8Array, offset: number): boolean {
  return (
    getU32(bytes, offset + ARP_AT.hardwareType) === ETHERNET_IPV4 &&
    getU16(bytes, offset + ARP_AT.lengths) === ADDRESS_LENGTHS
  )
}

/** The ARP packet in `[offset, end)`. Problems: `short-arp`, `bad-arp-type`. */
export function decodeArp(bytes: Uint8Array, offset: number, end: number): Decoded<Arp> {
  if (!fits(bytes, offset, end, ARP_HLEN)) return malformed('short-arp')
  if (!isEthernetIpv4Arp(bytes, offset)) return malformed('bad-arp-type')
  return {
    operation: getU16(bytes, offset + ARP_AT.operation),
    senderMac: formatMac(bytes, offset + ARP_AT.senderMac),
    senderIp: formatIpv4(bytes, offset + ARP_AT.senderIp),
    targetMac: formatMac(bytes, offset + ARP_AT.targetMac),
    targetIp: formatIpv4(bytes, offset + ARP_AT.targetIp),
  }
}

/** Writes 28 bytes; returns the offset after them. Throws PacketError. */
export function encodeArp(bytes: Uint8Array, offset: number, fields: ArpInput): number {
  needRoom(bytes, offset, ARP_HLEN, 'an ARP packet')
  setU32(bytes, offset + ARP_AT.hardwareType, ETHERNET_IPV4)
  setU16(bytes, offset + ARP_AT.lengths, ADDRESS_LENGTHS)
  setU16(bytes, offset + ARP_AT.operation, checked(fields.operation, 16, 'operation'))
  putMac(bytes, offset + ARP_AT.senderMac, fields.senderMac, 'senderMac')
  putIpv4(bytes, offset + ARP_AT.senderIp, fields.senderIp, 'senderIp')
  putMac(bytes, offset + ARP_AT.targetMac, fields.targetMac, 'targetMac')
  putIpv4(bytes, offset + ARP_AT.targetIp, fields.targetIp, 'targetIp')
  return offset + ARP_HLEN
}
