// The ping responder judged by the system's ping and by tcpdump, and by what it must leave to the kernel.
import assert from 'node:assert/strict'
import { describe, it, type TestContext } from 'node:test'
import { getNeighbour } from '../../src/kernel/netlink/index.js'
import type { Lab, LabOptions } from '../../src/lab/index.js'
import { buildPacket, formatMac, parseIp } from '../../src/packet/index.js'
import { PingServer, type PingServerOptions } from '../../src/serve/index.js'
import { createTestLab, needsRoot, openDescriptors } from '../support/lab.js'
import { assertNoLoss, ping } from '../support/ping.js'
import { startTcpdump } from '../support/tcpdump.js'
import { attachedAt, openAt, until } from '../support/xsk.js'

/** A lab with a running server at end `a`; its frames are all home at the end. */
async function serve(
  t: TestContext,
  options: Partial<PingServerOptions> = {},
  labOptions: LabOptions = {},
): Promise<{ lab: Lab; server: PingServer; stop: () => Promise<void> }> {
  const lab = createTestLab(t, labOptions)
  const { interface: name, namespace } = lab.a
  const server = await PingServer.open({ interface: name, namespace, trackFrames: true, ...options })
  const running = server.group.run(server.handle)
  let stopped: Promise<void> | undefined
  const stop = () => {
    stopped ??= (async () => {
      server.group.stop()
      await running
      for (const socket of server.group.sockets) {
        await socket.drain()
        const { free, fill, total } = socket.frames()
        assert.equal(free + fill, total)
      }
      await server.close()
    })()
    return stopped
  }
  t.after(stop)
  return { lab, server, stop }
}

const ipv6 = (end: { ipv6: string | undefined }): string => end.ipv6 as string

describe('the ping server', { skip: needsRoot }, () => {
  for (const mode of ['native', 'generic'] as const) {
    for (const queues of [1, 2]) {
      it(`answers every ping, IPv4 and IPv6, in ${mode} mode on ${queues} queue(s)`, async (t) => {
        const { lab, server } = await serve(t, { mode }, { queues })
        await assertNoLoss(lab, ['-c', '20', '-i', '0.002', lab.a.ipv4])
        await assertNoLoss(lab, ['-c', '20', '-i', '0.002', ipv6(lab.a)])
        const { echo4, echo6, ignored } = server.counts
        assert.deepEqual({ echo4, echo6, ignored }, { echo4: 20, echo6: 20, ignored: 0 })
        assert.equal(server.group.statistics().tx.packets, 40)
      })
    }
  }

  it('answers pings of every size up to the MTU, with their own bytes', async (t) => {
    const { lab, server } = await serve(t)
    let count = 0
    for (const size of [0, 1, 7, 8, 15, 16, 17, 55, 56, 57, 100, 512, 1000, 1399, 1471, 1472]) {
      // -p: a pattern that ping itself compares; it says "wrong data byte" if one differs.
      await assertNoLoss(lab, ['-c', '2', '-i', '0.002', '-s', String(size), '-p', 'a55a0ff0', lab.a.ipv4])
      if (size <= 1452) {
        await assertNoLoss(lab, ['-c', '2', '-i', '0.002', '-s', String(size), '-p', 'a55a0ff0', ipv6(lab.a)])
      }
      count++
    }
    assert.equal(server.counts.echo4, 2 * count)
    assert.equal(server.counts.echo6, 2 * (count - 2))
  })

  it('loses none of 500 pings at 2 ms, of an adaptive ping, and of a flood', async (t) => {
    const { lab, server } = await serve(t)
    await assertNoLoss(lab, ['-q', '-i', '0.002', '-c', '500', lab.a.ipv4])
    await assertNoLoss(lab, ['-q', '-A', '-c', '500', ipv6(lab.a)])
    await assertNoLoss(lab, ['-q', '-f', '-c', '2000', lab.a.ipv4])
    assert.equal(server.counts.echo4, 2500)
    assert.equal(server.counts.echo6, 500)
  })

  it('writes checksums and headers that tcpdump finds right', async (t) => {
    const { lab } = await serve(t)
    const filter = 'icmp or icmp6 or arp'
    const tcpdump = await startTcpdump(lab, 'b', ['-n', '-e', '-vv', '-l', filter])
    await forgetNeighbours(lab)
    for (const size of ['0', '1', '56', '333']) {
      await assertNoLoss(lab, ['-c', '2', '-i', '0.002', '-s', size, lab.a.ipv4])
      await assertNoLoss(lab, ['-c', '2', '-i', '0.002', '-s', size, ipv6(lab.a)])
    }
    await until('tcpdump has seen all', () => (tcpdump.text.match(/echo reply/g) ?? []).length === 16)
    const { text } = tcpdump
    assert.equal((text.match(/icmp6 sum ok] ICMP6, echo reply/g) ?? []).length, 8)
    assert.doesNotMatch(text, /bad cksum|wrong|incorrect|bad length|truncated|bad icmp|bad icmp6/i)
    assert.match(text, /Reply .* is-at/)
    assert.match(text, /neighbor advertisement/)
    tcpdump.child.kill('SIGKILL')
  })

  it('answers ARP and neighbour solicitations when the other end knows nobody, by itself', async (t) => {
    const { lab, server } = await serve(t)
    await forgetNeighbours(lab)
    await assertNoLoss(lab, ['-c', '3', '-i', '0.002', lab.a.ipv4])
    await assertNoLoss(lab, ['-c', '3', '-i', '0.002', ipv6(lab.a)])
    assert.ok(server.counts.arp >= 1)
    assert.ok(server.counts.neighbour >= 1)
    for (const address of [lab.a.ipv4, ipv6(lab.a)]) {
      const neighbour = getNeighbour(lab.b.ifindex, parseIp(address) as Uint8Array, lab.b)
      assert.equal(neighbour?.mac && formatMac(neighbour.mac), lab.a.mac)
    }
    const { arp } = server.counts
    const { status } = await lab.exec('b', 'ip', ['neigh', 'flush', 'all'])
    assert.equal(status, 0)
    await assertNoLoss(lab, ['-c', '3', '-i', '0.002', lab.a.ipv4])
    assert.ok(server.counts.arp > arp)
  })

  it('leaves pings to other addresses alone', async (t) => {
    const { lab, server } = await serve(t)
    const other = lab.a.ipv4.replace(/\d+$/, '77')
    const other6 = ipv6(lab.a).replace(/1$/, '77')
    // The other end is told that they are here, so that the pings do arrive.
    for (const address of [other, other6]) {
      const { status, stderr } = await lab.exec('b', 'ip', [
        'neigh',
        'add',
        address,
        'lladdr',
        lab.a.mac,
        'dev',
        lab.b.interface,
      ])
      assert.equal(status, 0, stderr)
      assert.equal((await ping(lab, ['-c', '2', '-i', '0.002', '-W', '0.2', address])).received, 0)
    }
    assert.deepEqual(server.counts, { echo4: 0, echo6: 0, arp: 0, neighbour: 0, ignored: 0 })
    assert.equal(server.group.statistics().rx.packets, 0)
    // Without a neighbour entry: the questions are not ours to answer either.
    const unknown = lab.a.ipv4.replace(/\d+$/, '78')
    assert.equal((await ping(lab, ['-c', '1', '-W', '0.2', unknown])).received, 0)
    assert.equal(server.counts.arp, 0)
  })

  it('answers for addresses added by option, and for those the interface got since', async (t) => {
    const extra = '10.11.1.200'
    const { lab, server } = await serve(t, { addresses: [parseIp(extra) as Uint8Array] })
    await assertNoLoss(lab, ['-c', '2', '-i', '0.002', extra])
    assert.equal(server.counts.echo4, 2)
    assert.ok(server.counts.arp >= 1)
    const late = '10.11.1.201'
    const { status } = await lab.exec('a', 'ip', ['address', 'add', `${late}/32`, 'dev', lab.a.interface])
    assert.equal(status, 0)
    await assertNoLoss(lab, ['-c', '2', '-i', '0.002', late]) // the kernel's
    assert.equal(server.counts.echo4, 2)
    assert.equal(server.refreshAddresses().length, 4)
    await assertNoLoss(lab, ['-c', '2', '-i', '0.002', late])
    assert.equal(server.counts.echo4, 4)
  })

  it('passes fragments to the kernel, which puts them together and answers', async (t) => {
    const { lab, server } = await serve(t)
    await assertNoLoss(lab, ['-c', '3', '-i', '0.01', '-s', '4000', lab.a.ipv4])
    await assertNoLoss(lab, ['-c', '3', '-i', '0.01', '-s', '4000', ipv6(lab.a)])
    assert.deepEqual(server.counts, { echo4: 0, echo6: 0, arp: 0, neighbour: 0, ignored: 0 })
  })

  for (const mode of ['native', 'generic'] as const) {
    it(`answers pings that are longer than a frame, with their own bytes, in ${mode} mode`, async (t) => {
      const { lab, server } = await serve(t, { mode }, { mtu: 9000 })
      // A frame of 2048 bytes has room for 1792: by IPv6 these are pings of 1730 bytes, by IPv4 of 1750.
      const sizes = [56, 1730, 1731, 1750, 1751, 8000, 8952]
      for (const size of sizes) {
        const args = ['-c', '2', '-i', '0.002', '-M', 'do', '-s', `${size}`, '-p', 'a55a0ff0']
        await assertNoLoss(lab, [...args, lab.a.ipv4])
        await assertNoLoss(lab, [...args, ipv6(lab.a)])
      }
      const { echo4, echo6, ignored } = server.counts
      const answered = 2 * sizes.length
      assert.deepEqual({ echo4, echo6, ignored }, { echo4: answered, echo6: answered, ignored: 0 })
      assert.equal(server.group.statistics().tx.packets, 2 * answered)
    })
  }

  it('answers what fits into a frame, and leaves the rest to be counted, without several buffers', async (t) => {
    const { lab, server } = await serve(t, { multiBuffer: false }, { mtu: 9000 })
    await assertNoLoss(lab, ['-c', '2', '-i', '0.002', '-s', '1750', lab.a.ipv4])
    const long = ['-c', '1', '-W', '0.2', '-M', 'do', '-s', '1751', lab.a.ipv4]
    assert.equal((await ping(lab, long)).received, 0)
    assert.equal(server.counts.echo4, 2)
    assert.equal(server.group.statistics().kernel.rxDropped, 1)
  })

  for (const checksums of ['full', 'offload'] as const) {
    it(`leaves TCP and UDP to the kernel while it answers pings (checksums: ${checksums})`, async (t) => {
      const { lab, server } = await serve(t, {}, { checksums })
      const backend = lab.spawn('a', process.execPath, ['-e', ECHO_SERVERS], {
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      let said = ''
      backend.stdout?.setEncoding('utf8').on('data', (text: string) => (said += text))
      await until('the servers listen', () => said.includes('\n'))
      const { tcp, udp } = JSON.parse(said) as { tcp: number; udp: number }
      const pinging = assertNoLoss(lab, ['-q', '-i', '0.002', '-c', '200', lab.a.ipv4])
      for (const host of [lab.a.ipv4, ipv6(lab.a)]) {
        const { status, stdout, stderr } = await lab.exec('b', process.execPath, [
          '-e',
          client(host, tcp, udp),
        ])
        assert.equal(status, 0, stderr)
        assert.deepEqual(JSON.parse(stdout), { tcp: 300_000, udp: 'hello' })
      }
      await pinging
      assert.equal(server.counts.echo4, 200)
      backend.kill('SIGKILL')
    })
  }

  it('does not disturb pings from its own end', async (t) => {
    const { lab, server } = await serve(t)
    const { stdout } = await lab.exec('a', 'ping', ['-n', '-c', '3', '-i', '0.002', '-W', '2', lab.b.ipv4])
    assert.match(stdout, / 3 received/)
    assert.equal(server.counts.echo4, 0)
  })

  it('answers no ping that is damaged or goes to a group', async (t) => {
    const { lab, server } = await serve(t)
    const sender = await openAt(t, lab.b)
    const request = (change: (frame: Uint8Array) => void = () => undefined, dst = lab.a.mac) => {
      const frame = buildPacket({
        ethernet: { src: lab.b.mac, dst },
        ipv4: { src: lab.b.ipv4, dst: lab.a.ipv4 },
        icmp: { type: 8, code: 0, identifier: 7, sequence: 1 },
        payload: 'twenty bytes of text',
      })
      change(frame)
      return frame
    }
    const cases: Record<string, Uint8Array> = {
      'IPv4 header cut off': request().slice(0, 20),
      'total length beyond the end': request((frame) => (frame[17] = 200)),
      'code 1': request((frame) => (frame[35] = 1)),
      'to a group of hosts': request(undefined, 'ff:ff:ff:ff:ff:ff'),
      'from an address of all': request((frame) => frame.fill(255, 26, 30)),
    }
    for (const frame of Object.values(cases)) assert.ok(sender.send(frame))
    assert.ok(sender.send(request()))
    await sender.drain()
    const back: Uint8Array[] = []
    await until('the good one is answered', () => {
      sender.receive((packet) => {
        if (packet.bytes[packet.offset + 23] === 1) back.push(packet.copy())
      })
      return server.counts.echo4 > 0 && back.some((frame) => frame[34] === 0 && frame[35] === 0)
    })
    assert.equal(server.counts.echo4, 1, JSON.stringify(server.counts))
  })

  it('answers no ping to its address that was sent to another machine', async (t) => {
    // A switch floods what it does not know; a port may be mirrored: such a frame is somebody else's (PACKET_OTHERHOST).
    const { lab, server } = await serve(t)
    const sender = await openAt(t, lab.b)
    const request = (dst: string) =>
      buildPacket({
        ethernet: { src: lab.b.mac, dst },
        ipv4: { src: lab.b.ipv4, dst: lab.a.ipv4 },
        icmp: { type: 8, code: 0, identifier: 7, sequence: 1 },
      })
    assert.ok(sender.send(request('02:00:00:00:00:99')))
    assert.ok(sender.send(request(lab.a.mac)))
    await sender.drain()
    await until('both were looked at', () => server.counts.echo4 + server.counts.ignored >= 2)
    await sender.drain()
    assert.equal(server.counts.echo4, 1)
  })

  for (const [what, options, code] of [
    ['of no queue', { queues: [] }, 'XDP_BAD_OPTION'],
    ['of a queue that is not there', { queues: [7] }, 'XDP_BAD_OPTION'],
    ['for more addresses than the program holds', { addresses: manyAddresses(2000) }, undefined],
    ['for an address of 5 bytes', { addresses: [new Uint8Array(5)] }, 'XDP_BAD_OPTION'],
  ] as const) {
    it(`${what} is refused, and leaves nothing attached or open`, async (t) => {
      const lab = createTestLab(t)
      const before = openDescriptors()
      const { interface: name, namespace } = lab.a
      await assert.rejects(
        PingServer.open({ interface: name, namespace, ...options }),
        (error: Error & { code?: string }) => {
          assert.ok(error.code, String(error))
          if (code) assert.equal(error.code, code)
          return true
        },
      )
      assert.deepEqual(attachedAt(lab.a), [])
      assert.deepEqual(openDescriptors(), before)
    })
  }

  it('gives the interface back to the kernel when it is closed', async (t) => {
    const { lab, server, stop } = await serve(t)
    await assertNoLoss(lab, ['-c', '2', '-i', '0.002', lab.a.ipv4])
    await stop()
    assert.deepEqual(attachedAt(lab.a), [])
    await assertNoLoss(lab, ['-c', '2', '-i', '0.002', lab.a.ipv4])
    assert.equal(server.counts.echo4, 2)
  })
})

/** The other end forgets its static neighbours: it has to ask. */
async function forgetNeighbours(lab: Lab): Promise<void> {
  for (const address of [lab.a.ipv4, ipv6(lab.a)]) {
    const { status, stderr } = await lab.exec('b', 'ip', ['neigh', 'del', address, 'dev', lab.b.interface])
    assert.equal(status, 0, stderr)
  }
}

function manyAddresses(count: number): Uint8Array[] {
  return Array.from({ length: count }, (_, i) => Uint8Array.of(10, 99, i >> 8, i & 0xff))
}

/** A TCP and a UDP server, each of which sends back what it gets. */
const ECHO_SERVERS = `
  const tcp = require('node:net').createServer((socket) => socket.pipe(socket)).listen(0, '::', () => {
    const udp = require('node:dgram').createSocket('udp6')
    udp.on('message', (message, { port, address }) => udp.send(message, port, address))
    udp.bind(0, '::', () => console.log(JSON.stringify({ tcp: tcp.address().port, udp: udp.address().port })))
  })`

/** Sends 300 000 bytes by TCP and a word by UDP, and says what came back. */
const client = (host: string, tcp: number, udp: number) => `
  const host = ${JSON.stringify(host)}
  let bytes = 0
  const socket = require('node:net').connect(${tcp}, host, () => socket.end(Buffer.alloc(300_000)))
  socket.on('data', (chunk) => (bytes += chunk.length))
  socket.on('end', () => {
    const datagram = require('node:dgram').createSocket(host.includes(':') ? 'udp6' : 'udp4')
    datagram.on('message', (message) => {
      console.log(JSON.stringify({ tcp: bytes, udp: message.toString() }))
      datagram.close()
    })
    datagram.send('hello', ${udp}, host)
  })`
