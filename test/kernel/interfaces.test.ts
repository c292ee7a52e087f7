// Interfaces by name: found, switched, and well explained when they are not there.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { NotFoundError } from '../../src/kernel/errors.js'
import { getInterface, listInterfaces, setInterfaceUp } from '../../src/kernel/interfaces.js'
import { createTestLab, needsRoot } from '../support/lab.js'

describe('interfaces', () => {
  it('has the loopback, by name and index', () => {
    const lo = getInterface('lo')
    assert.equal(lo.loopback, true)
    assert.equal(lo.mac.length, 6)
    assert.equal(getInterface(lo.index).name, 'lo')
    assert.ok(listInterfaces().some(({ name }) => name === 'lo'))
  })

  it('names what there is when one is missing', () => {
    assert.throws(
      () => getInterface('ol'),
      (error) => {
        assert.ok(error instanceof NotFoundError)
        assert.match(error.message, /^No interface ol; there are: .*\blo\b/)
        return true
      },
    )
    assert.throws(() => getInterface(0x7ffffff0), NotFoundError)
  })

  it('guesses what was meant', { skip: needsRoot }, (t) => {
    const lab = createTestLab(t)
    const hint = (name: string): string | undefined => {
      try {
        getInterface(name, lab.b)
        return 'found'
      } catch (error) {
        assert.ok(error instanceof NotFoundError)
        assert.match(error.message, new RegExp(`in the namespace xdp-${lab.name}-b; there are: lo, veth-b$`))
        return error.hint
      }
    }
    assert.equal(hint('veth-b'), 'found')
    for (const near of ['veht-b', 'veth-bb', 'vethb', 'veth-a'])
      assert.equal(hint(near), 'Did you mean veth-b?', near)
    assert.equal(hint('enp3s0'), 'List them with `ip link`.')
  })

  it('switches one on and off', { skip: needsRoot }, (t) => {
    const lab = createTestLab(t)
    setInterfaceUp('veth-b', false, lab.b)
    assert.equal(getInterface('veth-b', lab.b).up, false)
    assert.equal(getInterface('veth-a', lab.a).running, false)
    setInterfaceUp('veth-b', true, lab.b)
    assert.equal(getInterface('veth-b', lab.b).up, true)
    assert.throws(() => setInterfaceUp('nosuch', true, lab.b), NotFoundError)
  })
})
