// Proves a program: on every packet the verdict and the bytes that its model in TypeScript gives, and its twin in C.
import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import { BpfMap, type BpfProgram, type Verdict } from '../../src/bpf/index.js'
import type { XdpDefinition } from '../../src/bpf/builder/index.js'
import { MOST, compileTwin, speed } from '../bpf/builder/compile-twin.js'
import { needsClang } from '../bpf/elf/compile.js'

/** What a model answers; without a packet it stays what it was. */
export interface Answer {
  readonly verdict: Verdict
  readonly packet?: Uint8Array
}

/** Runs `count` packets through a program and its model. Each verdict named in `expected` must come up in one packet of fifty. */
export function prove(
  programs: readonly BpfProgram[],
  count: number,
  makePacket: () => Uint8Array,
  model: (packet: Uint8Array) => Answer,
  expected: readonly Verdict[],
): void {
  const seen = new Map<string | undefined, number>()
  for (let i = 0; i < count; i++) {
    const packet = makePacket()
    const wanted = model(packet)
    const bytes = wanted.packet ?? packet
    for (const program of programs) {
      const got = program.testRun({ packet })
      if (got.verdict !== wanted.verdict || Buffer.compare(got.packet, bytes) !== 0) {
        const hex = (part: Uint8Array): string => Buffer.from(part).toString('hex')
        assert.fail(
          `${program.name}, packet ${i}: ${got.verdict} instead of ${wanted.verdict}\n${hex(packet)} became\n` +
            `${hex(got.packet)} instead of\n${hex(bytes)}`,
        )
      }
    }
    seen.set(wanted.verdict, (seen.get(wanted.verdict) ?? 0) + 1)
  }
  for (const verdict of expected) {
    assert.ok((seen.get(verdict) ?? 0) >= count / 50, `${verdict}: ${JSON.stringify([...seen])}`)
  }
}

/**
 * The twin in C of a program, from a folder of them, loaded for the test with the program's maps; undefined without clang. Fails where the program has
 * many more instructions.
 */
export function twinOf(
  t: TestContext,
  definition: XdpDefinition,
  name: string,
  flags: readonly string[],
  maps: Readonly<Record<string, BpfMap>>,
  folder = 'test/programs/twins',
): BpfProgram | undefined {
  if (needsClang) {
    // Shown as skipped: a test that passed without it would say more than it knows.
    void t.test(`${name} ${flags.join(' ')} beside its twin in C`, { skip: needsClang }, () => undefined)
    return undefined
  }
  const object = compileTwin(`${folder}/${name}.c`, flags)
  const [ours, clang] = [definition.assembled.bytes.length, object.link('program').bytes.length].map(
    (n) => n / 8,
  )
  t.diagnostic(
    `${name} ${flags.join(' ')}: ${ours} instructions, clang -O2 ${clang}: ${(ours / clang).toFixed(2)}`,
  )
  assert.ok(ours <= clang * MOST, `${ours} instructions, clang has ${clang}`)
  const used = object.maps.filter(({ name }) => Object.hasOwn(maps, name)).map(({ name }) => name)
  const loaded = object.load({
    maps: Object.fromEntries(used.map((map) => [map, maps[map]])),
    frags: definition.loadsWithFrags,
  })
  t.after(() => loaded.close())
  return loaded.program('program')
}

/** Says how long a program and its twin take for a packet. */
export function compareSpeed(
  t: TestContext,
  what: string,
  programs: readonly BpfProgram[],
  packet: Uint8Array,
): void {
  const [built, compiled] = programs.map((program) => speed(program, packet))
  const beside = compiled === undefined ? '' : `, clang -O2 ${compiled}: ${(built / compiled).toFixed(2)}`
  t.diagnostic(`${what}: ${built} ns a packet${beside}`)
}

/** A map of devices in the place of the map of sockets: what is redirected answers `redirect`, and nothing is sent. */
export function devicesForSockets(t: TestContext): BpfMap<number, number> {
  const devices = BpfMap.create({ type: 'devmap', name: 'xsks_map', maxEntries: 1 })
  t.after(() => devices.close())
  devices.update(0, 1)
  return devices
}
