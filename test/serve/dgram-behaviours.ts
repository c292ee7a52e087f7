// What a dgram socket does, one function a behaviour, run in a process of its own: once with node:dgram, once with ours.
import assert from 'node:assert/strict'
import type nodeDgram from 'node:dgram'
import events from 'node:events'
import { pathToFileURL } from 'node:url'

type Dgram = typeof nodeDgram
type Socket = nodeDgram.Socket

/** Where the other end is: it answers every datagram with itself. */
export interface Peer {
  own4: string
  own6: string
  peer4: string
  peer6: string
  port: number
}

/** Binds, and waits for it. */
async function bound(
  socket: Socket,
  where: number | nodeDgram.BindOptions,
  address?: string,
): Promise<Socket> {
  const listening = once(socket, 'listening')
  if (typeof where === 'number') socket.bind(where, address)
  else socket.bind(where)
  await listening
  return socket
}

const next = async (socket: Socket): Promise<[Buffer, nodeDgram.RemoteInfo]> =>
  (await once(socket, 'message')) as [Buffer, nodeDgram.RemoteInfo]

/** The next event of that name, or an error after a time that no working machine needs. */
const once = (emitter: events.EventEmitter, name: string) =>
  events.once(emitter, name, { signal: AbortSignal.timeout(60_000) })

const codeOf = (error: NodeJS.ErrnoException | null): string | undefined => error?.code

const thrown = (work: () => unknown): string | undefined => {
  try {
    work()
  } catch (error) {
    return (error as NodeJS.ErrnoException).code
  }
  return undefined
}

/** Each answers with what is to be the same for both implementations. */
export const behaviours: Record<string, (dgram: Dgram, peer: Peer) => Promise<unknown>> = {
  'bind to any address, and say where': async (dgram) => {
    const socket = dgram.createSocket('udp4')
    const before = thrown(() => socket.address())
    let calls = 0
    await new Promise<void>((done) => {
      assert.equal(
        socket.bind(function (this: unknown) {
          assert.equal(this, socket)
          calls++
          done()
        }),
        socket,
      )
    })
    const { address, family, port } = socket.address()
    assert.ok(port > 0)
    const twice = thrown(() => socket.bind(0))
    socket.close()
    return { before, address, family, twice, calls, closed: thrown(() => socket.address()) }
  },

  'be made with a signal that is aborted already': async (dgram) => {
    const socket = dgram.createSocket({ type: 'udp4', signal: AbortSignal.abort() })
    await once(socket, 'close')
    return [thrown(() => socket.address()), thrown(() => socket.bind(0))]
  },

  'bind to an address and port, in both forms': async (dgram, { own4 }) => {
    const first = await bound(dgram.createSocket('udp4'), 5353, own4)
    const second = await bound(dgram.createSocket({ type: 'udp4' }), { port: 5354, address: own4 })
    const addresses = [first.address(), second.address()]
    first.close()
    second.close()
    return addresses
  },

  'deliver a message with its sender': async (dgram, { peer4, port }) => {
    const socket = await bound(dgram.createSocket('udp4'), 0)
    socket.send('hello', port, peer4)
    const [message, { address, family, port: from, size }] = await next(socket)
    assert.ok(Buffer.isBuffer(message))
    assert.equal(from, port)
    // It is the listener's to keep.
    socket.send('other', port, peer4)
    await next(socket)
    socket.close()
    return { message: message.toString(), address, family, size }
  },

  'take a listener at creation': async (dgram, { peer4, port }) => {
    const got = await new Promise<string>((done) => {
      const socket: Socket = dgram.createSocket('udp4', function (this: unknown, message) {
        assert.equal(this, socket)
        socket.close()
        done(message.toString())
      })
      socket.send('unbound', port, peer4)
    })
    return got
  },

  'send in all its forms': async (dgram, { peer4, port }) => {
    const socket = await bound(dgram.createSocket('udp4'), 0)
    const results: unknown[] = []
    const words = Uint16Array.of(0x4241, 0x4443)
    const view = new DataView(Buffer.from('a view of it').buffer.slice(0), 0, 0)
    const forms: [name: string, send: (done: (error: Error | null, bytes: number) => void) => void][] = [
      ['string', (done) => socket.send('text', port, peer4, done)],
      ['utf8', (done) => socket.send('tëxt', port, peer4, done)],
      ['buffer', (done) => socket.send(Buffer.from('buffer'), port, peer4, done)],
      ['words', (done) => socket.send(words, port, peer4, done)],
      ['empty view', (done) => socket.send(view, port, peer4, done)],
      ['range', (done) => socket.send(Buffer.from('a range'), 2, 5, port, peer4, done)],
      ['range of text', (done) => socket.send('a range', 2, 3, port, peer4, done)],
      ['list', (done) => socket.send(['a', Buffer.from(' '), 'list'], port, peer4, done)],
      ['empty list', (done) => socket.send([], port, peer4, done)],
      ['empty', (done) => socket.send('', port, peer4, done)],
      ['long', (done) => socket.send(Buffer.alloc(1472, 'x'), port, peer4, done)],
      ['fragments', (done) => socket.send(Buffer.alloc(20_000, 'y'), port, peer4, done)],
    ]
    for (const [name, send] of forms) {
      const answer = next(socket)
      const called = await new Promise((done) => send((error, bytes) => done([error, bytes])))
      const [message] = await answer
      results.push([name, called, message.length, message.subarray(0, 20).toString('latin1')])
    }
    socket.close()
    return results
  },

  'send without a callback, many at once, in order': async (dgram, { peer4, port }) => {
    const socket = await bound(dgram.createSocket('udp4'), 0)
    const got: string[] = []
    const all = new Promise<void>((done) => {
      socket.on('message', (message) => {
        got.push(message.toString())
        if (got.length === 200) done()
      })
    })
    for (let i = 0; i < 200; i++) socket.send(`number ${i}`, port, peer4)
    await all
    socket.close()
    return got.length
  },

  'send to itself, by loopback and by name': async (dgram) => {
    const socket = await bound(dgram.createSocket('udp4'), 0)
    const { port } = socket.address()
    const got: unknown[] = []
    for (const send of [
      () => socket.send('no address', port),
      () => socket.send('loopback', port, '127.0.0.1'),
      () => socket.send('by name', port, 'localhost'),
    ]) {
      const answer = next(socket)
      send()
      const [message, { address }] = await answer
      got.push([message.toString(), address])
    }
    socket.close()
    return got
  },

  'stay on loopback when bound there': async (dgram) => {
    const socket = await bound(dgram.createSocket('udp4'), 0, '127.0.0.1')
    const answer = next(socket)
    socket.send('loopback', socket.address().port, '127.0.0.1')
    const [message, { address }] = await answer
    socket.close()
    return [message.toString(), address]
  },

  'refuse what cannot be sent': async (dgram, { peer4, port }) => {
    const socket = await bound(dgram.createSocket('udp4'), 0)
    const wrong = socket.send.bind(socket) as (...values: unknown[]) => void
    const codes = [
      thrown(() => wrong('x', 0, peer4)),
      thrown(() => wrong('x', 65_536, peer4)),
      thrown(() => wrong('x')),
      thrown(() => wrong(5, port, peer4)),
      thrown(() => wrong(['x', 5], port, peer4)),
      thrown(() => wrong('x', port, 5)),
      thrown(() => wrong(Buffer.from('x'), 0, 5, port, peer4)),
      thrown(() => wrong(Buffer.from('x'), -1, 1, port, peer4)),
    ]
    const failed = (payload: Buffer, host: string) =>
      new Promise<unknown>((done) => socket.send(payload, port, host, (error) => done(codeOf(error))))
    const later = [await failed(Buffer.alloc(65_508), peer4), await failed(Buffer.alloc(1), '203.0.113.1')]
    socket.close()
    codes.push(
      thrown(() => socket.send('x', port, peer4)),
      thrown(() => socket.close()),
      thrown(() => socket.bind()),
    )
    return { codes, later }
  },

  'say that a port is taken': async (dgram) => {
    const first = await bound(dgram.createSocket('udp4'), 0)
    const second = dgram.createSocket('udp4')
    const failed = once(second, 'error')
    second.bind(first.address().port, () => assert.fail('it is bound'))
    const [error] = (await failed) as [NodeJS.ErrnoException]
    first.close()
    second.close()
    return [error.code, error.syscall]
  },

  'connect, and hear one peer only': async (dgram, { own4, peer4, port }) => {
    const socket = dgram.createSocket('udp4')
    const before = thrown(() => socket.remoteAddress())
    await new Promise<void>((done) => socket.connect(port, peer4, done))
    const remote = socket.remoteAddress()
    const other = await bound(dgram.createSocket('udp4'), 0)
    const heard: string[] = []
    socket.on('message', (message) => heard.push(message.toString()))
    other.send('not from the peer', socket.address().port, own4)
    const wrong = socket.send.bind(socket) as (...values: unknown[]) => void
    const codes = [thrown(() => wrong('x', 0, 1, port, peer4)), thrown(() => socket.connect(port, peer4))]
    for (const send of [
      () => socket.send('by two'),
      () => socket.send('one'),
      () => socket.send(Buffer.from('a two'), 2, 3),
      () => socket.send(['th', 'ree']),
    ]) {
      const answer = next(socket)
      send()
      await answer
    }
    const sent = await new Promise((done) => socket.send('four', (error, bytes) => done([error, bytes])))
    await next(socket)
    socket.disconnect()
    const after = [thrown(() => socket.remoteAddress()), thrown(() => socket.disconnect())]
    const again = next(socket)
    socket.send('five', port, peer4)
    await again
    socket.close()
    other.close()
    const { address, family } = remote
    return { before, address, family, codes, sent, after, heard }
  },

  'hear that nobody listens, when connected': async (dgram, { peer4 }) => {
    const socket = dgram.createSocket('udp4')
    await new Promise<void>((done) => socket.connect(9, peer4, done))
    const failed = once(socket, 'error')
    socket.send('anybody?')
    const [error] = (await failed) as [NodeJS.ErrnoException]
    socket.close()
    return error.code
  },

  'close once, and hear nothing afterwards': async (dgram, { peer4, port }) => {
    const socket = await bound(dgram.createSocket('udp4'), 0)
    const events: string[] = []
    socket.on('message', () => events.push('message'))
    socket.on('close', () => events.push('close'))
    socket.send('late', port, peer4)
    await new Promise<void>((done) => assert.equal(socket.close(done), socket))
    await new Promise((done) => setTimeout(done, 50))
    return events
  },

  'close before it listens': async (dgram) => {
    const socket = dgram.createSocket('udp4')
    socket.on('listening', () => undefined)
    socket.bind(0)
    const closed = once(socket, 'close')
    socket.close()
    await closed
    return 'closed'
  },

  'bind a port again after close': async (dgram, { peer4, port }) => {
    const got: string[] = []
    for (let i = 0; i < 3; i++) {
      const socket = await bound(dgram.createSocket('udp4'), 6000)
      const answer = next(socket)
      socket.send(`round ${i}`, port, peer4)
      got.push((await answer)[0].toString())
      const closed = once(socket, 'close')
      socket.close()
      await closed
    }
    return got
  },

  'close on a signal': async (dgram) => {
    const control = new AbortController()
    const socket = await bound(dgram.createSocket({ type: 'udp4', signal: control.signal }), 0)
    const closed = once(socket, 'close')
    control.abort()
    await closed
    return thrown(() => socket.address())
  },

  'let the process end when it is not to be waited for': async (dgram, { peer4, port }) => {
    const socket = await bound(dgram.createSocket('udp4'), 0)
    const answer = next(socket)
    socket.send('hello', port, peer4)
    await answer
    assert.equal(socket.unref(), socket)
    assert.equal(socket.ref(), socket)
    socket.unref()
    return 'ends by itself'
  },

  'set what sockets can be set': async (dgram, { own4, peer4, port }) => {
    const socket = await bound(dgram.createSocket('udp4'), 0)
    const broadcast = own4.replace(/\d+$/, '255')
    const refused = await new Promise<unknown>((done) =>
      socket.send('x', 9, broadcast, (error) => done(codeOf(error))),
    )
    socket.setBroadcast(true)
    const allowed = await new Promise<unknown>((done) =>
      socket.send('x', 9, broadcast, (error) => done(error)),
    )
    socket.setRecvBufferSize(65_536)
    socket.setMulticastTTL(3)
    socket.setMulticastLoopback(true)
    socket.addMembership('239.1.2.3', own4)
    socket.setMulticastInterface(own4)
    const group = next(socket)
    socket.send('to the group', socket.address().port, '239.1.2.3')
    const [message] = await group
    socket.dropMembership('239.1.2.3', own4)
    const ttl = socket.setTTL(7)
    const answer = next(socket)
    socket.send('short-lived', port, peer4)
    const [last] = await answer
    const size = socket.getRecvBufferSize()
    socket.close()
    return { refused, allowed, size, ttl, message: message.toString(), last: last.toString() }
  },

  'speak IPv6': async (dgram, { own6, peer6, port }) => {
    const socket = await bound(dgram.createSocket({ type: 'udp6', ipv6Only: true }), 0, own6)
    const answer = next(socket)
    socket.send('hello', port, peer6)
    const [message, { address, family, size }] = await answer
    const own = socket.address()
    socket.close()
    return { message: message.toString(), address, family, size, own: [own.address, own.family] }
  },

  'speak both over one socket': async (dgram, { peer4, peer6, port }) => {
    const socket = await bound(dgram.createSocket('udp6'), 0)
    const got: unknown[] = []
    for (const host of [peer6, `::ffff:${peer4}`]) {
      const answer = next(socket)
      socket.send('hello', port, host)
      const [message, { address, family }] = await answer
      got.push([message.toString(), address, family])
    }
    socket.close()
    return got
  },

  'go on when a listener throws': async (dgram, { peer4, port }) => {
    const socket = await bound(dgram.createSocket('udp4'), 0)
    const caught = once(process, 'uncaughtException')
    socket.once('message', () => {
      throw new RangeError('a fault')
    })
    socket.send('one', port, peer4)
    const [error] = (await caught) as [Error]
    const answer = next(socket)
    socket.send('two', port, peer4)
    const [message] = await answer
    socket.close()
    return [error.message, message.toString()]
  },
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const [specifier, name, peer] = process.argv.slice(2)
  const { default: dgram } = (await import(specifier)) as { default: Dgram }
  const said = await behaviours[name](dgram, JSON.parse(peer) as Peer)
  process.stdout.write(JSON.stringify(said))
}
