// Builds the C programs to compare with, where a compiler and their libraries are installed.
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { runCommand } from './processes.js'

// From dist/bench to the sources.
const DIRECTORY = fileURLToPath(new URL('../../bench/reference', import.meta.url))
const OUTPUT = fileURLToPath(new URL('.', import.meta.url))

/** What each program is and needs. */
const PROGRAMS = {
  xsk_reference: { what: 'C receiver', needs: 'libxdp-dev libbpf-dev' },
  pcap_reference: { what: 'libpcap', needs: 'libpcap-dev' },
} as const

/** The path of the program, or one line on why there is none. */
export async function buildReference(
  name: keyof typeof PROGRAMS = 'xsk_reference',
): Promise<{ program: string } | { missing: string }> {
  const program = `${OUTPUT}${name}`
  const { status, stderr } = await runCommand('make', [
    '-s',
    '-C',
    DIRECTORY,
    `OUT=${dirname(program)}`,
    program,
  ])
  if (status === 0) return { program }
  const reason =
    stderr.split('\n').find((line) => /error|not found|ENOENT|No such/i.test(line)) ??
    `make ended with ${status}`
  const { what, needs } = PROGRAMS[name]
  return { missing: `No ${what} (${reason.trim()}); it needs \`apt install gcc make pkg-config ${needs}\`.` }
}
