// Namespaces: made and removed as ip(8) sees them, entered for one call, left again whatever happens.
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { lookup } from 'node:dns/promises'
import { once } from 'node:events'
import { readFileSync, readlinkSync, statSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { describe, it, type TestContext } from 'node:test'
import { Worker } from 'node:worker_threads'
import { NotFoundError, OptionError } from '../../src/kernel/errors.js'
import { listInterfaces } from '../../src/kernel/interfaces.js'
import { Namespace } from '../../src/kernel/namespace.js'
import { needsRoot, openDescriptors, uniqueName } from '../support/lab.js'

const here = (): number => statSync('/proc/thread-self/ns/net').ino

function make(t: TestContext): Namespace {
  const name = uniqueName('ns')
  const namespace = Namespace.create(name)
  t.after(() => {
    namespace.close()
    Namespace.remove(name)
  })
  return namespace
}

describe('Namespace', { skip: needsRoot }, () => {
  it('is one of those ip(8) lists and enters', (t) => {
    const namespace = make(t)
    const listed = execFileSync('ip', ['netns', 'list'], { encoding: 'utf8' })
    assert.match(listed, new RegExp(`^${namespace.name}\\b`, 'm'))
    assert.ok(Namespace.list().includes(namespace.name))
    const inode = execFileSync('ip', ['netns', 'exec', namespace.name, 'readlink', '/proc/self/ns/net'], {
      encoding: 'utf8',
    })
    assert.equal(inode.trim(), `net:[${namespace.inode}]`)
  })

  it('opens one that ip(8) made', (t) => {
    const name = uniqueName('ns')
    execFileSync('ip', ['netns', 'add', name])
    t.after(() => Namespace.remove(name))
    const namespace = Namespace.open(name)
    assert.deepEqual(
      namespace.run(() => listInterfaces().map((link) => link.name)),
      ['lo'],
    )
    namespace.close()
    assert.equal(Namespace.remove(name), true)
    assert.ok(!execFileSync('ip', ['netns', 'list'], { encoding: 'utf8' }).includes(name))
    assert.equal(Namespace.remove(name), false)
  })

  it('is entered for one call and left again, also by an error, also when nested', (t) => {
    const outside = here()
    const one = make(t)
    const two = make(t)
    assert.notEqual(one.inode, outside)
    assert.notEqual(one.inode, two.inode)
    const seen = one.run(() => [here(), two.run(here), here()])
    assert.deepEqual(seen, [one.inode, two.inode, one.inode])
    assert.equal(here(), outside)
    assert.throws(() =>
      one.run(() => {
        throw new Error('inside')
      }),
    )
    assert.equal(here(), outside)
    // A promise would outlive the visit.
    assert.throws(() => one.run(async () => Promise.resolve()), { code: 'XDP_STATE' })
    assert.equal(here(), outside)
  })

  it('keeps what was started inside, and only that', async (t) => {
    const outside = here()
    const namespace = make(t)
    const child = namespace.run(() =>
      spawn('readlink', ['/proc/self/ns/net'], { stdio: ['ignore', 'pipe', 'inherit'] }),
    )
    assert.ok(child.stdout)
    const [link] = (await once(child.stdout, 'data')) as [Buffer]
    assert.equal(link.toString().trim(), `net:[${namespace.inode}]`)

    const code = `require('node:worker_threads').parentPort.postMessage(require('node:fs').statSync('/proc/thread-self/ns/net').ino)`
    const worker = namespace.run(() => new Worker(code, { eval: true }))
    const [inode] = (await once(worker, 'message')) as [number]
    assert.equal(inode, namespace.inode)
    await once(worker, 'exit')

    // This thread, its event loop's sockets and libuv's pool are where they were.
    assert.equal(here(), outside)
    const server = createServer().listen(0, '127.0.0.1')
    await once(server, 'listening')
    server.close()
    assert.equal((await lookup('localhost', { family: 4 })).address, '127.0.0.1')
    const threads = execFileSync('ls', [`/proc/${process.pid}/task`], { encoding: 'utf8' })
      .trim()
      .split('\n')
    for (const thread of threads)
      assert.equal(readlinkSync(`/proc/${process.pid}/task/${thread}/ns/net`), `net:[${outside}]`)
  })

  it('shows its own /proc/sys/net to a call made inside', (t) => {
    const namespace = make(t)
    const setting = '/proc/sys/net/ipv4/ip_default_ttl'
    const outside = readFileSync(setting, 'utf8')
    namespace.run(() => writeFileSync(setting, '17'))
    assert.equal(
      namespace.run(() => readFileSync(setting, 'utf8')),
      '17\n',
    )
    assert.equal(readFileSync(setting, 'utf8'), outside)
  })

  it('lives on without its name while it is held', () => {
    const namespace = Namespace.create(uniqueName('ns'))
    Namespace.remove(namespace.name)
    assert.equal(namespace.run(here), namespace.inode)
    namespace.close()
  })

  it('refuses names that are taken, unknown or no names', (t) => {
    const before = openDescriptors()
    const namespace = make(t)
    assert.throws(() => Namespace.create(namespace.name), { code: 'XDP_EXISTS' })
    assert.equal(namespace.run(here), namespace.inode, 'the one that was there is whole')
    assert.throws(() => Namespace.open(uniqueName('ns')), NotFoundError)
    for (const name of ['', '..', 'a/../b', 'a b']) assert.throws(() => Namespace.create(name), OptionError)
    namespace.close()
    namespace.close()
    assert.deepEqual(openDescriptors(), before)
  })
})
