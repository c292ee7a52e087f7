// The program of a diverting capture by itself: its bell, which says that frames run out.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { DivertProgram } from '../../src/capture/divert-program.js'
import { compileFilter } from '../../src/filter/index.js'
import { needsRoot } from '../support/lab.js'
import { UDP } from '../programs/packets.js'

test('rings its bell when a queue had as many packets as it was told, once', { skip: needsRoot }, (t) => {
  const program = new DivertProgram({ queues: 2, filter: compileFilter('udp'), longest: 9000 })
  t.after(() => program.close())
  const run = (repeat: number, packet = UDP) => {
    for (let i = 0; i < repeat; i++) program.program.testRun({ packet })
  }
  // Nobody waits for a queue that was never spoken of.
  run(10)
  assert.equal(program.bell.hear(), false)
  program.ringAfter(1, 1)
  program.ringAfter(0, 3)
  run(2)
  assert.equal(program.bell.hear(), false)
  run(10, new Uint8Array(UDP.length))
  assert.equal(program.bell.hear(), false)
  run(1)
  assert.equal(program.bell.hear(), true)
  run(10)
  assert.equal(program.bell.hear(), false)
  program.ringAfter(0, 1)
  run(1)
  assert.equal(program.bell.hear(), true)
})
