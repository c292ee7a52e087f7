// Builds the C receiver to compare with, where a compiler and libxdp are installed.
import { fileURLToPath } from 'node:url'
import { runCommand } from './processes.js'

// From dist/bench to the sources.
const DIRECTORY = fileURLToPath(new URL('../../bench/reference', import.meta.url))
const OUTPUT = fileURLToPath(new URL('.', import.meta.url))

/** The path of the program, or one line on why there is none. */
export async function buildReference(): Promise<{ program: string } | { missing: string }> {
  const { status, stderr } = await runCommand('make', ['-s', '-C', DIRECTORY, `OUT=${OUTPUT}`])
  if (status === 0) return { program: `${OUTPUT}xsk_reference` }
  const reason =
    stderr.split('\n').find((line) => /error|not found|ENOENT|No such/i.test(line)) ??
    `make ended with ${status}`
  return {
    missing: `No C receiver (${reason.trim()}); it needs \`apt install gcc make pkg-config libxdp-dev libbpf-dev\`.`,
  }
}
