// Netlink against the kernel, judged by ip(8) and ethtool(8), in namespaces of the test's own.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { after, before, describe, it } from 'node:test'
import { KernelError, OptionError } from '../../src/kernel/errors.js'
import { getDriverInfo, getDriverStats } from '../../src/kernel/ethtool-ioctl.js'
import { Namespace } from '../../src/kernel/namespace.js'
import { native } from '../../src/kernel/native.js'
import * as netlink from '../../src/kernel/netlink/index.js'
import { countQueues } from '../../src/nic/queues.js'
import { formatCidr, formatIp, formatMac, parseCidr, parseIp, parseMac } from '../../src/packet/address.js'
import { needsRoot, openDescriptors, uniqueName } from '../support/lab.js'

type Json = Record<string, unknown>

const mac = (text: string): Uint8Array => parseMac(text) ?? assert.fail()
const ip = (text: string): Uint8Array => parseIp(text) ?? assert.fail()
const cidr = (text: string) => parseCidr(text) ?? assert.fail()
const text = (bytes: Uint8Array | undefined): string | undefined => bytes && formatIp(bytes)

describe('netlink', { skip: needsRoot }, () => {
  const names = [uniqueName('n'), uniqueName('n')]
  const opened = openDescriptors()
  let a: { namespace: Namespace }
  let b: { namespace: Namespace }
  let index = 0

  const inside = (name: string, ...line: string[]): string =>
    execFileSync('ip', ['netns', 'exec', name, ...line], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
    })
  const json = (...line: string[]): Json[] => JSON.parse(inside(names[0], 'ip', '-j', ...line)) as Json[]

  before(() => {
    a = { namespace: Namespace.create(names[0]) }
    b = { namespace: Namespace.create(names[1]) }
    netlink.createVeth(
      { name: 'left', mac: mac('02:00:00:00:00:01'), mtu: 2000, queues: 4, index: 40 },
      { name: 'right', mac: mac('02:00:00:00:00:02'), queues: 2, namespace: b.namespace },
      a,
    )
    index = netlink.getLink('left', a).index
    netlink.setLink('left', { up: true }, a)
    netlink.setLink('right', { up: true }, b)
  })

  after(() => {
    for (const { namespace } of [a, b]) namespace.close()
    for (const name of names) Namespace.remove(name)
    assert.deepEqual(openDescriptors(), opened, 'a descriptor leaks')
  })

  it('reads links as ip(8) does', () => {
    inside(names[0], 'ip', 'link', 'add', 'bridge0', 'type', 'bridge')
    const expected = json('-d', '-s', 'link', 'show')
    const links = netlink.listLinks(a)
    assert.deepEqual(
      links.map((link) => ({
        ifindex: link.index,
        ifname: link.name,
        mtu: link.mtu,
        address: formatMac(link.mac),
        kind: link.kind,
        up: link.up,
        loopback: link.loopback,
        operstate: link.operState.toUpperCase(),
        queues: [link.rxQueues, link.txQueues],
        peer: link.kind === 'veth' ? link.peerIndex : undefined,
        nsid: link.peerNamespaceId,
        maxMtu: link.maxMtu,
      })),
      expected.map((link) => ({
        ifindex: link['ifindex'],
        ifname: link['ifname'],
        mtu: link['mtu'],
        address: link['address'],
        kind: (link['linkinfo'] as Json | undefined)?.['info_kind'],
        up: (link['flags'] as string[]).includes('UP'),
        loopback: (link['flags'] as string[]).includes('LOOPBACK'),
        operstate: link['operstate'],
        queues: [link['num_rx_queues'], link['num_tx_queues']],
        peer: link['link_index'],
        nsid: link['link_netnsid'],
        maxMtu: link['max_mtu'],
      })),
    )
    assert.equal(index, 40)
    for (const link of links) assert.deepEqual(netlink.getLink(link.index, a).name, link.name)
    netlink.deleteLink('bridge0', a)
    assert.ok(!json('link', 'show').some((link) => link['ifname'] === 'bridge0'))
  })

  it('reads every link when there are more than one answer holds', () => {
    const pairs = 60
    const batch = Array.from({ length: pairs }, (_, i) => `link add many${i} type veth peer peer${i}\n`).join(
      '',
    )
    execFileSync('ip', ['-n', names[1], '-batch', '-'], { input: batch })
    const many = netlink.listLinks(b).filter(({ name }) => /^(?:many|peer)\d+$/.test(name))
    assert.equal(new Set(many.map(({ name }) => name)).size, 2 * pairs)
    for (let i = 0; i < pairs; i++) netlink.deleteLink(`many${i}`, b)
    const left = netlink.listLinks(b).map(({ name }) => name)
    assert.deepEqual(left.sort(), ['lo', 'right'])
  })

  it('changes links', () => {
    netlink.setLink('left', { mtu: 1400, mac: mac('02:00:00:00:00:09'), alias: 'two words' }, a)
    const [changed] = json('link', 'show', 'left')
    assert.equal(changed['mtu'], 1400)
    assert.equal(changed['address'], '02:00:00:00:00:09')
    assert.equal(changed['ifalias'], 'two words')
    assert.equal(netlink.getLink('left', a).alias, 'two words')
    netlink.setLink('left', { up: false }, a)
    netlink.setLink('left', { name: 'renamed' }, a)
    assert.equal(json('link', 'show')[1]['ifname'], 'renamed')
    assert.equal(netlink.getLink('renamed', a).up, false)
    netlink.setLink(index, { name: 'left', up: true, mac: mac('02:00:00:00:00:01') }, a)
    assert.equal(netlink.getLink(index, a).running, true)
    inside(names[0], 'ip', 'link', 'property', 'add', 'dev', 'left', 'altname', 'a-name-of-more-than-fifteen')
    assert.equal(netlink.getLink('a-name-of-more-than-fifteen', a).index, index)
  })

  it('moves a link to another namespace', () => {
    const name = uniqueName()
    netlink.createVeth({ name }, { name: 'peer' }, a)
    netlink.setLink(name, { moveTo: b.namespace }, a)
    assert.throws(() => netlink.getLink(name, a), { code: 'ENODEV' })
    assert.equal(netlink.getLink(name, b).kind, 'veth')
    netlink.deleteLink(name, b)
    assert.throws(() => netlink.getLink('peer', a), { code: 'ENODEV' })
  })

  it('adds, reads and deletes addresses', () => {
    const wanted = ['10.1.2.3/24', '10.9.9.9/32', '10.4.4.0/31', 'fd00:1::5/64', 'fd00:2::1/128']
    for (const address of wanted) netlink.addAddress(index, cidr(address), a)
    const shown = json('addr', 'show', 'left').flatMap((link) => link['addr_info'] as Json[])
    const listed = netlink.listAddresses({ ...a, ifindex: index })
    assert.deepEqual(
      listed.map((address) => [formatCidr(address), address.scope]),
      shown.map((address) => [
        `${String(address['local'])}/${String(address['prefixlen'])}`,
        address['scope'],
      ]),
    )
    for (const address of wanted)
      assert.ok(listed.some((found) => formatCidr(found) === address && found.permanent))
    assert.ok(listed.every((address) => address.scope === 'link' || !address.tentative))
    assert.equal(shown.find((address) => address['local'] === '10.1.2.3')?.['broadcast'], '10.1.2.255')
    assert.equal(shown.find((address) => address['local'] === '10.9.9.9')?.['broadcast'], undefined)
    assert.throws(() => netlink.addAddress(index, cidr('10.1.2.3/24'), a), { code: 'EEXIST' })
    for (const address of wanted) netlink.deleteAddress(index, cidr(address), a)
    assert.throws(() => netlink.deleteAddress(index, cidr('10.1.2.3/24'), a), { code: 'EADDRNOTAVAIL' })
    assert.deepEqual(
      netlink.listAddresses({ ...a, ifindex: index }).filter(({ scope }) => scope !== 'link'),
      [],
    )
  })

  it('sets, reads and forgets neighbours', () => {
    const wanted = [
      ['10.1.2.4', '02:00:00:00:00:04'],
      ['fd00:1::4', '02:00:00:00:00:05'],
    ]
    for (const [address, hardware] of wanted)
      netlink.setNeighbour(index, { address: ip(address), mac: mac(hardware) }, a)
    // A second time replaces the first.
    netlink.setNeighbour(index, { address: ip('10.1.2.4'), mac: mac('02:00:00:00:00:44') }, a)
    const shown = json('neigh', 'show', 'dev', 'left').map((entry) => [
      entry['dst'],
      entry['lladdr'],
      entry['state'],
    ])
    // ip(8) leaves out multicast, which needs no ARP.
    const list = () =>
      netlink.listNeighbours({ ...a, ifindex: index }).filter(({ state }) => state !== 'noarp')
    const listed = list()
    assert.deepEqual(
      listed
        .map((entry) => [text(entry.address), entry.mac && formatMac(entry.mac), [entry.state.toUpperCase()]])
        .sort(),
      shown.sort(),
    )
    assert.deepEqual(listed.map(({ mac }) => mac && formatMac(mac)).sort(), [
      '02:00:00:00:00:05',
      '02:00:00:00:00:44',
    ])
    assert.equal(netlink.getNeighbour(index, ip('fd00:1::4'), a)?.state, 'permanent')
    assert.equal(netlink.getNeighbour(index, ip('fd00:1::77'), a), undefined)
    for (const [address] of wanted) netlink.deleteNeighbour(index, ip(address), a)
    assert.throws(() => netlink.deleteNeighbour(index, ip('10.1.2.4'), a), { code: 'ENOENT' })
    assert.deepEqual(list(), [])
  })

  it('looks routes up as ip(8) does', () => {
    netlink.addAddress(index, cidr('10.1.2.3/24'), a)
    netlink.addAddress(index, cidr('fd00:1::3/64'), a)
    assert.deepEqual(netlink.listDefaultRoutes(a), [])
    assert.throws(() => netlink.lookUpRoute(ip('192.0.2.1'), a), { code: 'ENETUNREACH' })
    for (const line of [
      'default via 10.1.2.1 metric 200 mtu 1300',
      'default via 10.1.2.2 metric 100',
      '198.51.100.0/24 via inet6 fd00:1::1 dev left',
      '203.0.113.0/24 nexthop via 10.1.2.8 dev left nexthop via 10.1.2.9 dev left',
    ]) {
      inside(names[0], 'ip', 'route', 'add', ...line.split(' '))
    }
    inside(names[0], 'ip', '-6', 'route', 'add', 'default', 'via', 'fd00:1::2')
    for (const destination of ['192.0.2.1', '10.1.2.77', '198.51.100.5', 'fd00:1::9', '2001:db8::1']) {
      const [shown] = json('route', 'get', destination)
      const route = netlink.lookUpRoute(ip(destination), a)
      assert.equal(route.ifindex, index, destination)
      assert.equal(
        text(route.gateway),
        shown['gateway'] ?? (shown['via'] as Json | undefined)?.['host'],
        destination,
      )
      assert.equal(text(route.source), shown['prefsrc'], destination)
      assert.equal(route.version, destination.includes(':') ? 6 : 4)
      assert.equal(route.type, 'unicast')
    }
    assert.equal(netlink.lookUpRoute(ip('10.1.2.3'), a).type, 'local')
    assert.match(text(netlink.lookUpRoute(ip('203.0.113.5'), a).gateway) ?? '', /^10\.1\.2\.[89]$/)
    assert.deepEqual(
      netlink
        .listDefaultRoutes(a)
        .map(({ version, gateway, metric, mtu }) => [version, text(gateway), metric, mtu]),
      [
        [4, '10.1.2.2', 100, undefined],
        [4, '10.1.2.1', 200, 1300],
        [6, 'fd00:1::2', 1024, undefined],
      ],
    )
    assert.equal(netlink.listDefaultRoutes({ ...a, version: 6 }).length, 1)
    netlink.deleteAddress(index, cidr('10.1.2.3/24'), a)
    netlink.deleteAddress(index, cidr('fd00:1::3/64'), a)
  })

  it('counts packets as ip(8) does', () => {
    netlink.addAddress(index, cidr('10.1.2.3/24'), a)
    netlink.setNeighbour(index, { address: ip('10.1.2.4'), mac: mac('02:00:00:00:00:02') }, a)
    assert.throws(() => inside(names[0], 'ping', '-c', '2', '-i', '0.01', '-W', '0.01', '10.1.2.4'))
    // Other packets may come in between two looks, so look until two agree.
    for (let attempt = 0; ; attempt++) {
      const { stats } = netlink.getLink('left', a)
      const [shown] = json('-s', 'link', 'show', 'left')
      const { rx, tx } = shown['stats64'] as Record<'rx' | 'tx', Json>
      const ours = [
        stats.rxPackets,
        stats.rxBytes,
        stats.rxDropped,
        stats.txPackets,
        stats.txBytes,
        stats.txErrors,
      ]
      const theirs = [rx['packets'], rx['bytes'], rx['dropped'], tx['packets'], tx['bytes'], tx['errors']]
      assert.ok(stats.txPackets >= 2)
      if (attempt < 20 && String(ours) !== String(theirs)) continue
      assert.deepEqual(ours, theirs)
      break
    }
    netlink.deleteAddress(index, cidr('10.1.2.3/24'), a)
  })

  it('passes on what the kernel says when it refuses', () => {
    const fails = (call: () => void, code: string, syscall: string, said?: RegExp): void => {
      assert.throws(call, (error) => {
        assert.ok(error instanceof KernelError)
        assert.equal(error.code, code)
        assert.equal(error.syscall, syscall)
        if (said) assert.match(error.said ?? '', said)
        return true
      })
    }
    fails(() => netlink.getLink('nosuch', a), 'ENODEV', 'netlink RTM_GETLINK')
    fails(() => netlink.setLink('left', { mtu: 10 }, a), 'EINVAL', 'netlink RTM_SETLINK', /mtu less than/)
    fails(() => netlink.createVeth({ name: 'left' }, { name: 'x' }, a), 'EEXIST', 'netlink RTM_NEWLINK')
    fails(() => netlink.deleteLink(9999, a), 'ENODEV', 'netlink RTM_DELLINK')
    fails(
      () => netlink.setLinkXdp({ ifindex: index, fd: 9999, mode: 'native', ...a }),
      'EBADF',
      'netlink RTM_SETLINK',
    )
    fails(() => netlink.getChannels(9999, a), 'ENODEV', 'netlink ETHTOOL_MSG_CHANNELS_GET', /ifindex/)
    for (const name of ['', 'sixteen-letters-', 'a/b', 'a b', '.']) {
      assert.throws(() => netlink.createVeth({ name }, { name: 'x' }, a), OptionError)
    }
    assert.deepEqual(
      netlink.listLinks(a).map(({ name }) => name),
      ['lo', 'left'],
    )
  })

  it('reports no XDP where there is none, and detaching it is no error', () => {
    assert.deepEqual(netlink.getLink('left', a).xdp, { mode: 'none', programs: {} })
    for (const mode of ['auto', 'native', 'generic'] as const)
      netlink.setLinkXdp({ ifindex: index, fd: -1, mode, ...a })
  })

  it('attaches, replaces and detaches XDP in each mode, as ip(8) sees it', (t) => {
    const programs = [passProgram(), passProgram()]
    t.after(() => programs.forEach((fd) => native.close(fd)))
    const [one, two] = programs
    const attach = (fd: number, more: Partial<netlink.SetLinkXdp> = {}): void =>
      netlink.setLinkXdp({ ifindex: index, fd, mode: 'native', ...a, ...more })
    for (const [mode, number] of [
      ['native', 1],
      ['generic', 2],
    ] as const) {
      attach(one, { mode })
      const { xdp } = netlink.getLink(index, a)
      const shown = json('-d', 'link', 'show', 'left')[0]['xdp'] as { mode: number; prog: { id: number } }
      assert.equal(shown.mode, number)
      assert.deepEqual(xdp, { mode, programs: { [mode]: shown.prog.id } })
      assert.throws(() => attach(two, { mode, ifNoExist: true }), { code: 'EBUSY' })
      assert.throws(() => attach(two, { mode, replaceFd: two }), { code: 'EEXIST' })
      assert.throws(() => attach(two, { mode: mode === 'native' ? 'generic' : 'native' }), { code: 'EEXIST' })
      attach(two, { mode, replaceFd: one })
      assert.notDeepEqual(netlink.getLink(index, a).xdp, xdp)
      attach(-1, { mode })
      assert.equal(netlink.getLink(index, a).xdp.mode, 'none')
    }
    attach(one, { mode: 'auto' })
    assert.equal(netlink.getLink(index, a).xdp.mode, 'native')
    attach(-1, { mode: 'auto' })
    // The driver says why it cannot: the peer sends on more queues than there are to receive on.
    const right = netlink.getLink('right', b).index
    assert.throws(
      () => netlink.setLinkXdp({ ifindex: right, fd: one, mode: 'native', ...b }),
      (error) => error instanceof KernelError && error.code === 'ENOSPC' && /queues/.test(error.said ?? ''),
    )
    assert.throws(() => attach(one, { mode: 'hardware' }), KernelError)
  })

  it('reads what a driver can do with XDP', () => {
    // veth offers it where the peer sends on no more queues than it receives on (veth_set_xdp_features).
    const left = netlink.getDeviceFeatures(index, a)
    assert.deepEqual(left?.xdp.slice(0, 2), ['basic', 'redirect'])
    assert.ok(left?.rxMetadata.includes('hash'))
    const right = netlink.getDeviceFeatures(netlink.getLink('right', b).index, b)
    assert.deepEqual(right?.xdp, [])
    assert.deepEqual(netlink.getDeviceFeatures(1, a)?.xdp, [])
    assert.throws(() => netlink.getDeviceFeatures(9999, a), { code: 'ENODEV' })
  })

  it('lists queues of a device that is up', () => {
    const queues = netlink.listDeviceQueues(index, a)
    if (queues === undefined) return
    assert.deepEqual(
      queues.map(({ type, id }) => `${type}${id}`),
      ['rx0', 'rx1', 'rx2', 'rx3', 'tx0', 'tx1', 'tx2', 'tx3'],
    )
  })

  it('reads and sets channels as ethtool(8) does, and counts queues', () => {
    const shown = inside(names[0], 'ethtool', '-l', 'left')
    assert.match(shown, /RX:\s+4[^]*RX:\s+4/)
    const channels = netlink.getChannels(index, a)
    assert.deepEqual(channels?.rx, { count: 4, max: 4 })
    assert.deepEqual(channels?.combined, { count: 0, max: 0 })
    assert.equal(netlink.setChannels(index, { rx: 2, tx: 1 }, a), true)
    assert.match(inside(names[0], 'ethtool', '-l', 'left'), /Current hardware settings:\s+RX:\s+2\s+TX:\s+1/)
    assert.deepEqual(countQueues('left', a), { rx: 2, maxRx: 4, source: 'channels' })
    assert.throws(() => netlink.setChannels(index, { rx: 99 }, a), { code: 'EINVAL' })
    netlink.setChannels(index, { rx: 4, tx: 4 }, a)
    // The loopback tells nothing but its link while it is down; in the test's own namespace /sys does.
    assert.deepEqual(countQueues('lo', a), { rx: 1, maxRx: 1, source: 'link' })
    assert.deepEqual(countQueues(1), { rx: 1, maxRx: 1, source: 'sysfs' })
    assert.equal(netlink.getRings(index, a), undefined)
    assert.equal(netlink.setRings(index, { rx: 64 }, a), false)
  })

  it('reads and sets features as ethtool(8) does', () => {
    const shown = (): Map<string, string> =>
      new Map(
        [...inside(names[0], 'ethtool', '-k', 'left').matchAll(/^\s*([\w-]+): (o.*)$/gm)].map((m) => [
          m[1],
          m[2],
        ]),
      )
    const compare = (): void => {
      const features = netlink.getFeatures(index, a)
      assert.ok(features)
      const theirs = shown()
      let compared = 0
      for (const [name, { on, changeable, wanted }] of features) {
        const said = theirs.get(name)
        if (said === undefined) continue // ethtool has an older name for it.
        const note = !changeable ? ' [fixed]' : wanted !== on ? ` [requested ${wanted ? 'on' : 'off'}]` : ''
        assert.equal(said, `${on ? 'on' : 'off'}${note}`, name)
        compared++
      }
      assert.ok(compared > 30)
    }
    compare()
    assert.deepEqual(
      netlink.setFeatures(index, { 'tx-checksum-ip-generic': false, 'rx-gro-list': true }, a),
      [],
    )
    compare()
    assert.equal(shown().get('tx-checksum-ip-generic'), 'off')
    // Segmentation needs the checksums, so it cannot come back without; neither can what the driver fixes.
    assert.deepEqual(netlink.setFeatures(index, { 'tx-tcp-segmentation': true, 'rx-fcs': true }, a), [
      'tx-tcp-segmentation',
      'rx-fcs',
    ])
    assert.throws(() => netlink.setFeatures(index, { 'no-such-feature': true }, a), OptionError)
    netlink.setFeatures(index, { 'tx-checksum-ip-generic': true, 'rx-gro-list': false }, a)
    compare()
  })

  it('reads driver and driver statistics as ethtool(8) does', () => {
    const info = getDriverInfo('left', a)
    const shown = inside(names[0], 'ethtool', '-i', 'left')
    assert.equal(info?.driver, /^driver: (.*)$/m.exec(shown)?.[1])
    assert.equal(info?.version, /^version: (.*)$/m.exec(shown)?.[1])
    assert.equal(info?.bus, /^bus-info: (.*)$/m.exec(shown)?.[1])
    assert.throws(() => getDriverInfo('nosuch', a), { code: 'ENODEV' })
    const names_ = [...inside(names[0], 'ethtool', '-S', 'left').matchAll(/^ +([\w]+): (\d+)$/gm)].map(
      (m) => m[1],
    )
    const stats = getDriverStats('left', a)
    assert.deepEqual([...(stats?.keys() ?? [])], names_)
    assert.equal(stats?.get('peer_ifindex'), netlink.getLink('right', b).index)
    assert.equal(getDriverStats('lo', a), undefined)
  })

  it('finds generic families, and says when there is none', () => {
    assert.equal(netlink.GenericFamily.open('no-such-family'), undefined)
    const family = netlink.GenericFamily.open('ethtool')
    assert.ok(family)
    assert.ok(family.groups.has('monitor'))
    assert.ok(family.id >= 16)
    family.close()
  })
})

// The least of programs: return XDP_PASS. Loaded by bpf(2) itself, which is all this floor has.
function passProgram(): number {
  const instructions = Uint8Array.of(0xb7, 0, 0, 0, 2, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0)
  const attr = new DataView(new ArrayBuffer(48)) // union bpf_attr of BPF_PROG_LOAD, up to log_buf
  attr.setUint32(0, 6, true) // BPF_PROG_TYPE_XDP
  attr.setUint32(4, 2, true)
  const fd = native.bpf(5, attr, [8, instructions, 16, new TextEncoder().encode('GPL\0')])
  assert.ok(fd >= 0, `bpf(2): ${fd}`)
  return fd
}
