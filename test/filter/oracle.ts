// tcpdump as the judge: which packets of a capture file an expression takes, and whether it is an expression at all.
import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { run } from '../cli/xdp.js'
import { needsRoot } from '../support/lab.js'
import type { ClassicInstruction } from './classic.js'
import type { CorpusPacket } from './corpus/packets.js'

/** What libpcap makes of an expression. */
export type Judgement =
  /** One byte a packet, 1 for those it takes, and their number. */
  | { accepted: true; matches: Uint8Array; count: number }
  /** In libpcap's words. */
  | { accepted: false; message: string }

const HEADER_BYTES = 24
const RECORD_BYTES = 16
/** What pcap_compile() says of an expression is on the line that tcpdump writes last. */
const SPEAKER = 'tcpdump: '

/** The version of tcpdump and libpcap, or undefined where there is no tcpdump. */
export function tcpdumpVersion(): string | undefined {
  try {
    return execFileSync('tcpdump', ['--version'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
  } catch {
    return undefined
  }
}

/** A little-endian capture file of Ethernet packets, whose seconds are their numbers. */
export function captureFile(packets: readonly CorpusPacket[]): Uint8Array {
  const size = packets.reduce((sum, { bytes }) => sum + RECORD_BYTES + bytes.length, HEADER_BYTES)
  const file = new Uint8Array(size)
  const view = new DataView(file.buffer)
  for (const [i, value] of [0xa1b2c3d4, (4 << 16) | 2, 0, 0, 262144, 1].entries())
    view.setUint32(4 * i, value, true)
  let at = HEADER_BYTES
  for (const [i, { bytes, wireLength }] of packets.entries()) {
    for (const [j, value] of [i, 0, bytes.length, wireLength].entries())
      view.setUint32(at + 4 * j, value, true)
    file.set(bytes, at + RECORD_BYTES)
    at += RECORD_BYTES + bytes.length
  }
  return file
}

/** One byte a packet: 1 where the capture file holds the packet of that number. */
function numbersIn(file: Uint8Array, packets: number): { matches: Uint8Array; count: number } {
  const view = new DataView(file.buffer, file.byteOffset, file.length)
  const matches = new Uint8Array(packets)
  let count = 0
  for (let at = HEADER_BYTES; at < file.length; at += RECORD_BYTES + view.getUint32(at + 8, true), count++) {
    matches[view.getUint32(at, true)] = 1
  }
  return { matches, count }
}

/** Of a processor, for one run of tcpdump: libpcap's `ip6 protochain` goes round for ever on some packets. */
const MOST_SECONDS = 20
/** For all its runs on one processor, on a machine that does much else. */
const MOST_SECONDS_IN_ALL = 900

/**
 * libpcap asks DNS for names that the system's files do not have: in a namespace without a network the answer is no, and at once,
 * whatever the resolver of this machine would say and however long it would take.
 */
const WITHOUT_DNS = needsRoot === false ? ['unshare', '--net'] : []

const quoted = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`

/** Asks tcpdump about expressions over packets: about 4 ms each, on two processors at once. */
export function judge(
  packets: readonly CorpusPacket[],
  expressions: readonly string[],
  options: readonly string[] = [],
): Promise<Judgement[]> {
  return askAll(expressions, captureFile(packets), options, (written, said) => {
    return written
      ? { accepted: true, ...numbersIn(written, packets.length) }
      : { accepted: false, message: said }
  })
}

/** What libpcap compiles expressions to, or why it does not. */
export function listings(
  expressions: readonly string[],
  options: readonly string[] = [],
): Promise<(ClassicInstruction[] | string)[]> {
  // Printed instead of run, as one number of instructions and then four numbers for each.
  return askAll(expressions, captureFile([]), [...options, '-ddd'], (written, said) => {
    if (!written) return said
    const [, ...lines] = Buffer.from(written).toString().trim().split('\n')
    return lines.map((line) => {
      const [code, ifTrue, ifFalse, k] = line.split(' ').map(Number)
      return { code, ifTrue, ifFalse, k }
    })
  })
}

/** Runs tcpdump for each expression; `read` gets what it wrote to a file, if it took the expression, and its last words. */
async function askAll<T>(
  expressions: readonly string[],
  capture: Uint8Array,
  options: readonly string[],
  read: (written: Uint8Array | undefined, said: string) => T,
): Promise<T[]> {
  const folder = mkdtempSync(join(tmpdir(), 'node-xdp-filter-'))
  try {
    const input = join(folder, 'in.pcap')
    writeFileSync(input, capture)
    // A shell runs them one after the other: starting each from here would cost as much as tcpdump itself.
    const command = ['tcpdump', '-Z', 'root', '-n', ...options, '-r', input, '-w', '-'].map(quoted).join(' ')
    const scripts = [0, 1].map((worker) => {
      const lines = expressions.map((text, i) =>
        i % 2 === worker ? `${command} -- ${quoted(text)} >${i}.out 2>${i}.err || rm -f ${i}.out\n` : '',
      )
      const path = join(folder, `worker${worker}.sh`)
      writeFileSync(path, [`ulimit -t ${MOST_SECONDS}\n`, ...lines].join(''))
      return path
    })
    const ends = await Promise.all(
      scripts.map((path) =>
        run([...WITHOUT_DNS, 'sh', path], { cwd: folder, timeoutMs: MOST_SECONDS_IN_ALL * 1000 }),
      ),
    )
    for (const { signal } of ends) if (signal) throw new Error(`the shell around tcpdump ended by ${signal}`)
    return expressions.map((_, i) => read(...answerIn(folder, i)))
  } finally {
    rmSync(folder, { recursive: true })
  }
}

function answerIn(folder: string, i: number): [written: Uint8Array | undefined, said: string] {
  const said =
    readFileSync(join(folder, `${i}.err`), 'utf8')
      .trim()
      .split('\n')
      .at(-1) ?? ''
  const output = join(folder, `${i}.out`)
  if (existsSync(output)) return [readFileSync(output), said]
  if (!said.startsWith(SPEAKER)) throw new Error(`tcpdump said ${JSON.stringify(said)}`)
  return [undefined, said.slice(SPEAKER.length)]
}
