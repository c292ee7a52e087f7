// The expressions of the corpus, by class: every primitive, every way to look into a packet, and combinations of them.
import { accessors, comparison } from './accessors.js'
import { corners, refusedCorners } from './corners.js'
import { PORTS } from './names.js'
import { primitives, wording } from './primitives.js'
import { Random } from './random.js'
import { refusedCandidates } from './refused.js'

export interface CorpusExpression {
  /** What kind of expression: `host4`, `arithmetic`, `combination`. */
  class: string
  text: string
}

/** `a and not (b or c)`: any shape, up to `depth` operators deep. */
function combination(random: Random, leaves: readonly string[], depth: number): string {
  if (depth === 0) {
    const leaf = random.pick(leaves)
    return random.oneIn(5)
      ? `${random.pick(['not ', '!', 'not '])}${needsCare(leaf) ? `(${leaf})` : leaf}`
      : leaf
  }
  const left = combination(random, leaves, depth - 1 - random.below(Math.min(2, depth)))
  const right = combination(random, leaves, depth - 1 - random.below(Math.min(2, depth)))
  const joint = random.pick([' and ', ' or ', ' or ', ' && ', ' || ', '||'])
  const bare = random.oneIn(2)
  const text = bare ? left + joint + right : `(${left})${joint}(${right})`
  return random.oneIn(8) ? `not (${text})` : text
}

/** A `not` before these would bind to their first part only. */
const needsCare = (text: string): boolean => /\b(?:and|or)\b|&&|\|\|/.test(text)

const PLAIN_LEAVES = [
  'ip', 'ip6', 'arp', 'tcp', 'udp', 'icmp', 'icmp6', 'sctp', 'len > 60', 'len <= 64', 'port 80', 'port 53', 'tcp port 443',
  'udp port 53', 'src port 22', 'dst port 8080', 'portrange 20-100', 'host 10.0.0.1', 'host 10.0.0.2', 'src host 10.0.0.1',
  'dst host 192.168.1.10', 'net 10', 'src net 10.0.0.0/24', 'dst net 192.168', 'host fd00::1', 'src net fd00::/16', 'ip6 dst 2001:db8::5',
  'ether src 02:00:00:00:00:01', 'ether dst ff:ff:ff:ff:ff:ff', 'ether host 02:00:00:00:00:02', 'multicast', 'broadcast', 'ip multicast',
  'ether proto 0x88cc', 'ip proto 47', 'proto \\udp', 'tcp[tcpflags] & tcp-syn != 0', 'tcp[13] = 0x12', 'ip[8] > 1', 'ip[6:2] & 0x1fff = 0',
  'udp[4:2] > 8', 'icmp[0] = 8', 'ip6[6] = 58', 'ether[0] & 1 = 1', 'port ssh', 'stp', 'llc', 'greater 100', 'less 60', 'byte 23 = 6',
  'arp src host 10.0.0.1', 'igmp', 'ah', 'esp', 'net 224.0.0.0/4', 'host localhost', 'atalk', 'ipx', 'rarp', 'iso', 'ip broadcast',
] // prettier-ignore
const SHIFTING = ['vlan', 'vlan 2', 'vlan 100', 'mpls', 'mpls 16', 'pppoes', 'pppoes 17']

/** After a shift, what comes later in the text sees the packet inside; so order matters. */
function shifting(random: Random): string {
  const parts = [
    random.pick(SHIFTING),
    random.pick(PLAIN_LEAVES),
    random.oneIn(2) ? random.pick(PLAIN_LEAVES) : random.pick(SHIFTING),
  ]
  const text = random.oneIn(3) ? random.shuffle(parts) : parts
  return text
    .map(
      (part, i) =>
        (i === 0 ? '' : random.pick([' and ', ' and ', ' or '])) + (random.oneIn(6) ? 'not ' : '') + part,
    )
    .join('')
}

/** Long chains, as scripts write them. */
function chain(random: Random): string {
  const length = 8 + random.below(25)
  const make = random.pick([
    () => `port ${random.oneIn(6) ? random.pick(PORTS) : random.below(65536)}`,
    () => `host 10.${random.below(2)}.${random.below(3)}.${random.below(9)}`,
    () => `net ${random.pick([10, 172, 192])}.${random.below(256)}.0.0/16`,
    () => `(src host 10.0.0.${random.below(4)} and dst port ${random.pick([22, 53, 80, 443])})`,
    () => `ip[${random.below(20)}] = ${random.pick([0, 1, 64, random.below(256)])}`,
  ])
  return Array.from({ length }, make).join(random.pick([' or ', ' or ', ' or not ', ' || ']))
}

function generated(seed: number): CorpusExpression[] {
  const random = new Random(seed)
  const many = (name: string, count: number, make: () => string) =>
    Array.from({ length: count }, () => ({ class: name, text: make() }))
  return [
    ...many('pair', 180, () => combination(random, PLAIN_LEAVES, 1)),
    ...many('combination', 260, () => combination(random, PLAIN_LEAVES, 2 + random.below(3))),
    ...many('comparison', 220, () => comparison(random)),
    ...many(
      'compared combination',
      60,
      () => `${comparison(random)} ${random.pick(['and', 'or'])} ${combination(random, PLAIN_LEAVES, 1)}`,
    ),
    ...many('shift', 200, () => shifting(random)),
    ...many('chain', 30, () => chain(random)),
  ]
}

/** All candidates of the corpus, each once, in a fixed order. Which of them are right is libpcap's to say. */
export function corpusExpressions(seed = 0xf117e4): CorpusExpression[] {
  const listed = Object.entries({ ...primitives, ...wording, ...accessors, corner: corners }).flatMap(
    ([name, texts]) => texts.map((text) => ({ class: name, text })),
  )
  const refused = [...refusedCandidates, ...refusedCorners].map((text) => ({ class: 'refused', text }))
  const unique = new Map<string, CorpusExpression>()
  for (const expression of [...listed, ...generated(seed), ...refused]) {
    if (!unique.has(expression.text)) unique.set(expression.text, expression)
  }
  return [...unique.values()]
}
