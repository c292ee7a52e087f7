// Ethernet II headers and VLAN tags (802.1Q and 802.1ad, stacked by decoding one after the other).
import { formatMac } from './address.js'
import { fits, getU16, setU16 } from './bytes.js'
import { type AddressInput, checked, needRoom, putMac } from './encode.js'
import { type Decoded, malformed, type PayloadStart } from './problem.js'

// uapi/linux/if_ether.h
export const ETH_ALEN = 6
export const ETH_HLEN = 14
/** The shortest frame without its FCS; shorter ones are padded on a real wire. */
export const ETH_ZLEN = 60
export const ETH_P_802_3_MIN = 0x0600
export const ETH_P_IP = 0x0800
export const ETH_P_ARP = 0x0806
export const ETH_P_8021Q = 0x8100
export const ETH_P_IPV6 = 0x86dd
export const ETH_P_8021AD = 0x88a8

/** Where the fields lie, in bytes from the start of the header. */
export const ETHERNET_AT = { dst: 0, src: 6, etherType: 12 } as const
/** A tag, counted from its TCI: the two bytes before it (the TPID) are the EtherType of what precedes it. */
export const VLAN_AT = { tci: 0, etherType: 2 } as const
export const VLAN_HLEN = 4

export interface Ethernet {
  dst: string
  src: string
  /** What follows; below `ETH_P_802_3_MIN` it is the length of an 802.3 frame instead. */
  etherType: number
}

export interface Vlan {
  /** PCP, 0 to 7. */
  priority: number
  /** DEI. */
  dropEligible: boolean
  /** VID, 0 to 4095. */
  id: number
  etherType: number
}

export type EthernetInput = Omit<Ethernet, 'dst' | 'src'> & { dst: AddressInput; src: AddressInput }
export type VlanInput = Pick<Vlan, 'id' | 'etherType'> & Partial<Vlan>

/** Whether an EtherType announces a VLAN tag, as the kernel's eth_type_vlan() sees it. */
export function isVlanType(etherType: number): boolean {
  return etherType === ETH_P_8021Q || etherType === ETH_P_8021AD
}

/** The Ethernet header in `[offset, end)`. Problem: `short-ethernet`. */
export function decodeEthernet(
  bytes: Uint8Array,
  offset: number,
  end: number,
): Decoded<Ethernet & PayloadStart> {
  if (!fits(bytes, offset, end, ETH_HLEN)) return malformed('short-ethernet')
  return {
    dst: formatMac(bytes, offset + ETHERNET_AT.dst),
    src: formatMac(bytes, offset + ETHERNET_AT.src),
    etherType: getU16(bytes, offset + ETHERNET_AT.etherType),
    payloadOffset: offset + ETH_HLEN,
  }
}

/** Writes 14 bytes; returns the offset after them. Throws PacketError. */
export function encodeEthernet(bytes: Uint8Array, offset: number, fields: EthernetInput): number {
  needRoom(bytes, offset, ETH_HLEN, 'an Ethernet header')
  putMac(bytes, offset + ETHERNET_AT.dst, fields.dst, 'dst')
  putMac(bytes, offset + ETHERNET_AT.src, fields.src, 'src')
  setU16(bytes, offset + ETHERNET_AT.etherType, checked(fields.etherType, 16, 'etherType'))
  return offset + ETH_HLEN
}

/** The tag whose TCI is at `offset`, which follows an EtherType for which `isVlanType` holds. Problem: `short-vlan`. */
export function decodeVlan(bytes: Uint8Array, offset: number, end: number): Decoded<Vlan & PayloadStart> {
  if (!fits(bytes, offset, end, VLAN_HLEN)) return malformed('short-vlan')
  const tci = getU16(bytes, offset + VLAN_AT.tci)
  return {
    priority: tci >>> 13,
    dropEligible: (tci & 0x1000) !== 0,
    id: tci & 0x0fff,
    etherType: getU16(bytes, offset + VLAN_AT.etherType),
    payloadOffset: offset + VLAN_HLEN,
  }
}

/** Writes the 4 bytes TCI and EtherType; returns the offset after them. Throws PacketError. */
export function encodeVlan(bytes: Uint8Array, offset: number, fields: VlanInput): number {
  needRoom(bytes, offset, VLAN_HLEN, 'a VLAN tag')
  const priority = checked(fields.priority ?? 0, 3, 'priority')
  const tci = (priority << 13) | (fields.dropEligible ? 0x1000 : 0) | checked(fields.id, 12, 'id')
  setU16(bytes, offset + VLAN_AT.tci, tci)
  setU16(bytes, offset + VLAN_AT.etherType, checked(fields.etherType, 16, 'etherType'))
  return offset + VLAN_HLEN
}
