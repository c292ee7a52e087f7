// The table of TCP connections, held to a map that forgets what was used least lately.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { KEY, SequenceTable } from '../../src/capture/format/sequences.js'

test('finds what was added, but what was used least lately goes when there are too many', () => {
  const step = fc.record({ port: fc.nat(40), address: fc.nat(2), sequence: fc.nat(0xffffffff) })
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 20 }), fc.array(step, { maxLength: 300 }), (limit, steps) => {
      const table = new SequenceTable(limit)
      const model = new Map<string, number>()
      for (const { port, address, sequence } of steps) {
        table.key.fill(0)
        table.key[1] = port
        table.key[KEY - 1] = address
        const name = `${port} ${address}`
        const known = model.get(name)
        const entry = table.find()
        assert.equal(entry < 0 ? undefined : table.sequences[entry], known)
        const value = known ?? sequence
        if (entry < 0) table.sequences[table.add()] = value
        model.delete(name)
        model.set(name, value)
        if (model.size > limit) model.delete([...model.keys()][0])
      }
    }),
    { seed: 48, numRuns: 300 },
  )
})
