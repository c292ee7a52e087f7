// UDP servers behind a program that is not their own.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { OptionError } from '../../src/kernel/index.js'
import { defineRedirect } from '../../src/programs/redirect.js'
import { socketMap } from '../../src/programs/sockets.js'
import { createUdpServer, type UdpServerOptions } from '../../src/serve/index.js'
import { createTestLab, needsRoot } from '../support/lab.js'

/** A program that gives everything to the sockets. */
const everything: NonNullable<UdpServerOptions['program']> = ({ queues }) => {
  const loaded = defineRedirect(queues).load()
  return { program: loaded.program, sockets: loaded.map(socketMap(queues)), close: () => loaded.close() }
}

describe('a UDP server behind a program of the caller', { skip: needsRoot }, () => {
  it('refuses what only its own program does', async (t) => {
    const { interface: name, namespace } = createTestLab(t).a
    for (const more of [{ vlans: [5] }, { rateLimit: { perSecond: 5 } }]) {
      const opening = createUdpServer(
        { interface: name, namespace, port: 7, program: everything, ...more },
        () => undefined,
      )
      await assert.rejects(opening, (error: unknown) => {
        assert.ok(error instanceof OptionError)
        assert.equal(error.option, Object.keys(more)[0])
        assert.match(error.message, /^With a program of your own, \w+ is for that to do/)
        return true
      })
    }
  })

  it('shares the interface with servers that want no other program', async (t) => {
    const { interface: name, namespace } = createTestLab(t).a
    const on = { interface: name, namespace, kernelSocket: false }
    await using first = await createUdpServer({ ...on, port: 7, program: everything }, () => undefined)
    await using second = await createUdpServer({ ...on, port: 8, program: everything }, () => undefined)
    await using third = await createUdpServer({ ...on, port: 9 }, () => undefined)
    assert.equal(second.group, first.group)
    assert.equal(third.group, first.group)
    const another = createUdpServer(
      { ...on, port: 10, program: (shape) => everything(shape) },
      () => undefined,
    )
    await assert.rejects(another, { code: 'XDP_BAD_OPTION', option: 'program' })
  })
})
