// Numbers that protocols know each other by, as the language names them.
import { ETH_P_8021AD, ETH_P_8021Q, ETH_P_ARP, ETH_P_IP, ETH_P_IPV6 } from '../packet/ethernet.js'

/** EtherTypes with a name behind `ether proto`. */
export const ETHER_TYPES = {
  ip: ETH_P_IP,
  ip6: ETH_P_IPV6,
  arp: ETH_P_ARP,
  rarp: 0x8035,
  atalk: 0x809b,
  aarp: 0x80f3,
  decnet: 0x6003,
  lat: 0x6004,
  sca: 0x6007,
  moprc: 0x6002,
  mopdl: 0x6001,
  loopback: 0x9000,
} as const

/** Service access points of LLC (IEEE 802.2) with a name behind `ether proto`. */
export const LLC_SAPS = { iso: 0xfe, stp: 0x42, ipx: 0xe0, netbeui: 0xf0 } as const
/** IP over LLC. */
export const LLC_SAP_IP = 0x06

/** The highest length of an 802.3 frame; what is higher in its place is an EtherType. */
export const ETHERMTU = 1500

/** Tags: 802.1Q, 802.1ad, and what was there before 802.1ad. */
export const VLAN_TYPES = [ETH_P_8021Q, ETH_P_8021AD, 0x9100] as const
export const ETH_P_IPX = 0x8137
export const ETH_P_MPLS_UC = 0x8847
export const ETH_P_PPP_DISC = 0x8863
export const ETH_P_PPP_SES = 0x8864
/** Ethernet within a tunnel. */
export const ETH_P_TEB = 0x6558
/** The UDP port of RFC 8926. */
export const GENEVE_PORT = 6081

/** Protocol numbers of IP that the language has words for, beside those of packet/ipproto. */
export const IPPROTO_IGMP = 2
export const IPPROTO_IGRP = 9
export const IPPROTO_PIM = 103
export const IPPROTO_VRRP = 112
export const IPPROTO_SCTP = 132

/** Network layer protocol identifiers of OSI (ISO/IEC TR 9577). */
export const ISO_PROTOCOLS = { clnp: 0x81, esis: 0x82, isis: 0x83 } as const

/**
 * Types of IS-IS packets (ISO 10589) by the words for them, in the order of libpcap's tests; 17 is the hello of point-to-point
 * links.
 */
export const ISIS_TYPES = {
  l1: [26, 24, 18, 15, 17],
  l2: [27, 25, 20, 16, 17],
  iih: [17, 15, 16],
  lsp: [18, 20],
  snp: [27, 26, 24, 25],
  csnp: [24, 25],
  psnp: [26, 27],
} as const

/** PPP protocol numbers of what else has an EtherType or access point. */
export const PPP_TYPES: ReadonlyMap<number, number> = new Map<number, number>([
  [ETH_P_IP, 0x0021],
  [ETH_P_IPV6, 0x0057],
  [ETHER_TYPES.decnet, 0x0027],
  [ETHER_TYPES.atalk, 0x0029],
  // XNS
  [0x0600, 0x0025],
  [LLC_SAPS.iso, 0x0023],
  [LLC_SAPS.stp, 0x0031],
  [LLC_SAPS.ipx, 0x002b],
])
export const PPP_MPLS_UCAST = 0x0281
