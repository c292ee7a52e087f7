// The processes of a benchmark on a lab: receivers and the generator, each on its processor.
import { fork, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { getAffinity, setAffinity } from '../src/kernel/index.js'
import type { Lab } from '../src/lab/index.js'
import type { GeneratorOrder, GeneratorReport } from './generator.js'

/** Runs `start` with this thread on `cpu`: what it starts stays there. */
export function onCpu<T>(cpu: number, start: () => T): T {
  const before = getAffinity()
  setAffinity([cpu])
  try {
    return start()
  } finally {
    setAffinity(before)
  }
}

/** A process that says `ready` on a line, starts to measure anew at SIGUSR2, and at SIGTERM prints a line of JSON. */
export class Measured<Result> {
  readonly #child: ChildProcess
  readonly #lines: AsyncIterator<string>

  private constructor(child: ChildProcess) {
    this.#child = child
    this.#lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]()
  }

  static async start<Result>(lab: Lab, cpu: number, command: readonly string[]): Promise<Measured<Result>> {
    const [file, ...args] = command
    const child = onCpu(cpu, () =>
      lab.spawn('a', file, args, { sysfs: 'host', stdio: ['ignore', 'pipe', 'inherit'] }),
    )
    const measured = new Measured<Result>(child)
    if ((await measured.#line()) !== 'ready') throw new Error(`${command.join(' ')} did not start`)
    return measured
  }

  get pid(): number {
    return this.#child.pid!
  }

  mark(): void {
    this.#child.kill('SIGUSR2')
  }

  async end(): Promise<Result> {
    const exited = once(this.#child, 'exit')
    this.#child.kill('SIGTERM')
    const result = JSON.parse(await this.#line()) as Result
    await exited
    return result
  }

  async #line(): Promise<string> {
    const { value, done } = (await this.#lines.next()) as IteratorResult<string, undefined>
    if (done || value === undefined)
      throw new Error(`The process ${this.#child.spawnargs.join(' ')} ended early`)
    return value
  }
}

/** Sends packets from end `b` to end `a`. */
export class Generator<Order extends GeneratorOrder = GeneratorOrder> {
  readonly #child: ChildProcess

  private constructor(child: ChildProcess) {
    this.#child = child
  }

  /** `sender`: the program that sends, in this directory. */
  static async start<Order extends GeneratorOrder = GeneratorOrder>(
    lab: Lab,
    cpu: number,
    sender = 'generator.js',
  ): Promise<Generator<Order>> {
    const { b, a } = lab
    const script = fileURLToPath(new URL(sender, import.meta.url))
    const child = onCpu(cpu, () =>
      fork(script, [b.namespace?.name ?? '', String(b.ifindex), a.mac, b.ipv4, a.ipv4]),
    )
    await once(child, 'message')
    return new Generator<Order>(child)
  }

  async send(order: Order): Promise<GeneratorReport> {
    this.#child.send(order)
    const [report] = (await once(this.#child, 'message')) as [GeneratorReport]
    return report
  }

  async close(): Promise<void> {
    const exited = once(this.#child, 'exit')
    this.#child.disconnect()
    await exited
  }
}

/** Runs a command to its end and answers its exit status, with what it wrote to stderr. */
export async function runCommand(
  file: string,
  args: readonly string[],
): Promise<{ status: number; stderr: string }> {
  const child = spawn(file, args, { stdio: ['ignore', 'ignore', 'pipe'] })
  let stderr = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text))
  return new Promise((resolve) => {
    child.once('error', (error) => resolve({ status: 127, stderr: error.message }))
    child.once('close', (status) => resolve({ status: status ?? 1, stderr }))
  })
}
