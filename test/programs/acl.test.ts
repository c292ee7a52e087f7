// The access list against a plain reading of its rules, its twin in C, and live traffic.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { attachXdp } from '../../src/bpf/index.js'
import { inNamespace } from '../../src/kernel/namespace.js'
import { parseIp, parseMac } from '../../src/packet/address.js'
import { type AclOptions, AclProgram, defineAcl } from '../../src/programs/acl.js'
import { type AclRule, type AclVerdict, parseAclRule } from '../../src/programs/acl-rules.js'
import { type GivenSettings, shippedPrograms } from '../../src/programs/index.js'
import { random } from '../bpf/builder/random-program.js'
import { startChild } from '../support/child.js'
import { createTestLab, needsRoot } from '../support/lab.js'
import { discoveryOf, ipOf, payloadOf, portsOf } from './plain-packet.js'
import { type Answer, compareSpeed, prove, twinOf } from './proof.js'
import { type TrafficPools, randomTraffic } from './traffic.js'

const POOLS: TrafficPools = {
  macs: ['02:00:00:00:00:01', '02:00:00:00:00:02', '02:00:00:00:00:03'].map((text) => parseMac(text)!),
  ipv4: ['10.0.0.1', '10.1.0.1', '10.1.2.3', '192.0.2.1', '198.51.100.7', '0.0.0.0'].map((text) =>
    parseIp(text)!,
  ),
  ipv6: ['fd00::1', 'fd00:0:1::1', '2001:db8::1', '2001:db8:ffff::2', '::', '::ffff:10.0.0.1'].map((text) =>
    parseIp(text)!,
  ),
  ports: [53, 80, 443, 8000, 8080, 8100, 65535, 0],
}

/** Sets of rules, with denials and allowances that meet in every table. */
const RULES: readonly (readonly [AclVerdict, string])[][] = [
  [],
  [
    ['deny', '10.0.0.0/8'],
    ['allow', '10.1.0.0/16'],
    ['deny', '10.1.2.3'],
    ['deny', 'to:192.0.2.0/25'],
    ['deny', 'fd00::/16'],
    ['allow', 'fd00:0:1::/48'],
    ['deny', 'to:2001:db8:ffff::2'],
    ['deny', '02:00:00:00:00:03'],
    ['deny', '53/udp'],
    ['allow', '8080/tcp'],
    ['deny', '8000-8100/tcp'],
    ['deny', 'from:443'],
    ['deny', 'gre'],
  ],
  [
    ['allow', '10.0.0.0/8'],
    ['allow', '2001:db8::/32'],
    ['allow', 'to:02:00:00:00:00:01'],
    ['deny', 'to:02:00:00:00:00:02'],
    ['allow', '80/tcp'],
    ['allow', 'from:8000-8100/udp'],
    ['allow', 'icmpv6'],
    ['deny', 'protocol:132'],
    ['deny', 'from:0/udp'],
  ],
  [
    ['allow', '0.0.0.0/0'],
    ['deny', 'to:::/0'],
    ['allow', 'to:fd00::1'],
  ],
]

const equal = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0

function covers(
  { address, prefixLength }: { address: Uint8Array; prefixLength: number },
  one: Uint8Array,
): boolean {
  if (address.length !== one.length) return false
  for (let bit = 0; bit < prefixLength; bit++) {
    if (((address[bit >> 3] ^ one[bit >> 3]) >> (7 - (bit & 7))) & 1) return false
  }
  return true
}

/** What the docstring says, over a list of rules. */
function modelOf(
  rules: readonly (readonly [AclVerdict, string])[],
  options: AclOptions,
): (bytes: Uint8Array) => Answer {
  const parsed = rules.map(([verdict, text]) => [verdict, parseAclRule(text)] as const)
  const saying = (matches: (rule: AclRule) => boolean): AclVerdict[] =>
    parsed.filter(([, rule]) => matches(rule)).map(([verdict]) => verdict)
  return (bytes) => {
    const payload = payloadOf(bytes, 2)
    if (!payload) return { verdict: 'drop' }
    if (options.discovery !== 'judge') {
      const discovery = discoveryOf(bytes, payload)
      if (discovery !== false) return { verdict: discovery === 'short' ? 'drop' : 'pass' }
    }
    const verdicts = saying(
      (rule) =>
        rule.kind === 'mac' &&
        equal(rule.mac, rule.side === 'source' ? bytes.subarray(6, 12) : bytes.subarray(0, 6)),
    )
    if (payload.type === 0x0800 || payload.type === 0x86dd) {
      const ip = ipOf(bytes, payload, 8)
      const ports = ip && portsOf(bytes, ip)
      if (!ip || !ports) return { verdict: 'drop' }
      for (const [side, address] of [['source', ip.src] as const, ['destination', ip.dst] as const]) {
        const networks = parsed.flatMap(([verdict, rule]) =>
          rule.kind === 'network' && rule.side === side && covers(rule.network, address)
            ? [{ verdict, length: rule.network.prefixLength }]
            : [],
        )
        const longest = networks.sort((a, b) => b.length - a.length).at(0)
        if (longest) verdicts.push(longest.verdict)
      }
      verdicts.push(...saying((rule) => rule.kind === 'protocol' && rule.protocol === ip.protocol))
      if (ports !== 'none') {
        const name = ip.protocol === 17 ? 'udp' : 'tcp'
        for (const [side, port] of [['source', ports.src] as const, ['destination', ports.dst] as const]) {
          // A later rule for a port takes the place of an earlier one.
          const about = saying(
            (rule) =>
              rule.kind === 'ports' &&
              rule.side === side &&
              rule.ports.protocols.includes(name) &&
              port >= rule.ports.from &&
              port <= rule.ports.to,
          )
          verdicts.push(...about.slice(-1))
        }
      }
    }
    if (verdicts.includes('deny')) return { verdict: 'drop' }
    return { verdict: verdicts.includes('allow') ? 'pass' : (options.otherwise ?? 'pass') }
  }
}

/** An untagged UDP packet over IPv4 that every table is asked about. */
const WHOLE_WAY = Uint8Array.of(
  ...[2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 8, 8, 0],
  ...[0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 203, 0, 113, 1, 203, 0, 113, 2],
  ...[0, 9, 0, 7, 0, 26, 0, 0, ...Array<number>(18).fill(0)],
)

for (const options of [
  { otherwise: 'pass', discovery: 'pass' },
  { otherwise: 'drop', discovery: 'pass' },
  { otherwise: 'pass', discovery: 'judge' },
  { otherwise: 'drop', discovery: 'judge' },
] as const) {
  const title = `${options.otherwise} by default, discovery: ${options.discovery}`
  test(`the access list and its twin do what the rules say: ${title}`, { skip: needsRoot }, (t) => {
    const definition = defineAcl(options)
    const loaded = definition.load()
    const acl = new AclProgram(loaded)
    t.after(() => acl.close())
    const maps = Object.fromEntries([...definition.maps].map(([name, map]) => [name, loaded.map(map)]))
    const flags = [
      `-DOTHERWISE=XDP_${options.otherwise.toUpperCase()}`,
      ...(options.discovery === 'judge' ? ['-DJUDGE'] : []),
    ]
    const twin = twinOf(t, definition, 'acl', flags, maps)
    const programs = twin ? [acl.program, twin] : [acl.program]
    const next = random(3)
    for (const rules of RULES) {
      acl.clear()
      for (const [verdict, rule] of rules) acl[verdict](rule)
      const expected = rules.length > 2 ? (['pass', 'drop'] as const) : []
      prove(programs, 7000, () => randomTraffic(next, POOLS), modelOf(rules, options), expected)
    }
    acl.clear()
    compareSpeed(t, title, programs, WHOLE_WAY)
  })
}

test('rules are taken back one by one, and changed by saying the opposite', { skip: needsRoot }, (t) => {
  const acl = AclProgram.load()
  t.after(() => acl.close())
  const verdict = () => acl.program.testRun({ packet: WHOLE_WAY }).verdict
  const rules = [
    '203.0.113.1',
    'to:203.0.113.0/24',
    '7/udp',
    'from:1-20',
    '02:00:00:00:00:08',
    'to:02:00:00:00:00:09',
    'udp',
  ]
  for (const rule of rules) {
    assert.equal(verdict(), 'pass', rule)
    acl.deny(rule)
    assert.equal(verdict(), 'drop', rule)
    assert.deepEqual(acl.rules(), [{ rule, verdict: 'deny' }])
    acl.allow(rule)
    assert.equal(verdict(), 'pass', rule)
    acl.deny(rule)
    assert.equal(acl.remove(rule), true)
    assert.equal(acl.remove(rule), false)
  }
  assert.equal(verdict(), 'pass')
  for (const rule of rules) acl.deny(rule)
  acl.clear()
  assert.equal(verdict(), 'pass')
  assert.deepEqual(acl.rules(), [])
})

test(
  'where ports overlap the later rule counts, and the earlier again when that is taken back',
  { skip: needsRoot },
  (t) => {
    const acl = AclProgram.load()
    t.after(() => acl.close())
    const verdict = () => acl.program.testRun({ packet: WHOLE_WAY }).verdict
    acl.deny('7/udp')
    acl.allow('0-65535')
    assert.equal(verdict(), 'pass')
    acl.remove('0-65535')
    assert.equal(verdict(), 'drop')
    acl.allow('1-100/udp')
    acl.remove('7/udp')
    acl.deny('5-9/udp')
    assert.equal(verdict(), 'drop')
    acl.allow('5-9/tcp')
    assert.equal(verdict(), 'drop')
    acl.deny('1-100/udp')
    acl.remove('5-9/udp')
    assert.deepEqual(
      acl.rules().map(({ rule }) => rule),
      ['5-9/tcp', '1-100/udp'],
    )
    assert.equal(verdict(), 'drop')
    acl.clear()
    assert.equal(verdict(), 'pass')
  },
)

test('the settings make the same program and the same rules', { skip: needsRoot }, (t) => {
  const shipped = shippedPrograms.get('acl')!
  const verdicts = (given: GivenSettings) => {
    const { definition, fill } = shipped.define(given, { queues: 1 })
    const loaded = definition.load()
    t.after(() => loaded.close())
    fill?.(loaded)
    return loaded.program.testRun({ packet: WHOLE_WAY }).verdict
  }
  assert.equal(verdicts({}), 'pass')
  assert.equal(verdicts({ default: ['drop'] }), 'drop')
  assert.equal(verdicts({ default: ['drop'], allow: ['10.0.0.0/8', '203.0.0.0/8'] }), 'pass')
  assert.equal(verdicts({ allow: ['203.0.113.1'], deny: ['7'] }), 'drop')
  for (const [name, value] of [
    ['default', 'tx'],
    ['discovery', 'drop'],
    ['allow', '10.0.0.0/33'],
    ['deny', '02:00:00:00:00'],
    ['deny', '70000/udp'],
    ['deny', '20-10'],
    ['deny', 'to:udp'],
    ['deny', 'protocol:256'],
    ['deny', ''],
  ]) {
    assert.throws(() => shipped.define({ [name]: [value] }, { queues: 1 }), {
      code: 'XDP_BAD_OPTION',
      option: name,
    })
  }
})

const ECHO = `
const { createSocket } = await import('node:dgram')
const socket = createSocket('udp4')
socket.on('message', (message, from) => socket.send(message, from.port, from.address))
socket.bind(0, () => say(socket.address().port))
`

/** Asks an echo server once, and says whether it answered within some time. */
const askEcho = (address: string, port: number, milliseconds: number): string => `
import { createSocket } from 'node:dgram'
const socket = createSocket('udp4')
const timer = setTimeout(() => { console.log('silence'); socket.close() }, ${milliseconds})
socket.on('message', () => { console.log('echo'); clearTimeout(timer); socket.close() })
socket.send('hello', ${port}, '${address}')
`

test(
  'live: ping and UDP follow the rules as they change, and hosts find each other',
  { skip: needsRoot },
  async (t) => {
    const lab = createTestLab(t)
    const { a, b } = lab
    const acl = inNamespace(a.namespace, () => AclProgram.load({ otherwise: 'drop' }))
    t.after(() => acl.close())
    const echo = startChild(lab, 'a', ECHO)
    await echo.hasSaid(1)
    const port = Number(echo.said[0])
    const attachment = attachXdp(acl.program, { interface: a.interface, namespace: a.namespace })
    t.after(() => attachment.detach())

    // Only who expects nothing gives up soon.
    const ping = async (address: string, expected: number) => {
      const patience = expected === 0 ? '0.3' : '10'
      const { stdout } = await lab.exec('b', 'ping', ['-n', '-c', '2', '-i', '0.05', '-W', patience, address])
      assert.equal(Number(/(\d+) received/.exec(stdout)?.[1]), expected, stdout)
    }
    const udp = async (expected: 'echo' | 'silence') => {
      const script = askEcho(a.ipv4, port, expected === 'silence' ? 300 : 60_000)
      const { stdout } = await lab.exec('b', process.execPath, ['--input-type=module', '-e', script])
      assert.equal(stdout.trim(), expected)
    }
    const forget = () => lab.exec('b', 'ip', ['neigh', 'flush', 'dev', b.interface])
    const found = async (address: string) => {
      const { stdout } = await lab.exec('b', 'ip', ['neigh', 'show', 'dev', b.interface])
      assert.ok(stdout.includes(`${address} lladdr ${a.mac}`), stdout)
    }

    await forget()
    await ping(a.ipv4, 0)
    await found(a.ipv4)
    await udp('silence')
    acl.allow('icmp')
    await ping(a.ipv4, 2)
    await udp('silence')
    acl.allow(`${port}/udp`)
    await udp('echo')
    acl.deny(`${b.ipv4}/32`)
    await ping(a.ipv4, 0)
    await udp('silence')
    acl.remove(b.ipv4)
    await udp('echo')
    acl.deny(b.mac)
    await udp('silence')
    if (a.ipv6 !== undefined) {
      acl.clear()
      await forget()
      await ping(a.ipv6, 0)
      await found(a.ipv6)
      acl.allow('icmpv6')
      await ping(a.ipv6, 2)
    }
    echo.process.kill()
    await echo.ended()
  },
)
