// The configuration: every key has its effect, every wrong one is refused by its path, and what is printed reads back.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  checkConfig,
  configOptions,
  formatDuration,
  idleKeys,
  mergeConfig,
  parseConfig,
  printConfig,
  wholeConfig,
} from '../../src/capture/config.js'

const WHOLE = `
capture:
  interface: eth0
  use_xdp: true
  xdp_queue_id: 2
  buffer_size: 20000
  batch_size: 32
  timeout: 100ms
  enable_stats: true
  stats_interval: 10s
xdp:
  umem_size: 16777216
  num_frames: 8192
  frame_size: 2048
  rx_ring_size: 4096
  tx_ring_size: 512
  fill_ring_size: 1024
  comp_ring_size: 256
  batch_size: 128
  flags: 2
  bind_flags: 10
  enable_stats: true
`

test('every key comes to an option', () => {
  const config = parseConfig(WHOLE)
  const { options, warnings } = configOptions(config)
  assert.deepEqual(warnings, [])
  assert.deepEqual(JSON.parse(JSON.stringify(options)), {
    interface: 'eth0',
    mode: ['divert', 'mirror', 'packet'],
    buffer: 20_000,
    batch: 32,
    timeout: 100,
    queues: [2],
    xdpMode: 'generic',
    sockets: {
      umem: { frames: 8192, frameSize: 2048 },
      rings: { rx: 4096, tx: 512, fill: 1024, completion: 256 },
      batch: 128,
      copy: 'copy',
      needWakeup: true,
    },
  })
  assert.deepEqual(
    [config.capture.enable_stats, config.capture.stats_interval, config.xdp.enable_stats],
    [true, 10_000, true],
  )
})

test('use_xdp, mode and flags choose', () => {
  const mode = (text: string) => configOptions(parseConfig(text)).options.mode
  assert.equal(mode(''), 'auto')
  assert.equal(mode('capture: {use_xdp: false}'), 'packet')
  assert.deepEqual(mode('capture: {use_xdp: true}'), ['divert', 'mirror', 'packet'])
  assert.equal(mode('capture: {use_xdp: true, mode: mirror}'), 'mirror')
  assert.equal(mode('capture: {use_xdp: true, mode: auto}'), 'auto')
  const { options } = configOptions(parseConfig('xdp: {flags: 4, bind_flags: 4}'))
  assert.deepEqual(
    [options.xdpMode, options.sockets?.copy, options.sockets?.needWakeup],
    ['native', 'zero-copy', false],
  )
})

test('the example of the document is taken, and said to be at odds with itself', () => {
  const { options, warnings } = configOptions(
    parseConfig('xdp: {umem_size: 4194304, num_frames: 4096, frame_size: 2048}'),
  )
  assert.deepEqual(options.sockets?.umem, { frames: 2048, frameSize: 2048 })
  assert.deepEqual(warnings, [
    {
      key: 'xdp.num_frames',
      message: 'xdp.num_frames is 4096, but xdp.umem_size has room for 2048: that many are made',
    },
  ])
})

test('the documented memory is what is made without being asked for', () => {
  const { options, warnings } = configOptions(parseConfig('xdp: {umem_size: 16777216, num_frames: 8192}'))
  assert.deepEqual([options.sockets?.umem, warnings], [{ frames: 8192, frameSize: 2048 }, []])
  assert.deepEqual(configOptions(parseConfig('xdp: {frame_size: 4096}')).options.sockets?.umem, {
    frameSize: 4096,
  })
})

test('what cannot be is refused, and the message begins with the key', () => {
  for (const [text, option, pattern] of [
    ['capture: {interface: 5}', 'capture.interface', /capture\.interface \(5\) is no name/],
    ['capture: {use_xdp: 1}', 'capture.use_xdp', /is neither true nor false/],
    ['capture: {xdp_queue_id: -1}', 'capture.xdp_queue_id', /capture\.xdp_queue_id \(-1\)/],
    ['capture: {buffer_size: 0}', 'capture.buffer_size', /capture\.buffer_size \(0\) is below 1/],
    ['capture: {batch_size: 1.5}', 'capture.batch_size', /is no whole number/],
    ['capture: {timeout: 100}', 'capture.timeout', /capture\.timeout \(100\) is no duration: write 100ms/],
    ['capture: {timeout: soon}', 'capture.timeout', /is no duration/],
    ['capture: {timeout: 2m}', 'capture.timeout', /capture\.timeout \(2m\) is above 1m/],
    ['capture: {stats_interval: 0s}', 'capture.stats_interval', /\(0ms\) is below 1ms/],
    ['capture: {xdp_queue_id: []}', 'capture.xdp_queue_id', /\(\[\]\) is empty/],
    ['capture: []', 'capture', /capture is no mapping/],
    ['capture: {interface: *x}', 'config', /alias/i],
    ['capture: {enable_stats: "yes"}', 'capture.enable_stats', /"yes"\) is neither/],
    ['capture: {mode: fast}', 'capture.mode', /is not auto, divert/],
    ['capture: {intreface: eth0}', 'capture.intreface', /capture\.intreface is no key/],
    ['xdp: {rx_ring_size: 2000}', 'xdp.rx_ring_size', /xdp\.rx_ring_size \(2000\) is no power of two/],
    ['xdp: {frame_size: 1024}', 'xdp.frame_size', /is below 2048/],
    ['xdp: {umem_size: big}', 'xdp.umem_size', /is no number/],
    ['xdp: {num_frames: 0}', 'xdp.num_frames', /is below 1/],
    ['xdp: {flags: 8}', 'xdp.flags', /hardware mode/],
    ['xdp: {flags: 6}', 'xdp.flags', /generic and native mode at once/],
    ['xdp: {bind_flags: 6}', 'xdp.bind_flags', /copying and zero copy at once/],
    ['capture: 5', 'capture', /capture \(5\) is no mapping/],
    ['other: {}', 'other', /other is no key/],
    ['[1, 2]', 'config', /is no mapping|is no key/],
    ['capture: {a: 1, a: 2}', 'config', /keys must be unique/],
    ['capture: [', 'config', /YAML|at line/i],
  ] as const) {
    assert.throws(
      () => parseConfig(text, 'my.yaml'),
      (error: Error & { code: string; option: string }) => {
        assert.deepEqual([error.code, error.option], ['XDP_BAD_OPTION', option], text)
        assert.match(error.message, /^my\.yaml: /)
        assert.match(error.message, pattern)
        return true
      },
      text,
    )
  }
})

test('keys that say nothing to the mode are named', () => {
  const config = parseConfig('capture: {xdp_queue_id: 1}\nxdp: {rx_ring_size: 64, flags: 2}')
  const keys = (mode: string) => idleKeys(config, mode).map(({ key }) => key)
  assert.deepEqual(keys('divert'), [])
  assert.deepEqual(keys('mirror'), ['xdp.rx_ring_size'])
  assert.deepEqual(keys('packet'), ['xdp.rx_ring_size', 'xdp.flags', 'capture.xdp_queue_id'])
})

test('what is printed reads back as it was, and the command line goes before the file', () => {
  const config = parseConfig(WHOLE)
  assert.deepEqual(parseConfig(printConfig(config)), config)
  const merged = mergeConfig(config, { capture: { mode: 'packet', interface: undefined }, xdp: {} })
  assert.deepEqual([merged.capture.mode, merged.capture.interface], ['packet', 'eth0'])
  // What was asked for last is what is printed and what is done: `-m auto` never diverts because of a file.
  const asked = mergeConfig(parseConfig('capture: {use_xdp: true}'), { capture: { mode: 'auto' }, xdp: {} })
  assert.equal(configOptions(asked).options.mode, 'auto')
  assert.doesNotMatch(printConfig(wholeConfig(asked)), /use_xdp/)
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 60_000_000 }), (microseconds) => {
      const { capture } = parseConfig(`capture: {timeout: ${formatDuration(microseconds / 1000)}}`)
      assert.ok(Math.abs((capture.timeout ?? -1) - microseconds / 1000) < 1e-6)
    }),
    { seed: 1, numRuns: 200 },
  )
})

test('the whole configuration, given in place of its parts, is the same capture', () => {
  for (const text of [
    '',
    'capture: {use_xdp: true}',
    'capture: {use_xdp: false, buffer_size: 10}',
    'capture: {mode: divert}\nxdp: {rx_ring_size: 64}',
    'capture: {mode: mirror, timeout: 10ms}\nxdp: {flags: 2}',
  ]) {
    const config = parseConfig(text)
    const printed = printConfig(wholeConfig(config))
    const whole = parseConfig(printed)
    assert.deepEqual(parseConfig(printConfig(wholeConfig(whole))), whole)
    assert.deepEqual(configOptions(whole).options.mode, configOptions(config).options.mode)
    // What is not asked for is not had: a queue, above all.
    assert.equal(
      /buffer_size|batch_size: \d+\n(?=.*xdp:)|timeout/.test(printed),
      /buffer_size|timeout/.test(text),
    )
    for (const mode of ['divert', 'mirror', 'packet'])
      if (!/use_xdp: true|divert/.test(text)) assert.deepEqual(idleKeys(whole, mode), idleKeys(config, mode))
  }
  const { options } = configOptions(wholeConfig(parseConfig('capture: {mode: divert}')))
  assert.deepEqual(options.sockets?.rings, { rx: 8192, tx: 64, fill: 8192, completion: 64 })
})

test('an empty section is none', () => {
  assert.deepEqual(parseConfig('capture:\n  # mode: mirror\nxdp:'), { capture: {}, xdp: {} })
})

test('no value makes it fail otherwise than by an option', () => {
  fc.assert(
    fc.property(
      fc.object({ key: fc.constantFrom('capture', 'xdp', 'timeout', 'flags', 'mode', 'x'), maxDepth: 3 }),
      (value) => {
        try {
          configOptions(checkConfig(value))
        } catch (error) {
          assert.equal((error as { code?: string }).code, 'XDP_BAD_OPTION')
        }
      },
    ),
    { seed: 2, numRuns: 500 },
  )
})
