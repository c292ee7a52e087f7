import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { hostNeeds } from '../../src/capture/divert-safety.js'
import type { Lab } from '../../src/lab/index.js'
import { XDP } from '../cli/xdp.js'
import { createTestLab, needsRoot } from '../support/lab.js'

// Whether end a of a lab is needed, after these lines of `ip`.
async function needed(lab: Lab, ...lines: string[]): Promise<string | undefined> {
  for (const line of lines) {
    const { status, stderr } = await lab.exec('a', 'ip', line.split(' '))
    assert.equal(status, 0, `ip ${line}: ${stderr}`)
  }
  return hostNeeds(lab.a.interface, lab.a.namespace)
}

describe('what a host needs an interface for', { skip: needsRoot }, () => {
  it('nothing in a lab', async (t) => {
    assert.equal(await needed(createTestLab(t)), undefined)
  })

  it('the default route, in whatever table and however it is written', async (t) => {
    const needs = 'carries the default route of this host'
    const lab = createTestLab(t)
    const route = `via ${lab.b.ipv4} dev ${lab.a.interface}`
    assert.equal(await needed(lab, `route add default ${route}`), needs)
    assert.equal(await needed(lab, 'route del default'), undefined)
    assert.equal(await needed(lab, `route add 0.0.0.0/1 ${route}`, `route add 128.0.0.0/1 ${route}`), needs)
    assert.equal(await needed(lab, 'route del 0.0.0.0/1', 'route del 128.0.0.0/1'), undefined)
    assert.equal(await needed(lab, `route add default ${route} table 100`), undefined, 'no rule leads there')
    assert.equal(await needed(lab, 'rule add lookup 100'), needs)
  })

  it('a bridge, and what stands on that, that it carries', async (t) => {
    const lab = createTestLab(t)
    const name = lab.a.interface
    const bridge = ['link add br0 type bridge', `link set ${name} master br0`, 'link set br0 up']
    const above = ['link add above link br0 type macvlan', 'link set above up']
    assert.equal(await needed(lab, ...bridge, ...above), undefined)
    const needs = 'which carries the default route of this host'
    assert.equal(await needed(lab, 'route add default dev above'), `carries above, ${needs}`)
    assert.equal(await needed(lab, 'route replace default dev br0'), `carries br0, ${needs}`)
    assert.equal(await needed(lab, `link set ${name} nomaster`), undefined)
  })

  it('a MACVLAN above it, but no veth beside it', async (t) => {
    const lab = createTestLab(t)
    const name = lab.a.interface
    await needed(lab, 'link add left type veth peer name right', 'link set left up', 'link set right up')
    const route = 'route add default dev left'
    assert.equal(await needed(lab, route), undefined)
    assert.equal(hostNeeds('right', lab.a.namespace), undefined)
    assert.match(hostNeeds('left', lab.a.namespace)!, /^carries the default route/)
    await needed(lab, 'route del default', `link add above link ${name} type macvlan`, 'link set above up')
    assert.equal(
      await needed(lab, 'route add default dev above'),
      'carries above, which carries the default route of this host',
    )
  })

  it('the SSH connection that it was started over, on any port and through sudo', async (t) => {
    const lab = createTestLab(t)
    // As sudo has it: the variable is in a parent's environment, not in the command's own.
    const line = 'env -u SSH_CONNECTION "$@"; exit $?'
    const capture = [...XDP, 'capture', lab.a.interface, '-m', 'divert']
    const { status, stderr } = await lab.exec('a', 'sh', ['-c', line, 'sh', ...capture], {
      env: { ...process.env, SSH_CONNECTION: `${lab.b.ipv4} 50000 ${lab.a.ipv4} 2222` },
    })
    assert.equal(status, 1, stderr)
    assert.match(stderr, new RegExp(`carries an SSH connection of this host, with ${lab.b.ipv4}`))
  })
})
