// The words of the language (pcap-filter(7)), and which of them a misspelt one resembles.

/** Words for protocols: each can be a test of its own, qualify an address or a port, and be indexed. */
export const PROTOCOLS = [
  'ether',
  'ip',
  'ip6',
  'arp',
  'rarp',
  'tcp',
  'udp',
  'sctp',
  'icmp',
  'icmp6',
  'igmp',
  'igrp',
  'pim',
  'vrrp',
  'carp',
  'ah',
  'esp',
  'atalk',
  'aarp',
  'decnet',
  'lat',
  'sca',
  'moprc',
  'mopdl',
  'iso',
  'esis',
  'isis',
  'clnp',
  'l1',
  'l2',
  'iih',
  'lsp',
  'snp',
  'csnp',
  'psnp',
  'stp',
  'ipx',
  'netbeui',
  'radio',
] as const
export type Protocol = (typeof PROTOCOLS)[number]

/** Other words that begin, join or qualify tests. */
const OTHERS = [
  'src',
  'dst',
  'host',
  'net',
  'mask',
  'port',
  'portrange',
  'proto',
  'protochain',
  'gateway',
  'less',
  'greater',
  'byte',
  'broadcast',
  'multicast',
  'and',
  'or',
  'not',
  'len',
  'vlan',
  'mpls',
  'pppoed',
  'pppoes',
  'geneve',
  'llc',
  'rnr',
] as const

/**
 * Words that libpcap keeps for other links than Ethernet, or for live captures, with what they are about. It refuses tests made of
 * them for Ethernet frames from a file, and so do we.
 */
export const FOREIGN: ReadonlyMap<string, string> = new Map(
  Object.entries({
    'IEEE 802.11': [
      'type',
      'subtype',
      'dir',
      'direction',
      'addr1',
      'addr2',
      'addr3',
      'addr4',
      'address1',
      'address2',
      'address3',
      'address4',
      'ra',
      'ta',
    ],
    'the direction and device that only a live capture knows': ['inbound', 'outbound', 'ifindex'],
    "OpenBSD's packet filter": ['on', 'ifname', 'rset', 'ruleset', 'srnr', 'subrulenum', 'reason', 'action'],
    ATM: [
      'lane',
      'metac',
      'bcc',
      'oam',
      'oamf4',
      'oamf4ec',
      'oamf4sc',
      'sc',
      'ilmic',
      'vpi',
      'vci',
      'connectmsg',
      'metaconnect',
    ],
    SS7: [
      'fisu',
      'lssu',
      'lsu',
      'msu',
      'hfisu',
      'hlssu',
      'hmsu',
      'sio',
      'opc',
      'dpc',
      'sls',
      'hsio',
      'hopc',
      'hdpc',
      'hsls',
    ],
  }).flatMap(([about, words]) => words.map((word) => [word, about] as const)),
)

/** Spellings of one word. */
const ALIASES: ReadonlyMap<string, string> = new Map([
  ['link', 'ether'],
  ['ppp', 'ether'],
  ['slip', 'ether'],
  ['fddi', 'ether'],
  ['tr', 'ether'],
  ['wlan', 'ether'],
  ['es-is', 'esis'],
  ['is-is', 'isis'],
  ['length', 'len'],
  ['rulenum', 'rnr'],
])

const KEYWORDS: ReadonlySet<string> = new Set([...PROTOCOLS, ...OTHERS, ...FOREIGN.keys()])
const PROTOCOL_WORDS: ReadonlySet<string> = new Set(PROTOCOLS)

/** The word a spelling stands for; undefined for names. Case counts. */
export function keyword(text: string): string | undefined {
  const word = ALIASES.get(text) ?? text
  return KEYWORDS.has(word) ? word : undefined
}

export const isProtocol = (word: string): word is Protocol => PROTOCOL_WORDS.has(word)

/** Numbers with a name: offsets of fields, and values of them. */
export const CONSTANTS: ReadonlyMap<string, number> = new Map([
  ['icmptype', 0],
  ['icmpcode', 1],
  ['icmp-echoreply', 0],
  ['icmp-unreach', 3],
  ['icmp-sourcequench', 4],
  ['icmp-redirect', 5],
  ['icmp-echo', 8],
  ['icmp-routeradvert', 9],
  ['icmp-routersolicit', 10],
  ['icmp-timxceed', 11],
  ['icmp-paramprob', 12],
  ['icmp-tstamp', 13],
  ['icmp-tstampreply', 14],
  ['icmp-ireq', 15],
  ['icmp-ireqreply', 16],
  ['icmp-maskreq', 17],
  ['icmp-maskreply', 18],
  ['icmp6type', 0],
  ['icmp6code', 1],
  ['icmp6-destinationunreach', 1],
  ['icmp6-packettoobig', 2],
  ['icmp6-timeexceeded', 3],
  ['icmp6-parameterproblem', 4],
  ['icmp6-echo', 128],
  ['icmp6-echoreply', 129],
  ['icmp6-multicastlistenerquery', 130],
  ['icmp6-multicastlistenerreportv1', 131],
  ['icmp6-multicastlistenerdone', 132],
  ['icmp6-routersolicit', 133],
  ['icmp6-routeradvert', 134],
  ['icmp6-neighborsolicit', 135],
  ['icmp6-neighboradvert', 136],
  ['icmp6-redirect', 137],
  ['icmp6-routerrenum', 138],
  ['icmp6-nodeinformationquery', 139],
  ['icmp6-nodeinformationresponse', 140],
  ['icmp6-ineighbordiscoverysolicit', 141],
  ['icmp6-ineighbordiscoveryadvert', 142],
  ['icmp6-multicastlistenerreportv2', 143],
  ['icmp6-homeagentdiscoveryrequest', 144],
  ['icmp6-homeagentdiscoveryreply', 145],
  ['icmp6-mobileprefixsolicit', 146],
  ['icmp6-mobileprefixadvert', 147],
  ['icmp6-certpathsolicit', 148],
  ['icmp6-certpathadvert', 149],
  ['icmp6-multicastrouteradvert', 151],
  ['icmp6-multicastroutersolicit', 152],
  ['icmp6-multicastrouterterm', 153],
  ['tcpflags', 13],
  ['tcp-fin', 0x01],
  ['tcp-syn', 0x02],
  ['tcp-rst', 0x04],
  ['tcp-push', 0x08],
  ['tcp-ack', 0x10],
  ['tcp-urg', 0x20],
  ['tcp-ece', 0x40],
  ['tcp-cwr', 0x80],
])

const SUGGESTED = [
  ...PROTOCOLS.filter((word) => word.length > 2),
  ...OTHERS.filter((word) => word.length > 2),
  ...CONSTANTS.keys(),
]

/** The word of the language that a text most resembles, when it does. */
export function suggest(text: string, words: readonly string[] = SUGGESTED): string | undefined {
  const lower = text.toLowerCase()
  if (lower !== text && words.includes(lower)) return lower
  const allowed = text.length < 4 ? 1 : 2
  let best: string | undefined
  let least = allowed + 1
  for (const word of words) {
    if (Math.abs(word.length - lower.length) >= least) continue
    const distance = editDistance(lower, word)
    if (distance < least) [best, least] = [word, distance]
  }
  return best === text ? undefined : best
}

/** How many letters to insert, remove, replace or exchange with their neighbour. */
function editDistance(a: string, b: string): number {
  let before: number[] = []
  let row = Array.from({ length: b.length + 1 }, (_, at) => at)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const replaced = row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1)
      next[j] = Math.min(replaced, row[j] + 1, next[j - 1] + 1)
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        next[j] = Math.min(next[j], before[j - 2] + 1)
      }
    }
    before = row
    row = next
  }
  return row[b.length]
}
