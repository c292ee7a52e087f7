// Test runs: packets in and out, context, repeats, and live frames over a veth pair.
import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, test, type TestContext } from 'node:test'
import fc from 'fast-check'
import {
  type Code,
  add,
  atomic,
  be,
  call,
  exit,
  jumpIf,
  label,
  load,
  loadMap,
  loadMapValue,
  mov,
  r0,
  r1,
  r2,
  r3,
  r4,
  r5,
  r6,
  store,
  sub,
} from '../../src/bpf/asm.js'
import { BpfMap, BpfProgram, type LoadOptions, attachXdp, counter } from '../../src/bpf/index.js'
import { kernelAtLeast } from '../../src/kernel/version.js'
import { createTestLab, needsRoot } from '../support/lab.js'

function program(t: TestContext, code: Code, options: Partial<LoadOptions> = {}): BpfProgram {
  const loaded = BpfProgram.load({ type: 'xdp', name: 'run', code, ...options })
  t.after(() => loaded.close())
  return loaded
}

/** r2 = data, r3 = data_end; goes to `short` unless there are `bytes` of packet. */
const bounds = (bytes: number): Code => [
  load('u32', r2, r1, 0),
  load('u32', r3, r1, 4),
  mov(r4, r2),
  add(r4, bytes),
  jumpIf(r4, '>', r3, 'short'),
]

const packet = (length = 60): Uint8Array => Uint8Array.from({ length }, (_, i) => i)

describe('test runs', { skip: needsRoot }, () => {
  test('verdicts have their names, other numbers none', (t) => {
    for (const [value, verdict] of ['aborted', 'drop', 'pass', 'tx', 'redirect', undefined].entries()) {
      const result = program(t, [mov(r0, value), exit()]).testRun({ packet: packet() })
      assert.equal(result.returnValue, value)
      assert.equal(result.verdict, verdict)
      assert.deepEqual(result.packet, packet())
      assert.equal(result.metadata.length, 0)
    }
  })

  test('the packet comes back as the program left it', (t) => {
    // Swaps the first bytes of the MAC addresses.
    const swap = program(t, [
      bounds(14),
      load('u8', r4, r2, 0),
      load('u8', r5, r2, 6),
      store('u8', r2, 0, r5),
      store('u8', r2, 6, r4),
      mov(r0, 3),
      exit(),
      label('short'),
      mov(r0, 1),
      exit(),
    ])
    const run = swap.testRun({ packet: packet() })
    const expected = packet()
    ;[expected[0], expected[6]] = [6, 0]
    assert.deepEqual(run.packet, expected)
    assert.equal(run.verdict, 'tx')
    // An even number of swaps on the same packet undoes itself.
    assert.deepEqual(swap.testRun({ packet: packet(), repeat: 2 }).packet, packet())
    assert.ok(Number.isInteger(swap.testRun({ packet: packet(), repeat: 1000 }).durationNs))
  })

  test('packets grow and shrink at both ends', (t) => {
    const adjust = (helper: 'xdp_adjust_head' | 'xdp_adjust_tail', by: number): Uint8Array =>
      program(t, [mov(r2, by), call(helper), add(r0, 2), exit()]).testRun({ packet: packet() }).packet
    assert.deepEqual(adjust('xdp_adjust_head', 14), packet().subarray(14))
    assert.deepEqual(adjust('xdp_adjust_tail', -20), packet().subarray(0, 40))
    assert.deepEqual(adjust('xdp_adjust_head', -200).subarray(200), packet())
    const longer = adjust('xdp_adjust_tail', 30)
    assert.equal(longer.length, 90)
    assert.deepEqual(longer.subarray(0, 60), packet())
  })

  test('an output that is too small is an error that says how much is needed', (t) => {
    const grow = program(t, [mov(r2, -100), call('xdp_adjust_head'), mov(r0, 2), exit()])
    assert.throws(() => grow.testRun({ packet: packet(), outputSize: 64 }), {
      code: 'ENOSPC',
      hint: /160 bytes/,
    })
    assert.equal(grow.testRun({ packet: packet(), outputSize: 160 }).packet.length, 160)
  })

  test('the program sees the device and the queue it is run for', (t) => {
    const lab = createTestLab(t, { queues: 4 })
    const at = (offset: number): BpfProgram => program(t, [load('u32', r0, r1, offset), exit()])
    const { ifindex, namespace } = lab.a
    const run = { packet: packet(), ingressIfindex: ifindex, queue: 3, namespace: namespace! }
    // Queues can be run for once their driver has registered them, which veth does for a program.
    const pass = program(t, [mov(r0, 2), exit()])
    const attachment = attachXdp(pass, { interface: ifindex, namespace })
    t.after(() => attachment.close())
    assert.equal(at(12).testRun(run).returnValue, ifindex)
    assert.equal(at(16).testRun(run).returnValue, 3)
    assert.equal(at(16).testRun({ packet: packet() }).returnValue, 0)
    assert.throws(() => at(16).testRun({ ...run, queue: 4 }), { code: 'EINVAL' })
    assert.throws(() => at(16).testRun({ ...run, ingressIfindex: 0x7fffffff }), { code: 'ENODEV' })
    assert.throws(() => at(16).testRun({ packet: packet(), queue: 1 }), { code: 'XDP_BAD_OPTION' })
  })

  test('metadata goes in and comes out, separate from the packet', (t) => {
    // Adds up the two words before the packet and writes the sum into the second.
    const sum = program(t, [
      load('u32', r5, r1, 8),
      load('u32', r2, r1, 0),
      mov(r4, r5),
      add(r4, 8),
      jumpIf(r4, '>', r2, 'none'),
      load('u32', r0, r5, 0),
      load('u32', r4, r5, 4),
      add(r0, r4),
      store('u32', r5, 4, r0),
      exit(),
      label('none'),
      mov(r0, 0),
      exit(),
    ])
    const run = sum.testRun({ packet: packet(), metadata: Uint8Array.of(1, 0, 0, 0, 6, 0, 0, 0) })
    assert.equal(run.returnValue, 7)
    assert.deepEqual(run.metadata, Uint8Array.of(1, 0, 0, 0, 7, 0, 0, 0))
    assert.deepEqual(run.packet, packet())
    assert.equal(sum.testRun({ packet: packet() }).returnValue, 0)
    // The program may make metadata of its own.
    const own = program(t, [mov(r2, -12), call('xdp_adjust_meta'), mov(r0, 2), exit()])
    const made = own.testRun({ packet: packet() })
    assert.equal(made.metadata.length, 12)
    assert.deepEqual(made.packet, packet())
  })

  test('what cannot be is refused before the kernel is asked', (t) => {
    const pass = program(t, [mov(r0, 2), exit()])
    assert.throws(() => pass.testRun({ packet: packet(13) }), { code: 'XDP_BAD_OPTION', option: 'packet' })
    assert.throws(() => pass.testRun({ packet: packet(), repeat: 0 }), { option: 'repeat' })
    assert.throws(() => pass.testRun({ packet: packet(), metadata: new Uint8Array(3) }), {
      option: 'metadata',
    })
    assert.throws(() => pass.runLive({ packet: packet(), repeat: 1, batchSize: 257 }), {
      option: 'batchSize',
    })
    assert.throws(() => pass.runLive({ packet: packet(), repeat: 0 }), { option: 'repeat' })
    const socketFilter = program(t, [mov(r0, 0), exit()], { type: 'socket_filter' })
    assert.throws(() => socketFilter.testRun({ packet: packet(), queue: 1, ingressIfindex: 1 }), {
      option: 'metadata',
    })
    assert.throws(() => socketFilter.runLive({ packet: packet(), repeat: 1 }), { option: 'program' })
  })

  test('other types of program run too', (t) => {
    const length = program(t, [load('u32', r0, r1, 0), exit()], { type: 'sched_cls' })
    const run = length.testRun({ packet: packet(80) })
    assert.equal(run.returnValue, 80)
    assert.equal(run.verdict, undefined)
  })

  test(
    'packets above a page come in fragments',
    { skip: !kernelAtLeast(5, 18) && 'needs kernel 5.18' },
    (t) => {
      const total = program(t, [call('xdp_get_buff_len'), exit()], { frags: true })
      const big = packet(9000)
      const run = total.testRun({ packet: big })
      assert.equal(run.returnValue, 9000)
      assert.deepEqual(run.packet, big)
    },
  )

  test('any packet gives the verdict of the model', (t) => {
    // Drops IPv4 packets of an odd protocol number; passes what is short or another type.
    const filter = program(t, [
      bounds(24),
      load('u16', r4, r2, 12),
      be(r4, 16),
      jumpIf(r4, '!=', 0x0800, 'short'),
      load('u8', r4, r2, 23),
      jumpIf(r4, '&', 1, 'odd'),
      label('short'),
      mov(r0, 2),
      exit(),
      label('odd'),
      mov(r0, 1),
      exit(),
    ])
    const any = fc.tuple(fc.boolean(), fc.uint8Array({ minLength: 14, maxLength: 100 }))
    fc.assert(
      fc.property(any, ([isIpv4, bytes]) => {
        if (isIpv4) bytes.set([8, 0], 12)
        const isOdd = bytes.length >= 24 && bytes[12] === 8 && bytes[13] === 0 && (bytes[23] & 1) === 1
        const run = filter.testRun({ packet: bytes })
        assert.equal(run.verdict, isOdd ? 'drop' : 'pass')
        assert.deepEqual(run.packet, bytes)
      }),
      { seed: 4, numRuns: 1000 },
    )
  })
})

const ETH_P_LOCAL = 0x88b5 // IEEE Std 802: for experiments
const frame = (length: number): Uint8Array => {
  const bytes = new Uint8Array(length).fill(0x5a)
  bytes.set([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, ETH_P_LOCAL >> 8, ETH_P_LOCAL & 0xff])
  return bytes
}

/** Counts frames of our type, and their bytes; drops them and passes everything else. */
function counting(map: BpfMap): Code {
  return [
    bounds(14),
    load('u16', r4, r2, 12),
    be(r4, 16),
    jumpIf(r4, '!=', ETH_P_LOCAL, 'short'),
    mov(r6, r3),
    sub(r6, r2),
    loadMapValue(r1, map, 0),
    mov(r4, 1),
    atomic('add', 'u64', r1, 0, r4),
    atomic('add', 'u64', r1, 8, r6),
    mov(r0, 1),
    exit(),
    label('short'),
    mov(r0, 2),
    exit(),
  ]
}

async function until(isTrue: () => boolean): Promise<void> {
  for (const end = Date.now() + 60_000; !isTrue() && Date.now() < end;) await sleep(5)
}

describe('live frames', { skip: needsRoot || (!kernelAtLeast(5, 18) && 'needs kernel 5.18') }, () => {
  test('frames sent by tx reach the other end of the veth, all of them', async (t) => {
    const lab = createTestLab(t)
    const map = BpfMap.create({ type: 'array', value: 16, maxEntries: 1 })
    t.after(() => map.close())
    const count = program(t, counting(map))
    const send = program(t, [mov(r0, 3), exit()])
    for (const [end, code] of [
      ['a', send],
      ['b', count],
    ] as const) {
      const attachment = attachXdp(code, { interface: lab[end].ifindex, namespace: lab[end].namespace })
      t.after(() => attachment.close())
    }
    const counted = (): number[] => {
      const view = new DataView(map.lookup(0)!.buffer)
      return [counter.decode(view, 0), counter.decode(view, 8)]
    }
    let frames = 0
    let bytes = 0
    // As many as a veth's ring holds at most, so that none is lost however late the other end is.
    for (const [length, repeat, batchSize] of [
      [60, 1, 1],
      [60, 200, 64],
      [1514, 200, 200],
      [14, 64, 3],
    ]) {
      const run = send.runLive({
        packet: frame(length),
        repeat,
        batchSize,
        ingressIfindex: lab.a.ifindex,
        namespace: lab.a.namespace!,
      })
      assert.ok(run.durationNs > 0)
      frames += repeat
      bytes += repeat * length
      await until(() => counted()[0] >= frames)
      assert.deepEqual(counted(), [frames, bytes])
    }
  })

  test('frames that pass reach the stack', async (t) => {
    const lab = createTestLab(t)
    const pass = program(t, [mov(r0, 2), exit()])
    const attachment = attachXdp(pass, { interface: lab.a.ifindex, namespace: lab.a.namespace })
    t.after(() => attachment.close())
    const received = async (): Promise<number> => {
      const { stdout } = await lab.exec('a', 'cat', ['/proc/net/snmp'])
      return Number(/^Ip: (?:\S+ ){2}(\d+)/m.exec(stdout.replace(/^Ip: Forw.*$/m, ''))![1])
    }
    const before = await received()
    const ip = frame(34)
    ip.set(lab.a.mac.split(':').map((byte) => parseInt(byte, 16)))
    // IPv4 with a header too short to be one: it is counted as received, and goes no further.
    ip.set([8, 0, 0x41], 12)
    pass.runLive({ packet: ip, repeat: 50, ingressIfindex: lab.a.ifindex, namespace: lab.a.namespace! })
    assert.equal((await received()) - before, 50)
  })

  test('frames keep what the program writes when they come round again', (t) => {
    const map = BpfMap.create({ type: 'array', value: 8, maxEntries: 1 })
    t.after(() => map.close())
    // Counts the frames whose first byte was still zero, and sets it.
    const mark = program(t, [
      bounds(14),
      load('u8', r4, r2, 0),
      jumpIf(r4, '!=', 0, 'short'),
      store('u8', r2, 0, 1),
      loadMapValue(r1, map, 0),
      mov(r4, 1),
      atomic('add', 'u64', r1, 0, r4),
      label('short'),
      mov(r0, 1),
      exit(),
    ])
    mark.runLive({ packet: new Uint8Array(64), repeat: 10_000, batchSize: 8 })
    const fresh = new DataView(map.lookup(0)!.buffer).getUint32(0, true)
    assert.ok(fresh >= 1 && fresh < 10_000, `${fresh}`)
  })

  test('redirects go where the map says', async (t) => {
    const lab = createTestLab(t)
    const map = BpfMap.create({ type: 'array', value: 16, maxEntries: 1 })
    const devices = lab.a.namespace!.run(() => {
      const devices = BpfMap.create({ type: 'devmap', maxEntries: 1 })
      devices.update(0, lab.a.ifindex)
      return devices
    })
    t.after(() => [map, devices].forEach((one) => one.close()))
    const redirect = program(t, [loadMap(r1, devices), mov(r2, 0), mov(r3, 0), call('redirect_map'), exit()])
    const pass = program(t, [mov(r0, 2), exit()])
    const count = program(t, counting(map))
    for (const [end, code] of [
      ['a', pass],
      ['b', count],
    ] as const) {
      const attachment = attachXdp(code, { interface: lab[end].ifindex, namespace: lab[end].namespace })
      t.after(() => attachment.close())
    }
    // Seems to come from the loopback device.
    redirect.runLive({ packet: frame(100), repeat: 150, namespace: lab.a.namespace! })
    const counted = (): number => counter.decode(new DataView(map.lookup(0)!.buffer), 0)
    await until(() => counted() >= 150)
    assert.equal(counted(), 150)
  })

  test('a device that is not there is said so', (t) => {
    const pass = program(t, [mov(r0, 2), exit()])
    assert.throws(() => pass.runLive({ packet: packet(), repeat: 1, ingressIfindex: 0x7fffffff }), {
      code: 'ENODEV',
      hint: /namespace/,
    })
    assert.throws(() => pass.runLive({ packet: packet(4000), repeat: 1 }), {
      code: 'EINVAL',
      hint: /too long/,
    })
  })
})
