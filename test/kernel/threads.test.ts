// What belongs to a thread: readiness on its event loop, its processors, its namespace.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { closeSync, openSync, readlinkSync } from 'node:fs'
import { test } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { Worker } from 'node:worker_threads'
import {
  Namespace,
  POLLIN,
  READABLE,
  getAffinity,
  native,
  pollDescriptor,
  setAffinity,
  threadId,
  watchDescriptor,
} from '../../src/kernel/index.js'

const AF_UNIX = 1
const SOCK_DGRAM = 2
const moduleUrl = new URL('../../src/kernel/index.js', import.meta.url).href

// A datagram socket that is bound to an abstract name and can be sent to: something that becomes readable.
function openPair(name: string): { receiver: number; send: (text: string) => void; close: () => void } {
  const address = Buffer.from(`\x01\x00\x00${name}`)
  const receiver = native.socket(AF_UNIX, SOCK_DGRAM, 0)
  const sender = native.socket(AF_UNIX, SOCK_DGRAM, 0)
  assert.equal(native.bind(receiver, address), 0)
  return {
    receiver,
    send: (text) => assert.equal(native.send(sender, Buffer.from(text), 0, address), text.length),
    close: () => [receiver, sender].forEach((fd) => native.close(fd)),
  }
}
const unique = (tag: string) => `node-xdp-${process.pid}-${tag}`

test('a watcher calls back when its descriptor is readable, and not after stop', async () => {
  const pair = openPair(unique('watch'))
  let calls = 0
  const buffer = Buffer.alloc(16)
  const events = await new Promise<number>((resolve) => {
    const watcher = watchDescriptor(pair.receiver, (status, ready) => {
      assert.equal(status, 0)
      calls++
      native.recv(pair.receiver, buffer, 0)
      watcher.stop()
      resolve(ready)
    })
    assert.equal(watcher.start(READABLE), 0)
    pair.send('one')
  })
  assert.equal(events, READABLE)
  pair.send('two')
  await new Promise((resolve) => setImmediate(resolve))
  await new Promise((resolve) => setImmediate(resolve))
  assert.equal(calls, 1)
  pair.close()
})

test('a watcher that is closed, be it by its callback, keeps nothing of what its callback refers to', async () => {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  const pair = openPair(unique('collect'))
  const turn = () => new Promise((resolve) => setImmediate(resolve))
  let calls = 0
  const make = (isClosedByCallback: boolean): WeakRef<object> => {
    const owner: { watcher?: ReturnType<typeof watchDescriptor> } = {}
    owner.watcher = watchDescriptor(pair.receiver, () => {
      calls++
      owner.watcher?.close()
    })
    owner.watcher.start(READABLE)
    if (!isClosedByCallback) owner.watcher.close()
    return new WeakRef(owner)
  }
  // One at a time: a loop watches a descriptor once.
  const owners = Array.from({ length: 10 }, () => make(false))
  await turn()
  owners.push(make(true))
  pair.send('one')
  for (let i = 0; i < 100 && (calls === 0 || owners.some((owner) => owner.deref())); i++) {
    await turn()
    collect()
  }
  assert.equal(calls, 1)
  assert.equal(owners.filter((owner) => owner.deref() !== undefined).length, 0)
  pair.close()
})

test('a descriptor that cannot be watched is an error with its errno', () => {
  const fd = openSync('/proc/self/status', 'r')
  assert.throws(() => watchDescriptor(fd, () => {}), { syscall: 'epoll_ctl', code: 'EPERM' })
  closeSync(fd)
})

test('a worker that is terminated while it watches leaves nothing behind', async () => {
  const pair = openPair(unique('terminate'))
  for (let round = 0; round < 5; round++) {
    const worker = new Worker(
      `const { workerData, parentPort } = require('node:worker_threads')
       import(workerData.module).then(({ watchDescriptor, READABLE }) => {
         const watcher = watchDescriptor(workerData.fd, () => {})
         watcher.start(READABLE)
         parentPort.postMessage('watching')
       })`,
      { eval: true, workerData: { module: moduleUrl, fd: pair.receiver } },
    )
    await once(worker, 'message')
    await worker.terminate()
  }
  pair.send('still a working socket')
  assert.equal(pollDescriptor(pair.receiver, POLLIN, 0), POLLIN)
  pair.close()
})

test('an exception in a watcher callback is an uncaught exception, as from any callback', async () => {
  const pair = openPair(unique('throw'))
  const worker = new Worker(
    `const { workerData } = require('node:worker_threads')
     import(workerData.module).then(({ watchDescriptor, READABLE }) => {
       watchDescriptor(workerData.fd, () => { throw new Error('from the callback') }).start(READABLE)
     })`,
    { eval: true, workerData: { module: moduleUrl, fd: pair.receiver } },
  )
  pair.send('go')
  const [error] = (await once(worker, 'error')) as [Error]
  assert.equal(error.message, 'from the callback')
  pair.close()
})

test('a watcher whose callback threw goes on when the thread listens to uncaughtException', async () => {
  const pair = openPair(unique('again'))
  const worker = new Worker(
    `const { workerData, parentPort } = require('node:worker_threads')
     process.on('uncaughtException', ({ message }) => parentPort.postMessage(message))
     import(workerData.module).then(({ watchDescriptor, READABLE }) => {
       let calls = 0
       const watcher = watchDescriptor(workerData.fd, () => {
         calls++
         if (calls === 3) watcher.close()
         throw new Error('call ' + calls)
       })
       watcher.start(READABLE)
     })`,
    { eval: true, workerData: { module: moduleUrl, fd: pair.receiver } },
  )
  const said: string[] = []
  worker.on('message', (message: string) => said.push(message))
  // It stays readable: nobody reads it.
  pair.send('go')
  await once(worker, 'exit')
  assert.deepEqual(said, ['call 1', 'call 2', 'call 3'])
  pair.close()
})

test('poll answers 0 when nothing comes, and the events when something does', () => {
  const pair = openPair(unique('poll'))
  assert.equal(pollDescriptor(pair.receiver, POLLIN, 0), 0)
  pair.send('x')
  assert.equal(pollDescriptor(pair.receiver, POLLIN, -1), POLLIN)
  pair.close()
})

test('affinity is set for the calling thread only', () => {
  const before = getAffinity()
  assert.ok(before.length > 0)
  setAffinity([before[0]])
  assert.deepEqual(getAffinity(), [before[0]])
  setAffinity(before)
  assert.deepEqual(getAffinity(), before)
  assert.throws(() => setAffinity([1023]), { code: 'EINVAL', syscall: 'sched_setaffinity' })
  assert.throws(() => setAffinity([]), { code: 'XDP_BAD_OPTION' })
  assert.throws(() => setAffinity([-1]), { code: 'XDP_BAD_OPTION' })
})

test('what is started inside a namespace stays there; the thread comes back', async (t) => {
  const name = unique('ns')
  const namespace = Namespace.create(name)
  t.after(() => {
    namespace.close()
    Namespace.remove(name)
  })
  const home = readlinkSync('/proc/thread-self/ns/net')
  const inside = namespace.run(() => readlinkSync('/proc/thread-self/ns/net'))
  assert.notEqual(inside, home)
  assert.equal(inside, `net:[${namespace.inode}]`)
  assert.equal(readlinkSync('/proc/thread-self/ns/net'), home)

  const worker = namespace.run(
    () =>
      new Worker(
        `require('node:worker_threads').parentPort.postMessage(require('fs').readlinkSync('/proc/thread-self/ns/net'))`,
        { eval: true },
      ),
  )
  assert.deepEqual(await once(worker, 'message'), [inside])
  assert.throws(
    () =>
      namespace.run(() => {
        throw new Error('inside')
      }),
    /inside/,
  )
  assert.equal(readlinkSync('/proc/thread-self/ns/net'), home, 'also after an exception')
  assert.throws(() => namespace.run(() => Promise.resolve()), { code: 'XDP_STATE' })
  assert.throws(() => Namespace.create(name), { code: 'XDP_EXISTS' })
  assert.throws(() => Namespace.create('../escape'), { code: 'XDP_BAD_OPTION' })
})

test("libuv's thread pool stays at home", async (t) => {
  const name = unique('pool')
  const namespace = Namespace.create(name)
  t.after(() => {
    namespace.close()
    Namespace.remove(name)
  })
  // Work given to the pool from inside must not run inside: file calls go to it.
  const { readlink } = await import('node:fs/promises')
  const seen: Promise<string>[] = []
  namespace.run(() => {
    for (let i = 0; i < 8; i++) seen.push(readlink('/proc/thread-self/ns/net'))
  })
  const home = readlinkSync('/proc/thread-self/ns/net')
  for (const where of await Promise.all(seen)) assert.equal(where, home)
})

test('a thread has its own id', async () => {
  const worker = new Worker(
    `const { workerData, parentPort } = require('node:worker_threads')
     import(workerData.module).then(({ threadId }) => parentPort.postMessage(threadId()))`,
    { eval: true, workerData: { module: moduleUrl } },
  )
  const [id] = (await once(worker, 'message')) as [number]
  assert.notEqual(id, threadId())
  assert.equal(threadId(), process.pid)
})

for (const how of ['throws', 'exits', 'is terminated'] as const) {
  test(`what a thread has opened is closed when it ${how}, and nothing else`, async (t) => {
    const name = unique(`left-${how.replaceAll(' ', '-')}`)
    const address = [...Buffer.from(`\x01\x00\x00${name}`)]
    const mine = native.socket(AF_UNIX, SOCK_DGRAM, 0)
    t.after(() => native.close(mine))
    const worker = new Worker(
      `const { workerData, parentPort } = require('node:worker_threads')
       import(workerData.module).then(({ native }) => {
         const closed = native.socket(1, 2, 0)
         const fds = [native.socket(1, 2, 0), native.memfd('left', 1), native.dup(0)]
         native.bind(fds[0], Buffer.from(workerData.address))
         fds.push(native.dup(fds[0]))
         native.close(closed)
         parentPort.postMessage({ fds, closed })
         parentPort.once('message', (how) => {
           if (how === 'throws') throw new Error('on purpose')
           if (how === 'exits') process.exit(0)
         })
       })`,
      { eval: true, workerData: { module: moduleUrl, address } },
    )
    worker.on('error', () => undefined)
    const [{ closed }] = (await once(worker, 'message')) as [{ closed: number }]
    const ended = new Promise((resolve) => worker.once('exit', resolve))
    // The number that the thread has closed is this one's now, and stays open.
    const opened: number[] = []
    t.after(() => opened.forEach((fd) => native.close(fd)))
    while (!opened.includes(closed) && opened.length < 64) opened.push(native.socket(AF_UNIX, SOCK_DGRAM, 0))
    assert.ok(opened.includes(closed), 'the number is free again')
    if (how === 'is terminated') await worker.terminate()
    else worker.postMessage(how)
    await ended
    const again = native.socket(AF_UNIX, SOCK_DGRAM, 0)
    t.after(() => native.close(again))
    assert.equal(native.bind(again, Buffer.from(address)), 0, 'the socket of the thread is gone')
    for (const fd of [mine, ...opened]) {
      assert.match(readlinkSync(`/proc/self/fd/${fd}`), /^socket:/)
    }
  })
}
