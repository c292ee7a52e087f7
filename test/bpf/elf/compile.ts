// Compiles the C sources beside this file with the system's clang, each way once a run.
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after } from 'node:test'
import { fileURLToPath } from 'node:url'

/** How to compile. */
export interface CompileOptions {
  /** Default `-O2`. */
  optimise?: '-O1' | '-O2' | '-O3'
  /** With types and lines (-g). Default true. */
  debug?: boolean
  /** Big endian instead. */
  bigEndian?: boolean
  /** Other arguments. */
  flags?: readonly string[]
}

const sources = fileURLToPath(new URL('../../../../test/bpf/elf/objects/', import.meta.url))
const folder = mkdtempSync(join(tmpdir(), 'node-xdp-elf-'))
after(() => rmSync(folder, { recursive: true }))
const done = new Map<string, string>()

/** Why tests of objects cannot run here; false when they can. */
export const needsClang: string | false = (() => {
  try {
    execFileSync('clang', ['--version'], { stdio: 'ignore' })
    return false
  } catch {
    return 'needs clang'
  }
})()

/** The path of `objects/<name>.c`, as it is in the object's lines. */
export function sourceOf(name: string): string {
  return join(sources, `${name}.c`)
}

/** The path of the compiled object. */
export function objectFile(name: string, options: CompileOptions = {}): string {
  const { optimise = '-O2', debug = true, bigEndian = false, flags = [] } = options
  const args = [
    ...(debug ? ['-g'] : []),
    optimise,
    '-target',
    bigEndian ? 'bpfeb' : 'bpfel',
    '-I/usr/include/x86_64-linux-gnu',
    ...flags,
  ]
  const key = [name, ...args].join(' ')
  let path = done.get(key)
  if (path === undefined) {
    path = join(folder, `${name}${done.size}.o`)
    execFileSync('clang', [...args, '-c', sourceOf(name), '-o', path], { stdio: ['ignore', 'pipe', 'pipe'] })
    done.set(key, path)
  }
  return path
}

/** The bytes of the compiled object. */
export function compiled(name: string, options?: CompileOptions): Uint8Array {
  return readFileSync(objectFile(name, options))
}

/** Every way that the objects are tested in: each level of optimisation, with and without -g. */
export const everyWay: readonly Required<Pick<CompileOptions, 'optimise' | 'debug'>>[] = (
  ['-O1', '-O2', '-O3'] as const
).flatMap((optimise) => [true, false].map((debug) => ({ optimise, debug })))
