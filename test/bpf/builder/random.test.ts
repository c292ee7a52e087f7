// Random programs do on the kernel what they mean, however they are compiled.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { assemble } from '../../../src/bpf/assembler.js'
import { compile, type CompileOptions } from '../../../src/bpf/builder/compile.js'
import { withoutLocations } from '../../../src/bpf/builder/location.js'
import { traceXdp } from '../../../src/bpf/builder/program.js'
import { BpfProgram } from '../../../src/bpf/program.js'
import { interpret } from './interpreter.js'
import { random, randomBody } from './random-program.js'

const packets = (seed: number): Uint8Array[] => {
  const next = random(seed ^ 0x5eed)
  const filled = (length: number): Uint8Array =>
    Uint8Array.from({ length }, () => (next(4) === 0 ? next(3) * 0x7f : next(256)))
  return [filled(14), filled(40 + next(40)), filled(72)]
}

function check(seed: number, size: number, options: CompileOptions): void {
  const body = () => randomBody(random(seed), size)
  const trace = () => withoutLocations(() => traceXdp('random', {}, body()).functions)
  const meant = trace()
  const functions = trace()
  const program = BpfProgram.load({
    type: 'xdp',
    name: 'random',
    code: assemble(compile(functions, options)),
  })
  try {
    for (const packet of packets(seed)) {
      const expected = interpret(meant, packet)
      const run = program.testRun({ packet })
      assert.equal(BigInt(run.returnValue >>> 0), expected.result, `seed ${seed}: result`)
      assert.deepEqual(run.packet, expected.packet, `seed ${seed}: packet`)
    }
  } finally {
    program.close()
  }
}

test('1500 random programs, optimized', () => {
  for (let seed = 1; seed <= 1500; seed++) check(seed, 12 + (seed % 30), {})
})

test('300 random programs as they were traced', () => {
  for (let seed = 2001; seed <= 2300; seed++) check(seed, 8 + (seed % 16), { optimize: false })
})

test('300 random programs in seven registers: many values live on the stack', () => {
  for (let seed = 3001; seed <= 3300; seed++) check(seed, 8 + (seed % 16), { colours: 7 })
})
