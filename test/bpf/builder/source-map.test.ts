// Source maps as the builder reads them, against Node's own reader.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { SourceMap, type SourceMapPayload } from 'node:module'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { decodeSourceMap } from '../../../src/bpf/builder/source-map.js'

test('finds for every place of a file what Node finds', () => {
  const path = fileURLToPath(new URL('../../../src/bpf/builder/memory.js', import.meta.url))
  const text = readFileSync(`${path}.map`, 'utf8')
  const theirs = new SourceMap(JSON.parse(text) as SourceMapPayload)
  const ours = decodeSourceMap(text)
  assert.ok(ours)
  let found = 0
  for (const [line, content] of readFileSync(path, 'utf8').split('\n').entries()) {
    for (let column = 0; column <= content.length; column++) {
      const entry = theirs.findEntry(line, column)
      // Where a line has nothing before the column, Node gives the end of the line before.
      if (!('originalSource' in entry) || entry.generatedLine !== line) continue
      const { originalSource: source, originalLine, originalColumn } = entry
      assert.deepEqual(
        ours.find(line, column),
        { source, line: originalLine, column: originalColumn },
        `${line}:${column}`,
      )
      found++
    }
  }
  assert.ok(found > 5000, String(found))
})

test('puts the root before the names of sources', () => {
  const map = decodeSourceMap(
    JSON.stringify({ version: 3, sourceRoot: '/src', sources: ['a.ts'], names: [], mappings: 'AAAA' }),
  )
  assert.deepEqual(map?.find(0, 7), { source: '/src/a.ts', line: 0, column: 0 })
})

test('says nothing of lines and columns that the map leaves out', () => {
  // The first line begins at column 4 with line 2, column 1; the second has nothing.
  const map = decodeSourceMap(JSON.stringify({ version: 3, sources: ['a.ts'], mappings: 'IACC;' }))
  assert.equal(map?.find(0, 3), undefined)
  assert.deepEqual(map?.find(0, 4), { source: 'a.ts', line: 1, column: 1 })
  assert.equal(map?.find(1, 0), undefined)
  assert.equal(map?.find(9, 0), undefined)
})

test('is none for a map in sections', () => {
  assert.equal(decodeSourceMap(JSON.stringify({ version: 3, sections: [] })), undefined)
})
