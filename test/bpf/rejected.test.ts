// What a user sees of programs that the verifier rejects: the whole message, as docs/verifier.md has it.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { release } from 'node:os'
import { before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { VerifierError } from '../../src/bpf/index.js'
import { kernelAtLeast } from '../../src/kernel/version.js'
import { needsRoot } from '../support/lab.js'
import type { Report } from './rejected-child.js'
import { loadRejected, rejected } from './rejected-programs.js'

// Written anew, after a change that was looked at, by: UPDATE_DOCS=1 node --enable-source-maps --test dist/test/bpf/rejected.test.js
const DOCUMENT = fileURLToPath(new URL('../../../docs/verifier.md', import.meta.url))
const PROGRAMS = fileURLToPath(new URL('../../../test/bpf/rejected-programs.ts', import.meta.url))
const written = process.env['UPDATE_DOCS'] === '1'

const source = readFileSync(PROGRAMS, 'utf8').split('\n')

/** The line that ends in the mark, in the program of that name; undefined for programs without. */
function faultyLine(name: string): number | undefined {
  const first = source.findIndex((text) => text.startsWith(`  '${name}': {`))
  assert.ok(first >= 0, `no program "${name}"`)
  const end = source.indexOf('  },', first)
  const at = source.slice(first, end).findIndex((text) => text.endsWith('// !'))
  return at < 0 ? undefined : first + at + 1
}

type Seen = NonNullable<Report['error']>

/** What the command line prints, without what differs from place to place: the path, the length of the log, ids of functions. */
function asPrinted({ message, hint }: Seen): string {
  return `xdp: ${message}. ${hint}`
    .replace(/, \S*\/rejected-programs\.ts:\d+ /, ', program.ts:… ')
    .replace(', // !`', '`')
    .replace(' // !`', '`')
    .replace(/\(\d+ more lines? in the log\)/, '(… more lines in the log)')
    .replace(/(call [a-z]\w+)#\d{5,}/, '$1#…')
}

/** The messages of the document by the name of the program, and the kernel they are from. */
function readDocument(): { kernel: string; messages: Map<string, string> } {
  const text = readFileSync(DOCUMENT, 'utf8')
  const [, kernel] = /^The messages below are those of Linux (\d+\.\d+)\.$/m.exec(text) ?? []
  const entries = text.matchAll(/^### (.*)\n\n```text\n(.*)\n```$/gm)
  return { kernel, messages: new Map([...entries].map(([, name, message]) => [name, message])) }
}

function seenOf(name: string): Seen | undefined {
  try {
    loadRejected(rejected[name])
  } catch (error) {
    assert.ok(error instanceof VerifierError, String(error))
    return error
  }
  return undefined
}

/** The programs that take less privileges to be rejected, in a process that has less. */
function seenUnprivileged(): Map<string, Seen | undefined> {
  const child = fileURLToPath(new URL('./rejected-child.js', import.meta.url))
  const less = ['--bounding-set', '-perfmon,-sys_admin', '--inh-caps', '-perfmon,-sys_admin']
  const command = [...less, process.execPath, '--enable-source-maps', child]
  const reports = JSON.parse(execFileSync('setpriv', command, { encoding: 'utf8' })) as Report[]
  return new Map(reports.map(({ name, error }) => [name, error]))
}

describe('a rejected program', { skip: needsRoot }, () => {
  const { kernel, messages } = readDocument()
  const now: [string, string][] = []
  let unprivileged: ReturnType<typeof seenUnprivileged>
  before(() => (unprivileged = seenUnprivileged()))

  test('is one of at least forty', () => {
    assert.ok(Object.keys(rejected).length >= 40)
    if (!written) assert.deepEqual([...messages.keys()], Object.keys(rejected))
  })

  for (const [name, program] of Object.entries(rejected)) {
    const { since } = program
    const skip = since && !kernelAtLeast(...since) ? `needs kernel ${since.join('.')}` : false
    test(`that ${name}`, { skip }, () => {
      const seen = program.unprivileged ? unprivileged.get(name) : seenOf(name)
      assert.ok(seen, 'the verifier accepted it')
      assert.equal(seen.code, 'XDP_VERIFIER')
      assert.ok(seen.log.includes(seen.line.split('; ')[0]), 'the log is kept, and the objection is in it')
      // The message says what it leaves out.
      const lines = seen.log.trimEnd().split('\n').length
      assert.match(
        seen.message,
        /^The verifier rejected the program "rejected"[^]* \((\d+) more lines? in the log\)$/,
      )
      const omitted = Number(/\((\d+) more lines? in the log\)$/.exec(seen.message)?.[1])
      assert.ok(omitted >= lines - 3 && omitted <= lines, `${omitted} of ${lines} lines`)
      const line = faultyLine(name)
      if (line !== undefined) {
        assert.deepEqual([seen.source?.file, seen.source?.line], [PROGRAMS, line])
        assert.ok(seen.message.includes(`${PROGRAMS}:${line} \`${source[line - 1].trim()}\``), seen.message)
      }
      const printed = asPrinted(seen)
      assert.doesNotMatch(printed, /The whole log is in/, 'there is advice')
      assert.doesNotMatch(printed, /\n/)
      now.push([name, printed])
      if (written) return
      if (release().startsWith(`${kernel}.`)) assert.equal(printed, messages.get(name))
      // Other kernels say it in other words, and number instructions otherwise: the advice is what must stay.
      else assert.ok(messages.get(name)?.endsWith(seen.hint ?? '?'), printed)
    })
  }

  test('is in the document', { skip: written ? false : 'only when asked to, by UPDATE_DOCS=1' }, () => {
    const text = readFileSync(DOCUMENT, 'utf8')
    const head = text.slice(0, text.indexOf('The messages below'))
    const own = release().split('.').slice(0, 2).join('.')
    const entries = now.map(([name, message]) => `### ${name}\n\n\`\`\`text\n${message}\n\`\`\`\n`)
    writeFileSync(DOCUMENT, `${head}The messages below are those of Linux ${own}.\n\n${entries.join('\n')}`)
  })
})
