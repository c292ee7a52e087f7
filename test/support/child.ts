// A process of its own inside a lab that runs a few lines over this package: to be killed, or to lack privileges.
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import type { EndId, Lab } from '../../src/lab/index.js'
import { until } from './xsk.js'

const source = (path: string) => JSON.stringify(new URL(`../../src/${path}`, import.meta.url).href)

const PRELUDE = `
import { XdpSocket, XdpGroup, Umem } from ${source('xsk/index.js')}
import { PingServer } from ${source('serve/index.js')}
const say = (what) => new Promise((done) => process.stdout.write(JSON.stringify(what) + '\\n', done))
const tell = (error) => say({ error: { name: error.name, code: error.code, message: error.message, hint: error.hint } })
`

/** What a script said with `say`, one value a line. */
export interface Child {
  readonly process: ChildProcess
  readonly pid: number
  readonly said: unknown[]
  readonly stderr: () => string
  /** Resolves when it has said `count` values. */
  hasSaid(count: number): Promise<void>
  /** Resolves with its exit status, or the signal that ended it. */
  ended(): Promise<number | string>
}

/**
 * Runs `script` (an ES module with `XdpSocket`, `XdpGroup`, `Umem`, `PingServer`, `say` and `tell` at hand) at an end of
 * a lab, as `wrapper` when given: `['setpriv', '--bounding-set', '-bpf']`.
 */
export function startChild(lab: Lab, end: EndId, script: string, wrapper: readonly string[] = []): Child {
  const command = [...wrapper, process.execPath, '--input-type=module', '-e', PRELUDE + script]
  const child = lab.spawn(end, command[0], command.slice(1), { stdio: ['ignore', 'pipe', 'pipe'] })
  const said: unknown[] = []
  let rest = ''
  let stderr = ''
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    const lines = (rest + text).split('\n')
    rest = lines.pop() as string
    for (const line of lines) said.push(JSON.parse(line))
  })
  child.stderr?.setEncoding('utf8').on('data', (text: string) => (stderr += text))
  const closed = once(child, 'close') as Promise<[number | null, string | null]>
  let isClosed = false
  void closed.then(() => (isClosed = true))
  return {
    process: child,
    pid: child.pid as number,
    said,
    stderr: () => stderr,
    async hasSaid(count) {
      await until(`the child has said ${count} things`, () => said.length >= count || isClosed)
      if (said.length < count) throw new Error(`the child ended early: ${stderr}`)
    },
    async ended() {
      const [status, signal] = await closed
      return status ?? (signal as string)
    },
  }
}
