// Who is compared at capturing: tcpdump, dumpcap and `xdp capture` in each of its modes, as processes to be watched.
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { CaptureReader } from '../src/capture/reader.js'
import { isInstalled } from '../src/kernel/commands.js'
import type { Lab } from '../src/lab/index.js'
import { cpuSeconds } from './idle.js'
import { onCpu } from './processes.js'

export interface Subject {
  name: string
  /** The command that writes what it captures on an interface into a file. */
  command: (name: string, file: string) => readonly string[]
  /** Written to standard error when packets are captured. */
  ready: RegExp
  /** What is written after it, for the name of a file. */
  extension: string
  /** Bytes of packets that it was told to have room for; none for those whose memory is not looked at. */
  buffers?: number
}

const MIB = 2 ** 20
const XDP = fileURLToPath(new URL('../../bin/xdp.js', import.meta.url))
/** What a file's writer may have waiting. */
const WRITER = 4 * MIB
const ours = (mode: string, buffers: number, extension: 'pcap' | 'pcapng'): Subject => ({
  name: `node-xdp, ${mode}${extension === 'pcap' ? '' : `, ${extension}`}`,
  command: (name, file) => [process.execPath, XDP, 'capture', name, '-m', mode, '-w', file],
  extension,
  ready: /capturing on/,
  buffers: buffers + WRITER,
})

/** The kernel's rings are 4 MiB where that can be asked for: what `packet` has. */
const OTHERS: readonly Subject[] = [
  {
    name: 'tcpdump',
    command: (name, file) => ['tcpdump', '-i', name, '-B', '4096', '-Z', 'root', '-w', file],
    extension: 'pcap',
    ready: /listening on/,
  },
  {
    name: 'dumpcap',
    command: (name, file) => ['dumpcap', '-q', '-i', name, '-B', '4', '-w', file],
    extension: 'pcapng',
    ready: /File: /,
  },
]
const OURS: readonly Subject[] = [
  ours('mirror', 8 * MIB, 'pcap'),
  ours('packet', 8 * MIB, 'pcap'),
  ours('divert', 16 * MIB, 'pcap'),
  ours('divert', 16 * MIB, 'pcapng'),
]

/** The subjects, and a line for each one whose command is not here. */
export function presentSubjects(): { subjects: Subject[]; missing: string[] } {
  const missing = OTHERS.filter(({ name }) => !isInstalled(name))
  return {
    subjects: [...OTHERS.filter(({ name }) => isInstalled(name)), ...OURS],
    missing: missing.map(({ name }) => `No ${name}; it needs \`apt install ${name}\`.`),
  }
}

/** A capture that runs. */
export class CaptureProcess {
  readonly #child: ChildProcess
  readonly #exited: Promise<unknown>

  private constructor(child: ChildProcess) {
    this.#child = child
    this.#exited = once(child, 'exit')
  }

  /** At end `a` of the lab, on processor `cpu`. */
  static async start(lab: Lab, cpu: number, subject: Subject, file: string): Promise<CaptureProcess> {
    const [command, ...args] = subject.command(lab.a.interface, file)
    const child = onCpu(cpu, () =>
      lab.spawn('a', command, args, { sysfs: 'host', stdio: ['ignore', 'ignore', 'pipe'] }),
    )
    const capture = new CaptureProcess(child)
    let said = ''
    child.stderr!.setEncoding('utf8').on('data', (text: string) => (said += text))
    for (let i = 0; !subject.ready.test(said); i++) {
      if (child.exitCode !== null || i === 400) throw new Error(`${subject.name} did not start: ${said}`)
      await delay(25)
    }
    return capture
  }

  get pid(): number {
    return this.#child.pid!
  }

  /** Seconds that all its threads have run so far, in user mode and in the kernel. */
  get cpu(): number {
    return cpuSeconds(this.#child.pid!)
  }

  /** The most bytes that were resident at a time. */
  get maxResident(): number {
    const match = /^VmHWM:\s+(\d+) kB/m.exec(readFileSync(`/proc/${this.#child.pid}/status`, 'utf8'))
    return Number(match?.[1]) * 1024
  }

  /** Ends it; its file is whole then. */
  async end(): Promise<void> {
    this.#child.kill('SIGINT')
    await this.#exited
  }
}

/** How many packets of each length a file has. */
export async function countByLength(file: string): Promise<Map<number, number>> {
  const counts = new Map<number, number>()
  const reader = await CaptureReader.open(file)
  try {
    await reader.read(({ wireLength }) => {
      counts.set(wireLength, (counts.get(wireLength) ?? 0) + 1)
      return true
    })
  } finally {
    await reader.close()
  }
  return counts
}
