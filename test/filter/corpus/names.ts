// The addresses, ports and numbers that packets carry and expressions ask for. Few, so that they often meet.

export const MACS = [
  '02:00:00:00:00:01',
  '02:00:00:00:00:02',
  'aa:bb:cc:dd:ee:ff',
  'ff:ff:ff:ff:ff:ff',
  '01:00:5e:00:00:05',
  '33:33:00:00:00:01',
  '01:80:c2:00:00:00',
] as const

export const IPV4 = [
  '10.0.0.1',
  '10.0.0.2',
  '10.1.2.3',
  '192.168.1.10',
  '192.168.1.255',
  '172.16.5.4',
  '127.0.0.1',
  '224.0.0.5',
  '239.1.2.3',
  '255.255.255.255',
  '0.0.0.0',
  '8.8.4.4',
] as const

export const IPV6 = [
  'fd00::1',
  'fd00::2',
  '2001:db8::5',
  '2001:db8:1::5',
  'fe80::1',
  'ff02::1',
  '::1',
  '::',
] as const

export const PORTS = [22, 53, 80, 443, 8080, 123, 67, 1024, 6000, 65535, 0] as const
export const VLANS = [0, 1, 2, 100, 200, 4095] as const
export const LABELS = [0, 3, 16, 1000, 1048575] as const
export const SESSIONS = [0, 1, 17, 0x1234, 0xffff] as const

/** Numbers of protocols over IP, by their name in the language where it has one. */
export const IP_PROTOCOLS = {
  icmp: 1,
  igmp: 2,
  ipip: 4,
  tcp: 6,
  igrp: 9,
  udp: 17,
  ipv6: 41,
  gre: 47,
  esp: 50,
  ah: 51,
  icmp6: 58,
  ospf: 89,
  pim: 103,
  vrrp: 112,
  sctp: 132,
} as const

export const ETHERTYPES = {
  ip: 0x0800,
  arp: 0x0806,
  rarp: 0x8035,
  ip6: 0x86dd,
  atalk: 0x809b,
  aarp: 0x80f3,
  decnet: 0x6003,
  sca: 0x6007,
  lat: 0x6004,
  mopdl: 0x6001,
  moprc: 0x6002,
  ipx: 0x8137,
  vlan: 0x8100,
  qinq: 0x88a8,
  oldQinq: 0x9100,
  mpls: 0x8847,
  mplsMulticast: 0x8848,
  pppoed: 0x8863,
  pppoes: 0x8864,
  loopback: 0x9000,
  lldp: 0x88cc,
} as const
