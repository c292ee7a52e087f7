// Expressions that look into packets: ip[0], tcp[tcpflags] & tcp-syn, arithmetic over both.
import type { Classes } from './primitives.js'
import type { Random } from './random.js'

/** Protocols whose bytes an expression may ask for, with offsets where something is to be found. */
const FIELDS: Record<string, readonly (readonly [offset: number, size: 1 | 2 | 4, value: number])[]> = {
  ether: [
    [0, 4, 0x02000000],
    [5, 1, 1],
    [6, 2, 0xaabb],
    [12, 2, 0x0800],
    [14, 1, 0x45],
    [14, 4, 0x06040001],
    [60, 1, 0],
  ],
  ip: [
    [0, 1, 0x45],
    [1, 1, 0x10],
    [2, 2, 60],
    [6, 2, 0],
    [6, 1, 0x20],
    [8, 1, 64],
    [9, 1, 6],
    [12, 4, 0x0a000001],
    [16, 4, 0xffffffff],
    [16, 1, 224],
    [20, 4, 0x00500050],
  ],
  ip6: [
    [0, 1, 0x60],
    [0, 4, 0x60000000],
    [4, 2, 20],
    [6, 1, 17],
    [7, 1, 64],
    [8, 2, 0xfd00],
    [24, 4, 0x20010db8],
    [40, 1, 6],
    [40, 2, 80],
    [53, 1, 2],
  ],
  arp: [
    [0, 2, 1],
    [6, 2, 1],
    [7, 1, 2],
    [14, 4, 0x0a000001],
    [24, 4, 0x0a000002],
  ],
  rarp: [
    [6, 2, 3],
    [14, 4, 0x0a000001],
  ],
  tcp: [
    [0, 2, 80],
    [2, 2, 443],
    [4, 4, 1],
    [12, 1, 0x50],
    [13, 1, 2],
    [14, 2, 1024],
    [20, 1, 2],
    [20, 4, 0x020405b4],
  ],
  udp: [
    [0, 2, 53],
    [2, 2, 123],
    [4, 2, 8],
    [8, 1, 0],
    [4, 4, 0x00080000],
  ],
  sctp: [
    [0, 2, 80],
    [4, 4, 0x1234],
    [12, 1, 7],
  ],
  icmp: [
    [0, 1, 8],
    [1, 1, 0],
    [4, 2, 1],
    [8, 4, 0],
  ],
  icmp6: [
    [0, 1, 128],
    [1, 1, 1],
    [4, 4, 0x00010002],
  ],
  igmp: [[0, 1, 0x16]],
  igrp: [[0, 1, 1]],
  pim: [[1, 1, 0]],
  vrrp: [[0, 1, 0x21]],
  carp: [[0, 1, 0x21]],
  decnet: [
    [0, 1, 20],
    [2, 1, 0x02],
  ],
  lat: [[0, 1, 0]],
  sca: [[0, 2, 0]],
  mopdl: [[0, 1, 0]],
  moprc: [[0, 1, 0]],
  atalk: [[1, 1, 0]],
  link: [[12, 2, 0x0806]],
}

const RELATIONS = ['=', '==', '!=', '>', '<', '>=', '<='] as const
const access = (protocol: string, offset: number | string, size: number) =>
  `${protocol}[${offset}${size === 1 ? '' : `:${size}`}]`

/** Each field there is, against its value and its neighbours. */
const plain = Object.entries(FIELDS).flatMap(([protocol, fields]) =>
  fields.flatMap(([offset, size, value], i) => {
    const field = access(protocol, offset, size)
    return [
      `${field} = ${value}`,
      `${field} ${RELATIONS[(i + protocol.length) % 7]} ${value}`,
      `${field} & 0x${(0xf0f0f0f0 >>> (32 - 8 * size)).toString(16)} != 0`,
    ]
  }),
)

const TCP_FLAGS = ['tcp-fin', 'tcp-syn', 'tcp-rst', 'tcp-push', 'tcp-ack', 'tcp-urg', 'tcp-ece', 'tcp-cwr']
const ICMP_TYPES = (
  'icmp-echoreply icmp-unreach icmp-sourcequench icmp-redirect icmp-echo icmp-routeradvert icmp-routersolicit ' +
  'icmp-timxceed icmp-paramprob icmp-tstamp icmp-tstampreply icmp-ireq icmp-ireqreply icmp-maskreq icmp-maskreply'
).split(' ')
const ICMP6_TYPES = (
  'icmp6-destinationunreach icmp6-packettoobig icmp6-timeexceeded icmp6-parameterproblem icmp6-echo icmp6-echoreply ' +
  'icmp6-multicastlistenerquery icmp6-multicastlistenerreportv1 icmp6-multicastlistenerdone icmp6-routersolicit ' +
  'icmp6-routeradvert icmp6-neighborsolicit icmp6-neighboradvert icmp6-redirect icmp6-routerrenum ' +
  'icmp6-nodeinformationquery icmp6-nodeinformationresponse icmp6-ineighbordiscoverysolicit ' +
  'icmp6-ineighbordiscoveryadvert icmp6-multicastlistenerreportv2 icmp6-homeagentdiscoveryrequest ' +
  'icmp6-homeagentdiscoveryreply icmp6-mobileprefixsolicit icmp6-mobileprefixadvert icmp6-certpathsolicit ' +
  'icmp6-certpathadvert icmp6-multicastrouteradvert icmp6-multicastroutersolicit icmp6-multicastrouterterm'
).split(' ')

const named = [
  ...TCP_FLAGS.map((flag) => `tcp[tcpflags] & ${flag} != 0`),
  ...TCP_FLAGS.map((flag) => `tcp[tcpflags] == ${flag}`),
  ...ICMP_TYPES.map((type) => `icmp[icmptype] = ${type}`),
  ...ICMP6_TYPES.map((type) => `icmp6[icmp6type] = ${type}`),
  'icmp[icmpcode] = 0',
  'icmp6[icmp6code] != 0',
  'tcp[tcpflags] & (tcp-syn|tcp-ack) != 0',
  'tcp[tcpflags] & (tcp-syn|tcp-ack) == (tcp-syn|tcp-ack)',
  'tcp[tcpflags] & (tcp-syn | tcp-fin) != 0 and not src and dst net 10',
  'tcp[tcpflags] & (tcp-rst|tcp-fin) = 0 and tcp port 80',
  'icmp[icmptype] != icmp-echo and icmp[icmptype] != icmp-echoreply',
  'icmp6[icmp6type] >= icmp6-routersolicit and icmp6[icmp6type] <= icmp6-redirect',
  'tcp[tcpflags] = 0x12',
  'tcp[tcp-syn] = 0',
  'tcp-syn = 2',
]

const arithmetic = [
  'ip[2:2] - ((ip[0] & 0xf) << 2) - ((tcp[12] & 0xf0) >> 2) != 0',
  'tcp port 80 and (((ip[2:2] - ((ip[0]&0xf)<<2)) - ((tcp[12]&0xf0)>>2)) != 0)',
  'ip[0] & 0xf != 5',
  '(ip[0] & 0xf) * 4 > 20',
  'ip[6:2] & 0x1fff != 0',
  'ip[6] & 0x20 != 0',
  'ether[0] & 1 = 0 and ip[16] >= 224',
  'ip[16] >= 224',
  'ip[8] < 64 + 1',
  'ip[8] * 2 = 128',
  'ip[8] / 2 = 32',
  'ip[8] % 10 = 4',
  'ip[8] ^ 0x40 = 0',
  'ip[8] | 1 = 65',
  'ip[8] << 1 = 128',
  'ip[8] >> 6 = 1',
  'ip[8] - 64 = 0',
  'ip[8] - 65 > 100',
  '-ip[8] = 0 - 64',
  'ip[2:2] + 14 = len',
  'ip[2:2] + 14 < len',
  'len - 14 = ip[2:2]',
  'ip[2:2] = ip[2] * 256 + ip[3]',
  'ip[2:2] = (ip[2] << 8) | ip[3]',
  'ip[12:4] = ip[16:4]',
  'ip[12:4] > ip[16:4]',
  'ip[12:4] - ip[16:4] = 1',
  'tcp[0:2] = tcp[2:2]',
  'udp[0:2] < udp[2:2]',
  'tcp[tcp[12] >> 2] = 0',
  'tcp[(tcp[12] & 0xf0) >> 2] = 0x47',
  'tcp[((tcp[12:1] & 0xf0) >> 2):4] = 0x47455420',
  'ip[(ip[0] & 0xf) << 2] = 0',
  'ip[ip[0] & 0xf] = 0',
  'ip[ip[9]] = 0',
  'ether[ip[9]] = 0',
  'ether[len - 1] = 0',
  'ether[len] = 0',
  'ether[len - 4 : 4] = 0',
  'ip[ip[2:2] - 1] = 0',
  'ip6[40 + 1] = 80',
  'ip6[4:2] + 54 = len',
  'ip6[6] = 6 and ip6[53] & 2 != 0',
  'arp[6:2] + 1 = 2',
  'ip[1 + 1 : 2] > 50',
  'ip[0xffffffff] = 0',
  'ip[-1] = 0',
  'tcp[-1] = 0',
  'ether[-1] = 0',
  'ether[14 - 2 : 2] = 0x800',
  'ip[1000000] = 0',
  'ether[2000] = 0',
  'ip[9] / 0x2 = 3',
  'ip[9] / ip[1] = 0',
  'ip[9] % ip[1] = 0',
  'ip[9] / ip[8] = 0',
  'ip[9] << ip[8] = 0',
  'ip[9] >> ip[1] = 6',
  'ip[9] << 31 = 0',
  'ip[9] << 33 = 0',
  'ip[12:4] * ip[16:4] > 0x80000000',
  'ip[12:4] + ip[16:4] < 0x10000000',
  'ip[9] & ip[8] & ip[0] = 0',
  'ip[9] | ip[8] | ip[0] > 100',
  '(ip[9] = 6 or ip[9] = 17) and ip[20:2] = 53',
  'ip[0] + ip[1] + ip[2] + ip[3] + ip[4] + ip[5] + ip[6] + ip[7] > 200',
  'ip[0] - (ip[1] - (ip[2] - (ip[3] - (ip[8] - ip[9])))) > 0',
  '6 = ip[9]',
  '0x45 = ip[0] and 6 = ip[9]',
  'ip[9] = 6 and ip[9] = 17',
  'ip[9] != 6 or ip[9] != 17',
  'ip[9] > 5 and ip[9] < 18',
  'not ip[9] = 6',
  'ip[9] = 6 and tcp[0] = 0 or udp[0] = 0',
  'tcp[0] = udp[0]',
  'ip[0] = ip6[0]',
  'ether[12:2] = 0x800 and ether[23] = 6',
  'vlan and ether[12:2] = 0x8100',
  'vlan and ip[9] = 17 and udp[2:2] = 53',
  'len / 0x10 = 4',
  'len % 4 = 0',
  'len ^ 60 = 0',
]

const OPERATORS = ['+', '-', '*', '&', '|', '^', '<<', '>>', '/', '%'] as const

/** An arithmetic expression, fully in parentheses. */
export function arithmeticTerm(random: Random, protocols: readonly string[], depth: number): string {
  if (depth === 0 || random.oneIn(4)) {
    if (random.oneIn(4))
      return String(
        random.pick([0, 1, 2, 3, 4, 6, 8, 15, 16, 17, 64, 80, 255, 0xffff, 0x80000000, 0xffffffff]),
      )
    if (random.oneIn(8)) return 'len'
    const protocol = random.pick(protocols)
    const [offset, size] = random.pick(FIELDS[protocol])
    if (!random.oneIn(6) || depth === 0) return access(protocol, offset, size)
    const term = arithmeticTerm(random, protocols, depth - 1)
    // Most within packets; others in front of them and far behind.
    return access(protocol, random.oneIn(4) ? term : `${term} & 0x3f`, size)
  }
  const operator = random.pick(OPERATORS)
  // A shift or a division by what the packet holds is a case of its own, and rare.
  const isRisky = ['<<', '>>', '/', '%'].includes(operator)
  const right =
    isRisky && !random.oneIn(5) ? String(1 + random.below(9)) : arithmeticTerm(random, protocols, depth - 1)
  const text = `(${arithmeticTerm(random, protocols, depth - 1)} ${operator} ${right})`
  return random.oneIn(12) ? `-${text}` : text
}

/** A comparison of such expressions. */
export function comparison(random: Random): string {
  const protocols = random.pick([
    ['ip'],
    ['ip', 'tcp'],
    ['ip', 'udp'],
    ['ip6'],
    ['ether'],
    ['ether', 'ip'],
    ['arp'],
    ['tcp'],
    ['udp'],
    ['icmp'],
  ])
  const left = arithmeticTerm(random, protocols, 1 + random.below(3))
  const right = random.oneIn(2)
    ? String(random.pick([0, 1, 2, 6, 17, 64, 128, 1000]))
    : arithmeticTerm(random, protocols, 1)
  return `${left} ${random.pick(RELATIONS)} ${right}`
}

export const accessors: Classes = { field: plain, constant: named, arithmetic }
