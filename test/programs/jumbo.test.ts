// Programs that take packets in several buffers, on an interface whose MTU lets such packets come.
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { type BpfProgram, attachXdp, probeFrags } from '../../src/bpf/index.js'
import { defineXdp } from '../../src/bpf/builder/index.js'
import { inNamespace } from '../../src/kernel/namespace.js'
import { AclProgram } from '../../src/programs/acl.js'
import { BalanceProgram } from '../../src/programs/balance.js'
import { FlowCounter } from '../../src/programs/count-flows.js'
import { ProtocolCounter } from '../../src/programs/count-protocols.js'
import { Mirror } from '../../src/programs/mirror.js'
import type { Lab } from '../../src/lab/index.js'
import { createTestLab, needsRoot } from '../support/lab.js'

const skip = needsRoot || (!probeFrags().available && probeFrags().why)

/** An Ethernet, an IPv4 and an ICMP header, and 8000 bytes. */
const PING = 14 + 20 + 8 + 8000
const COUNT = 3

/** Attaches to the driver of an interface that takes 9000 bytes, and pings it with packets that take several buffers. */
async function ping<T extends { program: BpfProgram; close(): void }>(
  t: TestContext,
  load: () => T,
): Promise<{ loaded: T; lab: Lab }> {
  const lab = createTestLab(t, { mtu: 9000 })
  const loaded = inNamespace(lab.a.namespace, load)
  t.after(() => loaded.close())
  const { interface: name, namespace } = lab.a
  const attachment = attachXdp(loaded.program, { interface: name, namespace, mode: 'native' })
  t.after(() => attachment.detach())
  const size = String(PING - 42)
  const args = ['-n', '-c', String(COUNT), '-i', '0.01', '-W', '2', '-s', size, '-M', 'do', lab.a.ipv4]
  const { stdout } = await lab.exec('b', 'ping', args)
  assert.match(stdout, new RegExp(`${COUNT} received`))
  return { loaded, lab }
}

test('a program that does not say that it can is refused there', { skip }, async (t) => {
  const define = (frags: boolean) => defineXdp('xdp_any', { frags }, () => 'pass')
  await ping(t, () => define(true).load())
  await assert.rejects(ping(t, () => define(false).load()))
  await assert.rejects(ping(t, () => define(true).load({ frags: false })))
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
