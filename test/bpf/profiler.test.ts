// Loading while a profiler sends its signals, any of which would make the verifier give up.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { it } from 'node:test'
import { needsRoot } from '../support/lab.js'

const ACL = new URL('../../src/programs/acl.js', import.meta.url).href

it('loads programs under a profiler', { skip: needsRoot }, (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'xdp-profile-'))
  t.after(() => rmSync(directory, { recursive: true }))
  const script = `
    const { defineAcl } = await import('${ACL}')
    const acl = defineAcl({})
    for (let i = 0; i < 10; i++) acl.load().close()
    console.log('loaded')`
  const profiler = ['--cpu-prof', '--cpu-prof-interval', '200', '--cpu-prof-dir', directory]
  const args = [...profiler, '--input-type=module', '-e', script]
  assert.equal(execFileSync(process.execPath, args, { encoding: 'utf8' }), 'loaded\n')
})
