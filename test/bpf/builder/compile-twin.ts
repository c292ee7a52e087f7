// Compiles a program's twin in C with the system's clang -O2, and times programs beside each other.
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { after } from 'node:test'
import { fileURLToPath } from 'node:url'
import { BpfObject } from '../../../src/bpf/elf/index.js'
import type { BpfProgram } from '../../../src/bpf/index.js'

/** A built program has not more than this many times the instructions of its twin. */
export const MOST = 1.3

const root = fileURLToPath(new URL('../../../../', import.meta.url))
const folder = mkdtempSync(join(tmpdir(), 'node-xdp-twins-'))
after(() => rmSync(folder, { recursive: true }))

/** The object made of a C file, named from the root of the repository. Its program is called `program`; `twin.h` is at hand. */
export function compileTwin(source: string, flags: readonly string[] = []): BpfObject {
  const file = join(folder, `${basename(source, '.c')}.o`)
  const includes = ['-I/usr/include/x86_64-linux-gnu', `-I${join(root, 'test/bpf/builder/twins')}`]
  const fixed = ['-O2', '-g', '-target', 'bpf', '-mcpu=v3', ...includes]
  execFileSync('clang', [...fixed, ...flags, '-c', join(root, source), '-o', file])
  return BpfObject.parse(readFileSync(file))
}

/** Nanoseconds a run on a packet: the least of a few. */
export function speed(program: BpfProgram, packet: Uint8Array, repeat = 20_000): number {
  return Math.min(...Array.from({ length: 5 }, () => program.testRun({ packet, repeat }).durationNs))
}
