// The lab against the system's own tools: real ping, ip and ethtool, several at once, and nothing left behind.
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { after, describe, it, type TestContext } from 'node:test'
import { OptionError, XdpError, NotFoundError } from '../../src/kernel/errors.js'
import { listInterfaces } from '../../src/kernel/interfaces.js'
import { Namespace } from '../../src/kernel/namespace.js'
import { createVeth, deleteLink, getDeviceFeatures, listAddresses } from '../../src/kernel/netlink/index.js'
import { Lab, type EndId } from '../../src/lab/index.js'
import { createTestLab, needsRoot, openDescriptors, uniqueName } from '../support/lab.js'

const other = { a: 'b', b: 'a' } as const

async function ping(lab: Lab, from: EndId, version: 4 | 6, count = 5): Promise<string> {
  const to = lab[other[from]]
  const address = version === 4 ? to.ipv4 : to.ipv6
  assert.ok(address)
  const result = await lab.exec(from, 'ping', ['-c', String(count), '-i', '0.01', '-W', '5', address])
  assert.equal(result.status, 0, result.stdout + result.stderr)
  return /(\d+)% packet loss/.exec(result.stdout)?.[1] ?? 'no answer'
}

const traces = (lab: string): string[] => [
  ...Namespace.list().filter((name) => name.includes(lab)),
  ...listInterfaces()
    .map(({ name }) => name)
    .filter((name) => name.includes(lab)),
  ...Lab.list()
    .map(({ name }) => name)
    .filter((name) => name === lab),
]

function hostLab(t: TestContext, options: object = {}): Lab {
  return createTestLab(t, { ...options, isolated: false })
}

describe('Lab', { skip: needsRoot }, () => {
  const before = openDescriptors()
  after(() => assert.deepEqual(openDescriptors(), before, 'a descriptor leaks'))

  for (const isolated of [true, false]) {
    describe(isolated ? 'isolated' : 'on the host', () => {
      it('carries ping both ways without loss', async (t) => {
        const lab = createTestLab(t, { isolated })
        for (const from of ['a', 'b'] as const) {
          for (const version of [4, 6] as const) assert.equal(await ping(lab, from, version), '0')
        }
      })

      it('leaves nothing when it is removed', (t) => {
        const lab = createTestLab(t, { isolated })
        assert.notDeepEqual(traces(lab.name), [])
        lab.down()
        assert.deepEqual(traces(lab.name), [])
        assert.equal(Lab.remove(lab.name), false)
      })

      it('can be opened and made anew by name alone', async (t) => {
        const lab = createTestLab(t, { isolated, queues: 3, mtu: 3000, checksums: 'offload', napi: false })
        const opened = Lab.open(lab.name)
        assert.deepEqual(opened.options, lab.options)
        assert.equal(opened.isolated, isolated)
        assert.deepEqual({ ...opened.b, namespace: 0 }, { ...lab.b, namespace: 0 })
        await ping(opened, 'a', 4)
        opened.close()

        const { options } = lab
        assert.deepEqual(options, { ...options, queues: 3, mtu: 3000, checksums: 'offload', napi: false })
        const again = Lab.reset(lab.name)
        t.after(() => again.down())
        assert.deepEqual(again.options, options)
        assert.ok(again.stats().b.rxPackets <= 1)
        assert.equal(await ping(again, 'b', 6), '0')
      })

      it('goes after its maker was killed', async (t) => {
        const name = uniqueName()
        t.after(() => Lab.remove(name))
        const script = `
          import { Lab } from ${JSON.stringify(new URL('../../src/lab/index.js', import.meta.url).href)}
          Lab.create({ name: '${name}', isolated: ${isolated} })
          process.kill(process.pid, 'SIGKILL')`
        const child = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: 'inherit' })
        const [, signal] = (await once(child, 'exit')) as [unknown, string]
        assert.equal(signal, 'SIGKILL')
        assert.ok(Lab.list().some((lab) => lab.name === name && lab.complete))
        assert.equal(Lab.remove(name), true)
        assert.deepEqual(traces(name), [])
      })
    })
  }

  it('finishes a removal from every state a crash can leave', (t) => {
    const damage: Record<string, (lab: Lab) => void> = {
      'the cable is gone': (lab) => deleteLink(lab.b.interface, lab.b),
      'one namespace has lost its name': (lab) => void Namespace.remove(`xdp-${lab.name}-b`),
      'the other has': (lab) => void Namespace.remove(`xdp-${lab.name}-a`),
    }
    for (const isolated of [true, false]) {
      for (const [what, harm] of Object.entries(damage)) {
        const lab = createTestLab(t, { isolated })
        harm(lab)
        const listed = Lab.list().find(({ name }) => name === lab.name)
        if (listed !== undefined) {
          if (isolated || !what.startsWith('the other')) assert.equal(listed.complete, false, what)
          assert.equal(Lab.remove(lab.name), true, what)
        }
        assert.deepEqual(traces(lab.name), [], what)
        lab.down()
      }
    }
  })

  it('removes a name that has no namespace under it', () => {
    const name = uniqueName()
    execFileSync('touch', [`/run/netns/xdp-${name}-b`])
    assert.deepEqual(
      Lab.list().filter((lab) => lab.name === name),
      [{ name, complete: false }],
    )
    assert.equal(Lab.remove(name), true)
    assert.deepEqual(traces(name), [])
  })

  it('is silent until someone sends', async (t) => {
    const lab = createTestLab(t)
    const busy = createTestLab(t)
    const first = lab.stats()
    // The other lab's pings are a clock that does not depend on the machine's speed: 100 answered in a row.
    assert.equal(await ping(busy, 'a', 6, 100), '0')
    assert.deepEqual(lab.stats(), first)
    await ping(lab, 'a', 6, 7)
    const second = lab.stats()
    assert.equal(second.a.rxPackets - first.a.rxPackets, 7)
    assert.equal(second.b.rxPackets - first.b.rxPackets, 7)
  })

  it('has the queues, the MTU and the addresses it was asked for', (t) => {
    const lab = createTestLab(t, { queues: 4, mtu: 3000, ipv4: '172.30.5.0/28', ipv6: 'fd12:3456::/48' })
    for (const [id, last] of [
      ['a', 1],
      ['b', 2],
    ] as const) {
      const end = lab[id]
      assert.equal(end.queues, 4)
      assert.equal(end.ipv4, `172.30.5.${last}`)
      assert.equal(end.ipv6, `fd12:3456::${last}`)
      const netns = `xdp-${lab.name}-${id}`
      const run = (...line: string[]): string =>
        execFileSync('ip', ['netns', 'exec', netns, ...line], { encoding: 'utf8' })
      const [link] = JSON.parse(run('ip', '-j', '-d', 'link', 'show', end.interface)) as Record<
        string,
        unknown
      >[]
      assert.equal(link['mtu'], 3000)
      assert.equal(link['num_rx_queues'], 4)
      assert.equal(link['num_tx_queues'], 4)
      assert.equal(link['operstate'], 'UP')
      assert.equal(link['address'], end.mac)
      assert.equal(link['ifalias'], `node-xdp lab ${lab.name}`)
      const features = run('ethtool', '-k', end.interface)
      assert.match(features, /^tx-checksumming: off/m)
      assert.match(features, /^tcp-segmentation-offload: off/m)
      assert.match(features, /^tx-vlan-offload: off/m)
      assert.match(features, /^generic-receive-offload: on/m)
      const neighbours = run('ip', 'neigh', 'show', 'dev', end.interface).trim().split(/\s*\n/).sort()
      const peer = lab[other[id]]
      assert.deepEqual(neighbours, [
        `172.30.5.${3 - last} lladdr ${peer.mac} PERMANENT`,
        `fd12:3456::${3 - last} lladdr ${peer.mac} PERMANENT`,
      ])
      assert.doesNotMatch(run('ip', '-6', 'addr'), /fe80::/)
      assert.ok(getDeviceFeatures(end.ifindex, end)?.xdp.includes('redirect-target'))
    }
  })

  it('leaves the offloads alone when asked to', (t) => {
    const lab = createTestLab(t, { checksums: 'offload', napi: false })
    const line = ['netns', 'exec', `xdp-${lab.name}-b`, 'ethtool', '-k', lab.b.interface]
    const features = execFileSync('ip', line, { encoding: 'utf8' })
    assert.match(features, /^tx-checksumming: on/m)
    assert.match(features, /^generic-receive-offload: off/m)
    assert.ok(!getDeviceFeatures(lab.b.ifindex, lab.b)?.xdp.includes('redirect-target'))
  })

  it('delivers TCP uncut and unmerged, checksums filled in, as tcpdump judges', async (t) => {
    const lab = createTestLab(t)
    const filter = `tcp and dst host ${lab.b.ipv4}`
    const dump = lab.spawn(
      'b',
      'tcpdump',
      ['-vvnnli', 'veth-b', '-s', '2000', '-B', '8192', '--immediate-mode', filter],
      {
        stdio: ['ignore', 'pipe', 'pipe'],
      },
    )
    assert.ok(dump.stdout && dump.stderr)
    await once(dump.stderr, 'data') // "listening on"
    let text = ''
    dump.stdout.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
    const serve = `require('net').createServer(s => { let n = 0; s.on('data', d => { n += d.length }); s.on('end', () => { console.log(n); process.exit() }) }).listen(7000, '${lab.b.ipv4}', () => console.error('ready'))`
    const server = lab.spawn('b', process.execPath, ['-e', serve], { stdio: ['ignore', 'pipe', 'pipe'] })
    assert.ok(server.stdout && server.stderr)
    await once(server.stderr, 'data')
    const send = `require('net').connect(7000, '${lab.b.ipv4}').end(Buffer.alloc(300000))`
    const received = once(server.stdout, 'data')
    assert.equal((await lab.exec('a', process.execPath, ['-e', send])).status, 0)
    assert.equal(String(await received), '300000\n')
    while (!text.includes('Flags [F')) await once(dump.stdout, 'data')
    dump.kill('SIGINT')
    await once(dump, 'close')
    const lengths = [...text.matchAll(/proto TCP \(6\), length (\d+)\)/g)].map((match) => Number(match[1]))
    assert.ok(lengths.length >= 300_000 / 1460, `${lengths.length} packets, ${lengths.join(' ')}`)
    assert.ok(Math.max(...lengths) <= 1500, `a packet of ${Math.max(...lengths)} bytes`)
    assert.doesNotMatch(text, /incorrect/)
    assert.match(text, /\(correct\)/)
  })

  it('keeps several labs on the host apart', async (t) => {
    const labs = [hostLab(t), hostLab(t), hostLab(t)]
    assert.equal(new Set(labs.map((lab) => lab.a.ipv4)).size, 3)
    assert.equal(new Set(labs.map((lab) => lab.a.ipv6)).size, 3)
    assert.equal(new Set(labs.map((lab) => lab.a.mac)).size, 3)
    const losses = labs.flatMap((lab) => [ping(lab, 'a', 4), ping(lab, 'b', 6)])
    assert.deepEqual(await Promise.all(losses), ['0', '0', '0', '0', '0', '0'])
    labs[1].down()
    assert.equal(await ping(labs[2], 'b', 4), '0')
    // The subnet that came free is the next one's.
    assert.equal(hostLab(t).a.ipv4, labs[1].a.ipv4)
  })

  it('gives labs that several processes make at the same moment different subnets', async (t) => {
    const names = [uniqueName(), uniqueName(), uniqueName(), uniqueName()]
    t.after(() => names.forEach((name) => Lab.remove(name)))
    const url = JSON.stringify(new URL('../../src/lab/index.js', import.meta.url).href)
    const makers = names.map((name) =>
      spawn(
        process.execPath,
        [
          '--input-type=module',
          '-e',
          `import { Lab } from ${url}; Lab.create({ name: '${name}', isolated: false })`,
        ],
        { stdio: 'inherit' },
      ),
    )
    const codes = await Promise.all(makers.map(async (maker) => ((await once(maker, 'exit')) as [number])[0]))
    assert.deepEqual(codes, [0, 0, 0, 0])
    const addresses = names.map((name) => {
      const lab = Lab.open(name)
      lab.close()
      return lab.a.ipv4
    })
    assert.equal(new Set(addresses).size, 4, addresses.join(' '))
  })

  it('shows a command the devices of its namespace, in /sys as well', async (t) => {
    const lab = createTestLab(t)
    const seen = await lab.exec('b', 'ls', ['/sys/class/net'])
    assert.deepEqual(seen.stdout.trim().split('\n'), ['lo', 'veth-b'])
    const host = await lab.exec('b', 'ls', ['/sys/class/net'], { sysfs: 'host' })
    assert.ok(!host.stdout.includes('veth-b'))
    // Every word of the command is its own, whatever is in it.
    const odd = ['a b', '$HOME', '"', "'", '*', '']
    const echoed = await lab.exec('a', process.execPath, [
      '-e',
      'console.log(JSON.stringify(process.argv.slice(1)))',
      ...odd,
    ])
    assert.deepEqual(JSON.parse(echoed.stdout), odd)
    assert.equal((await lab.exec('a', 'cat', [], { input: 'through' })).stdout, 'through')
    assert.equal((await lab.exec('a', 'sh', ['-c', 'exit 7'])).status, 7)
    assert.equal((await lab.exec('a', 'no-such-command')).status, 127)
  })

  it('keeps pinned programs reachable inside', () => {
    // In a mount namespace of its own, so that it does not matter whether this machine has a bpffs mounted.
    const script = `
      import { Lab } from ${JSON.stringify(new URL('../../src/lab/index.js', import.meta.url).href)}
      const lab = Lab.create({ name: '${uniqueName()}' })
      const { stdout } = await lab.exec('b', 'sh', ['-c', 'stat -f -c %T /sys/fs/bpf; ls -d /sys/fs/bpf/pinned'])
      lab.down()
      console.log(stdout)`
    const shell = 'mount -t bpf bpf /sys/fs/bpf && mkdir /sys/fs/bpf/pinned && exec "$@"'
    const line = ['--mount', 'sh', '-c', shell, 'sh', process.execPath, '--input-type=module', '-e', script]
    const seen = execFileSync('unshare', line, { encoding: 'utf8' })
    assert.deepEqual(seen.trim().split('\n'), ['bpf_fs', '/sys/fs/bpf/pinned'])
  })

  it('runs workers inside, from start to end', async (t) => {
    const lab = createTestLab(t)
    const code = `
      const { parentPort } = require('node:worker_threads')
      const { statSync } = require('node:fs')
      parentPort.on('message', () => parentPort.postMessage(statSync('/proc/thread-self/ns/net').ino))`
    const worker = lab.worker('b', code, { eval: true })
    for (let i = 0; i < 2; i++) {
      worker.postMessage('where')
      const [inode] = (await once(worker, 'message')) as [number]
      assert.equal(inode, lab.b.namespace?.inode)
    }
    const ended = once(worker, 'exit')
    lab.down()
    await ended
  })

  it('ends what it started, and knows who is inside', async (t) => {
    const lab = createTestLab(t)
    const child = lab.spawn('b', 'sleep', ['1000'], { stdio: 'ignore', sysfs: 'host' })
    assert.ok(child.pid !== undefined)
    assert.deepEqual(lab.processes(), [child.pid])
    const ended = once(child, 'exit')
    lab.down()
    assert.deepEqual(await ended, [null, 'SIGKILL'])
  })

  it('refuses what cannot be, and leaves nothing', (t) => {
    const name = uniqueName()
    const refused = (options: object, option: string): void => {
      assert.throws(
        () => Lab.create({ name, ...options }),
        (error) => error instanceof OptionError && error.option === option && error.hint !== undefined,
      )
    }
    refused({ name: 'sixteen-letters-' }, 'name')
    refused({ name: '../../etc' }, 'name')
    refused({ queues: 0 }, 'queues')
    refused({ mtu: 70000 }, 'mtu')
    refused({ ipv4: '10.0.0.0/31' }, 'ipv4')
    refused({ ipv4: 'fc00::/64' }, 'ipv4')
    refused({ ipv6: 'nonsense' }, 'ipv6')
    refused({ mtu: 1000, ipv6: 'fc00::/64' }, 'ipv6')
    refused({ checksums: 'some' }, 'checksums')
    assert.throws(() => Lab.open(name), NotFoundError)
    assert.equal(Lab.remove(name), false)
    const lab = createTestLab(t)
    assert.throws(
      () => Lab.create({ name: lab.name }),
      (error) =>
        error instanceof XdpError && error.code === 'XDP_EXISTS' && /lab down/.test(error.hint ?? ''),
    )
    assert.equal(
      Lab.list().find(({ name }) => name === lab.name)?.complete,
      true,
      'the refused one harmed it',
    )
    assert.deepEqual(traces(name), [])
  })

  it('never takes a network that the machine has an address in', (t) => {
    const { a } = createTestLab(t, { isolated: false })
    const name = uniqueName()
    for (const network of [{ ipv4: `${a.ipv4}/28` }, { ipv6: `${a.ipv6}/48` }, { ipv4: `${a.ipv4}/16` }]) {
      assert.throws(() => Lab.create({ name, isolated: false, ...network }), {
        code: 'XDP_EXISTS',
        message: /address in/,
      })
    }
    assert.deepEqual(traces(name), [])
    // Its own namespaces have none.
    createTestLab(t, { ipv4: `${a.ipv4}/28` })
  })

  it('never takes a device that is not its own', (t) => {
    const name = uniqueName()
    const peer = uniqueName()
    createVeth({ name }, { name: peer })
    t.after(() => deleteLink(name))
    assert.throws(() => Lab.create({ name, isolated: false }), { code: 'XDP_EXISTS' })
    assert.equal(Lab.remove(name), false)
    assert.ok(listInterfaces().some((link) => link.name === name))
    assert.ok(!Namespace.list().some((namespace) => namespace.includes(name)))
  })

  it('does without IPv6 below its smallest MTU', async (t) => {
    const lab = createTestLab(t, { mtu: 600 })
    assert.equal(lab.a.ipv6, undefined)
    assert.deepEqual(
      listAddresses({ ifindex: lab.a.ifindex, namespace: lab.a.namespace }).map(({ version }) => version),
      [4],
    )
    assert.equal(await ping(lab, 'a', 4), '0')
  })
})
