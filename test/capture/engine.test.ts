// The engine over a source made of nothing: its states, its three ways to packets, what it counts, and what it switches.
import assert from 'node:assert/strict'
import { suite, test, type TestContext } from 'node:test'
import { CaptureEngine } from '../../src/capture/engine.js'
import type { CaptureOptions, LiveMode } from '../../src/capture/engine-options.js'
import { KernelError, UnsupportedError } from '../../src/kernel/index.js'
import { PacketRecord } from '../../src/packet/pcap-record.js'
import { until } from '../support/xsk.js'
import { FakeSource, PausingSource, numberOf, numbered } from './fake-source.js'

/** An engine whose sources are fakes, the last one made at the end. */
async function fakeEngine(t: TestContext, options: Partial<CaptureOptions> = {}) {
  const sources: FakeSource[] = []
  const refused = new Map<LiveMode, Error>()
  const engine = await CaptureEngine.open({
    interface: 'lo',
    mode: 'packet',
    takeTraffic: true,
    openSource: (mode) => {
      const error = refused.get(mode)
      if (error) throw error
      const source = new FakeSource(mode)
      sources.push(source)
      return source
    },
    ...options,
  })
  t.after(() => engine.close())
  return { engine, sources, refused, first: sources[0] }
}

/** As `fakeEngine`; its source can be paused in the middle of a batch. */
async function pausingEngine(t: TestContext, options: Partial<CaptureOptions> = {}) {
  const first = new PausingSource()
  const { engine } = await fakeEngine(t, {
    ...options,
    openSource: (mode) => (mode === 'packet' ? first : new FakeSource(mode)),
  })
  return { engine, first }
}

const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i)

suite('capture engine', () => {
  test('a consumer takes a part of those that came together, and the rest when it goes on', async (t) => {
    const { engine, first } = await pausingEngine(t)
    const seen: number[][] = []
    let most = Infinity
    engine.start({
      packet: () => assert.fail('one by one'),
      batch: (batch) => {
        const record = new PacketRecord()
        const taken = Math.min(batch.count, most)
        for (let i = 0; i < taken; i++) {
          batch.read(i, record)
          seen.push([numberOf(record), record.packetId, record.dropCount])
        }
        if (taken === batch.count) return
        engine.pause()
        return taken
      },
    })
    first.statistics.dropped.kernel = 3
    first.give(numbered(0))
    most = 0
    first.give(numbered(1), numbered(2), numbered(3))
    assert.equal(engine.stats().processed, 1)
    for (most = 1; engine.stats().processed < 4;) {
      const { processed } = engine.stats()
      engine.resume()
      await until('it goes on', () => engine.stats().processed > processed)
    }
    assert.deepEqual(seen, [
      [0, 0, -1],
      [1, 1, 3],
      [2, 2, -1],
      [3, 3, -1],
    ])
    await engine.stop()
  })

  test('what is done in the wrong order is an error with a code', async (t) => {
    const { engine } = await fakeEngine(t)
    const isState = { code: 'XDP_STATE' }
    await assert.rejects(engine.stop(), isState)
    await assert.rejects(engine[Symbol.asyncIterator]().next(), isState)
    await assert.rejects(
      engine.forEachBatch(() => undefined),
      isState,
    )
    engine.start()
    assert.throws(() => engine.start(), isState)
    await engine.stop()
    await assert.rejects(engine.stop(), isState)
    assert.throws(() => engine.start(), isState)
    await engine.close()
    await engine.close()
    await assert.rejects(engine.stop(), isState)
    await assert.rejects(engine.switchMode('mirror'), isState)
    assert.throws(() => engine.start(), isState)
    await assert.rejects(async () => {
      for await (const packet of engine) assert.fail(`a packet: ${packet.length}`)
    }, isState)
  })

  test('packets come by async iteration, each with bytes of its own, to the end of what was caught', async (t) => {
    const { engine, first } = await fakeEngine(t)
    first.late = [numbered(100), numbered(101)]
    engine.start()
    first.give(...range(0, 50).map((i) => numbered(i, 60 + i)))
    const seen = []
    for await (const packet of engine) {
      seen.push(packet)
      if (seen.length === 50) void engine.stop()
    }
    assert.deepEqual(seen.map(numberOf), [...range(0, 50), 100, 101])
    assert.deepEqual(
      seen.map(({ packetId }) => packetId),
      range(0, 52),
    )
    assert.ok(seen.every((packet) => packet.bytes.length === packet.length))
    const { processed, waiting, packets } = engine.stats()
    assert.deepEqual({ processed, waiting, packets }, { processed: 52, waiting: 0, packets: 52 })
  })

  test('leaving the loop stops the capture', async (t) => {
    const { engine, first } = await fakeEngine(t)
    engine.start()
    first.give(numbered(1), numbered(2))
    for await (const packet of engine) {
      assert.equal(numberOf(packet), 1)
      break
    }
    assert.equal(engine.state, 'ended')
    assert.equal(first.isStopped, true)
  })

  test('packets come in batches: full ones at once, others when their time is over', async (t) => {
    const { engine, first } = await fakeEngine(t, { batch: 4, timeout: 5 })
    engine.start()
    const batches: number[][] = []
    const done = engine.forEachBatch(async (packets) => {
      await new Promise((resolve) => setImmediate(resolve))
      batches.push(packets.map(numberOf))
      if (batches.length === 3) void engine.stop()
    })
    first.give(...range(0, 10).map((i) => numbered(i)))
    await done
    assert.deepEqual(batches, [
      [0, 1, 2, 3],
      [4, 5, 6, 7],
      [8, 9],
    ])
  })

  test('what the handler of batches throws stops the capture and comes out', async (t) => {
    const { engine, first } = await fakeEngine(t)
    engine.start()
    first.give(numbered(1))
    const error = new Error('mine')
    await assert.rejects(
      engine.forEachBatch(() => {
        throw error
      }),
      error,
    )
    assert.equal(engine.state, 'ended')
    assert.equal(engine.stats().errors, 1)
  })

  test('packets come as a stream, which stops the capture when it is destroyed', async (t) => {
    const { engine, first } = await fakeEngine(t)
    engine.start()
    first.give(...range(0, 30).map((i) => numbered(i)))
    const seen: number[] = []
    for await (const packet of engine.readable()) {
      seen.push(numberOf(packet as never))
      if (seen.length === 20) break
    }
    assert.deepEqual(seen, range(0, 20))
    assert.equal(engine.state, 'ended')
  })

  test('two consumers are one too many', async (t) => {
    const { engine } = await fakeEngine(t)
    engine.start({ packet: () => undefined })
    await assert.rejects(
      engine.forEachBatch(() => undefined),
      { code: 'XDP_STATE' },
    )
  })

  test('a slow consumer: the source is paused, memory is bounded, every loss is counted and told to the next packet', async (t) => {
    const { engine, first } = await fakeEngine(t, { buffer: 100 })
    engine.start()
    first.give(...range(0, 74).map((i) => numbered(i)))
    assert.equal(first.isPaused, false)
    first.give(numbered(74))
    assert.equal(first.isPaused, true)
    // A source may not be able to stop in the middle of a batch.
    first.give(...range(75, 140).map((i) => numbered(i)))
    const { dropped, waiting } = engine.stats()
    assert.deepEqual([dropped.consumer, waiting], [40, 100])
    const seen = []
    for await (const packet of engine) {
      seen.push(packet)
      if (seen.length === 49) assert.equal(first.isPaused, true)
      if (seen.length === 50) {
        assert.equal(first.isPaused, false)
        first.give(numbered(140))
      }
      if (seen.length === 101) break
    }
    assert.deepEqual(seen.map(numberOf), [...range(0, 100), 140])
    assert.deepEqual(
      seen.map(({ dropCount }) => dropCount).filter((count) => count >= 0),
      [40],
    )
    assert.equal(engine.stats().processed, 101)
  })

  test('a consumer that is called at once may pause the source', async (t) => {
    const { engine, first } = await fakeEngine(t)
    const seen: number[] = []
    let batches = 0
    engine.start({ packet: (packet) => void seen.push(numberOf(packet)), batchEnd: () => void batches++ })
    first.give(numbered(1), numbered(2))
    engine.pause()
    assert.equal(first.isPaused, true)
    engine.resume()
    assert.equal(first.isPaused, false)
    first.give(numbered(3))
    assert.deepEqual([seen, batches], [[1, 2, 3], 2])
  })

  test('a source that ends with an error ends the loop with it, after the packets before', async (t) => {
    const { engine, first } = await fakeEngine(t)
    engine.start()
    const ends: unknown[] = []
    engine.on('end', (error) => ends.push(error))
    first.give(numbered(1))
    const gone = new KernelError('recv', 19)
    first.sink?.ended?.(gone)
    const seen: number[] = []
    await assert.rejects(async () => {
      for await (const packet of engine) seen.push(numberOf(packet))
    }, gone)
    assert.deepEqual([seen, ends, engine.stats().errors], [[1], [gone], 1])
  })

  test('closing lets go of what waits and ends the loop', async (t) => {
    const { engine, first } = await fakeEngine(t)
    engine.start()
    const loop = (async () => {
      for await (const packet of engine) assert.fail(`a packet: ${packet.length}`)
    })()
    await new Promise((resolve) => setImmediate(resolve))
    await engine.close()
    await loop
    assert.equal(first.isClosed, true)
    assert.equal(engine.state, 'closed')
  })

  test('auto falls back with the reason, and never diverts', async (t) => {
    const refusal = new UnsupportedError('no ring buffers here')
    const tried: LiveMode[] = []
    const engine = await CaptureEngine.open({
      interface: 'lo',
      openSource: (mode) => {
        tried.push(mode)
        if (mode === 'mirror') throw refusal
        return new FakeSource(mode)
      },
    })
    t.after(() => engine.close())
    const told: unknown[] = []
    engine.on('fallback', (fallback) => told.push(fallback))
    await new Promise((resolve) => setImmediate(resolve))
    assert.deepEqual(tried, ['mirror', 'packet'])
    const expected = [{ mode: 'mirror', reason: 'no ring buffers here', error: refusal }]
    assert.deepEqual([engine.fallbacks, told], [expected, expected])
    assert.deepEqual([engine.mode, engine.isUsingXdp], ['packet', false])
  })

  test('switches modes while packets flow, and counts on', async (t) => {
    const { engine, sources, first } = await fakeEngine(t)
    const changes: unknown[] = []
    engine.on('mode', (change) => changes.push(change))
    engine.start()
    first.give(numbered(0), numbered(1))
    first.statistics.dropped.kernel = 7
    first.late = [numbered(2)]
    assert.deepEqual(await engine.switchMode('mirror'), {
      from: 'packet',
      to: 'mirror',
      between: 'some may be doubled',
    })
    assert.deepEqual([first.isClosed, engine.mode, engine.isUsingXdp], [true, 'mirror', true])
    sources[1].give(numbered(3))
    const change = await engine.switchMode('divert')
    assert.equal(change.between, 'some may be lost')
    sources[2].give(numbered(4))
    assert.equal(changes.length, 2)
    const seen: number[] = []
    for await (const packet of engine) {
      seen.push(numberOf(packet))
      if (seen.length === 5) break
    }
    assert.deepEqual(seen, [0, 1, 2, 3, 4])
    const { packets, bytes, dropped, batches } = engine.stats()
    assert.deepEqual(
      { packets, bytes, kernel: dropped.kernel, batches },
      { packets: 5, bytes: 300, kernel: 7, batches: 4 },
    )
  })

  test('a queue that is smaller than a batch loses nothing', async (t) => {
    for (const buffer of [1, 2, 3, 7, 100]) {
      const { engine, first } = await pausingEngine(t, { buffer })
      engine.start()
      const seen: number[] = []
      const done = engine.forEachBatch((packets) => seen.push(...packets.map(numberOf)))
      first.give(...range(0, 500).map((i) => numbered(i)))
      first.give(...range(500, 600).map((i) => numbered(i)))
      await engine.stop()
      await done
      assert.deepEqual(seen, range(0, 600))
      const { processed, dropped } = engine.stats()
      assert.deepEqual([processed, dropped.consumer, engine.state], [600, 0, 'ended'])
    }
  })

  test('stopping hands on what was caught as the queue has room for it, though who reads it waits', async (t) => {
    const { engine, first } = await pausingEngine(t, { buffer: 20 })
    let ends = 0
    engine.on('end', () => ends++)
    engine.start()
    first.give(...range(0, 200).map((i) => numbered(i)))
    const seen: number[] = []
    for await (const packet of engine) {
      seen.push(numberOf(packet))
      if (seen.length > 1) continue
      await engine.stop()
      assert.deepEqual([engine.state, first.isStopped, ends], ['stopping', true, 0])
    }
    assert.deepEqual(seen, range(0, 200))
    assert.deepEqual([engine.state, ends, engine.stats().dropped.consumer], ['ended', 1, 0])
  })

  test('a consumer that leaves is waited for by nobody: what it did not take is counted', async (t) => {
    for (const isStopped of [false, true]) {
      const { engine, first } = await pausingEngine(t, { buffer: 20 })
      engine.start()
      first.give(...range(0, 200).map((i) => numbered(i)))
      for await (const packet of engine) {
        assert.equal(numberOf(packet), 0)
        if (isStopped) await engine.stop()
        break
      }
      const { processed, waiting, dropped } = engine.stats()
      assert.deepEqual([engine.state, processed + waiting + dropped.consumer], ['ended', 200])
    }
  })

  test('stopping waits for whoever paused it; closing does not', async (t) => {
    const { engine, first } = await pausingEngine(t)
    const seen: number[] = []
    engine.start({ packet: (packet) => void (seen.push(numberOf(packet)) % 10 === 0 && engine.pause()) })
    first.give(...range(0, 25).map((i) => numbered(i)))
    assert.equal(seen.length, 10)
    const stopped = engine.stop()
    engine.resume()
    await new Promise((resolve) => setImmediate(resolve))
    assert.deepEqual([seen.length, engine.state], [20, 'stopping'])
    engine.resume()
    await stopped
    assert.deepEqual([seen, engine.state], [range(0, 25), 'ended'])

    const other = await pausingEngine(t)
    other.engine.start({ packet: () => other.engine.pause() })
    other.first.give(numbered(0), numbered(1))
    const isStopped = other.engine.stop()
    await other.engine.close()
    await isStopped
    assert.equal(other.engine.state, 'closed')
  })

  test('a new mode does not wait for a slow consumer', async (t) => {
    const { engine, first } = await pausingEngine(t, { buffer: 20 })
    engine.start()
    first.give(...range(0, 200).map((i) => numbered(i)))
    for await (const packet of engine) {
      assert.equal(numberOf(packet), 0)
      assert.equal((await engine.switchMode('mirror')).to, 'mirror')
      break
    }
    const { processed, waiting, dropped } = engine.stats()
    assert.equal(processed + waiting + dropped.consumer, 200)
  })

  test('stopping while the mode is being switched stops the new source too', async (t) => {
    for (const [from, to] of [
      ['mirror', 'divert'],
      ['packet', 'mirror'],
      ['divert', 'packet'],
    ] as const) {
      const { engine, sources } = await fakeEngine(t, { mode: from })
      engine.start()
      const switched = engine.switchMode(to)
      const stopped = engine.stop()
      await assert.rejects(engine.switchMode(from), { code: 'XDP_STATE' })
      await stopped
      assert.equal((await switched).to, to)
      assert.deepEqual([engine.state, engine.mode], ['ended', to])
      assert.deepEqual(
        sources.map(({ isStopped }) => isStopped),
        [true, true],
      )
    }
  })

  test('is back in the old mode when the new one cannot be had', async (t) => {
    const { engine, sources, refused } = await fakeEngine(t, { mode: 'mirror' })
    engine.start()
    for (const [mode, isReopened] of [
      ['packet', false],
      ['divert', true],
    ] as const) {
      const refusal = new UnsupportedError(`no ${mode}`)
      refused.set(mode, refusal)
      const before = sources.length
      await assert.rejects(engine.switchMode(mode), refusal)
      assert.equal(engine.mode, 'mirror')
      assert.equal(sources.length - before, isReopened ? 1 : 0)
    }
    const last = sources.at(-1)!
    assert.equal(last.isClosed, false)
    last.give(numbered(9))
    for await (const packet of engine) {
      assert.equal(numberOf(packet), 9)
      break
    }
  })

  test('refuses options that cannot be, by name', async () => {
    for (const [options, option] of [
      [{ interface: '' }, 'interface'],
      [{ mode: 'sideways' as 'auto' }, 'mode'],
      [{ snapLength: 0 }, 'snapLength'],
      [{ batch: 1.5 }, 'batch'],
      [{ timeout: -1 }, 'timeout'],
      [{ latency: 101 }, 'latency'],
      [{ buffer: 0 }, 'buffer'],
      [{ bufferBytes: 5 }, 'bufferBytes'],
    ] as const) {
      await assert.rejects(CaptureEngine.open({ interface: 'lo', ...options }), {
        code: 'XDP_BAD_OPTION',
        option,
      })
    }
  })

  test('refuses by name what no compiler has checked', async () => {
    const wrong: Record<string, unknown[]> = {
      interface: [5, null, {}],
      namespace: ['x', 5, null, {}],
      mode: [5, null, {}, true, [5], []],
      filter: [5, null, {}, true, [], { matches: () => true }],
      snapLength: [-1, '96', null, Number.NaN, 300_000, 1n],
      takeTraffic: ['no', 1, null],
      promiscuous: ['no', 0, null],
      lenient: ['no', null],
      buffer: [0, '5', null, Infinity],
      bufferBytes: [0, '300000', null],
      batch: [0, '5', null],
      timeout: [-1, '5', null],
      latency: [-1, '5', null],
      ringBytes: [0, -1, 5000, 100_000, '8388608', null, 2 ** 40],
      queues: ['x', 5, null, {}, ['0'], [-1], [1.5], [null]],
      xdpMode: ['hw', 5, null, {}],
      sockets: ['x', 5, null, []],
      openSource: ['x', 5, null],
    }
    for (const [option, values] of Object.entries(wrong)) {
      for (const value of values) {
        for (const mode of ['packet', 'mirror', 'divert', 'auto'] as const) {
          if (option === 'ringBytes' && value === 100_000 && (mode === 'packet' || mode === 'divert'))
            continue
          const options = { interface: 'lo', mode, [option]: value } as CaptureOptions
          const about = `${mode}, ${option}: ${typeof value} ${String(value)}`
          await assert.rejects(CaptureEngine.open(options), { code: 'XDP_BAD_OPTION', option }, about)
        }
      }
    }
    for (const [name, values] of Object.entries({
      rings: [5, null],
      umem: [5, null],
      program: [5, {}],
      busyPoll: [5, 'x'],
      needWakeup: ['x', 1],
      strict: ['x'],
    })) {
      for (const value of values) {
        const sockets = { [name]: value } as CaptureOptions['sockets']
        const opened = CaptureEngine.open({ interface: 'lo', mode: 'divert', sockets })
        await assert.rejects(opened, { code: 'XDP_BAD_OPTION', option: `sockets.${name}` })
      }
    }
    for (const options of [undefined, null, 5, 'lo'] as unknown as CaptureOptions[])
      await assert.rejects(CaptureEngine.open(options), { code: 'XDP_BAD_OPTION', option: 'interface' })
  })

  test('does not divert loopback without consent', async () => {
    await assert.rejects(CaptureEngine.open({ interface: 'lo', mode: 'divert' }), {
      code: 'XDP_TAKES_TRAFFIC',
    })
  })
})
