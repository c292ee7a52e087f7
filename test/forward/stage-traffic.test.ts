// Traffic of other people's tools through stages that have threads, and the documented module.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { isInstalled } from '../../src/kernel/index.js'
import { buildPacket } from '../../src/packet/index.js'
import { assertArrived, iperfClient, iperfServer } from '../support/iperf.js'
import { needsRoot } from '../support/lab.js'
import { generatorAt, openAt, until } from '../support/xsk.js'
import { LEFT, RIGHT, assertNoLoss, forward, twoLabs } from './cable.js'

const noIperf = !isInstalled('iperf3') && 'iperf3 is not installed'
const ROOT = '../../../'
const at = (path: string) => fileURLToPath(new URL(ROOT + path, import.meta.url))

describe('through two stages with threads', { skip: needsRoot }, () => {
  it('iperf3 sends UDP without loss, and TCP both ways', { skip: noIperf }, async (t) => {
    const labs = twoLabs(t)
    const stage = new URL('./fault-stage.js', import.meta.url)
    const { forwarder, stop } = await forward(t, labs, { stages: [stage, stage] })
    await assertNoLoss(labs.left, ['-c', '3', '-i', '0.01', RIGHT])
    await iperfServer(t, labs.right, 'b')
    const datagrams = await iperfClient(labs.left, 'b', RIGHT, '-u', '-b', '20M', '-l', '1000', '-n', '2M')
    await assertArrived(datagrams, labs.right, 'b')
    assert.ok(datagrams.end.sum.packets >= 2000)
    for (const way of [[], ['-R']]) {
      const { end } = await iperfClient(labs.left, 'b', RIGHT, '-n', '5M', ...way)
      assert.ok(end.sum_sent.bytes >= 5_000_000)
    }
    // The last packets of a connection are still under way when both programs have ended.
    await until('every packet has gone through both stages', () => {
      const all = forwarder.statistics().reduce((sum, { rx }) => sum + rx.packets, 0)
      return forwarder.stageStatistics().every(({ packets }) => packets === all)
    })
    for (const { dropped } of forwarder.stageStatistics()) assert.equal(dropped, 0)
    await stop()
  })

  it('the module of the document drops what it says, and what it is told to', async (t) => {
    const source = readFileSync(at('test/forward/block-port.ts'), 'utf8').split('\n').slice(1).join('\n')
    const shown = source.replace(/'\.\.\/\.\.\/src\/(\w+)\/index\.js'/g, "'node-xdp/$1'")
    assert.ok(readFileSync(at('docs/forward.md'), 'utf8').includes(shown), shown)

    const labs = twoLabs(t)
    const { forwarder, stop } = await forward(t, labs, {
      stages: [new URL('./block-port.js', import.meta.url)],
      workerData: { port: 9 },
    })
    const receiver = await openAt(t, labs.right.b)
    const generator = generatorAt(t, labs.left.b)
    const ports: number[] = []
    const send = (dstPort: number) => {
      const ethernet = { src: labs.left.b.mac, dst: labs.right.b.mac }
      const udp = { srcPort: 1000, dstPort }
      generator.send(buildPacket({ ethernet, ipv4: { src: LEFT, dst: RIGHT }, udp }), 1)
    }
    const look = () => {
      receiver.receive(({ bytes, view, offset, length }) => {
        if (length >= 42 && bytes[offset + 23] === 17) ports.push(view.getUint16(offset + 36))
      })
      return ports
    }
    await until('its thread runs', () => forwarder.threads[0].state === 'running')
    for (const port of [8, 9, 10]) send(port)
    await until('two have arrived', () => look().length === 2)
    const [thread] = forwarder.threads
    thread.post(10)
    // Until it has heard of it: from then on it is port 9 that passes.
    await until('port 9 passes', () => {
      send(9)
      return look().includes(9)
    })
    send(10)
    send(8)
    await until('the last one has arrived', () => look().filter((port) => port === 8).length === 2)
    assert.equal(ports.filter((port) => port === 10).length, 1)
    await stop()
  })
})
