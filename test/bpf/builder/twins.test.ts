// Built programs beside the same programs in C, compiled by clang -O2: same verdicts, same bytes, about as many instructions.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { BpfMap } from '../../../src/bpf/index.js'
import { needsClang } from '../elf/compile.js'
import { ADDRESSES, randomPacket } from '../../programs/packets.js'
import { MOST, compileTwin, speed } from './compile-twin.js'
import { random } from './random-program.js'
import { twins } from './twin-programs.js'

const mapKey = (address: Uint8Array): Uint8Array =>
  address.length === 16 ? address : Uint8Array.of(...Array<number>(10).fill(0), 0xff, 0xff, ...address)

for (const [name, define] of Object.entries(twins)) {
  test(`${name} and its twin in C`, { skip: needsClang }, (t) => {
    const object = compileTwin(`test/bpf/builder/twins/${name}.c`)
    const definition = define()
    const clang = object.link('program').bytes.length / 8
    const ours = definition.assembled.bytes.length / 8
    t.diagnostic(`${name}: ${ours} instructions, clang -O2 ${clang}: ${(ours / clang).toFixed(2)}`)
    assert.ok(ours <= clang * MOST, `${ours} instructions, clang has ${clang}`)

    const devices = BpfMap.create({ type: 'devmap', name: 'xsks_map', maxEntries: 1 })
    t.after(() => devices.close())
    devices.update(0, 1)
    const loadedC = object.load({
      maps: object.maps.some((map) => map.name === 'xsks_map') ? { xsks_map: devices } : {},
      frags: definition.loadsWithFrags,
    })
    t.after(() => loadedC.close())
    const shared = Object.fromEntries(
      [...definition.maps.keys()].map((map) => [map, map === 'xsks_map' ? devices : loadedC.map(map)]),
    )
    // Counters would make the second run of a packet differ from the first: each has its own.
    if (name !== 'responder') delete shared['xdp_stats_map']
    const loaded = definition.load({ maps: shared })
    t.after(() => loaded.close())
    if (name === 'responder') {
      for (const address of ADDRESSES) shared['addresses'].update(codecKey(address), 1)
    }
    const twin = loadedC.program('program')
    const next = random(11)
    for (let i = 0; i < 3000; i++) {
      const packet = randomPacket(next)
      const [a, b] = [loaded.program.testRun({ packet }), twin.testRun({ packet })]
      assert.equal(a.verdict, b.verdict, Buffer.from(packet).toString('hex'))
      assert.deepEqual(a.packet, b.packet, Buffer.from(packet).toString('hex'))
    }
    // One that goes all the way.
    const packet = Uint8Array.of(
      ...[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0],
      ...[0x45, 0, 0, 50, 0, 0, 0, 0, 64, name === 'responder' ? 1 : 17, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1],
      ...(name === 'responder' ? [8, 0] : [0, 9]),
      ...[0, 80, 0, 30, ...Array<number>(26).fill(0)],
    )
    const [built, compiled] = [speed(loaded.program, packet), speed(twin, packet)]
    t.diagnostic(`${name}: ${built} ns a packet, clang -O2 ${compiled}: ${(built / compiled).toFixed(2)}`)
  })
}

/** The key as the twin's C type has it: four words. */
function codecKey(address: Uint8Array): { word: number[] } {
  const view = new DataView(mapKey(address).buffer)
  return { word: [0, 4, 8, 12].map((at) => view.getUint32(at, true)) }
}
