// What a UDP server must refuse, leave to the kernel, or get right although it is rare: frames made by hand, and several servers.
import assert from 'node:assert/strict'
import { describe, it, type TestContext } from 'node:test'
import type { Lab } from '../../src/lab/index.js'
import {
  Headers,
  buildPacket,
  checkL4Checksum,
  formatIp,
  ipv4ChecksumValid,
  parseHeaders,
  type PacketDescription,
} from '../../src/packet/index.js'
import { createUdpServer } from '../../src/serve/index.js'
import { needsRoot, openDescriptors } from '../support/lab.js'
import { attachedAt, openAt, until } from '../support/xsk.js'
import { assertEchoes, echo, ipv6, script, serve, serverAt } from './udp-lab.js'

/** Sends frames from end `b` and gathers the UDP frames that come back there. */
async function wire(t: TestContext, lab: Lab) {
  const socket = await openAt(t, lab.b)
  const came: Uint8Array[] = []
  const running = socket.run((packet) => {
    const { protocol } = parseHeaders(packet.bytes, packet.offset, packet.length, new Headers())
    if (protocol === 17) came.push(packet.copy())
  })
  t.after(async () => {
    socket.stop()
    await running
  })
  const frame = (description: PacketDescription): Uint8Array =>
    buildPacket({ ethernet: { dst: lab.a.mac, src: lab.b.mac }, ...description })
  const send = (bytes: Uint8Array): void => {
    assert.ok(socket.send(bytes))
    socket.flush()
  }
  return { came, frame, send }
}

/** What there is to say of a UDP frame, when everything in it is right. */
function describeFrame(bytes: Uint8Array) {
  const h = parseHeaders(bytes, 0, bytes.length, new Headers())
  assert.equal(h.problem, 'none')
  assert.equal(checkL4Checksum(bytes, 17, h.l3Offset, h.l4Offset, h.payloadEnd), 'valid')
  if (h.ipVersion === 4) assert.ok(ipv4ChecksumValid(bytes, h.l3Offset))
  const [at, size] = h.ipVersion === 4 ? [h.l3Offset + 12, 4] : [h.l3Offset + 8, 16]
  return {
    src: formatIp(bytes.subarray(at, at + size)),
    dst: formatIp(bytes.subarray(at + size, at + 2 * size)),
    ports: [h.srcPort, h.dstPort],
    vlans: [h.outerVlan, h.vlanCount],
    text: Buffer.from(bytes.subarray(h.payloadOffset, h.payloadEnd)).toString(),
  }
}

describe('a UDP server, in the rare cases', { skip: needsRoot }, () => {
  it('keeps the tag of a VLAN that it serves, and leaves others to the kernel', async (t) => {
    const { lab, server, port } = await serve(t, { vlans: [100] })
    const { came, frame, send } = await wire(t, lab)
    const udp = { srcPort: 1111, dstPort: port }
    const over4 = { ipv4: { src: lab.b.ipv4, dst: lab.a.ipv4 }, udp }
    const over6 = { ipv6: { src: ipv6(lab.b), dst: ipv6(lab.a) }, udp }
    send(frame({ ...over4, vlans: [{ id: 200 }], payload: 'not yours' }))
    send(frame({ ...over4, vlans: [{ id: 100, priority: 3 }], payload: 'one' }))
    send(frame({ ...over6, vlans: [{ id: 100 }], payload: 'two' }))
    send(frame({ ...over4, payload: 'three' }))
    await until('all have come back', () => came.length === 3)
    const ports = [port, 1111]
    assert.deepEqual(came.map(describeFrame), [
      { src: lab.a.ipv4, dst: lab.b.ipv4, ports, vlans: [100, 1], text: 'one' },
      { src: ipv6(lab.a), dst: ipv6(lab.b), ports, vlans: [100, 1], text: 'two' },
      { src: lab.a.ipv4, dst: lab.b.ipv4, ports, vlans: [-1, 0], text: 'three' },
    ])
    assert.equal(server.group.statistics().rx.packets, 3)
  })

  it('drops what is damaged or to another machine, and answers what has no checksum or padding', async (t) => {
    const { lab, server, port } = await serve(t)
    const { came, frame, send } = await wire(t, lab)
    const ipv4 = { src: lab.b.ipv4, dst: lab.a.ipv4 }
    const six = { src: ipv6(lab.b), dst: ipv6(lab.a) }
    const udp = { srcPort: 1111, dstPort: port }
    send(frame({ ipv4, udp: { ...udp, checksum: 0x1234 }, payload: 'damaged' }))
    send(frame({ ipv4: { ...ipv4, checksum: 0x1234 }, udp, payload: 'damaged' }))
    send(frame({ ipv6: six, udp: { ...udp, checksum: 0 }, payload: 'damaged' }))
    send(frame({ ipv4, udp: { ...udp, length: 200 }, payload: 'damaged' }))
    send(frame({ ipv4, udp, payload: 'not yours', ethernet: { dst: '02:00:00:00:00:42', src: lab.b.mac } }))
    send(frame({ ipv4, udp: { ...udp, checksum: 0 }, payload: 'no checksum' }))
    send(frame({ ipv4, udp, payload: 'a', padTo: 60 }))
    send(frame({ ipv4, udp: { ...udp, srcPort: 0 }, payload: 'nowhere to' }))
    send(frame({ ipv4, udp, payload: '' }))
    await until('the last has come back', () => came.length === 3)
    assert.deepEqual(
      came.map((bytes) => describeFrame(bytes).text),
      ['no checksum', 'a', ''],
    )
    assert.deepEqual({ ...server.drops }, { damaged: 4, unwanted: 1, unresolved: 0 })
    assert.equal(server.counts.received, 4)
  })

  it('has fragments from the kernel, and answers them', async (t) => {
    const seen: string[] = []
    const { lab, server, port } = await serve(t, {}, (message) => {
      seen.push(`${message.via} ${message.length} ${message.address} ${message.localPort}`)
      message.reply()
    })
    for (const host of [lab.a.ipv4, ipv6(lab.a)]) {
      await assertEchoes(lab, host, port, [1400, 1500, 9000, 65_000])
    }
    assert.deepEqual(
      seen,
      [lab.b.ipv4, ipv6(lab.b)].flatMap((host) =>
        ['xdp 1400', 'kernel 1500', 'kernel 9000', 'kernel 65000'].map((what) => `${what} ${host} ${port}`),
      ),
    )
    assert.deepEqual([server.counts.received, server.counts.receivedByKernel], [2, 6])
  })

  it('has packets with IP options and extension headers from the kernel', async (t) => {
    const seen: string[] = []
    const { lab, port } = await serve(t, {}, (message) => {
      seen.push(`${message.via} ${message.toString()}`)
      message.reply()
    })
    const { came, frame, send } = await wire(t, lab)
    const udp = { srcPort: 1111, dstPort: port }
    const options = [{ type: 1, data: new Uint8Array(0) }]
    send(frame({ ipv4: { src: lab.b.ipv4, dst: lab.a.ipv4, options }, udp, payload: 'options' }))
    // Destination options: PadN over the rest.
    const extensions = [{ header: 60 as const, body: Uint8Array.of(1, 4, 0, 0, 0, 0) }]
    send(frame({ ipv6: { src: ipv6(lab.b), dst: ipv6(lab.a), extensions }, udp, payload: 'extensions' }))
    await until('both have come back', () => came.length === 2)
    assert.deepEqual(seen.sort(), ['kernel extensions', 'kernel options'])
    assert.deepEqual(came.map((bytes) => describeFrame(bytes).text).sort(), ['extensions', 'options'])
  })

  it('answers a small question with more than the MTU, from the address that was asked', async (t) => {
    const { lab, port } = await serve(
      t,
      {},
      (message) => void message.reply(Buffer.alloc(Number(message.toString()), 7)),
    )
    const sizes = await script<number[]>(
      lab,
      'b',
      `const socket = await open('${lab.a.ipv4}')
      const sizes = []
      for (const size of ['1472', '1473', '5000'])
        sizes.push((await ask(socket, size, ${port}, '${lab.a.ipv4}')).message.length)
      socket.close()
      say(sizes)`,
    )
    assert.deepEqual(sizes, [1472, 1473, 5000])
  })

  it('takes what comes with its checksum left to a device', async (t) => {
    const { lab, server, port } = await serve(t, {}, echo, { checksums: 'offload' })
    for (const host of [lab.a.ipv4, ipv6(lab.a)]) {
      const answer = await script<string>(
        lab,
        'b',
        `const socket = await open('${host}')
        say((await ask(socket, 'hello', ${port}, '${host}')).message.toString())
        socket.close()`,
      )
      assert.equal(answer, 'hello')
    }
    assert.equal(server.counts.received, 2)
  })

  it('takes only the addresses it was told to', async (t) => {
    const { lab, server } = await serve(t)
    await server.close()
    const other = lab.a.ipv4.replace(/\d+$/, '50')
    const added = await lab.exec('a', 'ip', ['addr', 'add', `${other}/24`, 'dev', lab.a.interface])
    assert.equal(added.status, 0, added.stderr)
    const one = await serverAt(
      t,
      lab,
      { port: 4400, addresses: [lab.a.ipv4] },
      (message) => void message.reply('one'),
    )
    const two = await serverAt(
      t,
      lab,
      { port: 4400, addresses: [other] },
      (message) => void message.reply('two'),
    )
    const answers = await script<string[]>(
      lab,
      'b',
      `const socket = await open('${other}')
      const answers = []
      for (const host of ['${lab.a.ipv4}', '${other}'])
        answers.push(String((await ask(socket, 'who', 4400, host)).message))
      say(answers)
      socket.close()`,
    )
    assert.deepEqual(answers, ['one', 'two'])
    assert.equal(one.group, two.group)
    assert.deepEqual([one.counts.received, two.counts.received], [1, 1])
    await one.close()
    // The other goes on.
    const { message } = await script<{ message: string }>(
      lab,
      'b',
      `const socket = await open('${other}')
      say({ message: String((await ask(socket, 'who', 4400, '${other}')).message) })
      socket.close()`,
    )
    assert.equal(message, 'two')
  })

  it('takes addresses that the interface gets later', async (t) => {
    const { lab, server, port } = await serve(t)
    const late = lab.a.ipv4.replace(/\d+$/, '60')
    const added = await lab.exec('a', 'ip', ['addr', 'add', `${late}/24`, 'dev', lab.a.interface])
    assert.equal(added.status, 0, added.stderr)
    let asked = 0
    // By the kernel's socket until the announcement has come.
    while (server.counts.received === 0) {
      assert.ok(asked++ < 100)
      await script(
        lab,
        'b',
        `const socket = await open('${late}')
        await ask(socket, 'hello', ${port}, '${late}')
        socket.close()
        say(null)`,
      )
    }
    assert.equal(server.counts.receivedByKernel, asked - 1)
  })

  it('keeps no frame for what is no payload', async (t) => {
    const { lab, server } = await serve(t)
    // Its frames wait for packets, and some are free.
    const held = () => server.group.sockets.map((socket) => socket.statistics().frames)
    const before = held()
    for (const payload of [5, undefined, null, [1, 2]])
      assert.throws(() => server.send(payload as never, 9, lab.b.ipv4), { option: 'payload' })
    assert.deepEqual(held(), before)
  })

  it('refuses a port that somebody has, and ports and addresses that cannot be', async (t) => {
    const { lab, port } = await serve(t)
    const { interface: name, namespace } = lab.a
    const refused = (options: object, code: string) =>
      assert.rejects(createUdpServer({ interface: name, namespace, port, ...options }, echo), { code })
    await refused({}, 'EADDRINUSE')
    await refused({ kernelSocket: false }, 'EADDRINUSE')
    await refused({ port: 65_536 }, 'XDP_BAD_OPTION')
    await refused({ port: [] }, 'XDP_BAD_OPTION')
    await refused({ port: [53, 53] }, 'XDP_BAD_OPTION')
    await refused({ port: 0, kernelSocket: false }, 'XDP_BAD_OPTION')
    await refused({ port: 1, addresses: ['example.org'] }, 'XDP_BAD_OPTION')
    await refused({ port: 1, addresses: ['192.0.2.1'] }, 'EADDRNOTAVAIL')
    await refused({ port: 1, interface: 'nothere0' }, 'XDP_NOT_FOUND')
    await refused({ port: 1, mode: 'generic' }, 'XDP_BAD_OPTION')
    await refused({ port: 1, interface: undefined }, 'XDP_NOT_FOUND')
  })

  it('ends with what its handler throws, gives the port back, and leaves nothing open', async (t) => {
    const { lab, server, port } = await serve(t)
    await server.close()
    const before = openDescriptors()
    const failing = await serverAt(t, lab, { port }, () => {
      throw new RangeError('the handler has a fault')
    })
    const rejected = assert.rejects(failing.closed, { message: 'the handler has a fault' })
    await script(
      lab,
      'b',
      `const socket = await open('${lab.a.ipv4}')
      socket.send('x', ${port}, '${lab.a.ipv4}', () => { socket.close(); say(null) })`,
    )
    await rejected
    await failing.close()
    assert.deepEqual(attachedAt(lab.a), [])
    assert.deepEqual(openDescriptors(), before)
    const again = await serverAt(t, lab, { port })
    assert.deepEqual(again.ports, [port])
  })

  it('refuses a second reply, and one after the handler has returned', async (t) => {
    let kept: { reply(payload?: string): boolean } | undefined
    const { lab, port } = await serve(t, {}, (message) => {
      kept = message
      message.reply('once')
      assert.throws(() => message.reply('twice'), { code: 'XDP_STATE' })
    })
    const answer = await script<string>(
      lab,
      'b',
      `const socket = await open('${lab.a.ipv4}')
      say(String((await ask(socket, 'x', ${port}, '${lab.a.ipv4}')).message))
      socket.close()`,
    )
    assert.equal(answer, 'once')
    assert.throws(() => kept?.reply('late'), { code: 'XDP_STATE' })
  })
})
