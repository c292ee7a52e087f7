// Runs the real command `xdp` as a user would: its own process, its exit status, what it prints.
import assert from 'node:assert/strict'
import { spawn, type ChildProcess, type SpawnOptions } from 'node:child_process'
import type { TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import '../support/environment.js'

/** The command line that everything here starts with. */
export const XDP = [process.execPath, fileURLToPath(new URL('../../../bin/xdp.js', import.meta.url))] as const

/** A command that runs longer than this is killed, and its test fails. */
const TOO_LONG_MS = 60_000
/** The same for one that is to run as long as a whole file of tests. */
export const WHOLE_FILE_MS = 600_000

/**
 * Options of ping for so many requests at once. It ends with the last answer, and waits as long as the interval for one
 * that is late: with short intervals a busy machine would look like a lost packet.
 */
export const burst = (count: number): string[] => ['-c', String(count), '-l', String(count), '-i', '10']

/** What became of a command. */
export interface Result {
  status: number | null
  signal: NodeJS.Signals | null
  stdout: string
  stderr: string
}

export interface RunOptions extends Pick<SpawnOptions, 'env' | 'detached' | 'cwd'> {
  /** Words before the command: `setpriv …`. */
  prefix?: readonly string[]
  /** What it reads; nothing by default. */
  input?: string
  /** Leaves its input open, to be written by the test. */
  keepInput?: boolean
  timeoutMs?: number
}

/** Runs `xdp` to its end. */
export function xdp(args: readonly string[], options: RunOptions = {}): Promise<Result> {
  return run([...(options.prefix ?? []), ...XDP, ...args], options)
}

/** Runs `xdp`, demands that it ends well, and returns what it printed. */
export async function xdpOk(...args: string[]): Promise<string> {
  const result = await xdp(args)
  assert.equal(result.status, 0, `xdp ${args.join(' ')}: ${result.stdout}${result.stderr}`)
  return result.stdout
}

/** Runs `xdp … --json` and returns the value printed. The caller says what it is. */
export async function xdpJson<T>(...args: string[]): Promise<T> {
  return JSON.parse(await xdpOk(...args, '--json')) as T
}

/** Runs any command to its end. */
export function run([command, ...args]: readonly string[], options: RunOptions = {}): Promise<Result> {
  return new Running(command, args, options).end
}

/** Starts `xdp` and waits until a line on standard error says that it is ready. It is gone when the test ends. */
export async function startXdp(t: TestContext, args: readonly string[], ready: RegExp): Promise<Running> {
  const running = new Running(XDP[0], [XDP[1], ...args], {})
  // Not killed: a command that it runs in turn would live on.
  t.after(() => running.stop('SIGTERM'))
  await running.waitFor('stderr', ready)
  return running
}

/**
 * Starts `xdp` on a terminal of its own, whose input the test writes. `script` hands the line to the user's shell, and
 * some shells stay between: `exec` leaves nothing but `xdp` that a Ctrl-C could end.
 */
export function startOnTerminal(t: TestContext, args: readonly string[]): Running {
  const line = ['exec', ...[...XDP, ...args].map((word) => `'${word}'`)].join(' ')
  const env = { ...process.env, SHELL: '/bin/sh' }
  const running = new Running('script', ['-qfec', line, '/dev/null'], { keepInput: true, env })
  t.after(() => running.child.kill('SIGKILL'))
  return running
}

/** A command that runs. */
export class Running {
  readonly child: ChildProcess
  readonly end: Promise<Result>
  readonly #written = { stdout: '', stderr: '' }
  #onWrite: (() => void)[] = []

  constructor(
    command: string,
    args: readonly string[],
    { input, keepInput = false, timeoutMs = TOO_LONG_MS, ...options }: RunOptions,
  ) {
    const child = spawn(command, args, {
      cwd: options.cwd,
      env: options.env ?? process.env,
      detached: options.detached ?? false,
      stdio: ['pipe', 'pipe', 'pipe'],
      timeout: timeoutMs,
      killSignal: 'SIGKILL',
    })
    this.child = child
    for (const stream of ['stdout', 'stderr'] as const) {
      child[stream].setEncoding('utf8').on('data', (text: string) => {
        this.#written[stream] += text
        for (const look of this.#onWrite) look()
      })
    }
    child.stdin.on('error', () => undefined) // A command that does not read its input.
    if (!keepInput) child.stdin.end(input)
    this.end = new Promise((resolve, reject) => {
      child.once('error', reject)
      child.once('close', (status, signal) => resolve({ status, signal, ...this.#written }))
    })
  }

  /** Waits until what was written matches. Rejects when the command ends before. */
  async waitFor(stream: 'stdout' | 'stderr', pattern: RegExp): Promise<RegExpExecArray> {
    const found = new Promise<RegExpExecArray>((resolve) => {
      const look = () => {
        const match = pattern.exec(this.#written[stream])
        if (match) resolve(match)
      }
      this.#onWrite.push(look)
      look()
    })
    const ended = this.end.then(({ status, signal, stdout, stderr }) => {
      const match = pattern.exec({ stdout, stderr }[stream])
      if (match) return match
      throw new Error(`ended (${status ?? signal}) without ${pattern}: ${stdout}${stderr}`)
    })
    return Promise.race([found, ended])
  }

  /** Sends a signal and waits for the end. */
  async stop(signal: NodeJS.Signals = 'SIGINT'): Promise<Result> {
    this.child.kill(signal)
    return this.end
  }
}
