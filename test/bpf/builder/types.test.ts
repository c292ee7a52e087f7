// What the kernel shows of a built program: TypeScript lines, names of functions and fields.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { after, describe, test } from 'node:test'
import { defineFunction, defineMap, defineXdp } from '../../../src/bpf/builder/index.js'
import { be16, bytes, counter, struct, u8 } from '../../../src/bpf/codec.js'

const file = fileURLToPath(new URL('../../../../test/bpf/builder/types.test.ts', import.meta.url))
const source = readFileSync(file, 'utf8').split('\n')

const needsBpftool: string | false = (() => {
  try {
    execFileSync('bpftool', ['version'], { stdio: 'ignore' })
    return false
  } catch {
    return 'needs bpftool'
  }
})()

const bpftool = (...args: string[]): string => execFileSync('bpftool', args, { encoding: 'utf8' })

const flows = defineMap({
  type: 'hash',
  name: 'flows',
  key: struct({ address: bytes(4), port: be16, protocol: u8 }),
  value: struct({ packets: counter }),
  maxEntries: 4,
})
const twice = defineFunction({ name: 'twice', parameters: { it: 'u32' }, result: 'u32' }, (x, { it }) => {
  x.require(it.ne(0))
  return it.mul(2) // the function's line
})
const definition = defineXdp('typed', (x) => {
  const first = x.packet.bytes(0, 16) // the first line
  x.update(flows, { address: first.slice(0, 4), port: 80, protocol: 6 }, { packets: 1 })
  return x.verdict(x.call(twice, { it: x.packet.length }))
})

describe('types in the kernel', { skip: needsBpftool }, () => {
  const loaded = definition.load()
  after(() => loaded.close())

  test('the dump of the program shows functions and lines', () => {
    const dump = bpftool('prog', 'dump', 'xlated', 'id', String(loaded.program.id), 'linum')
    assert.match(dump, /s32 typed\(struct xdp_md \* ?ctx\):/)
    assert.match(dump, /u32 twice\(struct xdp_md \* ?ctx, u32 it\):/)
    for (const comment of ['// the first line', "// the function's line"]) {
      const line = source.findIndex((text) => text.endsWith(comment)) + 1
      assert.ok(dump.includes(`; ${source[line - 1].trim()} [file:${file} line_num:${line} `), dump)
    }
  })

  test('the dump of a map shows fields by name', () => {
    loaded.program.testRun({ packet: Uint8Array.from({ length: 20 }, (_, at) => at) })
    const dump = JSON.parse(bpftool('-j', 'map', 'dump', 'id', String(loaded.map(flows).id))) as {
      formatted: { key: unknown; value: unknown }
    }[]
    assert.deepEqual(
      dump.map(({ formatted }) => formatted),
      [{ key: { address: [0, 1, 2, 3], port: 0x5000, protocol: 6 }, value: { packets: 1 } }],
    )
  })
})
