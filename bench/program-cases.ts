// The shipped programs as the benchmark takes them: their settings, and how their twins in C are compiled to do the same.
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { MAX_SNAP_LENGTH } from '../src/programs/mirror.js'
import { defineResponder } from '../src/programs/responder.js'
import { shippedPrograms, type DefinedProgram, type GivenSettings } from '../src/programs/index.js'

/** A program to measure. */
export interface ProgramCase {
  name: string
  define: () => DefinedProgram
  /** Path of the C source; undefined when nobody wrote one. */
  twin: string | undefined
  /** What the twin is compiled with. */
  flags: readonly string[]
}

// From dist/bench to the sources.
const ROOT = fileURLToPath(new URL('../../', import.meta.url))
const TWINS = ['test/programs/twins', 'test/bpf/builder/twins'].map((folder) => `${ROOT}${folder}`)
/** What clang needs to find the twins' headers. */
export const INCLUDES = TWINS.map((folder) => `-I${folder}`)

/** Programs that do nothing without settings, or whose twins have to be told. The others are as they come. */
const chosen: Readonly<Record<string, { given?: GivenSettings; twin?: string; flags?: readonly string[] }>> =
  {
    pass: { twin: 'verdict', flags: ['-DVERDICT=XDP_PASS'] },
    drop: { twin: 'verdict', flags: ['-DVERDICT=XDP_DROP'] },
    'redirect-ports': { given: { port: ['80', '10.0.0.1:443/tcp'] } },
    sample: { flags: ['-DEVERY=100'] },
    acl: { given: { allow: ['10.0.0.0/8'], deny: ['53/udp'] }, flags: ['-DOTHERWISE=XDP_PASS'] },
    reflect: { given: { swap: ['ports'] }, flags: ['-DSWAP=2'] },
    'count-protocols': { flags: ['-DFRAGS'] },
    'count-flows': { flags: ['-DENTRIES=65536', '-DFRAGS'] },
    mirror: { flags: [`-DSNAP=${MAX_SNAP_LENGTH}`, '-DRING=8388608'] },
    balance: { flags: ['-DCOUNT=2', '-DQUEUES=1'] },
  }

/** All shipped programs, and the responder, which cannot be chosen by name. */
export function programCases(): ProgramCase[] {
  const named = [...shippedPrograms].map(([name, { define }]): ProgramCase => {
    const { given = {}, twin = name, flags = [] } = chosen[name] ?? {}
    return { name, define: () => define(given, { queues: 1 }), twin: twinOf(twin), flags }
  })
  const define = () => ({ definition: defineResponder(1) })
  return [...named, { name: 'responder', define, twin: twinOf('responder'), flags: [] }]
}

function twinOf(name: string): string | undefined {
  return TWINS.map((folder) => `${folder}/${name}.c`).find((path) => existsSync(path))
}
