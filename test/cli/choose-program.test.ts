// Shipped programs with settings, as commands choose them: what is handed to them, and what is left when they refuse.
import assert from 'node:assert/strict'
import { describe, it, type TestContext } from 'node:test'
import { u32 } from '../../src/bpf/index.js'
import { defineMap, defineXdp } from '../../src/bpf/builder/index.js'
import { chooseProgram } from '../../src/cli/choose-program.js'
import { OptionError } from '../../src/kernel/index.js'
import { shippedPrograms, type GivenSettings, type ShippedProgram } from '../../src/programs/index.js'
import { needsRoot, openDescriptors, uniqueName } from '../support/lab.js'

const ports = defineMap({ type: 'hash', name: 'ports', key: u32, value: u32, maxEntries: 4 })

/** Puts a program among the shipped ones while the test runs; answers its name, and the settings it was given. */
function ship(
  t: TestContext,
  fill?: (given: GivenSettings) => void,
): { name: string; given: GivenSettings[] } {
  const name = uniqueName('p')
  const given: GivenSettings[] = []
  const program: ShippedProgram = {
    summary: 'drops ports',
    settings: { port: { summary: 'a port to drop', example: '53' } },
    define: (settings) => {
      given.push(settings)
      const numbers = (settings['port'] ?? []).map(Number)
      if (numbers.some(Number.isNaN)) throw new OptionError('port', 'That is no port', 'Use a number.')
      const definition = defineXdp('ports', (x) => void x.lookup(ports, 1).orReturn('drop'))
      return {
        definition,
        fill: (loaded) => {
          for (const port of numbers) loaded.map(ports).update(port, 1)
          fill?.(settings)
        },
      }
    },
  }
  const registry = shippedPrograms as Map<string, ShippedProgram>
  registry.set(name, program)
  t.after(() => registry.delete(name))
  return { name, given }
}

const set = (...pairs: string[]) =>
  pairs.map((pair) => ({ name: pair.split('=')[0], value: pair.split('=')[1] }))

describe('a shipped program with settings', () => {
  it('is given every value of a setting, in order', { skip: needsRoot }, (t) => {
    const { name, given } = ship(t)
    const chosen = chooseProgram(name, { set: set('port=53', 'port=80') })
    const loaded = chosen.load({ queues: 2 })
    t.after(() => loaded.close())
    assert.deepEqual(given.at(-1), { port: ['53', '80'] })
    assert.deepEqual(
      [...loaded.maps.get('ports')!.entries()].map(([port]) => port as number).sort(),
      [53, 80],
    )
  })

  it('is refused for a setting or value that cannot be, before anything is loaded', (t) => {
    const { name, given } = ship(t)
    const wrong = { code: 'XDP_BAD_OPTION', message: /has no setting "nope"/, hint: 'It has: port.' }
    assert.throws(() => chooseProgram(name, { set: set('nope=1') }), wrong)
    assert.throws(() => chooseProgram(name, { set: set('toString=1') }), { message: /no setting "toString"/ })
    assert.equal(given.length, 0)
    assert.throws(() => chooseProgram(name, { set: set('port=http') }), { option: 'port' })
  })

  it('leaves nothing open when its maps cannot be filled', { skip: needsRoot }, (t) => {
    const fail = () => {
      throw new OptionError('port', 'Too many ports')
    }
    const chosen = chooseProgram(ship(t, fail).name)
    // Once before: what is opened once and kept.
    assert.throws(() => chosen.load(), { message: 'Too many ports' })
    const before = openDescriptors()
    assert.throws(() => chosen.load(), { message: 'Too many ports' })
    assert.deepEqual(openDescriptors(), before)
  })
})
