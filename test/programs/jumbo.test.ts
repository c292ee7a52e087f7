// Programs that take packets in several buffers, on an interface whose MTU lets such packets come.
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { type BpfProgram, attachXdp, probeFrags } from '../../src/bpf/index.js'
import { type LoadedXdp, defineXdp } from '../../src/bpf/builder/index.js'
import { inNamespace } from '../../src/kernel/namespace.js'
import { AclProgram } from '../../src/programs/acl.js'
import { BalanceProgram } from '../../src/programs/balance.js'
import { FlowCounter } from '../../src/programs/count-flows.js'
import { ProtocolCounter } from '../../src/programs/count-protocols.js'
import { type GivenSettings, shippedPrograms } from '../../src/programs/index.js'
import { Mirror } from '../../src/programs/mirror.js'
import { defineReflect } from '../../src/programs/reflect.js'
import { defineResponder } from '../../src/programs/responder.js'
import { definePass } from '../../src/programs/verdict.js'
import type { Lab } from '../../src/lab/index.js'
import { createTestLab, needsRoot } from '../support/lab.js'
import { openAt, until } from '../support/xsk.js'

const skip = needsRoot || (!probeFrags().available && probeFrags().why)

/** An Ethernet, an IPv4 and an ICMP header, and 8000 bytes. */
const PING = 14 + 20 + 8 + 8000
const COUNT = 3

interface Loaded {
  program: BpfProgram
  close(): void
}

/** Loads a program and attaches it to the driver at an end of a lab. */
function attach<T extends Loaded>(t: TestContext, lab: Lab, end: 'a' | 'b', load: () => T): T {
  const { interface: name, namespace } = lab[end]
  const loaded = inNamespace(namespace, load)
  t.after(() => loaded.close())
  const attachment = attachXdp(loaded.program, { interface: name, namespace, mode: 'native' })
  t.after(() => attachment.detach())
  return loaded
}

/** How many of `COUNT` pings in packets that take several buffers are answered. */
async function answered(lab: Lab, wait: number): Promise<number> {
  const count = ['-c', String(COUNT), '-l', String(COUNT), '-i', '10', '-W', String(wait)]
  const args = ['-n', ...count, '-s', String(PING - 42), '-M', 'do', lab.a.ipv4]
  const { stdout } = await lab.exec('b', 'ping', args)
  return Number(/(\d+) received/.exec(stdout)?.[1])
}

/** Attaches to the driver of an interface that takes 9000 bytes, and pings it with packets that take several buffers. */
async function ping<T extends Loaded>(t: TestContext, load: () => T): Promise<{ loaded: T; lab: Lab }> {
  const lab = createTestLab(t, { mtu: 9000 })
  const loaded = attach(t, lab, 'a', load)
  assert.equal(await answered(lab, 10), COUNT)
  return { loaded, lab }
}

/** Settings without which a program would have nothing to do. */
const GIVEN: Readonly<Record<string, GivenSettings>> = { 'redirect-ports': { port: ['9'] } }
/** Those after which no ping is answered. */
const TAKES = new Set(['drop', 'reflect'])

for (const [name, { define }] of shippedPrograms) {
  test(`${name} attaches to the driver there, and does what it does`, { skip }, async (t) => {
    const lab = createTestLab(t, { mtu: 9000 })
    // Both know each other before: what drops everything would drop their questions too.
    assert.equal(await answered(lab, 10), COUNT)
    attach(t, lab, 'a', () => {
      const { definition, fill } = define(GIVEN[name] ?? {}, { queues: 1 })
      const loaded = definition.load()
      fill?.(loaded)
      return loaded
    })
    assert.equal(await answered(lab, TAKES.has(name) ? 0.3 : 10), TAKES.has(name) ? 0 : COUNT)
  })
}

test('the responder leaves to the kernel what it has no socket for', { skip }, async (t) => {
  await ping(t, () => defineResponder(1).load())
})

/** Sends itself a datagram of 8000 bytes by way of an address, and prints whether all of them came back. */
const HEAR = (address: string) => `
import { createSocket } from 'node:dgram'
const sent = Buffer.from(Array.from({ length: 8000 }, (_, at) => at * 7))
const socket = createSocket('udp4')
socket.on('message', (text) => { clearTimeout(timer); console.log(text.equals(sent)); socket.close() })
const timer = setTimeout(() => { console.log('silence'); socket.close() }, 60_000)
socket.connect(4321, '${address}', () => socket.send(sent))
`

/** More than a page's first buffer holds of a packet, and less than a frame of 4096 bytes has room for. */
const SEVERAL_BUFFERS = 3700

test(
  'a socket gets whole what its frames have room for, and the kernel counts what they have not',
  { skip },
  async (t) => {
    const lab = createTestLab(t, { mtu: 9000 })
    const socket = await openAt(t, lab.a, { mode: 'native', umem: { frameSize: 4096 } })
    const got: Buffer[] = []
    const send = (size: number) =>
      lab.exec('b', 'ping', ['-n', '-c', '1', '-W', '0.1', '-s', String(size - 42), '-M', 'do', lab.a.ipv4])
    // Neighbours are not found behind a socket that takes all: b is told.
    await lab.exec('b', 'ip', ['neigh', 'replace', lab.a.ipv4, 'lladdr', lab.a.mac, 'dev', lab.b.interface])
    await send(SEVERAL_BUFFERS)
    await until('it is there', () => {
      socket.receive(({ bytes, offset, length }) => {
        if (length === SEVERAL_BUFFERS) got.push(Buffer.from(bytes.subarray(offset, offset + length)))
      })
      return got.length > 0
    })
    // What ping fills its packets with counts up.
    const filling = got[0].subarray(14 + 20 + 8 + 16)
    assert.ok(filling.every((byte, at) => at === 0 || byte === ((filling[at - 1] + 1) & 0xff)))
    await send(PING)
    await until('it is counted', () => socket.statistics().kernel.rxDropped > 0)
  },
)

test('the reflector sends whole packets back', { skip }, async (t) => {
  const lab = createTestLab(t, { mtu: 9000 })
  attach(t, lab, 'a', () => defineReflect('ports').load())
  // A veth takes what is sent by XDP only where its peer runs a program too (drivers/net/veth.c: veth_xdp_xmit).
  attach(t, lab, 'b', () => definePass().load())
  const { stdout } = await lab.exec('b', process.execPath, ['--input-type=module', '-e', HEAR(lab.a.ipv4)])
  assert.equal(stdout.trim(), 'true')
})

test('a program that does not say that it can is refused there, with what would help', { skip }, (t) => {
  const { interface: name, namespace } = createTestLab(t, { mtu: 9000 }).a
  const load = (loaded: LoadedXdp) => {
    t.after(() => loaded.close())
    return loaded.program
  }
  const define = (frags: boolean) => defineXdp('xdp_any', { frags }, () => 'pass')
  const takes = load(define(true).load())
  const refused = { code: 'ERANGE', hint: /`frags: true`, in C SEC\("xdp\.frags"\)/ }
  for (const cannot of [load(define(false).load()), load(define(true).load({ frags: false }))]) {
    for (const attach of ['link', 'netlink'] as const) {
      const where = { interface: name, namespace, mode: 'native', attach } as const
      assert.throws(() => attachXdp(cannot, where), refused)
      const attachment = attachXdp(takes, where)
      assert.throws(() => attachment.update(cannot), attach === 'link' ? refused : { code: 'ERANGE' })
      assert.equal(attachment.detach(), true)
    }
  }
})

test('the mirror copies whole packets', { skip }, async (t) => {
  const { loaded } = await ping(t, () => Mirror.load())
  let whole = 0
  loaded.consume(({ bytes, offset, captured, length }) => {
    if (length !== PING) return
    assert.equal(captured, PING)
    // What ping fills its packets with counts up.
    const end = offset + PING - 1
    assert.equal(bytes[end], (bytes[end - 1] + 1) & 0xff)
    whole++
  })
  assert.equal(whole, COUNT)
})

test('flows are counted with all of their bytes', { skip }, async (t) => {
  const { loaded } = await ping(t, () => FlowCounter.load())
  const found = [...loaded.flows()].find(({ version, protocol }) => version === 4 && protocol === 1)
  assert.deepEqual([found?.packets, found?.bytes], [COUNT, COUNT * PING])
})

test('protocols are counted with all of their bytes', { skip }, async (t) => {
  const { loaded } = await ping(t, () => ProtocolCounter.load())
  const found = [...loaded.counts()].find(({ kind, protocol }) => kind === 'ipv4' && protocol === 1)
  assert.deepEqual([found?.packets, found?.bytes], [COUNT, COUNT * PING])
})

test('processors take them on', { skip }, async (t) => {
  await ping(t, () => BalanceProgram.load({ to: 'cpus', cpus: [0] }))
})

test('the access list judges them', { skip }, async (t) => {
  const { loaded, lab } = await ping(t, () => AclProgram.load())
  loaded.deny('icmp')
  const { stdout } = await lab.exec('b', 'ping', ['-n', '-c', '1', '-W', '0.3', '-s', '8000', lab.a.ipv4])
  assert.match(stdout, / 0 received/)
})
